"""The age of an edit, for the scheduler's look at what is held back."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0005_stall")
