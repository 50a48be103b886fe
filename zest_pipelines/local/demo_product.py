"""The demo's product: ZEST SCHEDULE's stand-in plans, edits and records visits by SQL under its own login.

Visits are numbered and their ids follow from tenant and number, so that a second demo finds what the first one
made instead of making it again. Everything here is made up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import dict_row

from resources.logins import Login, Logins
from zest_pipelines.store.errors import store_error

VISITS = 300
JAPAN = ZoneInfo("Asia/Tokyo")

_NAMESPACE = UUID("6f0f6f0e-54c1-5b0e-9a53-8f2d1c3d7a10")
_SERVICES = ("111111", "112211", "116275", "117311")
_NOTES = ("", "", "鍵は管理室で受け取る", "", "駐車場は裏手")
_DAYS = 14  # the visits lie from four days ago to nine days ahead
_DAYS_AGO = 4

Row = dict[str, Any]


@dataclass(frozen=True)
class Books:
    """All that the product keeps of one tenant."""

    clients: Sequence[Row]
    staff: Sequence[Row]
    visits: Sequence[Row]
    records: Sequence[Row]


class Product:
    """One tenant's product."""

    def __init__(self, logins: Logins, tenant: str) -> None:
        self._url = logins.libpq_url(Login.PRODUCT)
        self._tenant = tenant

    def books(self) -> Books:
        """What it keeps now, read in one transaction. Raises StoreError."""
        with self._transaction() as tx:
            tables = ("client", "staff", "visit", "visit_record")
            # The tables' names are the four above.
            rows = [tx.execute(f"SELECT * FROM schedule.{table}").fetchall() for table in tables]  # noqa: S608  # type: ignore[call-overload]
        return Books(*rows)

    def open_changes(self) -> int:
        """How many of its records are still on their way to the partner. Raises StoreError."""
        with self._transaction() as tx:
            row = tx.execute("SELECT coalesce(sum(pending), 0) AS pending FROM sync.connection_health").fetchone()
        assert row is not None
        return int(row["pending"])

    def plan(self, today: date) -> None:
        """Insert the visits that are not there yet. Raises StoreError."""
        with self._transaction() as tx:
            clients, staff = _ids(tx, "client"), _ids(tx, "staff")
            visits = [planned(self._tenant, number, clients, staff, today) for number in range(VISITS)]
            tx.cursor().executemany(
                """
                INSERT INTO schedule.visit (tenant_id, visit_id, client_id, staff_id, starts_at, ends_at,
                                            service_code, note, status)
                VALUES (%(tenant_id)s, %(visit_id)s, %(client_id)s, %(staff_id)s, %(starts_at)s, %(ends_at)s,
                        %(service_code)s, %(note)s, %(status)s)
                ON CONFLICT DO NOTHING
                """,
                visits,
            )

    def edit(self, today: date) -> None:
        """A working day: move, cancel, confirm, take back, staff and record visits. Raises StoreError."""
        with self._transaction() as tx:
            staff = _ids(tx, "staff")
            tx.execute(
                "UPDATE schedule.visit SET starts_at = starts_at + interval '10 minutes', "
                "ends_at = ends_at + interval '10 minutes' "
                "WHERE status = 'confirmed' AND visit_id = ANY (%s)",
                [self._numbered(every=10, at=1)],
            )
            for status, numbers in (
                ("cancelled", self._numbered(every=20, at=3)),
                ("confirmed", self._numbered(every=20, at=9)),
                ("draft", self._numbered(every=60, at=5)),
            ):
                tx.execute("UPDATE schedule.visit SET status = %s WHERE visit_id = ANY (%s)", [status, numbers])
            tx.execute(
                "UPDATE schedule.visit SET staff_id = %s WHERE staff_id IS NULL AND visit_id = ANY (%s)",
                [next(iter(staff), None), self._numbered(every=24, at=0)],
            )
            self._record(tx, datetime.combine(today, time(), JAPAN))

    def _record(self, tx: psycopg.Connection[Row], until: datetime) -> None:
        """Every past visit took place as planned, but for those where the client was out."""
        tx.execute(
            """
            INSERT INTO schedule.visit_record (tenant_id, visit_id, started_at, ended_at, status)
            SELECT tenant_id, visit_id,
                   CASE WHEN visit_id = ANY (%(out)s) THEN NULL ELSE starts_at + interval '3 minutes' END,
                   CASE WHEN visit_id = ANY (%(out)s) THEN NULL ELSE ends_at END,
                   CASE WHEN visit_id = ANY (%(out)s) THEN 'absent' ELSE 'done' END
            FROM schedule.visit WHERE status = 'confirmed' AND starts_at < %(until)s
            ON CONFLICT DO NOTHING
            """,
            {"out": self._numbered(every=10, at=4), "until": until},
        )

    def _numbered(self, *, every: int, at: int) -> list[UUID]:
        return [visit_id(self._tenant, number) for number in range(at, VISITS, every)]

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Row]]:
        try:
            with psycopg.connect(self._url, row_factory=dict_row) as tx:
                tx.execute("SELECT set_config('app.tenant', %s, true)", [self._tenant])
                yield tx
        except psycopg.Error as error:
            raise store_error(error) from None


def visit_id(tenant: str, number: int) -> UUID:
    """The id of a tenant's visit of that number."""
    return uuid5(_NAMESPACE, f"{tenant}/{number}")


def planned(tenant: str, number: int, clients: Sequence[UUID], staff: Sequence[UUID], today: date) -> Row:
    """The visit of that number: one in ten a draft, one in twelve without staff yet, or all where there are none."""
    day = today + timedelta(days=number % _DAYS - _DAYS_AGO)
    starts_at = datetime.combine(day, time(9 + number // _DAYS % 8, 30 * (number % 2)), JAPAN)
    return {
        "tenant_id": tenant,
        "visit_id": visit_id(tenant, number),
        "client_id": clients[number * 7 % len(clients)],
        "staff_id": None if number % 12 == 0 or not staff else staff[number % len(staff)],
        "starts_at": starts_at,
        "ends_at": starts_at + timedelta(minutes=30 * (1 + number % 3)),
        "service_code": _SERVICES[number % len(_SERVICES)],
        "note": _NOTES[number % len(_NOTES)],
        "status": "draft" if number % 10 == 9 else "confirmed",
    }


def _ids(tx: psycopg.Connection[Row], kind: str) -> list[UUID]:
    """Ids of those who are active, in an order that stays."""
    statements = {
        "client": "SELECT client_id AS id FROM schedule.client WHERE active ORDER BY client_id",
        "staff": "SELECT staff_id AS id FROM schedule.staff WHERE active ORDER BY staff_id",
    }
    return [row["id"] for row in tx.execute(statements[kind]).fetchall()]
