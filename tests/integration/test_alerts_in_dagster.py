"""Alerts as Dagster runs them: the sensor that looks, the run it requests, and what is wrong with Dagster itself."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alert_bench import CANARY, Receiver, Trouble, add_target, running_receiver
from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    OpExecutionContext,
    build_sensor_context,
    instance_for_test,
    job,
    op,
)
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from evidence import is_told

from resources.configurable import PostgresResource
from resources.logins import Logins
from resources.vault import Vault
from zest_pipelines.definitions import definitions
from zest_pipelines.flows.services import Services
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.orchestration.alerts import SENSOR, troubles_of
from zest_pipelines.orchestration.steps import BACKGROUND_TAGS


@op
def try_it(context: OpExecutionContext) -> None:
    if context.has_tag("breaks"):
        raise RuntimeError(CANARY)


@job
def a_job() -> None:
    try_it()


@pytest.fixture
def trouble(server: EmbeddedServer, logins: Logins) -> Iterator[Trouble]:
    with psycopg.connect(server.admin_url, dbname=logins.database, autocommit=True) as admin:
        yield Trouble(admin)


@pytest.fixture
def instance(data_dir: Path) -> Iterator[DagsterInstance]:
    """A Dagster of the test's own, on disk: sensors open the instance anew."""
    with instance_for_test() as made:
        yield made


@pytest.fixture
def receiver(services: Services, instance: DagsterInstance, data_dir: Path) -> Iterator[Receiver]:
    with running_receiver() as running:
        add_target(replace(services, vault=Vault.from_file(data_dir / "vault.key", environ={})), running)
        yield running


Minute = Callable[[], int]


@pytest.fixture
def minute(instance: DagsterInstance) -> Minute:
    """One look of the sensor, and the run that it requests, if any: how many it requested."""
    repository = definitions.get_repository_def()
    sensor = repository.get_sensor_def(SENSOR)
    alerting = definitions.resolve_job_def("alerting")

    def passes() -> int:
        resources = {"postgres": PostgresResource()}
        with build_sensor_context(instance=instance, repository_def=repository, resources=resources) as context:
            made: Any = sensor.evaluate_tick(context)
        for request in made.run_requests or ():
            assert alerting.execute_in_process(instance=instance, tags=dict(request.tags)).success
        return len(made.run_requests or ())

    return passes


def test_a_run_is_requested_where_something_began_or_is_over_and_not_while_it_goes_on(
    minute: Minute, receiver: Receiver, trouble: Trouble
) -> None:
    assert minute() == 0
    trouble.fail(20, "KeyError visits.py:131", tenants=4)
    assert [minute() for _ in range(3)] == [1, 0, 0]
    trouble.mend()
    assert [minute() for _ in range(3)] == [1, 0, 0]
    trouble.pass_time(6)
    assert [minute() for _ in range(3)] == [1, 0, 0]
    assert receiver.kinds() == (1, 1)


def test_what_comes_back_begins_its_calm_anew(minute: Minute, receiver: Receiver, trouble: Trouble) -> None:
    for _ in range(2):
        trouble.fail(1, "KeyError visits.py:131")
        minute()
        trouble.pass_time(4)
        trouble.mend()
        minute()
        trouble.pass_time(4)
    assert receiver.kinds() == (1, 0)


def test_a_notice_that_a_service_refuses_is_asked_for_again_when_its_time_has_come(
    minute: Minute, receiver: Receiver, trouble: Trouble
) -> None:
    receiver.is_down = True
    trouble.fail(1, "KeyError visits.py:131")
    assert [minute(), minute()] == [1, 0]
    receiver.is_down = False
    trouble.pass_time(1)
    assert [minute(), minute()] == [1, 0]
    assert receiver.kinds() == (1, 0)


def test_a_job_is_told_while_its_last_run_failed_and_nothing_of_what_it_said(instance: DagsterInstance) -> None:
    now = datetime.now(UTC) + timedelta(minutes=1)
    a_job.execute_in_process(instance=instance, raise_on_error=False, tags={"breaks": "yes"})
    (found,) = troubles_of(instance, now)
    assert (found.reason, found.detail) == ("run_failed", "a_job")
    is_told("run_failed", {"detail": found.detail})
    a_job.execute_in_process(instance=instance)
    assert troubles_of(instance, now) == ()


def test_only_a_good_run_ends_it_where_nobody_launches_the_job(instance: DagsterInstance) -> None:
    soon, later = (datetime.now(UTC) + timedelta(minutes=1, days=days) for days in (0, 5))
    a_job.execute_in_process(instance=instance, raise_on_error=False, tags={"breaks": "yes"})
    assert [len(troubles_of(instance, at)) for at in (soon, later)] == [1, 0]
    a_job.execute_in_process(instance=instance, raise_on_error=False, tags=BACKGROUND_TAGS | {"breaks": "yes"})
    assert [len(troubles_of(instance, at)) for at in (soon, later)] == [1, 1]
    a_job.execute_in_process(instance=instance, tags=BACKGROUND_TAGS)
    assert [len(troubles_of(instance, at)) for at in (soon, later)] == [0, 0]


def test_a_job_that_fails_each_minute_hides_no_other(instance: DagsterInstance) -> None:
    failed: list[tuple[str, dict[str, str]]] = [("launched", {}), ("seldom", BACKGROUND_TAGS)]
    for name, tags in [*failed, *[("often", BACKGROUND_TAGS)] * 250]:
        instance.add_run(DagsterRun(name, status=DagsterRunStatus.FAILURE, tags=tags))
    soon, later = (datetime.now(UTC) + timedelta(minutes=1, days=days) for days in (0, 5))
    assert [each.detail for each in troubles_of(instance, soon)] == ["launched", "often", "seldom"]
    assert [each.detail for each in troubles_of(instance, later)] == ["often", "seldom"]


def test_a_run_that_waits_in_the_queue_for_ten_minutes_is_told(instance: DagsterInstance) -> None:
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("zest"), "__repository__"), "a_job")
    instance.create_run_for_job(a_job, status=DagsterRunStatus.QUEUED, remote_job_origin=origin)
    now = datetime.now(UTC)
    assert troubles_of(instance, now + timedelta(minutes=9)) == ()
    (found,) = troubles_of(instance, now + timedelta(minutes=11))
    assert (found.reason, found.records) == ("queue_stuck", 1)
    is_told("queue_stuck")
