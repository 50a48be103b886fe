"""Push: each edit reaches the partner once, in order, and whatever the partner does the state ends equal.

What happened is read from the partner's own log and state; our tables only say how we took it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import TOKEN, NewTenant, Tenant
from evidence import is_told
from flow_bench import (
    accumulate_all,
    broken_promises,
    calls,
    copy_of,
    effects,
    expire_lease,
    forget_backoff,
    forget_hold,
    history,
    impatient,
    mark,
    push_now,
    wait_for,
)

from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.flows.reports import PushReport
from zest_pipelines.store import due
from zest_pipelines.store.database import Database


def badge(tenant: Tenant, record_id: UUID, entity: str = "visit") -> tuple[str, str | None]:
    (row,) = tenant.sql(
        "SELECT badge, reason FROM sync.badge WHERE record_id = :id AND entity = :entity", id=record_id, entity=entity
    )
    return row.badge, row.reason


def put_record(tenant: Tenant, visit_id: UUID, status: str = "done") -> None:
    tenant.sql(
        "INSERT INTO schedule.visit_record (tenant_id, visit_id, started_at, ended_at, status, note) VALUES "
        "(:tenant, :id, '2026-12-01T09:02:00+09:00', '2026-12-01T09:58:00+09:00', :status, '変わりなし')",
        tenant=tenant.name,
        id=visit_id,
        status=status,
    )


def another_hand(tenant: Tenant) -> Tenant:
    """The same tenant from another process's point of view: with connections of its own."""
    database = Database(tenant.services.database._logins)
    return replace(tenant, services=replace(tenant.services, database=database))


def set_credential(tenant: Tenant, token: str) -> None:
    sealed = tenant.services.vault.encrypt({"token": token}, tenant=tenant.name, partner=tenant.partner.name)
    tenant.sql(
        "UPDATE sync.credential SET ciphertext = :sealed, changed_at = clock_timestamp()", Login.OPERATOR, sealed=sealed
    )


# --- What reaches the partner -----------------------------------------------------------------------------------------


def test_a_visit_is_created_updated_and_cancelled_each_with_one_write(tenant: Tenant, sandbox: RunningSandbox) -> None:
    start = mark(sandbox)
    visit = tenant.add_visit(note="鍵は受付")
    assert push_now(tenant).delivered == 1
    assert broken_promises(tenant) == []
    tenant.edit_visit(visit, note="鍵は玄関")
    assert push_now(tenant).delivered == 1
    assert broken_promises(tenant) == []
    tenant.edit_visit(visit, status="cancelled")
    assert push_now(tenant).delivered == 1
    assert broken_promises(tenant) == []
    writes = calls(sandbox, "POST", "PUT", after=start)
    assert [(row["method"], row["if_match"], row["effect"], row["version"]) for row in writes] == [
        ("POST", None, "created", 1),
        ("PUT", 'W/"1"', "updated", 2),
        ("PUT", 'W/"2"', "updated", 3),
    ]
    assert {row["identifier"] for row in writes} == {str(visit)}
    assert copy_of(sandbox, visit)["status"] == "cancelled"
    assert tenant.outcomes(visit) == [(1, "delivered"), (2, "delivered"), (3, "delivered")]
    assert replace(push_now(tenant), seconds=0) == PushReport()
    assert len(calls(sandbox, after=start)) == 5  # each change reads its copy first; the quiet push calls nobody


