"""When two contents are the same: one canonical spelling, and its hash.

The same: another order of keys, another Unicode composition (が in one or two code points, as Macs send
it), 1 and 1.0. Not the same: null and absent, true and 1, another order of a list, another ideograph of a
name (composition keeps them apart here). In doubt two contents differ: a change too many costs a row, a
change missed stays wrong for ever.

Refused is what PostgreSQL's jsonb cannot hold or JSON cannot say: NUL, lone surrogates, NaN and
infinities. The error names the field and keeps the value, which may be a person's data, to itself.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from zest_pipelines.core.composition import composed

_SPELLER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
)
_QUICK = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_TENTHS = re.compile(rb"\.\d+(e[+-]?\d+)?[,\]}]")
_POWERS = re.compile(rb"e[+-]?\d+[,\]}]")
"""One of them is found in every spelling that holds a float (`1.0`, `1e20`); seconds with a fraction, in a string, end
otherwise. Each begins with one letter: to look for that costs a third of looking for a class of them."""


class UnstorableText(ValueError):  # noqa: N818  # it names what was met
    """A value cannot be stored as it is; `path` says where (`name[0].family`)."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path or 'the content'}: {why}")
        self.path = path


class Spelling(NamedTuple):
    """A content as text."""

    canonical: bytes
    """The one spelling: UTF-8, keys sorted, strings composed, no white space."""
    as_it_came: str | None
    """The same as text where nothing in it is spelled otherwise than it came; None where something is."""


def spelling(content: Mapping[str, Any]) -> Spelling:
    """A JSON content as text.

    Raises UnstorableText, and TypeError for what JSON has no word for (dates are the caller's to spell).

    Nearly always nothing is to be spelled otherwise or refused, and to look at the whole text costs a small part of a
    walk through its values. In doubt they are walked through: what looks like NUL, like a broken number or like none
    (`null`) may be words in a string. A quotation mark combines with nothing, so the text is composed if and only if
    each string in it is.
    """
    try:
        spelled = orjson.dumps(content, option=_QUICK)
    except TypeError:  # half a surrogate pair and a number of more than 64 bits are that too
        return Spelling(spelled_one_by_one(content), None)
    text = spelled.decode()
    is_composed = spelled.isascii() or unicodedata.is_normalized("NFC", text)
    is_plain = is_composed and b"\\u0000" not in spelled and b"null" not in spelled
    if not is_plain or _TENTHS.search(spelled) or _POWERS.search(spelled):
        return Spelling(spelled_one_by_one(content), None)
    return Spelling(spelled, text)


def canonical(content: Mapping[str, Any]) -> bytes:
    """The one spelling alone. Raises as `spelling`."""
    return spelling(content).canonical


def spelled_one_by_one(content: Mapping[str, Any]) -> bytes:
    """What `canonical` means, value by value; `spelling` takes a shorter way where there is one. Raises as it does."""
    return _SPELLER.encode(_value(content, "")).encode()


def fingerprint(spelled: bytes, mapping_version: str) -> bytes:
    """32 bytes that change with a content's canonical form or with the mapping's version."""
    # The canonical form holds no NUL byte, so the last one always ends the version: no two pairs collide.
    return sha256(mapping_version.encode() + b"\0" + spelled).digest()


def _value(value: Any, path: str) -> Any:
    match value:
        case str():
            return _text(value, path)
        case None | bool() | int():
            return value
        case float():
            return _number(value, path)
        case Mapping():
            return _object(value, path)
        case list() | tuple():
            return [_value(item, f"{path}[{index}]") for index, item in enumerate(value)]
        case _:
            raise TypeError(f"{path or 'the content'}: JSON has no {type(value).__name__}")


def _object(value: Mapping[str, Any], path: str) -> dict[str, Any]:
    spelled: dict[str, Any] = {}
    for key, item in value.items():
        # The key's own fault is reported at its parent: a key that cannot be stored cannot be printed either.
        name = _text(key, path)
        if name in spelled:
            raise UnstorableText(path, "two keys differ in their Unicode composition only")
        spelled[name] = _value(item, f"{path}.{name}" if path else name)
    return spelled


def _text(text: str, path: str) -> str:
    if "\0" in text:
        raise UnstorableText(path, "holds a NUL character")
    if text.isascii():
        return text
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UnstorableText(path, "holds half of a surrogate pair")
    return composed(text)


def _number(number: float, path: str) -> int | float:
    if not math.isfinite(number):
        raise UnstorableText(path, "is not a finite number")
    return int(number) if number.is_integer() else number
