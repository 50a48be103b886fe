"""The revisions' scripts: SQL files beside them, run as they stand."""

from __future__ import annotations

from importlib.resources import files

from alembic import op


def run(name: str) -> None:
    """Run `sql/<name>.sql` in the revision's transaction."""
    script = files("zest_pipelines.migrations").joinpath(f"sql/{name}.sql").read_text()
    # By the driver's own cursor: SQLAlchemy would take the percent signs in it for parameters.
    op.get_bind().connection.cursor().execute(script)
