"""A wire between a push and a sandbox that a test can cut: then the server takes connections and never says a word."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Wire:
    """What stands at the address that the connection was given."""

    url: str
    """Its address."""
    to: tuple[str, int]
    is_dead: bool = False
    calls: int = 0
    """Connections taken while dead."""
    _open: list[socket.socket] = field(default_factory=list)

    def take(self, caller: socket.socket) -> None:
        """Serve one connection to its end."""
        self._open.append(caller)
        if self.is_dead:
            self.calls += 1
            return
        with contextlib.suppress(OSError), socket.create_connection(self.to) as there:
            answers = threading.Thread(target=_carry, args=(there, caller), daemon=True)
            answers.start()
            _carry(caller, there)
            answers.join()

    def close(self) -> None:
        """Cut every connection."""
        for each in self._open:
            each.close()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def wire(to: str) -> Iterator[Wire]:
    """A wire to the server at the URL `to`."""
    there = urlsplit(to)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Wire(f"http://127.0.0.1:{listening.getsockname()[1]}", (there.hostname or "", there.port or 0))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    caller, _ = listening.accept()
                    threading.Thread(target=made.take, args=(caller,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield made
        made.close()
        listening.shutdown(socket.SHUT_RDWR)
