"""Named queries. Each is registered with the login that runs it, so that a test can prepare all of them on a migrated
database, under the rights that they will have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, CursorResult, RowMapping, text

from resources.logins import Login

QUERIES: dict[str, Query] = {}


@dataclass(frozen=True)
class Query:
    """SQL with `:named` parameters and a name that says what it does."""

    name: str
    login: Login
    sql: str

    def run(self, tx: Connection, /, **parameters: Any) -> CursorResult[Any]:
        """Execute it."""
        return tx.execute(text(self.sql), parameters)

    def run_many(self, tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute it for each row, in as few round trips as the driver can; nothing for no rows."""
        if rows:
            tx.execute(text(self.sql), list(rows))

    def one(self, tx: Connection, /, **parameters: Any) -> RowMapping | None:
        """The only row, or None."""
        return self.run(tx, **parameters).mappings().one_or_none()

    def all(self, tx: Connection, /, **parameters: Any) -> Sequence[RowMapping]:
        """All rows."""
        return self.run(tx, **parameters).mappings().all()

    def column(self, tx: Connection, /, **parameters: Any) -> tuple[Any, ...]:
        """The first column of all rows."""
        return tuple(self.run(tx, **parameters).scalars())


def query(name: str, login: Login, sql: str) -> Query:
    """A registered query. ValueError if the name is taken."""
    if name in QUERIES:
        raise ValueError(f"two queries are called {name}")
    QUERIES[name] = Query(name, login, sql)
    return QUERIES[name]
