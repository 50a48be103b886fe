"""A partner as a process of its own, that can be stopped and started again, and its memory as an oracle."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from zest_process import Zest, wait_for

from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox
from zest_pipelines.local.demo_comparison import PartnerState
from zest_pipelines.local.ports import free_port

TOKEN = "a-token-for-the-platform"
CLIENTS, STAFF = 20, 6
SETTINGS = SandboxConfig()
VISIT_SYSTEM, RECORD_SYSTEM = "urn:zest:visit", "urn:zest:visit-record"


@dataclass
class SandboxProcess:
    """One tenant's partner; its port, people, memory and log stay over a restart."""

    folder: Path
    seed: int
    port: int = field(default_factory=free_port)
    _stack: ExitStack = field(default_factory=ExitStack)
    _handle: RunningSandbox | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> RunningSandbox:
        """The hand on the running process."""
        assert self._handle is not None
        return self._handle

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        token = self.folder / "token.json"
        token.write_text(json.dumps({"token": TOKEN}))
        options = {
            "--port": self.port,
            "--seed": self.seed,
            "--clients": CLIENTS,
            "--staff": STAFF,
            "--token-file": token,
            "--state-file": self._state_file,
            "--journal-file": self.folder / "journal.jsonl",
        }
        arguments = [str(part) for option in options.items() for part in option]
        # A data directory of another name: it is no process of the installation.
        zest = Zest(self.folder / "none")
        self._stack.enter_context(zest.running("sandbox", "fhir", *arguments))
        control = self._stack.enter_context(httpx.Client(base_url=self.url, timeout=30, trust_env=False))
        self._handle = RunningSandbox(self.url, control)
        assert wait_for(self._answers, 30)

    def stop(self) -> None:
        """As a power cut would."""
        self._stack.close()
        self._handle = None

    def state(self) -> PartnerState:
        kinds = ("Patient", "Practitioner", "PractitionerRole", "Appointment", "Encounter")
        return PartnerState(*(self.running.state(kind) for kind in kinds))

    def writes(self, after: int = 0) -> list[dict[str, Any]]:
        """Journal rows of calls that had an effect."""
        return [row for row in self.running.journal(after) if row["effect"] != "none"]

    def created(self) -> Counter[tuple[str, str]]:
        """How often each business record was created: (type, our id)."""
        rows = (row for row in self.writes() if row["effect"] == "created")
        return Counter((row["resource_type"], row["identifier"]) for row in rows)

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        """By our id: every content that the visit has had at the partner, in the order in which it took effect."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in self._state_file.read_text(encoding="utf-8").splitlines():
            for version in json.loads(line):
                resource = version["resource"]
                if resource and resource["resourceType"] == "Appointment":
                    found[_identifier(resource)].append(resource)
        return found

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.jsonl"

    def _answers(self) -> bool:
        try:
            return self.running.health()["status"] == "ok"
        except httpx.HTTPError:
            return False


def notes(contents: Sequence[dict[str, Any]]) -> list[str]:
    """The remarks of a visit's contents, in their order; a cancellation as "cancelled"."""
    return ["cancelled" if each["status"] == "cancelled" else each.get("comment", "") for each in contents]


def _identifier(resource: dict[str, Any]) -> str:
    return next(each["value"] for each in resource["identifier"] if each["system"] == VISIT_SYSTEM)
