"""The product simply edits its tables; the database draws the versions and writes the update events, or refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from uuid import uuid4

import psycopg
import pytest
from conftest import fresh_database
from product_hand import CLIENT, OTHER_STAFF, STAFF, Hand, beside, new_hand, wait_for_lock

from resources.logins import Login, Logins
from zest_pipelines.local.embedded import EmbeddedServer

_SENTENCE = "no tenant is set in this transaction: run SELECT set_config('app.tenant', '<tenant id>', true) first"
# Records whose events are not one for each version, up to the one that they have now or were deleted with.
_UNRECORDED = """
    SELECT e.entity, e.record_id FROM sync.update_event e
    GROUP BY e.entity, e.record_id HAVING count(*) <> max(e.version) OR count(DISTINCT e.version) <> count(*)
    UNION
    SELECT 'visit', v.visit_id FROM schedule.visit v WHERE v.version IS DISTINCT FROM (
        SELECT max(e.version) FROM sync.update_event e WHERE e.entity = 'visit' AND e.record_id = v.visit_id)
    UNION
    SELECT 'visit_record', v.visit_id FROM schedule.visit_record v WHERE v.version IS DISTINCT FROM (
        SELECT max(e.version) FROM sync.update_event e WHERE e.entity = 'visit_record' AND e.record_id = v.visit_id)
"""


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, template: Logins) -> Iterator[Logins]:
    with fresh_database(server, template) as logins:
        yield logins


@pytest.fixture
def hand(server: EmbeddedServer, shared: Logins) -> Iterator[Hand]:
    """The product's hand at a new tenant, in a database whose triggers stay as they are."""
    with new_hand(server, shared) as made:
        yield made


@pytest.fixture
def mutable(server: EmbeddedServer, logins: Logins) -> Iterator[Hand]:
    """The product's hand in a database of the test's own."""
    with new_hand(server, logins) as made:
        yield made


def unrecorded(hand: Hand) -> list[tuple[str, object]]:
    return hand.admin.execute(_UNRECORDED).fetchall()


def add_record(hand: Hand, tx: psycopg.Connection) -> None:
    tx.execute(
        "INSERT INTO schedule.visit_record (tenant_id, visit_id, status) VALUES (%s, %s, 'absent')",
        [hand.tenant, hand.visit],
    )


def test_versions_are_drawn_by_the_database_whatever_the_product_says(hand: Hand) -> None:
    with hand.edit() as tx:
        hand.insert(tx, version=7)
    with hand.edit() as tx:
        hand.update(tx, note="a", version=9)
        hand.update(tx, note="b", version=1)
    assert hand.events() == [(1, "insert"), (2, "update"), (3, "update")]
    assert [hand.image("visit", version)["note"] for version in (1, 2, 3)] == ["", "a", "b"]
    assert unrecorded(hand) == []


def test_an_update_that_changes_nothing_is_no_version_and_no_event(hand: Hand) -> None:
    with hand.edit() as tx:
        hand.insert(tx, note="same")
        add_record(hand, tx)
        hand.update(tx, note="same", version=5)
        tx.execute("UPDATE schedule.visit_record SET client_id = NULL, staff_id = %s", [OTHER_STAFF])
    assert hand.events() == [(1, "insert")]
    assert hand.events("visit_record") == [(1, "insert")]


def test_a_record_deleted_and_inserted_again_goes_on_from_its_last_version(hand: Hand) -> None:
    for _ in range(2):
        with hand.edit() as tx:
            hand.insert(tx)
        with hand.edit() as tx:
            hand.delete(tx)
    assert hand.events() == [(1, "insert"), (2, "delete"), (3, "insert"), (4, "delete")]
    assert hand.image("visit", 2)["client_id"] == str(CLIENT)


def insert_while(hand: Hand, *others: Callable[[psycopg.Connection], object], commit: bool = True) -> None:
    """Insert the visit in a second transaction that waits for a first one's acts to be committed or undone."""

    def insert() -> None:
        with hand.edit() as tx:
            hand.insert(tx)

    with ExitStack() as stack, hand.edit() as first:
        for act in others:
            act(first)
        stack.enter_context(beside(insert))
        wait_for_lock(hand.admin)
        if not commit:
            first.rollback()


def test_an_insert_waits_for_the_delete_that_is_under_way(hand: Hand) -> None:
    with hand.edit() as tx:
        hand.insert(tx)
    insert_while(hand, hand.delete)
    assert hand.events() == [(1, "insert"), (2, "delete"), (3, "insert")]


