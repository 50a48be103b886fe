"""A tenant's week, which a person asks for: pushed, and read back.

Two steps, so that Dagster itself keeps the second from starting when the first one's blocking check failed. One
run takes one week of one tenant. A run of many keys, which a single-run backfill asks for, is refused: its outputs
could only stand for all keys alike, and it carries no tag by which the run queue knows its tenant.
"""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    Failure,
    MaterializeResult,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    multi_asset,
)

from partners.contract import Partner, Recovery
from resources.configurable import HttpResource, PostgresResource, VaultResource
from zest_pipelines.core.weeks import Days, week_from
from zest_pipelines.flows.reports import PeriodReport, ReconcileReport
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration import checks
from zest_pipelines.orchestration.checks import CheckName
from zest_pipelines.orchestration.failures import Reach, failure, fault_of
from zest_pipelines.orchestration.findings import Finding, Worth
from zest_pipelines.orchestration.metadata import about
from zest_pipelines.orchestration.opened import opened_services
from zest_pipelines.orchestration.partitions import TENANT, WEEK, today_in_japan, week_partitions
from zest_pipelines.orchestration.specs import push_week_spec, read_back_spec
from zest_pipelines.orchestration.week_findings import pushing_week, reconciling_week


@dataclass(frozen=True)
class WeekStations:
    """The functions that do the work; `flows` has them."""

    push_period: Callable[[Services, Partner, str, Days], PeriodReport]
    reconcile: Callable[[Services, Partner, str, Days], ReconcileReport]


@dataclass(frozen=True)
class _Step:
    """One of the two steps."""

    name: str
    spec: AssetSpec
    check: CheckName
    act: Callable[[Services, AssetKey, MultiPartitionKey], Finding]


def week_assets(partner: Partner, stations: WeekStations, today: date | None = None) -> list[AssetsDefinition]:
    """The partner's weeks around `today` (in Japan): pushed, and read back if the partner can be read back."""

    def push(services: Services, asset: AssetKey, key: MultiPartitionKey) -> Finding:
        return pushing_week(asset, key, stations.push_period(services, partner, *_tenant_and_days(key)))

    def read_back(services: Services, asset: AssetKey, key: MultiPartitionKey) -> Finding:
        return reconciling_week(asset, key, stations.reconcile(services, partner, *_tenant_and_days(key)))

    partitions = week_partitions(partner, today or today_in_japan())
    steps = [_Step(f"{partner.name}_push_week", push_week_spec(partner), CheckName.WEEK_SETTLED, push)]
    if partner.capability.recovery is not Recovery.NONE:
        steps.append(
            _Step(f"{partner.name}_read_week_back", read_back_spec(partner), CheckName.EQUALS_READ_BACK, read_back)
        )
    return [_asset(step, partitions) for step in steps]


def _asset(step: _Step, partitions: MultiPartitionsDefinition) -> AssetsDefinition:
    @multi_asset(
        name=step.name,
        specs=[step.spec],
        check_specs=checks.specs(step.spec.key, [step.check], partitions, blocking=True),
        partitions_def=partitions,
    )
    def make(
        context: AssetExecutionContext, postgres: PostgresResource, http: HttpResource, vault: VaultResource
    ) -> Iterator[MaterializeResult[None] | AssetCheckResult]:
        key = _key(context, partitions)
        with opened_services(postgres, http, vault) as services:
            yield from _told(context, step, key, lambda: step.act(services, step.spec.key, key))

    return make


def _key(context: AssetExecutionContext, partitions: MultiPartitionsDefinition) -> MultiPartitionKey:
    if not context.has_partition_key:
        raise Failure(
            "One run takes one week of one tenant: launch it again with a partition, and several weeks or tenants as "
            'a backfill with "Multiple runs".',
            allow_retries=False,
        )
    key = context.partition_key
    assert isinstance(key, MultiPartitionKey)
    weeks = partitions.get_partitions_def_for_dimension(WEEK).get_partition_keys()
    if (week := key.keys_by_dimension[WEEK]) not in weeks:
        raise Failure(
            f"{week} is none of the weeks from {weeks[0]} to {weeks[-1]} (a week's key is its Monday). If the UI "
            "offers it, start the code server again; a job pushes any other days: push_period.",
            allow_retries=False,
        )
    return key


def _tenant_and_days(key: MultiPartitionKey) -> tuple[str, Days]:
    parts = key.keys_by_dimension
    return parts[TENANT], week_from(date.fromisoformat(parts[WEEK]))


def _told(
    context: AssetExecutionContext, step: _Step, key: str, act: Callable[[], Finding]
) -> Iterator[MaterializeResult[None] | AssetCheckResult]:
    """Do it and yield what came of it: Dagster heeds a blocking check only if it is yielded. Raises Failure."""
    try:
        finding = act()
    except Exception as error:  # noqa: BLE001  # shown as a sentence of ours, without what a foreign one may quote
        fault = fault_of(error, *about(step.spec.key, key))
        if fault.reach is not Reach.RUN:
            # Logged: of a key that is gone again, because no such tenant is connected, nothing can be yielded.
            context.log_event(checks.broken(step.spec.key, key, step.check, fault))
        raise failure([(key, fault)]) from None
    if finding.worth is not Worth.NOTHING:
        yield MaterializeResult(asset_key=finding.asset, metadata=finding.metadata)
    for check in finding.checks:
        yield AssetCheckResult(
            asset_key=check.asset_key,
            check_name=check.check_name,
            passed=check.passed,
            severity=check.severity,
            description=check.description,
            metadata=check.metadata,
        )
    if finding.fault is not None:
        raise failure([(key, finding.fault)])
