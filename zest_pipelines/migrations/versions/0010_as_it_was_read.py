"""A doubt stands by its own history, a lease knows the mapping, and the scheduler sees no words of a hold."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0010_as_it_was_read")