def test_an_insert_beside_a_delete_that_is_undone_is_refused(hand: Hand) -> None:
    with hand.edit() as tx:
        hand.insert(tx)
    with pytest.raises(psycopg.errors.UniqueViolation):
        insert_while(hand, hand.delete, commit=False)
    assert hand.events() == [(1, "insert")]


def test_a_record_that_comes_and_goes_in_one_transaction_keeps_its_versions_from_the_next(hand: Hand) -> None:
    insert_while(hand, hand.insert, hand.delete)
    assert hand.events() == [(1, "insert"), (2, "delete"), (3, "insert")]


def test_without_the_lock_on_its_id_two_lives_of_a_record_would_share_a_version(mutable: Hand) -> None:
    row = mutable.admin.execute("SELECT pg_get_functiondef('sync.raise_version'::regproc)").fetchone()
    assert row is not None
    mutable.admin.execute(row[0].replace("pg_advisory_xact_lock(", "abs("))
    with pytest.raises(psycopg.errors.UniqueViolation, match="version"):
        insert_while(mutable, mutable.insert, mutable.delete)


@pytest.mark.parametrize("column", ["visit_id", "tenant_id"])
def test_a_key_cannot_be_changed(hand: Hand, column: str) -> None:
    with hand.edit() as tx:
        hand.insert(tx)
    value = {"visit_id": str(uuid4()), "tenant_id": "momiji"}[column]
    sentence = "the key of a visit cannot be changed: delete it and insert another"
    with pytest.raises(psycopg.Error, match=sentence), hand.edit() as tx:
        hand.update(tx, **{column: value})
    assert hand.events() == [(1, "insert")]


@pytest.mark.parametrize("tenant", [None, ""])
@pytest.mark.parametrize("table", ["visit", "visit_record"])
def test_an_edit_without_a_tenant_is_refused_with_the_next_step(hand: Hand, table: str, tenant: str | None) -> None:
    with psycopg.connect(hand.logins.libpq_url(Login.PRODUCT)) as tx:
        for statement in (
            f"INSERT INTO schedule.{table} (tenant_id, visit_id) VALUES ('{hand.tenant}', gen_random_uuid())",
            f"INSERT INTO schedule.{table} (tenant_id) SELECT 'anybody' WHERE false",
            f"UPDATE schedule.{table} SET note = 'a' WHERE visit_id = gen_random_uuid()",
            f"DELETE FROM schedule.{table}",
        ):
            if tenant is not None:
                tx.execute("SELECT set_config('app.tenant', %s, true)", [tenant])
            with pytest.raises(psycopg.Error) as refused:
                tx.execute(statement)
            assert (refused.value.sqlstate, refused.value.diag.message_primary) == ("ZT001", _SENTENCE)
            tx.rollback()


def test_a_tenant_is_forgotten_at_the_end_of_its_transaction(hand: Hand) -> None:
    with hand.edit() as tx:
        hand.insert(tx)
        tx.commit()
        with pytest.raises(psycopg.Error) as refused:
            hand.update(tx, note="of the next transaction")
        assert refused.value.sqlstate == "ZT001"
        tx.rollback()


def test_what_is_undone_leaves_no_event_and_no_gap(hand: Hand) -> None:
    with hand.edit() as tx:
        hand.insert(tx)
        tx.execute("SAVEPOINT before")
        hand.update(tx, note="undone")
        tx.execute("ROLLBACK TO before")
    with hand.edit() as tx:
        hand.update(tx, note="undone as well")
        hand.delete(tx)
        tx.rollback()
    with hand.edit() as tx:
        hand.update(tx, note="done")
    assert hand.events() == [(1, "insert"), (2, "update")]
    assert unrecorded(hand) == []


def test_an_event_is_there_exactly_when_its_edit_is(hand: Hand) -> None:
    with hand.edit() as tx:
        hand.insert(tx)
        assert hand.events() == []
        tx.commit()
        assert hand.events() == [(1, "insert")]
    rows = hand.admin.execute(
        """
        SELECT e.xid = v.xmin::text::xid8 FROM sync.update_event e JOIN schedule.visit v ON v.visit_id = e.record_id
        WHERE v.visit_id = %s
        """,
        [hand.visit],
    )
    assert rows.fetchall() == [(True,)]


def test_a_visit_records_event_carries_its_visits_people_and_start(hand: Hand) -> None:
    with hand.edit() as tx:
        hand.insert(tx)
        add_record(hand, tx)
    image = hand.image("visit_record", 1)
    assert (image["client_id"], image["staff_id"]) == (str(CLIENT), str(STAFF))
    assert image["visit_starts_at"].startswith("2026-12-01T00:00:00")


