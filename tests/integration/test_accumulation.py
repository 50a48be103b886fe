"""Update events become changes: none is lost, none is doubled, and what is not for partners stays at home."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy as sa
from conftest import fresh_database
from product_hand import Hand, beside, new_hand, wait_for_lock

from partners.contract import Entity
from resources.logins import Login, Logins
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import due, events
from zest_pipelines.store.database import Database
from zest_pipelines.store.events import Accumulated
from zest_pipelines.store.query import QUERIES

WRITES = (Entity.VISIT, Entity.VISIT_RECORD)
_UNREAD = """
    SELECT count(*) FROM sync.update_event e LEFT JOIN sync.event_cursor c
        ON c.tenant_id = e.tenant_id AND c.partner = %(partner)s
    WHERE e.tenant_id = %(tenant)s AND (c.xid IS NULL OR (e.xid, e.event_id) > (c.xid, c.event_id))
"""


@dataclass(frozen=True)
class Accumulator:
    """The way out of one tenant's connections, as far as the changes."""

    hand: Hand
    database: Database

    def connect(self, partner: str = "fhir") -> None:
        self.hand.admin.execute(
            "INSERT INTO sync.connection (tenant_id, partner, base_url, timing) VALUES (%s, %s, 'http://x', 'minute')",
            [self.hand.tenant, partner],
        )

    def step(self, partner: str = "fhir", entities: tuple[Entity, ...] = WRITES, batch: int = 1000) -> Accumulated:
        with self.database.transaction(Login.ACCUMULATE, self.hand.tenant) as tx:
            return events.accumulate(tx, self.hand.tenant, partner, entities, batch)

    def read_some(self, batch: int = 1000) -> int:
        """Read until some events are, as the server's own transactions may hold them back; how many."""
        deadline = time.monotonic() + 10
        while (events_read := self.step(batch=batch).events) == 0:
            assert time.monotonic() < deadline, "no event is read"
        return events_read

    def read_all(self, partner: str = "fhir", entities: tuple[Entity, ...] = WRITES, batch: int = 1000) -> int:
        """Read until nothing is unread, as the server's own transactions may hold the newest back; how many changes."""
        deadline, changes = time.monotonic() + 10, 0
        while self._unread(partner):
            assert time.monotonic() < deadline, "an event is not read"
            changes += self.step(partner, entities, batch).changes
        return changes

    def changes(self, partner: str = "fhir", entity: str = "visit") -> list[tuple[UUID, int, str]]:
        """(record, version, op) of the connection's changes, in the order of their versions."""
        rows = self.hand.admin.execute(
            """
            SELECT record_id, version, op FROM sync.change WHERE tenant_id = %s AND partner = %s AND entity = %s
            ORDER BY version, record_id
            """,
            [self.hand.tenant, partner, entity],
        )
        return rows.fetchall()

    def steps(self) -> list[tuple[int, str]]:
        """(version, op) of the visit's changes."""
        return [(version, op) for record, version, op in self.changes() if record == self.hand.visit]

    def rewrite(self, statement: str) -> None:
        """Change events by hand, as no login can; `%(tenant)s` is the tenant."""
        with self.hand.admin.transaction():
            self.hand.admin.execute("ALTER TABLE sync.update_event DISABLE TRIGGER refuse_rewrite")
            self.hand.admin.execute(statement, {"tenant": self.hand.tenant})
            self.hand.admin.execute("ALTER TABLE sync.update_event ENABLE ALWAYS TRIGGER refuse_rewrite")

    def back_date(self, month: str, xid: str) -> None:
        """Have the tenant's events of the transaction be edits of another month."""
        self.hand.admin.execute("SELECT sync.make_months(%s, 1)", [month])
        self.rewrite(f"UPDATE sync.update_event SET month = '{month}' WHERE tenant_id = %(tenant)s AND xid = '{xid}'")

    def is_due(self, partner: str = "fhir") -> bool:
        """Whether the scheduler sees something to be read for the tenant."""
        with self.database.transaction(Login.SCHEDULE, None) as tx:
            return self.hand.tenant in due.urgent(tx, partner)

    def comes_due(self) -> bool:
        """The same once the server's own transactions, which hold the newest back, are over."""
        deadline = time.monotonic() + 2
        while not self.is_due() and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.is_due()

    def _unread(self, partner: str) -> bool:
        row = self.hand.admin.execute(_UNREAD, {"tenant": self.hand.tenant, "partner": partner}).fetchone()
        return row != (0,)


