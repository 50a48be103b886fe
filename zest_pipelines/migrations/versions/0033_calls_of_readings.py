"""The calls at which a reading broke off."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0033_calls_of_readings")
