"""Requests read and answers written as ORCA does both, in xml2 and JSON. Apart from the connector's own.

An element of a request that does not say its type, or a body that is none, ends the connection without a word: so a
real server was seen to do. Lists are padded in JSON to the size of ORCA's tables, and end with an empty child in xml2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring  # written alone

from defusedxml.ElementTree import fromstring

Json = dict[str, Any]


class SpeechlessError(Exception):
    """The request cannot be read; the server hangs up."""


def read_request(body: bytes, *, is_json: bool) -> Json:
    """The fields of a request. Raises SpeechlessError."""
    try:
        if is_json:
            ((_, fields),) = json.loads(body).items()
        else:
            root = fromstring(body)
            if root.tag != "data" or len(root) != 1:
                raise SpeechlessError
            fields = _read(root[0])
    except (ValueError, SyntaxError, AttributeError):  # what is no XML is a SyntaxError
        raise SpeechlessError from None
    if not isinstance(fields, dict):
        raise SpeechlessError
    return fields


def _read(element: Element) -> Any:
    match element.get("type"):
        case "string":
            return element.text or ""
        case "record":
            return {part.tag: _read(part) for part in element}
        case "array":
            if any(part.tag != f"{element.tag}_child" for part in element):
                raise SpeechlessError
            return [_read(part) for part in element]
    raise SpeechlessError


def written(name: str, fields: Mapping[str, Any], *, is_json: bool, padding: int) -> bytes:
    """An answer. `padding`: to how many members lists are filled up in JSON."""
    if is_json:
        return json.dumps({name: _padded(fields, padding)}, ensure_ascii=False).encode()
    root = Element("xmlio2")
    _write(root, name, fields)
    body: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return body


def _padded(value: Any, padding: int) -> Any:
    if isinstance(value, Mapping):
        return {name: _padded(part, padding) for name, part in value.items()}
    if isinstance(value, list):
        return [*(_padded(each, padding) for each in value), *({} for _ in range(padding - len(value)))]
    return value


def _write(parent: Element, name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        child = SubElement(parent, name, type="record")
        for key, part in value.items():
            _write(child, key, part)
    elif isinstance(value, list):
        array = SubElement(parent, name, type="array")
        for each in value or [{}]:
            _write(array, f"{name}_child", each)
    elif value != "":  # ORCA leaves out what is empty
        SubElement(parent, name, type="string").text = str(value)
