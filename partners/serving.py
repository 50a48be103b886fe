"""A sandbox as a process: it serves until it is told to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Protocol


class Sandbox(Protocol):
    """A server in the manner of `http.server`, bound to its port."""

    closing: threading.Event
    """Set when it is to end, for those of its threads that wait."""

    @property
    def url(self) -> str:
        """Its address."""

    @property
    def serve_forever(self) -> Callable[[float], None]:
        """As of `socketserver`, and so are the others."""

    @property
    def shutdown(self) -> Callable[[], None]:
        """Has `serve_forever` return."""

    @property
    def server_close(self) -> Callable[[], None]:
        """Give the port back."""


def serve(server: Sandbox, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then return. `on_ready`: told the address once it answers."""

    def stop(*_: object) -> None:
        server.closing.set()
        threading.Thread(target=server.shutdown).start()  # it waits for serve_forever, which this interrupts

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if on_ready is not None:
            on_ready(server.url)
        server.serve_forever(0.1)
    finally:
        server.server_close()
        for number, handler in before.items():
            signal.signal(number, handler)
