"""The one Definitions: every partner of the registry, put through the same factories.

Loading it reads no file and connects to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from dagster import Definitions, in_process_executor

from partners.contract import Partner
from partners.registry import PARTNERS
from resources.configurable import HttpResource, PostgresResource, VaultResource
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.push import push
from zest_pipelines.orchestration.assets import Stations, inbound_assets, outbound_assets
from zest_pipelines.orchestration.housekeeping import housekeeping, housekeeping_schedule
from zest_pipelines.orchestration.jobs import partner_jobs
from zest_pipelines.orchestration.schedules import partner_schedules
from zest_pipelines.orchestration.sensors import partner_sensors

STATIONS = Stations(land, diff, apply, accumulate, push)


def define(partners: Iterable[Partner], stations: Stations) -> Definitions:
    """Everything that Dagster shows and runs for these partners."""
    declared = tuple(partners)
    return Definitions(
        assets=[make(each, stations) for each in declared for make in (inbound_assets, outbound_assets)],
        jobs=[*(job for each in declared for job in partner_jobs(each)), housekeeping],
        schedules=[
            *(schedule for each in declared for schedule in partner_schedules(each)),
            housekeeping_schedule(),
        ],
        sensors=[sensor for each in declared for sensor in partner_sensors(each)],
        resources={"postgres": PostgresResource(), "http": HttpResource(), "vault": VaultResource()},
        executor=in_process_executor,
    )


definitions = define(PARTNERS.values(), STATIONS)
