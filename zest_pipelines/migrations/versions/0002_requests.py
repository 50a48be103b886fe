"""What a person asks for: another try of what was stopped, and a look at a period's records by their day."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0002_requests")
