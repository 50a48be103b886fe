"""From SmartHR's crews to the product's staff. Pure: no clock, no network.

A crew has a name and may have a business name, under which colleagues know the person; a setting chooses. Either comes
with its own reading: that of the other name is never put beside it. A record that cannot be read becomes Unmappable,
which names the field and nothing that stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date

from partners.contract import Entity, Json, Staff, Unmappable

NAMES, QUALIFICATIONS = "names", "qualifications"
"""The settings that a mapping heeds."""
BUSINESS, LEGAL = "business", "legal"

_IS_ACTIVE = {"employed": True, "absent": True, "retired": False}
"""Who is absent (休職) is employed still, and is given visits or not as people plan."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class _FieldError(Exception):
    def __init__(self, reason: str, field: str) -> None:
        super().__init__(reason)
        self.unmappable = Unmappable(reason, {"field": field})


def map_record(entity: Entity, content: Json, settings: Mapping[str, str]) -> Staff | Unmappable:
    """A SourceRecord's content as a Staff. ValueError for an entity that is not read here."""
    if entity is not Entity.STAFF:
        raise ValueError(f"not read from SmartHR: {entity}")
    try:
        return _staff(content, settings)
    except _FieldError as error:
        return error.unmappable


def named_in(setting: str) -> tuple[str, ...]:
    """`看護師, 理学療法士`: the names in a setting, in its order."""
    return tuple(name for part in setting.split(",") if (name := part.strip()))


def _staff(crew: Json, settings: Mapping[str, str]) -> Staff:
    family, family_kana = _name(crew, "last_name", settings)
    given, given_kana = _name(crew, "first_name", settings)
    if not (family or family_kana):
        raise _FieldError("required_field_missing", "last_name")
    status = _text(crew, "emp_status")
    if not status:
        raise _FieldError("required_field_missing", "emp_status")
    if status not in _IS_ACTIVE:
        raise _FieldError("unknown_code", "emp_status")
    return Staff(
        number=_text(crew, "emp_code"),
        family_name=family,
        given_name=given,
        family_kana=family_kana,
        given_kana=given_kana,
        qualification=_qualification(crew, named_in(settings.get(QUALIFICATIONS, ""))),
        employed_from=_day(crew, "entered_at"),
        employed_until=_day(crew, "resigned_at"),
        active=_IS_ACTIVE[status],
    )


def _name(crew: Json, part: str, settings: Mapping[str, str]) -> tuple[str, str]:
    """One part of the name and its reading."""
    if settings.get(NAMES) != LEGAL:
        name, reading = _text(crew, f"business_{part}"), _text(crew, f"business_{part}_yomi")
        if name or reading:
            return name, reading
    return _text(crew, part), _text(crew, f"{part}_yomi")


def _qualification(crew: Json, wanted: Sequence[str]) -> str:
    """The first of the names wanted that is one of the crew's positions, or its job; empty if none is."""
    if not wanted:
        return ""
    held = {*_texts(crew, "positions"), _text(crew, "job_category"), _text(crew, "occupation")}
    return next((name for name in wanted if name in held), "")


def _text(crew: Json, name: str) -> str:
    found = crew.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise _FieldError("field_invalid", name)
    return found.strip()


def _texts(crew: Json, name: str) -> list[str]:
    found = crew.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise _FieldError("field_invalid", name)
    return [each.strip() for each in found]


def _day(crew: Json, name: str) -> date | None:
    found = _text(crew, name)
    if not found:
        return None
    if not _DATE.fullmatch(found):
        raise _FieldError("field_invalid", name)
    try:
        return date.fromisoformat(found)
    except ValueError:
        raise _FieldError("field_invalid", name) from None
