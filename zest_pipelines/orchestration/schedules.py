"""When by the clock: every minute, one schedule a partner and direction (a schedule in Dagster has one job), the
watch, and the audit of the night."""

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
from zest_pipelines.orchestration.audit import audit_schedule
from zest_pipelines.orchestration.demands import Demand, pushes_due, readings_due
from zest_pipelines.orchestration.jobs import job_name
from zest_pipelines.orchestration.ticks import request_runs
from zest_pipelines.orchestration.watch import watch_schedule


def partner_schedules(partner: Partner) -> list[ScheduleDefinition]:
    """The partner's schedules, running by default."""
    schedules = [_every_minute(readings_due(partner)), watch_schedule(partner)]
    if partner.writes:
        schedules += [_every_minute(pushes_due(partner)), audit_schedule(partner)]
    return schedules


def _every_minute(demand: Demand) -> ScheduleDefinition:
    job = job_name(demand.partner, demand.direction)

    @schedule(
        name=f"{job}_every_minute",
        description=f"Every minute: {job} for each tenant that has {demand.what}. Up to {demand.max_runs} tenants get "
        f"a run each, more share {demand.max_runs} runs. A tick asks for all that is due: missed ones need no hand.",
        cron_schedule="* * * * *",
        job_name=job,
        execution_timezone="Asia/Tokyo",
        default_status=DefaultScheduleStatus.RUNNING,
    )
    def every_minute(context: ScheduleEvaluationContext, postgres: PostgresResource) -> list[RunRequest] | SkipReason:
        run_key = context.scheduled_execution_time.isoformat()
        return request_runs(demand, context.instance, postgres, run_key)

    return every_minute
