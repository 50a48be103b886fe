"""What a write must hold before the vendor takes it: the rules of base R4 that a connector can break.

Only rules whose breach a real server would answer with 422 are here; a full profile check is not the sandbox's work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from partners.fhir.sandbox.index import local_reference
from partners.fhir.sandbox.instants import parse_instant, parse_span
from partners.fhir.sandbox.outcome import Issue, Json
from partners.fhir.sandbox.store import Store

_APPOINTMENT_STATUS = frozenset(
    [
        *("proposed", "pending", "booked", "arrived", "fulfilled"),
        *("cancelled", "noshow", "entered-in-error", "checked-in", "waitlist"),
    ]
)
_MAY_LACK_TIMES = frozenset({"proposed", "cancelled", "waitlist"})  # constraint app-3
_PARTICIPATION_STATUS = frozenset(["accepted", "declined", "tentative", "needs-action"])
_ENCOUNTER_STATUS = frozenset(
    ["planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled", "entered-in-error", "unknown"]
)
_CHECKED_TARGETS = frozenset({"Patient", "Practitioner"})


def invariant_issues(resource: Json) -> list[Issue]:
    """What is wrong with `resource` by itself; empty if nothing."""
    match resource["resourceType"]:
        case "Appointment":
            return [*_appointment_issues(resource)]
        case "Encounter":
            return [*_encounter_issues(resource)]
        case "PractitionerRole" | "Patient" | "Practitioner" | "Organization" | "Location":
            return [*_list_issues(resource)]
    return []


def reference_issues(store: Store, resource: Json) -> list[Issue]:
    """References of `resource` to a Patient or Practitioner that is not there, or no longer."""
    return [
        Issue("not-found", f"the {kind} referred to does not exist", expression)
        for expression, kind, id in _references(resource, resource["resourceType"])
        if store.live(kind, id) is None
    ]


def _appointment_issues(resource: Json) -> Iterator[Issue]:
    status = resource.get("status")
    yield from _code_issues(status, _APPOINTMENT_STATUS, "Appointment.status")
    participants = resource.get("participant")
    if not isinstance(participants, list) or not participants:
        yield Issue("required", "an appointment needs a participant", "Appointment.participant")
        participants = []
    for number, participant in enumerate(participants):
        yield from _participant_issues(participant, f"Appointment.participant[{number}]")
    start, end = resource.get("start"), resource.get("end")
    if (start is None) != (end is None):
        yield Issue("invariant", "app-2: start and end go together", "Appointment.start")
    elif start is None and status not in _MAY_LACK_TIMES:
        yield Issue("invariant", "app-3: start and end are required in this status", "Appointment.start")
    elif start is not None:
        yield from _order_issues(start, end, "Appointment", strict=True)


def _participant_issues(participant: Any, where: str) -> Iterator[Issue]:
    if not isinstance(participant, dict):
        yield Issue("structure", "not an element", where)
        return
    yield from _code_issues(participant.get("status"), _PARTICIPATION_STATUS, f"{where}.status")
    if not participant.get("actor") and not participant.get("type"):
        yield Issue("invariant", "app-1: a participant has a type or an actor", where)


def _encounter_issues(resource: Json) -> Iterator[Issue]:
    yield from _code_issues(resource.get("status"), _ENCOUNTER_STATUS, "Encounter.status")
    coding = resource.get("class")
    if not isinstance(coding, dict) or not coding.get("code"):
        yield Issue("required", "an encounter needs a class", "Encounter.class")
    period = resource.get("period")
    if isinstance(period, dict) and period.get("start") and period.get("end"):
        yield from _order_issues(period["start"], period["end"], "Encounter.period", strict=False)


def _list_issues(resource: Json) -> Iterator[Issue]:
    for name in ("identifier", "name", "telecom", "address", "code"):
        if isinstance(resource.get(name), str) and resource["resourceType"] not in ("Organization", "Location"):
            yield Issue("structure", "expected a list", f"{resource['resourceType']}.{name}")


def _code_issues(value: Any, allowed: frozenset[str], where: str) -> Iterator[Issue]:
    if value is None:
        yield Issue("required", "the element is required", where)
    elif not isinstance(value, str) or value not in allowed:
        yield Issue("code-invalid", "the code is not one of the value set", where)


def _order_issues(start: Any, end: Any, where: str, *, strict: bool) -> Iterator[Issue]:
    """`strict`: instants, and the end lies after the start; else dateTimes, and it must not lie before it."""
    try:
        if strict:
            in_order = parse_instant(start) < parse_instant(end)
        else:
            in_order = parse_span(start).start <= parse_span(end).start
    except (ValueError, TypeError):
        yield Issue("value", "start or end is not a valid time", f"{where}.start")
        return
    if not in_order:
        yield Issue("invariant", "the end must come after the start", f"{where}.end")


def _references(element: Any, where: str) -> Iterator[tuple[str, str, str]]:
    """Every reference to a checked type below `element`: (expression, type, id)."""
    if isinstance(element, dict):
        reference = element.get("reference")
        if isinstance(reference, str):
            kind, _, id = local_reference(reference).partition("/")
            if kind in _CHECKED_TARGETS:
                yield where, kind, id
        for name, value in element.items():
            if isinstance(value, dict | list):
                yield from _references(value, f"{where}.{name}")
    elif isinstance(element, list):
        for number, item in enumerate(element):
            yield from _references(item, f"{where}[{number}]")