@dataclass
class NaiveReader:
    """What one writes first: everything above the highest id that was seen."""

    hand: Hand
    cursor: int = 0
    records: set[UUID] = field(default_factory=set)

    def read(self) -> None:
        rows = self.hand.admin.execute(
            "SELECT event_id, record_id FROM sync.update_event WHERE tenant_id = %s AND event_id > %s ORDER BY 1",
            [self.hand.tenant, self.cursor],
        ).fetchall()
        for event_id, record_id in rows:
            self.cursor = event_id
            self.records.add(record_id)


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, template: Logins) -> Iterator[Logins]:
    with fresh_database(server, template) as logins:
        yield logins


@pytest.fixture(scope="module")
def database(shared: Logins) -> Iterator[Database]:
    made = Database(shared, connections=2)
    yield made
    made.close()


@pytest.fixture
def out(server: EmbeddedServer, shared: Logins, database: Database) -> Iterator[Accumulator]:
    """A new tenant in Tokyo with one connection."""
    with new_hand(server, shared) as hand:
        made = Accumulator(hand, database)
        made.connect()
        yield made


def commit_late(hand: Hand, read: Callable[[], object]) -> set[UUID]:
    """Two transactions of which the one that began first commits last, `read` in between and at the end."""
    with hand.edit() as early, hand.edit() as late:
        slow, quick = hand.insert(early, uuid4()), hand.insert(late, uuid4())
        late.commit()
        read()
        early.commit()
    read()
    return {slow, quick}


def test_a_transaction_that_commits_late_is_not_skipped(out: Accumulator) -> None:
    records = commit_late(out.hand, out.step)
    out.read_all()
    assert {record for record, _, _ in out.changes()} == records


def test_a_reader_of_ids_alone_would_skip_it(out: Accumulator) -> None:
    naive = NaiveReader(out.hand)
    records = commit_late(out.hand, naive.read)
    naive.read()
    assert len(records - naive.records) == 1


def test_nothing_is_read_while_an_older_transaction_is_open(out: Accumulator) -> None:
    with out.hand.edit() as older:
        out.hand.insert(older, uuid4())
        with out.hand.edit() as tx:
            out.hand.insert(tx)
        assert out.step() == Accumulated(0, 0)
    assert out.read_all() == 2


def test_a_cancellation_that_is_read_before_what_it_cancels_is_not_forgotten(out: Accumulator) -> None:
    hand = out.hand
    with hand.edit() as first, hand.edit() as between:
        hand.insert(first, uuid4())  # its transaction has a number now, the lowest of the three
        hand.insert(between, uuid4())
        with hand.edit() as tx:
            hand.insert(tx)
        hand.update(first, status="cancelled")
        first.commit()
        out.read_some()
        assert out.steps() == [(2, "cancel")]
    out.read_all()
    assert out.steps() == [(1, "upsert"), (2, "cancel")]
    pending = hand.admin.execute("SELECT version, op FROM sync.pending WHERE record_id = %s", [hand.visit])
    assert pending.fetchall() == [(2, "cancel")]


