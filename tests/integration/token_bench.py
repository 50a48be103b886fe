"""What the tests of tokens share: a client of a FHIR server that gives them, and calls from processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conftest import Tenant
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from token_process import Crowd

from partners.fhir.sandbox.config import SandboxConfig, Smart

CLIENT_ID, KEY_ID = "zest-under-test", "first"
_TESTS = Path(__file__).resolve().parents[1]


def made_key() -> tuple[str, str]:
    """(private, public) PEM of a new key."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


PRIVATE, PUBLIC = made_key()
SECRET: Mapping[str, str] = {"client_id": CLIENT_ID, "private_key": PRIVATE, "key_id": KEY_ID}
SMART = Smart(CLIENT_ID, {KEY_ID: PUBLIC})
CONFIG = SandboxConfig(smart=SMART, clients=3, staff=1)


def smart(**changes: Any) -> dict[str, Any]:
    """The sandbox's option, to be changed while it runs."""
    return asdict(SMART) | changes


def crowd_of(tenant: Tenant, vault_key: str, partner_id: str, threads: int) -> Crowd:
    """For processes that share the tenant's database."""
    logins = tenant.services.database._logins
    passwords = {login.value: password for login, password in logins.passwords.items()}
    return Crowd(logins.host, logins.port, logins.database, passwords, vault_key, tenant.name, partner_id, threads)


@contextmanager
def processes(crowd: Crowd, count: int) -> Iterator[Sequence[subprocess.Popen[str]]]:
    """So many processes that are ready; each line lets one go once more, and it answers how many threads did well."""
    path = ":".join(map(str, (_TESTS.parent, _TESTS / "integration", _TESTS / "proof")))
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "token_process"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={"PYTHONPATH": path},
                )
            )
            for _ in range(count)
        ]
        try:
            for each in started:
                tell(each, json.dumps(asdict(crowd)))
            assert [hear(each) for each in started] == ["ready"] * count
            yield started
        finally:
            for each in started:
                each.kill()


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Give it a line."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
