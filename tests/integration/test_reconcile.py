"""Reconcile: what was pushed equals what is read back, and what the partner's people changed is told by its field."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from conftest import Tenant
from evidence import is_told
from flow_bench import accumulate_all, calls, copy_of, mark, push_now

from partners.contract import Command, Connector, ReadBack, Recovery
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login
from zest_pipelines.core.weeks import Days
from zest_pipelines.flows import reconcile as reconcile_module
from zest_pipelines.flows.operate import pause
from zest_pipelines.flows.reconcile import reconcile
from zest_pipelines.flows.reports import Mismatch, ReconcileReport
from zest_pipelines.store import classifications

WEEK = Days(date(2026, 11, 30), date(2026, 12, 6))
NEXT_WEEK = {"starts_at": "2026-12-07T00:00:00+09:00", "ends_at": "2026-12-07T01:00:00+09:00"}
MOVE_CREDENTIAL = "UPDATE sync.credential SET ciphertext = :sealed, changed_at = clock_timestamp()"


def put_record(tenant: Tenant, visit_id: UUID, status: str = "done") -> None:
    tenant.sql(
        "INSERT INTO schedule.visit_record (tenant_id, visit_id, started_at, ended_at, status, note) VALUES "
        "(:tenant, :id, '2026-12-01T09:02:00+09:00', '2026-12-01T09:58:00+09:00', :status, '変わりなし')",
        tenant=tenant.name,
        id=visit_id,
        status=status,
    )


def read_back(tenant: Tenant, days: Days = WEEK) -> ReconcileReport:
    return replace(reconcile(tenant.services, tenant.partner, tenant.name, days), seconds=0)


def found(report: ReconcileReport) -> dict[tuple[str, str], tuple[str, ...]]:
    return {(each.entity, each.record): each.fields for each in report.mismatches}


def change_at_partner(
    sandbox: RunningSandbox, visit: UUID, change: Mapping[str, Any], kind: str = "Appointment"
) -> None:
    sandbox.put(copy_of(sandbox, visit, kind) | change)


@dataclass(frozen=True)
class _Watched:
    """A connector that does something before each reading back."""

    inner: Connector
    before: Callable[[Command], None]

    def find(self, command: Command) -> ReadBack:
        self.before(command)
        return self.inner.find(command)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def watched(tenant: Tenant, before: Callable[[Command], None]) -> Tenant:
    """The tenant, its partner read back through a `_Watched`."""

    def open_connector(*details: Any) -> Any:
        return _Watched(tenant.partner.open(*details), before)

    return replace(tenant, partner=replace(tenant.partner, open=open_connector))


# --- Equal ------------------------------------------------------------------------------------------------------------


def test_what_was_pushed_and_left_alone_is_equal_and_costs_a_call_a_record(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    done, absent, cancelled = tenant.add_visit(note="鍵は受付"), tenant.add_visit(staff_id=None), tenant.add_visit()
    put_record(tenant, done)
    put_record(tenant, absent, "absent")
    tenant.add_visit(**NEXT_WEEK)
    tenant.add_visit(status="draft")
    push_now(tenant)
    tenant.edit_visit(cancelled, status="cancelled")
    tenant.edit_visit(tenant.add_visit(), status="cancelled")  # nobody's business
    push_now(tenant)
    change_at_partner(sandbox, done, {"status": "fulfilled", "priority": 3})
    start = mark(sandbox)

    assert read_back(tenant) == ReconcileReport(WEEK, compared=5, equal=5)
    assert [row["method"] for row in calls(sandbox, after=start)] == ["GET"] * 5
    assert read_back(tenant, Days(date(2026, 11, 23), date(2026, 11, 29))) == ReconcileReport(
        Days(date(2026, 11, 23), date(2026, 11, 29))
    )


def test_a_record_belongs_to_the_day_of_its_newest_change_and_is_open_until_that_is_there(tenant: Tenant) -> None:
    moved, edited, new = tenant.add_visit(), tenant.add_visit(), tenant.add_visit(client_id=UUID(int=7))
    push_now(tenant)
    assert read_back(tenant) == ReconcileReport(WEEK, compared=2, equal=2, open=1)
    tenant.edit_visit(moved, **NEXT_WEEK)
    tenant.edit_visit(edited, note="newer")
    accumulate_all(tenant)
    assert read_back(tenant) == ReconcileReport(WEEK, open=2)
    push_now(tenant)
    assert read_back(tenant) == ReconcileReport(WEEK, compared=1, equal=1, open=1)
    following = Days(date(2026, 12, 7), date(2026, 12, 7))
    assert read_back(tenant, following) == ReconcileReport(following, compared=1, equal=1)
    tenant.edit_visit(new, status="cancelled")
    push_now(tenant)
    assert read_back(tenant).open == 0


def test_an_older_version_that_comes_late_changes_nothing_about_what_the_partner_should_have(tenant: Tenant) -> None:
    visit = tenant.add_visit(status="draft")
    tenant.edit_visit(visit, status="confirmed")
    push_now(tenant)
    tenant.sql(
        "INSERT INTO sync.change "
        "(month, tenant_id, partner, entity, record_id, version, op, image, client_id, on_date, edited_at) "
        "SELECT month, tenant_id, partner, entity, record_id, 1, op, image, client_id, on_date, edited_at "
        "FROM sync.change",
        Login.ACCUMULATE,
    )
    assert read_back(tenant) == ReconcileReport(WEEK, compared=1, equal=1)


# --- Different --------------------------------------------------------------------------------------------------------


def test_what_the_partners_people_changed_is_told_by_record_and_field_and_never_by_value(
    tenant: Tenant, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_module, "_MOST_MISMATCHES", 7)
    changes: list[tuple[Mapping[str, Any], tuple[str, ...]]] = [
        ({"comment": "CANARY-note"}, ("note",)),
        ({"start": "2026-12-01T08:00:00+09:00"}, ("starts_at",)),
        ({"end": "2026-12-01T12:00:00+09:00", "comment": "CANARY-note"}, ("ends_at", "note")),
        ({"status": "cancelled"}, ("status",)),
        ({"serviceType": []}, ("service_code",)),
        ({"participant": [{"actor": {"reference": "Patient/CANARY-id"}, "status": "accepted"}]}, ("client", "staff")),
    ]
    visits = [tenant.add_visit(note="CANARY-ours") for _ in changes]
    done, untouched = tenant.add_visit(), tenant.add_visit()
    put_record(tenant, done)
    push_now(tenant)
    for visit, (change, _) in zip(visits, changes, strict=True):
        change_at_partner(sandbox, visit, change)
    change_at_partner(sandbox, done, {"period": {"start": "2026-12-01T09:02:00+09:00"}}, "Encounter")

    report = read_back(tenant)

    assert (report.compared, report.equal, report.differing, report.missing) == (9, 2, 7, 0)
    wanted = {("visit", str(visit)): names for visit, (_, names) in zip(visits, changes, strict=True)}
    assert found(report) == wanted | {("visit_record", str(done)): ("ended_at",)}
    assert not report.is_equal
    ours = [copy_of(sandbox, visit)["id"] for visit in (*visits, untouched)]
    assert not [text for text in ("CANARY", *ours) if text in repr(report)]


def test_a_deleted_copy_is_missing_and_not_equal_and_a_cancelled_one_may_be_gone(
    tenant: Tenant, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_module, "_MOST_MISMATCHES", 2)
    deleted = [tenant.add_visit() for _ in range(3)]
    cancelled, booked_again = tenant.add_visit(), tenant.add_visit()
    push_now(tenant)
    for visit in (cancelled, booked_again):
        tenant.edit_visit(visit, status="cancelled")
    push_now(tenant)
    for visit in (*deleted, cancelled):
        sandbox.delete("Appointment", copy_of(sandbox, visit)["id"])
    change_at_partner(sandbox, booked_again, {"status": "booked"})

    report = read_back(tenant)

    assert (report.compared, report.equal, report.missing, report.differing) == (5, 1, 3, 1)
    assert len(report.mismatches) == 2  # the first few are shown, all are counted
    monkeypatch.undo()
    report = read_back(tenant)
    assert found(report) == {
        **{("visit", str(visit)): () for visit in deleted},
        ("visit", str(booked_again)): ("status",),
    }
    assert not report.is_equal


# --- Beside a push ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_pushed", [True, False], ids=["edited-and-pushed", "edited"])
def test_a_record_that_is_edited_between_our_look_and_the_partners_answer_is_open_and_no_mismatch(
    tenant: Tenant, sandbox: RunningSandbox, is_pushed: bool
) -> None:
    edited, other = tenant.add_visit(note="1"), tenant.add_visit(note="1")
    push_now(tenant)

    def edit_meanwhile(command: Command) -> None:
        if command.record_id == edited:
            tenant.edit_visit(edited, note="2")
            if is_pushed:
                push_now(tenant)
            else:
                accumulate_all(tenant)
                change_at_partner(sandbox, edited, {"comment": "theirs"})

    assert read_back(watched(tenant, edit_meanwhile)) == ReconcileReport(WEEK, compared=1, equal=1, open=1)
    assert copy_of(sandbox, edited)["comment"] == ("2" if is_pushed else "theirs")
    assert copy_of(sandbox, other)["comment"] == "1"


# --- Faults -----------------------------------------------------------------------------------------------------------


def test_a_partner_that_refuses_the_credential_ends_it_with_one_call_and_the_reason(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    for _ in range(3):
        tenant.add_visit()
    push_now(tenant)
    sealed = tenant.services.vault.encrypt({"token": "old"}, tenant=tenant.name, partner=tenant.partner.name)
    tenant.sql(MOVE_CREDENTIAL, Login.OPERATOR, sealed=sealed)
    start = mark(sandbox)
    report = read_back(tenant)
    assert report == ReconcileReport(WEEK, stopped="credential_refused")
    assert not report.is_equal
    assert [row["status"] for row in calls(sandbox, after=start)] == [401]


def test_a_partner_that_names_a_time_is_left_alone_until_then(tenant: Tenant, sandbox: RunningSandbox) -> None:
    for _ in range(3):
        tenant.add_visit()
    push_now(tenant)
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="GET", nth=2, times=1, status=429, retry_after=600))
    start = mark(sandbox)
    assert read_back(tenant) == ReconcileReport(WEEK, compared=1, equal=1, stopped="partner_busy")
    assert read_back(tenant) == ReconcileReport(WEEK, stopped="budget_deferred")
    assert len(calls(sandbox, after=start)) == 2


def test_each_reading_passes_the_limits_and_ends_where_they_say_later(
    tenant: Tenant, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_module, "_PATIENCE", timedelta(seconds=1))
    for _ in range(3):
        tenant.add_visit()
    push_now(tenant)
    tenant.sql("UPDATE sync.connection SET limits = ARRAY['tenant:2/3600s']", Login.OPERATOR)
    start = mark(sandbox)
    report = read_back(tenant)
    assert report.stopped == "budget_deferred"
    assert report.compared == report.equal == len(calls(sandbox, after=start)) < 3


@pytest.mark.parametrize(("code", "most"), [("credential_refused", 1), ("partner_failed", 3)])
def test_an_unknown_error_ends_it_if_by_an_operators_word_it_is_of_the_whole_connection(
    tenant: Tenant, sandbox: RunningSandbox, code: str, most: int
) -> None:
    for _ in range(3):
        tenant.add_visit()
    push_now(tenant)
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="GET", status=418))
    with tenant.services.database.transaction(Login.OPERATOR, None) as tx:
        classifications.classify(tx, "fhir", "read HTTP 418", code, "")
    start = mark(sandbox)
    assert read_back(tenant).stopped == code
    assert len(calls(sandbox, after=start)) == most


def test_the_time_box_ends_it_and_the_next_one_takes_the_records_in_another_order(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visits = {tenant.add_visit() for _ in range(4)}
    push_now(tenant)
    start = mark(sandbox)
    report = reconcile(tenant.services, tenant.partner, tenant.name, WEEK, box_seconds=0)
    assert replace(report, seconds=0) == ReconcileReport(WEEK, stopped="time_box_ended")
    assert calls(sandbox, after=start) == []
    read: list[UUID] = []

    def slowly(command: Command) -> None:
        read.append(command.record_id)
        time.sleep(0.5)

    for numbers in ([0.2, 0.1, 0.4, 0.3], [0.4, 0.3, 0.2, 0.1]):
        dice = replace(tenant, services=replace(tenant.services, random=iter(numbers).__next__))
        slow = watched(dice, slowly)
        report = reconcile(slow.services, slow.partner, slow.name, WEEK, box_seconds=0.9)
        assert (report.compared, report.equal, report.stopped) == (2, 2, "time_box_ended")
        assert not report.is_equal
    assert set(read) == visits


def test_a_pause_ends_a_comparison_under_way(
    tenant: Tenant, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_module, "_LOOK_EVERY", 0.0)
    for _ in range(3):
        tenant.add_visit()
    push_now(tenant)
    start = mark(sandbox)
    paused = watched(tenant, lambda _: pause(tenant.services, tenant.partner, tenant.name, "stop"))
    assert read_back(paused) == ReconcileReport(WEEK, compared=1, equal=1, stopped="connection_paused")
    assert len(calls(sandbox, after=start)) == 1


@pytest.mark.parametrize("why", ["connection_paused", "outside_window", "cannot_be_read_back"])
def test_a_paused_connection_a_closed_partner_and_one_that_shows_nothing_are_not_called(
    tenant: Tenant, sandbox: RunningSandbox, why: str
) -> None:
    tenant.add_visit()
    push_now(tenant)
    asked = tenant
    if why == "connection_paused":
        tenant.sql("UPDATE sync.connection SET paused_at = now(), pause_reason = 'moving house'", Login.OPERATOR)
    elif why == "outside_window":
        tenant.sql("UPDATE sync.connection SET closed = ARRAY['00:00-24:00']", Login.OPERATOR)
    else:
        capability = replace(tenant.partner.capability, recovery=Recovery.NONE)
        asked = replace(tenant, partner=replace(tenant.partner, capability=capability))
    start = mark(sandbox)
    report = read_back(asked)
    assert report == ReconcileReport(WEEK, stopped=why)
    is_told(why, report.params)
    assert calls(sandbox, after=start) == []


def test_a_record_that_is_there_twice_is_a_mismatch_with_its_reason(tenant: Tenant, sandbox: RunningSandbox) -> None:
    twice, _ = tenant.add_visit(), tenant.add_visit()
    push_now(tenant)
    copy = copy_of(sandbox, twice)
    sandbox.delete("Appointment", copy["id"])
    for name in ("one", "two"):
        sandbox.put(copy | {"id": name})
    mismatch = Mismatch("visit", str(twice), (), "several_at_partner")
    assert read_back(tenant) == ReconcileReport(WEEK, compared=2, equal=1, differing=1, mismatches=(mismatch,))


def test_a_record_that_cannot_be_read_for_now_is_left_out_and_holds_up_no_neighbour(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    broken, *others = sorted(tenant.add_visit() for _ in range(3))
    push_now(tenant)
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="GET", identifier=str(broken), status=500))
    report = read_back(tenant)
    assert report == ReconcileReport(WEEK, compared=2, equal=2, stopped="partner_failed")
    assert not report.is_equal
    sandbox.clear_faults()

    def fail(command: Command) -> None:
        if command.record_id == broken:
            raise ZeroDivisionError("CANARY")

    report = read_back(watched(tenant, fail))
    assert (report.compared, report.equal, report.stopped) == (len(others), 2, "internal_error")
    assert report.params["detail"].startswith("ZeroDivisionError test_reconcile.py:")
    assert read_back(tenant) == ReconcileReport(WEEK, compared=3, equal=3)