def test_two_at_once_read_each_event_once(out: Accumulator) -> None:
    for _ in range(10):
        with out.hand.edit() as tx:
            for _ in range(5):
                out.hand.insert(tx, uuid4())
    made: list[int] = []
    together = Barrier(2)

    def read() -> None:
        together.wait(timeout=10)
        made.append(out.read_all(batch=7))

    with beside(read), beside(read):
        pass
    assert sum(made) == 50
    assert len(out.changes()) == 50
    assert out.read_all() == 0


def test_the_second_of_two_waits_and_goes_on_where_the_first_ended(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx, uuid4())
    out.read_all()
    with out.hand.edit() as tx:
        out.hand.insert(tx)
    second: list[Accumulated] = []
    with ExitStack() as stack, out.database.transaction(Login.ACCUMULATE, out.hand.tenant) as tx:
        deadline = time.monotonic() + 10
        while events.accumulate(tx, out.hand.tenant, "fhir", WRITES, 1000).events == 0:
            assert time.monotonic() < deadline
        stack.enter_context(beside(lambda: second.append(out.step())))
        wait_for_lock(out.hand.admin)
    assert second == [Accumulated(0, 0)]


def test_a_batch_may_end_within_a_transaction(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        records = {out.hand.insert(tx, uuid4()) for _ in range(3)}
    assert out.read_all(batch=1) == 3
    assert {record for record, _, _ in out.changes()} == records


def test_a_draft_is_never_sent(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx, status="draft")
        out.hand.update(tx, note="still a draft")
    with out.hand.edit() as tx:
        out.hand.update(tx, status="cancelled")
        out.hand.delete(tx)
    out.read_all()
    assert out.steps() == []


def test_a_draft_is_for_the_partner_once_it_is_confirmed(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx, status="draft")
    out.read_all()
    with out.hand.edit() as tx:
        out.hand.update(tx, status="confirmed")
    out.read_all()
    assert out.steps() == [(2, "upsert")]


@pytest.mark.parametrize("end", ["draft", "cancelled", "deleted"])
@pytest.mark.parametrize("is_seen", [True, False])
def test_a_confirmed_visit_taken_back_is_a_cancellation(out: Accumulator, end: str, is_seen: bool) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx)
    if is_seen:
        out.read_all()
    with out.hand.edit() as tx:
        out.hand.delete(tx) if end == "deleted" else out.hand.update(tx, status=end)
    out.read_all()
    assert out.steps() == [(1, "upsert"), (2, "cancel")]


def test_a_visit_that_comes_and_goes_in_one_transaction_is_a_pair(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx)
        out.hand.delete(tx)
    out.read_all()
    assert out.steps() == [(1, "upsert"), (2, "cancel")]


def test_a_visit_record_is_for_the_partner_when_it_is_done_or_absent(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx)
        tx.execute(
            "INSERT INTO schedule.visit_record (tenant_id, visit_id, status) VALUES (%s, %s, 'absent')",
            [out.hand.tenant, out.hand.visit],
        )
        tx.execute("UPDATE schedule.visit_record SET status = 'cancelled'")
        tx.execute("DELETE FROM schedule.visit_record")
    out.read_all()
    assert [(version, op) for _, version, op in out.changes(entity="visit_record")] == [
        (1, "upsert"),
        (2, "cancel"),
        (3, "cancel"),
    ]
    days = out.hand.admin.execute(
        "SELECT DISTINCT on_date::text FROM sync.change WHERE tenant_id = %s", [out.hand.tenant]
    )
    assert days.fetchall() == [("2026-12-01",)]


def test_a_visit_and_its_record_deleted_in_one_statement_stop_nothing(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx)
        values = {"tenant": out.hand.tenant, "visit": out.hand.visit}
        tx.execute(
            "INSERT INTO schedule.visit_record (tenant_id, visit_id, status) VALUES (%(tenant)s, %(visit)s, 'absent')",
            values,
        )
        tx.execute(
            """
            WITH gone AS (DELETE FROM schedule.visit_record WHERE visit_id = %(visit)s)
            DELETE FROM schedule.visit WHERE visit_id = %(visit)s
            """,
            values,
        )
    assert out.read_all() == 4


