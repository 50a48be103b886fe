"""The first schema: the product's side, the integration's side, who may do what."""

from __future__ import annotations

from zest_pipelines.migrations import scripts

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Everything, in one transaction."""
    for name in ("product", "sync", "functions", "views", "access"):
        scripts.run(f"0001_{name}")
