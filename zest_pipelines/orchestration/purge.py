"""The job that keeps Dagster's own database from growing: runs beyond a set age go, with all that hangs on them.

Dagster keeps runs and events for ever. A run is deleted by the instance's own call, with its events, and its captured
output with it. A partition is materialized for Dagster as long as the event is there that says so; so the run of its
newest materialization stays, however old, or whoever was quiet for two weeks would show as never read. The answers of
checks stay behind a deleted run, one row each, and for those there is no call: they are deleted from Dagster's table by
age, except the newest of each check and partition key, which is what the UI shows as its state. The weeks that a person
pushed would fill it all the same; nothing is kept of one that is itself beyond the age.

How long, two variables of the environment say: ZEST_KEEP_BACKGROUND_DAYS and ZEST_KEEP_DAYS.
"""

# No `from __future__ import annotations`: Dagster compares the annotations of `context` and `config` with classes.

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from dagster import (
    Config,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    DefaultScheduleStatus,
    JobDefinition,
    OpExecutionContext,
    RunConfig,
    RunsFilter,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import (  # nothing public tells runs of events, or deletes answers
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)
from pydantic import Field, ValidationError

from zest_pipelines.orchestration.steps import BACKGROUND, BACKGROUND_TAGS, LANE

_FINISHED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
_READ, _BATCH = 100_000, 5_000  # answers of a check that are looked at, and deleted in one statement
_VARIABLES = {"background_days": "ZEST_KEEP_BACKGROUND_DAYS", "days": "ZEST_KEEP_DAYS"}


class PurgeConfig(Config):
    """What to keep, and how long to work at it."""

    background_days: int = Field(
        default=14,
        ge=1,
        le=3650,
        description="Days after which finished background runs (tag zest/lane: background) are deleted, and answers of "
        "checks that have a newer one of that age.",
    )
    days: int = Field(
        default=90,
        ge=1,
        le=3650,
        description="Days after which every finished run is deleted. The run of a partition's newest materialization "
        "stays; that of a week, until the week itself is so old.",
    )
    minutes: float = Field(
        default=10.0, gt=0, le=120, description="How long to work at it; what is left goes the next time."
    )


class KeepDaysError(Exception):
    """A variable of the environment that sets an age holds no age."""


@dataclass(frozen=True)
class Purged:
    """What a purge did."""

    runs: int
    kept: int
    """Runs that are old enough to go, and stay for a partition's newest materialization."""
    left: int
    """Runs that were to go and are still there."""
    answers: int
    """Answers of checks."""


def keep_days(environ: Mapping[str, str]) -> PurgeConfig:
    """The ages that the environment sets, 14 and 90 days where it sets none. Raises KeepDaysError."""
    try:
        return PurgeConfig.model_validate(
            {field: environ[name] for field, name in _VARIABLES.items() if environ.get(name)}
        )
    except ValidationError as error:
        name = _VARIABLES[str(error.errors()[0]["loc"][0])]
        raise KeepDaysError(
            f"{name} is to be a whole number of days from 1 to 3650, not {environ[name]!r}. Correct it, or unset it."
        ) from None


@op(name="delete_old_runs", description="Deletes finished runs beyond the configured age, one after the other.")
def delete_old_runs(context: OpExecutionContext, config: PurgeConfig) -> None:
    purged = purge_runs(context.instance, config, datetime.now(UTC))
    context.log.info(
        f"Deleted {purged.runs} runs and {purged.answers} answers of checks; {purged.left} runs are left, and "
        f"{purged.kept} stay for a partition's newest materialization."
    )
    context.add_output_metadata(
        {"runs": purged.runs, "runs_kept": purged.kept, "runs_left": purged.left, "answers": purged.answers}
    )


def purge_job(keep: PurgeConfig) -> JobDefinition:
    """The job, with `keep` in its launchpad."""

    @job(
        description="Once an hour: deletes finished runs with their events, logs and old check answers. A run in "
        "progress stays, and so does the run of a partition's newest materialization, by which the UI knows that there "
        "is one. Nothing of the history in our own tables is touched. To keep more or less this once, change the "
        f"numbers and launch it; for good, set {' and '.join(_VARIABLES.values())} in the environment.",
        executor_def=in_process_executor,
        tags=BACKGROUND_TAGS,
        config=_run_config(keep),
    )
    def purge() -> None:
        delete_old_runs()

    return purge


def purge_schedule(purge: JobDefinition, keep: PurgeConfig) -> ScheduleDefinition:
    """Every hour: a busy installation makes more runs in a day than one purge deletes in its time."""
    return ScheduleDefinition(
        name="purge_every_hour",
        description="Requests the purge, with the ages that stand in its launchpad.",
        job=purge,
        run_config=_run_config(keep),  # a scheduled run does not take what stands in the launchpad
        cron_schedule="40 * * * *",
        execution_timezone="Asia/Tokyo",
        default_status=DefaultScheduleStatus.RUNNING,
    )


def _run_config(keep: PurgeConfig) -> RunConfig:
    return RunConfig(ops={"delete_old_runs": keep})


def purge_runs(
    instance: DagsterInstance, config: PurgeConfig, now: datetime, clock: Callable[[], float] = time.monotonic
) -> Purged:
    """Delete what is beyond its age at `now` until all is gone or, by `clock` in seconds, the time is up."""
    end = clock() + config.minutes * 60
    background_cutoff, cutoff = (now - timedelta(days=days) for days in (config.background_days, config.days))
    old = {
        *instance.get_run_ids(_finished_before(background_cutoff, {LANE: BACKGROUND})),
        *instance.get_run_ids(_finished_before(cutoff, {})),
    }
    going = old - _runs_of_newest(instance, cutoff.date())
    runs = 0
    for run_id in going:
        if clock() >= end:
            break
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
        runs += 1
    answers = 0
    for batch in _replaced_answers(instance, background_cutoff, cutoff.date()):
        if clock() >= end:
            break
        answers += _delete_answers(instance, batch)
    return Purged(runs, len(old) - len(going), len(going) - runs, answers)


def _finished_before(cutoff: datetime, tags: Mapping[str, str]) -> RunsFilter:
    return RunsFilter(statuses=_FINISHED, created_before=cutoff, tags=tags)


def _runs_of_newest(instance: DagsterInstance, first_week: date) -> set[str]:
    """The runs that hold some partition's newest materialization, those of weeks before `first_week` left out."""
    log, table = _event_log(instance), SqlEventLogStorageTable
    found: set[str] = set()
    for key in instance.get_asset_keys():
        newest = log.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION)
        ids = [event for partition, event in newest.items() if not _is_past(partition, first_week)]
        with log.index_connection() as connection:
            events = table.select().where(table.c.id.in_(ids))
            found.update(connection.execute(events.with_only_columns(table.c.run_id)).scalars())
    return found


