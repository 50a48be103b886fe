"""From FHIR resources to the product's masters. Pure: no clock, no network.

What is in force is told by `use` and by whether a period has an end: without a clock the same record gives
the same master on every day. Elements that R4 forbids to ignore are heeded: a client who died, or whose
record was replaced, is not active; an extension that changes the meaning is refused. A record that cannot
be read becomes Unmappable, which names the field and nothing that stands in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from partners.contract import Client, Entity, Json, Master, Staff, Unmappable
from partners.fhir.elements import Element, ElementError, best
from partners.fhir.names import read_names
from partners.fhir.times import first_day, is_date, last_day

PATIENT_SYSTEM = "patient_identifier_system"
STAFF_SYSTEM = "staff_identifier_system"

_SEXES = ("male", "female", "other", "unknown")  # R4, AdministrativeGender
_IDENTIFIER_USES = ("official", "usual", "", "secondary", "temp")
_PHONE_USES = ("home", "mobile", "", "work", "temp")
_ADDRESS_USES = ("home", "", "temp", "work", "billing")


def map_record(entity: Entity, content: Json, settings: Mapping[str, str]) -> Master | Unmappable:
    """A SourceRecord's content as a Client or Staff. ValueError for an entity that is no master."""
    try:
        if entity is Entity.CLIENT:
            return _client(Element(content, "Patient"), settings)
        if entity is Entity.STAFF:
            return _staff(content, settings)
    except ElementError as error:
        return error.unmappable
    raise ValueError(f"not a master: {entity}")


def _client(patient: Element, settings: Mapping[str, str]) -> Client | Unmappable:
    if not (system := settings.get(PATIENT_SYSTEM, "")):
        return Unmappable("settings_missing", {"key": PATIENT_SYSTEM})
    _refuse_unknown_modifiers(patient)
    number = _identifier(patient, system)
    if not number:
        raise patient.wrong("identifier", "required_field_missing")
    kanji, kana = read_names(patient)
    postal_code, address = _address(patient)
    return Client(
        number=number,
        family_name=kanji.family,
        given_name=kanji.given,
        family_kana=kana.family,
        given_kana=kana.given,
        birth_date=_birth_date(patient),
        sex=_sex(patient),
        postal_code=postal_code,
        address=address,
        phone=_phone(patient),
        active=patient.flag("active", default=True) and not _has_died(patient) and not _is_replaced(patient),
    )


def _staff(content: Json, settings: Mapping[str, str]) -> Staff | Unmappable:
    if not (system := settings.get(STAFF_SYSTEM, "")):
        return Unmappable("settings_missing", {"key": STAFF_SYSTEM})
    joined = Element(content, "Staff")
    practitioner = joined.one("practitioner")
    if practitioner is None:
        raise joined.wrong("practitioner", "required_field_missing")
    practitioner = Element(practitioner.json, "Practitioner")
    roles = [Element(role.json, "PractitionerRole") for role in joined.all("roles")]
    for resource in (practitioner, *roles):
        _refuse_unknown_modifiers(resource)
    kanji, kana = read_names(practitioner)
    # The roles that employ: those not switched off. Someone whose roles are all off is described by these.
    employing = [role for role in roles if role.flag("active", default=True)]
    described = employing or roles
    numbers = (_identifier(resource, system) for resource in (practitioner, *described))
    return Staff(
        number=next(filter(None, numbers), ""),
        family_name=kanji.family,
        given_name=kanji.given,
        family_kana=kana.family,
        given_kana=kana.given,
        qualification=_qualification(practitioner, described),
        employed_from=_employed_from(described),
        employed_until=_employed_until(described),
        active=practitioner.flag("active", default=True) and (not roles or bool(employing)),
    )


def _refuse_unknown_modifiers(resource: Element) -> None:
    """R4, Extensibility, 2.4.1: who does not know a modifier extension must not process the resource."""
    if resource.all("modifierExtension"):
        raise ElementError(Unmappable("schema_unknown", {"detail": f"{resource.path}.modifierExtension"}))


