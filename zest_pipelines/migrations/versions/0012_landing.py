"""A reading of any length: it can be taken up where it broke off, and what did not come in it is a suspicion."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0012_landing")
