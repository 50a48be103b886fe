"""What was asked and answered, masked, beside a result that wants explaining."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0026"
down_revision = "0022"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0026_calls")
