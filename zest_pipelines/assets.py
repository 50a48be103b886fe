"""The assets of a partner, made from its declaration: one step for the way in, one for the way out.

Each way is one multi-asset, because assets that log their own events per tenant would make the steps after
them skip. Nothing is decided here: the stations do the work, and their reports are turned into metadata and
checks.
"""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    MaterializeResult,
    multi_asset,
)

from partners.contract import MASTERS, Entity, Partner
from resources.configurable import HttpResource, PostgresResource, VaultResource
from resources.logins import LoginsError
from resources.private_files import PrivateFileError
from resources.vault import VaultError
from zest_pipelines import checks
from zest_pipelines.checks import CheckName
from zest_pipelines.failures import failure, fault_of
from zest_pipelines.findings import Finding, accumulating, applying, diffing, landing, pushing
from zest_pipelines.flows.reports import AccumulateReport, ApplyReport, DiffReport, LandReport, PushReport
from zest_pipelines.flows.services import Services
from zest_pipelines.partitions import tenant_partitions
from zest_pipelines.steps import Chain, Step, work_through
from zest_pipelines.store.database import Database

_OWNERS = ("team:integrations",)
_PLURALS = {Entity.CLIENT: "clients", Entity.STAFF: "staff"}


@dataclass(frozen=True)
class Stations:
    """The functions that do the work; `flows` has them."""

    land: Callable[[Services, Partner, str, Entity], LandReport]
    diff: Callable[[Services, Partner, str, Entity], DiffReport]
    apply: Callable[[Services, Partner, str, Entity], ApplyReport]
    accumulate: Callable[[Services, Partner, str], AccumulateReport]
    push: Callable[[Services, Partner, str], PushReport]


def landed(partner: Partner, entity: Entity) -> AssetKey:
    """What the partner was last seen to have."""
    return AssetKey([partner.name, f"landed_{_PLURALS[entity]}"])


def changes(partner: Partner, entity: Entity) -> AssetKey:
    """What differs between landed and applied."""
    return AssetKey([partner.name, f"{entity.value}_changes"])


def applied(partner: Partner, entity: Entity) -> AssetKey:
    """What the product has taken over."""
    return AssetKey([partner.name, f"applied_{_PLURALS[entity]}"])


def visit_changes(partner: Partner) -> AssetKey:
    """What the partner has to be told."""
    return AssetKey([partner.name, "visit_changes"])


def pushed_visits(partner: Partner) -> AssetKey:
    """What the partner has been told."""
    return AssetKey([partner.name, "pushed_visits"])


def masters(partner: Partner) -> tuple[Entity, ...]:
    """The master entities that the partner is read for, in the order in which they are read."""
    return tuple(entity for entity in MASTERS if entity in partner.reads)


def inbound_assets(partner: Partner, stations: Stations) -> AssetsDefinition:
    """The way in: land, diff and apply of every master entity that the partner is read for."""
    partitions = tenant_partitions(partner)

    @multi_asset(
        name=f"{partner.name}_bring_in",  # a job of the same name as an op is refused
        description=f"Reads masters from {partner.title} and applies what differs, tenant by tenant.",
        specs=[spec for entity in masters(partner) for spec in _inbound_specs(partner, entity)],
        check_specs=[
            spec
            for entity in masters(partner)
            for spec in (
                *checks.specs(landed(partner, entity), [CheckName.SNAPSHOT_CERTIFIED], partitions),
                *checks.specs(
                    applied(partner, entity),
                    [CheckName.NOTHING_REJECTED, CheckName.EQUALS_LANDED],
                    partitions,
                ),
            )
        ],
        partitions_def=partitions,
        can_subset=True,
    )
    def bring_in(
        context: AssetExecutionContext, postgres: PostgresResource, http: HttpResource, vault: VaultResource
    ) -> Iterator[MaterializeResult[None]]:
        wanted = context.selected_asset_keys
        with _services(postgres, http, vault) as services:
            yield from work_through(
                context,
                lambda tenant: [
                    [
                        step
                        for step in _inbound_chain(services, stations, partner, tenant, entity)
                        if step.asset in wanted
                    ]
                    for entity in masters(partner)
                ],
            )

    return bring_in


