"""The age of an edit, for the scheduler's look at what is held back."""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Everything, in one transaction."""
    script = files("zest_pipelines.migrations").joinpath("sql/0005_stall.sql").read_text()
    # By the driver's own cursor: SQLAlchemy would take the percent signs in it for parameters.
    op.get_bind().connection.cursor().execute(script)
