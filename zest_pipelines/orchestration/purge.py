"""The job that keeps Dagster's own database from growing: runs beyond a set age go, with all that hangs on them.

Dagster keeps runs and events for ever. A run is deleted by the instance's own call, with its events, and its captured
output with it. The answers of its checks stay behind, one row each, and for those there is no call: they are deleted
from Dagster's table by age, except the newest of each check and partition key, which is what the UI shows as its state.
"""

# No `from __future__ import annotations`: Dagster compares the annotations of `context` and `config` with classes.

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dagster import (
    Config,
    DagsterInstance,
    DagsterRunStatus,
    DefaultScheduleStatus,
    OpExecutionContext,
    RunConfig,
    RunsFilter,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable  # nothing public deletes from it
from pydantic import Field

from zest_pipelines.orchestration.steps import BACKGROUND, BACKGROUND_TAGS, LANE

_FINISHED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
_BATCH = 100
_ANSWERS = 5_000


class PurgeConfig(Config):
    """What to keep, and how long to work at it."""

    background_days: int = Field(
        default=14,
        ge=1,
        le=3650,
        description="Days after which finished background runs (tag zest/lane: background) are deleted, and answers of "
        "checks that a newer one has replaced.",
    )
    days: int = Field(default=90, ge=1, le=3650, description="Days after which every finished run is deleted.")
    minutes: float = Field(
        default=10.0, gt=0, le=120, description="How long to work at it; what is left goes the next time."
    )


@dataclass(frozen=True)
class Purged:
    """What a purge did."""

    runs: int
    answers: int
    """Answers of checks."""
    left: int
    """Runs that are old enough to go and are still there."""


@op(name="delete_old_runs", description="Deletes finished runs beyond the configured age, a batch at a time.")
def delete_old_runs(context: OpExecutionContext, config: PurgeConfig) -> None:
    purged = purge_runs(context.instance, config, datetime.now(UTC))
    context.log.info(f"Deleted {purged.runs} runs and {purged.answers} answers of checks; {purged.left} runs are left.")
    context.add_output_metadata({"runs": purged.runs, "answers": purged.answers, "runs_left": purged.left})


@job(
    description="Once an hour: deletes finished runs with their events, logs and old check answers; a run in progress "
    "stays. A tenant whose last materialization was in a deleted run shows as never materialized: that is the UI's "
    "memory alone, and its next reading or push shows it again. Nothing of the history in our own tables is touched. "
    "To keep more or less, change the numbers and launch it.",
    executor_def=in_process_executor,
    tags=BACKGROUND_TAGS,
    config=RunConfig(ops={"delete_old_runs": PurgeConfig()}),
)
def purge() -> None:
    delete_old_runs()


def purge_schedule() -> ScheduleDefinition:
    """Every hour: a busy installation makes more runs in a day than one purge deletes in its time."""
    return ScheduleDefinition(
        name="purge_every_hour",
        description="Requests the purge, with the ages that stand in its launchpad.",
        job=purge,
        cron_schedule="40 * * * *",
        execution_timezone="Asia/Tokyo",
        default_status=DefaultScheduleStatus.RUNNING,
    )


def purge_runs(
    instance: DagsterInstance, config: PurgeConfig, now: datetime, clock: Callable[[], float] = time.monotonic
) -> Purged:
    """Delete what is beyond its age at `now` until all is gone or, by `clock` in seconds, the time is up."""
    end = clock() + config.minutes * 60
    old = [
        _finished_before(now - timedelta(days=config.background_days), {LANE: BACKGROUND}),
        _finished_before(now - timedelta(days=config.days), {}),
    ]
    runs = 0
    for run_id in (run_id for filters in old for run_id in _ids(instance, filters)):
        if clock() >= end:
            break
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
        runs += 1
    answers = 0
    while clock() < end and (deleted := _delete_answers(instance, now - timedelta(days=config.background_days))):
        answers += deleted
    left = set().union(*(instance.get_run_ids(filters) for filters in old))
    return Purged(runs, answers, len(left))


def _finished_before(cutoff: datetime, tags: Mapping[str, str]) -> RunsFilter:
    return RunsFilter(statuses=_FINISHED, created_before=cutoff, tags=tags)


def _ids(instance: DagsterInstance, filters: RunsFilter) -> Iterator[str]:
    """Until the instance has no more of them: the caller deletes each before it asks for the next."""
    while batch := instance.get_run_ids(filters, limit=_BATCH):
        yield from batch


def _delete_answers(instance: DagsterInstance, cutoff: datetime) -> int:
    """Delete some answers of checks that are older and have a newer one; how many, 0 once there are none."""
    log = instance.event_log_storage
    if not isinstance(log, SqlEventLogStorage):
        return 0
    table, newer = AssetCheckExecutionsTable, AssetCheckExecutionsTable.alias()
    is_replaced = (
        newer.select()
        .where(
            newer.c.asset_key == table.c.asset_key,
            newer.c.check_name == table.c.check_name,
            newer.c.partition.is_not_distinct_from(table.c.partition),
            newer.c.id > table.c.id,
        )
        .exists()
    )
    old = table.select().where(table.c.create_timestamp < cutoff.replace(tzinfo=None), is_replaced)
    some = old.with_only_columns(table.c.id).limit(_ANSWERS)
    with log.index_connection() as connection:
        deleted: int = connection.execute(table.delete().where(table.c.id.in_(some))).rowcount
    return deleted
