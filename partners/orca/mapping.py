"""From ORCA's patients and staff to the product's masters. Pure: no clock, no network.

ORCA writes a name in one field, family and given name apart by a space; where there is none, all of it is the family
name, as nobody can tell where it ends. A record that cannot be read becomes Unmappable, which names the field and
nothing that stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

from partners.contract import Client, Entity, Json, Master, Staff, Unmappable
from partners.orca.people import GROUPS, group_of
from partners.orca.xml2 import record, text

OPEN_END = "9999-12-31"
_SEXES = {"1": "male", "2": "female", "": "unknown"}
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class _FieldError(Exception):
    def __init__(self, reason: str, field: str) -> None:
        super().__init__(reason)
        self.unmappable = Unmappable(reason, {"field": field})


def map_record(entity: Entity, content: Json, settings: Mapping[str, str]) -> Master | Unmappable:
    """A SourceRecord's content as a Client or Staff. ValueError for an entity that is no master."""
    try:
        if entity is Entity.CLIENT:
            return _client(content)
        if entity is Entity.STAFF:
            return _staff(content)
    except _FieldError as error:
        return error.unmappable
    raise ValueError(f"not a master: {entity}")


def _client(patient: Json) -> Client:
    family, given = _name(patient, "WholeName")
    family_kana, given_kana = _name(patient, "WholeName_inKana")
    if not (family or family_kana):
        raise _FieldError("required_field_missing", "WholeName")
    if not (number := text(patient, "Patient_ID")):
        raise _FieldError("required_field_missing", "Patient_ID")
    sex = text(patient, "Sex")
    if sex not in _SEXES:
        raise _FieldError("unknown_code", "Sex")
    home = record(patient, "Home_Address_Information")
    return Client(
        number=number,
        family_name=family,
        given_name=given,
        family_kana=family_kana,
        given_kana=given_kana,
        birth_date=_day(patient, "BirthDate"),
        sex=_SEXES[sex],
        postal_code=text(home, "Address_ZipCode"),
        address=text(home, "WholeAddress1") + text(home, "WholeAddress2"),
        phone=text(home, "PhoneNumber1") or text(patient, "CellularNumber") or text(home, "PhoneNumber2"),
        active=text(patient, "Death_Flag") != "1",
    )


def _staff(content: Json) -> Staff:
    """Who is in the list of doctors and staff is employed today: that list is of a day."""
    listed, user = record(content, "listed"), record(content, "user")
    family, given = _name(listed, "WholeName") if listed else _name(user, "Full_Name")
    family_kana, given_kana = _name(listed, "WholeName_inKana")
    if not family_kana:
        family_kana, given_kana = _name(user, "Kana_Name")
    if not (family or family_kana):
        raise _FieldError("required_field_missing", "WholeName")
    code = text(content, "code")
    until = _day(user, "Expiry_Date")
    return Staff(
        number=code,
        family_name=family,
        given_name=given,
        family_kana=family_kana,
        given_kana=given_kana,
        qualification=GROUPS.get(group_of(code), ""),
        employed_from=_date(_day(user, "Start_Date")),
        employed_until=None if until == OPEN_END else _date(until),
        active=bool(listed),
    )


def _name(fields: Json, name: str) -> tuple[str, str]:
    """(family, given)."""
    family, *given = text(fields, name).split() or [""]  # split() knows the full-width space
    return family, " ".join(given)


def _day(fields: Json, name: str) -> str:
    """A whole date, or an empty string."""
    found = text(fields, name)
    if found.strip("0-") == "":  # some migrated patients have 0000-00-00
        return ""
    if not _DATE.fullmatch(found):
        raise _FieldError("field_invalid", name)
    try:
        date.fromisoformat(found)
    except ValueError:
        raise _FieldError("field_invalid", name) from None
    return found


def _date(day: str) -> date | None:
    return date.fromisoformat(day) if day else None