def _is_past(partition: str | None, first_week: date) -> bool:
    """Whether it is the key of a week before `first_week`: `sakura|2026-11-23`."""
    _, bar, week = (partition or "").rpartition("|")
    return bool(bar) and week < first_week.isoformat()


def _replaced_answers(instance: DagsterInstance, cutoff: datetime, first_week: date) -> Iterator[Sequence[int]]:
    """Batches of ids of answers before `cutoff` that have a newer one before it, or are of a week before `first_week`.

    One check after the other, and of each as many as one hour brings: what is left comes the next time.
    """
    log, table = _event_log(instance), AssetCheckExecutionsTable
    with log.index_connection() as connection:
        checks = connection.execute(table.select().with_only_columns(table.c.asset_key, table.c.check_name).distinct())
        names = checks.all()
    for asset, name in names:
        of_check = table.select().where(table.c.asset_key == asset, table.c.check_name == name)
        old = of_check.where(table.c.create_timestamp < cutoff.replace(tzinfo=None)).order_by(table.c.id).limit(_READ)
        with log.index_connection() as connection:
            rows = connection.execute(old.with_only_columns(table.c.id, table.c.partition)).all()
        newest = {partition: answer for answer, partition in rows if not _is_past(partition, first_week)}
        going = sorted({answer for answer, _ in rows}.difference(newest.values()))
        yield from (going[start : start + _BATCH] for start in range(0, len(going), _BATCH))


def _delete_answers(instance: DagsterInstance, answers: Sequence[int]) -> int:
    """How many of them were still there."""
    table = AssetCheckExecutionsTable
    with _event_log(instance).index_connection() as connection:
        deleted: int = connection.execute(table.delete().where(table.c.id.in_(answers))).rowcount
    return deleted


def _event_log(instance: DagsterInstance) -> SqlEventLogStorage:
    log = instance.event_log_storage
    assert isinstance(log, SqlEventLogStorage)  # as all are that Dagster brings
    return log
