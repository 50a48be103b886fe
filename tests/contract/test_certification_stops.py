"""`zest certify --write` at a real system, as processes: whatever ends it, nothing it wrote is left there untold."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sandbox_process import SETTINGS, TOKEN, SandboxProcess
from zest_process import LONG, ZEST, wait_for

from partners.orca.sandbox.server import OrcaConfig
from partners.orca.sandbox.testing import running_orca

_MOST_SECONDS = 60


def _hear_all() -> None:
    """Every signal is heard, as on a terminal: what started the tests may have been told to ignore some (nohup)."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)


@dataclass(frozen=True)
class Trial:
    """A command that tries a partner."""

    process: subprocess.Popen[str]

    def end(self) -> tuple[int, Mapping[str, Any], str]:
        """Exit code, JSON, and what was told, once it is over in a bounded time."""
        out, told = self.process.communicate(timeout=_MOST_SECONDS)
        assert "Traceback" not in told
        return self.process.returncode, json.loads(out), told


@contextmanager
def trial(
    partner: str, url: str, secret: Mapping[str, str], settings: Mapping[str, str], folder: Path
) -> Iterator[Trial]:
    file = folder / f"{partner}.json"
    file.write_text(json.dumps(secret))
    pairs = (text for pair in settings.items() for text in ("--set", "=".join(pair)))
    typed = ("certify", partner, "--base-url", url, "--secret-file", str(file), *pairs, "--write", "--json")
    process = subprocess.Popen(
        [*ZEST, *typed], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, preexec_fn=_hear_all
    )
    try:
        yield Trial(process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def fhir(tmp_path: Path) -> Iterator[SandboxProcess]:
    sandbox = SandboxProcess(tmp_path / "fhir", seed=1)
    sandbox.start()
    yield sandbox
    sandbox.stop()


@pytest.fixture
def running(fhir: SandboxProcess, tmp_path: Path) -> Iterator[Trial]:
    """One that has written its first visit this moment."""
    settings = {
        "patient_identifier_system": SETTINGS.patient_identifier_system,
        "staff_identifier_system": SETTINGS.staff_identifier_system,
    }
    with trial("fhir", fhir.url, {"token": TOKEN}, settings, tmp_path) as begun:
        assert wait_for(lambda: bool(standing(fhir.running.state("Appointment"))), 30, 0.01)
        yield begun


def standing(appointments: Sequence[Mapping[str, Any]]) -> set[str]:
    """Our ids of those that are not cancelled."""
    return {each["identifier"][0]["value"] for each in appointments if each["status"] != "cancelled"}


def standing_in_the_file(fhir: SandboxProcess) -> set[str]:
    return {visit for visit, contents in fhir.contents().items() if contents[-1]["status"] != "cancelled"}


def test_a_visit_at_a_partner_that_died_is_told(fhir: SandboxProcess, running: Trial) -> None:
    fhir.stop()
    code, told, said = running.end()
    assert code == 1
    assert standing_in_the_file(fhir)
    assert {each["record_id"] for each in told["left"]} == standing_in_the_file(fhir)
    (left,) = told["left"]
    assert left["starts_at"].endswith("+09:00")
    assert left["reason"] == "partner_unreachable"
    assert f"A test visit is left there: {left['partner_id']} (ours: {left['record_id']}), {left['starts_at']}" in said
    verdicts = {each["row"]: each["verdict"] for each in told["results"]}
    assert verdicts["hostile to writes"] == "could not be tried"
    assert told["is_passed"] is False


@LONG
def test_a_partner_that_comes_back_is_cleaned(fhir: SandboxProcess, running: Trial) -> None:
    fhir.stop()
    time.sleep(12)
    fhir.start()
    _, told, _ = running.end()
    assert told["left"] == []
    assert standing(fhir.running.state("Appointment")) == set()


@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGHUP,),
        (signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    ],
    ids=lambda signals: " ".join(each.name for each in signals),
)
def test_who_is_stopped_cancels_what_was_written_and_says_so(
    fhir: SandboxProcess, running: Trial, signals: Sequence[signal.Signals]
) -> None:
    for each in signals:
        running.process.send_signal(each)
        time.sleep(0.02)
    code, told, said = running.end()
    assert code == 128 + signals[0]
    assert (told["stopped_by"], told["is_passed"], told["left"]) == (signals[0].name, False, [])
    assert told["written"] >= 1
    assert "and cancelled" in said
    assert fhir.running.state("Appointment")
    assert standing(fhir.running.state("Appointment")) == set()


@LONG
def test_who_is_stopped_while_the_partner_is_dead_says_what_may_be_left(fhir: SandboxProcess, running: Trial) -> None:
    fhir.stop()
    running.process.terminate()
    code, told, _ = running.end()
    assert code == 128 + signal.SIGTERM
    assert {each["record_id"] for each in told["left"]} == standing_in_the_file(fhir)
    assert standing_in_the_file(fhir)


@LONG
def test_two_trials_at_once_do_not_meet(tmp_path: Path) -> None:
    secret, settings = {"user": "", "password": ""}, {"department": "01", "default_doctor": "10001"}
    settings["patient_numbers"] = "1-5"
    with running_orca(OrcaConfig(clients=3, staff=3)) as orca:
        one, other = tmp_path / "one", tmp_path / "other"
        one.mkdir()
        other.mkdir()
        with (
            trial("orca", orca.url, secret, settings, one) as first,
            trial("orca", orca.url, secret, settings, other) as second,
        ):
            ends = [first.end(), second.end()]
        assert [code for code, _, _ in ends] == [0, 0], [told["results"] for _, told, _ in ends]
        assert orca.state()["appointments"] == []
    assert all(told["written"] and not told["left"] for _, told, _ in ends)
