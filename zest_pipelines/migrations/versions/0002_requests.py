"""What a person asks for: another try of what was stopped, and a look at a period's records by their day."""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Everything, in one transaction."""
    script = files("zest_pipelines.migrations").joinpath("sql/0002_requests.sql").read_text()
    # By the driver's own cursor: SQLAlchemy would take the percent signs in it for parameters.
    op.get_bind().connection.cursor().execute(script)
