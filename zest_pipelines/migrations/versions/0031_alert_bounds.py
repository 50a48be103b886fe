"""When what is wrong becomes an alert, and since when a connection's edits could go."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0031_alert_bounds")
