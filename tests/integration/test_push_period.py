"""Some days pushed because a person asked: all of it arrives once, whoever sends it, and the report says how it stands.

What happened is read from the partner's own log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta
from threading import Barrier, Event
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import NewTenant, Tenant, wait_for
from evidence import is_told
from flow_bench import accumulate_all, broken_promises, calls, effects, impatient, mark, push_now

from partners.contract import Command, Entity, Reply, Verb
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from partners.windows import JAPAN
from resources.logins import Login
from zest_pipelines.core.weeks import Days, week_of
from zest_pipelines.flows import push as push_module
from zest_pipelines.flows import push_period as push_period_module
from zest_pipelines.flows.operate import pause, resume
from zest_pipelines.flows.push import push
from zest_pipelines.flows.push_period import push_period
from zest_pipelines.flows.reports import PeriodCounts, PeriodReport
from zest_pipelines.store import claims, tenants
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import UnknownConnectionError, UnknownTenantError
from zest_pipelines.store.keys import Target

WEEK = week_of(date(2026, 12, 1))


def add_visits(tenant: Tenant, number: int, day: str = "2026-12-01", **columns: Any) -> list[UUID]:
    times = {"starts_at": f"{day}T09:00:00+09:00", "ends_at": f"{day}T10:00:00+09:00"}
    return [tenant.add_visit(**times, **columns) for _ in range(number)]


def put_record(tenant: Tenant, visit_id: UUID) -> None:
    tenant.sql(
        "INSERT INTO schedule.visit_record (tenant_id, visit_id, status) VALUES (:tenant, :id, 'absent')",
        tenant=tenant.name,
        id=visit_id,
    )


def press(tenant: Tenant, days: Days = WEEK, seconds: float = 60.0) -> PeriodReport:
    """Push the days, with so much patience."""
    return push_period(tenant.services, tenant.partner, tenant.name, days, timedelta(seconds=seconds))


def another_process(tenant: Tenant) -> Tenant:
    """The same tenant with connections of its own, as another process has them."""
    database = Database(tenant.services.database._logins)
    return replace(tenant, services=replace(tenant.services, database=database))


def one_by_one(tenant: Tenant) -> Tenant:
    """The tenant, of whom no two calls are made at once: their order is what it was meant to be."""
    return replace(tenant, partner=replace(tenant.partner, parallel=1))


def on_send(tenant: Tenant, act: Callable[[Command], None]) -> Tenant:
    """The tenant at a partner that does `act` before each write."""

    class Connector:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def send(self, command: Command) -> Reply:
            act(command)
            reply: Reply = self._inner.send(command)
            return reply

    real = tenant.partner
    return replace(tenant, partner=replace(real, open=lambda *given: Connector(real.open(*given))))


def due_ids(tenant: Tenant, most: int = 100, days: Days | None = None) -> list[UUID]:
    with tenant.services.database.transaction(Login.PUSH, tenant.name) as tx:
        found = claims.due(tx, Target(tenant.name, tenant.partner.name), list(Entity), most, days=days)
    return [each.key.record_id for each in found]


def test_a_week_arrives_once_and_pressing_again_changes_nothing_at_the_partner(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    known = add_visits(tenant, 1)
    push_now(tenant)
    week = add_visits(tenant, 2) + add_visits(tenant, 1, "2026-12-06")
    put_record(tenant, week[0])
    others = add_visits(tenant, 1, "2026-11-29") + add_visits(tenant, 1, "2026-12-07")

    report = press(tenant)

    assert report.is_settled
    assert (report.visits, report.visit_records) == (PeriodCounts(delivered=3, unchanged=1), PeriodCounts(delivered=1))
    assert [effects(sandbox, visit) for visit in known + week] == [["created"], ["created"] * 2, *[["created"]] * 2]
    assert [effects(sandbox, visit) for visit in others] == [[], []]  # nobody who waits for a week works for another
    start = mark(sandbox)
    again = press(tenant)
    assert calls(sandbox, after=start) == []
    assert (again.visits, again.visit_records) == (PeriodCounts(unchanged=4), PeriodCounts(unchanged=1))
    assert again.is_settled
    assert again.request != report.request
    assert again.seconds < 20


def test_each_record_is_counted_once_and_says_what_it_waits_for(tenant: Tenant, sandbox: RunningSandbox) -> None:
    moved_away, cancelled = add_visits(tenant, 2)
    push_now(tenant)
    (bad,) = add_visits(tenant, 1)
    (waiting,) = add_visits(tenant, 1, client_id=uuid4())
    put_record(tenant, bad)
    tenant.edit_visit(moved_away, starts_at="2026-12-08T09:00:00+09:00", ends_at="2026-12-08T10:00:00+09:00")
    tenant.edit_visit(cancelled, status="cancelled")
    (never,) = add_visits(tenant, 1)
    tenant.edit_visit(never, status="cancelled")
    sandbox.set_faults(FaultRule(FaultKind.STATUS, identifier=str(bad), status=422, code="business-rule"))

    report = press(tenant)

    assert report.visits == PeriodCounts(delivered=1, unchanged=1, waiting=1, refused=1)
    assert report.visit_records == PeriodCounts(waiting=1)
    assert [(each.entity, each.record, each.outcome, each.reason) for each in report.problems] == [
        ("visit", str(bad), "parked", "content_refused"),
        ("visit", str(waiting), "waiting", "client_not_yet_at_partner"),
        ("visit_record", str(bad), "waiting", "visit_not_yet_delivered"),
    ]
    assert (report.stopped, report.is_settled) == (None, False)
    assert report.seconds < 20  # neither is worth waiting for


def test_an_edit_made_after_the_press_waits_for_the_next_one_and_is_told_before_what_goes_by_itself(
    sandbox: RunningSandbox, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_period_module, "MOST_PROBLEMS", 1)
    tenant = new_tenant(sandbox, timing="week")
    tenant.take_in()
    (unknown,) = add_visits(tenant, 1, "2026-11-30", client_id=uuid4())
    (visit,) = add_visits(tenant, 1, note="1")

    def edit(command: Command) -> None:
        if command.verb is Verb.CREATE:
            tenant.edit_visit(visit, note="2")
            accumulate_all(tenant)

    report = press(on_send(tenant, edit))

    assert report.visits == PeriodCounts(waiting=2)
    assert [(each.record, each.reason) for each in report.problems] == [(str(visit), "not_requested_yet")]
    assert tenant.outcomes(visit) == [(1, "delivered")]
    tenant.edit_visit(unknown, status="cancelled")
    assert press(tenant).visits == PeriodCounts(delivered=1, unchanged=1)
    assert broken_promises(tenant) == []


def test_a_planner_who_goes_on_editing_keeps_nobody_waiting(
    tenant: Tenant, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_period_module, "_BOX_SECONDS", 1.0)
    (visit,) = add_visits(tenant, 1, note="0")
    sent = []

    def edit(_: Command) -> None:
        sent.append(len(sent) + 1)
        tenant.edit_visit(visit, note=str(len(sent)))
        accumulate_all(tenant)

    report = press(on_send(tenant, edit))

    assert (report.visits, report.stopped) == (PeriodCounts(waiting=1), None)
    assert len(sent) > 1
    assert report.seconds < 20
    assert effects(sandbox, visit)[0] == "created"


def test_two_presses_at_once_send_each_record_once_and_both_see_it_arrive(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    sandbox.configure(conditional_create=False)
    add_visits(tenant, 6)
    sandbox.set_faults(FaultRule(FaultKind.DELAY, method="POST", seconds=0.3))
    other = another_process(tenant)
    with ThreadPoolExecutor(2) as pool:
        reports = [each.result() for each in [pool.submit(press, hand) for hand in (tenant, other)]]
    other.services.database.close()
    assert [report.visits for report in reports] == [PeriodCounts(delivered=6)] * 2
    assert [report.is_settled for report in reports] == [True, True]
    assert len(calls(sandbox, "POST")) == 6
    assert broken_promises(tenant) == []


def test_many_browsers_pressing_at_once_while_the_minute_ticks_have_each_record_sent_once(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox, timing="week")
    tenant.take_in()
    sandbox.configure(conditional_create=False)
    visits = add_visits(tenant, 12)
    start = mark(sandbox)
    hands = [another_process(tenant) for _ in range(4)]
    at_once, is_over = Barrier(2), Event()
    request = "SELECT sync.request_push(:tenant, 'fhir', '2026-11-30', '2026-12-06')"

    def press_twice(hand: Tenant) -> None:
        for _ in range(2):
            at_once.wait(10)
            hand.sql(request, Login.PRODUCT, tenant=hand.name)

    def tick(hand: Tenant) -> None:
        while not is_over.is_set():
            push_now(hand)

    with ThreadPoolExecutor(4) as pool:
        ticking = [pool.submit(tick, hand) for hand in hands[:2]]
        pressing = [pool.submit(press_twice, hand) for hand in hands[2:]]
        try:
            wait_for(lambda: all(effects(sandbox, visit) for visit in visits), 30)
        finally:
            is_over.set()
        for each in (*pressing, *ticking):
            each.result()
    for hand in hands:
        hand.services.database.close()

    sent = [UUID(row["identifier"]) for row in calls(sandbox, "POST", after=start)]
    assert sorted(sent) == sorted(visits)
    assert len(tenant.sql("SELECT FROM sync.push_request", Login.OPERATOR)) == 4
    assert broken_promises(tenant) == []


def test_a_press_during_another_push_waits_for_its_records_whoever_sends_them(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    (visit,) = add_visits(tenant, 1)
    accumulate_all(tenant)
    sandbox.set_faults(FaultRule(FaultKind.DELAY, method="POST", seconds=1.5))
    other = another_process(tenant)
    start = mark(sandbox)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(push, other.services, other.partner, other.name)
        wait_for(lambda: bool(calls(sandbox, "POST", after=start)))
        report = press(tenant)
        assert first.result().delivered == 1
    other.services.database.close()
    assert (report.visits, report.stopped) == (PeriodCounts(delivered=1), None)
    assert effects(sandbox, visit) == ["created"]


def test_a_press_without_patience_leaves_a_request_that_any_push_serves(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox, timing="week")
    tenant.take_in()
    (visit,) = add_visits(tenant, 1)
    accumulate_all(tenant)
    start = mark(sandbox)
    report = press(tenant, seconds=0)
    assert (report.visits, report.stopped) == (PeriodCounts(waiting=1), "time_box_ended")
    assert calls(sandbox, after=start) == []
    assert push_now(tenant).delivered == 1
    assert effects(sandbox, visit) == ["created"]


def test_a_paused_connection_is_not_waited_for_and_the_request_is_served_after_it(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox, timing="week")
    tenant.take_in()
    add_visits(tenant, 2)
    pause(tenant.services, tenant.partner, tenant.name, "moving house")
    start = mark(sandbox)
    report = press(tenant)
    assert (report.visits, report.stopped) == (PeriodCounts(waiting=2), "connection_paused")
    assert {each.reason for each in report.problems} == {"connection_paused"}
    assert report.seconds < 20
    assert calls(sandbox, after=start) == []
    resume(tenant.services, tenant.partner, tenant.name)
    assert push_now(tenant).delivered == 2


def test_a_pause_ends_a_push_under_way_and_is_said(tenant: Tenant, sandbox: RunningSandbox) -> None:
    add_visits(tenant, 3)
    other = another_process(tenant)
    report = press(on_send(tenant, lambda _: pause(other.services, other.partner, other.name, "stop")))
    other.services.database.close()
    assert (report.visits, report.stopped) == (PeriodCounts(delivered=1, waiting=2), "connection_paused")
    assert len(calls(sandbox, "POST")) == 1


def test_a_refused_credential_is_not_waited_for_and_each_press_is_one_try(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    add_visits(tenant, 3)
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", status=401))
    for pressed in (1, 2):
        report = press(tenant)
        assert report.stopped == "credential_refused"
        assert report.visits == PeriodCounts(waiting=3)
        assert len(calls(sandbox, "POST")) == pressed
        assert report.seconds < 20
    assert push_now(tenant).stopped == "credential_refused"
    assert len(calls(sandbox, "POST")) == 2  # the clock's push does not try again so soon
    sandbox.clear_faults()
    report = press(tenant)  # mended at the partner: nothing of ours has changed
    assert (report.visits, report.is_settled) == (PeriodCounts(delivered=3), True)


def test_a_kind_that_the_partner_refuses_is_tried_once_and_not_waited_for(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visits = add_visits(tenant, 3)
    push_now(tenant)
    for visit in visits:
        put_record(tenant, visit)
    sandbox.set_faults(FaultRule(FaultKind.STATUS, type="Encounter", method="POST", status=403))
    report = press(tenant)
    assert report.visit_records == PeriodCounts(waiting=2, refused=1)
    assert [each.reason for each in report.problems] == ["permission_missing"]
    assert len(calls(sandbox, "POST", kind="Encounter")) == 1
    assert report.seconds < 20


def test_a_partner_that_fails_for_a_while_is_tried_until_it_is_well(tenant: Tenant, sandbox: RunningSandbox) -> None:
    visits = add_visits(tenant, 2)
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", status=503, times=2))
    hasty = impatient(tenant)
    report = press(hasty)
    assert (report.visits, report.is_settled) == (PeriodCounts(delivered=2), True)
    assert [effects(sandbox, visit) for visit in visits] == [["created"]] * 2


def test_a_time_beyond_our_patience_is_not_waited_for(tenant: Tenant, sandbox: RunningSandbox) -> None:
    add_visits(tenant, 1)
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", status=429, retry_after=60, times=1))
    report = press(tenant)
    assert (report.visits, report.stopped) == (PeriodCounts(waiting=1), "partner_busy")
    assert [each.reason for each in report.problems] == ["partner_busy"]
    assert report.seconds < 20


def test_an_edit_that_cannot_be_read_yet_is_waited_for(tenant: Tenant, sandbox: RunningSandbox) -> None:
    """An older transaction, which may still write events, holds back the reading of all that come after it."""
    hand = another_process(tenant)
    with hand.services.database.transaction(Login.PRODUCT, hand.name) as slow:
        slow.exec_driver_sql("SELECT pg_current_xact_id()")
        (visit,) = add_visits(tenant, 1)
        report = press(tenant, seconds=1.5)
        assert (report.visits, report.stopped) == (PeriodCounts(), "edits_not_yet_read")
        is_told("edits_not_yet_read", report.params)
        with ThreadPoolExecutor(1) as pool:
            pressed = pool.submit(press, tenant)
            time.sleep(0.5)
            slow.rollback()
            assert pressed.result().visits == PeriodCounts(delivered=1)
    hand.services.database.close()
    assert effects(sandbox, visit) == ["created"]


def test_what_was_asked_for_goes_before_a_backlog_and_before_a_push_that_works_through_it(
    tenant: Tenant, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_module, "_CLAIM", 2)
    backlog = add_visits(tenant, 5, "2026-12-14")
    week = add_visits(tenant, 2)
    (late,) = add_visits(tenant, 1)
    accumulate_all(tenant)
    assert due_ids(tenant, 3) == backlog[:3]
    asked = []

    def ask(command: Command) -> None:
        if not asked:
            asked.append(tenant.sql("SELECT sync.request_push(:t, 'fhir', '2026-11-30', '2026-12-06')", t=tenant.name))
            tenant.edit_visit(late, note="after the request")

    eager = on_send(one_by_one(tenant), ask)
    push(eager.services, eager.partner, eager.name)
    sent = [UUID(row["identifier"]) for row in calls(sandbox, "POST")]
    # What had been claimed, then what was asked for, then the rest.
    assert sent == [*backlog[:2], *week, late, *backlog[2:]]
    accumulate_all(tenant)
    (again,) = add_visits(tenant, 1, "2026-12-14")
    accumulate_all(tenant)
    assert due_ids(tenant) == [late, again]  # an edit after the request has no precedence


def test_the_days_given_to_a_push_are_all_that_it_takes(tenant: Tenant) -> None:
    first, last = add_visits(tenant, 1, "2026-11-30"), add_visits(tenant, 1, "2026-12-06")
    add_visits(tenant, 1, "2026-11-29")
    add_visits(tenant, 1, "2026-12-07")
    accumulate_all(tenant)
    assert due_ids(tenant, days=WEEK) == first + last


def test_a_tenant_that_is_not_there_or_not_connected_is_named_and_nothing_is_recorded(
    tenant: Tenant,
) -> None:
    with tenant.services.database.transaction(Login.OPERATOR, "kaede") as tx:
        tenants.add(tx, "kaede", "Another")
    for wrong, error in (("momiji", UnknownTenantError), ("kaede", UnknownConnectionError)):
        with pytest.raises(error):
            push_period(tenant.services, tenant.partner, wrong, WEEK)
    assert tenant.sql("SELECT * FROM sync.push_request", Login.OPERATOR) == []


def test_a_wait_in_which_nothing_gets_through_gives_its_slot_up_long_before_its_patience_ends(
    tenant: Tenant, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_visits(tenant, 2)
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", status=503))
    monkeypatch.setattr(push_period_module, "_STILL_SECONDS", 2.0)

    report = press(tenant, seconds=600)

    assert report.seconds < 60
    assert report.visits == PeriodCounts(waiting=2)


def test_a_pause_ends_a_push_under_way_before_its_next_record(tenant: Tenant, sandbox: RunningSandbox) -> None:
    add_visits(tenant, 20)
    sandbox.set_faults(FaultRule(FaultKind.DELAY, method="POST", seconds=0.2))
    start = mark(sandbox)
    with ThreadPoolExecutor() as threads:
        pushing = threads.submit(press, tenant)
        wait_for(lambda: bool(calls(sandbox, "POST", after=start)))
        pause(tenant.services, tenant.partner, tenant.name, "moving house")
        done = len(calls(sandbox, "POST", after=start))
        report = pushing.result()

    assert report.stopped == "connection_paused"
    assert len(calls(sandbox, "POST", after=start)) <= done + 2
    resume(tenant.services, tenant.partner, tenant.name)
    sandbox.clear_faults()
    assert press(tenant).is_settled
    assert broken_promises(tenant) == []


def test_closed_hours_are_not_waited_for_and_the_request_is_served_when_they_end(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox, timing="week")
    tenant.take_in()
    add_visits(tenant, 2)
    today = datetime.now(JAPAN).date()
    close(tenant, [f"{today}..{today + timedelta(days=1)}"])
    start = mark(sandbox)
    report = press(tenant)
    assert (report.visits, report.stopped) == (PeriodCounts(waiting=2), "outside_window")
    assert {each.reason for each in report.problems} == {"outside_window"}
    assert report.seconds < 20
    assert calls(sandbox, after=start) == []
    close(tenant, [])
    assert push_now(tenant).delivered == 2


def close(tenant: Tenant, times: list[str]) -> None:
    """Set when the partner takes no calls of this connection; an hour that ends by itself leaves no other trace."""
    tenant.sql("UPDATE sync.connection SET closed = :times", Login.OPERATOR, times=times)


def test_a_breaker_is_waited_for_no_longer_than_anything_else_and_a_press_is_its_probe(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    add_visits(tenant, 3)
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", status=401))
    assert press(tenant).stopped == "credential_refused"
    start = mark(sandbox)
    assert push_now(tenant).stopped == "credential_refused"
    assert calls(sandbox, after=start) == []
    report = press(tenant)
    assert (report.stopped, report.seconds < 20) == ("credential_refused", True)
    assert len(calls(sandbox, "POST", after=start)) == 1
