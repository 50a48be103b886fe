"""The product's hand in SQL: visits of one tenant, edited in transactions that a test opens and closes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg

from resources.logins import Login, Logins
from zest_pipelines.local.embedded import EmbeddedServer

CLIENT, STAFF, OTHER_STAFF = UUID(int=1), UUID(int=2), UUID(int=3)


@dataclass(frozen=True)
class Hand:
    """What edits one tenant's plan."""

    admin: psycopg.Connection
    """A superuser, in autocommit."""
    logins: Logins
    tenant: str
    visit: UUID = field(default_factory=uuid4)
    """The visit that most tests speak of."""

    @contextmanager
    def edit(self, login: Login = Login.PRODUCT) -> Iterator[psycopg.Connection]:
        """A transaction for the tenant: committed at the end of the block, undone if it raises."""
        with psycopg.connect(self.logins.libpq_url(login)) as tx:
            tx.execute("SELECT set_config('app.tenant', %s, true)", [self.tenant])
            yield tx

    def insert(self, tx: psycopg.Connection, visit: UUID | None = None, **columns: Any) -> UUID:
        """Insert a confirmed visit, `self.visit` unless said otherwise."""
        values = {
            "tenant_id": self.tenant,
            "visit_id": visit or self.visit,
            "client_id": CLIENT,
            "staff_id": STAFF,
            "starts_at": "2026-12-01T09:00:00+09:00",
            "ends_at": "2026-12-01T10:00:00+09:00",
            "status": "confirmed",
        } | columns
        names, places = ", ".join(values), ", ".join(["%s"] * len(values))
        tx.execute(f"INSERT INTO schedule.visit ({names}) VALUES ({places})", list(values.values()))
        return UUID(str(values["visit_id"]))

    def update(self, tx: psycopg.Connection, **columns: Any) -> None:
        """Change columns of the visit."""
        sets = ", ".join(f"{name} = %s" for name in columns)
        tx.execute(f"UPDATE schedule.visit SET {sets} WHERE visit_id = %s", [*columns.values(), self.visit])

    def delete(self, tx: psycopg.Connection) -> None:
        """Delete the visit."""
        tx.execute("DELETE FROM schedule.visit WHERE visit_id = %s", [self.visit])

    def events(self, entity: str = "visit") -> list[tuple[int, str]]:
        """(version, op) of each committed event of the visit or its record, in the order of writing."""
        rows = self.admin.execute(
            "SELECT version, op FROM sync.update_event WHERE entity = %s AND record_id = %s ORDER BY event_id",
            [entity, self.visit],
        )
        return rows.fetchall()

    def image(self, entity: str, version: int) -> dict[str, Any]:
        """What the event of one version holds."""
        row = self.admin.execute(
            "SELECT image FROM sync.update_event WHERE entity = %s AND record_id = %s AND version = %s",
            [entity, self.visit, version],
        ).fetchone()
        assert row is not None
        return dict(row[0])


@contextmanager
def new_hand(server: EmbeddedServer, logins: Logins, timezone: str = "Asia/Tokyo") -> Iterator[Hand]:
    """The product's hand at a new tenant."""
    with psycopg.connect(server.admin_url, dbname=logins.database, autocommit=True) as admin:
        hand = Hand(admin, logins, f"tenant_{uuid4().hex[:8]}")
        admin.execute(
            "INSERT INTO schedule.tenant (tenant_id, name, timezone) VALUES (%s, 'T', %s)", [hand.tenant, timezone]
        )
        yield hand


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """`work` in a thread of its own, until the end of the block; what it raises is raised there."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        yield
        done.result(timeout=30)


def wait_for_lock(admin: psycopg.Connection, waiting: int = 1) -> None:
    """Poll until so many sessions of the test's database wait for a lock; fails after ten seconds."""
    deadline = time.monotonic() + 10
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while (row := admin.execute(query).fetchone()) is None or row[0] < waiting:
        assert time.monotonic() < deadline, "nobody waits for a lock"
        time.sleep(0.01)
