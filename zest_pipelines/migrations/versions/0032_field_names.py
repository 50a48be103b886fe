"""What care staff call the fields that stand in reasons."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0032_field_names")
