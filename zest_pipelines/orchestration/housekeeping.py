"""The job of the day: the months to come get their partitions. Red means: the database was away, or refuses it."""

# No `from __future__ import annotations`: Dagster looks at the annotations of resources.

from dagster import (
    DefaultScheduleStatus,
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


@op(description="Makes the partitions of the months to come.")
def make_the_round(postgres: PostgresResource, http: HttpResource, vault: VaultResource) -> None:
    with opened_services(postgres, http, vault) as services:
        try:
            housekeep(services)
        except StoreError as error:
            raise failure([("all tenants", fault_of(error))]) from None


@job(
    description="Once a day: the partitions of the months to come.",
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
