"""Alerts: a sensor looks every minute whether something began, ended or waits to be told, and requests a run only
then.

What is wrong with Dagster itself is looked for here: jobs whose last run failed, runs that wait too long in the queue.
"""

# No `from __future__ import annotations`: Dagster looks at the annotations of resources.

from contextlib import closing
from datetime import UTC, datetime, timedelta

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    OpExecutionContext,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    in_process_executor,
    job,
    op,
    sensor,
)
from dagster._core.storage.runs import SqlRunStorage  # nothing public tells which jobs there are runs of
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable

from resources.configurable import HttpResource, PostgresResource, VaultResource
from zest_pipelines.core.alarm import Trouble
from zest_pipelines.flows.alerts import is_wanted, look, send
from zest_pipelines.orchestration.failures import failure, fault_of
from zest_pipelines.orchestration.opened import NOT_ANSWERED, opened_services
from zest_pipelines.orchestration.partitions import UNFINISHED
from zest_pipelines.orchestration.steps import BACKGROUND, BACKGROUND_TAGS, LANE
from zest_pipelines.store.database import Database

SENSOR = "something_to_tell"
_EVERY_SECONDS = 60
_LOOKED_BACK = timedelta(hours=24)
_MOST_QUEUED = timedelta(minutes=10)
_MOST_RUNS = 200
_ENDED = [DagsterRunStatus.FAILURE, DagsterRunStatus.SUCCESS]


def troubles_of(instance: DagsterInstance, now: datetime) -> tuple[Trouble, ...]:
    """Jobs whose newest finished run failed, and a queue in which a run has waited for ten minutes.

    Of a job that nobody launches, until it has a good run, or its last one is so old that the purge takes it; of any
    other one for a day: whoever launched it sees it.
    """
    failed = []
    for name in _failing(instance, now):
        for newest in instance.get_run_records(RunsFilter(job_name=name, statuses=_ENDED), limit=1):
            if newest.dagster_run.status is DagsterRunStatus.FAILURE:
                failed.append(Trouble("", "run_failed", name, 1, 0, newest.create_timestamp))
    queued = instance.get_run_records(
        RunsFilter(statuses=[DagsterRunStatus.QUEUED], created_before=now - _MOST_QUEUED), limit=_MOST_RUNS
    )
    if queued:
        failed.append(Trouble("", "queue_stuck", "", len(queued), 0, min(each.create_timestamp for each in queued)))
    return tuple(failed)


def _failing(instance: DagsterInstance, now: datetime) -> list[str]:
    """The jobs that have a failed run of the last day, or one that nobody launched, by name. However often one of them
    fails, it hides no other."""
    storage, runs, tags = instance.run_storage, RunsTable, RunTagsTable
    assert isinstance(storage, SqlRunStorage)  # as all are that Dagster brings
    is_recent = runs.c.update_timestamp > (now - _LOOKED_BACK).astimezone(UTC).replace(tzinfo=None)
    is_unattended = (
        tags.select().where(tags.c.run_id == runs.c.run_id, tags.c.key == LANE, tags.c.value == BACKGROUND).exists()
    )
    failed = runs.select().where(runs.c.status == DagsterRunStatus.FAILURE.value, is_recent | is_unattended)
    with storage.connect() as connection:
        return sorted(connection.execute(failed.with_only_columns(runs.c.pipeline_name).distinct()).scalars())


@op(description="Opens and ends alerts by what is wrong over all tenants and in Dagster, and sends the notices due.")
def tell(context: OpExecutionContext, postgres: PostgresResource, http: HttpResource, vault: VaultResource) -> None:
    with opened_services(postgres, http, vault) as services:
        try:
            found = look(services, troubles_of(context.instance, datetime.now(UTC)))
            sent = send(services)
        except NOT_ANSWERED as error:
            raise failure([("all tenants", fault_of(error))]) from None
    context.add_output_metadata(
        {
            "opened": len(found.opened),
            "open": len(found.opened) + len(found.seen) + len(found.gone),
            "recovered": len(found.recovered),
            "notices_sent": sent.sent,
            "notices_failed": sent.failed,
        }
    )


@job(
    description="One alert a cause over all tenants, one notice when it begins and one when it is over. `zest alerts` "
    "shows them, and what could not be sent.",
    executor_def=in_process_executor,
    tags=BACKGROUND_TAGS,
)
def alerting() -> None:
    tell()


def alerts_sensor() -> SensorDefinition:
    """Looks every minute, running by default."""

    @sensor(
        name=SENSOR,
        description="Every minute: whether an alert began or is over, or a notice waits. Requests alerting only then.",
        job_name="alerting",
        minimum_interval_seconds=_EVERY_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def evaluate(context: SensorEvaluationContext, postgres: PostgresResource) -> RunRequest | SkipReason:
        now = datetime.now(UTC)
        try:
            with closing(Database(postgres.logins())) as database:
                if not is_wanted(database, now, troubles_of(context.instance, now)):
                    return SkipReason("Nothing began, nothing is over, and nothing waits to be told.")
        except NOT_ANSWERED as error:
            return SkipReason(f"{str(error).removesuffix('.')}. The next look asks again.")
        if context.instance.get_runs(RunsFilter(job_name="alerting", statuses=UNFINISHED), limit=1):
            return SkipReason("A run is about to tell.")
        return RunRequest()

    return evaluate
