"""How far a request has come, as the product's button and an operator's command read it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from way_out import MONTH, WayOut, ended, way_out

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.core.outcome import Outcome, RepairOutcome
from zest_pipelines.core.weeks import Days
from zest_pipelines.store import releases, requests
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.keys import Key
from zest_pipelines.store.requests import RequestStatus, Selection
from zest_pipelines.store.results import Repair, Result

WEEK = Days(date(2026, 11, 23), date(2026, 11, 29))
COUNTS = ("delivered", "waiting", "retrying", "action_needed", "check_needed", "not_needed")


@pytest.fixture
def out(database: Database) -> WayOut:
    return way_out(database)


def edit(out: WayOut, record: UUID | None = None, version: int = 1, **columns: Any) -> Key:
    """A version that was edited just now; of a new visit unless a record is given."""
    key = Key(MONTH, Entity.VISIT, record or uuid4(), version)
    return out.change(key, **{"edited_at": datetime.now(UTC), "on_date": WEEK.first} | columns)


def press(out: WayOut, days: Days = WEEK) -> UUID:
    with out.transaction(Login.OPERATOR) as tx:
        return requests.push(tx, out.target, days).request_id


def press_again(out: WayOut, *named: Any, **group: Any) -> UUID:
    with out.transaction(Login.OPERATOR) as tx:
        return requests.retry(tx, out.target, Selection(*named, **group))


def status(out: WayOut, request: UUID) -> RequestStatus:
    with out.transaction(Login.OPERATOR) as tx:
        return requests.status(tx, request)


def counts(found: RequestStatus) -> dict[str, int]:
    """Those that are not zero. They must add up."""
    told = {name: getattr(found, name) for name in COUNTS}
    assert sum(told.values()) == found.total
    return {name: number for name, number in told.items() if number}


def stop(out: WayOut, outcome: Outcome = Outcome.PARKED, reason: str = "record_refused") -> Key:
    """A record that the partner did not take."""
    key = edit(out)
    assert out.store(ended(out.intend(key), outcome, reason)) == ()
    return key


def let_go(out: WayOut, key: Key) -> None:
    """What a push does to a stopped record that was asked for again."""
    out.store(Result(key, Outcome.RELEASED, "asked_again"))


def stop_suspect(out: WayOut, outcome: RepairOutcome = RepairOutcome.PARKED) -> Key:
    """A delivered record that a late sender may have touched, and that was looked at in vain."""
    key = edit(out)
    late = out.intend(key)
    out.deliver(key)
    out.repair(Repair(key, RepairOutcome.SUSPECTED, "late_answer", intent_id=late.intent_id))
    out.repair(Repair(key, outcome, "late_answer_unsure"))
    return key


def look_again(out: WayOut, key: Key) -> None:
    """What a push does to a suspect that was asked for again."""
    out.repair(Repair(key, RepairOutcome.SUSPECTED, "asked_again"))


def test_each_record_of_the_days_counts_once_by_how_it_stands(out: WayOut) -> None:
    out.deliver(edit(out))
    edit(out)
    edit(out, client=uuid4())
    stop(out, Outcome.RETRY, "partner_busy")
    stop(out)
    stop(out, Outcome.CONFLICT, "changed_at_partner")
    out.store(Result(edit(out), Outcome.NOT_NEEDED))
    edit(out, on_date=WEEK.last + timedelta(days=1))

    found = status(out, press(out))

    assert counts(found) == {
        "delivered": 1,
        "waiting": 2,
        "retrying": 1,
        "action_needed": 1,
        "check_needed": 1,
        "not_needed": 1,
    }
    assert (found.kind, found.from_date, found.to_date) == ("push", WEEK.first, WEEK.last)
    assert not found.is_done


def test_a_push_request_is_done_when_nothing_of_it_goes_by_itself(out: WayOut) -> None:
    key = edit(out)
    stop(out)
    edit(out, client=uuid4())  # of a client that the partner does not know: nobody can say when it goes
    request = press(out)
    assert not status(out, request).is_done
    out.deliver(key)
    assert counts(status(out, request)) == {"delivered": 1, "waiting": 1, "action_needed": 1}
    assert status(out, request).is_done


def test_days_without_a_record_are_done(out: WayOut) -> None:
    found = status(out, press(out))
    assert (found.total, found.is_done) == (0, True)


@pytest.mark.parametrize(
    ("days", "what"),
    [
        ("DATE '2026-12-02', DATE '2026-12-01'", "the first not after the last"),
        ("NULL, DATE '2026-12-01'", "give the first and the last"),
        ("DATE '2026-12-01', NULL", "give the first and the last"),
        ("DATE '-infinity', DATE 'infinity'", "no visit lies outside"),
        ("DATE '4713-01-01 BC', DATE '2026-12-01'", "no visit lies outside"),
    ],
)
def test_days_that_cannot_be_pushed_are_refused_in_words(out: WayOut, days: str, what: str) -> None:
    with pytest.raises(StoreError, match=what):
        out.sql(f"SELECT sync.request_push(:tenant, :partner, {days})", Login.PRODUCT)


def test_an_edit_that_was_not_read_yet_keeps_the_request_open_and_one_made_since_does_not(out: WayOut) -> None:
    early = press(out)
    out.sql(
        """
        INSERT INTO schedule.visit (tenant_id, visit_id, client_id, starts_at, ends_at, status)
        VALUES (:tenant, :id, :client, now(), now() + interval '1 hour', 'confirmed')
        """,
        Login.PRODUCT,
        id=uuid4(),
        client=out.client,
    )
    assert status(out, early).is_done
    assert not status(out, press(out)).is_done


@pytest.mark.parametrize("timing", ["minute", "week"])
def test_a_record_that_was_edited_since_counts_by_its_newest_version_and_holds_nothing_up(
    database: Database, timing: str
) -> None:
    out = way_out(database, timing=timing)
    key = edit(out)
    request = press(out)
    edit(out, key.record_id, 2)
    assert counts(status(out, request)) == {"waiting": 1}
    assert status(out, request).is_done
    assert not status(out, press(out)).is_done


def test_a_delivered_record_that_a_late_sender_may_have_touched_is_not_done(out: WayOut) -> None:
    key = edit(out)
    late = out.intend(key)
    out.deliver(key)
    request = press(out)
    out.repair(Repair(key, RepairOutcome.SUSPECTED, "late_answer", intent_id=late.intent_id))
    assert (counts(status(out, request)), status(out, request).is_done) == ({"retrying": 1}, False)
    out.repair(Repair(key, RepairOutcome.EQUAL))
    assert (counts(status(out, request)), status(out, request).is_done) == ({"delivered": 1}, True)


def test_a_retry_request_covers_what_was_stopped_when_it_was_made(out: WayOut) -> None:
    first, second = stop(out), stop(out)
    edit(out)
    request = press_again(out)
    later = stop(out)
    found = status(out, request)
    assert (counts(found), found.is_done) == ({"action_needed": 2}, False)
    assert (found.kind, found.from_date, found.to_date) == ("retry", None, None)

    let_go(out, first)
    assert (counts(status(out, request)), status(out, request).is_done) == ({"waiting": 1, "action_needed": 1}, False)
    out.deliver(first)
    let_go(out, second)
    out.store(ended(out.intend(second), Outcome.PARKED, "record_refused"))
    assert (counts(status(out, request)), status(out, request).is_done) == ({"delivered": 1, "action_needed": 1}, True)

    press_again(out)
    let_go(out, later)
    assert counts(status(out, request)) == {"delivered": 1, "action_needed": 1}  # it was not stopped at that time


def test_a_retry_request_for_one_record_or_one_kind_covers_no_other(out: WayOut) -> None:
    one, other = stop(out), stop(out)
    of_one = press_again(out, Entity.VISIT, one.record_id)
    of_kind, of_none = press_again(out, Entity.VISIT), press_again(out, Entity.VISIT_RECORD)
    assert [status(out, each).total for each in (of_one, of_kind, of_none)] == [1, 2, 0]
    for key in (one, other):
        let_go(out, key)
        out.deliver(key)
    assert [status(out, each).delivered for each in (of_one, of_kind, of_none)] == [1, 2, 0]


def released(out: WayOut) -> set[UUID]:
    """What the next push releases, and looks at again, because somebody asked for it."""
    with out.transaction() as tx:
        found = (*releases.asked_again(tx, out.target), *releases.suspects_asked_again(tx, out.target))
    return {key.record_id for key in found}


def is_due(out: WayOut) -> bool:
    return out.tenant in out.outbound()


def test_a_group_is_asked_for_again_by_its_reason_or_its_days_and_nothing_else_is(out: WayOut) -> None:
    refused, taken = stop(out), stop(out, reason="slot_taken")
    late, suspect = edit(out, on_date=WEEK.last + timedelta(days=1)), stop_suspect(out)
    out.store(ended(out.intend(late), Outcome.PARKED, "record_refused"))
    assert (released(out), is_due(out)) == (set(), False)
    with out.transaction(Login.OPERATOR) as tx:
        shown = requests.groups(tx, out.target, Selection(reason="record_refused", days=WEEK))
    assert [(each.entity, each.state, each.reason, each.records) for each in shown] == [
        (Entity.VISIT, "parked", "record_refused", 1)
    ]

    of_reason = press_again(out, reason="slot_taken")
    assert (released(out), is_due(out)) == ({taken.record_id}, True)
    of_both = press_again(out, reason="record_refused", days=WEEK)
    assert released(out) == {taken.record_id, refused.record_id}
    of_days = press_again(out, days=WEEK)
    assert released(out) == {taken.record_id, refused.record_id, suspect.record_id}
    of_doubt = press_again(out, reason="late_answer_unsure")
    asked = (of_reason, of_both, of_days, of_doubt)
    assert [status(out, each).total for each in asked] == [1, 1, 3, 1]

    for key in (refused, taken):
        let_go(out, key)
        out.deliver(key)
    look_again(out, suspect)
    assert [status(out, each).total for each in asked] == [1, 1, 3, 1]
    assert [status(out, each).delivered for each in asked] == [1, 1, 2, 0]
    assert status(out, of_both).is_done
    assert (status(out, of_days).from_date, status(out, of_days).to_date) == (WEEK.first, WEEK.last)
    assert released(out) == set()


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("NULL, NULL, 'no_such_reason'", "there is no such reason"),
        ("NULL, NULL, NULL, DATE '2026-12-01'", "give both days"),
        ("NULL, NULL, NULL, DATE '2026-12-02', DATE '2026-12-01'", "give both days"),
    ],
)
def test_a_group_that_cannot_be_meant_is_refused_in_words(out: WayOut, given: str, what: str) -> None:
    with pytest.raises(StoreError, match=what):
        out.sql(f"SELECT sync.request_retry(:tenant, :partner, {given})", Login.PRODUCT)


@pytest.mark.parametrize("stopped", [RepairOutcome.PARKED, RepairOutcome.RETRY])
def test_a_retry_request_covers_a_suspicion_that_had_stopped_until_it_was_looked_into(
    out: WayOut, stopped: RepairOutcome
) -> None:
    key = stop_suspect(out, stopped)
    badge = "check_needed" if stopped is RepairOutcome.PARKED else "retrying"
    request = press_again(out)
    assert (counts(status(out, request)), status(out, request).is_done) == ({badge: 1}, False)
    look_again(out, key)
    assert (counts(status(out, request)), status(out, request).is_done) == ({"retrying": 1}, False)
    assert status(out, press_again(out)).total == 0  # it is under way: there is nothing to try again
    out.repair(Repair(key, RepairOutcome.PARKED, "late_answer_unsure"))
    assert (counts(status(out, request)), status(out, request).is_done) == ({"check_needed": 1}, True)

    again = press_again(out)
    look_again(out, key)
    out.repair(Repair(key, RepairOutcome.EQUAL))
    found = [status(out, each) for each in (request, again)]
    assert [(counts(each), each.is_done) for each in found] == [({"delivered": 1}, True)] * 2


def test_a_retry_request_for_one_record_covers_its_suspicion_alone_and_none_that_came_later(out: WayOut) -> None:
    one = stop_suspect(out)
    stop_suspect(out)
    of_one = press_again(out, Entity.VISIT, one.record_id)
    of_kind, of_none = press_again(out, Entity.VISIT), press_again(out, Entity.VISIT_RECORD)
    later = stop_suspect(out)
    assert [status(out, each).total for each in (of_one, of_kind, of_none)] == [1, 2, 0]
    press_again(out)
    for key in (one, later):
        look_again(out, key)
    assert [status(out, each).total for each in (of_one, of_kind, of_none)] == [1, 2, 0]


def test_a_suspect_with_a_newer_version_counts_once_and_is_held_up_by_no_later_edit(out: WayOut) -> None:
    key = stop_suspect(out)
    newer = edit(out, key.record_id, 2)
    out.store(ended(out.intend(newer), Outcome.PARKED, "record_refused"))
    request = press_again(out)
    assert (counts(status(out, request)), status(out, request).is_done) == ({"action_needed": 1}, False)
    let_go(out, newer)
    look_again(out, key)
    assert (counts(status(out, request)), status(out, request).is_done) == ({"waiting": 1}, False)
    edit(out, key.record_id, 3)
    assert (counts(status(out, request)), status(out, request).is_done) == ({"waiting": 1}, True)


def test_two_presses_for_the_same_come_as_far(out: WayOut) -> None:
    key = edit(out)
    requests_made = [press(out), press(out)]
    assert [status(out, each).is_done for each in requests_made] == [False, False]
    out.deliver(key)
    assert [counts(status(out, each)) for each in requests_made] == [{"delivered": 1}] * 2
    assert [status(out, each).is_done for each in requests_made] == [True, True]


def test_the_product_reads_it_and_nobody_reads_another_tenants(out: WayOut, database: Database) -> None:
    edit(out)
    request = press(out)
    (row,) = out.sql("SELECT * FROM sync.request_status(:request)", Login.PRODUCT, request=request)
    assert (row.request_id, row.tenant_id, row.partner, row.waiting) == (request, out.tenant, out.target.partner, 1)
    other = way_out(database, tenant="momiji")
    for asked in (request, uuid4()):
        with pytest.raises(StoreError, match="this tenant has no such request: give the id"):
            status(other, asked)
