"""Unread edits are found without looking into each month for each connection."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0007_unread")
