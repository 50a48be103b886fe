"""A field that a format does not have is noted before it is told."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0017_fields_told")
