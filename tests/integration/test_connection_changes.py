"""A connection that changes under way: its settings, its permissions, what it was told about waiting."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from evidence import is_told

from partners.contract import Command, Entity, Reply
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from resources.logins import Login
from zest_pipelines.flows import push as push_module
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.land import land
from zest_pipelines.flows.push import push
from zest_pipelines.store import badges, reports


def send(tenant: Any) -> Any:
    accumulate(tenant.services, tenant.partner, tenant.name)
    return push(tenant.services, tenant.partner, tenant.name)


def record_visit(tenant: Any, visit_id: Any) -> None:
    tenant.sql(
        "INSERT INTO schedule.visit_record (tenant_id, visit_id, status) VALUES (:tenant, :visit, 'absent')",
        tenant=tenant.name,
        visit=visit_id,
    )


def test_a_corrected_setting_maps_every_record_anew(sandbox: Any, new_tenant: Any) -> None:
    tenant = new_tenant(sandbox)
    change = "UPDATE sync.connection SET settings = CAST(:settings AS jsonb), changed_at = clock_timestamp()"
    (row,) = tenant.sql("SELECT settings FROM sync.connection", Login.OPERATOR)
    wrong = row.settings | {"patient_identifier_system": "urn:wrong"}
    tenant.sql(change, Login.OPERATOR, settings=json.dumps(wrong))
    tenant.take_in()
    assert tenant.ids("client") == []

    tenant.sql(change, Login.OPERATOR, settings=json.dumps(row.settings))
    tenant.take_in()

    assert len(tenant.ids("client")) == 30


def test_a_kind_of_record_that_the_partner_refuses_holds_up_no_other(tenant: Any) -> None:
    recorded = tenant.add_visit()
    send(tenant)
    record_visit(tenant, recorded)
    visits = [tenant.add_visit() for _ in range(3)]
    tenant.sandbox.set_faults(FaultRule(FaultKind.STATUS, type="Encounter", method="POST", status=403))

    report = send(tenant)

    assert (report.delivered, report.parked, report.stopped) == (3, 1, None)
    assert [tenant.outcomes(visit) for visit in visits] == [[(1, "delivered")]] * 3
    # One call was enough to know; and it goes by itself once a record of its kind gets through.
    tenant.sandbox.clear_faults()
    other = tenant.add_visit()
    send(tenant)
    record_visit(tenant, other)
    send(tenant)
    send(tenant)
    assert tenant.outcomes(recorded, Entity.VISIT_RECORD)[-1] == (1, "delivered")


def test_a_time_that_the_partner_names_to_a_reading_is_kept(tenant: Any) -> None:
    busy = FaultRule(FaultKind.STATUS, type="Patient", status=429, retry_after=600, times=1)
    tenant.sandbox.set_faults(busy)
    assert land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT).reason == "partner_busy"
    seen = len(tenant.sandbox.journal())

    again = land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)

    assert (again.state, again.reason) == ("failed", "budget_deferred")
    is_told("budget_deferred", again.params)
    assert len(tenant.sandbox.journal()) == seen


@pytest.mark.parametrize("fault", [FaultKind.CUT_AFTER, FaultKind.APPLY_THEN_STATUS, FaultKind.TRUNCATED_BODY])
def test_a_doubtful_call_is_not_looked_after_while_it_may_go_on(tenant: Any, fault: FaultKind) -> None:
    patient = replace(tenant, services=replace(tenant.services, under_way=timedelta(seconds=1.5)))
    visit = patient.add_visit()
    patient.sandbox.set_faults(FaultRule(fault, method="POST", status=504, times=1))
    send(patient)
    calls = len(patient.sandbox.journal())
    send(patient)
    assert (patient.outcomes(visit), len(patient.sandbox.journal())) == ([(1, "unknown")], calls)

    give_up = time.monotonic() + 10
    while patient.outcomes(visit)[-1] != (1, "delivered") and time.monotonic() < give_up:
        send(patient)

    assert patient.outcomes(visit) == [(1, "unknown"), (1, "delivered")]
    assert [row["effect"] for row in patient.sandbox.journal() if row["method"] == "POST"] == ["created"]


def test_a_push_that_is_cut_off_keeps_its_lease_while_its_call_may_go_on(
    tenant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)
    monkeypatch.setattr(push_module, "LEASE_SECONDS", 3.5)

    def cut(inner: Any, command: Command) -> Reply:
        inner.send(command)
        raise KeyboardInterrupt  # what terminating a run in the UI comes to

    class Cut:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def send(self, command: Command) -> Reply:
            return cut(self._inner, command)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    broken = replace(tenant.partner, open=lambda *given: Cut(tenant.partner.open(*given)))
    with pytest.raises(KeyboardInterrupt):
        push(tenant.services, broken, tenant.name)

    refused = send(tenant)
    assert refused.stopped == "push_under_way"
    is_told("push_under_way", refused.params)
    give_up = time.monotonic() + 10
    while tenant.outcomes(visit) == [] and time.monotonic() < give_up:
        send(tenant)
    assert tenant.outcomes(visit) == [(1, "delivered")]
    assert [row["effect"] for row in tenant.sandbox.journal() if row["method"] == "POST"] == ["created"]


def test_the_record_of_a_cancelled_visit_says_what_it_waits_for(tenant: Any) -> None:
    visit = tenant.add_visit()
    send(tenant)
    tenant.edit_visit(visit, status="cancelled")
    send(tenant)
    record_visit(tenant, visit)
    send(tenant)

    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        (badge,) = badges.of_record(tx, tenant.name, Entity.VISIT_RECORD, visit)

    assert (badge.badge, badge.reason) == ("waiting", "visit_not_yet_delivered")
    is_told("visit_not_yet_delivered", badge.params)


def test_a_good_reading_ends_the_pause_after_a_refused_credential(tenant: Any) -> None:
    visits = [tenant.add_visit() for _ in range(2)]
    tenant.sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", status=401, times=1))
    assert send(tenant).stopped == "credential_refused"
    assert send(tenant).stopped == "credential_refused"
    assert [row["method"] for row in tenant.sandbox.journal()].count("POST") == 1

    land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    send(tenant)
    send(tenant)

    assert [tenant.outcomes(visit)[-1] for visit in visits] == [(1, "delivered")] * 2


def test_what_had_stopped_goes_again_once_the_connection_is_changed_and_says_so(tenant: Any) -> None:
    visit = tenant.add_visit()
    tenant.sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", status=422, times=1))
    assert send(tenant).parked == 1
    tenant.sql("UPDATE sync.connection SET changed_at = clock_timestamp()", Login.OPERATOR)
    assert send(tenant).delivered == 1
    (released,) = tenant.sql("SELECT reason, params FROM sync.result WHERE outcome = 'released'", Login.OPERATOR)
    assert (released.reason, tenant.outcomes(visit)[-1]) == ("connection_changed", (1, "delivered"))
    is_told("connection_changed", released.params)


def test_an_edit_that_nobody_has_looked_at_is_not_ok_yet(tenant: Any) -> None:
    visit = tenant.add_visit()

    def is_unread() -> bool:
        with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
            return reports.has_unread_edits(tx, tenant.name, Entity.VISIT, visit)

    assert is_unread()
    send(tenant)
    assert not is_unread()


def test_the_last_error_goes_with_what_was_wrong(tenant: Any) -> None:
    def last_error() -> Any:
        with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
            (status,) = reports.connections(tx, tenant.name)
        return status.last_error and status.last_error.reason

    visit = tenant.add_visit()
    tenant.sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", status=422, times=1))
    send(tenant)
    assert last_error() == "content_refused"
    tenant.edit_visit(visit, note="mended")
    send(tenant)
    assert last_error() is None

    tenant.sandbox.set_faults(FaultRule(FaultKind.STATUS, type="Patient", status=500, times=1))
    land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    assert last_error() == "partner_failed"
    land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    assert last_error() is None
