"""A relay between a connector and an HTTP partner: counts the calls, and keeps answers back that the partner gave.

Whatever the partner is, its answer to a call is lost here after the call took effect, cut at any byte.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})

Spoil = Callable[[bytes], bytes]
"""The partner's whole answer, head and body, to what is let through of it; the line ends after that."""


@dataclass(frozen=True)
class Instead:
    """An answer in the partner's place; the call does not reach it."""

    answer: bytes = field(repr=False)


@dataclass
class Relay:
    """A running relay."""

    url: str
    calls: int = 0
    """How many came."""
    fault: Callable[[int], Spoil | Instead | None] = lambda _: None
    """What befalls the call of this number, the first one being 1."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def next_number(self) -> int:
        """Count a call."""
        with self._lock:
            self.calls += 1
            return self.calls


def plain(status: int, body: bytes = b"", *headers: str) -> bytes:
    """An answer as bytes."""
    head = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


CLOSED = plain(503, b"<html>closed</html>", "content-type: text/html", "retry-after: 60")
"""The answer of one that is closed for the night."""


@contextmanager
def relay_to(url: str) -> Iterator[Relay]:
    """Relay to `url`, http and on this machine, until the block ends."""
    target = urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.close_connection = True
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                return
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            fault = relay.fault(relay.next_number())
            answer = fault.answer if isinstance(fault, Instead) else self._asked(body)
            if answer is not None:
                self.wfile.write(answer if fault is None or isinstance(fault, Instead) else fault(answer))

        def _asked(self, body: bytes) -> bytes | None:
            partner = http.client.HTTPConnection(str(target.hostname), target.port or 80, timeout=30)
            try:
                partner.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in _HOP:
                        partner.putheader(name, value)
                partner.putheader("connection", "close")
                if body:
                    partner.putheader("content-length", str(len(body)))
                partner.endheaders(body or None)
                answer = partner.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                return None  # it hung up
            finally:
                partner.close()
            told = [f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in _HOP]
            return plain(answer.status, content, *told)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with _serving(Handler) as port:
        relay = Relay(f"http://127.0.0.1:{port}{target.path}")
        yield relay


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Silent: a caller may go at any time."""


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        with suppress(OSError):
            server.socket.shutdown(socket.SHUT_RDWR)
        server.server_close()
