"""Settled months of history are put away."""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Everything, in one transaction."""
    script = files("zest_pipelines.migrations").joinpath("sql/0006_archive.sql").read_text()
    # By the driver's own cursor: SQLAlchemy would take the percent signs in it for parameters.
    op.get_bind().connection.cursor().execute(script)
