"""One HTTP exchange as a value: answered, not sent, or unknown.

The rule that keeps writes from being doubled: **not sent** is said only where it is proven that no byte of
the request left. Everything else without a whole answer is **unknown**: perhaps the partner has applied it.

The proof is not the exception. Transports disagree on those: one reports a line that was cut after the
request was read as a connect timeout, and taken at its word that is a double delivery. The proof is
httpcore's trace (its documented `trace` extension): connecting was seen to fail, and sending was not seen
to begin. A transport that tells nothing proves nothing: unknown.

What is refused here: to retry, to follow a redirect, to raise for what the partner or the network does, and
to carry anything of a request (credential, address, content) into a `repr` or an exception.
"""

from __future__ import annotations

import json
import math
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import httpx

from partners.contract import Gate
from partners.throttling import told


class Cause(StrEnum):
    """Why there is no answer."""

    UNSENDABLE = "unsendable"
    """Not sent: address, header or credential cannot be written as HTTP; a person has to correct it."""
    DNS = "dns"
    """Not sent: the name has no address."""
    REFUSED = "refused"
    """Not sent: nobody listens there, or there is no way there."""
    CONNECT_TIMEOUT = "connect_timeout"
    """Not sent: no connection in time."""
    TLS = "tls"
    """Not sent: the handshake failed; the certificate may be wrong."""
    TIMEOUT = "timeout"
    """Unknown: no whole answer in time."""
    CUT = "cut"
    """Unknown: the connection ended before the answer did."""
    PROTOCOL = "protocol"
    """Unknown: what came back is not HTTP."""
    ENCODING = "encoding"
    """Unknown: the body cannot be unpacked."""
    BODY_TOO_LARGE = "body_too_large"
    """Unknown: the body is beyond the client's limit."""


@dataclass(frozen=True)
class Request:
    """What to ask. Only method and endpoint are shown by `repr`."""

    method: str
    url: str = field(repr=False)
    """Absolute, or relative to the client's base_url."""
    endpoint: str
    """Name of the call for the limits, such as `appointments`."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The query; if any, it replaces the one in `url`."""
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Answered:
    """The partner answered, whatever its status, and the answer is whole."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """By name, in any case."""
    body: bytes = field(repr=False)
    received_at: datetime


@dataclass(frozen=True)
class NotSent:
    """No byte of the request left: it was surely not applied."""

    cause: Cause


@dataclass(frozen=True)
class Unknown:
    """The request, or a part of it, may have left: it may have been applied."""

    cause: Cause


Exchange = Answered | NotSent | Unknown

Throttles = Callable[[Answered], bool]
"""Whether an answer means too many calls by the partner's own convention, whatever its status."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def exchange(
    client: httpx.Client,
    gate: Gate,
    request: Request,
    *,
    throttles: Throttles | None = None,
    now: Callable[[], datetime] = _utc_now,
) -> Exchange:
    """Send `request` once, as soon as the gate admits it, and tell the gate what the answer says of the limits.

    What cannot be sent does not ask the gate. `throttles`: what means too many calls besides 429; None: nothing.
    The deadline and the largest body are the client's. Raises errors.Deferred (the gate's) and nothing else.
    """
    trail = _Trail(gate)
    built = _built(client, request, trail)
    if built is None:
        return NotSent(Cause.UNSENDABLE)
    gate.admit(request.endpoint)
    try:
        answer = client.send(built, follow_redirects=False)
    except _SENDING_ERRORS as error:
        verdict = trail.verdict(error)
        if isinstance(verdict, Unknown):
            gate.unheard()
        return verdict
    answered = Answered(answer.status_code, MappingProxyType(answer.headers), answer.content, now())
    tell_gate(gate, request.endpoint, answered, throttles)
    return answered


def tell_gate(gate: Gate, endpoint: str, answered: Answered, throttles: Throttles | None = None) -> None:
    """Tell the gate what `answered` says of the limits, if anything.

    `exchange` does it; besides it, only who finds an answer inside another one (a batch) has to.
    """
    is_throttle = throttles is not None and throttles(answered)
    said = told(answered.status, answered.headers, answered.received_at, is_throttle=is_throttle)
    if said is not None:
        gate.heard(endpoint, said)


# ValueError: an address or a header that cannot be encoded. Its text may hold the credential: let it go.
_SENDING_ERRORS = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)


def _built(client: httpx.Client, request: Request, trail: _Trail) -> httpx.Request | None:
    try:
        built = client.build_request(
            request.method,
            request.url,
            headers=request.headers,
            params=request.params or None,  # an empty mapping would strip the query off the url
            content=request.content,
            extensions={"trace": trail},
        )
    except _SENDING_ERRORS:
        return None
    return built if _is_http(built.url) else None


def _is_http(url: httpx.URL) -> bool:
    return url.scheme in ("http", "https") and bool(url.host) and (url.port is None or 0 < url.port < 65536)


