"""Answers that no partner should give, and what may be said of them.

Each comes from a server of its own, to a reading and to a write; they are tried side by side. Whatever the partner's
protocol is, none of them is data and none a success. What must hold: it ends within the deadline, nobody else gets the
credential, a reading raises a PartnerError, and a write says no more than is sure.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import struct
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from pathlib import Path

from partners.certification.bench import NotOffered
from partners.certification.relay import plain
from partners.certification.trial import (
    READ_BACK,
    SLACK,
    Bounds,
    Kinds,
    NotingGate,
    Trial,
    broken,
    require,
    told,
    unnamed,
)
from partners.contract import Absent, Command, Conflict, Refused, Retry, Token, Unknown
from partners.errors import PartnerError

BOUNDS = Bounds(total_seconds=0.5, connect_seconds=0.4, max_body_bytes=1_000_000)
_AT_ONCE = 40
_MOST_MEMORY = 12 * BOUNDS.max_body_bytes

Act = Callable[[str, "Hostile"], str | None]
"""Given an address and what is played there; what is wrong with what comes of it."""
Play = Callable[[socket.socket, threading.Event], None]
"""Given a connection and what is set when the trial is over."""

_UNSURE: Kinds = (Unknown,)
_UNSENT: Kinds = (Retry, Refused)
_TURNED_AWAY: Kinds = (Refused, Retry, Conflict, Unknown)
_AGAIN: Kinds = (Retry, Unknown)


@dataclass(frozen=True)
class Hostile:
    """One answer."""

    name: str
    play: Play
    write: Kinds = _UNSURE
    """What a write may say of it."""
    is_empty: bool = False
    """Whether it is what some protocol says where there is nothing: a reading may end with no record."""
    is_tls: bool = False
    """Whether it is called by https."""
    is_large: bool = False
    """Whether it is looked at how much memory it takes."""


def _asked(conn: socket.socket) -> None:
    """Read one whole request."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(conn)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((row[15:] for row in head.lower().split(b"\r\n") if row.startswith(b"content-length:")), b"0")
    while len(body) < int(length):
        body += _more(conn)


def _more(conn: socket.socket) -> bytes:
    data = conn.recv(65536)
    if not data:
        raise ConnectionError
    return data


def _says(*pieces: bytes) -> Play:
    def play(conn: socket.socket, over: threading.Event) -> None:
        _asked(conn)
        for piece in pieces:
            conn.sendall(piece)

    return play


def _body(content: bytes, kind: str = "application/json", *headers: str, status: int = 200) -> Play:
    return _says(plain(status, content, f"content-type: {kind}", *headers))


def _goes_on(start: bytes, piece: bytes, pause: float = 0.0) -> Play:
    def play(conn: socket.socket, over: threading.Event) -> None:
        _asked(conn)
        conn.sendall(start)
        while not over.wait(pause):
            conn.sendall(piece)

    return play


def _silent(conn: socket.socket, over: threading.Event) -> None:
    _asked(conn)
    over.wait()


def _deaf(conn: socket.socket, over: threading.Event) -> None:
    over.wait()


def _hangs_up(conn: socket.socket, over: threading.Event) -> None:
    _asked(conn)


def _resets(conn: socket.socket, over: threading.Event) -> None:
    _asked(conn)
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _no_tls(conn: socket.socket, over: threading.Event) -> None:
    conn.recv(10)
    conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def _cut_handshake(conn: socket.socket, over: threading.Event) -> None:
    conn.recv(10)


def _unknown_authority(days: int) -> Play:
    def play(conn: socket.socket, over: threading.Event) -> None:
        with suppress(ssl.SSLError), _own_certificate(days).wrap_socket(conn, server_side=True) as tls:
            _asked(tls)
            tls.sendall(plain(200, b"{}", "content-type: application/json"))

    return play


