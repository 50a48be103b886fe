"""The two projections: the holes that ones like them have are closed, writers at once agree, the audit sees a lie.

Its laws for any order of acts are in tests/property/test_pending_laws.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from uuid import UUID

import psycopg
import pytest
from conftest import fresh_database
from pending_history import RecordHistory
from product_hand import beside, wait_for_lock

from resources.logins import Login, Logins
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import projection
from zest_pipelines.store.database import Database
from zest_pipelines.store.query import QUERIES


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, template: Logins) -> Iterator[Logins]:
    with fresh_database(server, template) as logins:
        yield logins


@pytest.fixture(scope="module")
def admin(server: EmbeddedServer, shared: Logins) -> Iterator[psycopg.Connection]:
    """A superuser in the database of all tests here, with a connected tenant."""
    with psycopg.connect(server.admin_url, dbname=shared.database, autocommit=True) as connection:
        connection.execute("INSERT INTO schedule.tenant (tenant_id, name) VALUES ('sakura', 'T')")
        connection.execute("INSERT INTO sync.connection VALUES ('sakura', 'fhir', 'http://x', 'minute')")
        yield connection


@pytest.fixture
def history(admin: psycopg.Connection, shared: Logins) -> Iterator[RecordHistory]:
    """A new record of a connected tenant."""
    database = Database(shared, connections=2)
    yield RecordHistory(database, "sakura")
    database.close()


def test_the_newest_change_is_pending_in_whatever_order_they_come(history: RecordHistory) -> None:
    for version, wanted in ((2, 2), (1, 2), (4, 4), (3, 4)):
        history.change(version)
        assert history.pending() == (wanted, "due")


def test_settling_the_newest_version_settles_the_older_ones_with_it(history: RecordHistory) -> None:
    for version in (1, 2, 3):
        history.change(version)
    history.result(3, "delivered", history.intend(3))
    assert history.pending() is None
    assert history.differences() == []


def test_an_older_version_left_open_stands_there_until_it_is_settled_too(history: RecordHistory) -> None:
    for version in (1, 2, 3):
        history.change(version)
    history.result(3, "delivered", history.intend(3), settle_older=False)
    assert history.pending() == (2, "due")
    due = history.due()
    assert due is not None
    assert (due.key.version, due.settled_version) == (2, 3)  # which push ends as superseded, without a call
    history.result(2, "superseded")
    assert history.pending() is None
    assert history.differences() == []


def test_changes_that_come_in_one_statement_are_counted_each(history: RecordHistory) -> None:
    history.change(3, 1, 2)
    row = history.pending_row()
    assert (row.version, row.open) == (3, 3)
    history.change(5, 4)
    row = history.pending_row()
    assert (row.version, row.open) == (5, 5)
    assert history.differences() == []


def test_the_age_of_what_is_open_is_that_of_the_oldest_version_left(history: RecordHistory) -> None:
    history.change(1, 2)
    first, newest = history.pending_row().since, history.pending_row().edited_at
    assert first < newest
    history.result(1, "delivered", history.intend(1))
    assert history.pending_row().since == newest


def test_an_older_version_that_comes_after_a_newer_one_was_settled_is_not_sent(history: RecordHistory) -> None:
    history.change(2)
    history.result(2, "delivered", history.intend(2))
    history.change(1)
    due = history.due()
    assert due is not None
    assert (due.key.version, due.settled_version) == (1, 2)  # which push ends as superseded, without a call
    history.result(1, "superseded")
    assert history.pending() is None
    assert history.differences() == []


def test_a_settled_version_takes_no_newer_one_away(history: RecordHistory) -> None:
    history.change(1)
    intent = history.intend(1)
    history.change(2)
    history.result(1, "delivered", intent)
    assert history.pending() == (2, "due")


def test_doubt_about_an_older_version_is_doubt_about_the_record(history: RecordHistory) -> None:
    history.change(1)
    intent = history.intend(1)
    history.change(2)
    history.result(1, "unknown", intent)
    row = history.pending_row()
    assert (row.version, row.state, row.reason, row.attempts) == (2, "unknown", "busy", 1)
    due = history.due()
    assert due is not None
    assert due.doubt is not None
    assert (due.doubt.intent_id, due.doubt.key.version) == (intent, 1)
    history.change(3)
    assert history.pending() == (3, "unknown")
    history.result(1, "retry", intent)
    assert history.pending() == (3, "due")


def test_a_doubt_that_comes_after_somebody_read_back_is_none(history: RecordHistory) -> None:
    history.change(1)
    intent = history.intend(1)
    assert history.result(1, "retry", intent)
    assert not history.result(1, "unknown", intent)  # which push hears of: the call may have taken effect after all
    assert history.pending() == (1, "retry")
    assert history.differences() == []


@pytest.mark.parametrize("outcome", ["parked", "conflict"])
def test_a_new_version_or_a_release_takes_a_stopped_record_up_again(history: RecordHistory, outcome: str) -> None:
    history.change(1)
    history.result(1, outcome, history.intend(1))
    assert history.pending() == (1, outcome)
    assert history.due() is None
    history.result(1, "released")
    assert history.pending() == (1, "due")
    history.result(1, outcome, history.intend(1))
    history.change(2)
    assert history.pending() == (2, "due")


def test_a_version_and_an_intent_end_once(history: RecordHistory) -> None:
    history.change(1)
    first, second = history.intend(1), history.intend(1)
    assert history.result(1, "retry", first)
    for outcome in ("retry", "delivered", "unknown"):
        assert not history.result(1, outcome, first)
    assert history.result(1, "delivered", second)
    assert not history.result(1, "abandoned")
    assert history.differences() == []


def test_a_call_under_way_is_told_from_one_that_said_nothing(history: RecordHistory) -> None:
    history.change(1)
    intent = history.intend(1)
    standing = history.standing()
    assert (standing.doubt_intent, standing.doubt_version, standing.doubt_is_answered) == (intent, 1, False)
    assert history.pending() == (1, "due")
    history.result(1, "unknown", intent)
    assert history.standing().doubt_is_answered
    history.result(1, "retry", intent, partner_id="p1")
    standing = history.standing()
    assert (standing.doubt_intent, standing.doubt_month, standing.doubt_at) == (None, None, None)
    assert (standing.known_version, standing.partner_id, standing.links) == (1, "p1", {"client": "c1"})


def test_what_the_partner_last_said_is_of_the_newest_version(history: RecordHistory) -> None:
    history.change(1, 2)
    old, new = history.intend(1), history.intend(2)
    history.result(2, "delivered", new, partner_id="p2")
    history.result(1, "retry", old, partner_id="p1")
    standing = history.standing()
    assert (standing.known_version, standing.partner_id, standing.links) == (2, "p2", {"client": "c2"})
    assert (standing.delivered_version, standing.delivered_month) == (2, history.key(2).month)
    assert history.differences() == []


def test_a_suspicion_stands_until_somebody_has_looked_or_a_newer_version_is_there(history: RecordHistory) -> None:
    history.change(1, 2)
    history.result(2, "delivered", history.intend(2))
    history.repair(2, "suspected")
    assert history.standing().suspect_state == "due"
    history.change(3)
    history.result(3, "not_needed")  # nothing was sent: what the late sender did is there still
    assert history.standing().suspect_state == "due"
    history.repair(2, "retry")
    assert (history.standing().suspect_state, history.standing().suspect_attempts) == ("retry", 1)
    history.repair(2, "equal", partner_id="p2")
    assert history.standing().suspect_state is None
    history.repair(2, "suspected")
    history.change(4)
    history.result(4, "delivered", history.intend(4))
    assert history.standing().suspect_state is None
    assert history.differences() == []


def test_a_repair_in_doubt_holds_up_the_version_that_comes_meanwhile(history: RecordHistory) -> None:
    history.change(1)
    history.result(1, "delivered", history.intend(1))
    history.repair(1, "suspected")
    intent = history.intend(1)
    history.repair(1, "unknown", intent)
    history.change(2)
    assert history.pending() == (2, "unknown")
    history.repair(1, "repaired", intent, "p1")
    assert history.pending() == (2, "due")
    history.repair(1, "unknown", intent)  # from somebody who comes too late: it may have written over the repair
    assert history.standing().suspect_state == "due"
    assert history.pending() == (2, "due")
    assert history.differences() == []


@pytest.mark.parametrize("late", [1, 3])
def test_a_change_that_comes_while_another_is_settled_stays_open(
    admin: psycopg.Connection, shared: Logins, history: RecordHistory, late: int
) -> None:
    history.change(2)
    intent = history.intend(2)
    with ExitStack() as stack, psycopg.connect(shared.libpq_url(Login.PUSH)) as push:
        push.execute("SELECT set_config('app.tenant', 'sakura', true)")
        push.execute(
            """
            INSERT INTO sync.result
                (month, tenant_id, partner, entity, record_id, version, intent_id, outcome, partner_id)
            SELECT month, tenant_id, partner, entity, record_id, version, intent_id, 'delivered', 'p'
            FROM sync.intent WHERE intent_id = %s
            """,
            [intent],
        )
        stack.enter_context(beside(partial(history.change, late)))
        wait_for_lock(admin)
        push.commit()
    assert history.pending() == (late, "due")
    assert history.differences() == []


_CHANGE = """
    INSERT INTO sync.change (month, tenant_id, partner, entity, record_id, version, op, image, client_id, on_date,
                             edited_at)
    VALUES ('2026-12-01', 'sakura', 'fhir', 'visit', %(record)s, 2, 'upsert', '{}', %(record)s, '2026-12-01', now())
