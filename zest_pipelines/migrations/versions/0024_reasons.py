"""How loudly a reason is told, and whether trying again is safe."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0024_reasons")
