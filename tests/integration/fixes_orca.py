"""Scenes at an ORCA: of `test_fixes`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fix_bench import Person, fixes
from test_orca import booked

from partners.orca.partner import ORCA
from partners.orca.sandbox import FaultKind, OrcaConfig, Rules
from partners.orca.sandbox.testing import Json, RunningOrca, running_orca
from resources.logins import Login

SECRET = {"user": "zest", "password": "a-word"}
CONFIG = OrcaConfig(**SECRET, clients=6, staff=5)
SETTINGS = {"department": "01", "default_doctor": "10001", "patient_numbers": "1-100"}


@pytest.fixture
def orca() -> Iterator[RunningOrca]:
    with running_orca(CONFIG) as running:
        yield running


def connected(new_person: Any, orca: RunningOrca, **settings: str | None) -> Person:
    given = {key: value for key, value in (SETTINGS | settings).items() if value is not None}
    person: Person = new_person(ORCA, orca.url, SECRET, **given)
    person.connects()
    person.minute()
    return person


def by_id(person: Person, table: str, partner_id: str) -> UUID:
    """Ours, by ORCA's number or code."""
    statement = f"SELECT record_id FROM sync.identity WHERE entity = '{table}' AND partner_id = :id"
    ((ours,),) = person.tenant.sql(statement, Login.OPERATOR, id=partner_id)
    return UUID(str(ours))


def living(orca: RunningOrca) -> tuple[str, Json]:
    """Number and record of somebody who is nobody's test."""
    return next(each for each in orca.state()["patients"].items() if "TestPatient_Flag" not in each[1])


@fixes("function_closed", "API settings")
def the_route_is_opened(new_person: Any) -> Person:
    with running_orca(replace(CONFIG, closed=("patientlst2v2",))) as closed:
        person = connected(new_person, closed)
        assert "patientlst2v2" in person.reads("function_closed")["next_action"]
    port = int(closed.url.rpartition(":")[2])
    person.goes("API settings")
    with running_orca(replace(CONFIG, port=port)):
        person.waits()
        person.sees_ok()
    return person


@fixes("function_closed", "API settings", "Delivery results", "Send again")
def the_route_of_appointments_is_opened(new_person: Any) -> Person:
    with running_orca(replace(CONFIG, closed=("appointmodv2",))) as closed:
        person = connected(new_person, closed)
        visit = person.tenant.add_visit()
        person.minute()
        assert "appointmodv2" in person.reads("function_closed", visit)["next_action"]
    port = int(closed.url.rpartition(":")[2])
    person.goes("API settings")
    with running_orca(replace(CONFIG, port=port)):
        person.sends_again()
        person.sees_ok(visit)
    return person


@fixes("patient_numbers_missing", "Connection settings", "patient_numbers")
def the_ranges_are_entered(new_person: Any) -> Person:
    with running_orca(replace(CONFIG, rules=Rules(most_listed=4))) as orca:
        person = connected(new_person, orca, patient_numbers=None)
        for number in list(orca.state()["patients"])[:6]:
            orca.put_patient(int(number))
        person.day()
        assert "1-5000" in person.reads("patient_numbers_missing")["next_action"]
        person.connects("Connection settings", "patient_numbers", patient_numbers="1-5000")
        person.waits()
        person.sees_ok()
    return person


# --- Visits -----------------------------------------------------------------------------------------------------------


@fixes("character_refused", "Visits")
def the_special_character_is_replaced(new_person: Any, orca: RunningOrca) -> Person:
    person = connected(new_person, orca)
    visit = person.tenant.add_visit(note="鍵は\x01受付")
    person.minute()
    assert "Note" in person.reads("character_refused", visit)["next_action"]
    person.edits(visit, note="鍵は受付")
    person.minute()
    person.sees_ok(visit)
    return person


@fixes("slot_taken", "Appointments", "Delivery results", "Send again")
def the_other_booking_is_moved(new_person: Any, orca: RunningOrca) -> Person:
    person = connected(new_person, orca)
    first = person.tenant.add_visit()
    person.minute()
    second = person.tenant.add_visit()
    person.minute()
    person.reads("slot_taken", second)
    person.goes("Appointments")
    (row,) = booked(orca, first)
    person.tenant.edit_visit(first, starts_at="2026-12-01T13:00:00+09:00", ends_at="2026-12-01T14:00:00+09:00")
    person.minute()
    assert booked(orca, first)[0]["time"] != row["time"]
    person.sends_again()
    person.sees_ok(first, second)
    return person


@fixes("client_gone_at_partner", "Patients", "Delivery results", "Send again")
def the_number_is_set_right(new_person: Any, orca: RunningOrca) -> Person:
    person = connected(new_person, orca)
    number, row = living(orca)
    orca.delete_patient(int(number))
    visit = person.tenant.add_visit(client_id=by_id(person, "client", number))
    person.minute()
    person.reads("client_gone_at_partner", visit)
    person.goes("Patients")
    orca.put_patient(int(number), **row)
    person.waits()
    person.sends_again()
    person.sees_ok(visit)
    return person


def by_a_nurse(new_person: Any, orca: RunningOrca) -> tuple[Person, UUID, str]:
    person = connected(new_person, orca, default_doctor=None)
    nurse = next(code for code in orca.state()["staff"] if not code.startswith("1"))
    visit = person.tenant.add_visit(staff_id=by_id(person, "staff", nurse))
    person.minute()
    person.reads("staff_not_assignable", visit)
    return person, visit, nurse


