"""Limits of every kind: what a connection may have of them, and how far each is spent."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0011_limits")
