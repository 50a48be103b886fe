"""Which reason an unknown error is, by an operator's word, and which were seen."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0030_classification")