class _Trail:
    """What a transport did for one request: the callback of httpcore's `trace` extension."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._connect_failure: Cause | None = None
        self._has_begun_sending = False
        self._is_head_refused = False
        self._is_garbled = False
        self._is_too_large = False

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        error = info.get("exception")
        match event:
            case "http11.send_request_headers.started":
                self._gate.leave()
            case "connection.connect_tcp.failed" | "connection.connect_unix_socket.failed":
                is_name = isinstance(error, UnicodeError) or isinstance(_behind(error), _NAME_ERRORS)
                self._connect_failure = Cause.DNS if is_name else Cause.REFUSED
            case "connection.start_tls.failed":
                self._connect_failure = Cause.TLS
            case "http11.send_request_headers.failed":
                # Raised while the head is being written down; the first byte goes out after that.
                self._is_head_refused = type(error).__name__ == "LocalProtocolError"
            case "http11.receive_response_headers.failed":
                # Bytes that are no HTTP have the parser's error behind them; the end of the stream has not.
                self._is_garbled = _behind(error) is not None
            case "response.too_large":
                self._is_too_large = True
        # All but connecting counts as sending: an event that we do not know must not pass for a proof.
        if not event.startswith("connection."):
            self._has_begun_sending = True

    def verdict(self, error: Exception) -> NotSent | Unknown:
        """What `error`, which ended the exchange, means in the light of what was seen."""
        if self._is_head_refused:
            return NotSent(Cause.UNSENDABLE)
        if self._connect_failure is not None and not self._has_begun_sending:
            is_late = isinstance(error, httpx.TimeoutException)
            return NotSent(Cause.CONNECT_TIMEOUT if is_late else self._connect_failure)
        return Unknown(self._unknown_cause(error))

    def _unknown_cause(self, error: Exception) -> Cause:
        if self._is_too_large:
            return Cause.BODY_TOO_LARGE
        match error:
            case httpx.TimeoutException():
                return Cause.TIMEOUT
            case httpx.DecodingError():
                return Cause.ENCODING
            case httpx.RemoteProtocolError() if self._is_garbled:
                return Cause.PROTOCOL
            case httpx.LocalProtocolError() | ValueError():
                return Cause.PROTOCOL
        return Cause.CUT


_NAME_ERRORS = (socket.gaierror, UnicodeError)


def _behind(error: object) -> BaseException | None:
    return getattr(error, "__cause__", None)


# --- Reading answers ----------------------------------------------------------------------------------------


def answered_at(headers: Mapping[str, str]) -> datetime | None:
    """When it was answered by the partner's clock, in whole seconds (Date; RFC 9110, 6.6.1); None: it does not say."""
    try:
        told = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, OverflowError):
        return None
    return told if told.tzinfo is not None else None


def is_web_page(answered: Answered) -> bool:
    """Whether it is a page for people, by its type or its first letters."""
    kind = answered.headers.get("content-type", "").lower()
    return "html" in kind or answered.body[:64].lstrip().lower().startswith((b"<!doctype", b"<html"))


def is_token(text: str) -> bool:
    """Whether a header can carry it as a credential: letters, digits and signs of ASCII, and no space."""
    return re.fullmatch("[!-~]+", text) is not None


class Flaw(StrEnum):
    """What keeps a body from being JSON that we take."""

    EMPTY = "empty"
    NOT_UTF8 = "not_utf8"
    SYNTAX = "syntax"
    """Not JSON, or a number that is none: NaN, Infinity, one beyond what a double holds."""
    TOO_DEEP = "too_deep"
    TOO_MANY = "too_many"
    """Values of next to nothing, which would take many times the memory of the body."""


@dataclass(frozen=True)
class NotJson:
    """The body is not JSON that we take."""

    flaw: Flaw


MAX_JSON_DEPTH = 100
"""Most lists and objects inside each other; inclusive."""
_MOST_TIMES = 20
"""So many times the bytes of a body its values may take; records, padded as ORCA pads them, take up to 16."""
_LITTLE = 16 * 1024 * 1024
_JSON_TAKES = {b"{": 232, b"[": 72, b",": 60}  # bytes, of CPython's small objects


def read_json(answered: Answered) -> object | NotJson:
    """The body as JSON (RFC 8259). Of a key given twice the last one counts. Look at the content type before.

    Strings may hold what PostgreSQL does not take (U+0000, half a surrogate pair): that is one record's flaw.
    """
    if not answered.body.strip():
        return NotJson(Flaw.EMPTY)
    try:
        text = answered.body.decode("utf-8-sig")  # with or without the mark that some servers put first
    except UnicodeDecodeError:
        return NotJson(Flaw.NOT_UTF8)
    if is_swelling(answered.body, _JSON_TAKES):
        return NotJson(Flaw.TOO_MANY)
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        return NotJson(Flaw.TOO_DEEP)
    except ValueError:
        return NotJson(Flaw.SYNTAX)
    return value if _is_shallow(value, answered.body) else NotJson(Flaw.TOO_DEEP)


def is_swelling(body: bytes, takes: Mapping[bytes, int]) -> bool:
    """Whether what is read of it would take many times its memory: a million objects of next to nothing.

    `takes`: by the sign that begins a value, how many bytes that takes, about.
    """
    taken = sum(body.count(sign) * each for sign, each in takes.items())
    return taken > _LITTLE and taken > _MOST_TIMES * len(body)


def _refuse_constant(_: str) -> float:
    raise ValueError("not a number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("not a number that a double holds")
    return value


def _is_shallow(value: object, body: bytes) -> bool:
    """Whether no more than MAX_JSON_DEPTH lists and objects are inside each other.

    Told by the brackets alone where all of them surely are brackets, which costs a tenth of a walk through a long list.
    """
    brackets = None if b"\\" in body else body.translate(_ONE_KIND, _ALL_ELSE).replace(b'""', b"")
    if brackets is None or b'"' in brackets:  # one may stand in a string
        return _is_shallow_in_depth(value)
    for _ in range(MAX_JSON_DEPTH):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"")
    return not brackets


_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_ALL_ELSE = bytes(set(range(256)) - set(b'[]{}"'))


def _is_shallow_in_depth(value: object) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_JSON_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return True
    return False
