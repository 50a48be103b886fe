"""Closed hours, for readings and alerts."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0034_closed_hours")
