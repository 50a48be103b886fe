"""Badges of masters, of connections, and their numbers."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0026_badges")
