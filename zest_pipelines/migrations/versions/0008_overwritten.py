"""What was overwritten is kept, and a look ends the suspicions that came before it alone."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0008_overwritten")
