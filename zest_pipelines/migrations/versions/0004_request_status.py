"""How far a request has come, and a record's story with decisions and repairs."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Everything, in one transaction."""
    scripts.run("0004_request_status")
