"""A vendor's master data on its first day: fictional clients and staff, the same for the same seed.

The irregular ones are placed by number and not drawn, so that any twenty-five clients in a row hold each irregularity:
a name in kanji or in kana alone, a partial date of birth, no phone, an inactive record. Phones and postal codes lie
in ranges that nobody has.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from datetime import date, timedelta

from partners.fhir.sandbox.outcome import Json
from partners.fhir.sandbox.store import Store
from partners.made_up_people import (
    FAMILY_NAMES,
    FEMALE_NAMES,
    MALE_NAMES,
    PLACES,
    TRADES,
    VARIANT_FAMILY_NAMES,
    Name,
)

_REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
_INSTITUTION_SYSTEM = "http://jpfhir.jp/fhir/core/IdSystem/insurance-medical-institution-no"
_ROLE_SYSTEM = "urn:zest:sandbox:practitioner-role"


def seed(
    store: Store,
    seed: int,
    clients: int,
    staff: int,
    facility: str,
    *,
    before: float = 0.0,
    patient_system: str,
    staff_system: str,
) -> None:
    """Fill an empty store with one Organization, `clients` Patients, `staff` Practitioners and a role for each.

    `facility` is the ten-digit institution number. Their lastUpdated lie one millisecond apart, all before now and
    at least `before` seconds.
    """
    if clients == 0 and staff == 0:
        return
    draw = random.Random(seed)
    organization = _organization(draw, facility)
    resources = [organization]
    resources += [_patient(draw, number, seed, patient_system) for number in range(1, clients + 1)]
    for number in range(1, staff + 1):
        practitioner = _practitioner(draw, number, staff_system)
        resources += [practitioner, _role(draw, number, practitioner, organization)]
    start = store.now() - int(before * 1000) - len(resources)
    with store.transaction():
        for offset, resource in enumerate(resources):
            store.save(resource, resource["id"], "POST", at=start + offset)


def _organization(draw: random.Random, facility: str) -> Json:
    return {
        "resourceType": "Organization",
        "id": _id(draw),
        "identifier": [{"system": _INSTITUTION_SYSTEM, "value": facility}],
        "active": True,
        "name": "ひだまり訪問クリニック",
    }


def _patient(draw: random.Random, number: int, seed: int, system: str) -> Json:
    place = (number + seed) % 25  # decides which irregularity this client has
    gender = draw.choice(("male", "female"))
    born = date(1925, 1, 1) + timedelta(days=draw.randrange(25_000))
    family = VARIANT_FAMILY_NAMES[number % 2] if place == 3 else draw.choice(FAMILY_NAMES)
    patient: Json = {
        "resourceType": "Patient",
        "id": _id(draw),
        "identifier": [{"system": system, "value": f"{number:08}"}],
        "active": place != 5,
        "name": _human_names(draw, family, gender, _SCRIPTS.get(place, ("IDE", "SYL"))),
        "telecom": [{"system": "phone", "value": _phone(draw), "use": "home"}],
        "gender": gender,
        "birthDate": born.isoformat()[: _BIRTH_DATE_LENGTH.get(place, 10)],
        "address": [_address(draw)],
    }
    if place == 21:
        del patient["telecom"]
    return patient


# By a client's place among twenty-five.
_SCRIPTS = {7: ("IDE",), 11: ("SYL",)}
_BIRTH_DATE_LENGTH = {13: len("YYYY"), 17: len("YYYY-MM")}


def _practitioner(draw: random.Random, number: int, system: str) -> Json:
    gender = draw.choice(("male", "female"))
    return {
        "resourceType": "Practitioner",
        "id": _id(draw),
        "identifier": [{"system": system, "value": f"{number:08}"}],
        "active": True,
        "name": _human_names(draw, draw.choice(FAMILY_NAMES), gender, ("IDE", "SYL")),
        "telecom": [
            {"system": "phone", "value": _phone(draw), "use": "work"},
            {"system": "email", "value": f"staff{number:04}@example.jp", "use": "work"},
        ],
        "gender": gender,
    }


def _role(draw: random.Random, number: int, practitioner: Json, organization: Json) -> Json:
    start = date(2010, 4, 1) + timedelta(days=draw.randrange(5_500))
    period = {"start": start.isoformat()}
    has_left = number % 8 == 0
    if has_left:
        period["end"] = (start + timedelta(days=draw.randrange(30, 300))).isoformat()
    trade = draw.randrange(len(TRADES))
    coding = {"system": _ROLE_SYSTEM, "code": f"{trade + 1:02}", "display": TRADES[trade]}
    return {
        "resourceType": "PractitionerRole",
        "id": _id(draw),
        "identifier": practitioner["identifier"],
        "active": not has_left,
        "period": period,
        "practitioner": {"reference": f"Practitioner/{practitioner['id']}"},
        "organization": {"reference": f"Organization/{organization['id']}"},
        "code": [{"coding": [coding], "text": TRADES[trade]}],
    }


def _human_names(draw: random.Random, family: Name, gender: str, scripts: Sequence[str]) -> list[Json]:
    given = draw.choice(MALE_NAMES if gender == "male" else FEMALE_NAMES)
    names = [_human_name(script, family[_SCRIPT[script]], given[_SCRIPT[script]]) for script in scripts]
    draw.shuffle(names)  # a reader must go by the extension, not by the order
    return names


_SCRIPT = {"IDE": 0, "SYL": 1}


def _human_name(script: str, family: str, given: str) -> Json:
    return {
        "extension": [{"url": _REPRESENTATION, "valueCode": script}],
        "use": "usual",
        "text": f"{family}　{given}",
        "family": family,
        "given": [given],
    }


def _address(draw: random.Random) -> Json:
    prefecture, city = draw.choice(PLACES)
    line = f"{draw.randint(1, 9)}丁目{draw.randint(1, 30)}-{draw.randint(1, 20)}"
    return {
        "use": "home",
        "text": prefecture + city + line,
        "postalCode": f"000-{draw.randrange(10_000):04}",
        "state": prefecture,
        "city": city,
        "line": [line],
        "country": "JP",
    }


def _phone(draw: random.Random) -> str:
    area = draw.choice(("03", "06", "090", "080"))
    return f"{area}-0000-{draw.randrange(10_000):04}"


def _id(draw: random.Random) -> str:
    return str(uuid.UUID(int=draw.getrandbits(128), version=4))
