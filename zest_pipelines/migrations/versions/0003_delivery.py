"""What is settled of each record beside what is open; holds, repairs, a person's decisions, the partner's values."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0003_delivery")
