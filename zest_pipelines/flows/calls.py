"""The calls of an errand, or at which a reading broke off, as they are kept with its result, so that support sees what
was asked and answered.

What is kept is masked before it is stored (`core/masking`): nothing that a person is known by leaves the process, and
no credential does, since headers and forms are not looked at.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, ParseError

import httpx
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from partners.contract import FieldKind
from zest_pipelines.core.masking import masked, masked_path

MOST_CALLS = 4
"""Of one errand or reading; of more, the last ones."""
_MOST_READ = 64 * 1024
"""Bytes of a body; a longer one is told by its length."""
_MOST_KEPT = 8 * 1024
"""Characters of what is kept of all calls of an errand; beyond that no bodies are."""


class Call(NamedTuple):
    """One call, as the client made it."""

    request: httpx.Request
    response: httpx.Response | None
    """None: no whole answer came."""


class Calls:
    """What one line calls from `begin` until `taken`. Used by the line's own thread.

    Of each call as little as possible is done here: nearly all of them want no explaining.
    """

    def __init__(self) -> None:
        self._noted: deque[Call] | None = None

    def watch(self, client: httpx.Client) -> None:
        """Hear of every call that is made with this client."""
        client.event_hooks = {"request": [self._asked], "response": [self._answered]}

    def begin(self) -> None:
        """Note the calls from now on."""
        self._noted = deque(maxlen=MOST_CALLS)

    def taken(self) -> tuple[Call, ...]:
        """The calls since `begin`, which are noted no longer."""
        noted, self._noted = self._noted, None
        return tuple(noted or ())

    def _asked(self, request: httpx.Request) -> None:
        if self._noted is not None:
            self._noted.append(Call(request, None))

    def _answered(self, response: httpx.Response) -> None:
        if self._noted is not None:
            self._noted[-1] = Call(response.request, response)


def told(calls: Sequence[Call], kinds: Mapping[str, FieldKind], *, is_of_one: bool) -> list[dict[str, Any]]:
    """The calls as JSON, masked. `is_of_one`: they were for one record, or for a reading, so that their bodies are told
    too: those of the last calls first, as far as there is room."""
    kept: list[dict[str, Any]] = []
    room = _MOST_KEPT if is_of_one else 0
    for call in reversed(calls):
        whole = _told(call, kinds) if room else None
        if whole is not None and (length := len(json.dumps(whole, ensure_ascii=False))) <= room:
            room -= length
        else:
            whole, room = _told(call, None), 0
        kept.append(whole)
    return kept[::-1]


def _told(call: Call, kinds: Mapping[str, FieldKind] | None) -> dict[str, Any]:
    request, response = call.request, call.response
    return {
        "method": request.method,
        "path": masked_path(request.url.path),
        "asked": _shown(request.headers, request.read(), kinds),
        "status": None if response is None else response.status_code,
        "answer": None if response is None else _shown(response.headers, response.read(), kinds),
    }


def _shown(headers: httpx.Headers, body: bytes, kinds: Mapping[str, FieldKind] | None) -> Any:
    """The body's content, or what can be said of it: a page, an empty answer, what cannot be read."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    content = None if kinds is None or len(body) > _MOST_READ else _content(media_type, body)
    if content is None or kinds is None:
        return {"‹body›": masked_path(media_type), "‹bytes›": len(body)}
    return masked(content, kinds)


def _content(media_type: str, body: bytes) -> object | None:
    try:
        if media_type.endswith("json"):
            content: object = json.loads(body)
            return content
        if media_type.endswith("xml"):
            root = fromstring(body)
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
