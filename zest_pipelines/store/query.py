"""Named queries. Each is registered with the login that runs it, so that a test can prepare all of them on a migrated
database, under the rights that they will have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from psycopg import Cursor
from psycopg.rows import dict_row
from sqlalchemy import Connection, CursorResult, RowMapping, TextClause, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from resources.logins import Login

QUERIES: dict[str, Query] = {}


@dataclass(frozen=True)
class Query:
    """SQL with `:named` parameters and a name that says what it does."""

    name: str
    login: Login
    sql: str
    temporary: str = ""
    """The statement that makes the temporary table which it reads; none: it reads what always is there."""

    @cached_property
    def statement(self) -> TextClause:
        """As SQLAlchemy takes it, read once."""
        return text(self.sql)

    @cached_property
    def driver_sql(self) -> str:
        """As the driver takes it."""
        return str(self.statement.compile(dialect=PGDialect_psycopg()))  # type: ignore[no-untyped-call]

    def run(self, tx: Connection, /, **parameters: Any) -> CursorResult[Any]:
        """Execute it."""
        return tx.execute(self.statement, parameters)

    def run_many(self, tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute it for each row, in as few round trips as the driver can; nothing for no rows."""
        if rows:
            tx.execute(self.statement, list(rows))

    def one(self, tx: Connection, /, **parameters: Any) -> RowMapping | None:
        """The only row, or None."""
        return self.run(tx, **parameters).mappings().one_or_none()

    def all(self, tx: Connection, /, **parameters: Any) -> Sequence[RowMapping]:
        """All rows."""
        return self.run(tx, **parameters).mappings().all()

    def quick(self, tx: Connection, /, **parameters: Any) -> Cursor[dict[str, Any]]:
        """Execute it by the driver's own hand, for where each tenth of a millisecond counts."""
        driver = tx.connection.driver_connection
        assert driver is not None  # the transaction is open on it
        cursor: Cursor[dict[str, Any]] = driver.cursor(row_factory=dict_row)
        return cursor.execute(self.driver_sql, parameters)

    def column(self, tx: Connection, /, **parameters: Any) -> tuple[Any, ...]:
        """The first column of all rows."""
        return tuple(self.run(tx, **parameters).scalars())


def query(name: str, login: Login, sql: str, temporary: str = "") -> Query:
    """A registered query. ValueError if the name is taken."""
    if name in QUERIES:
        raise ValueError(f"two queries are called {name}")
    QUERIES[name] = Query(name, login, sql, temporary)
    return QUERIES[name]