"""
_RESULT = """
    INSERT INTO sync.result (month, tenant_id, partner, entity, record_id, version, outcome, reason)
    VALUES ('2026-12-01', 'sakura', 'fhir', 'visit', %(record)s, 1, 'retry', 'busy')
"""


def write_crosswise(admin: psycopg.Connection, logins: Logins, history: RecordHistory) -> RecordHistory:
    """Accumulate and push write of the same two records at once, each of the other one first. The other one."""
    other = RecordHistory(history.database, history.tenant)
    for each in (history, other):
        each.change(1)

    def write(login: Login, statement: str, *records: UUID) -> Iterator[None]:
        with psycopg.connect(logins.libpq_url(login)) as tx:
            tx.execute("SELECT set_config('app.tenant', 'sakura', true)")
            for record in records:
                tx.execute(statement, {"record": record})
                yield

    accumulate = write(Login.ACCUMULATE, _CHANGE, history.record, other.record)
    next(accumulate)
    with beside(lambda: list(write(Login.PUSH, _RESULT, other.record, history.record))):
        wait_for_lock(admin)
        list(accumulate)
    return other


def test_two_who_write_of_the_same_records_in_another_order_take_turns(
    admin: psycopg.Connection, shared: Logins, history: RecordHistory
) -> None:
    other = write_crosswise(admin, shared, history)
    for each in (history, other):
        assert each.pending() == (2, "due")
        assert each.differences() == []


def test_without_turns_they_would_stop_each_other(
    admin: psycopg.Connection, shared: Logins, history: RecordHistory
) -> None:
    for table in ("change", "result"):
        admin.execute(f"ALTER TABLE sync.{table} DISABLE TRIGGER a_take_turn")
    try:
        with pytest.raises(psycopg.errors.DeadlockDetected):
            write_crosswise(admin, shared, history)
    finally:
        for table in ("change", "result"):
            admin.execute(f"ALTER TABLE sync.{table} ENABLE ALWAYS TRIGGER a_take_turn")


@pytest.mark.parametrize(
    ("lie", "seen"),
    [
        ("DELETE FROM sync.pending WHERE record_id = %s", ("pending", None, 2)),
        ("UPDATE sync.pending SET version = 1 WHERE record_id = %s", ("pending", 1, 2, "version")),
        ("UPDATE sync.pending SET on_date = on_date + 1 WHERE record_id = %s", ("pending", 2, 2, "on_date")),
        ("UPDATE sync.pending SET state = 'unknown' WHERE record_id = %s", ("pending", 2, 2, "doubt")),
        ("UPDATE sync.pending SET open = 2 WHERE record_id = %s", ("pending", 2, 2, "open")),
        ("UPDATE sync.pending SET record_id = gen_random_uuid() WHERE record_id = %s", ("pending", None, 2)),
        ("DELETE FROM sync.standing WHERE record_id = %s", ("standing", None, 1)),
        ("UPDATE sync.standing SET version = 2 WHERE record_id = %s", ("standing", 2, 1, "settled")),
        ("UPDATE sync.standing SET delivered_version = 2 WHERE record_id = %s", ("standing", 1, 1, "delivered")),
        ("UPDATE sync.standing SET is_cancelled = true WHERE record_id = %s", ("standing", 1, 1, "delivered")),
        ("UPDATE sync.standing SET partner_id = 'another' WHERE record_id = %s", ("standing", 1, 1, "known")),
        ("""UPDATE sync.standing SET links = '{"client": "another"}' WHERE record_id = %s""",
         ("standing", 1, 1, "links")),
        ("UPDATE sync.standing SET doubt_is_answered = true WHERE record_id = %s", ("standing", 1, 1, "doubt")),
        ("UPDATE sync.standing SET suspect_state = NULL WHERE record_id = %s", ("standing", 1, 1, "suspicion")),
        ("UPDATE sync.standing SET suspect_since = now() WHERE record_id = %s", ("standing", 1, 1, "suspicion")),
    ],
)  # fmt: skip
def test_the_audit_sees_a_row_that_lies(
    admin: psycopg.Connection, history: RecordHistory, lie: str, seen: tuple[str, int | None, int, *tuple[str, ...]]
) -> None:
    history.change(1)
    history.result(1, "delivered", history.intend(1))
    history.repair(1, "suspected")
    history.intend(1)
    history.change(2)
    assert history.differences() == []
    admin.execute(lie, [history.record])
    table, found, rebuilt, *parts = seen
    told = {each[0]: each for each in history.differences()}
    assert told[table][:3] == (table, found, rebuilt)
    assert not parts or told[table][3] == tuple(parts)


def test_the_audit_looks_at_one_tenant(admin: psycopg.Connection, history: RecordHistory) -> None:
    history.change(1)
    admin.execute("DELETE FROM sync.pending WHERE record_id = %s", [history.record])
    with history.database.transaction(Login.OPERATOR, "momiji") as tx:
        assert projection.differences(tx) == ()


def test_the_audit_asks_no_archived_month_what_was_settled_in_it(
    admin: psycopg.Connection, history: RecordHistory
) -> None:
    history.change(1)
    history.result(1, "delivered", history.intend(1), partner_id="p1")
    with admin.transaction(force_rollback=True):
        for table in ("change", "intent", "result"):
            admin.execute(f"ALTER TABLE sync.{table} DISABLE TRIGGER refuse_rewrite")
            admin.execute(f"DELETE FROM sync.{table} WHERE record_id = %s", [history.record])
        missing = told_by(admin, history)
        admin.execute("CREATE SCHEMA IF NOT EXISTS archive")
        admin.execute("CREATE TABLE archive.result_2026_12 ()")
        assert (missing, told_by(admin, history)) == ([("settled", "delivered", "known", "links")], [])


def told_by(admin: psycopg.Connection, history: RecordHistory) -> list[tuple[str, ...]]:
    """The parts in which the audit finds the record's standing wrong, asked in the superuser's own transaction."""
    admin.execute("SELECT set_config('app.tenant', %s, true)", [history.tenant])
    rows = admin.execute(QUERIES["rebuild_standing"].sql).fetchall()  # type: ignore[arg-type]  # it has no parameters
    return [tuple(parts) for _, _, _, record, _, _, parts in rows if record == history.record]


def come_late(history: RecordHistory) -> None:
    history.change(2)
    history.change(1)


def settle_in_flight(history: RecordHistory) -> None:
    history.change(1)
    intent = history.intend(1)
    history.change(2)
    history.result(1, "delivered", intent)


def doubt_in_flight(history: RecordHistory) -> None:
    history.change(1)
    intent = history.intend(1)
    history.change(2)
    history.result(1, "unknown", intent)


def read_back_an_older_one(history: RecordHistory) -> None:
    history.change(1)
    intent = history.intend(1)
    history.change(2)
    history.result(1, "unknown", intent)
    history.result(1, "retry", intent)


def settle_beside_doubt(history: RecordHistory) -> None:
    history.change(1, 2)
    history.intend(2)
    history.result(1, "superseded")


def deliver_an_older_one_under_suspicion(history: RecordHistory) -> None:
    history.change(1, 2)
    old = history.intend(1)
    history.result(2, "delivered", history.intend(2), settle_older=False)
    history.repair(2, "suspected")
    history.result(1, "delivered", old)


def say_something_of_an_older_one(history: RecordHistory) -> None:
    history.change(1, 2)
    old = history.intend(1)
    history.result(2, "delivered", history.intend(2), partner_id="p2", settle_older=False)
    history.result(1, "retry", old, partner_id="p1")


def doubt_twice(history: RecordHistory) -> None:
    history.change(1)
    history.intend(1)
    history.result(1, "retry", history.intend(1))


@pytest.mark.parametrize(
    ("function", "right", "wrong", "act"),
    [
        ("project_change", "AND q.version > NEW.version;", "AND false;", come_late),
        ("project_change", "open = q.open + 1, waits_for", "open = q.open, waits_for", settle_in_flight),
        ("project_change", "SET open = q.open + 1, since", "SET open = q.open, since", come_late),
        ("project_result", "IF is_end AND NEW.version = p.version THEN", "IF is_end THEN", settle_in_flight),
        ("project_result", "SET open = q.open - 1, since", "SET open = q.open, since", settle_in_flight),
        ("project_result", "ELSIF s.doubt_intent = sent.intent_id THEN", "ELSIF false THEN", doubt_in_flight),
        ("agree_on_doubt", "p.state = 'unknown' AND NOT s.doubt_is_answered", "false", read_back_an_older_one),
        ("project_result", "IF sent.intent_id IS NOT NULL AND NEW.outcome <> 'unknown' THEN", "IF is_end THEN",
         settle_beside_doubt),
        ("project_result", "is_delivered AND NEW.version > s.delivered_version", "is_delivered",
         deliver_an_older_one_under_suspicion),
        ("project_result", "NEW.version > s.version THEN", "true THEN", deliver_an_older_one_under_suspicion),
        ("project_result", "NEW.version >= s.known_version", "true", say_something_of_an_older_one),
        ("without_intent", "s.open_intents = 0 OR s.doubt_intent = ended", "s.open_intents = 0", doubt_twice),
    ],
)  # fmt: skip
def test_a_projection_that_goes_wrong_is_seen(
    admin: psycopg.Connection,
    history: RecordHistory,
    function: str,
    right: str,
    wrong: str,
    act: Callable[[RecordHistory], None],
) -> None:
    act(RecordHistory(history.database, "sakura"))
    row = admin.execute(f"SELECT pg_get_functiondef('sync.{function}'::regproc)").fetchone()
    assert row is not None
    assert right in row[0]
    admin.execute(row[0].replace(right, wrong))
    try:
        act(history)
    finally:
        admin.execute(row[0])
    assert history.differences() != []
