"""The guard sees who is suspect."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0018_suspects_counted")
