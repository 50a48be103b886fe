"""When by the clock: every minute, one schedule a partner and direction (a schedule in Dagster has one
job)."""

from __future__ import annotations

from dagster import (
    DefaultScheduleStatus,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from partners.contract import Partner
from resources.configurable import PostgresResource
from zest_pipelines.orchestration.jobs import Direction, job_name
from zest_pipelines.orchestration.specs import masters
from zest_pipelines.orchestration.ticks import Demand, request_runs
from zest_pipelines.store import due

MAX_RUNS_IN = 4
MAX_RUNS_OUT = 6
"""Runs that one minute may request, together ten: two cores start about seventeen a minute."""


def partner_schedules(partner: Partner) -> tuple[ScheduleDefinition, ...]:
    """The partner's schedules, running by default."""
    return (
        _every_minute(
            Demand(
                partner,
                Direction.OUT,
                "a record or an edit to push now",
                lambda tx: due.outbound(tx, partner.name),
                MAX_RUNS_OUT,
            )
        ),
        _every_minute(
            Demand(
                partner,
                Direction.IN,
                "masters that are due to be read",
                lambda tx: due.inbound(tx, partner.name, masters(partner)),
                MAX_RUNS_IN,
            )
        ),
    )


def _every_minute(demand: Demand) -> ScheduleDefinition:
    job = job_name(demand.partner, demand.direction)

    @schedule(
        name=f"{job}_every_minute",
        description=f"Requests runs of {job} for each tenant that has {demand.what}.",
        cron_schedule="* * * * *",
        job_name=job,
        execution_timezone="Asia/Tokyo",
        default_status=DefaultScheduleStatus.RUNNING,
    )
    def every_minute(context: ScheduleEvaluationContext, postgres: PostgresResource) -> list[RunRequest] | SkipReason:
        run_key = context.scheduled_execution_time.isoformat()
        return request_runs(demand, context.instance, postgres, run_key)

    return every_minute
