"""The purge of Dagster's own runs and events, on a real instance."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    OpExecutionContext,
    RunConfig,
    in_process_executor,
    instance_for_test,
    job,
    op,
)

from zest_pipelines.definitions import definitions
from zest_pipelines.orchestration.purge import PurgeConfig, Purged, purge_runs

BACKGROUND = {"zest/lane": "background"}
MADE, CHECKED = AssetKey("made"), AssetCheckKey(AssetKey("made"), "holds")


@op
def leave_marks(context: OpExecutionContext) -> None:
    context.log_event(AssetMaterialization(MADE, partition="sakura"))
    context.log_event(AssetCheckEvaluation(MADE, "holds", passed=True, partition="sakura"))
    print("some output")


@job(executor_def=in_process_executor)
def busy() -> None:
    leave_marks()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    with instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


def _ran(instance: DagsterInstance, tags: dict[str, str]) -> str:
    return busy.execute_in_process(instance=instance, tags=tags).run_id


def _purge(instance: DagsterInstance, *, in_days: float, **config: float) -> Purged:
    """The purge as it would be so many days from now."""
    return purge_runs(instance, PurgeConfig(**config), datetime.now(UTC) + timedelta(days=in_days))


def _answers(instance: DagsterInstance) -> int:
    return len(instance.event_log_storage.get_asset_check_execution_history(CHECKED, limit=100))


def test_runs_go_when_their_age_has_come_and_background_runs_before_the_others(instance: DagsterInstance) -> None:
    background, asked = _ran(instance, BACKGROUND), _ran(instance, {})

    assert _purge(instance, in_days=13).runs == 0
    assert _purge(instance, in_days=15) == Purged(1, 1, 0)
    assert (instance.has_run(background), instance.has_run(asked)) == (False, True)
    assert instance.all_logs(background) == []
    assert _purge(instance, in_days=91).runs == 1
    assert not instance.has_run(asked)


def test_a_run_in_progress_stays_however_old_it_is(instance: DagsterInstance) -> None:
    statuses = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    runs = [instance.create_run_for_job(busy, tags=BACKGROUND, status=status).run_id for status in statuses]

    assert _purge(instance, in_days=400).runs == 0
    assert all(instance.has_run(run_id) for run_id in runs)


def test_what_hangs_on_a_run_goes_with_it_but_for_a_checks_newest_answer(
    instance: DagsterInstance, tmp_path: Path
) -> None:
    runs = [_ran(instance, BACKGROUND) for _ in range(3)]
    assert all((tmp_path / "storage" / run_id).is_dir() for run_id in runs)

    purged = _purge(instance, in_days=15)

    assert purged == Purged(runs=3, answers=2, left=0)
    assert not any((tmp_path / "storage" / run_id).exists() for run_id in runs)
    assert instance.get_materialized_partitions(MADE) == set()
    assert _answers(instance) == 1


def test_when_the_time_is_up_it_says_how_many_are_left(instance: DagsterInstance) -> None:
    for _ in range(3):
        _ran(instance, BACKGROUND)
    minutes = iter(range(9))

    purged = purge_runs(
        instance, PurgeConfig(minutes=1.5), datetime.now(UTC) + timedelta(days=15), clock=lambda: next(minutes) * 60
    )

    assert purged == Purged(runs=1, answers=0, left=2)


def test_the_job_is_prefilled_and_refuses_what_is_out_of_bounds(instance: DagsterInstance) -> None:
    purge = definitions.resolve_job_def("purge")
    assert purge.execute_in_process(instance=instance).success

    assert (purge.run_config or {})["ops"] == {
        "delete_old_runs": {"config": {"background_days": 14, "days": 90, "minutes": 10.0}}
    }
    nonsense = RunConfig(ops={"delete_old_runs": {"config": {"background_days": 0}}})
    assert not purge.execute_in_process(run_config=nonsense, instance=instance, raise_on_error=False).success
