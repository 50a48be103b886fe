"""The demo's comparison finds every field that is not the same on both sides."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from zest_pipelines.local.demo_comparison import Identifiers, PartnerState, compare
from zest_pipelines.local.demo_product import VISITS, Books, planned, visit_id

CLIENT, STAFF, VISIT = UUID(int=1), UUID(int=2), UUID(int=3)
PEOPLE = {CLIENT: "p1", STAFF: "s1"}
SYSTEMS = Identifiers("urn:visit", "urn:record")
NAMES = {"family_name": "山田", "given_name": "花子", "family_kana": "ヤマダ", "given_kana": "ハナコ"}
Json = dict[str, Any]


def _name(script: str, family: str, given: str) -> Json:
    url = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
    return {"extension": [{"url": url, "valueCode": script}], "family": family, "given": [given]}


def _books() -> Books:
    client = NAMES | {
        "client_id": CLIENT,
        "birth_date": "1940-02",
        "sex": "female",
        "postal_code": "000-0001",
        "address": "一丁目",
        "phone": "03-0000-0001",
        "active": True,
    }
    staff = NAMES | {
        "staff_id": STAFF,
        "qualification": "看護師",
        "employed_from": date(2020, 4, 1),
        "employed_until": None,
        "active": True,
    }
    visit = {
        "visit_id": VISIT,
        "client_id": CLIENT,
        "staff_id": STAFF,
        "starts_at": datetime(2026, 12, 1, 0, tzinfo=UTC),
        "ends_at": datetime(2026, 12, 1, 1, tzinfo=UTC),
        "note": "裏口",
        "status": "confirmed",
    }
    record = {
        "visit_id": VISIT,
        "started_at": datetime(2026, 12, 1, 0, 3, tzinfo=UTC),
        "ended_at": datetime(2026, 12, 1, 1, tzinfo=UTC),
        "status": "done",
    }
    return Books([client], [staff], [visit], [record])


def _partner() -> PartnerState:
    names = [_name("SYL", "ヤマダ", "ハナコ"), _name("IDE", "山田", "花子")]
    patient = {
        "id": "p1",
        "name": names,
        "birthDate": "1940-02",
        "gender": "female",
        "address": [{"postalCode": "000-0001", "text": "一丁目"}],
        "telecom": [{"system": "phone", "value": "03-0000-0001"}],
        "active": True,
    }
    practitioner = {"id": "s1", "name": names, "active": True}
    role = {
        "practitioner": {"reference": "Practitioner/s1"},
        "period": {"start": "2020-04-01"},
        "code": [{"text": "看護師"}],
        "active": True,
    }
    appointment = {
        "id": "a1",
        "identifier": [{"system": "urn:visit", "value": str(VISIT)}],
        "status": "booked",
        "start": "2026-12-01T09:00:00+09:00",
        "end": "2026-12-01T10:00:00+09:00",
        "comment": "裏口",
        "participant": [{"actor": {"reference": "Patient/p1"}}, {"actor": {"reference": "Practitioner/s1"}}],
    }
    encounter = {
        "identifier": [{"system": "urn:record", "value": str(VISIT)}],
        "status": "finished",
        "period": {"start": "2026-12-01T09:03:00+09:00", "end": "2026-12-01T10:00:00+09:00"},
        "subject": {"reference": "Patient/p1"},
        "participant": [{"individual": {"reference": "Practitioner/s1"}}],
        "appointment": [{"reference": "Appointment/a1"}],
    }
    return PartnerState([patient], [practitioner], [role], [appointment], [encounter])


def test_equal_sides_have_no_difference() -> None:
    found = compare(_books(), _partner(), PEOPLE, SYSTEMS)
    assert found.differences == ()
    assert (found.clients, found.staff, found.visits, found.booked, found.encounters) == (1, 1, 1, 1, 1)


Change = Callable[[PartnerState], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.patients[0]["name"][1].update(family="山本"),
        lambda s: s.patients[0]["name"][0].update(given=["ハナ"]),
        lambda s: s.patients[0].update(birthDate="1940-03"),
        lambda s: s.patients[0].update(gender="male"),
        lambda s: s.patients[0]["address"][0].update(text="二丁目"),
        lambda s: s.patients[0]["telecom"][0].update(value="03-0000-0002"),
        lambda s: s.patients[0].update(active=False),
        lambda s: s.patients.append({"id": "p2", "name": [], "active": True}),
        lambda s: s.patients.clear(),
        lambda s: s.practitioners[0].update(active=False),
        lambda s: s.roles[0].update(code=[{"text": "医師"}]),
        lambda s: s.roles[0]["period"].update(start="2020-04-02"),
        lambda s: s.roles[0]["period"].update(end="2024-04-02"),
        lambda s: s.appointments[0].update(status="cancelled"),
        lambda s: s.appointments[0].update(status="pending"),
        lambda s: s.appointments[0].update(start="2026-12-01T09:10:00+09:00"),
        lambda s: s.appointments[0].update(end="2026-12-01T10:10:00+09:00"),
        lambda s: s.appointments[0].update(comment=""),
        lambda s: s.appointments[0]["participant"].pop(),
        lambda s: s.appointments[0]["participant"][1].update(actor={"reference": "Practitioner/s2"}),
        lambda s: s.appointments.append(deepcopy(s.appointments[0])),
        lambda s: s.appointments.append(deepcopy(s.appointments[0]) | {"status": "cancelled"}),
        lambda s: s.appointments.append(deepcopy(s.appointments[0]) | {"identifier": []}),
        lambda s: s.appointments.clear(),
        lambda s: s.encounters[0].update(status="cancelled"),
        lambda s: s.encounters[0]["period"].update(start="2026-12-01T09:04:00+09:00"),
        lambda s: s.encounters[0].update(subject={"reference": "Patient/p2"}),
        lambda s: s.encounters[0].update(appointment=[]),
        lambda s: s.encounters[0].update(participant=[]),
        lambda s: s.encounters.append(deepcopy(s.encounters[0])),
        lambda s: s.encounters.clear(),
    ],
)
def test_each_field_that_differs_is_found(change: Change) -> None:
    partner = _partner()
    change(partner)
    assert compare(_books(), partner, PEOPLE, SYSTEMS).differences


@pytest.mark.parametrize("status", ["draft", "cancelled"])
def test_a_visit_that_is_not_confirmed_may_be_there_as_cancelled_or_not_at_all(status: str) -> None:
    books = _books()
    books.visits[0]["status"] = status
    books = Books(books.clients, books.staff, books.visits, [])
    state = _partner()
    for appointments in ([], [state.appointments[0] | {"status": "cancelled"}]):
        partner = PartnerState(state.patients, state.practitioners, state.roles, appointments, [])
        assert compare(books, partner, PEOPLE, SYSTEMS).differences == ()
    standing = PartnerState(state.patients, state.practitioners, state.roles, state.appointments, [])
    assert compare(books, standing, PEOPLE, SYSTEMS).differences


def test_planned_visits_are_the_same_for_the_same_tenant_and_differ_between_tenants() -> None:
    ids = [visit_id("demo-a", number) for number in range(VISITS)]
    assert ids == [visit_id("demo-a", number) for number in range(VISITS)]
    assert len({*ids, *(visit_id("demo-b", number) for number in range(VISITS))}) == 2 * VISITS


def test_planned_visits_hold_each_kind_and_are_valid() -> None:
    visits = [planned("demo-a", number, [CLIENT], [STAFF], date(2026, 11, 24)) for number in range(VISITS)]
    assert {each["status"] for each in visits} == {"confirmed", "draft"}
    assert any(each["staff_id"] is None for each in visits)
    assert all(each["starts_at"] < each["ends_at"] for each in visits)
    assert {each["starts_at"].date() < date(2026, 11, 24) for each in visits} == {True, False}
