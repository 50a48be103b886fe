"""What a push stores: many rows at once, and an answer that comes too late is noticed and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, timedelta
from uuid import uuid4

import psycopg
import pytest
from conftest import fresh_database
from product_hand import beside, wait_for_lock
from way_out import MONTH, NOON, WayOut, delivered, ended, way_out

from partners.contract import Entity, Verb
from resources.logins import Login, Logins
from zest_pipelines.core.outcome import Outcome, RepairOutcome
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import projection, results
from zest_pipelines.store.database import Database
from zest_pipelines.store.keys import Key
from zest_pipelines.store.results import Intent, Repair, Result


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, template: Logins) -> Iterator[Database]:
    """The database of all tests here."""
    with fresh_database(server, template) as logins:
        database = Database(logins)
        yield database
        database.close()


@pytest.fixture
def out(shared: Database) -> WayOut:
    return way_out(shared)


@pytest.fixture
def other(out: WayOut) -> Iterator[WayOut]:
    """The same connection from another process."""
    database = Database(out.database._logins)
    yield replace(out, database=database)
    database.close()


def test_intents_and_results_of_many_records_are_stored_as_they_were_given(out: WayOut) -> None:
    keys = [out.change(), out.change(), out.change(month=MONTH, key=Key(MONTH, Entity.VISIT_RECORD, uuid4(), 3))]
    intents = [
        Intent(uuid4(), keys[0], Verb.CREATE, "a:1", {"client": "C"}, None, None),
        Intent(uuid4(), keys[1], Verb.UPDATE, 'b "2"', {}, "p/2", 'W/"7"'),
        Intent(uuid4(), keys[2], Verb.CANCEL, "c:3", {}, "p3", None),
    ]
    with out.transaction() as tx:
        results.add_intents(tx, out.target, 4, intents)
    later = NOON + timedelta(hours=1)
    stored = [
        delivered(intents[0], "p1", "1"),
        ended(intents[1], Outcome.CONFLICT, "partner_changed", params={"field": "note"}, theirs={"note": "x"}),
        ended(intents[2], Outcome.RETRY, not_before=later),
    ]
    assert out.store(*stored) == ()

    written = out.sql(
        """
        SELECT intent_id, month, version, epoch, verb, key, links, partner_id, partner_version FROM sync.intent
        WHERE partner = :partner
        """
    )
    assert {row.intent_id: tuple(row)[1:] for row in written} == {
        each.intent_id: (
            each.key.month,
            each.key.version,
            4,
            each.verb,
            each.idempotency_key,
            each.links,
            each.partner_id,
            each.partner_version,
        )
        for each in intents
    }
    rows = out.sql(
        """
        SELECT intent_id, outcome, reason, params, partner_id, partner_version, not_before, theirs FROM sync.result
        WHERE partner = :partner
        ORDER BY intent_id
        """
    )
    wanted = [
        (intents[0].intent_id, "delivered", None, {}, "p1", "1", None, None),
        (intents[1].intent_id, "conflict", "partner_changed", {"field": "note"}, None, None, None, {"note": "x"}),
        (intents[2].intent_id, "retry", "busy", {}, None, None, later, None),
    ]
    assert [tuple(row) for row in rows] == sorted(wanted)


def test_nothing_to_store_is_no_statement(out: WayOut) -> None:
    with out.transaction() as tx:
        results.add_intents(tx, out.target, 1, [])
        assert results.add_results(tx, out.target, []) == ()
        assert results.supersede_older(tx, out.target, []) == 0
        results.add_repairs(tx, out.target, [])


@pytest.mark.parametrize("late", [Outcome.DELIVERED, Outcome.UNKNOWN, Outcome.RETRY, Outcome.PARKED, Outcome.CONFLICT])
def test_an_answer_to_an_intent_that_has_ended_comes_too_late_whatever_it_says(out: WayOut, late: Outcome) -> None:
    intent = out.intend(out.change())
    assert out.store(ended(intent, Outcome.RETRY, "not_arrived")) == ()
    came = delivered(intent) if late is Outcome.DELIVERED else ended(intent, late)

    assert out.store(came) == (came,)
    assert out.outcomes(intent.key.record_id) == [(1, "retry")]
    assert [each.doubt for each in out.due()] == [None]


def test_an_answer_about_a_version_that_has_ended_comes_too_late(out: WayOut) -> None:
    first, second = (out.intend(key) for key in [out.change()] * 2)
    assert out.store(delivered(second)) == ()

    assert out.store(delivered(first, "double")) == (delivered(first, "double"),)
    assert out.outcomes(first.key.record_id) == [(1, "delivered")]


def test_of_two_answers_about_one_version_the_late_one_is_told_apart(out: WayOut) -> None:
    key = out.change()
    first = out.intend(key)
    out.store(ended(first, Outcome.RETRY, "not_arrived"))
    second = out.intend(key)
    assert out.store(delivered(second), ended(first, Outcome.UNKNOWN, "no_answer")) == (
        ended(first, Outcome.UNKNOWN, "no_answer"),
    )


def test_an_unknown_answer_may_be_followed_by_another_and_by_an_end(out: WayOut) -> None:
    intent = out.intend(out.change())
    for _ in range(2):
        assert out.store(ended(intent, Outcome.UNKNOWN, "no_answer")) == ()
    assert out.store(delivered(intent)) == ()
    assert out.outcomes(intent.key.record_id) == [(1, "unknown"), (1, "unknown"), (1, "delivered")]


def test_of_many_answers_the_late_ones_alone_are_returned(out: WayOut) -> None:
    intents = [out.intend(out.change()) for _ in range(4)]
    out.store(delivered(intents[1]), ended(intents[3], Outcome.RETRY))

    answers = [delivered(intents[0]), delivered(intents[1]), ended(intents[2], Outcome.UNKNOWN), delivered(intents[3])]
    assert out.store(*answers) == (answers[1], answers[3])
    assert [out.outcomes(each.key.record_id)[-1][1] for each in intents] == [
        "delivered",
        "delivered",
        "unknown",
        "retry",
    ]


def test_two_answers_about_one_record_are_stored_in_their_order(out: WayOut) -> None:
    intent = out.intend(out.change())
    assert out.store(ended(intent, Outcome.PARKED), Result(intent.key, Outcome.RELEASED, "asked_again")) == ()
    assert out.outcomes(intent.key.record_id) == [(1, "parked"), (1, "released")]
    assert out.due_keys() == [intent.key]


def test_a_late_unknown_is_seen_also_where_the_intent_is_ended_at_the_same_time(
    server: EmbeddedServer, out: WayOut, other: WayOut
) -> None:
    intent = out.intend(out.change())
    answer, late = ended(intent, Outcome.UNKNOWN, "no_answer"), []

    def come_late() -> None:
        late.append(other.store(answer))

    with ExitStack() as stack, out.transaction() as tx:
        assert results.add_results(tx, out.target, [ended(intent, Outcome.RETRY, "not_arrived")]) == ()
        stack.enter_context(beside(come_late))
        with psycopg.connect(server.admin_url, dbname=out.database._logins.database, autocommit=True) as admin:
            wait_for_lock(admin)
    assert late == [(answer,)]
    assert out.outcomes(intent.key.record_id) == [(1, "retry")]


def test_older_versions_end_with_the_newer_one_and_with_no_other(out: WayOut) -> None:
    record, other = uuid4(), out.change()
    first, second, third, fourth = (out.change(Key(MONTH, Entity.VISIT, record, version)) for version in (1, 2, 3, 4))
    out.store(ended(out.intend(first), Outcome.PARKED), Result(second, Outcome.NOT_NEEDED))
    sent = out.intend(third)
    with out.transaction() as tx:
        assert results.add_results(tx, out.target, [delivered(sent)]) == ()
        assert results.supersede_older(tx, out.target, [third, other]) == 1
        assert results.supersede_older(tx, out.target, [third]) == 0
    assert out.outcomes(record) == [(1, "parked"), (2, "not_needed"), (3, "delivered"), (1, "superseded")]
    assert out.due_keys() == [other, fourth]


def test_giving_up_a_newer_version_does_not_end_the_one_whose_sending_is_in_doubt(out: WayOut) -> None:
    record = uuid4()
    first, _, third = (out.change(Key(MONTH, Entity.VISIT, record, version)) for version in (1, 2, 3))
    sent = out.intend(first)
    with out.transaction() as tx:
        results.add_results(tx, out.target, [Result(third, Outcome.ABANDONED, "abandoned_by_person")])
        assert results.supersede_older(tx, out.target, [third]) == 1
    assert out.outcomes(record) == [(3, "abandoned"), (2, "superseded")]
    assert out.due_keys() == [first]
    assert out.store(delivered(sent)) == ()  # not too late: that it is there is learnt
    assert out.due() == ()


def test_older_versions_of_other_months_end_too(out: WayOut) -> None:
    record = uuid4()
    keys = [out.change(Key(date(2026, month, 1), Entity.VISIT, record, month)) for month in (9, 10, 11)]
    out.deliver(keys[2])
    with out.transaction() as tx:
        assert results.supersede_older(tx, out.target, keys[2:]) == 2
    assert out.outcomes(record) == [(11, "delivered"), (9, "superseded"), (10, "superseded")]
    assert out.due() == ()


def test_a_late_answer_makes_the_record_suspect_until_it_was_read_again(out: WayOut) -> None:
    key = out.change()
    late = out.intend(key)
    out.store(ended(late, Outcome.RETRY, "not_arrived"))
    out.deliver(key, partner_id="p/1", version="1")
    assert out.store(delivered(late, "p/2", "1")) == (delivered(late, "p/2", "1"),)
    suspicion = Repair(key, RepairOutcome.SUSPECTED, "late_answer", intent_id=late.intent_id)

    out.repair(suspicion)
    (suspect,) = out.suspects()
    assert (suspect.key, suspect.image, suspect.verb) == (key, {"version": 1}, Verb.UPDATE)
    assert (suspect.partner_id, suspect.partner_version, suspect.links) == ("p/1", "1", {"client": "C"})
    assert (suspect.attempts, suspect.doubt) == (0, None)
    assert out.outbound() == (out.tenant,)

    out.repair(Repair(key, RepairOutcome.EQUAL, partner_id="p/1", partner_version="2"))
    assert out.suspects() == ()
    assert out.outbound() == ()


def test_what_becomes_of_a_suspicion_is_when_and_how_it_is_read_again(out: WayOut) -> None:
    key = out.change()
    out.deliver(key)
    out.repair(Repair(key, RepairOutcome.SUSPECTED, "late_answer"))
    out.repair(Repair(key, RepairOutcome.RETRY, "busy", not_before=NOON + timedelta(days=36500)))
    assert out.suspects() == ()
    out.repair(Repair(key, RepairOutcome.RETRY, "busy"))
    assert [each.attempts for each in out.suspects()] == [2]
    out.repair(Repair(key, RepairOutcome.PARKED, "late_answer_unsure"))
    assert out.suspects() == ()
    out.repair(Repair(key, RepairOutcome.SUSPECTED, "late_answer"))
    assert len(out.suspects()) == 1
    out.deliver(out.change(replace(key, version=2)), Verb.UPDATE)
    assert out.suspects() == ()


def audited(out: WayOut) -> list[tuple[str, ...]]:
    """The parts in which the audit finds the partner's records wrong."""
    with out.transaction(Login.OPERATOR) as tx:
        return [each.parts for each in projection.differences(tx) if each.partner == out.partner]


