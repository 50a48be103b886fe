"""The sandbox as a process: what it acknowledged outlives `kill -9`, and a taken port is told clearly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sandbox_caller import FHIR, calling, link, patient

from partners.fhir.sandbox import PortInUseError, SandboxConfig, StateFileError, run
from partners.fhir.sandbox.server import bound_socket
from partners.fhir.sandbox.testing import running_sandbox

SERVE = """
import sys
from pathlib import Path
from partners.fhir.sandbox import SandboxConfig, run
run(
    SandboxConfig(state_file=Path(sys.argv[1]), clients=3),
    lambda url: print(url, flush=True),
)
"""


@contextmanager
def process(state_file: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A sandbox in a process of its own: its address and the process."""
    child = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(state_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert child.stdout is not None
    try:
        yield child.stdout.readline().strip(), child
    finally:
        child.kill()
        child.communicate()


def test_every_acknowledged_write_outlives_a_kill(tmp_path: Path) -> None:
    state_file = tmp_path / "state.jsonl"
    with process(state_file) as (url, child), httpx.Client(base_url=url, trust_env=False) as http:
        for number in range(20):
            assert http.put("Patient/a", json=patient("a", f"{number}"), headers=FHIR).is_success
        http.put("Patient/b", json=patient("b"), headers=FHIR)
        http.delete("Patient/b")
        before = http.get("_sandbox/state/Patient").json()
        page = http.get("Patient", params={"_count": 2})
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with process(state_file) as (url, _), httpx.Client(base_url=url, trust_env=False) as http:
        assert http.get("_sandbox/state/Patient").json() == before
        assert http.get("Patient/a").headers["etag"] == 'W/"20"'
        assert http.get("Patient/b").status_code == 410
        assert http.get("Patient/b/_history").json()["total"] == 2
        assert http.get(str(link(page, "next")).replace(str(page.url.port), str(http.base_url.port))).status_code == 410
        later = http.put("Patient/a", json=patient("a"), headers=FHIR).json()
        assert later["meta"]["lastUpdated"] > before[-1]["meta"]["lastUpdated"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_silently(tmp_path: Path, number: int) -> None:
    with process(tmp_path / "state.jsonl") as (url, child):
        assert httpx.get(f"{url}/metadata", trust_env=False).status_code == 200
        child.send_signal(number)
        assert child.communicate(timeout=10) == ("", "")
        assert child.returncode == 0


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path: Path) -> None:
    config = SandboxConfig(state_file=tmp_path / "state.jsonl")
    with calling(config) as caller:
        caller.update(patient("a"))
    with (tmp_path / "state.jsonl").open("ab") as file:
        file.write(b'[{"resource_type": "Patient", "id": "b", "num')
    for _ in range(2):
        with calling(config) as caller:
            assert [row["id"] for row in caller.sandbox.state("Patient")] == ["a"]
            caller.update(patient("a"))
    with calling(config) as caller:
        assert caller.get("Patient/a").headers["etag"] == 'W/"3"'


def test_stamps_go_on_rising_even_if_the_clock_was_set_back(tmp_path: Path) -> None:
    state_file = tmp_path / "state.jsonl"
    ahead = {"resource_type": "Patient", "id": "a", "number": 1, "at": 9_000_000_000_000, "method": "PUT"}
    state_file.write_text(json.dumps([ahead | {"resource": patient("a")}]) + "\n")
    with calling(SandboxConfig(state_file=state_file)) as caller:
        caller.update(patient("b"))
        assert caller.ids(caller.get("Patient", _sort="_lastUpdated")) == ["a", "b"]
        assert caller.get("Patient/b").json()["meta"]["lastUpdated"].startswith("2255-")


def test_a_transaction_is_one_line_of_the_state_file(tmp_path: Path) -> None:
    state_file = tmp_path / "state.jsonl"
    with calling(SandboxConfig(state_file=state_file)) as caller:
        entries = [
            {"request": {"method": "PUT", "url": f"Patient/{name}"}, "resource": patient(name)} for name in ("a", "b")
        ]
        caller.bundle("transaction", *entries)
        caller.bundle("transaction", *entries, {"request": {"method": "GET", "url": "Patient/never"}})
    assert len(state_file.read_text().splitlines()) == 1
    assert state_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("line", ["not json", "[1]", '[{"id": "a"}]', "7"])
def test_a_damaged_state_file_is_refused_without_showing_what_it_holds(tmp_path: Path, line: str) -> None:
    state_file = tmp_path / "state.jsonl"
    state_file.write_text(f"{line}\n")
    with pytest.raises(StateFileError) as error:
        run(SandboxConfig(state_file=state_file))
    assert str(error.value) == "line 1 of state.jsonl is not an effect"


def test_only_an_empty_state_is_seeded(tmp_path: Path) -> None:
    state_file = tmp_path / "state.jsonl"
    with calling(SandboxConfig(state_file=state_file, clients=2)) as caller:
        first = caller.sandbox.state("Patient")
    with calling(SandboxConfig(state_file=state_file, clients=9, seed=5)) as caller:
        assert caller.sandbox.state("Patient") == first


def test_a_taken_port_is_told_by_name() -> None:
    with running_sandbox() as sandbox:
        port = int(sandbox.url.rpartition(":")[2])
        with pytest.raises(PortInUseError, match=f"port {port} on 127.0.0.1 is in use"):
            run(SandboxConfig(port=port))


def test_a_port_is_free_again_at_once() -> None:
    with running_sandbox() as sandbox:
        httpx.get(f"{sandbox.url}/metadata", trust_env=False)
        port = int(sandbox.url.rpartition(":")[2])
    with bound_socket(SandboxConfig(port=port)):
        pass
