"""Hands other than ours on a record: the partner's people, a sender that comes back late, a person who decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from evidence import is_told
from flow_bench import accumulate_all, beside, expire_lease, forget_backoff, push_now
from partner import PROOFS, Office, connect, truth
from partner_process import RunningPartner

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.core.alarm import detail_of
from zest_pipelines.core.outcome import RepairOutcome
from zest_pipelines.flows import classify
from zest_pipelines.flows.alerts import look
from zest_pipelines.flows.reports import PushReport
from zest_pipelines.store import claims, classifications, due, results
from zest_pipelines.store.database import Database
from zest_pipelines.store.keys import Target
from zest_pipelines.store.results import Repair

NewOffice = Callable[..., Office]


@pytest.fixture
def new_office(database: Database, partner: RunningPartner) -> NewOffice:
    """A tenant at the partner of that class."""

    def add(name: str, on_conflict: str = "hold") -> Office:
        office = connect(database, "sakura", PROOFS[f"proof_{name}"], partner.url)
        office.sql("UPDATE sync.connection SET on_conflict = :policy", Login.OPERATOR, policy=on_conflict)
        return office

    return add


def patient(office: Office) -> Office:
    """The office, which does not look for half an hour what became of a call without an answer."""
    return replace(office, services=replace(office.services, under_way=timedelta(minutes=30)))


def outcomes(office: Office, record: UUID) -> list[tuple[int, str, str | None]]:
    """(version, outcome, reason) of every result of a record, in order."""
    rows = office.sql(
        "SELECT version, outcome, reason FROM sync.result WHERE record_id = :id ORDER BY result_no",
        Login.OPERATOR,
        id=record,
    )
    return [(row.version, row.outcome, row.reason) for row in rows]


def repairs(office: Office) -> list[str]:
    return [row.outcome for row in office.sql("SELECT outcome FROM sync.repair ORDER BY repair_no", Login.OPERATOR)]


def badge(office: Office, record: UUID) -> tuple[str, str | None]:
    (row,) = office.sql("SELECT badge, reason FROM sync.badge WHERE record_id = :id", id=record)
    return row.badge, row.reason


def due_tenants(office: Office) -> tuple[str, ...]:
    with office.services.database.transaction(Login.SCHEDULE, None) as tx:
        return due.outbound(tx, office.partner.name, office.partner.mapping_version)


def writes(partner: RunningPartner) -> list[tuple[int, str]]:
    """(version sent, effect) of every write, in order."""
    return [(row["version"], row["effect"]) for row in partner.log() if row["method"] in ("POST", "PUT")]


def note_of(partner: RunningPartner, record: UUID) -> str:
    (copy,) = [copy for copy in partner.state() if copy["record_id"] == str(record)]
    return str(copy["content"]["note"])


def edited_there(office: Office, partner: RunningPartner, record: UUID, **content: Any) -> None:
    partner.edit(*office.space, record, **content)


def changed_on_both_sides(office: Office, partner: RunningPartner) -> UUID:
    """A visit that was delivered, and then changed there and here."""
    (visit,) = office.add_visits()
    push_now(office)
    edited_there(office, partner, visit, note="theirs")
    office.edit(visit, note="ours")
    return visit


# --- The partner's people ---------------------------------------------------------------------------------------------

NOTICING = ["client_id", "search", "version"]


@pytest.mark.parametrize("name", NOTICING)
def test_a_copy_that_was_changed_there_is_held_with_both_values_and_not_written_over(
    new_office: NewOffice, partner: RunningPartner, name: str
) -> None:
    office = new_office(name)
    (visit,) = office.add_visits()
    push_now(office)
    edited_there(office, partner, visit, note="theirs")
    office.edit(visit, note="ours", service_code="999999")
    report = push_now(office)
    assert (report.conflict, report.delivered, note_of(partner, visit)) == (1, 0, "theirs")
    assert badge(office, visit) == ("check_needed", "changed_at_partner")
    shown = {row.field: (row.ours, row.theirs) for row in office.sql("SELECT * FROM sync.conflict")}
    assert shown == {"note": ("ours", "theirs"), "service_code": ("999999", "131111")}
    assert push_now(office).calls == 0
    office.edit(visit, note="decided")
    assert push_now(office).delivered == 1
    assert truth(office, partner).broken == []


@pytest.mark.parametrize("name", NOTICING)
def test_a_person_who_has_it_sent_again_has_decided_against_that_copy(
    new_office: NewOffice, partner: RunningPartner, name: str
) -> None:
    office = new_office(name)
    visit = changed_on_both_sides(office, partner)
    push_now(office)
    office.sql("SELECT sync.request_retry(:tenant, :partner)", tenant=office.name, partner=office.partner.name)
    assert push_now(office).delivered == 1
    assert note_of(partner, visit) == "ours"
    assert truth(office, partner).broken == []


@pytest.mark.parametrize("name", NOTICING)
def test_by_the_connections_policy_ours_is_written_over_it_with_a_warning(
    new_office: NewOffice, partner: RunningPartner, name: str
) -> None:
    office = new_office(name, on_conflict="overwrite")
    visit = changed_on_both_sides(office, partner)
    report = push_now(office)
    assert (report.delivered_with_warning, report.conflict, report.pending) == (1, 0, 0)
    assert outcomes(office, visit)[-2:] == [
        (2, "retry", "overwriting_partner_change"),
        (2, "delivered_with_warning", "partner_change_overwritten"),
    ]
    assert badge(office, visit) == ("delivered_with_warning", "partner_change_overwritten")
    is_told("overwriting_partner_change")
    is_told("partner_change_overwritten")
    assert note_of(partner, visit) == "ours"
    office.edit(visit, note="and on")  # what was decided then holds for no later change
    edited_there(office, partner, visit, note="theirs again")
    assert push_now(office).delivered_with_warning == 1


@pytest.mark.parametrize("name", NOTICING)
@pytest.mark.parametrize("fault", ["cut_before", "cut_after"])
def test_a_change_made_there_while_ours_was_in_doubt_is_noticed_too(
    new_office: NewOffice, partner: RunningPartner, name: str, fault: str
) -> None:
    office = new_office(name)
    (visit,) = office.add_visits()
    push_now(office)
    office.edit(visit, note="ours")
    partner.fail(fault, times=1)
    assert push_now(patient(office)).unknown == 1
    edited_there(office, partner, visit, note="theirs")
    forget_backoff(office)
    report = push_now(office)
    assert (report.recovered, report.conflict, report.delivered) == (1, 1, 0)
    assert note_of(partner, visit) == "theirs"


@pytest.mark.parametrize("name", NOTICING)
def test_a_record_that_was_deleted_or_is_untouched_there_is_told_apart(
    new_office: NewOffice, partner: RunningPartner, name: str
) -> None:
    office = new_office(name)
    visits = office.add_visits(3)
    push_now(office)
    office.edit(*visits, note="2")
    report = push_now(office)
    assert (report.delivered, report.conflict) == (3, 0)
    office.cancel(*visits)
    assert push_now(office).delivered == 3
    assert truth(office, partner).broken == []


def test_where_nothing_tells_of_changes_made_there_ours_goes_out(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office("key")
    changed_on_both_sides(office, partner)
    report = push_now(office)
    assert (report.delivered, report.calls) == (1, 1)


def overwriting_fails(office: Office, partner: RunningPartner, fault: dict[str, Any]) -> UUID:
    """A change made there is noticed, and the call that is to go over it fails, once."""
    visit = changed_on_both_sides(office, partner)
    if office.partner.capability.has_version_check:
        partner.fail("late", seconds=0, times=1)  # the write by which it is noticed goes its way
    partner.fail(**fault, times=1)
    assert push_now(patient(office)).pending == 1
    assert (2, "retry", "overwriting_partner_change") in outcomes(office, visit)
    forget_backoff(office)
    return visit


FAILURES = [
    {"kind": "refuse", "status": 503},
    {"kind": "refuse", "status": 429},
    {"kind": "cut_before"},
    {"kind": "cut_after"},
]


@pytest.mark.parametrize("name", NOTICING)
@pytest.mark.parametrize("fault", FAILURES, ids=["away", "limit", "lost", "applied"])
def test_the_warning_is_kept_when_the_call_that_goes_over_a_change_fails_first(
    new_office: NewOffice, partner: RunningPartner, name: str, fault: dict[str, Any]
) -> None:
    office = new_office(name, on_conflict="overwrite")
    visit = overwriting_fails(office, partner, fault)
    push_now(office)
    assert badge(office, visit) == ("delivered_with_warning", "partner_change_overwritten")
    assert note_of(partner, visit) == "ours"
    assert truth(office, partner).broken == []


@pytest.mark.parametrize("name", NOTICING)
@pytest.mark.parametrize("fault", FAILURES[:3], ids=["away", "limit", "lost"])
def test_a_second_change_made_there_before_ours_arrives_is_noticed_again(
    new_office: NewOffice, partner: RunningPartner, name: str, fault: dict[str, Any]
) -> None:
    office = new_office(name, on_conflict="overwrite")
    visit = overwriting_fails(office, partner, fault)
    edited_there(office, partner, visit, note="theirs again")
    push_now(office)
    assert badge(office, visit) == ("delivered_with_warning", "partner_change_overwritten")
    assert [row.theirs for row in overwritten(office, visit)] == ["theirs", "theirs again"]
    assert truth(office, partner).broken == []


@pytest.mark.parametrize("name", NOTICING)
def test_a_newer_version_that_goes_over_a_change_noticed_before_says_so(
    new_office: NewOffice, partner: RunningPartner, name: str
) -> None:
    office = new_office(name, on_conflict="overwrite")
    visit = overwriting_fails(office, partner, FAILURES[0])
    office.edit(visit, note="newer")
    push_now(office)
    assert badge(office, visit) == ("delivered_with_warning", "partner_change_overwritten")
    office.edit(visit, note="newest")
    push_now(office)
    assert badge(office, visit) == ("ok", None)


def test_a_version_that_a_person_found_there_says_what_it_went_over(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office("search", on_conflict="overwrite")
    visit = overwriting_fails(office, partner, FAILURES[0])
    (copy,) = partner.state()
    decide(office, visit, 2, "adopt", copy["partner_id"])
    assert push_now(office).calls == 0
    assert badge(office, visit) == ("delivered_with_warning", "partner_change_overwritten")


def overwritten(office: Office, record: UUID) -> Sequence[Any]:
    statement = "SELECT field, ours, theirs, version FROM sync.overwritten WHERE record_id = :id ORDER BY at, field"
    return office.sql(statement, id=record)


@pytest.mark.parametrize("name", NOTICING)
def test_what_was_overwritten_stays_in_the_records_history(
    new_office: NewOffice, partner: RunningPartner, name: str
) -> None:
    office = new_office(name, on_conflict="overwrite")
    visit = changed_on_both_sides(office, partner)
    push_now(office)
    office.edit(visit, note="and on")
    push_now(office)
    assert [tuple(row) for row in overwritten(office, visit)] == [("note", "ours", "theirs", 2)]


# --- A sender that comes back late ------------------------------------------------------------------------------------


@contextmanager
def late_sender(office: Office, partner: RunningPartner, *, is_applied: bool = False) -> Iterator[Future[PushReport]]:
    """A push whose next write is held at the partner, and whose lease has run out."""
    partner.hold(is_applied=is_applied)
    with beside(office) as pushing:
        partner.wait_held()
        expire_lease(office)
        yield pushing
        partner.release()


def overtaken(office: Office, partner: RunningPartner, visit: UUID) -> PushReport:
    """Version 2 hangs, version 3 is delivered by others, then version 2 comes through. What its sender says of it."""
    office.edit(visit, note="2")
    with late_sender(office, partner) as pushing:
        office.edit(visit, note="3")
        assert push_now(office).delivered + push_now(office).delivered > 0
        partner.release()
        return pushing.result()


@pytest.mark.parametrize("name", ["client_id", "search"])
def test_a_late_write_over_a_newer_one_is_noticed_read_and_repaired_under_a_new_key(
    new_office: NewOffice, partner: RunningPartner, name: str
) -> None:
    office = new_office(name)
    (visit,) = office.add_visits()
    push_now(office)
    late = overtaken(office, partner, visit)
    assert (late.late, late.delivered, note_of(partner, visit)) == (1, 0, "2")
    assert repairs(office) == ["suspected"]
    assert badge(office, visit) == ("retrying", "late_answer")
    is_told("late_answer")
    report = push_now(office)
    assert (report.repaired, report.delivered, report.pending) == (1, 0, 0)
    assert note_of(partner, visit) == "3"
    assert repairs(office) == ["suspected", "repaired"]
    keys = [row.key for row in office.sql("SELECT key FROM sync.intent ORDER BY made_at", Login.OPERATOR)]
    assert keys[-1].startswith(f"visit:{visit}:3:repair:")
    assert len(set(keys)) == len(keys)
    assert badge(office, visit) == ("ok", None)
    found = truth(office, partner)
    assert (found.broken, found.repaired) == ([], (f"visit {visit}",))
    office.edit(visit, note="4")
    assert push_now(office).delivered == 1  # the repaired copy is the one we know


def test_a_partner_with_a_version_check_refuses_the_late_write_and_nothing_is_suspected(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office("version")
    (visit,) = office.add_visits()
    push_now(office)
    late = overtaken(office, partner, visit)
    assert (late.late, late.conflict, repairs(office)) == (1, 0, [])
    assert writes(partner) == [(1, "created"), (3, "updated"), (2, "none")]
    assert truth(office, partner).broken == []


def test_a_partner_that_knows_keys_takes_the_late_write_for_a_repeat(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office("key")
    (visit,) = office.add_visits()
    push_now(office)
    late = overtaken(office, partner, visit)
    assert (late.late, repairs(office)) == (1, [])
    assert writes(partner) == [(1, "created"), (2, "updated"), (3, "updated"), (2, "none")]
    assert truth(office, partner).broken == []


def test_where_nothing_can_be_asked_a_late_write_is_for_a_person(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office("none")
    (visit,) = office.add_visits()
    push_now(office)
    late = overtaken(office, partner, visit)
    assert late.late == 1
    report = push_now(office)
    assert (report.calls, repairs(office)) == (0, ["suspected", "parked"])
    assert badge(office, visit) == ("check_needed", "late_answer_unsure")
    is_told("late_answer_unsure")
    assert push_now(office).calls == 0
    office.edit(visit, note="4")  # a new version settles it
    assert push_now(office).delivered == 1
    assert badge(office, visit) == ("ok", None)


def test_a_late_answer_that_did_no_harm_costs_one_look(new_office: NewOffice, partner: RunningPartner) -> None:
    office = new_office("search")
    visits = office.add_visits()
    with late_sender(office, partner) as pushing:
        partner.release()
        pushing.result()
    push_now(office)
    # Two pushes that meet at the partner: the second one finds the first one's record there.
    office.edit(*visits, note="2")
    with late_sender(office, partner, is_applied=True) as first:
        assert push_now(office).recovered == 1
        partner.release()
        assert first.result().late == 1
    report = push_now(office)
    assert (report.calls, report.repaired, repairs(office)) == (1, 0, ["suspected", "equal"])
    assert truth(office, partner).broken == []


@pytest.mark.parametrize("fault", ["cut_before", "cut_after", "fail_after"])
def test_a_repair_whose_answer_is_lost_is_read_back_like_any_write(
    new_office: NewOffice, partner: RunningPartner, fault: str
) -> None:
    office = new_office("client_id")
    (visit,) = office.add_visits()
    push_now(office)
    overtaken(office, partner, visit)
    partner.fail(fault, times=1)
    push_now(office)
    push_now(office)
    assert note_of(partner, visit) == "3"
    assert repairs(office)[-1] == "repaired"
    assert truth(office, partner).broken == []


def test_a_repair_in_doubt_gives_way_to_a_new_version(new_office: NewOffice, partner: RunningPartner) -> None:
    office = new_office("client_id")
    (visit,) = office.add_visits()
    push_now(office)
    overtaken(office, partner, visit)
    partner.fail("cut_after", times=1)
    push_now(patient(office))
    assert repairs(office) == ["suspected", "unknown"]
    office.edit(visit, note="4")
    accumulate_all(office)
    forget_backoff(office)
    report = push_now(office)
    assert (report.delivered, report.pending, note_of(partner, visit)) == (1, 0, "4")
    assert repairs(office) == ["suspected", "unknown", "repaired"]
    assert truth(office, partner).broken == []


# --- Doubt, by what the partner offers --------------------------------------------------------------------------------

LOSSES = ["cut_before", "cut_after", "fail_after", "garbage", "garbage_status"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["key", "client_id", "search", "version"])
def test_a_lost_answer_costs_no_second_effect(
    new_office: NewOffice, partner: RunningPartner, name: str, loss: str
) -> None:
    office = new_office(name)
    visits = office.add_visits(3)
    for note in ("2", "3", None):
        partner.fail(loss, times=2)
        report = push_now(office)
        assert (report.pending, report.recovered) == (0, 2)
        partner.heal()
        if note is None:
            break
        office.edit(*visits, note=note)
    effects = Counter(writes(partner))
    assert {effect: times for effect, times in effects.items() if effect[1] != "none"} == {
        (1, "created"): 3,
        (2, "updated"): 3,
        (3, "updated"): 3,
    }
    assert truth(office, partner).broken == []


def test_what_did_not_arrive_is_sent_again_and_says_so(new_office: NewOffice, partner: RunningPartner) -> None:
    office = new_office("search")
    (visit,) = office.add_visits()
    partner.fail("cut_before", times=1)
    push_now(office)
    partner.heal()
    push_now(office)
    assert outcomes(office, visit)[-2:] == [(1, "retry", "not_arrived"), (1, "delivered", None)]
    is_told("not_arrived")


def test_a_key_makes_the_same_call_again_and_not_another_one(new_office: NewOffice, partner: RunningPartner) -> None:
    office = new_office("key")
    (visit,) = office.add_visits()
    partner.fail("cut_after", times=1)
    push_now(patient(office))
    office.edit(visit, note="2")  # while the first is in doubt
    accumulate_all(office)
    forget_backoff(office)
    assert push_now(office).delivered == 2
    rows = [(row["version"], row["effect"], row["key"]) for row in partner.log()]
    first, second = f"visit:{visit}:1", f"visit:{visit}:2"
    assert rows == [(1, "created", first), (1, "none", first), (2, "updated", second)]


@pytest.mark.parametrize("reply", [{"kind": "refuse", "status": 429}, {"kind": "refuse", "status": 401}])
def test_a_repeat_that_did_not_get_to_the_key_says_nothing_of_the_first_call(
    new_office: NewOffice, partner: RunningPartner, reply: dict[str, Any]
) -> None:
    office = new_office("key")
    (visit,) = office.add_visits()
    partner.fail("cut_after", times=1)
    partner.fail(times=1, **reply)
    report = push_now(office)
    assert outcomes(office, visit)[-1][1] == "unknown"
    assert report.stopped is not None
    office.sql("UPDATE sync.connection SET changed_at = clock_timestamp()", Login.OPERATOR)
    assert push_now(office).delivered == 1
    assert Counter(writes(partner))[1, "created"] == 1
    assert truth(office, partner).broken == []


def test_a_key_that_the_partner_may_have_forgotten_is_for_a_person(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office("key")
    lasting = replace(office.partner.capability, key_lasts=timedelta(hours=1))
    office = replace(office, partner=replace(office.partner, capability=lasting))
    (visit,) = office.add_visits()
    partner.fail("cut_after", times=1)
    push_now(patient(office))
    forget_backoff(office)
    later = replace(office.services, now=lambda: datetime.now(UTC) + timedelta(hours=1))
    calls = len(partner.log())
    assert push_now(replace(office, services=later)).parked == 1
    assert (len(partner.log()), outcomes(office, visit)[-1][1:]) == (calls, ("parked", "delivery_unsure"))


@pytest.mark.parametrize("loss", LOSSES)
def test_where_nothing_can_be_asked_a_person_is_and_nothing_is_sent_meanwhile(
    new_office: NewOffice, partner: RunningPartner, loss: str
) -> None:
    office = new_office("none")
    (visit,) = office.add_visits()
    partner.fail(loss, times=1)
    report = push_now(office)
    assert (report.unknown, report.parked, report.pending) == (1, 1, 1)
    assert badge(office, visit)[1] == "delivery_unsure"
    is_told("delivery_unsure")
    calls = len(partner.log())
    assert push_now(office).calls == 0
    office.edit(visit, note="2")  # an edit does not tell whether the first one is there
    office.sql("UPDATE sync.connection SET changed_at = clock_timestamp()", Login.OPERATOR)
    push_now(office)
    office.sql("UPDATE sync.connection SET changed_at = clock_timestamp()", Login.OPERATOR)  # nor does this
    push_now(office)
    assert (len(partner.log()), badge(office, visit)[1]) == (calls, "delivery_unsure")


@pytest.mark.parametrize("is_there", [True, False])
def test_the_persons_word_ends_it(new_office: NewOffice, partner: RunningPartner, is_there: bool) -> None:
    office = new_office("none")
    (visit,) = office.add_visits()
    partner.fail("cut_after" if is_there else "cut_before", times=1)
    push_now(office)
    if is_there:
        (copy,) = partner.state()
        decide(office, visit, 1, "adopt", copy["partner_id"])
        assert push_now(office).calls == 0
        assert outcomes(office, visit)[-1][2] == "adopted_by_person"
        is_told("adopted_by_person")
    else:
        office.sql("SELECT sync.request_retry(:tenant, :partner)", tenant=office.name, partner=office.partner.name)
        assert push_now(office).delivered == 1
    office.edit(visit, note="2")
    assert push_now(office).delivered == 1
    assert Counter(effect for _, effect in writes(partner) if effect != "none") == {"created": 1, "updated": 1}
    assert truth(office, partner).broken == []


# --- A person who decides ---------------------------------------------------------------------------------------------


def decide(office: Office, record: UUID, version: int, act: str, partner_id: str | None = None) -> None:
    office.sql(
        "SELECT sync.decide(:tenant, :partner, 'visit', :id, :version, :act, :partner_id, 'a test')",
        tenant=office.name,
        partner=office.partner.name,
        id=record,
        version=version,
        act=act,
        partner_id=partner_id,
    )


def test_a_version_that_was_given_up_ends_without_a_call_also_while_the_connection_is_paused(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office("search")
    given_up, other = office.add_visits(2)
    office.edit(given_up, note="2")
    accumulate_all(office)
    decide(office, given_up, 2, "abandon")
    office.sql("UPDATE sync.connection SET paused_at = now(), pause_reason = 'a test'", Login.OPERATOR)
    report = push_now(office)
    assert (report.abandoned, report.calls, report.stopped) == (1, 0, "connection_paused")
    assert outcomes(office, given_up) == [(2, "abandoned", "abandoned_by_person"), (1, "superseded", None)]
    is_told("abandoned_by_person")
    office.sql("UPDATE sync.connection SET paused_at = NULL, pause_reason = NULL", Login.OPERATOR)
    push_now(office)
    assert [row["record_id"] for row in partner.log()] == [str(other)]
    office.edit(given_up, note="3")  # the word was about one version
    assert push_now(office).delivered == 1
    assert truth(office, partner).broken == []


def test_what_is_in_doubt_can_be_given_up_too(new_office: NewOffice, partner: RunningPartner) -> None:
    office = new_office("client_id")
    (visit,) = office.add_visits()
    partner.fail("cut_before", times=1)
    push_now(patient(office))
    decide(office, visit, 1, "abandon")
    report = push_now(office)
    assert (report.abandoned, report.pending, report.calls) == (1, 0, 0)


def given_up_over_doubt(office: Office, partner: RunningPartner) -> UUID:
    """A visit made there whose answer was lost, and whose second version a person has given up; pushed twice since."""
    (visit,) = office.add_visits()
    partner.fail("cut_after", times=1)
    push_now(patient(office))
    office.edit(visit, note="2")
    accumulate_all(office)
    decide(office, visit, 2, "abandon")
    push_now(office)
    forget_backoff(office)
    push_now(office)
    return visit


@pytest.mark.parametrize("name", ["key", "client_id", "search", "version"])
def test_what_was_in_doubt_when_a_newer_version_was_given_up_is_looked_into_and_can_be_cancelled_there(
    new_office: NewOffice, partner: RunningPartner, name: str
) -> None:
    office = new_office(name)
    visit = given_up_over_doubt(office, partner)
    assert (2, "abandoned", "abandoned_by_person") in outcomes(office, visit)
    assert outcomes(office, visit)[-1][:2] == (1, "delivered")
    office.edit(visit, status="cancelled")
    assert push_now(office).delivered == 1
    (copy,) = [copy for copy in partner.state() if copy["record_id"] == str(visit)]
    assert copy["is_cancelled"]
    assert truth(office, partner).broken == []


def test_at_a_partner_that_cannot_be_asked_a_person_decides_on_what_is_in_doubt_below_what_was_given_up(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office("none")
    visit = given_up_over_doubt(office, partner)
    assert badge(office, visit) == ("action_needed", "delivery_unsure")
    decide(office, visit, 1, "abandon")
    report = push_now(office)
    assert (report.abandoned, report.pending, report.calls) == (1, 0, 0)


# --- A suspicion that a person ends -----------------------------------------------------------------------------------


def ask_again(office: Office) -> None:
    office.sql("SELECT sync.request_retry(:tenant, :partner)", tenant=office.name, partner=office.partner.name)


def test_a_suspicion_that_is_for_a_person_is_looked_at_again_when_asked(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office("search")
    (visit,) = office.add_visits()
    push_now(office)
    overtaken(office, partner, visit)
    with office.services.database.transaction(Login.PUSH, office.name) as tx:
        (suspect,) = claims.suspects(tx, Target(office.name, office.partner.name), [Entity.VISIT], 1)
        gone = Repair(suspect.key, RepairOutcome.PARKED, "several_at_partner")
        results.add_repairs(tx, Target(office.name, office.partner.name), [gone])
    assert (push_now(office).calls, badge(office, visit)[0]) == (0, "check_needed")
    ask_again(office)
    assert push_now(office).repaired == 1
    assert (note_of(partner, visit), badge(office, visit)) == ("3", ("ok", None))
    assert truth(office, partner).broken == []


@pytest.mark.parametrize("is_asked", [True, False], ids=["asked for", "parked after the word"])
def test_a_suspicion_parked_for_an_unknown_error_follows_an_operators_word(
    new_office: NewOffice, partner: RunningPartner, is_asked: bool
) -> None:
    office = new_office("search")
    target = Target(office.name, office.partner.name)
    (visit,) = office.add_visits()
    push_now(office)
    overtaken(office, partner, visit)
    with office.services.database.transaction(Login.PUSH, office.name) as tx:
        (suspect,) = claims.suspects(tx, target, [Entity.VISIT], 1)
        parked = Repair(suspect.key, RepairOutcome.PARKED, "unknown", {"detail": "find HTTP 418"})
        results.add_repairs(tx, target, [parked])
    assert (push_now(office).calls, badge(office, visit)) == (0, ("check_needed", "unknown"))
    (alert,) = look(office.services).opened
    assert (alert.reason, alert.detail, alert.records) == ("unknown", "find HTTP 418", 1)
    (seen,) = classify.unknown_errors(office.services)
    assert detail_of(seen.params) == "find HTTP 418"
    (group,) = classify.stopped(office.services, seen)[office.name]
    assert (group.state, group.reason, group.records) == ("parked", "unknown", 1)
    if is_asked:
        asked = classify.classify(office.services, seen, "partner_failed", "it is down")
        assert list(asked.requests) == [office.name]
    else:
        with office.services.database.transaction(Login.OPERATOR, None) as tx:
            classifications.classify(tx, seen.partner, detail_of(seen.params), "partner_failed", "it is down")
    assert badge(office, visit) == ("check_needed", "partner_failed")
    assert due_tenants(office) == (office.name,)
    assert push_now(office).repaired == 1
    assert (note_of(partner, visit), badge(office, visit)) == ("3", ("ok", None))
    assert due_tenants(office) == ()
    assert truth(office, partner).broken == []


def test_a_suspicion_that_nobody_can_look_into_ends_with_a_persons_word(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office("none")
    (visit,) = office.add_visits()
    push_now(office)
    overtaken(office, partner, visit)
    push_now(office)
    ask_again(office)
    push_now(office)
    push_now(office)
    assert (badge(office, visit), repairs(office)[1:]) == (
        ("check_needed", "late_answer_unsure"), ["parked", "suspected", "parked"],
    )  # fmt: skip
    (copy,) = partner.state()
    decide(office, visit, 3, "adopt", copy["partner_id"])
    assert push_now(office).calls == 0
    assert (badge(office, visit), repairs(office)[-1]) == (("ok", None), "equal")
    push_now(office)
    assert len(repairs(office)) == 5  # the word was carried out once
