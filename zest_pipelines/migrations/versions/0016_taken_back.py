"""A reading that broke off can be taken up; a wrong link can be undone."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0016_taken_back")
