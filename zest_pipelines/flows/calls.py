"""The calls of an errand as they are kept with its result, so that support sees what was asked and answered.

What is kept is masked before it is stored (`core/masking`): nothing that a person is known by leaves the process, and
no credential does, since headers and forms are not looked at.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import httpx
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from partners.contract import FieldKind
from zest_pipelines.core.masking import masked, masked_path

MOST_CALLS = 4
"""Of one errand; of more, the last ones."""
_MOST_READ = 64 * 1024
"""Bytes of a body; a longer one is told by its length."""
_MOST_KEPT = 8 * 1024
"""Characters of what is kept of all calls of an errand; beyond that no bodies are."""


@dataclass(frozen=True)
class Body:
    """What was sent or came back."""

    media_type: str
    length: int
    content: bytes = field(repr=False)
    """Empty if it is too long to be looked at."""


@dataclass
class Call:
    """One call."""

    method: str
    path: str = field(repr=False)
    asked: Body
    status: int | None = None
    """None: no whole answer came."""
    answer: Body | None = None


class Calls:
    """What one line has called since it was last asked. Used by the line's own thread."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=MOST_CALLS)

    def watch(self, client: httpx.Client) -> None:
        """Note every call that is made with this client."""
        client.event_hooks = {"request": [self._asked], "response": [self._answered]}

    def taken(self) -> tuple[Call, ...]:
        """The calls so far, which are forgotten with this."""
        taken = tuple(self._calls)
        self._calls.clear()
        return taken

    def _asked(self, request: httpx.Request) -> None:
        self._calls.append(Call(request.method, request.url.path, _body(request.headers, request.read())))

    def _answered(self, response: httpx.Response) -> None:
        call = self._calls[-1]
        call.status, call.answer = response.status_code, _body(response.headers, response.read())


def told(calls: Sequence[Call], kinds: Mapping[str, FieldKind], *, is_of_one: bool) -> list[dict[str, Any]]:
    """The calls as JSON, masked; `is_of_one`: they were for one record, so that their bodies are told too."""
    if is_of_one:
        whole = [_told(each, kinds) for each in calls]
        if len(json.dumps(whole, ensure_ascii=False)) <= _MOST_KEPT:
            return whole
    return [_told(each, None) for each in calls]


def _told(call: Call, kinds: Mapping[str, FieldKind] | None) -> dict[str, Any]:
    return {
        "method": call.method,
        "path": masked_path(call.path),
        "asked": _shown(call.asked, kinds),
        "status": call.status,
        "answer": None if call.answer is None else _shown(call.answer, kinds),
    }


def _shown(body: Body, kinds: Mapping[str, FieldKind] | None) -> Any:
    """Its content, or what can be said of it: a page, an empty answer, what cannot be read."""
    content = None if kinds is None else _content(body)
    if content is None or kinds is None:
        return {"‹body›": masked_path(body.media_type), "‹bytes›": body.length}
    return masked(content, kinds)


def _content(body: Body) -> object | None:
    try:
        if body.media_type.endswith("json"):
            content: object = json.loads(body.content)
            return content
        if body.media_type.endswith("xml"):
            root = fromstring(body.content)
            return {root.tag: _tree(root)}
    except (ValueError, RecursionError, ParseError, DefusedXmlException, LookupError):
        return None
    return None


def _tree(element: Element) -> object:
    """Elements as objects, those of one name as a list."""
    if not len(element):
        return element.text or ""
    children: dict[str, Any] = {}
    for child in element:
        children.setdefault(child.tag, []).append(_tree(child))
    return {name: found[0] if len(found) == 1 else found for name, found in children.items()}


def _body(headers: httpx.Headers, content: bytes) -> Body:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Body(media_type, len(content), content if len(content) <= _MOST_READ else b"")
