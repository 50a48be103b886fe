"""From the product's plans and actuals to FHIR: a visit is an Appointment, a visit record an Encounter.

JP Core has no profile for Appointment, so both are base R4. A resource is never written from scratch over the
partner's copy: `merged` puts what the product owns into the copy and leaves every other element as it is.

    product                      partner
    visit, planned               Appointment booked, or further on: arrived, checked-in, fulfilled
    visit, cancelled             Appointment cancelled, with a cancelationReason (R4 spells it so)
    record, done                 Encounter finished
    record, absent or withdrawn  Encounter cancelled: the encounter did not take place
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from partners.contract import Command, Entity, Json, Verb, Visit, VisitRecord
from partners.fhir.elements import local_reference, objects
from partners.fhir.times import format_moment, parse_moment

RESOURCE_TYPES: Mapping[Entity, str] = {Entity.VISIT: "Appointment", Entity.VISIT_RECORD: "Encounter"}
IDENTIFIER_SYSTEMS: Mapping[Entity, str] = {
    Entity.VISIT: "visit_identifier_system",
    Entity.VISIT_RECORD: "record_identifier_system",
}
"""The settings that say under which system the product's ids stand as business identifiers."""
SERVICE_SYSTEM = "service_type_system"

_NOTE = "http://hl7.org/fhir/StructureDefinition/note"  # R4's Encounter has no element for a remark
_PLANNED = ("booked", "arrived", "checked-in", "fulfilled")
_CANCELLED = ("cancelled", "entered-in-error")
_REASON_SYSTEM = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"
_HOME_HEALTH = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "code": "HH",
    "display": "home health",
}
_CLIENT, _STAFF, _VISIT = "Patient/", "Practitioner/", "Appointment/"

Settings = Mapping[str, str]

_FIELDS: Mapping[str, str] = {
    "Appointment.start": "starts_at",
    "Appointment.end": "ends_at",
    "Appointment.comment": "note",
    "Appointment.serviceType": "service_code",
    "Appointment.participant": "client, staff",  # which of them, the number alone does not say
    "Encounter.status": "status",
    "Encounter.subject": "client",
    "Encounter.participant": "staff",
    "Encounter.period.start": "started_at",
    "Encounter.period.end": "ended_at",
    "Encounter.period": "started_at, ended_at",
    "Encounter.extension": "note",
}
"""What the product calls the elements that it fills."""


def fields_of(path: str) -> tuple[str, ...]:
    """The product's fields that stand at an element's path, indexes and all; none: it fills no such element."""
    parts = re.sub(r"\[\d+\]", "", path).split(".")
    outwards = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
    found = next((_FIELDS[each] for each in outwards if each in _FIELDS), "")
    return tuple(filter(None, found.split(", ")))


def business_identifier(command: Command, settings: Settings) -> tuple[str, str]:
    """(system, value) under which the partner keeps the record's identity in the product."""
    return settings[IDENTIFIER_SYSTEMS[command.entity]], str(command.record_id)


def carries(resource: Json, identifier: tuple[str, str]) -> bool:
    """Whether `resource` has the business identifier."""
    return any(_is_identifier(item, identifier) for item in objects(resource.get("identifier")))


def merged(copy: Json, command: Command, settings: Settings) -> Json:
    """The partner's `copy` ({} for a new record) with what the command says in place of what it said."""
    identifier = business_identifier(command, settings)
    resource = {name: value for name, value in copy.items() if name != "text"}  # it narrates the old content
    resource["resourceType"] = RESOURCE_TYPES[command.entity]
    ours = {"system": identifier[0], "value": identifier[1]}
    _replace(resource, "identifier", lambda item: _is_identifier(item, identifier), [ours])
    if isinstance(command.fields, Visit):
        _write_visit(resource, command, command.fields, settings)
    else:
        _write_record(resource, command, command.fields)
    return resource


def differing(resource: Json, command: Command, settings: Settings) -> tuple[str, ...]:
    """What the partner's `resource` says otherwise than the command, in the elements that the product owns.

    The names are those of contract.Found. Times are compared as moments, and a planned visit may be further on. For a
    cancelled record its being cancelled is all that is asked.
    """
    if command.verb is Verb.CANCEL:
        return () if resource.get("status") in _CANCELLED else ("status",)
    shown, wanted = (_facts(each, command, settings) for each in (resource, merged({}, command, settings)))
    return tuple(name for name, value in wanted.items() if shown[name] != value)


def theirs(resource: Json, command: Command, settings: Settings, names: Iterable[str]) -> dict[str, str]:
    """What the partner's `resource` says under these names, as text. What is no text of ours is left out."""
    said = {**_facts(resource, command, settings), "status": resource.get("status")}
    shown = {name: _shown(said[name]) for name in names}
    return {name: text for name, text in shown.items() if text is not None}


def _write_visit(resource: Json, command: Command, visit: Visit, settings: Settings) -> None:
    if command.verb is Verb.CANCEL:
        resource["status"] = "cancelled"
        resource["cancelationReason"] = {"coding": [{"system": _REASON_SYSTEM, "code": "other"}]}
    else:
        # A visit that is under way or done at the partner is not taken back to booked by an edit.
        resource["status"] = status if (status := resource.get("status")) in _PLANNED else "booked"
        resource.pop("cancelationReason", None)
    resource["start"], resource["end"] = format_moment(visit.starts_at), format_moment(visit.ends_at)
    _put(resource, "comment", visit.note.strip())
    system = settings[SERVICE_SYSTEM]
    service = [{"coding": [{"system": system, "code": visit.service_code}]}] if visit.service_code else []
    _replace(resource, "serviceType", lambda item: bool(_service_codes([item], system)), service)
    people = [_client(command), *_staff(command)]
    attending = [{"actor": {"reference": person}, "status": "accepted"} for person in people]
    _replace(resource, "participant", lambda item: _person(item, "actor") is not None, attending)


