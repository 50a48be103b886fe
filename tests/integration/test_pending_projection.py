"""The pending projection: the holes that one like it has are closed, two writers at once agree, the audit sees a lie.

Its laws for any order of acts are in tests/property/test_pending_laws.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import psycopg
import pytest
from conftest import fresh_database
from pending_history import RecordHistory
from product_hand import beside, wait_for_lock

from resources.logins import Login, Logins
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import projection
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import ConstraintError


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


def test_an_older_version_left_open_would_be_seen(history: RecordHistory) -> None:
    for version in (1, 2, 3):
        history.change(version)
    history.result(3, "delivered", history.intend(3), settle_older=False)
    assert history.differences() == [(None, 2)]


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
    assert history.pending() == (2, "unknown")
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
    history.result(1, "retry", intent)
    history.result(1, "unknown", intent)
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
    history.result(1, "retry", first)
    for outcome in ("retry", "delivered"):
        with pytest.raises(ConstraintError) as refused:
            history.result(1, outcome, first)
        assert refused.value.is_duplicate
    history.result(1, "delivered", second)
    with pytest.raises(ConstraintError) as refused:
        history.result(1, "abandoned")
    assert refused.value.is_duplicate


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


@pytest.mark.parametrize(
    ("lie", "seen"),
    [
        ("DELETE FROM sync.pending WHERE record_id = %s", (None, 2)),
        ("UPDATE sync.pending SET version = 1 WHERE record_id = %s", (1, 2)),
        ("UPDATE sync.pending SET on_date = on_date + 1 WHERE record_id = %s", (2, 2)),
        ("UPDATE sync.pending SET state = 'unknown' WHERE record_id = %s", (2, 2)),
        ("UPDATE sync.pending SET record_id = gen_random_uuid() WHERE record_id = %s", (None, 2)),
    ],
)
def test_the_audit_sees_a_pending_row_that_lies(
    admin: psycopg.Connection, history: RecordHistory, lie: str, seen: tuple[int | None, int]
) -> None:
    history.change(1)
    history.change(2)
    assert history.differences() == []
    admin.execute(lie, [history.record])
    assert history.differences() == [seen]


def test_the_audit_looks_at_one_tenant(admin: psycopg.Connection, history: RecordHistory) -> None:
    history.change(1)
    admin.execute("DELETE FROM sync.pending WHERE record_id = %s", [history.record])
    with history.database.transaction(Login.OPERATOR, "momiji") as tx:
        assert projection.rebuild_pending(tx) == ()


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


@pytest.mark.parametrize(
    ("function", "right", "wrong", "act"),
    [
        ("project_change", "p.version < excluded.version", "true", come_late),
        ("project_result", "p.record_id = NEW.record_id AND p.version = NEW.version;", "true;", settle_in_flight),
        ("project_result", "p.version > NEW.version AND NEW.outcome = 'unknown'", "false", doubt_in_flight),
    ],
)
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
    assert len(history.differences()) == 1
