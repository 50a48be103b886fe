"""The product's hand under load: edits in transactions that stay open for a while, some undone, and a ledger of them.

The ledger is what the product was told: each version whose transaction's COMMIT came back. It is kept outside of the
database, so that nothing in there can agree with itself.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID

import psycopg

_UNDONE = 0.15
"""Share of the transactions that are rolled back."""
_DAYS = 14


@dataclass(frozen=True)
class Edit:
    """One version of one record."""

    entity: str
    record_id: UUID
    version: int
    is_for_partners: bool
    """Whether a partner is to have the record as of this version."""
    marker: str
    """What its note says; empty for a delete."""


@dataclass
class Ledger:
    """What writers did. Threads share it."""

    committed: list[Edit] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    """Markers of what was rolled back."""
    in_doubt: list[list[Edit]] = field(default_factory=list)
    """Transactions whose COMMIT was sent and not answered."""
    visits: list[UUID] = field(default_factory=list)

    def settle_doubt(self, admin: psycopg.Connection) -> None:
        """Find out, as a product does by keys of its own, which doubtful transactions were committed: whole or not."""
        for edits in self.in_doubt:
            found = [_is_there(admin, edit) for edit in edits if edit.marker]
            assert len(set(found)) == 1, "a transaction was committed in part"
            if found[0]:
                self.committed += edits
            else:
                self.undone += [edit.marker for edit in edits if edit.marker]
        self.in_doubt.clear()

    def wanted(self) -> set[tuple[str, UUID, int]]:
        """The versions that a partner is to hear of: from the first one on that is for partners."""
        since: dict[tuple[str, UUID], int] = {}
        for edit in self.committed:
            if edit.is_for_partners:
                record = edit.entity, edit.record_id
                since[record] = min(edit.version, since.get(record, edit.version))
        return {
            (edit.entity, edit.record_id, edit.version)
            for edit in self.committed
            if edit.version >= since.get((edit.entity, edit.record_id), edit.version + 1)
        }


@dataclass
class Writer:
    """One of the product's processes: a connection of its own, a transaction at a time."""

    url: str
    tenant: str
    client: UUID
    staff: UUID
    ledger: Ledger
    name: str
    seed: int
    longest: float = 0.02
    """Seconds that a transaction may stay open after its last edit."""
    rest: float = 0.0
    """Seconds between two transactions, on average."""
    fresh: float = 0.4
    """Share of the edits that make a visit."""

    def __post_init__(self) -> None:
        self._draw = random.Random(f"{self.seed} {self.name}")
        self._made = 0

    def write(self, stop: threading.Event, most: int | None = None) -> None:
        """Edit until `stop` or until the ledger holds `most` versions. A server that is down is waited for."""
        while not self._is_done(stop, most):
            with suppress(psycopg.OperationalError), closing(psycopg.connect(self.url)) as connection:
                while not self._is_done(stop, most):
                    self._transact(connection)
                    stop.wait(self.rest * 2 * self._draw.random())
            stop.wait(0.05)

    def _is_done(self, stop: threading.Event, most: int | None) -> bool:
        return stop.is_set() or (most is not None and len(self.ledger.committed) >= most)

    def confirm_all(self) -> None:
        """Confirm each visit that has a record, so that no record waits for a visit that never comes."""
        with psycopg.connect(self.url) as tx:
            self._set_tenant(tx)
            rows = tx.execute(
                "UPDATE schedule.visit v SET status = 'confirmed', note = %s WHERE status <> 'confirmed' AND EXISTS "
                "(SELECT FROM schedule.visit_record r WHERE (r.tenant_id, r.visit_id) = (v.tenant_id, v.visit_id)) "
                "RETURNING visit_id, version",
                [marker := self._marker()],
            ).fetchall()
        self.ledger.committed += [Edit("visit", visit, version, True, marker) for visit, version in rows]

    def _transact(self, tx: psycopg.Connection) -> None:
        draw, edits = self._draw, list[Edit]()
        is_undone = draw.random() < _UNDONE
        try:
            self._set_tenant(tx)
            edits.append(self._insert(tx, self._new_id()))
            known = sorted(draw.sample(self.ledger.visits, min(len(self.ledger.visits), draw.randrange(4))))
            if draw.random() > self.fresh:
                for visit in known:  # in one order, as writers that never deadlock do
                    edits += self._edit(tx, visit)
            time.sleep(draw.random() * self.longest)
        except (psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation):  # two put one visit back at once
            is_undone = True
        except psycopg.OperationalError:
            self.ledger.undone += [edit.marker for edit in edits if edit.marker]
            raise
        if is_undone:
            tx.rollback()
            self.ledger.undone += [edit.marker for edit in edits if edit.marker]
            return
        try:
            tx.commit()
        except psycopg.OperationalError:
            self.ledger.in_doubt.append(edits)
            raise
        self.ledger.committed += edits
        self.ledger.visits.append(edits[0].record_id)

    def _edit(self, tx: psycopg.Connection, visit: UUID) -> Iterator[Edit]:
        match self._draw.choices(("edit", "status", "record", "delete"), (5, 2, 3, 1))[0]:
            case "edit":
                yield self._update(tx, visit, "service_code = service_code")
            case "status":
                status = self._draw.choice(("confirmed", "confirmed", "cancelled", "draft"))
                yield self._update(tx, visit, f"status = '{status}'")
            case "record":
                yield self._update(tx, visit, "status = 'confirmed'")
                yield self._record(tx, visit)
            case "delete":
                yield from self._delete(tx, visit)

    def _insert(self, tx: psycopg.Connection, visit: UUID) -> Edit:
        day = self._draw.randrange(_DAYS)
        status = self._draw.choice(("confirmed", "confirmed", "confirmed", "draft"))
        row = tx.execute(
            "INSERT INTO schedule.visit (tenant_id, visit_id, client_id, staff_id, starts_at, ends_at, service_code, "
            "note, status) SELECT %s, %s, %s, %s, at, at + interval '1 hour', '131111', %s, %s FROM "
            "(SELECT timestamptz '2026-12-01 09:00+09' + make_interval(days => %s)) AS t (at) RETURNING version",
            [self.tenant, visit, self.client, self.staff, marker := self._marker(), status, day],
        ).fetchone()
        assert row is not None
        return Edit("visit", visit, row[0], status == "confirmed", marker)

    def _update(self, tx: psycopg.Connection, visit: UUID, change: str) -> Edit:
        row = tx.execute(
            f"UPDATE schedule.visit SET {change}, note = %s WHERE visit_id = %s RETURNING version, status".encode(),
            [marker := self._marker(), visit],
        ).fetchone()
        if row is None:  # deleted meanwhile: it comes back under its old id
            return self._insert(tx, visit)
        return Edit("visit", visit, row[0], row[1] == "confirmed", marker)

    def _record(self, tx: psycopg.Connection, visit: UUID) -> Edit:
        row = tx.execute(
            "INSERT INTO schedule.visit_record (tenant_id, visit_id, status, note) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (tenant_id, visit_id) DO UPDATE SET (status, note) = (excluded.status, excluded.note) "
            "RETURNING version, status",
            [self.tenant, visit, self._draw.choice(("absent", "absent", "cancelled")), marker := self._marker()],
        ).fetchone()
        assert row is not None
        return Edit("visit_record", visit, row[0], row[1] != "cancelled", marker)

    def _delete(self, tx: psycopg.Connection, visit: UUID) -> Iterator[Edit]:
        tx.execute("SELECT FROM schedule.visit WHERE visit_id = %s FOR UPDATE", [visit])
        for entity in ("visit_record", "visit"):
            rows = tx.execute(
                f"DELETE FROM schedule.{entity} WHERE visit_id = %s RETURNING version".encode(), [visit]
            ).fetchall()
            yield from (Edit(entity, visit, version + 1, False, "") for (version,) in rows)

    def _set_tenant(self, tx: psycopg.Connection) -> None:
        tx.execute("SELECT set_config('app.tenant', %s, true)", [self.tenant])

    def _marker(self) -> str:
        self._made += 1
        return f"{self.name}-{self._made}"

    def _new_id(self) -> UUID:
        return UUID(int=self._draw.getrandbits(128), version=4)


