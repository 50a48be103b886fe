"""What may be shown of a request or an answer: its shape, and of each value its kind and length.

A value is shown as it is only if its field is declared to hold a code, a time or an id, and it looks like one, or has
the pattern that is declared of its field. All others, those of unknown fields too, become a mark such as `‹name 3›`:
nothing has to be recognised to be hidden.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from partners.contract import FieldKind, Shown

_NAME = re.compile(r"(?!.*\d{4})[A-Za-z_$][A-Za-z0-9_.$-]{0,59}", re.ASCII)
_MOMENT = r"\d{4}-\d\d(-\d\d)?(T[\d:.]{5,15}(Z|[+-]\d\d:\d\d)?)?|\d\d:\d\d(:\d\d)?"
_SMALL = r"[A-Z]{0,2}\d{1,5}"
_SHAPES = {
    FieldKind.OPEN: re.compile(f"({_MOMENT}|{_SMALL})", re.ASCII),
    # With a digit, so no name; and no phone number.
    FieldKind.ID: re.compile(r"([A-Z][A-Za-z]{1,40}/)?(?!0\d+-|[\d-]{10,}$)(?=.*\d)[A-Za-z0-9.-]{1,64}", re.ASCII),
}
_PART = re.compile(r"[A-Za-z$.-]+\d{0,2}([a-z]+\d?)?|[0-9a-f-]{36}", re.ASCII)  # api01rv2, appointmodv2
_LONGEST = 100
_DEEPEST = 12
_MOST = 30
"""Fields or items of one level; the rest is told as a count."""


def masked(content: object, kinds: Shown) -> Any:
    """JSON of the same shape without anything that a person is known by.

    Of `kinds` what names two goes before. What stands in a list belongs to the list's field.
    """
    return _masked(content, kinds, "", "", _DEEPEST)


def masked_path(path: str) -> str:
    """The path of an address; segments that are neither words nor ids of ours are marked."""
    return "/".join(part if not part or _PART.fullmatch(part) else _mark("text", part) for part in path.split("/"))


def _masked(value: object, kinds: Shown, parent: str, name: str, depth: int) -> Any:
    if not depth:
        return "‹deeper›"
    match value:
        case None:
            return None
        case Mapping():
            shown: dict[str, Any] = {}
            for key, item in list(value.items())[:_MOST]:
                shown[_shown_name(key)] = _masked(item, kinds, name, str(key), depth - 1)
            return shown | ({"‹more›": len(value) - _MOST} if len(value) > _MOST else {})
        case list() | tuple():
            items = [_masked(item, kinds, parent, name, depth - 1) for item in value[:_MOST]]
            return [*items, f"‹{len(value) - _MOST} more›"] if len(value) > _MOST else items
    kind = kinds.get(f"{parent}.{name}") or kinds.get(name)
    text = str(value)
    shape = kind if isinstance(kind, re.Pattern) else _SHAPES.get(kind) if kind else None
    if shape is not None:
        return text if len(text) <= _LONGEST and shape.fullmatch(text) else _mark("text", text)
    return _mark(str(kind or "text"), text)


def _shown_name(key: object) -> str:
    """A field's name may be made of data as well."""
    return key if isinstance(key, str) and _NAME.fullmatch(key) else "?"


def _mark(kind: str, text: str) -> str:
    return f"‹{kind} {len(text)}›"
