"""How far a request has come, and a record's story with decisions and repairs."""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Everything, in one transaction."""
    script = files("zest_pipelines.migrations").joinpath("sql/0004_request_status.sql").read_text()
    # By the driver's own cursor: SQLAlchemy would take the percent signs in it for parameters.
    op.get_bind().connection.cursor().execute(script)
