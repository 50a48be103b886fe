"""What has been told of the fields that a partner's format does not have."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0015_history")
