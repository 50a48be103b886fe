"""The elements that R4 gives the resources of masters, so that one which it does not have is seen.

A primitive element may have a twin with an underscore before its name, which holds its id and extensions (R4, JSON,
2.6.2.3). Only the top of a resource is looked at: what a sender adds by the rules lies in extensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from partners.contract import Entity, Json

_ANY = "resourceType id meta text contained extension modifierExtension"
_ANY_PRIMITIVE = "implicitRules language"


def _names(elements: str, primitives: str) -> frozenset[str]:
    simple = f"{_ANY_PRIMITIVE} {primitives}".split()
    return frozenset([*f"{_ANY} {elements}".split(), *simple, *(f"_{name}" for name in simple)])


_ELEMENTS: Mapping[str, frozenset[str]] = {
    "Patient": _names(
        "identifier name telecom address maritalStatus photo contact communication generalPractitioner "
        "managingOrganization link",
        "active gender birthDate deceasedBoolean deceasedDateTime multipleBirthBoolean multipleBirthInteger",
    ),
    "Practitioner": _names(
        "identifier name telecom address photo qualification communication",
        "active gender birthDate",
    ),
    "PractitionerRole": _names(
        "identifier period practitioner organization code specialty location healthcareService telecom availableTime "
        "notAvailable endpoint",
        "active availabilityExceptions",
    ),
}


def unknown_fields(entity: Entity, content: Json) -> list[str]:
    """The elements of a SourceRecord's content that R4 does not have, as `Patient.nickname`, each once."""
    if entity is Entity.CLIENT:
        if _ELEMENTS["Patient"].issuperset(content):  # nearly always, and told ten times as fast
            return []
        parts = [("Patient", content)]
    else:
        roles = [("PractitionerRole", role) for role in content["roles"]]
        parts = [("Practitioner", content["practitioner"]), *roles]
    return list(dict.fromkeys(_unknown(parts)))


def _unknown(parts: Iterable[tuple[str, Json]]) -> Iterable[str]:
    for kind, resource in parts:
        yield from (f"{kind}.{name}" for name in resource if name not in _ELEMENTS[kind])
