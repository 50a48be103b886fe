"""A new owner's newest word counts, whatever it is."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0020_owners_word")
