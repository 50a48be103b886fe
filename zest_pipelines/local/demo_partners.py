"""The demo's partners: a sandbox each, a process with its own people, credential, memory and log."""

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
from zest_pipelines.local.ports import LOOPBACK, PortInUseError, free_port, require_free_port
from zest_pipelines.local.supervisor import Child

CLIENTS = 200
STAFF = 40
SYSTEMS = {"visit_identifier_system": "urn:zest:visit", "record_identifier_system": "urn:zest:visit-record"}
"""Under which a FHIR partner keeps the product's ids."""
DEFAULT_DOCTOR = "10001"
"""Of visits at ORCA by staff that are no doctors."""
QUALIFICATIONS = ("医師", "看護師", "理学療法士")
"""Jobs at SmartHR that are one."""

_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "fhir": {
        "patient_identifier_system": "urn:oid:1.2.392.100495.20.3.51.11311234567",
        "staff_identifier_system": "urn:oid:1.2.392.100495.20.3.41.11311234567",
        **SYSTEMS,
    },
    "orca": {"department": "01", "default_doctor": DEFAULT_DOCTOR},
    "smarthr": {"qualifications": ",".join(QUALIFICATIONS)},
}
"""What a partner's vendor would tell, and how its connection is set."""
_SECRET_OPTION = {"fhir": "--token-file", "orca": "--credential-file", "smarthr": "--token-file"}
_PEOPLE: Mapping[str, Mapping[str, int]] = {
    "fhir": {"--clients": CLIENTS, "--staff": STAFF},
    "orca": {"--clients": CLIENTS, "--staff": STAFF},
    "smarthr": {"--staff": 0},  # they are hired by the demo
}
_WITH_JOURNAL = ("fhir", "orca")
_SECONDS = 10.0


@dataclass(frozen=True)
class DemoPartner:
    """One partner of a tenant. Port and credential are kept, so that a later demo finds the connection as it was."""

    tenant: str
    name: str
    """Of the partner: fhir, orca or smarthr."""
    seed: int
    port: int
    secret: Mapping[str, str]
    folder: Path

    @property
    def url(self) -> str:
        """Also its base."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def child(self) -> Child:
        """Its process."""
        options: dict[str, object] = {
            "--port": self.port,
            "--seed": self.seed,
            **_PEOPLE[self.name],
            _SECRET_OPTION[self.name]: self.folder / "token.json",
            "--state-file": self.folder / "state.jsonl",
        }
        if self.name in _WITH_JOURNAL:
            options["--journal-file"] = self.folder / "journal.jsonl"
        words = [str(part) for option in options.items() for part in option]
        argv = [sys.executable, "-m", "zest_pipelines.cli", "sandbox", self.name, *words]
        return Child(f"sandbox-{self.tenant}-{self.name}", argv, ready=self._answers)

    @property
    def settings(self) -> Mapping[str, str]:
        """Of its connection."""
        return _SETTINGS[self.name]

    def ask(self, *paths: str) -> list[Any]:
        """What it keeps, by the paths of its control. Raises httpx.HTTPError."""
        with self._client() as client:
            return [client.get(f"/_sandbox/{path}").raise_for_status().json() for path in paths]

    def put(self, path: str, value: Any) -> None:
        """Have it keep that, as its own people could. Raises httpx.HTTPError."""
        with self._client() as client:
            client.put(f"/_sandbox/{path}", json=value).raise_for_status()

    def _answers(self) -> bool:
        try:
            return bool(self.ask("health")[0]["status"] == "ok")
        except httpx.HTTPError:
            return False

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=_SECONDS, trust_env=False)


def demo_partner(folder: Path, tenant: str, name: str, seed: int) -> DemoPartner:
    """The tenant's partner as it was left in `folder`, or a new one. Another port if its own is taken."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret, port = folder / "token.json", folder / "port"
    if not secret.exists():
        word = secrets.token_urlsafe(24)
        write_private(secret, json.dumps({"user": "zest", "password": word} if name == "orca" else {"token": word}))
    if not port.exists() or not _is_free(int(port.read_text())):
        port.write_text(str(free_port()))
    return DemoPartner(tenant, name, seed, int(port.read_text()), json.loads(read_private(secret)), folder)


def _is_free(port: int) -> bool:
    try:
        require_free_port(port)
    except PortInUseError:
        return False
    return True
