"""Where notices go in tests: a real HTTP server that keeps what it took, and refuses when it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from resources.logins import Login
from zest_pipelines.core.alarm import Hours
from zest_pipelines.flows.alerts import sealed
from zest_pipelines.flows.services import Services
from zest_pipelines.store import alerts
from zest_pipelines.store.alerts import Target


class Receiver:
    """What arrived, in order."""

    def __init__(self, port: int) -> None:
        self.address = f"json://127.0.0.1:{port}/hook-with-a-secret"
        self.took: list[tuple[str, str]] = []
        """Title and text."""
        self.refused = 0
        self.is_down = False

    @property
    def titles(self) -> list[str]:
        """Of what arrived."""
        return [title for title, _ in self.took]

    def kinds(self) -> tuple[int, int]:
        """How many beginnings and how many ends arrived."""
        return sum("ALERT" in each for each in self.titles), sum("RECOVERED" in each for each in self.titles)


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    """A server on loopback, gone at the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if receiver.is_down:
                receiver.refused += 1
            else:
                receiver.took.append((told["title"], told["message"]))
            self.send_response(503 if receiver.is_down else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_port)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield receiver
        finally:
            server.shutdown()


def add_target(services: Services, receiver: Receiver, name: str = "ops", hours: Hours | None = None) -> None:
    """Have notices go there."""
    kept = sealed(services.vault, name, receiver.address)
    with services.database.transaction(Login.OPERATOR, None) as tx:
        alerts.add_target(tx, Target(name, kept, hours or Hours()))
