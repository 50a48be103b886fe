"""Transactions under a login and for a tenant. There is no other way to the tables.

Each login has an engine of its own with one connection: a shared pool leaks SET ROLE and session settings to the next
user. The tenant is set for the transaction alone, so a connection that goes back remembers none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError

from resources.logins import Login, Logins
from zest_pipelines.store.errors import store_error

Transaction = Connection
"""An open transaction, as every call of the store takes it."""

_PLANNED_ONCE = (Login.PUSH, Login.BUDGET)
"""Logins whose statements are planned once a connection (see installation), and not only from the sixth time."""
_PREPARED_AT_ONCE = {"prepare_threshold": 0}

_TRUSTED_SECONDS = 0.2
"""For how long after its use a connection is taken for alive: a push comes back to it many times a second."""


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
                    _set_tenant(tx, tenant)
                yield tx
        except (DBAPIError, psycopg.Error) as error:
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
                    hide_parameters=True,
                    connect_args=_PREPARED_AT_ONCE if login in _PLANNED_ONCE else {},
                )
                _replace_dead_connections(self._engines[login])
            return self._engines[login]


def _set_tenant(tx: Connection, tenant: str) -> None:
    """By the driver's own hand: BEGIN and this go to the server together."""
    driver = tx.connection.driver_connection
    assert driver is not None  # the transaction has just begun on it
    with driver.pipeline():
        driver.execute("SELECT set_config('app.tenant', %s, true)", [tenant])


def _replace_dead_connections(engine: Engine) -> None:
    """After a restart of the server, an old connection must not cost a run: ask before it is used again."""

    @event.listens_for(engine, "checkin")
    def note(_: Any, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ask(connection: Any, record: Any, _: Any) -> None:
        now = time.monotonic()
        if now - record.info.get("used_at", now) > _TRUSTED_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except psycopg.OperationalError:
                raise DisconnectionError from None  # the pool makes another one
