"""From a row of 利用者補足情報 to a client of the product. Pure.

Dates are of the Western calendar. A name is one field, family and given name apart by a space; where there is none, all
of it is the family name, as nobody can tell where it ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from partners.carecsv.layouts import COLUMNS, INSURED
from partners.carecsv.reading import ODD
from partners.carecsv.table import ENCODING
from partners.contract import Client, Entity, Json, Master, Unmappable

_SEXES = {"1": "male", "2": "female", "": "unknown"}
_NAME, _KANA, _SEX, _BORN = "利用者氏名", "利用者氏名フリガナ", "利用者性別", "利用者生年月日"


def map_record(entity: Entity, content: Json, settings: Mapping[str, str]) -> Master | Unmappable:
    """A SourceRecord's content as a Client. ValueError for an entity that is not read here."""
    if entity is not Entity.CLIENT:
        raise ValueError(f"not read from care CSV: {entity}")
    if ODD in content:
        return _wrong("field_invalid", ODD)
    for column in COLUMNS:
        said = str(content.get(column.name, ""))
        if column.most_bytes is not None and len(said.encode(ENCODING, "replace")) > column.most_bytes:
            return _wrong("field_invalid", column.name)
    family, given = _parted(content.get(_NAME, ""))
    family_kana, given_kana = _parted(content.get(_KANA, ""))
    if not (family or family_kana):
        return _wrong("required_field_missing", _NAME)
    if (sex := content.get(_SEX, "")) not in _SEXES:
        return _wrong("unknown_code", _SEX)
    if (born := _day(content.get(_BORN, ""))) is None:
        return _wrong("field_invalid", _BORN)
    return Client(
        number=content[INSURED],
        family_name=family,
        given_name=given,
        family_kana=family_kana,
        given_kana=given_kana,
        birth_date=born,
        sex=_SEXES[sex],
        postal_code=content.get("利用者郵便番号", ""),
        address=content.get("利用者住所１", "") + content.get("利用者住所２", ""),
        phone=content.get("利用者電話番号", ""),
        active=True,
    )


def _wrong(reason: str, field: str) -> Unmappable:
    return Unmappable(reason, {"field": field})


def _parted(name: str) -> tuple[str, str]:
    family, *given = name.split(maxsplit=1) if name.strip() else [""]
    return family, "".join(given)


def _day(text: str) -> str | None:
    """`YYYY-MM-DD`; empty for none, None for what is no day."""
    if not text:
        return ""
    if len(text) != 8 or not (text.isascii() and text.isdecimal()):
        return None
    try:
        return datetime.strptime(text, "%Y%m%d").date().isoformat()  # noqa: DTZ007  # a date has no zone
    except ValueError:
        return None
