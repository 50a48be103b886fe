"""The assets of a partner, made from its declaration: one step for the way in, one for the way out.

Each way is one multi-asset, because assets that log their own events per tenant would make the steps after
them skip. Nothing is decided here: the stations do the work, and their reports are turned into metadata and
checks.
"""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from dagster import (
    AssetCheckKey,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetsDefinition,
    MaterializeResult,
    PartitionsDefinition,
    multi_asset,
)

from partners.contract import Entity, Partner
from resources.configurable import HttpResource, PostgresResource, VaultResource
from zest_pipelines.core.boxes import BOX
from zest_pipelines.flows.reports import AccumulateReport, ApplyReport, DiffReport, LandReport, PlanReport, PushReport
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration import checks
from zest_pipelines.orchestration.checks import CheckName
from zest_pipelines.orchestration.demands import still_due
from zest_pipelines.orchestration.findings import Finding, accumulating, applying, diffing, landing, planning, pushing
from zest_pipelines.orchestration.inbound_checks import certificate_lasts
from zest_pipelines.orchestration.opened import opened_services
from zest_pipelines.orchestration.partitions import tenant_partitions
from zest_pipelines.orchestration.specs import (
    applied,
    changes,
    inbound_specs,
    landed,
    outbound_specs,
    plan_spec,
    pushed_visits,
    visit_changes,
)
from zest_pipelines.orchestration.steps import TENANTS_AT_ONCE, Chain, Step, work_through

_OF_LANDED = (CheckName.SNAPSHOT_CERTIFIED, CheckName.SHAPE_KNOWN, CheckName.FRESH)
"""What is asked of everything that lands."""


@dataclass(frozen=True)
class Stations:
    """The functions that do the work; `flows` has them."""

    land: Callable[[Services, Partner, str, Entity], LandReport]
    diff: Callable[[Services, Partner, str, Entity], DiffReport]
    apply: Callable[[Services, Partner, str, Entity], ApplyReport]
    accumulate: Callable[[Services, Partner, str], AccumulateReport]
    push: Callable[[Services, Partner, str, float], PushReport]
    """The last is for how many seconds it may begin calls."""
    plans: Callable[[Services, Partner, str], PlanReport]
    """For a partner that gives plans."""
    certificate_until: Callable[[Services, Partner, str], datetime | None]


def inbound_assets(partner: Partner, stations: Stations) -> AssetsDefinition:
    """The way in: land, diff and apply of every master entity that the partner is read for, and its plans if it gives
    any."""
    partitions = tenant_partitions(partner)
    specs = [spec for entity in partner.masters for spec in inbound_specs(partner, entity)]
    check_specs = [spec for entity in partner.masters for spec in _inbound_checks(partner, entity, partitions)]
    if partner.read_plans is not None:
        specs.append(plan_spec(partner))
        check_specs += checks.specs(landed(partner, Entity.PLAN), [*_OF_LANDED, CheckName.PLAN_AGREES], partitions)

    @multi_asset(
        name=f"{partner.name}_bring_in",  # a job of the same name as an op is refused
        description=f"Reads masters from {partner.title} and applies what differs, tenant by tenant.",
        specs=specs,
        check_specs=check_specs,
        partitions_def=partitions,
        can_subset=True,
    )
    def bring_in(
        context: AssetExecutionContext, postgres: PostgresResource, http: HttpResource, vault: VaultResource
    ) -> Iterator[MaterializeResult[None]]:
        with opened_services(postgres, http, vault, TENANTS_AT_ONCE) as services:
            yield from work_through(
                context,
                lambda tenant, _: inbound_chains(
                    services, stations, partner, tenant, context.selected_asset_check_keys
                ),
                lambda tenants: still_due(services, partner, context.run.tags, tenants),
            )

    return bring_in


