"""What was applied lately is found by its time."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0019_changes_counted")