@cache
def _own_certificate(days: int) -> ssl.SSLContext:
    """A server's certificate that nobody vouches for, valid for so many days."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "certificate.pem"
        pem = key.private_bytes(serialization.Encoding.PEM, *form)
        file.write_bytes(pem + signed.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(file)
    return context


@cache
def _bomb() -> bytes:
    return gzip.compress(b"0" * 20 * BOUNDS.max_body_bytes, 1)


_CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
_PAGE = b"<!DOCTYPE html><html><body><form>Please log in</form></body></html>"
_ENTITIES = (
    b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%b">' % (name, b"&%c;" % (name - 1) * 10) for name in range(ord("b"), ord("k")))
    + b"]><r>&j;</r>"
)
_OUTSIDE = b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]><r>&x;</r>'
_OBJECTS = b"[" + b"{}," * 300_000 + b"{}]"
_ELEMENTS = b"<xmlio2>" + b"<a/>" * 240_000 + b"</xmlio2>"
_GZIP = "content-encoding: gzip"
_JSON, _XML = "application/json", "application/xml"


def hostile_answers(elsewhere: str) -> tuple[Hostile, ...]:
    """All of them; redirects lead to `elsewhere`."""
    away = f"location: {elsewhere}"
    cut_head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    return (
        Hostile("no answer", _silent),
        Hostile("the line ends without a byte", _hangs_up),
        Hostile("the line is reset", _resets),
        Hostile("a status line that is cut", _says(b"HTTP/1.1 20")),
        Hostile("a head that is cut", _says(b"HTTP/1.1 200 OK\r\ncontent-le")),
        Hostile("a body shorter than its length", _says(cut_head + b"content-length: 50\r\n\r\n{}")),
        Hostile("two lengths", _says(cut_head + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}")),
        Hostile("a length that is no number", _says(cut_head + b"content-length: two\r\n\r\n{}")),
        Hostile("a negative length", _says(cut_head + b"content-length: -2\r\n\r\n{}")),
        Hostile("chunks that are cut", _says(_CHUNKED + b"9\r\n{}")),
        Hostile("a chunk without a size", _says(_CHUNKED + b"zz\r\n{}\r\n")),
        Hostile("another protocol", _says(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")),
        Hostile("a head without end", _goes_on(b"HTTP/1.1 200 OK\r\nx: ", b"x" * 4096)),
        Hostile("a head a byte at a time", _goes_on(b"HTTP/1.1 200 OK\r\n", b"x", 0.05)),
        Hostile("a body a byte at a time", _goes_on(cut_head + b"content-length: 9999\r\n\r\n", b" ", 0.05)),
        Hostile("chunks a byte at a time", _goes_on(_CHUNKED, b"1\r\n \r\n", 0.05)),
        Hostile("always at work", _goes_on(b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.05)),
        Hostile("endless chunks", _goes_on(_CHUNKED, b"1000\r\n" + b" " * 4096 + b"\r\n"), is_large=True),
        Hostile("an endless body", _goes_on(cut_head + b"\r\n", b" " * 4096), is_large=True),
        Hostile(
            "a length of terabytes",
            _goes_on(cut_head + b"content-length: 9999999999999\r\n\r\n", b" " * 4096),
            is_large=True,
        ),
        Hostile("a gzip bomb", _body(_bomb(), _JSON, _GZIP), is_large=True),
        Hostile("gzip within gzip", _body(gzip.compress(gzip.compress(b"{}")), _JSON, f"{_GZIP}, gzip")),
        Hostile("gzip that is cut", _body(gzip.compress(b"{}" * 999)[:-9], _JSON, _GZIP)),
        Hostile("gzip that is none", _body(b"{}", _JSON, _GZIP)),
        Hostile("an encoding nobody asked for", _body(b"\x0b\x01\x80{}\x03", _JSON, "content-encoding: br")),
        Hostile("a web page with 200", _body(_PAGE, "text/html")),
        Hostile("a web page that is called JSON", _body(_PAGE, _JSON)),
        Hostile("an empty body", _body(b"")),
        Hostile("JSON that is cut", _body(b'{"a": [1, 2')),
        Hostile("JSON null", _body(b"null")),
        Hostile("a number where an object belongs", _body(b"1e9")),
        Hostile("an object that says nothing", _body(b"{}")),
        Hostile("a list of nothing", _body(b"[]"), is_empty=True),
        Hostile("JSON too deep", _body(b"[" * 100_000 + b"]" * 100_000)),
        Hostile("objects too deep", _body(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), is_large=True),
        Hostile("objects of next to nothing", _body(_OBJECTS, _JSON), is_large=True),
        Hostile(
            "elements of next to nothing",
            _body(_ELEMENTS, _XML),
            is_large=True,
        ),
        Hostile("a number without end", _body(b'{"a": ' + b"9" * 100_000 + b"}")),
        Hostile("not a number", _body(b'{"a": NaN}')),
        Hostile("letters that are no UTF-8", _body(b'{"a": "\xff\xfe\x80"}')),
        Hostile("Shift_JIS called UTF-8", _body('{"氏名": "山田"}'.encode("shift_jis"), f"{_JSON}; charset=utf-8")),
        Hostile("half a pair", _body(b'{"resourceType": "\\ud800", "id": "\\u0000"}')),
        Hostile("XML entities that multiply", _body(_ENTITIES, _XML), is_large=True),
        Hostile("an XML entity from a file", _body(_OUTSIDE, _XML)),
        Hostile("XML that is cut", _body(b'<?xml version="1.0"?><xmlio2><a>', _XML)),
        Hostile("XML that says nothing", _body(b'<?xml version="1.0"?><xmlio2/>', _XML)),
        Hostile(
            "an encoding of XML that there is none of", _body(b'<?xml version="1.0" encoding="x-none"?><a/>', _XML)
        ),
        Hostile("no content with a success", _says(b"HTTP/1.1 204 No Content\r\n\r\n")),
        Hostile("301 to elsewhere", _body(b"", _JSON, away, status=301), _TURNED_AWAY),
        Hostile("303 to elsewhere", _body(b"", _JSON, away, status=303), _TURNED_AWAY),
        Hostile("307 to elsewhere", _body(b"", _JSON, away, status=307), _TURNED_AWAY),
        Hostile("400", _body(_PAGE, "text/html", status=400), _TURNED_AWAY),
        Hostile("401", _body(_PAGE, "text/html", status=401), _TURNED_AWAY),
        Hostile("403", _body(_PAGE, "text/html", status=403), _TURNED_AWAY),
        Hostile("404", _body(_PAGE, "text/html", status=404), _TURNED_AWAY),
        Hostile("429", _body(b"", _JSON, "retry-after: 9", status=429), _AGAIN),
        Hostile("429 for three thousand years", _body(b"", _JSON, "retry-after: 99999999999", status=429), _AGAIN),
        Hostile("500", _body(_PAGE, "text/html", status=500)),
        Hostile("502", _body(_PAGE, "text/html", status=502)),
        Hostile("503", _body(_PAGE, "text/html", status=503), _AGAIN),
        Hostile("504", _body(_PAGE, "text/html", status=504)),
        Hostile("a status beyond all", _body(b"{}", status=799)),
        Hostile("no TLS where TLS belongs", _no_tls, _UNSENT, is_tls=True),
        Hostile("a handshake that is cut", _cut_handshake, _UNSENT, is_tls=True),
        Hostile("a handshake that never ends", _deaf, _UNSENT, is_tls=True),
        Hostile("a certificate that nobody vouches for", _unknown_authority(9), _UNSENT, is_tls=True),
        Hostile("a certificate that has expired", _unknown_authority(-1), _UNSENT, is_tls=True),
    )


@contextmanager
def _listening(play: Play) -> Iterator[tuple[str, list[int]]]:
    """(host:port, and a list that grows with each connection) of a server that plays on each."""
    over, threads, came = threading.Event(), list[threading.Thread](), list[int]()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(conn: socket.socket) -> None:
            with suppress(OSError), conn:
                play(conn, over)

        def accept() -> None:
            while not over.is_set():
                with suppress(OSError):
                    conn, _ = listener.accept()
                    came.append(1)
                    conn.settimeout(10)
                    threads.append(threading.Thread(target=serve, args=(conn,)))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", came
        finally:
            over.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


class _GivenToken(NotingGate):
    """Where the partner gives tokens there is one: the answer is to the call itself, and not to the asking."""

    def token(self, ask: Callable[[], Token], refused: str = "") -> str:
        """Another one only in the place of one that is refused."""
        return super().token(ask, refused) if refused else "a-token"


def to_readings(trial: Trial) -> None:
    """Each ends a reading, and the proof before a delete, with a PartnerError, in time."""
    entity = trial.bench.partner.reads[0]

    def read(url: str, hostile: Hostile) -> str | None:
        try:
            pages = trial.read(entity, url=url, bounds=BOUNDS, gate=_GivenToken())
        except PartnerError:
            return None
        is_nothing = hostile.is_empty and not any(page.records or page.gone for page in pages)
        return None if is_nothing else f"read as {len(pages)} pages"

    def fetch(url: str, hostile: Hostile) -> str | None:
        try:
            with trial.connected(url=url, bounds=BOUNDS, gate=_GivenToken()) as connector:
                connector.fetch(entity, "1")
        except PartnerError:
            return None
        return "taken as the word about one record"

    _tried(trial, read, fetch)


def to_writes(trial: Trial) -> None:
    """Each ends a write in time, and it is never Delivered, nor surely unwritten where that is not known."""

    def writes(command: Command) -> Act:
        def write(url: str, hostile: Hostile) -> str | None:
            reply = trial.send(command, url=url, bounds=BOUNDS, gate=_GivenToken())
            return None if isinstance(reply, hostile.write) else told(reply)

        return write

    for entity in trial.bench.writes:
        _tried(trial, writes(trial.new(entity)))


def to_read_backs(trial: Trial) -> None:
    """Each ends a read-back with a PartnerError, in time: who takes it for absence writes a second record."""
    if trial.capability.recovery not in READ_BACK:
        raise NotOffered("no way to find is declared")

    def finds(command: Command) -> Act:
        def find(url: str, hostile: Hostile) -> str | None:
            try:
                with trial.connected(url=url, bounds=BOUNDS) as connector:
                    found = connector.find(command)
            except PartnerError:
                return None
            is_nothing = hostile.is_empty and command.partner_id is None and found == Absent()
            how = "searched for" if command.partner_id is None else "by its id"
            return None if is_nothing else f"a {command.entity} {how} is {type(found).__name__}"

        return find

    known = [trial.delivered(entity) for entity in trial.bench.writes]
    _tried(trial, *map(finds, (*known, *map(unnamed, known))))


def in_little_memory(trial: Trial) -> None:
    """Those without end take no more memory than a few times the largest body that is allowed."""
    partner = trial.bench.partner
    command = None if partner.reads else trial.bench.visit()
    _needs_http(trial)
    for each in (hostile for hostile in hostile_answers("") if hostile.is_large):
        with _listening(each.play) as (place, _):
            tracemalloc.start()
            try:
                with suppress(PartnerError):
                    if command is None:
                        trial.read(partner.reads[0], url=f"http://{place}", bounds=BOUNDS)
                    else:
                        trial.send(command, url=f"http://{place}", bounds=BOUNDS)
                most = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        require(most < _MOST_MEMORY, f"{each.name}: {most // 1_000_000} MB")


def _tried(trial: Trial, *acts: Act) -> None:
    _needs_http(trial)

    def answer(conn: socket.socket, over: threading.Event) -> None:
        _asked(conn)
        conn.sendall(plain(200, json.dumps({}).encode(), "content-type: application/json"))

    def one(hostile: Hostile, act: Act) -> str | None:
        with _listening(hostile.play) as (place, came):
            begun = time.monotonic()
            try:
                finding = act(f"{'https' if hostile.is_tls else 'http'}://{place}", hostile)
            except NotImplementedError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever it is, it is what the connector must not let out
                finding = f"raised {type(error).__name__}"
            took, most = time.monotonic() - begun, BOUNDS.total_seconds * max(1, len(came)) + SLACK
        if took > most:
            finding = f"took {took:.1f} s"
        return f"{hostile.name}: {finding}" if finding else None

    with _listening(answer) as (elsewhere, visits), ThreadPoolExecutor(_AT_ONCE) as pool:
        trials = product(hostile_answers(f"http://{elsewhere}/"), acts)
        findings = [each for each in pool.map(lambda pair: one(*pair), trials) if each]
        if visits:
            findings.append("a redirect was followed to elsewhere")
    if findings:
        broken("; ".join(findings))


def _needs_http(trial: Trial) -> None:
    if not trial.bench.is_http:
        raise NotOffered("it exchanges files, not HTTP")