def test_a_visit_record_follows_its_visits_people_in_the_visits_own_transaction(hand: Hand) -> None:
    with hand.edit() as tx:
        hand.insert(tx)
        add_record(hand, tx)
    with hand.edit() as tx:
        hand.update(tx, note="the same people")
        hand.update(tx, staff_id=OTHER_STAFF)
    assert hand.events("visit_record") == [(1, "insert"), (2, "update")]
    assert hand.image("visit_record", 2)["staff_id"] == str(OTHER_STAFF)
    assert unrecorded(hand) == []


def test_a_visit_record_inserted_while_its_visits_people_change_has_the_new_ones(hand: Hand) -> None:
    with hand.edit() as tx:
        hand.insert(tx)

    def insert_record() -> None:
        with hand.edit() as tx:
            add_record(hand, tx)

    with ExitStack() as stack, hand.edit() as first:
        hand.update(first, staff_id=OTHER_STAFF)
        stack.enter_context(beside(insert_record))
        wait_for_lock(hand.admin)
        first.commit()
    assert hand.image("visit_record", 1)["staff_id"] == str(OTHER_STAFF)


def test_a_visit_and_its_record_deleted_in_one_statement_are_told_apart_and_whole(hand: Hand) -> None:
    with hand.edit() as tx:
        hand.insert(tx)
        add_record(hand, tx)
    with hand.edit() as tx:
        tx.execute(
            """
            WITH gone AS (DELETE FROM schedule.visit_record WHERE visit_id = %(visit)s)
            DELETE FROM schedule.visit WHERE visit_id = %(visit)s
            """,
            {"visit": hand.visit},
        )
    assert (hand.events()[-1], hand.events("visit_record")[-1]) == ((2, "delete"), (2, "delete"))
    image = hand.image("visit_record", 2)
    assert image["client_id"] == str(CLIENT)
    assert image["visit_starts_at"] == hand.image("visit_record", 1)["visit_starts_at"]


def write_often(hand: Hand, number: int, times: int) -> None:
    """Edit the visit so often, each time in a transaction of its own; every second writer by upserts."""
    for turn in range(times):
        with hand.edit() as tx:
            if number % 2:
                hand.update(tx, note=f"{number} {turn}")
            else:
                tx.execute(
                    """
                    INSERT INTO schedule.visit SELECT * FROM schedule.visit WHERE visit_id = %s
                    ON CONFLICT (tenant_id, visit_id) DO UPDATE SET note = %s
                    """,
                    [hand.visit, f"{number} {turn}"],
                )


def test_four_writers_of_one_record_draw_rising_versions_without_a_gap(hand: Hand) -> None:
    with hand.edit() as tx:
        hand.insert(tx)
    with ExitStack() as stack:
        for number in range(4):
            stack.enter_context(beside(partial(write_often, hand, number, 10)))
    assert [version for version, _ in hand.events()] == list(range(1, 42))
    assert unrecorded(hand) == []


def test_the_triggers_fire_even_for_who_replays_a_replica(hand: Hand) -> None:
    hand.admin.execute("SET session_replication_role = replica")
    with hand.admin.transaction():
        hand.admin.execute("SELECT set_config('app.tenant', %s, true)", [hand.tenant])
        hand.insert(hand.admin)
    assert hand.events() == [(1, "insert")]


@pytest.mark.parametrize("trigger", ["b_raise_version", "c_write_update_event"])
def test_a_trigger_that_is_missing_is_seen(mutable: Hand, trigger: str) -> None:
    with mutable.edit() as tx:
        mutable.insert(tx)
    mutable.admin.execute(f"ALTER TABLE schedule.visit DISABLE TRIGGER {trigger}")
    with mutable.edit() as tx:
        mutable.update(tx, note="unseen", version=9)
    assert unrecorded(mutable) != []


def test_a_masters_version_rises_with_each_change_of_it(hand: Hand) -> None:
    with hand.edit(Login.APPLY) as tx:
        tx.execute(
            """
            INSERT INTO schedule.staff (tenant_id, staff_id, family_name, given_name, family_kana, given_kana,
                                        qualification, active)
            VALUES (%s, %s, '鈴木', '一郎', '', '', '', true)
            """,
            [hand.tenant, STAFF],
        )
        for name in ("一郎", "二郎", "二郎", "三郎"):
            tx.execute("UPDATE schedule.staff SET given_name = %s, version = 99", [name])
        row = tx.execute("SELECT version FROM schedule.staff").fetchone()
    assert row == (3,)
    events = hand.admin.execute("SELECT count(*) FROM sync.update_event WHERE tenant_id = %s", [hand.tenant])
    assert events.fetchone() == (0,)
