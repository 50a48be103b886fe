"""ORCA's two spellings of one thing, xml2 and JSON, read and written as plain objects. Pure.

In xml2 each element says its type: a record has named parts, an array has members called `<name>_child`, a string is
text. JSON has objects, lists and strings, and pads its lists with empty objects to the size of ORCA's own tables. Here
both are objects, lists and strings, without the padding. A server closes the line on an element without a type, so
none is ever sent without one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring  # written; read by defusedxml

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from partners.contract import Json
from partners.wire import Answered, NotJson, is_swelling, read_json

Fields = Mapping[str, "str | Fields | Sequence[Fields]"]

MAX_DEPTH = 20
"""Most records and arrays inside each other; inclusive. ORCA's own answers have eight."""
_XML_TAKES = {b"<": 240}  # bytes: an element of one attribute has two of them
_UNSENDABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Format(StrEnum):
    """How requests and answers are spelled."""

    XML = "xml"
    JSON = "json"


class _UnreadableError(Exception):
    """The body is not what ORCA writes; what is in it is not told."""


def is_sendable(text: str) -> bool:
    """Whether XML 1.0 has all its characters."""
    return _UNSENDABLE.search(text) is None


def spelled(name: str, fields: Fields, form: Format) -> bytes:
    """The request `name` with these fields. All texts must be sendable."""
    if form is Format.JSON:
        return json.dumps({name: fields}, ensure_ascii=False).encode()
    data = Element("data")
    _add(data, name, fields)
    body: bytes = tostring(data, encoding="utf-8")
    return body


def read(answered: Answered) -> Json | None:
    """The fields of the answer, whatever it is called; None: it is not one that ORCA writes."""
    kind = answered.headers.get("content-type", "").lower()
    is_json = "json" in kind or ("xml" not in kind and answered.body.lstrip()[:1] in (b"{", b"["))
    try:
        return _of_json(answered) if is_json else _of_xml(answered.body)
    except _UnreadableError:
        return None


def records(fields: Json, name: str) -> list[Json]:
    """The members of the list `name` that say something; none if there is no such list."""
    found = fields.get(name)
    return [each for each in found if isinstance(each, dict) and each] if isinstance(found, list) else []


def record(fields: Json, name: str) -> Json:
    """The record `name`; an empty one if there is none."""
    found = fields.get(name)
    return found if isinstance(found, dict) else {}


def text(fields: Json, name: str) -> str:
    """The string `name` without white space around it; empty if there is none."""
    found = fields.get(name)
    return found.strip() if isinstance(found, str) else ""


def _add(parent: Element, name: str, value: str | Fields | Sequence[Fields]) -> None:
    if isinstance(value, str):
        SubElement(parent, name, type="string").text = value
    elif isinstance(value, Mapping):
        child = SubElement(parent, name, type="record")
        for key, part in value.items():
            _add(child, key, part)
    else:
        array = SubElement(parent, name, type="array")
        for member in value:
            _add(array, f"{name}_child", member)


def _of_json(answered: Answered) -> Json:
    value = read_json(answered)
    if isinstance(value, list) and len(value) == 1:  # how the log tells an error
        value = value[0]
    if isinstance(value, NotJson) or not isinstance(value, dict) or len(value) != 1:
        raise _UnreadableError
    (fields,) = value.values()
    if not isinstance(fields, dict):
        raise _UnreadableError
    return _without_padding(fields)


def _without_padding(fields: dict[str, Any]) -> Json:
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value if each not in ({}, None)]
    return _without_padding(value) if isinstance(value, dict) else value


def _of_xml(body: bytes) -> Json:
    if is_swelling(body, _XML_TAKES):
        raise _UnreadableError
    try:
        root = fromstring(body)
    except (ParseError, DefusedXmlException, ValueError, LookupError):  # LookupError: an encoding that there is not
        raise _UnreadableError from None
    if root.tag != "xmlio2" or len(root) != 1:
        raise _UnreadableError
    fields = _value(root[0], MAX_DEPTH)
    if not isinstance(fields, dict):
        raise _UnreadableError
    return fields


def _value(element: Element, depth: int) -> Any:
    """A record, a list or a text; by its parts where it does not say."""
    if not depth:
        raise _UnreadableError
    kind = element.get("type")
    is_array = kind == "array" or (kind is None and len(element) > 0 and all(_is_member(part) for part in element))
    if is_array:
        members = (_value(part, depth - 1) for part in element)
        return [each for each in members if each not in ({}, "")]
    if kind == "record" or len(element):
        return {part.tag: _value(part, depth - 1) for part in element}
    return element.text or ""


def _is_member(part: Element) -> bool:
    return part.tag.endswith("_child")
