"""Tokens that partners give for a while, one a connection."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0022_access_token")
