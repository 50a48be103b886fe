"""Whether the demo's partner and product are equal, field by field.

An independent reading: it takes the sandbox's own state and the product's own tables, knows nothing of the
connector's mapping, and does not ask what the platform believes to have delivered. Of the platform's tables it
uses the identities alone, to know which people are the same on both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from zest_pipelines.local.demo_product import Books, Row

Entry = tuple[str, ...]
"""What a partner that keeps no id of ours says of a visit or its record."""

Json = dict[str, Any]

_SCRIPT = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"


@dataclass(frozen=True)
class Identifiers:
    """The systems under which the partner keeps the product's ids."""

    visit: str
    record: str


@dataclass(frozen=True)
class PartnerState:
    """All live resources of the sandbox, by type."""

    patients: Sequence[Json]
    practitioners: Sequence[Json]
    roles: Sequence[Json]
    appointments: Sequence[Json]
    encounters: Sequence[Json]


@dataclass(frozen=True)
class Difference:
    """One field of one record that is not the same on both sides."""

    kind: str
    record: str
    """Opaque id: ours, or the partner's where we have none."""
    field: str


@dataclass(frozen=True)
class Comparison:
    """One tenant, both sides."""

    clients: int
    staff: int
    visits: int
    booked: int
    """Appointments that stand at the partner."""
    cancelled: int
    """Appointments that the partner keeps as cancelled."""
    encounters: int
    differences: tuple[Difference, ...]


def compare(books: Books, partner: PartnerState, people: Mapping[UUID, str], systems: Identifiers) -> Comparison:
    """Both sides of one tenant; `people` maps our clients' and staff's ids to the partner's."""
    statuses = Counter(each.get("status") for each in partner.appointments)
    return Comparison(
        clients=len(books.clients),
        staff=len(books.staff),
        visits=len(books.visits),
        booked=statuses["booked"],
        cancelled=statuses["cancelled"],
        encounters=len(partner.encounters),
        differences=(*_masters(books, partner, people), *_plans(books, partner, people, systems)),
    )


def _masters(books: Books, partner: PartnerState, people: Mapping[UUID, str]) -> Iterator[Difference]:
    roles = {_practitioner(role): role for role in partner.roles}
    theirs = {each["id"]: _client(each) for each in partner.patients}
    yield from people_differing("client", books.clients, theirs, people)
    theirs = {each["id"]: _staff(each, roles.get(each["id"], {})) for each in partner.practitioners}
    yield from people_differing("staff", books.staff, theirs, people)


def people_differing(
    kind: str, ours: Sequence[Row], theirs: Mapping[str, Row], people: Mapping[UUID, str]
) -> Iterator[Difference]:
    """In what our clients or staff differ from theirs, which are given by their ids and in our fields."""
    missing = dict(theirs)
    for row in ours:
        record = row[f"{kind}_id"]
        their = missing.pop(people.get(record, ""), None)
        if their is None:
            yield Difference(kind, str(record), "exists")
        else:
            yield from (Difference(kind, str(record), name) for name in their if their[name] != row[name])
    yield from (Difference(kind, partner_id, "exists") for partner_id in missing)


def entries_differing(kind: str, wanted: Mapping[str, Entry], there: Iterable[Entry]) -> Iterator[Difference]:
    """In what is there besides ours or not, of a partner that keeps no id of ours: by what each says, as often as it
    does."""
    left = Counter(there)
    for record, entry in wanted.items():
        if left[entry]:
            left[entry] -= 1
        else:
            yield Difference(kind, record, "exists")
    yield from (Difference(kind, "?", "is ours") for _ in left.elements())


def _client(patient: Json) -> Row:
    home = patient.get("address", [{}])[0]
    return _names(patient) | {
        "birth_date": patient.get("birthDate", ""),
        "sex": patient.get("gender", "unknown"),
        "postal_code": home.get("postalCode", ""),
        "address": home.get("text", ""),
        "phone": next((each["value"] for each in patient.get("telecom", []) if each["system"] == "phone"), ""),
        "active": patient["active"],
    }


def _staff(practitioner: Json, role: Json) -> Row:
    period = role.get("period", {})
    return _names(practitioner) | {
        "qualification": role.get("code", [{}])[0].get("text", ""),
        "employed_from": _date(period.get("start")),
        "employed_until": _date(period.get("end")),
        "active": practitioner["active"] and role.get("active", True),
    }


