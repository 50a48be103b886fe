"""Who is who: links with an owner, rules for new records, and a person's word on those that wait."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0014_identity")
