"""The run queue under the project's own dagster.yaml: who starts when all slots are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus, instance_for_test, job
from dagster._core.remote_origin import (  # a queued run must say where its code is
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (  # decides which runs the daemon starts
    QueuedRunCoordinatorDaemon,
)

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "dagster.yaml").read_text(encoding="utf-8"))
ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("zest"), "repository"), "some_job")
PAGE = 10
"""Queued runs that the daemon looks at together; 100 in earnest."""
BACKGROUND = {"zest/lane": "background", "dagster/priority": "-1"}
READING = BACKGROUND | {"zest/demand": "readings_due"}
BACKFILL = {"dagster/backfill": "abcd"}


@job
def some_job() -> None:
    """What runs does not matter here."""


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    """An instance with the queue of dagster.yaml."""
    overrides = {name: CONFIG[name] for name in ("run_coordinator", "concurrency")}
    with instance_for_test(overrides) as made:
        yield made


def _add(instance: DagsterInstance, tags: Mapping[str, str], status: DagsterRunStatus = DagsterRunStatus.QUEUED) -> str:
    return instance.create_run_for_job(some_job, tags=dict(tags), status=status, remote_job_origin=ORIGIN).run_id


def _starts(instance: DagsterInstance) -> list[str]:
    """The runs that the daemon would start now, in its order."""
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=1, page_size=PAGE)
    chosen = daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), fixed_iteration_time=None)
    return [run.run_id for run in chosen]


def _week(tenant: str, week: str = "2026-11-23") -> dict[str, str]:
    return {
        "dagster/partition": f"{tenant}|{week}",
        "dagster/partition/tenant": tenant,
        "dagster/partition/week": week,
    }


def test_a_persons_run_starts_at_once_though_the_minute_schedule_has_filled_its_lane_and_the_queue(
    instance: DagsterInstance,
) -> None:
    for _ in range(4):
        _add(instance, BACKGROUND, DagsterRunStatus.STARTED)
    for number in range(PAGE + 5):
        _add(instance, BACKGROUND | {"zest/connection": f"t{number}:fhir:out"})
    asked = _add(instance, _week("sakura"))

    assert _starts(instance) == [asked]


def test_a_persons_run_starts_at_once_though_another_backfills_a_hundred_tenants(instance: DagsterInstance) -> None:
    for _ in range(4):
        _add(instance, BACKGROUND, DagsterRunStatus.STARTED)
    for number in range(2):
        _add(instance, BACKFILL | _week(f"s{number}"), DagsterRunStatus.STARTED)
    for number in range(PAGE + 5):
        _add(instance, BACKFILL | _week(f"t{number}"))
    asked = [_add(instance, _week("sakura")), _add(instance, {"zest/operation": "sync_now"})]

    assert _starts(instance) == asked


def test_a_pause_starts_at_once_though_everybody_waits_for_a_partner_that_is_down(instance: DagsterInstance) -> None:
    for _ in range(4):
        _add(instance, BACKGROUND, DagsterRunStatus.STARTED)
    weeks = [_add(instance, _week(f"t{number}")) for number in range(5)]
    periods = [_add(instance, {"zest/operation": "push_period"}) for _ in range(5)]
    pause = _add(instance, {"zest/operation": "pause"})

    assert _starts(instance) == [*weeks[:3], *periods[:2], pause]


def test_pushes_start_at_once_though_readings_of_many_tenants_go_on_and_more_of_them_are_queued(
    instance: DagsterInstance,
) -> None:
    reading = [_add(instance, READING) for _ in range(PAGE - 1)]
    pushes = [_add(instance, BACKGROUND | {"zest/demand": demand}) for demand in ("pushes_due", "new_edits")]

    assert _starts(instance) == [*reading[:2], *pushes]


def test_backfills_of_several_people_share_two_slots(instance: DagsterInstance) -> None:
    first = [_add(instance, BACKFILL | _week(f"t{number}")) for number in range(3)]
    _add(instance, {"dagster/backfill": "efgh"} | _week("ume"))

    assert _starts(instance) == first[:2]


def test_the_weeks_of_one_tenant_start_one_after_the_other(instance: DagsterInstance) -> None:
    first = _add(instance, _week("sakura"))
    _add(instance, _week("sakura", "2026-11-30"))
    other = _add(instance, _week("ume"))

    assert _starts(instance) == [first, other]


def test_of_the_queued_runs_those_that_a_person_waits_for_come_first(instance: DagsterInstance) -> None:
    background = _add(instance, BACKGROUND)
    asked = _add(instance, _week("sakura"))

    assert _starts(instance) == [asked, background]


def test_a_second_background_run_of_a_connection_waits_for_the_first(instance: DagsterInstance) -> None:
    tags = BACKGROUND | {"zest/connection": "sakura:fhir:out"}
    first = _add(instance, tags)
    _add(instance, tags)

    assert _starts(instance) == [first]
