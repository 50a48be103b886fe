"""A partner may have no staff."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0021_without_staff")