def test_a_partner_gets_only_the_entities_that_it_takes(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx)
    assert out.read_all(entities=(Entity.VISIT_RECORD,)) == 0


def test_a_new_connection_gets_everything_from_the_start(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx)
    out.read_all()
    with out.hand.edit() as tx:
        out.hand.update(tx, status="cancelled")
    out.read_all()
    out.connect("orca")
    out.read_all("orca")
    assert out.changes("orca") == out.changes("fhir") == [(out.hand.visit, 1, "upsert"), (out.hand.visit, 2, "cancel")]


@pytest.mark.parametrize(("timezone", "day"), [("Asia/Tokyo", "2026-12-02"), ("UTC", "2026-12-01")])
def test_a_visits_day_is_that_of_its_tenant(
    server: EmbeddedServer, shared: Logins, database: Database, timezone: str, day: str
) -> None:
    with new_hand(server, shared, timezone) as hand:
        out = Accumulator(hand, database)
        out.connect()
        with hand.edit() as tx:
            tx.execute("SET LOCAL TimeZone = 'America/New_York'")  # the product's session does not matter
            hand.insert(tx, starts_at="2026-12-01T23:30:00Z", ends_at="2026-12-02T00:30:00Z")
        out.read_all()
        row = hand.admin.execute("SELECT on_date::text FROM sync.change WHERE record_id = %s", [hand.visit]).fetchone()
    assert row == (day,)


def test_a_failure_moves_neither_changes_nor_cursor(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx)

    with out.database.transaction(Login.ACCUMULATE, out.hand.tenant) as tx:
        events.accumulate(tx, out.hand.tenant, "fhir", WRITES, 1000)
        tx.rollback()
    assert out.changes() == []
    assert out.read_all() == 1


def restored(out: Accumulator) -> None:
    """The tenant as a restore leaves it in another cluster: its transactions' numbers say nothing there."""
    out.rewrite(
        "UPDATE sync.update_event SET xid = (xid::text::bigint + 1000000)::text::xid8 WHERE tenant_id = %(tenant)s"
    )
    out.hand.admin.execute(
        """
        UPDATE sync.event_cursor SET xid = (xid::text::bigint + 1000000)::text::xid8, system_id = 42
        WHERE tenant_id = %s
        """,
        [out.hand.tenant],
    )


def read_until(out: Accumulator, steps: list[tuple[int, str]], patience: float = 10) -> None:
    deadline = time.monotonic() + patience
    while out.steps() != steps:
        assert time.monotonic() < deadline, out.steps()
        out.step(batch=1)


def test_after_a_restore_into_another_cluster_nothing_is_lost_or_doubled(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx)
    out.read_all()
    with out.hand.edit() as tx:
        out.hand.update(tx, note="not read before the dump")
    restored(out)
    with out.hand.edit() as tx:
        out.hand.update(tx, note="after the restore")

    read_until(out, [(1, "upsert"), (2, "upsert"), (3, "upsert")])
    with out.hand.edit() as tx:
        out.hand.update(tx, status="cancelled")
    read_until(out, [(1, "upsert"), (2, "upsert"), (3, "upsert"), (4, "cancel")])
    row = out.hand.admin.execute("SELECT version, open FROM sync.pending WHERE record_id = %s", [out.hand.visit])
    assert row.fetchall() == [(4, 4)]


