"""The purge of Dagster's own runs and events, on a real instance."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    Field,
    OpExecutionContext,
    RunConfig,
    build_schedule_context,
    in_process_executor,
    instance_for_test,
    job,
    op,
)

from resources.logins import Logins
from zest_pipelines.definitions import STATIONS, define, definitions
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.orchestration import purge as purging
from zest_pipelines.orchestration.purge import KeepDaysError, PurgeConfig, Purged, keep_days, purge_runs

BACKGROUND = {"zest/lane": "background"}
MADE, CHECKED = AssetKey("made"), AssetCheckKey(AssetKey("made"), "holds")


@op(config_schema={"partitions": Field([str], default_value=["sakura"])})
def leave_marks(context: OpExecutionContext) -> None:
    for partition in context.op_config["partitions"]:
        context.log_event(AssetMaterialization(MADE, partition=partition))
        context.log_event(AssetCheckEvaluation(MADE, "holds", passed=True, partition=partition))
    print("some output")


@job(executor_def=in_process_executor)
def busy() -> None:
    leave_marks()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    with instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


@pytest.fixture
def on_postgres(server: EmbeddedServer, template: Logins, tmp_path: Path) -> Iterator[DagsterInstance]:
    """An instance with a database of its own on the server."""
    logins = replace(template, dagster_database="purged")
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE purged OWNER zest_dagster")
        storage = {"storage": {"postgres": {"postgres_url": logins.dagster_url()}}}
        with instance_for_test(overrides=storage, temp_dir=str(tmp_path)) as made:
            yield made
        admin.execute("DROP DATABASE purged WITH (FORCE)")


def _ran(
    instance: DagsterInstance, tags: Mapping[str, str] = BACKGROUND, partitions: tuple[str, ...] = ("sakura",)
) -> str:
    """A run that materializes and checks these partitions."""
    config = RunConfig(ops={"leave_marks": {"config": {"partitions": list(partitions)}}})
    return busy.execute_in_process(config, instance=instance, tags=dict(tags)).run_id


def _purge(instance: DagsterInstance, *, in_days: float, **config: float) -> Purged:
    """The purge as it would be so many days from now."""
    return purge_runs(instance, PurgeConfig(**config), datetime.now(UTC) + timedelta(days=in_days))


def _answered_by(instance: DagsterInstance) -> list[str]:
    """The runs whose answers are there, the newest answer first."""
    return [each.run_id for each in instance.event_log_storage.get_asset_check_execution_history(CHECKED, limit=100)]


def test_runs_go_when_their_age_has_come_and_background_runs_before_the_others(instance: DagsterInstance) -> None:
    background, asked, _ = _ran(instance), _ran(instance, {}), _ran(instance, {})

    assert _purge(instance, in_days=13).runs == 0
    assert _purge(instance, in_days=15) == Purged(runs=1, kept=0, left=0, answers=2)
    assert (instance.has_run(background), instance.has_run(asked)) == (False, True)
    assert instance.all_logs(background) == []
    assert _purge(instance, in_days=91) == Purged(runs=1, kept=1, left=0, answers=0)
    assert not instance.has_run(asked)


def test_a_run_in_progress_stays_however_old_it_is(instance: DagsterInstance) -> None:
    statuses = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    runs = [instance.create_run_for_job(busy, tags=BACKGROUND, status=status).run_id for status in statuses]

    assert _purge(instance, in_days=400).runs == 0
    assert all(instance.has_run(run_id) for run_id in runs)


def test_what_hangs_on_a_run_goes_with_it(instance: DagsterInstance, tmp_path: Path) -> None:
    replaced, newest = _ran(instance), _ran(instance)

    _purge(instance, in_days=15)

    assert not (tmp_path / "storage" / replaced).exists()
    assert (tmp_path / "storage" / newest).is_dir()
    assert instance.all_logs(replaced) == []


@pytest.mark.parametrize("kind", ["instance", "on_postgres"])
def test_what_a_partition_last_showed_stays_however_quiet_it_is(kind: str, request: pytest.FixtureRequest) -> None:
    instance: DagsterInstance = request.getfixturevalue(kind)
    replaced, newest_of_two, newest = (
        _ran(instance, partitions=partitions)
        for partitions in [("sakura", "himawari"), ("himawari", "momiji"), ("sakura",)]
    )

    assert _purge(instance, in_days=400) == Purged(runs=1, kept=2, left=0, answers=2)
    assert [instance.has_run(run_id) for run_id in (replaced, newest_of_two, newest)] == [False, True, True]
    assert instance.get_materialized_partitions(MADE) == {"sakura", "himawari", "momiji"}
    assert _answered_by(instance) == [newest, newest_of_two, newest_of_two]
    assert _purge(instance, in_days=401) == Purged(runs=0, kept=2, left=0, answers=0)


def test_an_answer_stays_until_the_one_that_replaced_it_is_of_age_too(instance: DagsterInstance) -> None:
    runs = [_ran(instance) for _ in range(3)]
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql(
            "UPDATE asset_check_executions SET create_timestamp = datetime('now', '+10 days') WHERE id = 3"
        )

    assert [_purge(instance, in_days=days).answers for days in (15, 16, 25)] == [1, 0, 1]
    assert _answered_by(instance) == runs[2:]


def test_of_a_week_nothing_is_kept_once_it_is_out_of_sight(instance: DagsterInstance) -> None:
    today = datetime.now(UTC).date()
    weeks = [f"sakura|{today + timedelta(days=days)}" for days in (0, 30)]
    for week in weeks:
        _ran(instance, partitions=(week,))

    assert _purge(instance, in_days=89) == Purged(runs=0, kept=2, left=0, answers=0)
    assert _purge(instance, in_days=91) == Purged(runs=1, kept=1, left=0, answers=1)
    assert instance.get_materialized_partitions(MADE) == {weeks[1]}


def test_when_the_time_is_up_it_says_how_many_are_left(instance: DagsterInstance) -> None:
    for _ in range(3):
        _ran(instance)
    minutes = iter(range(9))

    purged = purge_runs(
        instance, PurgeConfig(minutes=1.5), datetime.now(UTC) + timedelta(days=15), clock=lambda: next(minutes) * 60
    )

    assert purged == Purged(runs=1, kept=1, left=1, answers=0)


def test_answers_go_in_batches_between_which_it_looks_at_the_time(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        _ran(instance, {}, partitions=("sakura", "himawari", "momiji"))
    minutes = iter(range(9))
    monkeypatch.setattr(purging, "_BATCH", 2)

    purged = purge_runs(
        instance, PurgeConfig(minutes=1.5), datetime.now(UTC) + timedelta(days=15), clock=lambda: next(minutes) * 60
    )

    assert purged == Purged(runs=0, kept=0, left=0, answers=2)
    assert _purge(instance, in_days=15).answers == 1


def test_the_job_is_prefilled_and_refuses_what_is_out_of_bounds(instance: DagsterInstance) -> None:
    purge = definitions.resolve_job_def("purge")
    assert purge.execute_in_process(instance=instance).success

    assert (purge.run_config or {})["ops"] == {
        "delete_old_runs": {"config": {"background_days": 14, "days": 90, "minutes": 10.0}}
    }
    nonsense = RunConfig(ops={"delete_old_runs": {"config": {"background_days": 0}}})
    assert not purge.execute_in_process(run_config=nonsense, instance=instance, raise_on_error=False).success


def test_the_environment_sets_the_ages_of_launchpad_and_schedule_alike() -> None:
    keep = keep_days({"ZEST_KEEP_BACKGROUND_DAYS": "30", "ZEST_KEEP_DAYS": ""})
    defined = define([], STATIONS, keep=keep)
    ages = {"delete_old_runs": {"config": {"background_days": 30, "days": 90, "minutes": 10.0}}}

    tick = defined.resolve_schedule_def("purge_every_hour").evaluate_tick(build_schedule_context())

    assert [each.run_config["ops"] for each in tick.run_requests or []] == [ages]
    assert (defined.resolve_job_def("purge").run_config or {})["ops"] == ages


@pytest.mark.parametrize("value", ["soon", "0", "1.5"])
def test_an_age_that_is_none_is_refused_by_the_variables_name(value: str) -> None:
    with pytest.raises(KeepDaysError, match=f"ZEST_KEEP_DAYS .* from 1 to 3650, not '{value}'"):
        keep_days({"ZEST_KEEP_DAYS": value})
