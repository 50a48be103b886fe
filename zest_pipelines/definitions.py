"""The one Definitions: every partner of the registry, put through the same factories.

Loading it opens no file of the installation and connects to nothing. Variables of the environment change what is
shown:

- ZEST_PARTNERS, names with commas between: these partners alone get assets, jobs, schedules and sensors; those of the
  others do not run. Unset: all of the registry.
- ZEST_CODE_URL, the project's folder in a repository's web pages (`https://git.example/zest-pipelines/blob/main`):
  assets link to their code there. Unset: to the local file.
- ZEST_KEEP_BACKGROUND_DAYS, ZEST_KEEP_DAYS: the ages that the job `purge` and its schedule start with.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from dagster import Definitions, in_process_executor

from partners.contract import Partner
from partners.registry import shown_partners
from resources.configurable import HttpResource, PostgresResource, VaultResource
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.check import certificate_until
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.operate import abandon, adopt, find, pause, release, resume, stopped, would_release
from zest_pipelines.flows.planned import take_plans
from zest_pipelines.flows.push import push
from zest_pipelines.flows.push_period import push_period
from zest_pipelines.flows.reconcile import reconcile
from zest_pipelines.orchestration.alerts import alerting, alerts_sensor
from zest_pipelines.orchestration.assets import Stations, inbound_assets, outbound_assets
from zest_pipelines.orchestration.audit import audit_check, audit_job
from zest_pipelines.orchestration.code_links import with_code_links
from zest_pipelines.orchestration.frames import frame_manager
from zest_pipelines.orchestration.held_back import held_back_check, held_back_job
from zest_pipelines.orchestration.housekeeping import housekeeping, housekeeping_schedule
from zest_pipelines.orchestration.jobs import partner_jobs
from zest_pipelines.orchestration.operations import Acts, operation_jobs
from zest_pipelines.orchestration.purge import PurgeConfig, keep_days, purge_job, purge_schedule
from zest_pipelines.orchestration.schedules import partner_schedules
from zest_pipelines.orchestration.sensors import partner_sensors
from zest_pipelines.orchestration.watch import watch_job
from zest_pipelines.orchestration.weeks import WeekStations, week_assets

STATIONS = Stations(land, diff, apply, accumulate, push, take_plans, certificate_until)
WEEK_STATIONS = WeekStations(push_period, reconcile)
ACTS = Acts(find, push_period, pause, resume, would_release, release, stopped, abandon, adopt)
KEEP = PurgeConfig()


def define(
    partners: Iterable[Partner],
    stations: Stations,
    code_url: str | None = None,
    *,
    week_stations: WeekStations = WEEK_STATIONS,
    acts: Acts = ACTS,
    keep: PurgeConfig = KEEP,
) -> Definitions:
    """Everything that Dagster shows and runs for these partners; `code_url` as ZEST_CODE_URL, None: local files."""
    declared = tuple(partners)
    written = [each for each in declared if each.writes]  # of the others the way in is all there is
    purge = purge_job(keep)
    return Definitions(
        assets=with_code_links(
            [
                *(inbound_assets(each, stations) for each in declared),
                *(outbound_assets(each, stations) for each in written),
                *(asset for each in written for asset in week_assets(each, week_stations)),
            ],
            code_url,
        ),
        asset_checks=[make(each) for each in written for make in (held_back_check, audit_check)],
        jobs=[
            *(job for each in declared for job in partner_jobs(each)),
            *(watch_job(each) for each in declared),
            *(make(each) for each in written for make in (held_back_job, audit_job)),
            *(job for each in declared for job in operation_jobs(each, stations, acts)),
            housekeeping,
            purge,
            alerting,
        ],
        schedules=[
            *(schedule for each in declared for schedule in partner_schedules(each)),
            housekeeping_schedule(),
            purge_schedule(purge, keep),
        ],
        sensors=[*(sensor for each in declared for sensor in partner_sensors(each)), alerts_sensor()],
        resources={
            "postgres": PostgresResource(),
            "http": HttpResource(),
            "vault": VaultResource(),
            "io_manager": frame_manager,
        },
        executor=in_process_executor,
    )


SHOWN = shown_partners(os.environ.get("ZEST_PARTNERS", ""))
"""The partners that `definitions` has."""
definitions = define(
    SHOWN,
    STATIONS,
    os.environ.get("ZEST_CODE_URL") or None,
    keep=keep_days(os.environ),
)
