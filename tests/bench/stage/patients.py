"""Clients for the benches of the way in, as a FHIR server with JP Core's profiles tells them.

Thirteen fields each: id, version, number, whether in force, family and given name in kanji and in kana, telephone, sex,
date of birth, postal code, address. By number alone, so that two processes make the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from partners.made_up_people import FAMILY_NAMES, FEMALE_NAMES, MALE_NAMES, PLACES

SYSTEM = "urn:zest:bench:patient"
CHANGED_EVERY = 100
"""One client of so many says something else in the changed list."""
_SCRIPT = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"


def patient(number: int, version: int = 1) -> dict[str, Any]:
    """The Patient of this number, from 1 on; another version has moved within its house."""
    family = FAMILY_NAMES[number % len(FAMILY_NAMES)]
    given_names = (MALE_NAMES, FEMALE_NAMES)[number % 2]
    given = given_names[number // 7 % len(given_names)]
    return {
        "resourceType": "Patient",
        "id": patient_id(number),
        "meta": {"versionId": str(version), "lastUpdated": f"2026-11-2{version}T00:00:00.000Z"},
        "identifier": [{"system": SYSTEM, "value": f"{number:08}"}],
        "active": number % 25 != 0,
        "name": [_name("IDE", family[0], given[0]), _name("SYL", family[1], given[1])],
        "telecom": [{"system": "phone", "value": f"090-0000-{number % 10_000:04}"}],
        "gender": ("male", "female")[number % 2],
        "birthDate": (date(1925, 1, 1) + timedelta(days=number * 7919 % 25_000)).isoformat(),
        "address": [_address(number, version)],
    }


def patient_id(number: int) -> str:
    """Spread as those of real servers are, so that neighbours in a list are none in an index."""
    return f"{number * 2_654_435_761 % 2**32:08x}-0000-4000-8000-{number:012x}"


def pages(clients: int, size: int, *, changed: bool) -> Iterator[bytes]:
    """The bundles of a search for all of them, at most `size` in one. A `next` is relative to the server's base."""
    for first in range(1, max(clients, 1) + 1, size):
        numbers = range(first, min(first + size, clients + 1))
        entries = [patient(each, 2 if changed and each % CHANGED_EVERY == 0 else 1) for each in numbers]
        # The self link names no time: all that is asked about times is passed over, and each reading is of everything.
        links = [{"relation": "self", "url": "Patient?_sort=_id&_total=accurate"}]
        if first + size <= clients:
            links.append({"relation": "next", "url": f"Patient?page={first // size + 1}"})
        yield bundle(entries, clients, links)


def bundle(resources: Sequence[dict[str, Any]], total: int, links: Sequence[dict[str, str]]) -> bytes:
    """A searchset as bytes."""
    entries = [{"resource": each} for each in resources]
    page = {"resourceType": "Bundle", "type": "searchset", "total": total, "link": links, "entry": entries}
    return json.dumps(page, ensure_ascii=False, separators=(",", ":")).encode()


def _name(script: str, family: str, given: str) -> dict[str, Any]:
    return {"extension": [{"url": _SCRIPT, "valueCode": script}], "family": family, "given": [given]}


def _address(number: int, version: int) -> dict[str, Any]:
    prefecture, city = PLACES[number % len(PLACES)]
    line = f"{number % 9 + 1}丁目{number % 30 + 1}-{version}"
    return {"text": prefecture + city + line, "postalCode": f"000-{number % 10_000:04}"}
