"""A person's approval of a mass change, and what became of it."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0013_guard")