def test_a_cancelled_visit_that_is_confirmed_again_is_the_same_appointment(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visit = tenant.add_visit()
    for status in ("confirmed", "cancelled", "confirmed"):
        tenant.edit_visit(visit, status=status)
        push_now(tenant)
    assert effects(sandbox, visit) == ["created", "updated", "updated"]
    assert copy_of(sandbox, visit)["status"] == "booked"


def test_three_edits_between_two_pushes_are_one_call(tenant: Tenant, sandbox: RunningSandbox) -> None:
    visit = tenant.add_visit(note="1")
    for note in ("2", "3"):
        tenant.edit_visit(visit, note=note)
    report = push_now(tenant)
    assert report.delivered == 1
    assert effects(sandbox, visit) == ["created"]
    assert copy_of(sandbox, visit)["comment"] == "3"
    assert sorted(tenant.outcomes(visit)) == [(1, "superseded"), (2, "superseded"), (3, "delivered")]
    assert report.pending == 0


def test_a_visit_made_and_cancelled_between_two_pushes_is_nobodys_business(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    start = mark(sandbox)
    visit = tenant.add_visit()
    tenant.edit_visit(visit, status="cancelled")
    report = push_now(tenant)
    assert (report.not_needed, report.pending, report.stopped) == (1, 0, None)
    assert sorted(tenant.outcomes(visit)) == [(1, "superseded"), (2, "not_needed")]
    assert calls(sandbox, after=start) == []


def test_a_draft_is_not_for_partners_and_a_visit_taken_back_to_draft_is_cancelled(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    start = mark(sandbox)
    visit = tenant.add_visit(status="draft")
    tenant.edit_visit(visit, note="still a draft")
    assert push_now(tenant).pending == 0
    assert calls(sandbox, after=start) == []
    tenant.edit_visit(visit, status="confirmed")
    push_now(tenant)
    tenant.edit_visit(visit, status="draft")
    push_now(tenant)
    assert effects(sandbox, visit) == ["created", "updated"]
    assert copy_of(sandbox, visit)["status"] == "cancelled"


def test_a_deleted_visit_is_cancelled_and_one_made_anew_under_its_id_goes_on_from_there(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visit = tenant.add_visit()
    push_now(tenant)
    tenant.sql("DELETE FROM schedule.visit WHERE visit_id = :id", id=visit)
    push_now(tenant)
    assert copy_of(sandbox, visit)["status"] == "cancelled"
    assert broken_promises(tenant) == []
    tenant.add_visit(visit_id=visit, note="wieder da")
    push_now(tenant)
    assert effects(sandbox, visit) == ["created", "updated", "updated"]
    assert broken_promises(tenant) == []


def test_a_visit_without_staff_goes_out_and_its_staff_follows(tenant: Tenant, sandbox: RunningSandbox) -> None:
    visit = tenant.add_visit(staff_id=None)
    push_now(tenant)
    assert len(copy_of(sandbox, visit)["participant"]) == 1
    tenant.edit_visit(visit, staff_id=tenant.ids("staff")[1])
    push_now(tenant)
    assert len(copy_of(sandbox, visit)["participant"]) == 2
    assert broken_promises(tenant) == []


def test_a_visit_waits_for_a_client_whom_the_partner_does_not_know_and_its_neighbours_go(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    start = mark(sandbox)
    waiting = tenant.add_visit(client_id=uuid4())
    unstaffed = tenant.add_visit(staff_id=uuid4())
    going = tenant.add_visit()
    report = push_now(tenant)
    assert (report.delivered, report.pending, report.stopped, report.problems) == (1, 2, None, ())
    assert effects(sandbox, going) == ["created"]
    assert len(calls(sandbox, after=start)) == 1
    assert tenant.outcomes(waiting) == tenant.outcomes(unstaffed) == []
    assert badge(tenant, waiting) == ("waiting", "client_not_yet_at_partner")
    assert badge(tenant, unstaffed) == ("waiting", "staff_not_yet_at_partner")
    is_told("client_not_yet_at_partner")
    is_told("staff_not_yet_at_partner")
    with tenant.services.database.transaction(Login.SCHEDULE, None) as tx:
        assert due.outbound(tx, tenant.partner.name, "1") == ()  # it makes nobody due


def test_a_delivered_visit_moved_to_an_unknown_client_and_then_cancelled_is_cancelled(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visit, neighbour = tenant.add_visit(), tenant.add_visit()
    push_now(tenant)
    tenant.edit_visit(visit, client_id=uuid4())
    assert push_now(tenant).pending == 1
    tenant.edit_visit(visit, status="cancelled")
    tenant.edit_visit(neighbour, note="moved on")
    assert push_now(tenant).delivered == 2
    assert broken_promises(tenant) == []


def test_a_visit_record_waits_for_its_visit_and_follows_it(tenant: Tenant, sandbox: RunningSandbox) -> None:
    visit = tenant.add_visit()
    put_record(tenant, visit)
    sandbox.set_faults(FaultRule(FaultKind.STATUS, type="Appointment", method="POST", status=422, times=1))
    assert push_now(tenant).parked == 1
    assert calls(sandbox, kind="Encounter") == []
    assert badge(tenant, visit, "visit_record") == ("waiting", "visit_not_yet_delivered")
    tenant.edit_visit(visit, note="corrected")
    report = push_now(tenant)
    assert (report.delivered, report.pending) == (2, 0)
    rows = calls(sandbox, "POST")
    assert [(row["resource_type"], row["effect"]) for row in rows][-2:] == [
        ("Appointment", "created"),
        ("Encounter", "created"),
    ]
    encounter = copy_of(sandbox, visit, "Encounter")
    assert encounter["status"] == "finished"
    assert encounter["appointment"] == [{"reference": f"Appointment/{copy_of(sandbox, visit)['id']}"}]
    tenant.sql("UPDATE schedule.visit_record SET status = 'cancelled' WHERE visit_id = :id", id=visit)
    assert push_now(tenant).delivered == 1
    assert copy_of(sandbox, visit, "Encounter")["status"] == "cancelled"


# --- When it is sent --------------------------------------------------------------------------------------------------


def request_push(tenant: Tenant, first: str, last: str) -> None:
    tenant.sql(
        "SELECT sync.request_push(:tenant, 'fhir', CAST(:first AS date), CAST(:last AS date))",
        tenant=tenant.name,
        first=first,
        last=last,
    )


def test_a_week_is_sent_when_it_is_asked_for_with_what_stood_there_then(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox, timing="week")
    tenant.take_in()
    start = mark(sandbox)
    visit = tenant.add_visit(note="1")
    later = tenant.add_visit(starts_at="2026-12-07T00:00:00+09:00", ends_at="2026-12-07T01:00:00+09:00")
    assert push_now(tenant).delivered == 0
    assert calls(sandbox, after=start) == []
    assert badge(tenant, visit) == ("waiting", "not_requested_yet")
    is_told("not_requested_yet")
    request_push(tenant, "2026-11-30", "2026-12-06")
    assert push_now(tenant).delivered == 1
    assert effects(sandbox, visit) == ["created"]
    assert effects(sandbox, later) == []  # midnight in Japan belongs to the next week
    tenant.edit_visit(visit, note="2")
    assert push_now(tenant).delivered == 0  # the request was for what stood there
    request_push(tenant, "2026-11-30", "2026-12-06")
    assert push_now(tenant).delivered == 1
    assert copy_of(sandbox, visit)["comment"] == "2"


def test_a_paused_connection_is_not_called_and_loses_nothing(tenant: Tenant, sandbox: RunningSandbox) -> None:
    pause = "UPDATE sync.connection SET paused_at = now(), pause_reason = 'moving house'"
    visit = tenant.add_visit()
    tenant.sql(pause, Login.OPERATOR)
    start = mark(sandbox)
    report = push_now(tenant)
    assert (report.stopped, report.pending, report.delivered) == ("connection_paused", 1, 0)
    assert calls(sandbox, after=start) == []
    assert badge(tenant, visit) == ("waiting", "connection_paused")
    tenant.sql("UPDATE sync.connection SET paused_at = NULL, pause_reason = NULL", Login.OPERATOR)
    assert push_now(tenant).delivered == 1
    assert broken_promises(tenant) == []


def test_a_time_box_ends_a_push_and_the_next_one_goes_on(tenant: Tenant, sandbox: RunningSandbox) -> None:
    for _ in range(3):
        tenant.add_visit()
    accumulate_all(tenant)
    sandbox.set_faults(FaultRule(FaultKind.DELAY, method="POST", seconds=0.9))
    report = push(tenant.services, tenant.partner, tenant.name, box_seconds=0.9)
    assert (report.stopped, report.delivered, report.pending) == ("time_box_ended", 1, 2)
    sandbox.clear_faults()
    assert push_now(tenant).delivered == 2
    assert broken_promises(tenant) == []


# --- The lease --------------------------------------------------------------------------------------------------------


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """Runs one thing beside the test."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_a_second_push_at_once_sends_nothing(
    tenant: Tenant, sandbox: RunningSandbox, aside: ThreadPoolExecutor
) -> None:
    tenant.add_visit()
    accumulate_all(tenant)
    sandbox.set_faults(FaultRule(FaultKind.DELAY, method="POST", seconds=0.6))
    other = another_hand(tenant)
    start = mark(sandbox)
    first = aside.submit(push, tenant.services, tenant.partner, tenant.name)
    wait_for(lambda: bool(calls(sandbox, "POST", after=start)))
    second = push(other.services, other.partner, other.name)
    report = first.result()
    other.services.database.close()
    assert (second.stopped, second.delivered, second.recovered) == ("push_under_way", 0, 0)
    assert report.delivered == 1
    assert len(calls(sandbox, after=start)) == 1
    assert push_now(tenant).stopped is None  # the lease was given back


def test_a_push_whose_lease_ran_out_between_two_records_sends_no_more(
    tenant: Tenant, sandbox: RunningSandbox, aside: ThreadPoolExecutor
) -> None:
    for _ in range(3):
        tenant.add_visit()
    accumulate_all(tenant)
    sandbox.set_faults(FaultRule(FaultKind.DELAY, method="POST", times=1, seconds=0.5))
    start = mark(sandbox)
    first = aside.submit(push, tenant.services, tenant.partner, tenant.name)
    wait_for(lambda: bool(calls(sandbox, "POST", after=start)))
    other = another_hand(tenant)
    expire_lease(other)
    report = first.result()
    other.services.database.close()
    assert (report.delivered, report.stopped) == (1, "push_under_way")
    assert len(calls(sandbox, "POST", after=start)) == 1
    assert push_now(tenant).delivered == 2
    assert broken_promises(tenant) == []


def test_an_answer_that_comes_after_another_push_settled_the_record_is_dropped(
    tenant: Tenant, sandbox: RunningSandbox, aside: ThreadPoolExecutor
) -> None:
    visit = tenant.add_visit()
    accumulate_all(tenant)
    sandbox.set_faults(FaultRule(FaultKind.DELAY, method="POST", times=1, seconds=0.8))
    start = mark(sandbox)
    first = aside.submit(push, tenant.services, tenant.partner, tenant.name)
    wait_for(lambda: bool(calls(sandbox, "POST", after=start)))
    other = another_hand(tenant)
    expire_lease(other)
    second = push(other.services, other.partner, other.name)
    report = first.result()
    other.services.database.close()
    assert (second.recovered, second.delivered) == (1, 1)
    assert report.stopped is None
    assert tenant.outcomes(visit) == [(1, "delivered")]
    assert broken_promises(tenant) == []


# --- Faults -----------------------------------------------------------------------------------------------------------

# A fault and how the record stands after the one push in which it strikes.
FAULTS: list[tuple[str, FaultKind, dict[str, Any], str]] = [
    ("cut before", FaultKind.CUT_BEFORE, {}, "delivered"),
    ("reset before", FaultKind.CUT_BEFORE, {"reset": True}, "delivered"),
    ("cut after", FaultKind.CUT_AFTER, {}, "delivered"),
    ("500", FaultKind.STATUS, {"status": 500}, "delivered"),
    ("500 after all", FaultKind.APPLY_THEN_STATUS, {}, "delivered"),
    ("truncated", FaultKind.TRUNCATED_BODY, {}, "delivered"),
    ("empty", FaultKind.EMPTY_BODY, {}, "delivered"),
    ("wrong type", FaultKind.WRONG_CONTENT_TYPE, {}, "delivered"),
    ("502 page", FaultKind.HTML_STATUS, {"status": 502}, "delivered"),
    ("404 page", FaultKind.HTML_STATUS, {"status": 404}, "unknown"),
    ("login page", FaultKind.HTML_LOGIN, {}, "unknown"),
    ("429", FaultKind.STATUS, {"status": 429}, "retry"),
    ("422", FaultKind.STATUS, {"status": 422, "code": "invariant"}, "parked"),
]


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_whatever_befalls_a_write_it_takes_effect_once_and_in_order(
    tenant: Tenant, sandbox: RunningSandbox, method: str
) -> None:
    """One visit a fault; each fault alone in its push, then quiet."""
    hasty = impatient(tenant)
    for name, kind, more, after in FAULTS:
        visit = hasty.add_visit(note="1")
        if method == "PUT":
            push_now(hasty)
            hasty.edit_visit(visit, note="2")
        sandbox.set_faults(FaultRule(kind, type="Appointment", method=method, times=1, **more))
        push_now(hasty)
        assert hasty.outcomes(visit)[-1][1] == after, f"{method} {name}: {hasty.outcomes(visit)}"
        sandbox.clear_faults()
        hasty.edit_visit(visit, note="3")
        for _ in range(2):
            push_now(hasty)
        assert hasty.outcomes(visit)[-1][1] in ("delivered", "superseded"), f"{method} {name}: {hasty.outcomes(visit)}"
        notes = [version.get("comment") for version in history(sandbox, copy_of(sandbox, visit))]
        assert notes == sorted(set(notes)), f"{method} {name}: {notes}"
        assert notes[-1] == "3", f"{method} {name}: {notes}"
    assert broken_promises(hasty) == []
    assert push_now(hasty).pending == 0


@pytest.mark.parametrize("kind", [FaultKind.DELAY, FaultKind.DELAY_BEFORE, FaultKind.DRIP])
@pytest.mark.parametrize("conditional_create", [True, False])
def test_an_answer_beyond_the_deadline_leaves_doubt_and_no_second_appointment(
    tenant: Tenant, sandbox: RunningSandbox, kind: FaultKind, conditional_create: bool
) -> None:
    """Also where the server takes effect after we have gone, and makes one for every POST."""
    sandbox.configure(conditional_create=conditional_create)
    hasty = impatient(tenant, 0.4)
    hasty = replace(hasty, services=replace(hasty.services, under_way=timedelta(seconds=30)))
    visit = hasty.add_visit()
    more: dict[str, Any] = {"seconds": 0.1, "bytes": 8} if kind is FaultKind.DRIP else {"seconds": 1.0}
    sandbox.set_faults(FaultRule(kind, method="POST", times=1, **more))
    push_now(hasty)
    assert hasty.outcomes(visit)[0] == (1, "unknown")
    assert badge(hasty, visit)[0] in ("retrying", "ok")
    wait_for(lambda: any(row["fault"] == kind for row in calls(sandbox, "POST")))
    assert effects(sandbox, visit) == ["created"]
    assert hasty.outcomes(visit) == [(1, "unknown")]
    forget_backoff(hasty)
    push_now(hasty)
    assert hasty.outcomes(visit)[-1] == (1, "delivered")
    assert broken_promises(hasty) == []


def test_a_partner_that_cannot_be_reached_is_called_once_a_push_and_gets_all_later(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = impatient(new_tenant(sandbox))
    tenant.take_in()
    visits = [tenant.add_visit() for _ in range(3)]
    move = "UPDATE sync.connection SET base_url = :url, changed_at = clock_timestamp()"
    tenant.sql(move, Login.OPERATOR, url="http://127.0.0.1:9")
    report = push_now(tenant)
    assert (report.retry, report.stopped, report.pending) == (1, "partner_unreachable", 3)
    tenant.sql(move, Login.OPERATOR, url=sandbox.url)
    assert push_now(tenant).delivered == 3
    assert [effects(sandbox, visit) for visit in visits] == [["created"]] * 3


def test_too_many_calls_with_a_time_named_closes_the_connection_until_then(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    for _ in range(3):
        tenant.add_visit()
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", times=1, status=429, retry_after=600))
    start = mark(sandbox)
    report = push_now(tenant)
    assert (report.retry, report.stopped, report.pending) == (1, "partner_busy", 3)
    report = push_now(tenant)
    assert (report.delivered, report.stopped, report.is_held) == (0, "partner_busy", False)
    assert len(calls(sandbox, after=start)) == 1
    tenant.sql("UPDATE sync.hold SET until = clock_timestamp()", Login.PUSH)
    assert push_now(tenant).stopped == "budget_deferred"  # the ledger keeps it too: others' calls are its as well
    with tenant.services.database.transaction(Login.BUDGET, None) as tx:
        tx.exec_driver_sql("UPDATE sync.budget SET closed_until = clock_timestamp()")
    assert push_now(tenant).delivered == 2  # the third still waits for the time that it was told
    forget_backoff(tenant)
    assert push_now(tenant).delivered == 1
    assert broken_promises(tenant) == []


def test_a_partner_out_of_service_costs_one_call_a_push_and_leaves_each_write_in_doubt(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visits = [tenant.add_visit() for _ in range(5)]
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", status=503))
    start = mark(sandbox)
    reports = [push_now(tenant) for _ in range(3)]
    assert [(each.unknown, each.stopped) for each in reports] == [(1, "partner_maintenance_unsure")] * 3
    assert [each.is_held for each in reports] == [False, False, True]  # the breaker counts them
    assert len(calls(sandbox, "POST", after=start)) == 3
    sandbox.set_faults()
    tenant.sql("UPDATE sync.hold SET until = clock_timestamp()", Login.PUSH)
    forget_backoff(tenant)
    push_now(tenant)
    assert [effects(sandbox, visit) for visit in visits] == [["created"]] * 5
    assert broken_promises(tenant) == []


def test_a_partner_out_of_service_that_names_a_time_is_left_alone_until_then_and_the_breaker_counts_nothing(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    tenant.sql("UPDATE sync.connection SET limits = '{}'", Login.OPERATOR)
    for _ in range(3):
        tenant.add_visit()
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", status=503, retry_after=600))
    start = mark(sandbox)
    reports = [push_now(tenant) for _ in range(4)]
    assert {(each.stopped, each.is_held) for each in reports} == {("partner_maintenance_unsure", False)}
    assert len(calls(sandbox, after=start)) == 1
    ((failures, left),) = tenant.sql("SELECT failures, until - clock_timestamp() FROM sync.hold", Login.OPERATOR)
    assert failures == 0
    assert timedelta(seconds=580) < left < timedelta(seconds=601)


def test_five_faults_in_a_row_stop_a_push_and_count_for_the_breaker(tenant: Tenant, sandbox: RunningSandbox) -> None:
    visits = [tenant.add_visit() for _ in range(12)]
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", status=500))
    start = mark(sandbox)
    report = push_now(tenant)
    assert (report.unknown, report.stopped, report.pending) == (5, "partner_maintenance", 12)
    assert len(calls(sandbox, "POST", after=start)) == 5
    assert tenant.sql("SELECT failures FROM sync.hold", Login.OPERATOR) == [(1,)]
    sandbox.set_faults()
    forget_backoff(tenant)
    push_now(tenant)
    assert [effects(sandbox, visit) for visit in visits] == [["created"]] * 12
    assert tenant.sql("SELECT failures FROM sync.hold WHERE lifted_at IS NULL", Login.OPERATOR) == []
    assert broken_promises(tenant) == []


def test_thirty_records_that_the_partner_fails_at_hold_up_no_other(tenant: Tenant, sandbox: RunningSandbox) -> None:
    bad = [tenant.add_visit() for _ in range(30)]
    sandbox.set_faults(*(FaultRule(FaultKind.STATUS, identifier=str(visit), status=500) for visit in bad))
    assert push_now(tenant).stopped == "partner_maintenance"
    good = [tenant.add_visit() for _ in range(2)]
    pushes = [hours_later(tenant) for _ in range(2)]
    assert [report.delivered for report in pushes] == [1, 1]  # by each the one that shows whether the partner is back
    assert [effects(sandbox, visit) for visit in good] == [["created"]] * 2
    assert tenant.sql("SELECT failures FROM sync.hold", Login.OPERATOR) == [(1,)]  # in a row: no time away
    for _ in range(6):
        hours_later(tenant)
    assert tenant.sql("SELECT count(*) FROM sync.pending WHERE attempts = 0", Login.OPERATOR) == [(0,)]
    later = tenant.add_visit()
    assert hours_later(tenant).delivered == 1
    assert effects(sandbox, later) == ["created"]
    sandbox.set_faults()
    assert hours_later(tenant).delivered == 30
    assert broken_promises(tenant) == []


def hours_later(tenant: Tenant) -> PushReport:
    """A push that no hold and no backoff puts off; the records keep the order in which they are due."""
    forget_hold(tenant)
    with tenant.services.database.transaction(Login.MIGRATOR, tenant.name) as tx:
        tx.exec_driver_sql("SET LOCAL ROLE zest_owner")
        tx.exec_driver_sql("UPDATE sync.pending SET not_before = not_before - interval '1 day'")
    return push_now(tenant)


def test_faults_with_an_answer_between_them_stop_nothing(tenant: Tenant, sandbox: RunningSandbox) -> None:
    one_by_one = replace(tenant, partner=replace(tenant.partner, parallel=1))
    for _ in range(12):
        one_by_one.add_visit()
    failing = FaultRule(FaultKind.STATUS, method="POST", status=500, times=4)
    sandbox.set_faults(failing, replace(failing, nth=6))
    report = push_now(one_by_one)
    assert (report.unknown, report.stopped) == (8, None)
    assert report.delivered >= 4
    assert tenant.sql("SELECT failures FROM sync.hold WHERE lifted_at IS NULL", Login.OPERATOR) == []


def test_a_refused_credential_costs_one_call_and_a_new_one_releases_what_it_stopped(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visits = [tenant.add_visit() for _ in range(3)]
    set_credential(tenant, "an-old-token")
    start = mark(sandbox)
    report = push_now(tenant)
    assert (report.retry, report.stopped, report.pending) == (1, "credential_refused", 3)
    for _ in range(2):
        assert push_now(tenant).stopped == "credential_refused"
    assert [row["status"] for row in calls(sandbox, after=start)] == [401]
    assert badge(tenant, visits[0]) == ("action_needed", "credential_refused")
    set_credential(tenant, TOKEN)
    assert push_now(tenant).delivered == 3
    assert broken_promises(tenant) == []


def test_a_credential_refused_while_reading_back_holds_the_doubt_until_a_new_one_comes(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visit = tenant.add_visit()
    sandbox.set_faults(
        FaultRule(FaultKind.CUT_AFTER, method="POST", times=1),
        FaultRule(FaultKind.STATUS, method="GET", type="Appointment", status=401),
    )
    hasty = impatient(tenant)
    assert push_now(hasty).stopped == "credential_refused"
    assert hasty.outcomes(visit) == [(1, "unknown"), (1, "unknown")]
    start = mark(sandbox)
    assert push_now(hasty).stopped == "credential_refused"
    assert calls(sandbox, after=start) == []
    sandbox.clear_faults()
    set_credential(hasty, TOKEN)
    report = push_now(hasty)
    assert (report.delivered, report.recovered) == (1, 1)
    assert effects(sandbox, visit) == ["created"]


def test_a_missing_permission_costs_one_call_a_push_and_ends_with_a_changed_credential(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    tenant.add_visit()
    tenant.add_visit()
    sandbox.configure(read_only=True)
    start = mark(sandbox)
    report = push_now(tenant)
    (problem,) = report.problems
    assert (report.parked, problem.reason) == (1, "permission_missing")
    assert problem.params == {"permission": "Appointment create"}
    assert len(calls(sandbox, after=start)) == 1
    sandbox.configure(read_only=False)
    set_credential(tenant, TOKEN)
    assert push_now(tenant).delivered == 2


def test_a_push_that_gets_through_releases_what_the_kinds_fault_had_parked(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    for _ in range(3):
        tenant.add_visit()
    sandbox.configure(read_only=True)
    push_now(tenant)
    sandbox.configure(read_only=False)
    delivered = push_now(tenant).delivered + push_now(tenant).delivered
    assert delivered == 3
    assert broken_promises(tenant) == []


def test_a_record_that_the_partner_refuses_is_parked_alone_and_a_new_version_releases_it(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    bad, good = tenant.add_visit(), tenant.add_visit()
    refusal = FaultRule(FaultKind.STATUS, identifier=str(bad), status=422, code="business-rule")
    sandbox.set_faults(refusal)
    report = push_now(tenant)
    assert (report.parked, report.delivered, report.stopped) == (1, 1, None)
    assert [problem.record for problem in report.problems] == [str(bad)]
    assert badge(tenant, bad) == ("action_needed", "content_refused")
    assert badge(tenant, good) == ("ok", None)
    start = mark(sandbox)
    push_now(tenant)
    assert calls(sandbox, after=start) == []
    sandbox.clear_faults()
    tenant.edit_visit(bad, note="corrected")
    assert push_now(tenant).delivered == 1
    assert broken_promises(tenant) == []


@pytest.mark.parametrize(("status", "reason"), [(404, "html_instead_of_data"), (429, "partner_busy")])
def test_a_record_at_which_each_push_stops_delays_no_other(
    tenant: Tenant, sandbox: RunningSandbox, status: int, reason: str
) -> None:
    """A gateway that does not like what one record says answers with a page, as if the whole partner were away."""
    bad = tenant.add_visit()
    good = [tenant.add_visit() for _ in range(2)]
    sandbox.set_faults(FaultRule(FaultKind.HTML_STATUS, method="POST", identifier=str(bad), status=status))
    hasty = impatient(tenant)
    assert push_now(hasty).stopped == reason
    report = push_now(hasty)
    assert (report.delivered, report.stopped) == (2, reason)
    assert [effects(sandbox, visit) for visit in (bad, *good)] == [[], ["created"], ["created"]]
    sandbox.clear_faults()
    push_now(hasty)
    assert broken_promises(hasty) == []


@pytest.mark.parametrize("where", ["before_the_read", "between_read_and_write"])
@pytest.mark.parametrize("stale_status", [412, 409])
def test_an_appointment_that_the_partner_edited_is_not_overwritten_until_somebody_decides(
    tenant: Tenant, sandbox: RunningSandbox, where: str, stale_status: int
) -> None:
    sandbox.configure(stale_status=stale_status)
    visit = tenant.add_visit(note="ours")
    push_now(tenant)
    tenant.edit_visit(visit, note="ours, newer")
    if where == "before_the_read":
        sandbox.put(copy_of(sandbox, visit) | {"comment": "theirs"})
    else:
        sandbox.set_faults(FaultRule(FaultKind.STATUS, method="PUT", times=1, status=stale_status, code="conflict"))
    report = push_now(tenant)
    assert (report.conflict, report.delivered) == (1, 0)
    assert badge(tenant, visit) == ("check_needed", "changed_at_partner")
    held = copy_of(sandbox, visit)["comment"]
    assert held == ("theirs" if where == "before_the_read" else "ours")
    start = mark(sandbox)
    push_now(tenant)
    assert calls(sandbox, after=start) == []
    tenant.edit_visit(visit, note="decided")
    assert push_now(tenant).delivered == 1
    assert broken_promises(tenant) == []


def test_an_appointment_that_the_partner_deleted_is_not_made_again_by_itself(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visit, other = tenant.add_visit(), tenant.add_visit()
    push_now(tenant)
    for each in (visit, other):
        sandbox.delete("Appointment", copy_of(sandbox, each)["id"])
    tenant.edit_visit(visit, note="2")
    tenant.edit_visit(other, status="cancelled")
    report = push_now(tenant)
    assert (report.conflict, report.delivered_with_warning) == (1, 1)
    assert badge(tenant, visit) == ("check_needed", "record_gone_at_partner")
    assert badge(tenant, other) == ("delivered_with_warning", "nothing_to_cancel")
    assert sandbox.state("Appointment") == []


def test_a_cancel_after_a_create_in_doubt_leaves_no_appointment_standing(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visit = tenant.add_visit()
    sandbox.set_faults(
        FaultRule(FaultKind.CUT_AFTER, method="POST", times=1),
        FaultRule(FaultKind.STATUS, method="GET", type="Appointment", times=1, status=503),
    )
    hasty = impatient(tenant)
    push_now(hasty)
    assert hasty.outcomes(visit)[-1] == (1, "unknown")
    hasty.edit_visit(visit, status="cancelled")
    push_now(hasty)
    assert effects(sandbox, visit) == ["created", "updated"]
    assert copy_of(sandbox, visit)["status"] == "cancelled"
    assert broken_promises(hasty) == []


def test_an_edit_whose_transaction_stays_open_while_a_later_one_goes_out_is_not_lost(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visit, other = tenant.add_visit(note="1"), tenant.add_visit(note="1")
    push_now(tenant)
    hand = another_hand(tenant)
    with hand.services.database.transaction(Login.PRODUCT, hand.name) as slow:
        slow.exec_driver_sql(f"UPDATE schedule.visit SET note = '2' WHERE visit_id = '{visit}'")
        tenant.edit_visit(other, note="2")
        accumulate(tenant.services, tenant.partner, tenant.name)
        push(tenant.services, tenant.partner, tenant.name)
    hand.services.database.close()
    push_now(tenant)
    for each in (visit, other):
        assert [version["comment"] for version in history(sandbox, copy_of(sandbox, each))] == ["1", "2"]
    assert broken_promises(tenant) == []
