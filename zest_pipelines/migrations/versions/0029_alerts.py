"""Alerts, their notices, and where these go."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0029_alerts")
