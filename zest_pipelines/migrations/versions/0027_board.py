"""Who may look at the board."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0027_board")
