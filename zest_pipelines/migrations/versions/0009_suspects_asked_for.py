"""A retry request counts the suspicions that it has looked into."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0009_suspects_asked_for")
