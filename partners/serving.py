"""A sandbox as a process: it serves until it is told to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from http.server import HTTPServer


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