def outbound_assets(partner: Partner, stations: Stations) -> AssetsDefinition:
    """The way out: accumulate and push."""
    partitions = tenant_partitions(partner)

    @multi_asset(
        name=f"{partner.name}_send_out",
        description=f"Writes visits and visit records to {partner.title}, tenant by tenant.",
        specs=_outbound_specs(partner),
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
        wanted = context.selected_asset_keys
        with _services(postgres, http, vault) as services:
            yield from work_through(
                context,
                # Chains of one: what had been accumulated before goes out even if accumulating fails now.
                lambda tenant: [
                    [step] for step in _outbound_steps(services, stations, partner, tenant) if step.asset in wanted
                ],
            )

    return send_out


@contextmanager
def _services(postgres: PostgresResource, http: HttpResource, vault: VaultResource) -> Iterator[Services]:
    """What the stations need, its connections closed at the end."""
    try:
        services = Services(Database(postgres.logins()), vault.vault(), http.http())
    except (LoginsError, PrivateFileError, VaultError) as error:
        raise failure([("all tenants", fault_of(error))]) from None
    try:
        yield services
    finally:
        services.database.close()


# --- What is declared ---------------------------------------------------------------------------------


def _inbound_specs(partner: Partner, entity: Entity) -> Iterable[AssetSpec]:
    what = _PLURALS[entity]
    yield _spec(
        partner,
        landed(partner, entity),
        entity,
        f"The {what} that {partner.title} has, as last read. Written by the landing alone; a row only where "
        "something differs. Red: the reading broke off or was incomplete; the check says why and what to do.",
        kinds={"http", "postgres"},
        code_version=partner.mapping_version,
    )
    yield _spec(
        partner,
        changes(partner, entity),
        entity,
        f"Differences (取込差分) between the {what} landed and applied. Written by the diff alone. Red: "
        "the diff could not be made; see the run.",
        deps=[landed(partner, entity)],
    )
    yield _spec(
        partner,
        applied(partner, entity),
        entity,
        f"The {what} taken over into ZEST SCHEDULE, and one result (取込結果) for each difference. "
        "Written by the apply alone. Red: records were rejected or left behind; the check says what to do.",
        deps=[changes(partner, entity)],
        code_version=partner.mapping_version,
    )


def _outbound_specs(partner: Partner) -> list[AssetSpec]:
    return [
        _spec(
            partner,
            visit_changes(partner),
            Entity.VISIT,
            f"Versions of visits and visit records that {partner.title} has to receive (反映履歴). "
            "Written by the accumulation alone. Red: edits could not be turned into changes; see the run.",
            deps=[applied(partner, entity) for entity in masters(partner)],
        ),
        _spec(
            partner,
            pushed_visits(partner),
            Entity.VISIT,
            f"What became of each change at {partner.title} (送信意図, 反映結果). Written by the push alone. "
            "Red: the checks say what waits, since when, and what to do.",
            deps=[visit_changes(partner)],
            kinds={"http", "postgres"},
            code_version=partner.mapping_version,
        ),
    ]


def _spec(
    partner: Partner,
    key: AssetKey,
    entity: Entity,
    description: str,
    *,
    deps: Iterable[AssetKey] = (),
    kinds: frozenset[str] | set[str] = frozenset({"postgres"}),
    code_version: str | None = None,
) -> AssetSpec:
    return AssetSpec(
        key,
        deps=deps,
        description=description,
        skippable=True,
        group_name=partner.name,
        owners=_OWNERS,
        kinds=set(kinds),
        tags={"zest/partner": partner.name, "zest/entity": entity.value},
        code_version=code_version,
    )


# --- What is done -------------------------------------------------------------------------------------


def _inbound_chain(services: Services, stations: Stations, partner: Partner, tenant: str, entity: Entity) -> Chain:
    seen, differs, taken = landed(partner, entity), changes(partner, entity), applied(partner, entity)

    def land() -> Finding:
        return landing(seen, tenant, stations.land(services, partner, tenant, entity))

    def diff() -> Finding:
        return diffing(differs, stations.diff(services, partner, tenant, entity))

    def apply() -> Finding:
        return applying(taken, tenant, stations.apply(services, partner, tenant, entity))

    return [
        Step(seen, (seen, CheckName.SNAPSHOT_CERTIFIED), land),
        Step(differs, (taken, CheckName.EQUALS_LANDED), diff),
        Step(taken, (taken, CheckName.EQUALS_LANDED), apply),
    ]


def _outbound_steps(services: Services, stations: Stations, partner: Partner, tenant: str) -> Chain:
    queued, sent = visit_changes(partner), pushed_visits(partner)

    def accumulate() -> Finding:
        return accumulating(queued, stations.accumulate(services, partner, tenant))

    def push() -> Finding:
        return pushing(sent, tenant, stations.push(services, partner, tenant), services.now())

    return [
        Step(queued, (sent, CheckName.NOT_STOPPED), accumulate),
        Step(sent, (sent, CheckName.NOT_STOPPED), push),
    ]