def outbound_assets(partner: Partner, stations: Stations) -> AssetsDefinition:
    """The way out: accumulate and push."""
    partitions = tenant_partitions(partner)

    @multi_asset(
        name=f"{partner.name}_send_out",
        description=f"Writes visits and visit records to {partner.title}, tenant by tenant.",
        specs=outbound_specs(partner),
        check_specs=checks.specs(
            pushed_visits(partner),
            [CheckName.NOT_STOPPED, CheckName.OLDEST_PENDING_AGE, CheckName.NOTHING_PARKED],
            partitions,
        ),
        partitions_def=partitions,
        can_subset=True,
    )
    def send_out(
        context: AssetExecutionContext, postgres: PostgresResource, http: HttpResource, vault: VaultResource
    ) -> Iterator[MaterializeResult[None]]:
        with opened_services(postgres, http, vault, TENANTS_AT_ONCE) as services:
            yield from work_through(
                context,
                lambda tenant, turn: outbound_chains(services, stations, partner, tenant, turn),
                lambda tenants: still_due(services, partner, context.run.tags, tenants),
            )

    return send_out


def _inbound_checks(
    partner: Partner, entity: Entity, partitions: PartitionsDefinition[str]
) -> Iterable[AssetCheckSpec]:
    of_landed = list(_OF_LANDED)
    if entity is partner.masters[0] and checks.shows_certificates(partner):
        of_landed.append(CheckName.CERTIFICATE_LASTS)
    of_applied = [
        CheckName.NO_MASS_CHANGE,
        CheckName.NOTHING_REJECTED,
        CheckName.EQUALS_LANDED,
        CheckName.IDENTITIES_SETTLED,
    ]
    yield from checks.specs(landed(partner, entity), of_landed, partitions)
    yield from checks.specs(applied(partner, entity), of_applied, partitions)


def inbound_chains(
    services: Services, stations: Stations, partner: Partner, tenant: str, planned: Collection[AssetCheckKey] = ()
) -> Iterable[Chain]:
    """A chain of three an entity; each step also takes up what an earlier run left. Plans come last: who is linked
    decides what is compared. `planned`: checks that the run owes an answer."""
    chains = [_inbound_chain(services, stations, partner, tenant, entity, planned) for entity in partner.masters]
    return chains if partner.read_plans is None else [*chains, _plan_chain(services, stations, partner, tenant)]


def _inbound_chain(
    services: Services,
    stations: Stations,
    partner: Partner,
    tenant: str,
    entity: Entity,
    planned: Collection[AssetCheckKey],
) -> Chain:
    seen, differs, taken = landed(partner, entity), changes(partner, entity), applied(partner, entity)

    def land() -> Finding:
        found = landing(seen, tenant, stations.land(services, partner, tenant, entity))
        if AssetCheckKey(seen, CheckName.CERTIFICATE_LASTS) not in planned:  # a reading is no news of it
            return found
        until = stations.certificate_until(services, partner, tenant)
        return replace(found, checks=(*found.checks, certificate_lasts(seen, tenant, until, services.now())))

    def diff() -> Finding:
        return diffing(differs, stations.diff(services, partner, tenant, entity))

    def apply() -> Finding:
        return applying(taken, tenant, stations.apply(services, partner, tenant, entity))

    return [
        Step(seen, (seen, CheckName.SNAPSHOT_CERTIFIED), land),
        Step(differs, (taken, CheckName.EQUALS_LANDED), diff),
        Step(taken, (taken, CheckName.EQUALS_LANDED), apply),
    ]


def _plan_chain(services: Services, stations: Stations, partner: Partner, tenant: str) -> Chain:
    seen = landed(partner, Entity.PLAN)

    def take() -> Finding:
        return planning(seen, tenant, stations.plans(services, partner, tenant))

    return [Step(seen, (seen, CheckName.SNAPSHOT_CERTIFIED), take)]


def outbound_chains(
    services: Services, stations: Stations, partner: Partner, tenant: str, turn: float = BOX
) -> Iterable[Chain]:
    """Chains of one: what had been accumulated before goes out even if accumulating fails now. `turn`: seconds for the
    push."""
    queued, sent = visit_changes(partner), pushed_visits(partner)

    def accumulate() -> Finding:
        return accumulating(queued, stations.accumulate(services, partner, tenant))

    def push() -> Finding:
        return pushing(sent, tenant, stations.push(services, partner, tenant, turn), services.now())

    return [
        [Step(queued, (sent, CheckName.NOT_STOPPED), accumulate)],
        [Step(sent, (sent, CheckName.NOT_STOPPED), push)],
    ]