def test_a_look_answers_the_suspicions_that_came_before_it_alone(out: WayOut) -> None:
    key = out.change()
    out.deliver(key)
    suspicion = Repair(key, RepairOutcome.SUSPECTED, "late_answer")
    out.repair(suspicion)
    (first,) = out.suspects()
    out.repair(suspicion)  # while the partner is looked at
    out.repair(Repair(key, RepairOutcome.EQUAL, looked_at=first.claimed_at))
    (second,) = out.suspects()
    assert audited(out) == []
    out.repair(Repair(key, RepairOutcome.EQUAL, looked_at=second.claimed_at))
    assert (out.suspects(), audited(out)) == ((), [])


@pytest.mark.parametrize("by", ["repair", "newer version"])
def test_a_write_answers_the_suspicions_that_came_before_it_was_sent_alone(out: WayOut, by: str) -> None:
    key = out.change()
    out.deliver(key)
    suspicion = Repair(key, RepairOutcome.SUSPECTED, "late_answer")
    out.repair(suspicion)
    newer = key if by == "repair" else out.change(replace(key, version=2))
    sent = out.intend(newer, Verb.UPDATE, ":repair:1" if by == "repair" else "", partner_id="there")
    out.repair(suspicion)  # while it is under way
    if by == "repair":
        out.repair(Repair(key, RepairOutcome.REPAIRED, None, {}, sent.intent_id, "there", "3"))
    else:
        out.store(delivered(sent))
    assert (len(out.suspects()), audited(out)) == (1, [])


