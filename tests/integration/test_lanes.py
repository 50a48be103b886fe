"""Many calls of one connection at once: none twice, none behind a slow one, and nothing lost when a push is cut off."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from conftest import wait_for
from dead_partner import wire
from evidence import is_told
from flow_bench import accumulate_all, beside, expire_lease, forget_backoff, push_now
from partner import PROOFS, Office, connect, truth
from partner_process import RunningPartner

from partners.contract import Delivered, Entity, Partner, Refused
from resources.logins import Login
from zest_pipelines.core.outcome import RepairOutcome
from zest_pipelines.flows.push import push
from zest_pipelines.store import results
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import DatabaseUnreachableError
from zest_pipelines.store.keys import Key, Target
from zest_pipelines.store.results import Repair

NewOffice = Callable[..., Office]


@pytest.fixture
def new_office(database: Database, partner: RunningPartner) -> NewOffice:
    """A tenant at the partner; `settings` and `limits` as in `connect`."""

    def add(name: str = "proof_search", **how: Any) -> Office:
        return connect(database, "sakura", PROOFS[name], partner.url, **how)

    return add


def outcomes(office: Office) -> Counter[str]:
    """How many results of each outcome there are."""
    rows = office.sql("SELECT outcome, count(*) AS times FROM sync.result GROUP BY 1", Login.OPERATOR)
    return Counter({row.outcome: row.times for row in rows})


def writes(partner: RunningPartner) -> list[dict[str, Any]]:
    return [row for row in partner.log() if row["method"] in ("POST", "PUT")]


# --- In flight --------------------------------------------------------------------------------------------------------


def test_the_first_call_goes_alone_and_then_as_many_as_the_partner_takes_each_record_once(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office()
    office.add_visits(60)
    partner.configure(0.03)
    report = push_now(office)
    assert (report.delivered, report.pending, report.stopped, report.calls) == (60, 0, None, 60)
    in_flight = [row["in_flight"] for row in writes(partner)]
    assert (in_flight[0], max(in_flight)) == (1, office.partner.parallel)
    assert Counter(row["effect"] for row in writes(partner)) == {"created": 60}
    assert truth(office, partner).broken == []


def test_one_lane_does_the_same_and_a_limit_on_calls_in_flight_makes_them_fewer(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office(limits=["tenant:concurrent=2"])
    office.add_visits(12)
    partner.configure(0.02)
    assert push_now(office).delivered == 12
    assert max(row["in_flight"] for row in writes(partner)) == 2
    alone = replace(office, partner=replace(office.partner, parallel=1))
    alone.edit(*alone.add_visits(6), note="2")
    assert push_now(alone).delivered == 6
    assert [row["in_flight"] for row in writes(partner)][-6:] == [1] * 6
    assert truth(office, partner).broken == []


def test_a_slow_call_holds_up_neither_the_others_nor_the_storing_of_their_answers(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office()
    slow = office.add_visits(30)[3]  # not the first, which goes alone
    partner.hold(record_ids=[str(slow)], is_applied=True)
    with beside(office) as pushing:
        partner.wait_held()
        wait_for(lambda: outcomes(office)["delivered"] >= 20)
        assert not pushing.done()
        partner.release()
        report = pushing.result()
    assert (report.delivered, report.pending, report.unknown) == (30, 0, 0)


def in_doubt(office: Office) -> int:
    """How many calls were decided on whose end is not known."""
    (row,) = office.sql(
        "SELECT count(*) AS calls FROM sync.intent i WHERE NOT EXISTS ("
        "SELECT FROM sync.result r WHERE r.intent_id = i.intent_id AND r.outcome <> 'unknown')",
        Login.OPERATOR,
    )
    return int(row.calls)


@pytest.mark.parametrize(
    ("name", "limits", "laid_out"),
    [
        ("proof_key", (), 6),
        ("proof_search", (), 6),
        ("proof_none", (), 0),  # each that a crash leaves there is a person's to look up
        ("proof_key", ("tenant:60000/60s",), 0),  # its slot could run out
    ],
)
def test_half_as_many_calls_as_there_are_lanes_are_laid_out_where_that_costs_nobody_anything(
    new_office: NewOffice, partner: RunningPartner, name: str, limits: Sequence[str], laid_out: int
) -> None:
    office = new_office(name, limits=limits)
    office = replace(office, partner=replace(office.partner, parallel=12))
    others = office.add_visits(40)[1:]  # the first goes alone
    partner.hold(record_ids=[str(visit) for visit in others], is_applied=True, times=None)
    with beside(office) as pushing:
        wait_for(lambda: outcomes(office)["delivered"] == 1 and in_doubt(office) >= 12 + laid_out)
        time.sleep(0.2)
        assert in_doubt(office) == 12 + laid_out
        assert len(writes(partner)) == 1 + 12
        partner.heal()
        partner.release()
        assert pushing.result().delivered == 40
    assert max(row["in_flight"] for row in writes(partner)) == 12
    assert truth(office, partner).broken == []


def test_what_is_laid_out_does_not_go_once_the_partner_refuses_everything(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office("proof_key")
    office = replace(office, partner=replace(office.partner, parallel=12))
    others = office.add_visits(40)[1:]
    partner.fail("refuse", status=401, record_ids=[str(visit) for visit in others])
    partner.configure(0.05)
    report = push_now(office)
    assert (report.stopped, report.delivered) == ("credential_refused", 1)
    assert report.calls <= 1 + 12
    partner.heal()
    office.sql("UPDATE sync.connection SET changed_at = clock_timestamp()", Login.OPERATOR)
    assert push_now(office).delivered == 39
    assert truth(office, partner).broken == []


def test_versions_of_one_record_never_overtake_each_other(new_office: NewOffice, partner: RunningPartner) -> None:
    office = new_office()
    visits = office.add_visits(10)
    partner.configure(0.01)
    with beside(office):
        for note in "23456":
            office.edit(*visits, note=note)
            accumulate_all(office)
            time.sleep(0.02)
    push_now(office)
    sent: dict[str, list[int]] = {}
    for row in writes(partner):
        sent.setdefault(row["record_id"], []).append(row["version"])
    assert all(versions == sorted(set(versions)) for versions in sent.values())
    assert truth(office, partner).broken == []


def test_the_record_of_a_visit_goes_in_the_same_push_once_its_visit_is_there(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office()
    office.add_records(office.add_visits(12))
    report = push_now(office)
    assert (report.delivered, report.pending) == (24, 0)
    assert truth(office, partner).broken == []


# --- Cut off ----------------------------------------------------------------------------------------------------------


def test_what_is_under_way_when_the_time_box_ends_is_still_stored(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office()
    visits = office.add_visits(60)
    accumulate_all(office)
    partner.fail("slow", seconds=1.0, record_ids=[str(visits[3])])
    partner.configure(0.1)
    report = push(office.services, office.partner, office.name, box_seconds=0.5)
    assert report.stopped == "time_box_ended"
    assert 3 < report.delivered == len(writes(partner)) < 60
    assert (report.unknown, report.pending) == (0, 60 - report.delivered)
    partner.configure(0.0)
    assert push_now(office).recovered == 0
    assert truth(office, partner).broken == []


def test_a_pause_stops_what_has_not_begun_and_keeps_what_has(new_office: NewOffice, partner: RunningPartner) -> None:
    office = new_office()
    first = office.add_visits()
    push_now(office)
    visits = office.add_visits(30)
    partner.fail("hold_after", record_ids=[str(visit) for visit in visits])
    with beside(office) as pushing:
        partner.wait_held()  # the first call goes alone
        office.sql("UPDATE sync.connection SET paused_at = now(), pause_reason = 'a test'", Login.OPERATOR)
        partner.release()
        report = pushing.result()
    assert (report.delivered, report.stopped, report.pending) == (1, "connection_paused", 29)
    assert len(writes(partner)) == len(first) + 1


class Cut(BaseException):
    """What terminating a run comes to: no Exception."""


def cutting(office: Office, after: int) -> Office:
    """The office, whose push is cut off in its coordinator after so many looks at the clock."""
    looks = iter(range(after))

    def now() -> datetime:
        if next(looks, None) is None:
            raise Cut
        return datetime.now(UTC)

    return replace(office, services=replace(office.services, now=now))


@pytest.mark.parametrize("after", [3, 5, 8])
def test_a_push_that_is_interrupted_waits_for_its_calls_keeps_its_lease_and_loses_nothing(
    new_office: NewOffice, partner: RunningPartner, after: int
) -> None:
    office = new_office()
    office.add_visits(30)
    accumulate_all(office)
    partner.configure(0.02)
    with pytest.raises(Cut):
        push(cutting(office, after).services, office.partner, office.name)
    assert [thread for thread in threading.enumerate() if thread.name == "lane"] == []
    assert push(office.services, office.partner, office.name).stopped == "push_under_way"
    expire_lease(office)
    partner.configure(0.0)
    report = push(office.services, office.partner, office.name)
    assert (report.pending, report.stopped) == (0, None)
    assert truth(office, partner).broken == []


def test_a_database_that_goes_away_in_the_middle_leaves_doubt_and_no_second_effect(
    new_office: NewOffice, partner: RunningPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = new_office()
    office.add_visits(30)
    accumulate_all(office)
    partner.configure(0.02)
    real, times = results.add_results, iter(range(3))

    def away(*given: Any) -> Any:
        if next(times, None) is None:
            raise DatabaseUnreachableError("it is away")
        return real(*given)

    with monkeypatch.context() as broken:
        broken.setattr(results, "add_results", away)
        with pytest.raises(DatabaseUnreachableError):
            push(office.services, office.partner, office.name)
    assert [thread for thread in threading.enumerate() if thread.name == "lane"] == []
    expire_lease(office)
    report = push(office.services, office.partner, office.name)
    assert report.recovered > 0
    assert truth(office, partner).broken == []


# --- The breaker ------------------------------------------------------------------------------------------------------


def hold(office: Office) -> Any:
    """The row of the hold, or None."""
    rows = office.sql("SELECT *, until - noted_at AS away FROM sync.hold WHERE lifted_at IS NULL", Login.OPERATOR)
    return rows[0] if rows else None


def let_it_pass(office: Office) -> None:
    """What time does to a hold."""
    office.sql("UPDATE sync.hold SET until = clock_timestamp() - interval '1 ms'", Login.PUSH)


def test_a_partner_that_is_away_costs_one_call_a_push_and_none_from_the_third_failure_on(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office()
    visits = office.add_visits(20)
    partner.die()
    for failures in (1, 2, 3):
        report = push_now(office)
        assert (report.stopped, report.calls, report.retry) == ("partner_unreachable", 1, 1)
        assert (hold(office).failures, report.is_held) == (failures, failures == 3)
    assert timedelta(seconds=14) < hold(office).away < timedelta(seconds=16)  # half of a step is chance
    report = push_now(office)
    assert (report.stopped, report.calls, report.is_held) == ("partner_unreachable", 0, True)
    let_it_pass(office)
    since = hold(office).since
    report = push_now(office)
    assert (report.calls, hold(office).failures, hold(office).since) == (1, 4, since)
    assert timedelta(seconds=29) < hold(office).away < timedelta(seconds=31)
    partner.revive()
    let_it_pass(office)
    assert push_now(office).delivered == len(visits)
    assert hold(office) is None
    assert truth(office, partner).broken == []


@pytest.mark.parametrize("name", ["proof_key", "proof_client_id", "proof_search", "proof_none"])
def test_a_server_that_takes_calls_and_never_answers_costs_one_a_push_and_opens_the_breaker(
    database: Database, partner: RunningPartner, name: str
) -> None:
    """What was sent into the silence is in doubt, and stays so until the partner can be asked."""
    with wire(partner.url) as line:
        office = connect(database, "sakura", PROOFS[name], line.url, call_seconds=0.2)
        visits = office.add_visits(20)
        line.is_dead = True
        for failures in (1, 2, 3):
            report = push_now(office)
            assert (report.stopped, line.calls) == ("partner_unreachable", failures)
            assert (hold(office).failures, report.is_held) == (failures, failures == 3)
        assert (push_now(office).is_held, line.calls) == (True, 3)
        line.is_dead = False
        let_it_pass(office)
        asked = push_now(office).parked + outcomes(office)["parked"]  # nobody can tell what became of the first calls
        assert hold(office) is None
    assert asked == 0 or name == "proof_none"
    assert len(writes(partner)) == (len(visits) if name != "proof_none" else len(visits) - 3)
    assert truth(office, partner).broken == []


def test_a_partner_that_falls_silent_under_many_calls_stops_the_push_and_counts_once(
    database: Database, partner: RunningPartner
) -> None:
    with wire(partner.url) as line:
        office = connect(database, "sakura", PROOFS["proof_search"], line.url, call_seconds=0.3)
        office.add_visits(1)
        push_now(office)
        visits = office.add_visits(100)
        partner.fail("slow", seconds=1.0, record_ids=[str(visit) for visit in visits[1:]])
        report = push_now(office)
        assert (report.stopped, hold(office).failures) == ("partner_unreachable", 1)
        assert report.calls < 30
        partner.heal()
        push_now(office)
        assert hold(office) is None
    assert truth(office, partner).broken == []


def test_one_record_that_gets_no_answer_stops_no_other(new_office: NewOffice, partner: RunningPartner) -> None:
    office = new_office(call_seconds=0.3)
    visits = office.add_visits(20)
    partner.fail("slow", seconds=0.6, times=1, record_ids=[str(visits[5])])
    report = push_now(office)
    assert report.stopped is None
    assert hold(office) is None
    assert report.delivered >= 19


def test_slow_records_among_others_that_are_answered_stop_nothing(database: Database, partner: RunningPartner) -> None:
    one_at_a_time = replace(PROOFS["proof_none"], parallel=1)
    office = connect(database, "sakura", one_at_a_time, partner.url, call_seconds=0.2)
    slow = [office.add_visits(3)[2] for _ in range(4)]
    partner.fail("slow", seconds=0.4, record_ids=[str(visit) for visit in slow])
    report = push_now(office)
    assert (report.stopped, report.delivered, report.unknown) == (None, 8, 4)
    assert hold(office) is None


def test_failures_of_calls_in_flight_together_count_once(new_office: NewOffice, partner: RunningPartner) -> None:
    office = new_office()
    office.add_visits()
    push_now(office)
    visits = office.add_visits(20)
    partner.fail("refuse", status=429, record_ids=[str(visit) for visit in visits[1:]])
    partner.configure(0.05)
    report = push_now(office)
    assert (report.stopped, report.delivered) == ("partner_busy", 1)
    assert report.retry > 1
    assert hold(office).failures == 1


def test_calls_that_wait_for_their_slots_when_the_push_fails_are_not_made(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office(limits=["tenant:20/2s"])  # slots 0.15 s apart, several taken ahead
    first, *others = office.add_visits(3)
    partner.fail("refuse", status=401, record_ids=[str(visit) for visit in others])
    report = push_now(office)
    assert (report.delivered, report.retry, report.calls) == (1, 2, 2)
    assert writes(partner)[0]["record_id"] == str(first)


def test_a_refused_credential_opens_the_breaker_at_once_until_somebody_changes_the_connection(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office()
    office.add_visits(20)
    partner.fail("refuse", status=401)
    report = push_now(office)
    assert (report.stopped, report.retry, report.calls, report.is_held) == ("credential_refused", 1, 1, True)
    assert hold(office).away > timedelta(minutes=14)
    assert push_now(office).calls == 0
    partner.heal()
    office.sql("UPDATE sync.connection SET changed_at = clock_timestamp()", Login.OPERATOR)
    assert push_now(office).delivered == 20
    assert hold(office) is None


def test_a_person_who_asks_is_served_at_once_however_long_the_breaker_would_wait(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office()
    office.add_visits(3)
    partner.fail("refuse", status=401, times=1)
    push_now(office)
    assert push_now(office).calls == 0
    office.sql("SELECT sync.request_retry(:tenant, :partner)", tenant=office.name, partner=office.partner.name)
    assert push_now(office).delivered == 3


@pytest.mark.parametrize("limits", [(), ("tenant:concurrent=4",), ("tenant:60000/60s",)])
def test_a_time_that_the_partner_names_is_kept_whatever_the_limits_and_is_no_failure(
    new_office: NewOffice, partner: RunningPartner, limits: Sequence[str]
) -> None:
    office = new_office(limits=limits)
    office.add_visits(3)
    partner.fail("refuse", status=429, retry_after=600, times=1)
    assert push_now(office).stopped == "partner_busy"
    report = push_now(office)
    assert (report.stopped, report.calls, report.is_held) == ("partner_busy", 0, False)
    assert (hold(office).failures, timedelta(minutes=9) < hold(office).away < timedelta(minutes=11)) == (0, True)


def test_a_suspect_is_looked_at_however_many_others_are_due(new_office: NewOffice, partner: RunningPartner) -> None:
    office = new_office(call_seconds=20.0)
    (visit,) = office.add_visits(1)
    push_now(office)
    (row,) = office.sql("SELECT month FROM sync.intent WHERE record_id = :visit", Login.PUSH, visit=visit)
    late = Repair(Key(row.month, Entity.VISIT, visit, 1), RepairOutcome.SUSPECTED, "late_answer")
    with office.services.database.transaction(Login.PUSH, office.name) as tx:
        results.add_repairs(tx, Target(office.name, office.partner.name), [late])
    office.add_visits(400)
    accumulate_all(office)
    partner.configure(0.05)
    report = push(office.services, office.partner, office.name, box_seconds=0.5)
    assert report.stopped == "time_box_ended"
    suspected = "SELECT suspect_state FROM sync.standing WHERE record_id = :visit"
    assert [row.suspect_state for row in office.sql(suspected, Login.PUSH, visit=visit)] == [None]


def test_a_connection_without_its_credential_is_held_and_says_so(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office()
    office.add_visits()
    needy = replace(
        office, partner=replace(office.partner, secrets=(replace(office.partner.settings[0], default=None),))
    )
    assert push_now(needy).stopped == "secret_missing"
    assert (hold(office).reason, writes(partner)) == ("secret_missing", [])


# --- Windows ----------------------------------------------------------------------------------------------------------

TWO_AT_NIGHT = datetime.fromisoformat("2026-11-25T02:00:00+09:00")


def at(office: Office, *moments: datetime) -> Office:
    """The office at that time; at each look at the clock a moment further, the last one for ever."""
    left = list(moments)
    return replace(office, services=replace(office.services, now=lambda: left.pop(0) if len(left) > 1 else left[0]))


def test_nothing_is_sent_while_the_partner_is_closed_and_all_goes_in_order_afterwards(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office()
    visits = office.add_visits(5)
    office.edit(*visits, note="2")
    office.sql("UPDATE sync.connection SET closed = ARRAY['02:00-05:00', '04:00-06:00']", Login.OPERATOR)
    report = push_now(at(office, TWO_AT_NIGHT))
    assert (report.stopped, report.calls, report.is_held, report.pending) == ("outside_window", 0, False, 5)
    is_told("outside_window", report.params)
    assert hold(office).until == TWO_AT_NIGHT + timedelta(hours=4)
    assert push_now(at(office, TWO_AT_NIGHT + timedelta(hours=3, minutes=59))).calls == 0
    assert push_now(at(office, TWO_AT_NIGHT + timedelta(hours=4))).delivered == 5
    assert hold(office) is None
    assert truth(office, partner).broken == []


def test_a_push_stops_when_the_partner_closes(new_office: NewOffice, partner: RunningPartner) -> None:
    office = new_office()
    office.add_visits(40)
    office.sql("UPDATE sync.connection SET closed = ARRAY['02:00-05:00']", Login.OPERATOR)
    moments = [TWO_AT_NIGHT - timedelta(seconds=1)] * 8 + [TWO_AT_NIGHT]
    report = push_now(at(office, *moments))
    assert report.stopped == "outside_window"
    assert 0 < report.delivered == len(writes(partner)) < 40


def test_the_partners_own_closed_hours_hold_where_the_connection_has_none(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = new_office()
    office.add_visits()
    closed = replace(office, partner=replace(office.partner, closed=("02:00-05:00",)))
    assert push_now(at(closed, TWO_AT_NIGHT)).stopped == "outside_window"
    office.sql("UPDATE sync.connection SET closed = '{}'", Login.OPERATOR)
    assert push_now(at(closed, TWO_AT_NIGHT)).delivered == 1


# --- Batches ----------------------------------------------------------------------------------------------------------


def batched(new_office: NewOffice, name: str = "proof_client_id", size: int = 8) -> Office:
    return new_office(name, settings={"batch_size": str(size)})


def batch_sizes(rows: Sequence[dict[str, Any]]) -> Counter[int]:
    """How many calls carried so many records."""
    return Counter({row["call"]: row["batch"] for row in rows}.values())


def test_new_records_travel_together_and_each_has_its_own_answer(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = batched(new_office)
    visits = office.add_visits(24)
    partner.fail("reject", record_ids=[str(visits[3])])
    report = push_now(office)
    assert (report.delivered, report.parked, report.batches, report.calls) == (23, 1, 3, 3)
    assert [problem.record for problem in report.problems] == [str(visits[3])]
    assert batch_sizes(writes(partner)) == {8: 3}
    assert truth(office, partner, but=[visits[3]]).broken == []


def test_the_record_that_spoils_a_batch_is_found_by_halves_and_parked_alone(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = batched(new_office)
    visits = office.add_visits(24)
    bad = str(visits[3])
    partner.fail("reject_batch", record_ids=[bad])
    report = push_now(office)
    assert (report.delivered, report.parked, report.pending, report.stopped) == (23, 1, 1, None)
    assert report.batches == 3 + 2 + 2  # eight each, then one of them in halves of four, and of two
    (problem,) = [each for each in report.problems if each.outcome == "parked"]
    assert (problem.record, problem.reason) == (bad, "content_refused")
    created = Counter(row["record_id"] for row in writes(partner) if row["effect"] == "created")
    assert set(created.values()) == {1}
    assert push_now(office).calls == 0
    assert truth(office, partner, but=[visits[3]]).broken == []


def test_the_halving_goes_on_where_it_was_when_the_push_dies_in_between(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = batched(new_office)
    office = replace(office, partner=replace(office.partner, parallel=1))
    visits = office.add_visits(8)
    bad = [str(visits[3])]
    partner.fail("reject_batch", record_ids=bad, times=1)
    partner.fail("refuse", status=429)
    assert push_now(office).stopped == "partner_busy"
    partner.heal()
    partner.fail("reject_batch", record_ids=bad)
    seen = len(writes(partner))
    report = push_now(office)
    assert (report.delivered, report.parked) == (7, 1)
    assert max(batch_sizes(writes(partner)[seen:])) == 4
    assert truth(office, partner, but=[visits[3]]).broken == []


def test_a_batch_that_the_partner_never_answers_for_one_of_its_records_is_halved_too(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = batched(new_office)
    office = replace(office, partner=replace(office.partner, parallel=1))
    visits = office.add_visits(8)
    partner.fail("cut_before", record_ids=[str(visits[3])])
    for _ in range(4):
        report = push_now(office)
        forget_backoff(office)
    assert (report.pending, len(partner.state())) == (1, 7)
    first, *others = sorted(batch_sizes(writes(partner)), reverse=True)
    assert (first, max(others) <= 4) == (8, True)
    assert truth(office, partner, but=[visits[3]]).broken == []


def test_a_batch_whose_answer_is_lost_is_read_back_record_by_record(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = batched(new_office)
    office.add_visits(8)
    partner.fail("cut_after", times=1)
    report = push_now(office)
    assert (report.unknown, report.recovered, report.delivered, report.pending) == (8, 8, 8, 0)
    assert Counter(row["effect"] for row in writes(partner)) == {"created": 8}
    assert truth(office, partner).broken == []


def test_what_has_to_be_compared_first_goes_alone(new_office: NewOffice, partner: RunningPartner) -> None:
    office = batched(new_office)
    visits = office.add_visits(8)
    push_now(office)
    office.edit(*visits, note="2")
    seen = len(writes(partner))
    assert push_now(office).delivered == 8
    assert batch_sizes(writes(partner)[seen:]) == {1: 8}
    assert truth(office, partner).broken == []


def test_a_partner_with_a_version_check_takes_changes_in_batches(
    new_office: NewOffice, partner: RunningPartner
) -> None:
    office = batched(new_office, "proof_version")
    visits = office.add_visits(8)
    push_now(office)
    office.edit(*visits, note="2")
    seen = len(writes(partner))
    assert push_now(office).delivered == 8
    assert batch_sizes(writes(partner)[seen:]) == {8: 1}


# --- A lane's own -----------------------------------------------------------------------------------------------------


def broken(office: Office, record: UUID, reply: Callable[[], Any]) -> Office:
    """The office, at a partner whose connector answers for one record with what `reply` returns or raises."""
    real = office.partner

    def opened(*given: Any) -> Any:
        connector = real.open(*given)
        send = connector.send
        fault = lambda command: reply() if command.record_id == record else send(command)  # noqa: E731
        object.__setattr__(connector, "send", fault)
        return connector

    faulty: Partner = replace(real, open=opened)
    return replace(office, partner=faulty)


def refusing_after(office: Office, statement: str, login: Login) -> Office:
    """The office with a new visit, whose write is refused for the credential once the statement was run."""
    (visit,) = office.add_visits(1)

    def reply() -> Refused:
        office.sql(statement, login)
        return Refused("credential_refused")

    return broken(office, visit, reply)


def test_a_push_that_has_lost_its_lease_says_nothing_of_the_connection(new_office: NewOffice) -> None:
    """Another one may have delivered over it since, with another credential."""
    office = refusing_after(new_office(), "UPDATE sync.lease SET epoch = epoch + 1", Login.PUSH)
    assert push_now(office).stopped == "credential_refused"
    assert hold(office) is None


def test_a_connection_that_is_changed_while_a_push_runs_is_tried_at_once(new_office: NewOffice) -> None:
    change = "UPDATE sync.connection SET changed_at = clock_timestamp()"
    office = new_office()
    assert push_now(refusing_after(office, change, Login.OPERATOR)).stopped == "credential_refused"
    report = push_now(office)
    assert (report.delivered, report.stopped) == (1, None)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (lambda: 1 / 0, "internal_error"),
        (lambda: Refused("no_such_reason"), "internal_error"),
        (lambda: Delivered("a\0b", "1"), "answer_unreadable"),
        (lambda: Delivered("a", "\ud800"), "answer_unreadable"),
        (lambda: Refused("record_refused", {"detail": "\0\udfff"}), "record_refused"),
    ],
)
def test_what_is_wrong_with_one_answer_is_that_records_alone(
    new_office: NewOffice, partner: RunningPartner, reply: Callable[[], Any], reason: str
) -> None:
    office = new_office()
    visits = office.add_visits(10)
    report = push_now(broken(office, visits[4], reply))
    assert (report.delivered, report.pending, report.stopped) == (9, 1, None)
    assert {UUID(problem.record) for problem in report.problems} == {visits[4]}
    assert report.problems[0].reason == reason
