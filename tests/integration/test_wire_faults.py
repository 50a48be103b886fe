"""What an exchange comes to when the partner, or the way there, fails: real sockets, TLS and deadlines."""

from __future__ import annotations

import gzip
import logging
import os
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from partners.errors import Deferred
from partners.throttling import Told
from partners.wire import Answered, Cause, Exchange, NotSent, Request, Unknown, exchange
from resources.http import BodyTooLargeError, Http

HTTP = Http(total_seconds=0.6, connect_seconds=0.3, max_body_bytes=100_000)
SECRET = "s3cr3t-t0ken"  # made up
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


# --- A partner made of sockets ------------------------------------------------------------------------------


@dataclass
class Line:
    """One accepted connection, and what came through it."""

    conn: socket.socket
    over: threading.Event
    requests: list[bytes] = field(default_factory=list)

    def read(self) -> bytes:
        """One whole request."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [row for row in head.lower().split(b"\r\n") if row.startswith(b"content-length:")]
        while lengths and len(body) < int(lengths[0].partition(b":")[2]):
            body += self._more()
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def reset(self) -> None:
        """Close with RST."""
        self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.conn.close()

    def _more(self) -> bytes:
        data = self.conn.recv(65536)
        if not data:
            raise ConnectionError
        return data


Play = Callable[[Line], None]


@dataclass
class FaultyPartner:
    url: str
    lines: list[Line] = field(default_factory=list)

    @property
    def requests(self) -> list[bytes]:
        """What was read as a whole request: what a partner may have applied."""
        return [request for line in self.lines for request in line.requests]


@contextmanager
def partner(play: Play, tls: ssl.SSLContext | None = None) -> Iterator[FaultyPartner]:
    """A server on loopback that plays `play` on each connection and then closes it."""
    over = threading.Event()
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        scheme = "https" if tls else "http"
        server = FaultyPartner(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")

        def serve(conn: socket.socket) -> None:
            with suppress(OSError):
                conn = tls.wrap_socket(conn, server_side=True) if tls else conn
                line = Line(conn, over)
                server.lines.append(line)
                play(line)
            conn.close()

        def accept() -> None:
            while not over.is_set():
                with suppress(OSError):
                    conn, _ = listener.accept()
                    conn.settimeout(10)
                    threads.append(threading.Thread(target=serve, args=(conn,)))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield server
        finally:
            over.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


def answering(*pieces: bytes, pause: float = 0) -> Play:
    """Read a request, send the pieces, close."""

    def play(line: Line) -> None:
        line.read()
        for piece in pieces:
            line.conn.sendall(piece)
            line.over.wait(pause)

    return play


def body(content: bytes, *headers: str) -> bytes:
    head = "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(content)}", *headers])
    return head.encode() + b"\r\n\r\n" + content


def silent(line: Line) -> None:
    line.read()
    line.over.wait()


def deaf(line: Line) -> None:
    line.over.wait()


def hanging_up(line: Line) -> None:
    line.read()


def resetting(line: Line) -> None:
    line.read()
    line.reset()


def endless(start: bytes, piece: bytes, pause: float = 0) -> Play:
    def play(line: Line) -> None:
        line.read()
        line.conn.sendall(start)
        while not line.over.wait(pause):
            line.conn.sendall(piece)

    return play


class OpenGate:
    """Admits everything, and remembers what."""

    def __init__(self) -> None:
        self.admitted: list[str] = []
        self.told: list[tuple[str, Told]] = []
        self.left = 0
        self.unanswered = 0
        self.is_late = False

    def admit(self, endpoint: str) -> None:
        self.admitted.append(endpoint)

    def leave(self) -> None:
        if self.is_late:
            raise Deferred(datetime.now(UTC))
        self.left += 1

    def unheard(self) -> None:
        self.unanswered += 1

    def heard(self, endpoint: str, told: Told) -> None:
        self.told.append((endpoint, told))


def write(url: str, http: Http = HTTP, **changes: Any) -> Exchange:
    """One POST with a secret and a small body."""
    request = Request(
        "POST", url, "visits", headers={"authorization": f"Bearer {SECRET}"}, content=b'{"name": "secret"}'
    )
    with http.client() as client:
        return exchange(client, OpenGate(), replace(request, **changes))


# --- Answered -----------------------------------------------------------------------------------------------


def test_an_answer_comes_whole_and_its_headers_are_found_in_any_case() -> None:
    then = datetime(2026, 11, 24, tzinfo=UTC)
    gate = OpenGate()
    with partner(answering(body(b"{}", 'ETag: W/"3"'))) as server, HTTP.client() as client:
        answered = exchange(client, gate, Request("GET", server.url, "visits"), now=lambda: then)
    assert isinstance(answered, Answered)
    assert (answered.status, answered.body, answered.received_at) == (200, b"{}", then)
    assert answered.headers["etag"] == answered.headers["ETag"] == 'W/"3"'
    assert gate.admitted == ["visits"]


def test_a_query_stands_in_the_address_or_in_the_parameters() -> None:
    with partner(answering(OK)) as server:
        write(f"{server.url}/Patient?_page=opaque")
        write(f"{server.url}/Patient", params={"_count": "10"})
        lines = [request.split(b" HTTP/1.1")[0] for request in server.requests]
    assert lines == [b"POST /Patient?_page=opaque", b"POST /Patient?_count=10"]


def test_an_error_status_is_an_answer_too() -> None:
    with partner(answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")) as server:
        answered = write(server.url)
    assert isinstance(answered, Answered)
    assert answered.status == 503


def test_the_gate_hears_what_an_answer_says_of_the_limits_and_nothing_else() -> None:
    then = datetime(2026, 11, 24, tzinfo=UTC)
    soon = timedelta(seconds=7)
    refused = b"HTTP/1.1 %s\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    used_up = body(b"", 'RateLimit: "a";r=3;t=1', 'RateLimit: "b";r=0;t=7')
    for answer, throttles, wanted in (
        (refused % b"429 Slow", None, [Told(True, soon)]),
        (refused % b"418 Slow", lambda answered: answered.status == 418, [Told(True, soon)]),
        (refused % b"418 Slow", None, []),
        (used_up, None, [Told(False, soon)]),
        (OK, None, []),
    ):
        gate = OpenGate()
        with partner(answering(answer)) as server, HTTP.client() as client:
            exchange(client, gate, Request("GET", server.url, "visits"), throttles=throttles, now=lambda: then)
        assert gate.told == [("visits", each) for each in wanted]


def test_the_gate_hears_of_a_call_without_an_answer_and_of_no_other() -> None:
    gate = OpenGate()
    with partner(answering(OK)) as server, partner(answering(b"")) as silent, HTTP.client() as client:
        exchange(client, gate, Request("GET", server.url, "visits"))
        exchange(client, gate, Request("GET", "http://127.0.0.1:1", "visits"))
        assert (gate.left, gate.unanswered) == (1, 0)
        exchange(client, gate, Request("GET", silent.url, "visits"))
        assert (gate.left, gate.unanswered) == (2, 1)


def test_a_call_that_the_gate_finds_too_late_to_leave_sends_no_byte() -> None:
    gate = OpenGate()
    gate.is_late = True
    with partner(answering(OK)) as server, HTTP.client() as client:
        with pytest.raises(Deferred):
            exchange(client, gate, Request("GET", server.url, "visits"))
        gate.is_late = False
        answered = exchange(client, gate, Request("GET", server.url, "visits"))
        assert isinstance(answered, Answered)
        assert [each for each in server.requests if each] == [server.requests[-1]]


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with partner(answering(OK)) as other:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {other.url}\r\nContent-Length: 0\r\n\r\n"
        with partner(answering(moved.encode())) as server:
            answered = write(server.url)
        assert isinstance(answered, Answered)
        assert answered.status == 307
        assert other.lines == []


def test_a_packed_answer_is_unpacked() -> None:
    with partner(answering(body(gzip.compress(b'{"a": 1}'), "Content-Encoding: gzip"))) as server:
        answered = write(server.url)
        assert b"accept-encoding: gzip" in server.requests[0].lower()
    assert isinstance(answered, Answered)
    assert answered.body == b'{"a": 1}'


def test_an_answer_without_a_body_is_whole_though_it_is_called_packed() -> None:
    with partner(answering(b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n")) as server:
        answered = write(server.url)
    assert isinstance(answered, Answered)
    assert answered.body == b""


def test_a_body_may_be_as_large_as_the_limit() -> None:
    with partner(answering(body(b"x" * HTTP.max_body_bytes))) as server:
        answered = write(server.url)
    assert isinstance(answered, Answered)
    assert len(answered.body) == HTTP.max_body_bytes


def test_each_exchange_has_the_whole_time_anew() -> None:
    def play(line: Line) -> None:
        for _ in range(2):
            line.read()
            line.over.wait(0.4)
            line.conn.sendall(OK)

    with partner(play) as server, HTTP.client() as client:
        for _ in range(2):
            assert isinstance(exchange(client, OpenGate(), Request("GET", server.url, "visits")), Answered)
        assert len(server.lines) == 1, "the connection was not kept"


# --- Not sent -----------------------------------------------------------------------------------------------


def test_a_closed_port_is_not_sent() -> None:
    assert write(f"http://127.0.0.1:{closed_port()}") == NotSent(Cause.REFUSED)


def test_a_closed_port_is_not_sent_with_an_ordinary_client_either() -> None:
    with httpx.Client(trust_env=False) as client:
        request = Request("POST", f"http://127.0.0.1:{closed_port()}", "visits")
        assert exchange(client, OpenGate(), request) == NotSent(Cause.REFUSED)


def test_a_name_without_an_address_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert write("http://partner.example:80") == NotSent(Cause.DNS)
    with httpx.Client(trust_env=False) as client:
        request = Request("POST", "http://partner.example:80", "visits")
        assert exchange(client, OpenGate(), request) == NotSent(Cause.DNS)


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        over.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with taking(HTTP.connect_seconds):
        assert write("http://partner.example:80") == NotSent(Cause.CONNECT_TIMEOUT)
    over.set()


def test_the_next_address_of_a_name_is_tried_when_one_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    with partner(answering(OK)) as server:
        port = int(server.url.rpartition(":")[2])
        known = {"partner.example": ["127.0.0.9", "127.0.0.1"]}

        def resolve(host: str, *_: Any, **__: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in known.get(host, [host])]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        assert isinstance(write(f"http://partner.example:{port}"), Answered)


def test_a_host_that_takes_no_connection_is_not_sent_at_the_connect_deadline() -> None:
    with full_listener() as port, taking(HTTP.connect_seconds):
        assert write(f"http://127.0.0.1:{port}") == NotSent(Cause.CONNECT_TIMEOUT)


def test_a_credential_that_http_cannot_carry_is_not_sent_and_shown_nowhere() -> None:
    with partner(answering(OK)) as server:
        outcome = write(server.url, headers={"authorization": f"Bearer {SECRET}\n"})
        assert outcome == NotSent(Cause.UNSENDABLE)
        assert server.requests == []
    assert SECRET not in repr(outcome)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("partner.example/fhir", {}),
        ("ftp://partner.example", {}),
        ("http://", {}),
        ("http://127.0.0.1:99999", {}),
        ("http://127.0.0.1", {"authorization": "Bearer ｔｏｋｅｎ"}),
    ],
)
def test_what_cannot_be_written_as_http_is_not_sent_and_costs_no_call(url: str, headers: dict[str, str]) -> None:
    gate = OpenGate()
    with HTTP.client() as client:
        outcome = exchange(client, gate, Request("GET", url, "visits", headers=headers))
    assert outcome == NotSent(Cause.UNSENDABLE)
    assert gate.admitted == []


def test_nothing_is_sent_when_the_gate_defers() -> None:
    until = datetime.now(UTC) + timedelta(hours=1)

    class ClosedGate:
        def admit(self, endpoint: str) -> None:
            raise Deferred(until)

        def leave(self) -> None:
            """In time."""

        def unheard(self) -> None:
            """Nobody counts what is under way."""

        def heard(self, endpoint: str, told: Told) -> None:
            raise AssertionError("nothing was sent")

    with partner(answering(OK)) as server, HTTP.client() as client:
        with pytest.raises(Deferred) as deferred:
            exchange(client, ClosedGate(), Request("GET", server.url, "visits"))
        assert server.lines == []
    assert deferred.value.until == until


# --- TLS ----------------------------------------------------------------------------------------------------


def test_a_handshake_that_fails_is_not_sent() -> None:
    def play(line: Line) -> None:
        line.conn.recv(10)
        line.conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with partner(play) as server:
        assert write(server.url.replace("http:", "https:")) == NotSent(Cause.TLS)


def test_a_handshake_that_never_ends_is_not_sent_at_the_connect_deadline() -> None:
    with partner(deaf) as server, taking(HTTP.connect_seconds):
        assert write(server.url.replace("http:", "https:")) == NotSent(Cause.CONNECT_TIMEOUT)


def test_a_certificate_is_taken_only_from_an_authority_that_we_trust(tls: Tls) -> None:
    with partner(answering(OK), tls.server) as server:
        assert write(server.url) == NotSent(Cause.TLS)
        assert isinstance(write(server.url, replace(HTTP, ca_file=tls.ca_file)), Answered)


def test_a_partner_that_hangs_up_behind_tls_is_unknown(tls: Tls) -> None:
    with partner(hanging_up, tls.server) as server:
        assert write(server.url, replace(HTTP, ca_file=tls.ca_file)) == Unknown(Cause.CUT)
        assert len(server.requests) == 1


def test_clients_of_equal_settings_share_one_tls_context(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[ssl.SSLContext] = []
    wrap = ssl.SSLContext.wrap_socket

    def noting(self: ssl.SSLContext, *args: Any, **options: Any) -> ssl.SSLSocket:
        used.append(self)
        return wrap(self, *args, **options)

    with partner(answering(OK), tls.server) as server:
        monkeypatch.setattr(ssl.SSLContext, "wrap_socket", noting)
        for _ in range(2):
            assert isinstance(write(server.url, replace(HTTP, ca_file=tls.ca_file)), Answered)
    assert len({id(context) for context in used if context is not tls.server}) == 1


# --- Unknown ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("play", [hanging_up, resetting])
def test_a_partner_that_reads_and_hangs_up_is_unknown(play: Play) -> None:
    with partner(play) as server:
        assert write(server.url) == Unknown(Cause.CUT)
        assert len(server.requests) == 1


@pytest.mark.parametrize("play", [hanging_up, resetting])
def test_it_is_unknown_with_an_ordinary_client_that_retries_connecting(play: Play) -> None:
    transport = httpx.HTTPTransport(retries=3)
    with partner(play) as server, httpx.Client(transport=transport, trust_env=False) as client:
        assert exchange(client, OpenGate(), Request("POST", server.url, "visits")) == Unknown(Cause.CUT)
        assert len(server.requests) == 1


class LyingTransport(httpx.BaseTransport):
    """Sends for real, and reports a lost answer as a connection never made, as one transport does."""

    def __init__(self) -> None:
        self._honest = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._honest.handle_request(request)
        except httpx.RemoteProtocolError:
            raise httpx.ConnectTimeout("could not connect") from None

    def close(self) -> None:
        self._honest.close()


@pytest.mark.parametrize("is_traced", [True, False])
def test_it_is_unknown_even_if_the_transport_says_that_it_never_connected(is_traced: bool) -> None:
    class Silent(LyingTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            request.extensions = {name: it for name, it in request.extensions.items() if name != "trace"}
            return super().handle_request(request)

    transport = LyingTransport() if is_traced else Silent()
    with partner(hanging_up) as server, httpx.Client(transport=transport) as client:
        outcome = exchange(client, OpenGate(), Request("POST", server.url, "visits"))
        assert len(server.requests) == 1
    assert isinstance(outcome, Unknown)


def test_a_kept_connection_that_the_partner_drops_on_the_next_request_is_unknown() -> None:
    def play(line: Line) -> None:
        line.read()
        line.conn.sendall(OK)
        line.read()

    with partner(play) as server, HTTP.client() as client:
        request = Request("POST", server.url, "visits")
        assert isinstance(exchange(client, OpenGate(), request), Answered)
        assert exchange(client, OpenGate(), request) == Unknown(Cause.CUT)
        assert len(server.requests) == 2
        assert len(server.lines) == 1


def test_a_kept_connection_that_was_closed_meanwhile_is_not_used_again() -> None:
    with partner(answering(OK)) as server, HTTP.client() as client:
        for number in (1, 2):
            assert isinstance(exchange(client, OpenGate(), Request("POST", server.url, "visits")), Answered)
            wait_until(lambda: all(line.conn.fileno() == -1 for line in server.lines))
            assert len(server.lines) == number


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "play",
    [
        silent,
        endless(b"HTTP/1.1 200 OK\r\n", b"X", pause=0.05),
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x", pause=0.05),
        endless(CHUNKED, b"1\r\nx\r\n", pause=0.05),
        endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.05),
    ],
    ids=["no answer", "dripping head", "dripping body", "dripping chunks", "always processing"],
)
def test_an_answer_that_does_not_end_is_unknown_at_the_total_deadline(play: Play) -> None:
    with partner(play) as server, taking(HTTP.total_seconds):
        assert write(server.url) == Unknown(Cause.TIMEOUT)
    assert len(server.requests) == 1


def test_a_request_that_is_taken_too_slowly_is_unknown_at_the_total_deadline() -> None:
    def play(line: Line) -> None:
        while not line.over.wait(0.02):  # fast enough that each single part of the request goes out in time
            line.conn.recv(200_000)

    with partner(play) as server, taking(HTTP.total_seconds):
        assert write(server.url, content=b"x" * 40_000_000) == Unknown(Cause.TIMEOUT)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello\r\n",
    ],
)
def test_an_answer_that_ends_too_early_is_unknown(answer: bytes) -> None:
    with partner(answering(answer)) as server:
        assert write(server.url) == Unknown(Cause.CUT)


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9.9\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000],
    ids=["another protocol", "a head without end"],
)
def test_an_answer_that_is_not_http_is_unknown(answer: bytes) -> None:
    with partner(answering(answer)) as server:
        assert write(server.url) == Unknown(Cause.PROTOCOL)


@pytest.mark.parametrize(
    "answer",
    [
        body(gzip.compress(b"{}" * 1000)[:-9], "Content-Encoding: gzip"),
        body(gzip.compress(b"{}") + b"more", "Content-Encoding: gzip"),
        body(b"not packed at all", "Content-Encoding: gzip"),
        body(b"\x0b\x01\x80{}\x03", "Content-Encoding: br"),
        body(gzip.compress(gzip.compress(b"{}")), "Content-Encoding: gzip, gzip"),
    ],
    ids=["cut short", "goes on", "not packed", "not asked for", "packed twice"],
)
def test_a_body_that_cannot_be_unpacked_is_unknown(answer: bytes) -> None:
    with partner(answering(answer)) as server:
        assert write(server.url) == Unknown(Cause.ENCODING)


@pytest.mark.parametrize(
    "play",
    [
        answering(body(b"x" * (HTTP.max_body_bytes + 1))),
        endless(CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n"),
        endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096),
        answering(body(gzip.compress(b"0" * (HTTP.max_body_bytes + 1)), "Content-Encoding: gzip")),
    ],
    ids=["one byte more", "endless chunks", "endless stream", "packed"],
)
def test_a_body_beyond_the_limit_is_unknown(play: Play) -> None:
    with partner(play) as server:
        assert write(server.url) == Unknown(Cause.BODY_TOO_LARGE)


def test_a_packed_body_beyond_the_limit_is_never_unpacked_whole() -> None:
    bomb = body(gzip.compress(bytes(50_000_000)), "Content-Encoding: gzip")
    with partner(answering(bomb)) as server, HTTP.client() as client:
        tracemalloc.start()
        with pytest.raises(BodyTooLargeError):
            client.get(server.url)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3_000_000


# --- What does not get in or out ----------------------------------------------------------------------------


def test_a_cookie_of_one_exchange_is_not_sent_with_the_next() -> None:
    def play(line: Line) -> None:
        for _ in range(2):
            line.read()
            line.conn.sendall(body(b"{}", "Set-Cookie: session=tenant-a; Path=/"))

    with partner(play) as server, HTTP.client() as client:
        for _ in range(2):
            exchange(client, OpenGate(), Request("GET", server.url, "visits"))
        assert len(server.requests) == 2
        assert b"tenant-a" not in b"".join(server.requests)


def test_the_environment_names_neither_a_proxy_nor_a_credential(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with partner(answering(OK)) as server, HTTP.client() as client:
        assert isinstance(exchange(client, OpenGate(), Request("GET", server.url, "visits")), Answered)
        assert b"authorization" not in server.requests[0].lower()


def test_the_libraries_log_neither_addresses_nor_credentials(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with partner(answering(OK)) as server:
        write(server.url, params={"identifier": "00000042"})
    assert SECRET not in caplog.text
    assert "00000042" not in caplog.text


# --- Arrangements -------------------------------------------------------------------------------------------


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


@contextmanager
def taking(seconds: float) -> Iterator[None]:
    """The block takes `seconds`, and at most a second more."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert seconds * 0.9 <= took <= seconds + 1


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose queue of connections is full, so that the system drops the next one's SYN."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(("127.0.0.1", port))
        yield port
        for each in waiting:
            each.close()


@dataclass(frozen=True)
class Tls:
    server: ssl.SSLContext
    ca_file: Path


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate for 127.0.0.1 that is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "partner under test")])
    address = x509.IPAddress(IPv4Address("127.0.0.1"))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    ca_file, key_file = folder / "ca.pem", folder / "key.pem"
    ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    os.chmod(key_file, 0o600)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file, key_file)
    return Tls(context, ca_file)
