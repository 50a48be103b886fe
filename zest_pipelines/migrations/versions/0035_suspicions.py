"""What a settled record is in question for, as fully as an open one says it."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0035_suspicions")
