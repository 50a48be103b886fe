"""The launcher's eye on a run's process: alive, dead, a dead one that nobody reaped, and another with its number."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest
from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultRunLauncher,
    instance_for_test,
)
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from zest_pipelines.orchestration.launcher import WatchedRunLauncher, process_lives


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    launcher = {"module": "zest_pipelines.orchestration.launcher", "class": "WatchedRunLauncher"}
    with instance_for_test({"run_launcher": launcher, "run_monitoring": {"enabled": True}}) as made:
        assert isinstance(made.run_launcher, WatchedRunLauncher)
        yield made


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-IS", "-c", "input()"], stdin=subprocess.PIPE)
    yield started
    started.kill()
    started.communicate()


def _started_run(instance: DagsterInstance, pid: int | None) -> DagsterRun:
    run = instance.add_run(DagsterRun(job_name="fhir_out", run_id="0" * 32, status=DagsterRunStatus.STARTED))
    if pid is not None:
        instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(pid))
    return run


def test_a_run_whose_process_lives_is_running(instance: DagsterInstance, process: subprocess.Popen[bytes]) -> None:
    run = _started_run(instance, process.pid)
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING


def test_a_run_whose_process_is_gone_ends_as_failed(
    instance: DagsterInstance, process: subprocess.Popen[bytes]
) -> None:
    run = _started_run(instance, process.pid)
    process.kill()
    process.wait()
    record = instance.get_run_record_by_id(run.run_id)
    assert record is not None
    silent = SimpleNamespace(info=lambda *_: None)
    monitor_started_run(instance, cast("object", None), record, silent)  # type: ignore[arg-type]
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is DagsterRunStatus.FAILURE


def test_a_run_that_has_not_named_its_process_yet_is_left_alone(instance: DagsterInstance) -> None:
    run = _started_run(instance, None)
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING


def test_a_dead_process_that_nobody_reaped_does_not_live(process: subprocess.Popen[bytes]) -> None:
    assert process_lives(process.pid, time.time())
    process.kill()
    deadline = time.monotonic() + 10
    while process_lives(process.pid, time.time()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_later_process_with_the_same_number_is_another(process: subprocess.Popen[bytes]) -> None:
    assert not process_lives(process.pid, time.time() - 60)


def test_it_is_dagsters_own_launcher_in_all_else() -> None:
    assert issubclass(WatchedRunLauncher, DefaultRunLauncher)
