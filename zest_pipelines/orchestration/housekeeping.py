"""The job of the day: months to come, and the pending projection held against history. Red means: tell us."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from dagster import (
    DefaultScheduleStatus,
    Failure,
    OpExecutionContext,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from resources.configurable import HttpResource, PostgresResource, VaultResource
from zest_pipelines.flows.housekeep import housekeep
from zest_pipelines.orchestration.failures import failure, fault_of
from zest_pipelines.orchestration.opened import opened_services
from zest_pipelines.orchestration.steps import BACKGROUND_TAGS
from zest_pipelines.store.errors import StoreError

_MOST_NAMED = 20


@op(description="Makes the months to come and compares what is pending with what history says.")
def make_the_round(
    context: OpExecutionContext, postgres: PostgresResource, http: HttpResource, vault: VaultResource
) -> None:
    with opened_services(postgres, http, vault) as services:
        try:
            report = housekeep(services)
        except StoreError as error:
            raise failure([("all tenants", fault_of(error))]) from None
    context.add_output_metadata({"tenants": report.tenants, "differences": len(report.differences)})
    if report.differences:
        found = ((tenant, row) for tenant, rows in report.differences.items() for row in rows)
        named = [f"{tenant}: {row.entity} {row.record_id}" for tenant, row in found]
        raise Failure(
            f"What is pending is not what history says, for {len(named)} records: {', '.join(named[:_MOST_NAMED])}. "
            "Tell us with this run's id; nothing has to be stopped.",
            allow_retries=False,
        )


@job(
    description="Once a day: the months to come, and pending held against history.",
    executor_def=in_process_executor,
    tags=BACKGROUND_TAGS,
)
def housekeeping() -> None:
    make_the_round()


def housekeeping_schedule() -> ScheduleDefinition:
    """Every day at ten past four in Japan, when offices are closed."""
    return ScheduleDefinition(
        name="housekeeping_every_day",
        description="Requests the job of the day when offices are closed.",
        job=housekeeping,
        cron_schedule="10 4 * * *",
        execution_timezone="Asia/Tokyo",
        default_status=DefaultScheduleStatus.RUNNING,
    )
