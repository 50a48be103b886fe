"""What fields are called, and how the reading of plans stands."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0032_field_names")