def _write_record(resource: Json, command: Command, record: VisitRecord) -> None:
    is_done = command.verb is not Verb.CANCEL and record.status == "done"
    resource["status"] = "finished" if is_done else "cancelled"
    resource["class"] = dict(_HOME_HEALTH)
    resource["subject"] = {"reference": _client(command)}
    staff = [{"individual": {"reference": person}} for person in _staff(command)]
    _replace(resource, "participant", lambda item: _person(item, "individual") is not None, staff)
    period = {"start": record.started_at, "end": record.ended_at}
    _put(resource, "period", {name: format_moment(moment) for name, moment in period.items() if moment})
    visit = command.links.get(Entity.VISIT)
    _put(resource, "appointment", [{"reference": f"{_VISIT}{visit}"}] if visit else [])
    text = record.note.strip()
    note = [{"url": _NOTE, "valueAnnotation": {"text": text}}] if text else []
    _replace(resource, "extension", lambda item: item.get("url") == _NOTE, note)


def _facts(resource: Json, command: Command, settings: Settings) -> Mapping[str, object]:
    """What a resource says of what the product owns, by the names of the contract."""
    is_visit = isinstance(command.fields, Visit)
    said = _visit_facts(resource, settings) if is_visit else _record_facts(resource)
    return {"record_id": carries(resource, business_identifier(command, settings)), **said}


def _visit_facts(resource: Json, settings: Settings) -> dict[str, object]:
    people = _people(resource, "actor")
    clients = {person for person in people if person.startswith(_CLIENT)}
    return {
        "starts_at": _moment(resource.get("start")),
        "ends_at": _moment(resource.get("end")),
        "service_code": _service_codes(objects(resource.get("serviceType")), settings[SERVICE_SYSTEM]),
        "note": _text(resource.get("comment")),
        "status": resource.get("status") in _PLANNED,
        "client": clients,
        "staff": people - clients,
    }


def _record_facts(resource: Json) -> dict[str, object]:
    period = resource.get("period")
    bounds = period if isinstance(period, dict) else {}
    kind = resource.get("class")
    notes = (item for item in objects(resource.get("extension")) if item.get("url") == _NOTE)
    return {
        "started_at": _moment(bounds.get("start")),
        "ended_at": _moment(bounds.get("end")),
        "status": resource.get("status"),
        "note": [_annotation(note) for note in notes],
        "class": kind.get("code") if isinstance(kind, dict) else None,
        "client": local_reference(resource.get("subject")),
        "staff": _people(resource, "individual"),
        "visit": {local_reference(item) for item in objects(resource.get("appointment"))},
    }


def _shown(fact: object) -> str | None:
    """A fact as text: moments in Japan's time, people by the partner's ids; None: there is no showing it."""
    match fact:
        case str():
            return fact.removeprefix(_CLIENT).removeprefix(_STAFF).removeprefix(_VISIT)
        case datetime():
            return format_moment(fact)
        case set() | list():
            return ", ".join(sorted(text for each in fact if (text := _shown(each)) is not None))
    return None


def _annotation(extension: Json) -> str:
    value = extension.get("valueAnnotation")
    return _text(value.get("text") if isinstance(value, dict) else None)


def _client(command: Command) -> str:
    return f"{_CLIENT}{command.links[Entity.CLIENT]}"


def _staff(command: Command) -> list[str]:
    """The assigned member of staff, or nobody yet."""
    link = command.links.get(Entity.STAFF)
    return [f"{_STAFF}{link}"] if link else []


def _person(participant: Json, role: str) -> str | None:
    """`Patient/id` or `Practitioner/id` that takes part; None: a place, a device, another's relative."""
    reference = local_reference(participant.get(role))
    return reference if reference is not None and reference.startswith((_CLIENT, _STAFF)) else None


def _people(resource: Json, role: str) -> set[str]:
    """All that take part, each as `_person` has it."""
    people = (_person(item, role) for item in objects(resource.get("participant")))
    return {person for person in people if person is not None}


def _service_codes(concepts: Iterable[Json], system: str) -> list[str]:
    codings = (coding for concept in concepts for coding in objects(concept.get("coding")))
    return [str(coding.get("code")) for coding in codings if coding.get("system") == system]


def _is_identifier(item: Json, identifier: tuple[str, str]) -> bool:
    return (item.get("system"), item.get("value")) == identifier


def _moment(value: object) -> datetime | None:
    """To the millisecond, which is what FHIR servers keep. Text that is no time is no moment."""
    try:
        moment = parse_moment(value)
    except ValueError:
        return None
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)


def _text(value: object) -> str:
    """Text as servers may store it: composed letters, Unix line ends, no white space around."""
    text = value if isinstance(value, str) else ""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()


def _put(resource: Json, name: str, value: object) -> None:
    """Set the element; an empty one is left out, as R4 writes it."""
    if value:
        resource[name] = value
    else:
        resource.pop(name, None)


def _replace(resource: Json, name: str, is_ours: Callable[[Json], bool], ours: Sequence[Json]) -> None:
    """In the list `name`, put `ours` in the place of what is ours there, and keep the rest."""
    _put(resource, name, [*(item for item in objects(resource.get(name)) if not is_ours(item)), *ours])
