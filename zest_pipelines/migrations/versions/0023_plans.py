"""What somebody else has planned, to be compared with ours."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0023_plans")