def _date(text: str | None) -> object:
    return datetime.strptime(text, "%Y-%m-%d").date() if text else None  # noqa: DTZ007  # a date has no zone


def _names(person: Json) -> Row:
    scripts = {
        extension["valueCode"]: name
        for name in person.get("name", [])
        for extension in name.get("extension", [])
        if extension["url"] == _SCRIPT
    }
    names: Row = {}
    for script, suffix in (("IDE", "name"), ("SYL", "kana")):
        name = scripts.get(script, {})
        names[f"family_{suffix}"] = name.get("family", "")
        names[f"given_{suffix}"] = " ".join(name.get("given", []))
    return names


def _practitioner(role: Json) -> str:
    return str(role["practitioner"]["reference"]).removeprefix("Practitioner/")


def _plans(
    books: Books, partner: PartnerState, people: Mapping[UUID, str], systems: Identifiers
) -> Iterator[Difference]:
    visits = {str(row["visit_id"]): row for row in books.visits}
    appointments = dict(_identified(partner.appointments, systems.visit))
    for record, row in visits.items():
        found = appointments.get(record, [])
        yield from _differing("visit", record, _visit_facts(row, found, people))
    records = {str(row["visit_id"]): row for row in books.records}
    encounters = dict(_identified(partner.encounters, systems.record))
    for record, row in records.items():
        found = encounters.get(record, [])
        facts = _record_facts(row, visits[record], found, appointments.get(record, []), people)
        yield from _differing("visit_record", record, facts)
    for kind, ours, theirs in (("visit", visits, appointments), ("visit_record", records, encounters)):
        yield from (Difference(kind, record or "?", "is ours") for record in theirs.keys() - ours.keys())


Facts = Iterable[tuple[str, object, object]]
"""Field, ours, theirs."""


def _differing(kind: str, record: str, facts: Facts) -> Iterator[Difference]:
    yield from (Difference(kind, record, name) for name, ours, theirs in facts if ours != theirs)


def _identified(resources: Sequence[Json], system: str) -> Iterable[tuple[str, list[Json]]]:
    """The resources by our id; those without one under the empty one."""
    found: dict[str, list[Json]] = {}
    for resource in resources:
        values = [each.get("value", "") for each in resource.get("identifier", []) if each.get("system") == system]
        found.setdefault(values[0] if values else "", []).append(resource)
    return found.items()


def _visit_facts(visit: Row, found: Sequence[Json], people: Mapping[UUID, str]) -> Iterator[tuple[str, object, object]]:
    is_wanted = visit["status"] == "confirmed"
    standing = [each for each in found if each["status"] != "cancelled"]
    yield "count", int(is_wanted), len(standing)
    yield "copies", True, len(found) <= 1  # a cancelled visit may be there, once
    if not (is_wanted and standing):
        return
    appointment = standing[0]
    yield "status", "booked", appointment["status"]
    yield "start", visit["starts_at"], _moment(appointment.get("start"))
    yield "end", visit["ends_at"], _moment(appointment.get("end"))
    yield "note", visit["note"], appointment.get("comment", "")
    actors = {each["actor"]["reference"] for each in appointment["participant"]}
    yield "participants", _participants(visit, people), actors


def _record_facts(
    record: Row, visit: Row, found: Sequence[Json], appointments: Sequence[Json], people: Mapping[UUID, str]
) -> Iterator[tuple[str, object, object]]:
    yield "count", 1, len(found)
    if not found:
        return
    encounter = found[0]
    period = encounter.get("period", {})
    yield "status", "finished" if record["status"] == "done" else "cancelled", encounter["status"]
    yield "start", record["started_at"], _moment(period.get("start"))
    yield "end", record["ended_at"], _moment(period.get("end"))
    actors = {each["individual"]["reference"] for each in encounter.get("participant", [])}
    yield "participants", _participants(visit, people), actors | {encounter["subject"]["reference"]}
    planned = {f"Appointment/{each['id']}" for each in appointments}
    yield "visit", planned, {each["reference"] for each in encounter.get("appointment", [])}


def _participants(visit: Row, people: Mapping[UUID, str]) -> set[str]:
    staff = {f"Practitioner/{people.get(visit['staff_id'])}"} if visit["staff_id"] else set()
    return {f"Patient/{people.get(visit['client_id'])}"} | staff


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
