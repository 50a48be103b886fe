"""Transactions under a login and for a tenant. There is no other way to the tables.

Each login has an engine of its own with one connection: a shared pool leaks SET ROLE and session settings to the next
user. The tenant is set for the transaction alone, so a connection that goes back remembers none.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from resources.logins import Login, Logins
from zest_pipelines.store.errors import store_error

Transaction = Connection
"""An open transaction, as every call of the store takes it."""

_SET_TENANT = text("SELECT set_config('app.tenant', :tenant, true)")


@contextmanager
def savepoint(tx: Connection) -> Iterator[None]:
    """A part of a transaction that is undone by itself. Raises StoreError for what the database refuses in it."""
    try:
        with tx.begin_nested():
            yield
    except DBAPIError as error:
        raise store_error(error) from None


class Database:
    """The engines of one process, made when first used. Threads may share it; they wait for each other's connection."""

    def __init__(self, logins: Logins, connections: int = 1) -> None:
        """`connections`: how many one login may hold at once; the server has some 200 for all processes."""
        self._logins = logins
        self._connections = connections
        self._engines: dict[Login, Engine] = {}
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self, login: Login, tenant: str | None) -> Iterator[Connection]:
        """A transaction that commits at the end of the block and is undone if it raises.

        `tenant` None is for the logins that belong to none (scheduler, budget): row-level security hides all else.
        Raises StoreError for whatever the database refuses.
        """
        try:
            with self._engine(login).begin() as tx:
                if tenant is not None:
                    tx.execute(_SET_TENANT, {"tenant": tenant})
                yield tx
        except DBAPIError as error:
            raise store_error(error) from None

    @contextmanager
    def session(self, login: Login) -> Iterator[Connection]:
        """A connection of one's own without a transaction: what is locked in it stays locked until the block ends."""
        engine = create_engine(
            self._logins.url(login), poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True
        )
        try:
            with engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise store_error(error) from None

    def close(self) -> None:
        """Close every connection."""
        for engine in self._engines.values():
            engine.dispose()

    def _engine(self, login: Login) -> Engine:
        with self._lock:
            if login not in self._engines:
                self._engines[login] = create_engine(
                    self._logins.url(login),
                    pool_size=self._connections,
                    max_overflow=0,
                    pool_pre_ping=True,  # after a restart of the server, the old connection must not cost a run
                    hide_parameters=True,
                )
            return self._engines[login]
