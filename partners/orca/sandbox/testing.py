"""A sandbox inside a test: a real server on a real port, in a thread of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from partners.orca.sandbox.clinic import Appointment
from partners.orca.sandbox.server import Fault, FaultKind, OrcaConfig, OrcaServer

Json = dict[str, Any]


@dataclass(frozen=True)
class RunningOrca:
    """The handle on a running sandbox. All goes through the control calls, as from another process."""

    url: str
    """Its address; without the prefix."""
    _control: httpx.Client

    def journal(self, after: int = 0) -> list[Json]:
        """Rows of the log after the first `after`, oldest first."""
        rows: list[Json] = self._ask("GET", f"journal?after={after}")
        return rows

    def writes(self, after: int = 0) -> list[tuple[str, str]]:
        """(effect, mark or acceptance) of each call that did something."""
        done = (row for row in self.journal(after) if row["effect"] != "none")
        return [(row["effect"], row["mark"] or row["api"]) for row in done]

    def state(self) -> Json:
        """All that the clinic keeps (clinic.Clinic.kept)."""
        state: Json = self._ask("GET", "state")
        return state

    def health(self) -> Json:
        """Rows of the log, and the most calls that were under way at once."""
        health: Json = self._ask("GET", "health")
        return health

    def set_faults(self, *faults: Fault | Mapping[str, Any]) -> None:
        """These faults and no others from now on."""
        self._ask("PUT", "faults", [asdict(each) if isinstance(each, Fault) else dict(each) for each in faults])

    def fail(self, kind: FaultKind, **whom: Any) -> None:
        """This fault and no other from now on."""
        self.set_faults({"kind": kind, **whom})

    def put_patient(self, number: int, **said: Any) -> None:
        """Save a patient as the clinic's people do."""
        self._ask("PUT", f"patient/{number}", said)

    def delete_patient(self, number: int) -> None:
        """Delete a patient as the clinic's people do."""
        self._ask("DELETE", f"patient/{number}")

    def put_staff(self, code: str, **said: str) -> None:
        """Save a member of staff: name, kana, since and until."""
        self._ask("PUT", f"staff/{code}", said)

    def put_appointments(self, *appointments: Appointment | Mapping[str, Any]) -> None:
        """Make the book of appointments hold these alone, as the clinic's people could."""
        rows = [asdict(each) if isinstance(each, Appointment) else dict(each) for each in appointments]
        self._ask("PUT", "appointments", rows)

    def _ask(self, method: str, path: str, told: Any = None) -> Any:
        answer = self._control.request(method, f"/_sandbox/{path}", json=told)
        if answer.is_error:
            raise ValueError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()


@contextmanager
def running_orca(config: OrcaConfig | None = None, control: httpx.Client | None = None) -> Iterator[RunningOrca]:
    """Serve `config` (default: open, empty, in memory) until the block ends. `control`: for one behind TLS."""
    server = OrcaServer(config or OrcaConfig())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        with control or httpx.Client(timeout=30, trust_env=False) as client:
            client.base_url = server.url
            yield RunningOrca(server.url, client)
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
