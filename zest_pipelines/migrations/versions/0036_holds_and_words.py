"""What an operator says of an unknown error speaks against holds for it."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0036_holds_and_words")