def test_by_the_numbers_of_another_cluster_an_edit_would_be_lost(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx)
    out.read_all()
    restored(out)
    out.hand.admin.execute(
        "UPDATE sync.event_cursor SET system_id = (SELECT system_identifier FROM pg_control_system())"
    )
    with out.hand.edit() as tx:
        out.hand.update(tx, note="after the restore")
    with pytest.raises(AssertionError):
        read_until(out, [(1, "upsert"), (2, "upsert")], patience=1)


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_cancellation_is_made_though_what_it_cancels_is_archived(out: Accumulator, is_settled: bool) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx)
    out.read_all()
    if is_settled:
        with out.hand.edit(Login.PUSH) as tx:
            tx.execute(
                """
                INSERT INTO sync.result (month, tenant_id, partner, entity, record_id, version, outcome, partner_id)
                SELECT month, tenant_id, partner, entity, record_id, version, 'delivered', 'p' FROM sync.change
                """
            )
    out.rewrite("DELETE FROM sync.update_event WHERE tenant_id = %(tenant)s")
    with out.hand.edit() as tx:
        out.hand.update(tx, status="cancelled")
        out.hand.update(tx, note="cancelled twice")
    out.read_all()
    assert out.steps() == [(1, "upsert"), (2, "cancel"), (3, "cancel")]


