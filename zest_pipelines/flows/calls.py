"""The calls of an errand, or at which a reading broke off, as they are kept with its result, so that support sees what
was asked and answered.

What is kept is masked before it is stored (`core/masking`): nothing that a person is known by leaves the process, and
no credential does, since headers and forms are not looked at.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, ParseError

import httpx
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from partners.contract import Partner, Shown
from zest_pipelines.core.masking import masked, masked_path
from zest_pipelines.flows.places import place_of

_log = logging.getLogger(__name__)

MOST_CALLS = 4
"""Of one errand or reading; of more, the last ones."""
_MOST_READ = 64 * 1024
"""Bytes of a body; a longer one is told by its length."""
_MOST_KEPT = 8 * 1024
"""Characters of what is kept of all calls of an errand; beyond that no bodies are."""


class Came(NamedTuple):
    """What came back."""

    status: int
    headers: httpx.Headers
    body: bytes | None
    """None: it is too long to be looked at."""
    length: int


class Call(NamedTuple):
    """One call, as the client made it."""

    request: httpx.Request
    came: Came | None
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
            body = response.read()  # the transport has read it already
            kept = body if len(body) <= _MOST_READ else None
            self._noted[-1] = Call(response.request, Came(response.status_code, response.headers, kept, len(body)))


def told(calls: Sequence[Call], kinds: Shown, *, is_of_one: bool) -> list[dict[str, Any]]:
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


def kept_calls(calls: Sequence[Call], partner: Partner, tenant: str, *, is_of_one: bool) -> list[dict[str, Any]]:
    """As `told`; none if that fails: how it ended is stored, whatever the partner's words look like."""
    try:
        return told(calls, partner.shown, is_of_one=is_of_one)
    except Exception as error:  # noqa: BLE001
        _log.warning("%s at %s: no calls: %s", tenant, partner.name, place_of(error))
        return []


def _told(call: Call, kinds: Shown | None) -> dict[str, Any]:
    request, came = call.request, call.came
    asked = request.read()
    return {
        "method": request.method,
        "path": masked_path(request.url.path),
        "asked": _shown(request.headers, asked, len(asked), kinds),
        "status": None if came is None else came.status,
        "answer": None if came is None else _shown(came.headers, came.body, came.length, kinds),
    }


def _shown(headers: httpx.Headers, body: bytes | None, length: int, kinds: Shown | None) -> Any:
    """The body's content, or what can be said of it: a page, an empty answer, what cannot be read."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    content = None if kinds is None or body is None or length > _MOST_READ else _content(media_type, body)
    if content is None or kinds is None:
        return {"‹body›": masked_path(media_type), "‹bytes›": length}
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
