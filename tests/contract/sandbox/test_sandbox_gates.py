"""What keeps a call out of the sandbox: the token, the scope, the rate limit; and the control endpoints beside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest
from sandbox_caller import FHIR, Caller, calling, issue_codes, patient

from partners.fhir.sandbox import Limit, SandboxConfig, create_app


@pytest.fixture(scope="module")
def shared() -> Iterator[Caller]:
    with calling() as caller:
        yield caller


@pytest.mark.parametrize("token", [None, "wrong", "Right"])
def test_a_call_without_the_token_is_401(token: str | None) -> None:
    with calling(SandboxConfig(token="right", clients=1), token) as caller:
        answer = caller.get("Patient")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert issue_codes(answer) == ["login"]
        assert caller.create(patient()).status_code == 401
        assert caller.get("metadata").status_code == 200
        assert len(caller.sandbox.state("Patient")) == 1


def test_a_call_with_the_token_passes_until_it_is_changed() -> None:
    with calling(SandboxConfig(token="right"), "right") as caller:
        assert caller.get("Patient").status_code == 200
        caller.sandbox.configure(token="renewed")
        assert caller.get("Patient").status_code == 401


def test_the_token_is_not_in_the_options_repr() -> None:
    assert "right" not in repr(SandboxConfig(token="right"))


def test_a_token_without_the_write_scope_reads_but_does_not_write() -> None:
    with calling(SandboxConfig(read_only=True, clients=1)) as caller:
        assert caller.get("Patient").status_code == 200
        for answer in (caller.create(patient()), caller.delete("Patient/x"), caller.bundle("batch")):
            assert answer.status_code == 403
            assert issue_codes(answer) == ["forbidden"]
        assert caller.sandbox.health()["resources"]["Patient"] == 1


def test_a_call_beyond_the_limit_is_429_is_not_applied_and_tells_when_to_come_back() -> None:
    with calling(SandboxConfig(limit=Limit(3, 1.0))) as caller:
        answers = [caller.create(patient(number=f"{number}")) for number in range(5)]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 429, 429]
        assert issue_codes(answers[-1]) == ["throttled"]
        wait = int(answers[-1].headers["retry-after"])
        assert wait == 1
        time.sleep(wait)  # the caller does as it was told
        assert caller.get("Patient").json()["total"] == 3
        assert caller.sandbox.health()["limit"] == {"admitted": 4, "refused": 2, "peak": 3}


def test_the_limit_counts_before_the_token_is_looked_at() -> None:
    with calling(SandboxConfig(limit=Limit(1, 60), token="right")) as caller:
        assert [caller.get("Patient").status_code for _ in range(2)] == [401, 429]


def test_the_control_endpoints_need_no_token_and_are_not_limited() -> None:
    with calling(SandboxConfig(limit=Limit(1, 60), token="right")) as caller:
        for _ in range(3):
            assert caller.http.get("_sandbox/health").status_code == 200
        assert caller.sandbox.health()["limit"]["admitted"] == 0
        assert caller.sandbox.journal() == []


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "state/Medication", None),
        ("GET", "journal?after=x", None),
        ("POST", "faults", [{"kind": "no such kind"}]),
        ("POST", "faults", [{"kind": "status", "typo": 1}]),
        ("PUT", "resource", {"resourceType": "Patient"}),
        ("PUT", "resource", {"resourceType": "Medication", "id": "1"}),
        ("POST", "config", {"port": 1}),
        ("POST", "config", {"default_count": 0}),
        ("POST", "config", []),
    ],
)
def test_a_control_call_that_makes_no_sense_is_refused(shared: Caller, method: str, path: str, content: object) -> None:
    answer = shared.http.request(method, f"_sandbox/{path}", json=content, headers=FHIR)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_limit_can_change_while_running_and_starts_anew() -> None:
    with calling(SandboxConfig(limit=Limit(1, 60))) as caller:
        assert [caller.get("Patient").status_code for _ in range(2)] == [200, 429]
        caller.sandbox.configure(limit={"calls": 2, "seconds": 60})
        assert [caller.get("Patient").status_code for _ in range(3)] == [200, 200, 429]
        caller.sandbox.configure(limit=None)
        assert caller.get("Patient").status_code == 200


def test_another_address_than_loopback_gets_no_control() -> None:
    async def ask(host: str) -> int:
        transport = httpx.ASGITransport(create_app(SandboxConfig()), client=(host, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client:
            return (await client.get("/_sandbox/health")).status_code

    assert asyncio.run(ask("192.0.2.7")) == 403
    assert asyncio.run(ask("127.0.0.1")) == 200
