"""What was asked and answered, masked, beside a result that wants explaining."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0025_calls")