@contextmanager
def writing(writers: Sequence[Writer], most: int | None = None) -> Iterator[list[threading.Thread]]:
    """Writers in threads of their own, ended with the block; what one raised is raised then."""
    stop, failures = threading.Event(), list[BaseException]()

    def run(writer: Writer) -> None:
        try:
            writer.write(stop, most)
        except BaseException as error:  # noqa: BLE001  # raised again by who waits for it
            failures.append(error)

    threads = [threading.Thread(target=run, args=[writer], name=writer.name) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def unsettled(admin: psycopg.Connection, tenant: str, partner: str, ledger: Ledger) -> list[str]:
    """Where what the product was told differs from how it ended at the partner: each wanted version has one terminal
    result, and nothing else has any."""
    ended: dict[tuple[str, UUID, int], int] = {
        (entity, record, version): times
        for entity, record, version, times in admin.execute(
            "SELECT entity, record_id, version, count(*) FROM sync.result WHERE tenant_id = %s AND partner = %s AND "
            "outcome IN ('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned') "
            "GROUP BY entity, record_id, version",
            [tenant, partner],
        )
    }
    wanted = ledger.wanted()
    wrong = [f"{name(key)} ended {times} times" for key, times in ended.items() if times != 1]
    wrong += [f"{name(key)} has not ended" for key in wanted - ended.keys()]
    wrong += [f"{name(key)} ended and was never committed" for key in ended.keys() - wanted]
    ghosts = admin.execute(
        "SELECT image ->> 'note' FROM sync.change WHERE tenant_id = %s AND image ->> 'note' = ANY (%s)",
        [tenant, ledger.undone],
    ).fetchall()
    return wrong + [f"{marker} was rolled back and is a change" for (marker,) in ghosts]


def name(key: tuple[str, UUID, int]) -> str:
    """A version as a person reads it."""
    entity, record, version = key
    return f"{entity} {record} version {version}"


def _is_there(admin: psycopg.Connection, edit: Edit) -> bool:
    query = (
        "SELECT FROM sync.update_event WHERE entity = %s AND record_id = %s AND version = %s AND image ->> 'note' = %s"
    )
    return admin.execute(query, [edit.entity, edit.record_id, edit.version, edit.marker]).fetchone() is not None
