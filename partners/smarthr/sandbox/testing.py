"""A sandbox inside a test: a real server on a real port, in a thread of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from partners.smarthr.sandbox.server import FaultKind, SmartHrConfig, SmartHrServer

Json = dict[str, Any]


@dataclass(frozen=True)
class RunningSmartHr:
    """The handle on a running sandbox. All goes through the control calls, as from another process."""

    url: str
    _control: httpx.Client

    def journal(self) -> list[Json]:
        """The log, oldest first."""
        rows: list[Json] = self._ask("GET", "journal")
        return rows

    def crews(self) -> list[Json]:
        """All crews, whole."""
        crews: list[Json] = self._ask("GET", "state")
        return crews

    def set_faults(self, *faults: Json) -> None:
        """These faults and no others from now on."""
        self._ask("PUT", "faults", list(faults))

    def fail(self, kind: FaultKind, **whom: Any) -> None:
        """This fault and no other from now on."""
        self.set_faults({"kind": kind, **whom})

    def put_crews(self, crews: Sequence[Json]) -> None:
        """Have these crews and no others."""
        self._ask("PUT", "crews", list(crews))

    def put_crew(self, crew: str, **said: Any) -> None:
        """Save a crew as people do."""
        self._ask("PUT", f"crews/{crew}", said)

    def delete_crew(self, crew: str) -> None:
        """Delete a crew as people do."""
        self._ask("DELETE", f"crews/{crew}")

    def _ask(self, method: str, path: str, told: Any = None) -> Any:
        answer = self._control.request(method, f"/_sandbox/{path}", json=told)
        if answer.is_error:
            raise ValueError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()


@contextmanager
def running_smarthr(config: SmartHrConfig | None = None) -> Iterator[RunningSmartHr]:
    """Serve `config` (default: open, empty, in memory) until the block ends."""
    server = SmartHrServer(config or SmartHrConfig())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
            yield RunningSmartHr(server.url, client)
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
