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
from typing import Any

from zest_pipelines.core.composition import composed

_SPELLER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
)
_FRACTION = re.compile(r"[:,\[]-?\d+(\.\d+(e[+-]?\d+)?|e[+-]?\d+)[,\]}]", re.ASCII)
"""Found in every spelling that holds a float (`1.0`, `1e+20`); seconds with a fraction, in a string, end otherwise."""


class UnstorableText(ValueError):  # noqa: N818  # it names what was met
    """A value cannot be stored as it is; `path` says where (`name[0].family`)."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path or 'the content'}: {why}")
        self.path = path


def canonical(content: Mapping[str, Any]) -> bytes:
    """The one spelling of a JSON content: UTF-8, keys sorted, strings composed, no white space.

    Raises UnstorableText, and TypeError for what JSON has no word for (dates are the caller's to spell).
    """
    plain = _plain(content)
    return spelled_one_by_one(content) if plain is None else plain


def spelled_one_by_one(content: Mapping[str, Any]) -> bytes:
    """What `canonical` means, value by value; it takes a shorter way where there is one. Raises as `canonical`."""
    return _SPELLER.encode(_value(content, "")).encode()


def fingerprint(content: Mapping[str, Any], mapping_version: str) -> bytes:
    """32 bytes that change with the content or with the mapping's version. Raises as `canonical` does."""
    # The canonical form holds no NUL byte, so the last one always ends the version: no two pairs collide.
    return sha256(mapping_version.encode() + b"\0" + canonical(content)).digest()


def _plain(content: Mapping[str, Any]) -> bytes | None:
    """The spelling of a content in which nothing is to be spelled otherwise or refused; None: look at each value.

    Nearly all contents are so, and to look at the whole text costs a small part of a walk through its values. In doubt
    None: what looks like NUL or like a broken number may be words in a string. A quotation mark combines with
    nothing, so the text is composed if and only if each string in it is.
    """
    try:
        text = _SPELLER.encode(content)
        spelled = text.encode()
    except (TypeError, ValueError, RecursionError):  # half a surrogate pair is a ValueError too
        return None
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        return None
    return None if "\\u0000" in text or _FRACTION.search(text) else spelled


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