def test_a_repair_that_died_is_in_doubt_and_its_end_is_a_repair(out: WayOut) -> None:
    key = out.change()
    out.deliver(key)
    out.repair(Repair(key, RepairOutcome.SUSPECTED, "late_answer"))
    intent = out.intend(key, Verb.UPDATE, ":repair:12345678", partner_id="there", partner_version="1")

    assert out.suspects(under_way=timedelta(minutes=1)) == ()
    (suspect,) = out.suspects()
    assert suspect.doubt is not None
    assert (suspect.doubt.intent_id, suspect.doubt.is_repair, suspect.doubt.key) == (intent.intent_id, True, key)
    assert (suspect.doubt.verb, suspect.doubt.image) == (Verb.UPDATE, {"version": 1})

    out.repair(Repair(key, RepairOutcome.UNKNOWN, "no_answer", intent_id=intent.intent_id))
    (suspect,) = out.suspects(under_way=timedelta(minutes=1))
    assert suspect.doubt is not None
    out.repair(Repair(key, RepairOutcome.REPAIRED, None, {}, intent.intent_id, "there", "3"))
    assert out.suspects() == ()
    (row,) = out.sql("SELECT partner_version, doubt_intent FROM sync.standing WHERE partner = :partner")
    assert tuple(row) == ("3", None)


def test_a_record_with_a_newer_version_open_is_not_read_again_for_its_own_sake(out: WayOut) -> None:
    key = out.change()
    out.deliver(key)
    out.repair(Repair(key, RepairOutcome.SUSPECTED, "late_answer"))
    newer = out.change(replace(key, version=2))
    assert out.suspects() == ()
    assert out.due_keys() == [newer]


def test_a_suspect_that_was_never_delivered_has_nothing_to_compare_with(out: WayOut) -> None:
    key = out.change()
    late = out.intend(key)
    out.store(ended(late, Outcome.RETRY, "not_arrived"))
    out.store(Result(key, Outcome.ABANDONED, "abandoned"))
    out.repair(Repair(key, RepairOutcome.SUSPECTED, "late_answer", intent_id=late.intent_id, partner_id="p"))
    (suspect,) = out.suspects()
    assert (suspect.key.record_id, suspect.key.version, suspect.image) == (key.record_id, 0, None)
    assert suspect.partner_id == "p"
