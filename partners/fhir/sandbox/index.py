"""Which search parameters a record answers to, and under which keys.

Equality parameters are looked up in a dictionary kept by the store; nothing here reads more than one record.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from partners.fhir.sandbox.outcome import Json

COMMON_PARAMETERS = ("_id", "_lastUpdated", "identifier")
"""What every type can be searched by."""

REFERENCE_PARAMETERS: dict[str, tuple[str, ...]] = {
    "PractitionerRole": ("practitioner", "organization"),
    "Appointment": ("patient", "practitioner", "actor"),
    "Encounter": ("patient", "subject", "appointment"),
}
DATE_PARAMETERS: dict[str, tuple[str, ...]] = {"Appointment": ("date",)}

Key = tuple[str, str]
"""A parameter's name and one value it is found under."""

_TARGET_TYPE = {
    "patient": "Patient",
    "subject": "Patient",
    "practitioner": "Practitioner",
    "organization": "Organization",
    "appointment": "Appointment",
}


def index_keys(resource: Json) -> Iterator[Key]:
    """Every key that `resource` is to be found under; repeats are possible."""
    for identifier in _dicts(resource.get("identifier")):
        value = identifier.get("value")
        if isinstance(value, str):
            yield "identifier", value
            yield "identifier", f"{identifier.get('system', '')}|{value}"
    match resource.get("resourceType"):
        case "PractitionerRole":
            yield from _reference("practitioner", resource.get("practitioner"))
            yield from _reference("organization", resource.get("organization"))
        case "Appointment":
            for participant in _dicts(resource.get("participant")):
                yield from _actor(participant.get("actor"))
        case "Encounter":
            yield from _reference("patient", resource.get("subject"))
            yield from _reference("subject", resource.get("subject"))
            for appointment in _dicts(resource.get("appointment")):
                yield from _reference("appointment", appointment)


def reference_key(parameter: str, value: str) -> str:
    """A search value as the key it is indexed under: `Patient/1` for `1`, `Patient/1` and `http://x/Patient/1`."""
    if "/" not in value and parameter in _TARGET_TYPE:
        return f"{_TARGET_TYPE[parameter]}/{value}"
    return local_reference(value)


def local_reference(reference: str) -> str:
    """`Type/id` of a relative, versioned or absolute reference."""
    return "/".join(reference.split("/_history/")[0].rstrip("/").split("/")[-2:])


def first_identifier(resource: Json | None) -> str | None:
    """The value of the first identifier that has one: the record's business key."""
    for identifier in _dicts((resource or {}).get("identifier")):
        if isinstance(identifier.get("value"), str):
            return str(identifier["value"])
    return None


def _reference(parameter: str, element: Any) -> Iterator[Key]:
    if isinstance(element, dict) and isinstance(element.get("reference"), str):
        yield parameter, local_reference(element["reference"])


def _actor(element: Any) -> Iterator[Key]:
    for _, target in _reference("actor", element):
        yield "actor", target
        kind = target.partition("/")[0]
        if kind in ("Patient", "Practitioner"):
            yield kind.lower(), target


def _dicts(value: Any) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
