"""Limits of every kind, whose turn it is at them, and a push that is to be asked for again soon."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0011_limits")
