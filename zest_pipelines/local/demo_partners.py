"""The demo's partners: one FHIR sandbox a tenant, a process with its own people, token, memory and log."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from resources.private_files import read_private, write_private
from zest_pipelines.local.demo_comparison import PartnerState
from zest_pipelines.local.ports import LOOPBACK, PortInUseError, free_port, require_free_port
from zest_pipelines.local.supervisor import Child

CLIENTS = 200
STAFF = 40

_SECONDS = 10.0


@dataclass(frozen=True)
class DemoPartner:
    """One tenant's partner. Port and token are kept, so that a later demo finds the connection as it was."""

    tenant: str
    seed: int
    port: int
    secret: Mapping[str, str]
    folder: Path

    @property
    def url(self) -> str:
        """Also its FHIR base."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def child(self) -> Child:
        """Its process."""
        files = {
            "--token-file": self.folder / "token.json",
            "--state-file": self.folder / "state.jsonl",
            "--journal-file": self.folder / "journal.jsonl",
        }
        numbers = {"--port": self.port, "--seed": self.seed, "--clients": CLIENTS, "--staff": STAFF}
        options = [str(part) for option in {**numbers, **files}.items() for part in option]
        argv = [sys.executable, "-m", "zest_pipelines.cli", "sandbox", "fhir", *options]
        return Child(f"sandbox-{self.tenant}", argv, ready=self._answers)

    @property
    def settings(self) -> dict[str, str]:
        """Which identifiers it uses: what its vendor would tell."""
        return {
            "patient_identifier_system": "urn:oid:1.2.392.100495.20.3.51.11311234567",
            "staff_identifier_system": "urn:oid:1.2.392.100495.20.3.41.11311234567",
        }

    def state(self) -> PartnerState:
        """All that it holds now. Raises httpx.HTTPError."""
        kinds = ("Patient", "Practitioner", "PractitionerRole", "Appointment", "Encounter")
        with httpx.Client(base_url=self.url, timeout=_SECONDS, trust_env=False) as client:
            return PartnerState(*(self._ask(client, f"/_sandbox/state/{kind}") for kind in kinds))

    def _answers(self) -> bool:
        try:
            with httpx.Client(base_url=self.url, timeout=_SECONDS, trust_env=False) as client:
                return bool(self._ask(client, "/_sandbox/health")["status"] == "ok")
        except httpx.HTTPError:
            return False

    @staticmethod
    def _ask(client: httpx.Client, path: str) -> Any:
        return client.get(path).raise_for_status().json()


def demo_partner(folder: Path, tenant: str, seed: int) -> DemoPartner:
    """The tenant's partner as it was left in `folder`, or a new one. Another port if its own is taken."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    token, port = folder / "token.json", folder / "port"
    if not token.exists():
        write_private(token, json.dumps({"token": secrets.token_urlsafe(24)}))
    if not port.exists() or not _is_free(int(port.read_text())):
        port.write_text(str(free_port()))
    return DemoPartner(tenant, seed, int(port.read_text()), json.loads(read_private(token)), folder)


def _is_free(port: int) -> bool:
    try:
        require_free_port(port)
    except PortInUseError:
        return False
    return True
