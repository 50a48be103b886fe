"""What runs: two jobs a partner, the way in and, if it is written to, the way out, and the run requests for the tenants
who are due.

A tick cannot submit a thousand runs, so the requests are bounded: a run a tenant while they fit, ranges of
tenants beyond. `zest/connection` lets the run queue hold back a second run for the same connection; a run of
many tenants has no such tag, and the lease in our tables decides, there as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dagster import (
    AssetCheckKey,
    AssetSelection,
    DagsterInstance,
    DagsterRun,
    RunRequest,
    RunsFilter,
    define_asset_job,
    in_process_executor,
)

from partners.contract import Partner
from zest_pipelines.core.packing import KeyRange, pack
from zest_pipelines.orchestration.checks import CheckName
from zest_pipelines.orchestration.demands import DEMAND, Demand, Direction, assets_of
from zest_pipelines.orchestration.partitions import PARTITION, UNFINISHED
from zest_pipelines.orchestration.specs import pushed_visits, visit_changes
from zest_pipelines.orchestration.steps import BACKGROUND_TAGS

if TYPE_CHECKING:  # the type of what define_asset_job returns has no public name
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

CONNECTION = "zest/connection"
"""Run tag `tenant:partner:in|out`; the run queue lets one run a value run at a time."""

_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def job_name(partner: Partner, direction: Direction) -> str:
    """`<partner>_in` or `<partner>_out`."""
    return f"{partner.name}_{direction}"


def partner_jobs(partner: Partner) -> list[UnresolvedAssetJobDefinition]:
    """The partner's jobs, partitioned by tenant as their assets are."""
    way_in = AssetSelection.assets(*assets_of(partner, Direction.IN))
    jobs = [_job(partner, Direction.IN, way_in, f"Reads masters from {partner.title} and applies what differs.")]
    if partner.writes:
        # But for checks that have a job of their own: they say nothing of what a run has just done.
        way_out = AssetSelection.assets(*assets_of(partner, Direction.OUT)) - AssetSelection.checks(
            AssetCheckKey(visit_changes(partner), CheckName.NOTHING_HELD_BACK.value),
            AssetCheckKey(pushed_visits(partner), CheckName.PROJECTION_AGREES.value),
        )
        jobs.append(_job(partner, Direction.OUT, way_out, f"Writes visits and visit records to {partner.title}."))
    return jobs


def _job(
    partner: Partner, direction: Direction, selection: AssetSelection, description: str
) -> UnresolvedAssetJobDefinition:
    return define_asset_job(
        job_name(partner, direction),
        selection=selection,
        description=description,
        tags={"zest/partner": partner.name, "zest/direction": direction.value},
        executor_def=in_process_executor,  # a process a step costs twice the CPU of the run
    )


def busy_tenants(
    instance: DagsterInstance, partner: Partner, direction: Direction, keys: Sequence[str]
) -> frozenset[str]:
    """The tenants for whom a run of the job is queued or running, alone or within a range of `keys`."""
    wanted = RunsFilter(job_name=job_name(partner, direction), statuses=UNFINISHED)
    return frozenset(tenant for run in instance.get_runs(wanted) for tenant in _tenants(run, keys))


def _tenants(run: DagsterRun, keys: Sequence[str]) -> Sequence[str]:
    tags = run.tags
    if PARTITION in tags:
        return [tags[PARTITION]]
    if tags.get(_FIRST) in keys and tags.get(_LAST) in keys:
        return keys[keys.index(tags[_FIRST]) : keys.index(tags[_LAST]) + 1]
    return []


def run_requests(demand: Demand, keys: Sequence[str], wanted: Sequence[str], run_key: str | None) -> list[RunRequest]:
    """At most `demand.max_runs` background runs for all `wanted` tenants. `keys` are all partition keys, in Dagster's
    order. The run with the first of the wanted comes first: the queue starts them in this order.

    They plan no checks: one of a range would be a row for each of its tenants, answered or not. `run_key` begins each
    request's key, so that a tick which is evaluated twice requests once; None: no key, since a sensor's keys are
    remembered for ever.
    """
    place = {tenant: number for number, tenant in enumerate(wanted)}
    blocks = pack(keys, wanted, demand.max_runs)
    return [
        RunRequest(
            run_key=None if run_key is None else f"{run_key}:{block.first}",
            job_name=job_name(demand.partner, demand.direction),
            partition_key=block.first if block.first == block.last else None,
            tags=BACKGROUND_TAGS | {DEMAND: demand.name} | _target_tags(demand, block),
            asset_selection=demand.assets,
            asset_check_keys=[],
        )
        for block in sorted(blocks, key=lambda block: min(place[tenant] for tenant in block.due))
    ]


def _target_tags(demand: Demand, block: KeyRange) -> dict[str, str]:
    if block.first == block.last:
        return {CONNECTION: f"{block.first}:{demand.partner.name}:{demand.direction}"}
    return {_FIRST: block.first, _LAST: block.last}