def _identifier(resource: Element, system: str) -> str:
    """The identifier of `system`, one in force before one that is over; empty if there is none."""
    found = [
        identifier
        for identifier in resource.all("identifier")
        if identifier.text("system") == system and identifier.text("value") and identifier.use != "old"
    ]
    taken = best(found, lambda item: (item.is_over, _rank(item.use, _IDENTIFIER_USES)))
    return taken.text("value") if taken else ""


def _birth_date(patient: Element) -> str:
    text = patient.text("birthDate")
    if text and not is_date(text):
        raise patient.wrong("birthDate")
    return text


def _sex(patient: Element) -> str:
    code = patient.text("gender") or "unknown"
    if code not in _SEXES:
        raise patient.wrong("gender", "unknown_code")
    return code


def _has_died(patient: Element) -> bool:
    return patient.flag("deceasedBoolean", default=False) or bool(patient.text("deceasedDateTime"))


def _is_replaced(patient: Element) -> bool:
    return any(link.text("type") == "replaced-by" for link in patient.all("link"))


def _phone(patient: Element) -> str:
    """The preferred telephone number. One whose period ends is not taken: it may be somebody else's."""
    phones = [
        contact
        for contact in patient.all("telecom")
        if contact.text("system") == "phone" and contact.use != "old" and not contact.is_over
    ]
    taken = best(phones, lambda phone: (_preference(phone), _rank(phone.use, _PHONE_USES)))
    return taken.text("value") if taken else ""


def _preference(contact: Element) -> int:
    """ContactPoint.rank: 1 is the most preferred; without one, last."""
    rank = contact.json.get("rank", 1 << 31)
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise contact.wrong("rank")
    return rank


def _address(patient: Element) -> tuple[str, str]:
    """(postal code, address) where the client lives now; one for letters only comes last."""
    places = [place for place in patient.all("address") if place.use != "old" and not place.is_over]

    def order(place: Element) -> tuple[bool, int]:
        return place.text("type") == "postal", _rank(place.use, _ADDRESS_USES)

    taken = best(places, order)
    return (taken.text("postalCode"), taken.text("text") or _written_out(taken)) if taken else ("", "")


def _written_out(place: Element) -> str:
    """The parts in Japanese order; some senders repeat the prefecture and city in the line."""
    line = "".join(place.texts("line"))
    parts = (place.text("state"), place.text("city"))
    return "".join(part for part in parts if part not in line) + line


def _qualification(practitioner: Element, roles: Sequence[Element]) -> str:
    """What the person's roles are called; where none says it, the first qualification that has a title."""
    titles = [_title(code) for role in _by_id(roles) for code in role.all("code")]
    if any(titles):
        return "、".join(dict.fromkeys(filter(None, titles)))
    held = (item.one("code") for item in practitioner.all("qualification"))
    return next((title for code in held if code and (title := _title(code))), "")


def _title(concept: Element) -> str:
    displays = (coding.text("display") for coding in concept.all("coding"))
    return concept.text("text") or next(filter(None, displays), "")


def _by_id(roles: Sequence[Element]) -> list[Element]:
    """Roles in an order that does not depend on how they came."""
    return sorted(roles, key=lambda role: role.text("id"))


def _employed_from(roles: Sequence[Element]) -> date | None:
    """The earliest start; None if a role has none, or there is no role."""
    starts = [_bound(role, "start") for role in roles]
    return min((day for day in starts if day), default=None) if None not in starts else None


def _employed_until(roles: Sequence[Element]) -> date | None:
    """The latest end; None if a role is open, or there is no role."""
    ends = [_bound(role, "end") for role in roles]
    return max((day for day in ends if day), default=None) if None not in ends else None


def _bound(role: Element, name: str) -> date | None:
    period = role.one("period")
    text = period.text(name) if period else ""
    if not period or not text:
        return None
    try:
        # A period includes its end, and a partial end all it can mean (R4, Datatypes, 2.24.0.11).
        return first_day(text) if name == "start" else last_day(text)
    except (ValueError, OverflowError):
        raise period.wrong(name) from None


def _rank(use: str, uses: Sequence[str]) -> int:
    return uses.index(use) if use in uses else len(uses)
