"""When something happened: new edits are pushed and new master changes applied without waiting for the minute, and
what keeps edits from being read is told."""

from __future__ import annotations

from dagster import (
    DefaultSensorStatus,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from partners.contract import Partner
from resources.configurable import PostgresResource
from zest_pipelines.orchestration.demands import Demand, new_edits, new_master_changes
from zest_pipelines.orchestration.held_back import held_back_sensor
from zest_pipelines.orchestration.jobs import job_name
from zest_pipelines.orchestration.ticks import request_runs

_INTERVAL_SECONDS = 15


def partner_sensors(partner: Partner) -> list[SensorDefinition]:
    """The partner's sensors, running by default."""
    sensors = [_sensor(new_master_changes(partner))]
    if partner.writes:
        sensors += [_sensor(new_edits(partner)), held_back_sensor(partner)]
    return sensors


def _sensor(demand: Demand) -> SensorDefinition:
    job = job_name(demand.partner, demand.direction)

    @sensor(
        name=f"{demand.partner.name}_{demand.name}",
        description=f"Every {_INTERVAL_SECONDS} seconds: {job} for each tenant that has {demand.what}, without waiting "
        f"for the minute; in at most {demand.max_runs} runs.",
        job_name=job,
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def evaluate(context: SensorEvaluationContext, postgres: PostgresResource) -> list[RunRequest] | SkipReason:
        return request_runs(demand, context.instance, postgres, run_key=None)

    return evaluate
