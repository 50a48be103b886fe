"""What is settled of each record beside what is open; holds, repairs, a person's decisions, the partner's values."""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Everything, in one transaction."""
    script = files("zest_pipelines.migrations").joinpath("sql/0003_delivery.sql").read_text()
    # By the driver's own cursor: SQLAlchemy would take the percent signs in it for parameters.
    op.get_bind().connection.cursor().execute(script)
