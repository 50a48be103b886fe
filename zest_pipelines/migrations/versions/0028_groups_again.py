"""Stopped records are asked for again in groups: by reason, by days."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0028_groups_again")
