"""Settled months of history are put away."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0006_archive")