def test_a_draft_whose_first_edit_is_archived_is_still_for_nobody(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        out.hand.insert(tx, status="draft")
    out.read_all()
    out.rewrite("DELETE FROM sync.update_event WHERE tenant_id = %(tenant)s")
    with out.hand.edit() as tx:
        out.hand.update(tx, status="cancelled")
    out.read_all()
    assert out.steps() == []


def test_a_record_that_nobody_knows_the_visit_of_any_more_stops_nothing(out: Accumulator) -> None:
    values = {"tenant": out.hand.tenant, "visit": out.hand.visit}
    with out.hand.edit() as tx:
        out.hand.insert(tx)
        tx.execute(
            "INSERT INTO schedule.visit_record (tenant_id, visit_id, status) VALUES (%(tenant)s, %(visit)s, 'absent')",
            values,
        )
    out.read_all()
    out.rewrite("DELETE FROM sync.update_event WHERE tenant_id = %(tenant)s")
    with out.hand.edit() as tx:
        tx.execute(
            """
            WITH gone AS (DELETE FROM schedule.visit_record WHERE visit_id = %(visit)s)
            DELETE FROM schedule.visit WHERE visit_id = %(visit)s
            """,
            values,
        )
    out.read_all()
    assert [op for _, _, op in out.changes(entity="visit_record")] == ["upsert", "cancel"]


def edited(out: Accumulator) -> str:
    """A new visit; the number of its transaction."""
    with out.hand.edit() as tx:
        out.hand.insert(tx, uuid4())
        return number_of(tx)


def number_of(tx: psycopg.Connection) -> str:
    row = tx.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert row is not None
    return str(row[0])


def test_a_late_edit_of_an_older_month_than_the_cursors_makes_due(out: Accumulator) -> None:
    with out.hand.edit() as first, out.hand.edit() as late:
        out.hand.insert(first, uuid4())
        out.hand.insert(late, uuid4())
        number = number_of(late)
        first.commit()
        out.read_some()
        assert not out.is_due()
        late.commit()
    out.back_date("2025-03-01", number)
    assert out.comes_due()
    assert out.read_all() == 1
    assert not out.is_due()


def test_an_edit_is_nobodys_turn_while_an_older_transaction_is_open(
    server: EmbeddedServer, shared: Logins, out: Accumulator
) -> None:
    with new_hand(server, shared) as hand:
        edited(Accumulator(hand, out.database))  # so that the month has something that can be read
    with out.hand.edit() as older:
        out.hand.insert(older, uuid4())
        edited(out)
        assert not out.is_due()
    assert out.comes_due()


def test_a_cursor_that_is_months_behind_is_due_until_all_is_read(out: Accumulator) -> None:
    for month in ("2025-04-01", "2025-05-01", "2025-07-01"):
        out.back_date(month, edited(out))
    edited(out)
    assert out.comes_due()
    for _ in range(3):
        assert out.read_some(batch=1) == 1
        assert out.comes_due()
    assert out.read_all() == 1
    assert not out.is_due()


def test_a_connection_without_a_cursor_is_due_for_the_oldest_month(out: Accumulator) -> None:
    out.back_date("2025-03-01", edited(out))
    out.read_all()
    out.connect("orca")
    assert out.is_due("orca")
    assert not out.is_due()
    assert out.read_all("orca") == 1
    assert not out.is_due("orca")


def test_a_batch_that_ended_within_a_transaction_leaves_its_tenant_due(out: Accumulator) -> None:
    with out.hand.edit() as tx:
        for _ in range(2):
            out.hand.insert(tx, uuid4())
    assert out.comes_due()
    assert out.step(batch=1).events == 1
    assert out.is_due()


def test_after_a_restore_into_another_cluster_the_tenant_is_due(out: Accumulator) -> None:
    edited(out)
    out.read_all()
    restored(out)
    assert out.is_due()


def test_a_months_being_archived_hides_no_unread_edit_of_another(out: Accumulator) -> None:
    out.back_date("2024-02-01", edited(out))
    out.read_all()
    out.back_date("2024-03-01", edited(out))
    out.hand.admin.execute("SELECT sync.archive_month('2024-02-01')")
    assert out.comes_due()
    assert out.read_all() == 1
    assert not out.is_due()


def test_another_tenants_unread_edit_makes_nobody_else_due(
    server: EmbeddedServer, shared: Logins, out: Accumulator
) -> None:
    edited(out)
    out.read_all()
    with new_hand(server, shared) as hand:
        other = Accumulator(hand, out.database)
        other.connect()
        edited(other)
        assert other.comes_due()
        assert not out.is_due()


MONTHS = ("2025-01-01", "2025-02-01", "2025-03-01")
LONG_READ = """
    INSERT INTO schedule.tenant (tenant_id, name) SELECT 'long-' || t, 'T' FROM generate_series(0, 9) t;
    INSERT INTO sync.connection (tenant_id, partner, base_url, timing)
    SELECT 'long-' || t, 'fhir', 'http://x', 'minute' FROM generate_series(0, 9) t;
    INSERT INTO sync.update_event (month, event_id, xid, tenant_id, entity, record_id, version, op, image, at)
    SELECT '2025-01-01'::date + n / 10000 * interval '1 month', n + 1, (3 + n / 1000)::text::xid8, 'long-' || n % 10,
           'visit', gen_random_uuid(), 1, 'insert', '{}', now()
    FROM generate_series(0, 29999) n;
    INSERT INTO sync.event_cursor (tenant_id, partner, xid, event_id, system_id)
    SELECT e.tenant_id, 'fhir', max(e.xid), max(e.event_id), max(s.system_identifier)
    FROM sync.update_event e CROSS JOIN pg_control_system() s GROUP BY e.tenant_id
"""
"""30,000 events of ten tenants in three months, all read."""


def test_who_has_unread_edits_is_told_without_reading_what_was_read(server: EmbeddedServer, template: Logins) -> None:
    with fresh_database(server, template) as logins:
        with psycopg.connect(server.admin_url, dbname=logins.database, autocommit=True) as admin:
            for month in MONTHS:
                admin.execute("SELECT sync.make_months(%s, 1)", [month])
            admin.execute(LONG_READ)
            admin.execute("VACUUM ANALYZE")
        database = Database(logins, connections=1)
        with closing(database), database.transaction(Login.SCHEDULE, None) as tx:
            explained = sa.text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {QUERIES['unread_events'].sql}")
            (found,) = tx.execute(explained, {"partner": "fhir"}).scalar_one()

    plan = found["Plan"]
    ran = [node for node in nodes(plan) if node.get("Relation Name", "").startswith("update_event_2025")]
    assert {node["Node Type"] for node in ran} <= {"Index Scan", "Index Only Scan"}
    assert any(node["Index Name"].endswith("_month_xid_event_id_idx") for node in ran)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200  # of some 1,000 for the events alone


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The node itself, and all below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)
