"""ORCA behind the whole platform: it has no update, no version and no key, so a change takes the old appointment away
and makes another. Whatever dies in between, by the sandbox's log and book nothing is lost and nothing there twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from conftest import Tenant
from flow_bench import accumulate_all, expire_lease, forget_backoff, forget_hold, impatient, push_now, wait_for
from test_push_crashes import KEY, KILLED, mortal_push

from partners.contract import Connection, Entity
from partners.orca.appointments import mark_of, plain_note
from partners.orca.partner import ORCA
from partners.orca.sandbox import FaultKind, OrcaConfig
from partners.orca.sandbox.testing import Json, RunningOrca, running_orca
from resources.logins import Login
from resources.vault import Vault
from zest_pipelines.flows.services import Services
from zest_pipelines.store import tenants

SETTINGS = {"department": "01", "default_doctor": "10001", "patient_numbers": "1-100"}
CREDENTIAL = {"user": "zest", "password": "a-word"}


@pytest.fixture
def orca() -> Iterator[RunningOrca]:
    with running_orca(OrcaConfig(**CREDENTIAL, clients=6, staff=5)) as running:
        yield running


@pytest.fixture
def clinic(orca: RunningOrca, services: Services) -> Tenant:
    """A tenant at the ORCA whose masters are in, and whose vault another process can open."""
    services = replace(services, vault=Vault([KEY]))
    with services.database.transaction(Login.OPERATOR, "sakura") as tx:
        tenants.add(tx, "sakura", "Tenant sakura")
        tenants.connect(
            tx,
            Connection("sakura", ORCA.name, orca.url, SETTINGS),
            timing="minute",
            limits=("tenant:60000/60s",),  # one call at a time would wait for those that were never answered
            land_every=timedelta(hours=1),
            ciphertext=services.vault.encrypt(CREDENTIAL, tenant="sakura", partner=ORCA.name),
        )
    made = Tenant("sakura", services, ORCA, orca)  # type: ignore[arg-type]  # of the sandbox it only keeps the handle
    made.take_in()
    return impatient(made, 2.0)


def booked(orca: RunningOrca, visit: UUID) -> list[Json]:
    """The appointments that stand there of the visit."""
    return [row for row in orca.state()["appointments"] if mark_of(visit) in plain_note(row["note"])]


def settle(clinic: Tenant) -> None:
    """Push until nothing is open, as the coming minutes would."""
    for _ in range(5):
        expire_lease(clinic)
        forget_backoff(clinic)
        forget_hold(clinic)
        if push_now(clinic).pending == 0:
            return
    raise AssertionError(clinic.sql("SELECT reason, state FROM sync.pending", Login.OPERATOR))


def test_masters_come_in_and_visits_and_records_go_out(clinic: Tenant, orca: RunningOrca) -> None:
    living = [row for row in orca.state()["patients"].values() if row.get("TestPatient_Flag") != "1"]
    assert len(clinic.ids("client")) == len(living)
    assert len(clinic.ids("staff")) == 5
    visit = clinic.add_visit(note="鍵は受付")
    settle(clinic)
    assert [row["time"] for row in booked(orca, visit)] == ["09:00:00"]
    clinic.edit_visit(visit, starts_at="2026-12-02T11:00:00+09:00", ends_at="2026-12-02T12:00:00+09:00")
    settle(clinic)
    assert [(row["day"], row["time"]) for row in booked(orca, visit)] == [("2026-12-02", "11:00:00")]
    clinic.sql(
        "INSERT INTO schedule.visit_record (tenant_id, visit_id, started_at, ended_at, status, note) VALUES "
        "('sakura', :id, '2026-12-02T11:02:00+09:00', '2026-12-02T11:58:00+09:00', 'done', '')",
        id=visit,
    )
    settle(clinic)
    assert [row["time"] for row in orca.state()["acceptances"]] == ["11:02:00"]
    clinic.edit_visit(visit, status="cancelled")
    settle(clinic)
    assert booked(orca, visit) == []
    assert clinic.outcomes(visit)[-1] == (3, "delivered")
    assert orca.health()["most_under_way"] == 1


@pytest.mark.parametrize("act", ["02", "01"])
def test_a_change_that_dies_after_either_step_is_finished_and_there_once(
    clinic: Tenant, orca: RunningOrca, act: str
) -> None:
    visit = clinic.add_visit(note="一")
    settle(clinic)
    clinic.edit_visit(visit, note="二", starts_at="2026-12-01T13:00:00+09:00", ends_at="2026-12-01T14:00:00+09:00")
    accumulate_all(clinic)
    start = len(orca.journal())
    orca.fail(FaultKind.DELAY, api="appointmodv2", act=act, seconds=3, times=1)  # done, and not answered yet
    with mortal_push(clinic) as process:
        wait_for(lambda: len(orca.writes(start)) == (1 if act == "02" else 2), 30)
        process.kill()
        assert process.wait(30) == KILLED
    orca.set_faults()
    assert len(booked(orca, visit)) == (0 if act == "02" else 1)
    settle(clinic)
    assert [plain_note(row["note"]) for row in booked(orca, visit)] == [f"{mark_of(visit)} 二"]
    effects = [effect for effect, mark in orca.writes(start) if mark == mark_of(visit)]
    assert effects == ["cancelled", "created"]
    assert clinic.outcomes(visit)[-1] == (2, "delivered")


def test_a_platform_that_believed_in_updates_would_leave_a_change_cut_in_half_to_a_person(
    clinic: Tenant, orca: RunningOrca
) -> None:
    """The deliberate mutant of the rule that goes on with it."""
    visit = clinic.add_visit(note="一")
    settle(clinic)
    clinic.edit_visit(visit, note="二")
    orca.fail(FaultKind.SPEECHLESS, api="appointmodv2", act="01", times=1)
    broken = replace(clinic, partner=replace(ORCA, capability=replace(ORCA.capability, replaces=False)))
    with pytest.raises(AssertionError, match="conflict"):
        settle(broken)
    assert booked(orca, visit) == []


def test_a_newer_edit_of_a_change_that_was_cut_in_half_is_there_alone(clinic: Tenant, orca: RunningOrca) -> None:
    visit = clinic.add_visit(note="一")
    settle(clinic)
    clinic.edit_visit(visit, note="二")
    orca.fail(FaultKind.SPEECHLESS, api="appointmodv2", act="01")
    push_now(clinic)
    assert booked(orca, visit) == []
    clinic.edit_visit(visit, note="三", starts_at="2026-12-03T13:00:00+09:00", ends_at="2026-12-03T14:00:00+09:00")
    orca.set_faults()
    settle(clinic)
    assert [plain_note(row["note"]) for row in booked(orca, visit)] == [f"{mark_of(visit)} 三"]


@pytest.mark.parametrize("kind", [FaultKind.LOST, FaultKind.SPEECHLESS, FaultKind.EMPTY])
def test_a_creation_whose_answer_is_lost_is_looked_for_and_there_once(
    clinic: Tenant, orca: RunningOrca, kind: FaultKind
) -> None:
    orca.fail(kind, api="appointmodv2", act="01", times=1)
    visit = clinic.add_visit()
    push_now(clinic)
    settle(clinic)
    assert len(booked(orca, visit)) == 1
    assert [effect for effect, _ in orca.writes()] == ["created"]


def test_a_cancellation_cut_off_on_its_way_leaves_nothing_there(clinic: Tenant, orca: RunningOrca) -> None:
    visit = clinic.add_visit()
    settle(clinic)
    clinic.edit_visit(visit, status="cancelled")
    orca.fail(FaultKind.LOST, api="appointmodv2", act="02", times=1)
    push_now(clinic)
    settle(clinic)
    assert booked(orca, visit) == []
    clinic.edit_visit(visit, status="confirmed")
    settle(clinic)
    assert len(booked(orca, visit)) == 1


def test_what_the_clinic_moved_or_took_away_is_held_for_a_person(clinic: Tenant, orca: RunningOrca) -> None:
    moved, taken = (
        clinic.add_visit(),
        clinic.add_visit(starts_at="2026-12-04T09:00:00+09:00", ends_at="2026-12-04T10:00:00+09:00"),
    )
    settle(clinic)
    (row,) = booked(orca, moved)
    orca.put_appointments({**row, "time": "07:15:00"})
    for visit in (moved, taken):
        clinic.edit_visit(visit, note="編集")
    push_now(clinic)
    assert [clinic.outcomes(visit)[-1] for visit in (moved, taken)] == [(2, "conflict"), (2, "conflict")]
    assert [each["time"] for each in orca.state()["appointments"]] == ["07:15:00"]


def test_a_record_that_somebody_has_open_waits_and_goes(clinic: Tenant, orca: RunningOrca) -> None:
    orca.fail(FaultKind.CODE, api="appointmodv2", code="90", times=1)
    visit = clinic.add_visit()
    push_now(clinic)
    assert clinic.outcomes(visit) == [(1, "retry")]
    settle(clinic)
    assert len(booked(orca, visit)) == 1


def test_the_records_of_a_visit_wait_for_it_and_an_absent_client_is_accepted_nowhere(
    clinic: Tenant, orca: RunningOrca
) -> None:
    visit = clinic.add_visit()
    clinic.sql(
        "INSERT INTO schedule.visit_record (tenant_id, visit_id, started_at, ended_at, status, note) VALUES "
        "('sakura', :id, NULL, NULL, 'absent', '')",
        id=visit,
    )
    settle(clinic)
    assert orca.state()["acceptances"] == []
    assert clinic.outcomes(visit, Entity.VISIT_RECORD)[-1] == (1, "delivered")
