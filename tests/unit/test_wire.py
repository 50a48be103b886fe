"""The rule of what counts as not sent, reading what came back, and what a value shows of itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partners.throttling import Told
from partners.wire import (
    MAX_JSON_DEPTH,
    Answered,
    Cause,
    Flaw,
    NotJson,
    NotSent,
    Request,
    Unknown,
    exchange,
    read_json,
)

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


class OpenGate:
    def admit(self, endpoint: str) -> None:
        """Admit everything."""

    def leave(self) -> None:
        """In time."""

    def unheard(self) -> None:
        """Nobody counts what is under way."""

    def heard(self, endpoint: str, told: Told) -> None:
        """Nothing to learn."""


class ScriptedTransport(httpx.BaseTransport):
    """Tells the events of a script to the request's trace, then fails."""

    def __init__(self, events: list[str], error: Exception) -> None:
        self._events = events
        self._error = error

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for event in self._events:
            request.extensions["trace"](event, {"exception": self._error} if event.endswith("failed") else {})
        raise self._error


FAILED = ["connection.connect_tcp.started", "connection.connect_tcp.failed"]
CONNECTED = ["connection.connect_tcp.started", "connection.connect_tcp.complete"]


@pytest.mark.parametrize(
    ("events", "error", "outcome"),
    [
        (FAILED, httpx.ConnectError(""), NotSent(Cause.REFUSED)),
        (FAILED, httpx.ConnectTimeout(""), NotSent(Cause.CONNECT_TIMEOUT)),
        ([*CONNECTED, "connection.start_tls.failed"], httpx.ConnectError(""), NotSent(Cause.TLS)),
        ([], httpx.ConnectError(""), Unknown(Cause.CUT)),
        ([], httpx.ConnectTimeout(""), Unknown(Cause.TIMEOUT)),
        (CONNECTED, httpx.ConnectTimeout(""), Unknown(Cause.TIMEOUT)),
        (
            [*FAILED, *CONNECTED, "http11.send_request_headers.started"],
            httpx.ReadError(""),
            Unknown(Cause.CUT),
        ),
        (
            [*FAILED, *CONNECTED, "http2.send_connection_init.started"],
            httpx.ConnectError(""),
            Unknown(Cause.CUT),
        ),
        ([*FAILED, "something.new"], httpx.ConnectError(""), Unknown(Cause.CUT)),
        (["http11.send_request_headers.failed"], httpx.LocalProtocolError(""), NotSent(Cause.UNSENDABLE)),
        (["http11.send_request_headers.failed"], httpx.WriteTimeout(""), Unknown(Cause.TIMEOUT)),
        (["http11.send_request_body.failed"], httpx.LocalProtocolError(""), Unknown(Cause.PROTOCOL)),
        ([], httpx.LocalProtocolError(""), Unknown(Cause.PROTOCOL)),
    ],
)
def test_only_a_failure_seen_before_sending_counts_as_not_sent(
    events: list[str], error: Exception, outcome: NotSent | Unknown
) -> None:
    with httpx.Client(transport=ScriptedTransport(events, error)) as client:
        assert exchange(client, OpenGate(), Request("POST", "http://partner.example", "visits")) == outcome


def answered(body: bytes) -> Answered:
    return Answered(200, {}, body, NOW)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("value", [{"name": "山﨑", "n": [1, -2.5, True, None]}, [], "text", 0, None])
def test_json_is_read(value: object) -> None:
    assert read_json(answered(json.dumps(value, ensure_ascii=False).encode())) == value


def test_a_mark_at_the_start_of_utf8_is_passed_over() -> None:
    assert read_json(answered(b"\xef\xbb\xbf{}")) == {}


def test_of_a_key_given_twice_the_last_one_counts() -> None:
    assert read_json(answered(b'{"a": 1, "a": 2}')) == {"a": 2}


@pytest.mark.parametrize(
    ("body", "flaw"),
    [
        (b"", Flaw.EMPTY),
        (b" \r\n", Flaw.EMPTY),
        ("山".encode("cp932"), Flaw.NOT_UTF8),
        ('{"a": 1}'.encode("utf-16"), Flaw.NOT_UTF8),
        (b'"\xed\xa0\x80"', Flaw.NOT_UTF8),
        (b"<html></html>", Flaw.SYNTAX),
        (b'{"a": 1', Flaw.SYNTAX),
        (b'{"a": 1} {"b": 2}', Flaw.SYNTAX),
        (b"[NaN]", Flaw.SYNTAX),
        (b"[-Infinity]", Flaw.SYNTAX),
        (b"[1e999]", Flaw.SYNTAX),
        (b"1" * 5000, Flaw.SYNTAX),
        (b'{"a": ' * (MAX_JSON_DEPTH + 1) + b"1" + b"}" * (MAX_JSON_DEPTH + 1), Flaw.TOO_DEEP),
        (nested(MAX_JSON_DEPTH + 1), Flaw.TOO_DEEP),
        (nested(100_000), Flaw.TOO_DEEP),
        (b"[" * 200_000, Flaw.TOO_DEEP),
        (b"[" * 1_000_000, Flaw.TOO_MANY),
        (b"[" + b"{}," * 400_000 + b"{}]", Flaw.TOO_MANY),
        (b"[" + b'{"a":1},' * 400_000 + b"{}]", Flaw.TOO_MANY),
        # In strings: what would close each level at once, and open it again before its end.
        (b'["]", ' * (MAX_JSON_DEPTH + 1) + b"1" + b', "["]' * (MAX_JSON_DEPTH + 1), Flaw.TOO_DEEP),
        (b'["\\"]", ' * (MAX_JSON_DEPTH + 1) + b"1" + b', "[\\""]' * (MAX_JSON_DEPTH + 1), Flaw.TOO_DEEP),
    ],
)
def test_what_is_not_json_that_we_take_is_a_value_that_says_why(body: bytes, flaw: Flaw) -> None:
    assert read_json(answered(body)) == NotJson(flaw)


def test_json_may_be_as_deep_as_the_limit() -> None:
    assert not isinstance(read_json(answered(nested(MAX_JSON_DEPTH))), NotJson)
    assert not isinstance(read_json(answered(b'["' + b"[{" * MAX_JSON_DEPTH + b'"]')), NotJson)


@given(st.binary())
def test_reading_never_raises(body: bytes) -> None:
    read_json(answered(body))


def test_no_value_shows_a_credential_or_what_a_record_says() -> None:
    request = Request(
        "POST",
        "http://partner.example/Patient?name=hidden",
        "clients",
        headers={"authorization": "Bearer hidden"},
        params={"family": "hidden"},
        content=b"hidden",
    )
    reply = Answered(200, {"set-cookie": "hidden"}, b"hidden", NOW)
    for value in (request, reply, NotSent(Cause.DNS), Unknown(Cause.CUT)):
        assert "hidden" not in repr(value)
