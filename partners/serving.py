"""A sandbox over real sockets: what those of all partners share that Python's own HTTP server carries.

Below `/_sandbox/` is the hand of a test or a demo. These calls are no part of the partner, need no credential and are
not logged; they answer callers on loopback only.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_LOOPBACK = ("127.0.0.1", "::1")
_CONTROL = "/_sandbox/"


class PortInUseError(Exception):
    """Another process listens on the port; choose another one, or 0."""


class SandboxServer(ThreadingHTTPServer):
    """A partner behind one port."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, handler: type[SandboxHandler]) -> None:
        """PortInUseError before anything is opened."""
        try:
            super().__init__((host, port), handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUseError(f"port {port} is in use: stop what listens there, or choose another") from None
            raise
        self.lock, self.closing = threading.RLock(), threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: a caller may go at any time."""


class SandboxHandler(BaseHTTPRequestHandler):
    """One connection's calls: those of the partner, and those of the hand of a test."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together: apart, the second waits for the first to be acknowledged
    server: SandboxServer

    @abstractmethod
    def answer(self, path: str, query: Mapping[str, str], body: bytes) -> None:
        """Answer a call of the partner's own."""

    @abstractmethod
    def controlled(self, path: str, query: Mapping[str, str], told: Any) -> Any:
        """Do what the hand of a test says, under the lock; ValueError, TypeError or KeyError if it cannot be."""

    def do_GET(self) -> None:
        """As http.server says."""
        self._serve(b"")

    def do_POST(self) -> None:
        """As http.server says."""
        self._serve(self.rfile.read(int(self.headers.get("content-length", "0"))))

    def do_PUT(self) -> None:
        """As http.server says."""
        self.do_POST()

    def do_DELETE(self) -> None:
        """As http.server says."""
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def send(self, status: int, kind: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send an answer of a content type."""
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        """End the connection without another word."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, body: bytes) -> None:
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        if address.path.startswith(_CONTROL):
            self._control(address.path.removeprefix(_CONTROL), query, body)
        else:
            self.answer(address.path, query, body)

    def _control(self, path: str, query: Mapping[str, str], body: bytes) -> None:
        if self.client_address[0] not in _LOOPBACK:
            self.send(403, "application/json", b"{}")
            return
        try:
            with self.server.lock:
                told = self.controlled(path, query, json.loads(body or b"null"))
        except (ValueError, TypeError, KeyError) as error:
            self.send(400, "application/json", json.dumps({"error": repr(error)}).encode())
            return
        self.send(200, "application/json", json.dumps(told).encode())


def keep(path: Path, told: Any) -> None:
    """Put it into a state file, as JSON for its owner alone; whole, whatever dies meanwhile."""
    fresh = path.with_suffix(".new")
    with open(fresh, "w", opener=private) as file:
        json.dump(told, file, ensure_ascii=False)
    os.replace(fresh, path)


def private(path: str, flags: int) -> int:
    """Opens a file for its owner alone."""
    return os.open(path, flags, 0o600)


def serve(server: HTTPServer, closing: threading.Event, told: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, then return. `closing` is set then, for those of its threads that wait; `told` is
    called once it answers."""

    def stop(*_: object) -> None:
        closing.set()
        threading.Thread(target=server.shutdown).start()  # it waits for serve_forever, which this interrupts

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        told()
        server.serve_forever(poll_interval=0.1)
    finally:
        server.server_close()
        for number, handler in before.items():
            signal.signal(number, handler)
