"""When something happened: new edits are pushed and new master changes applied without waiting for the
minute."""

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
from zest_pipelines.orchestration.jobs import Direction, job_name
from zest_pipelines.orchestration.specs import applied, masters
from zest_pipelines.orchestration.ticks import Demand, request_runs
from zest_pipelines.store import due

_INTERVAL_SECONDS = 15
_MAX_RUNS = 3
"""Runs that one evaluation may request: four evaluations a minute share what the machine starts."""


def partner_sensors(partner: Partner) -> tuple[SensorDefinition, ...]:
    """The partner's sensors, running by default."""
    return (
        _sensor(
            f"{partner.name}_new_edits",
            Demand(
                partner,
                Direction.OUT,
                "a new edit, or what a push left when it died",
                lambda tx: due.urgent(tx, partner.name),
                _MAX_RUNS,
            ),
        ),
        _sensor(
            f"{partner.name}_new_master_changes",
            Demand(
                partner,
                Direction.IN,
                "a new master change",
                lambda tx: due.open_master_changes(tx, partner.name),
                _MAX_RUNS,
                selection=[applied(partner, entity) for entity in masters(partner)],
            ),
        ),
    )


def _sensor(name: str, demand: Demand) -> SensorDefinition:
    job = job_name(demand.partner, demand.direction)

    @sensor(
        name=name,
        description=f"Requests runs of {job} for each tenant that has {demand.what}.",
        job_name=job,
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def evaluate(context: SensorEvaluationContext, postgres: PostgresResource) -> list[RunRequest] | SkipReason:
        return request_runs(demand, context.instance, postgres, run_key=None)

    return evaluate
