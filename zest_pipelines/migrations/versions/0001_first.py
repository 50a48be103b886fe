"""The first schema: the product's side, the integration's side, who may do what."""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Everything, in one transaction."""
    for name in ("product", "sync", "functions", "views", "access"):
        script = files("zest_pipelines.migrations").joinpath(f"sql/0001_{name}.sql").read_text()
        # By the driver's own cursor: SQLAlchemy would take the percent signs in it for parameters.
        op.get_bind().connection.cursor().execute(script)