@fixes("staff_not_assignable", "Connection settings", "doctors")
def a_doctor_is_set_for_the_nurse(new_person: Any, orca: RunningOrca) -> Person:
    person, visit, nurse = by_a_nurse(new_person, orca)
    person.connects("Connection settings", "doctors", doctors=f"{nurse}=10001")
    person.minute()
    person.sees_ok(visit)
    return person


@fixes("staff_not_assignable", "Connection settings", "default_doctor")
def a_doctor_is_set_for_all(new_person: Any, orca: RunningOrca) -> Person:
    person, visit, _ = by_a_nurse(new_person, orca)
    person.connects("Connection settings", "default_doctor", default_doctor="10001")
    person.minute()
    person.sees_ok(visit)
    return person


@fixes("code_unknown_at_partner", "System administration", "Connection settings")
def the_department_is_corrected(new_person: Any, orca: RunningOrca) -> Person:
    return mistyped(new_person, orca, "department", "77")


@fixes("code_unknown_at_partner", "System administration", "Connection settings")
def the_doctor_is_corrected(new_person: Any, orca: RunningOrca) -> Person:
    return mistyped(new_person, orca, "default_doctor", "10099")


@fixes("code_unknown_at_partner", "System administration", "Connection settings")
def the_medical_content_is_corrected(new_person: Any, orca: RunningOrca) -> Person:
    return mistyped(new_person, orca, "medical_content", "55")


def mistyped(new_person: Any, orca: RunningOrca, setting: str, value: str) -> Person:
    """A code is set that the clinic does not have; by the name in the action it is set right."""
    person = connected(new_person, orca, **{setting: value})
    staff = {"staff_id": None} if setting == "default_doctor" else {}
    visit = person.tenant.add_visit(**staff)
    person.minute()
    assert setting in person.reads("code_unknown_at_partner", visit)["next_action"]
    person.goes("System administration")
    person.connects("Connection settings", **{setting: (SETTINGS | {"medical_content": "01"})[setting]})
    person.minute()
    person.sees_ok(visit)
    return person


def done(person: Person, visit: UUID) -> None:
    """The visit's record."""
    person.tenant.sql(
        "INSERT INTO schedule.visit_record (tenant_id, visit_id, started_at, ended_at, status, note) "
        "SELECT tenant_id, visit_id, starts_at, ends_at, 'done', '' FROM schedule.visit WHERE visit_id = :id",
        id=visit,
    )


@fixes("acceptance_taken", "Acceptances", "Delivery results", "Mark as delivered")
def it_counts_as_the_same_visit(new_person: Any, orca: RunningOrca) -> Person:
    person = connected(new_person, orca)
    morning = person.tenant.add_visit()
    evening = person.tenant.add_visit(starts_at="2026-12-01T17:00:00+09:00", ends_at="2026-12-01T18:00:00+09:00")
    person.minute()
    done(person, morning)
    person.minute()
    done(person, evening)
    person.minute()
    person.reads("acceptance_taken")
    person.goes("Acceptances")
    (there,) = orca.state()["acceptances"]
    number = f"{there['patient']:05}/{there['day']}/{there['number']}"
    person.marks_as_delivered(evening, number, "visit_record")
    person.sees_ok(morning, evening)
    return person


def refused(new_person: Any, orca: RunningOrca, fault: Json, reason: str) -> tuple[Person, UUID]:
    """A visit, and its record, of which one is refused by that code until the clinic's people set it right."""
    person = connected(new_person, orca)
    orca.set_faults({"kind": FaultKind.CODE, **fault})
    visit = person.tenant.add_visit()
    person.minute()
    done(person, visit)
    person.minute()
    person.reads(reason)
    return person, visit


@fixes("insurance_refused", "Patients", "Delivery results", "Send again")
def the_insurance_is_corrected(new_person: Any, orca: RunningOrca) -> Person:
    person, visit = refused(new_person, orca, {"api": "acceptmodv2", "code": "21"}, "insurance_refused")
    person.goes("Patients")
    orca.set_faults()
    person.sends_again()
    person.sees_ok(visit)
    return person


@fixes("day_full_at_partner", "Appointments", "Delivery results", "Send again")
def an_appointment_is_cancelled(new_person: Any, orca: RunningOrca) -> Person:
    person = connected(new_person, orca)
    number, _ = living(orca)
    row = {"patient": int(number), "day": "2026-12-01", "department": "02", "doctor": "10002", "content": "01"}
    times = [f"{7 + at // 12:02}:{at % 12 * 5:02}:00" for at in range(99)]
    full = [{**row, "note": "", "time": time, "number": at} for at, time in enumerate(times, 1)]
    orca.put_appointments(*full)
    visit = person.tenant.add_visit(client_id=by_id(person, "client", number))
    person.minute()
    person.reads("day_full_at_partner", visit)
    person.goes("Appointments")
    orca.put_appointments(*full[1:40])
    person.sends_again()
    person.sees_ok(visit)
    return person


@fixes("day_full_at_partner", "Acceptances", "Delivery results", "Send again")
def an_acceptance_is_cancelled(new_person: Any, orca: RunningOrca) -> Person:
    person, visit = refused(new_person, orca, {"api": "acceptmodv2", "code": "50"}, "day_full_at_partner")
    person.goes("Acceptances")
    orca.set_faults()
    person.sends_again()
    person.sees_ok(visit)
    return person
