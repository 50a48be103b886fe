"""settle: a person's word on what the way in holds. Carried out by the next application; noted in the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from partners.contract import Entity, Partner
from resources.logins import Login
from zest_pipelines.core.guard import Counts, Held
from zest_pipelines.core.identity import Act
from zest_pipelines.flows.plan import plan
from zest_pipelines.flows.services import Services
from zest_pipelines.store import approvals, identities, tenants
from zest_pipelines.store.masters import Scope


@dataclass(frozen=True)
class MassChange:
    """What the guard holds of one entity now."""

    entity: Entity
    population: int
    """Records in force, against which the guard measures."""
    held: Held


def mass_changes(
    services: Services, partner: Partner, tenant: str, entity: Entity | None = None
) -> tuple[MassChange, ...]:
    """What is held of the entity (None: of each that the partner is read for), as it stands now. Raises StoreError."""
    wanted = [each for each in partner.masters if entity in (None, each)]
    found = []
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.connection(tx, tenant, partner.name)
        for each in wanted:
            planned = plan(tx, Scope(tenant, partner.name, each), partner)
            held = planned.held()
            if held is not None:
                found.append(MassChange(each, planned.population, held))
    return tuple(found)


def approve(services: Services, partner: Partner, tenant: str, looked_at: Sequence[MassChange]) -> None:
    """Let the next application of each entity write up to and including what was looked at. Raises StoreError."""
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        for each in looked_at:
            ceiling = Counts(each.held.deletes, each.held.changed)
            approvals.approve(tx, Scope(tenant, partner.name, each.entity), ceiling)
            detail = {"entity": each.entity.value, "deletes": ceiling.deletes, "changed": dict(ceiling.changed)}
            tenants.audit(tx, tenant, "approve", partner.name, detail)


def identity(
    services: Services,
    partner: Partner,
    tenant: str,
    landed_no: int,
    act: Act,
    record_id: UUID | None = None,
    reason: str | None = None,
) -> None:
    """Say who a record is that waits. `record_id`: of a link, ours. Raises StoreError."""
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.connection(tx, tenant, partner.name)
        identities.settle(tx, tenant, partner.name, landed_no, act, record_id, reason)
        detail = {"landed": landed_no, "act": act.value, "record": record_id and str(record_id), "reason": reason}
        tenants.audit(tx, tenant, "settle_identity", partner.name, detail)


def unlink(
    services: Services, partner: Partner, tenant: str, partner_id: str, reason: str, entity: Entity | None = None
) -> None:
    """Say that the partner's record is linked to the wrong one of ours. Raises StoreError."""
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.connection(tx, tenant, partner.name)
        landed_no = identities.unlink(tx, tenant, partner.name, entity, partner_id, reason)
        tenants.audit(tx, tenant, "unlink_identity", partner.name, {"landed": landed_no, "reason": reason})


def own(services: Services, partner: Partner, tenant: str, entity: Entity, reason: str) -> int:
    """Say that the partner owns the masters of a kind that are linked at it; returns of how many that is news.

    Raises StoreError.
    """
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.connection(tx, tenant, partner.name)
        records = identities.own(tx, Scope(tenant, partner.name, entity), reason)
        detail = {"entity": entity.value, "records": records, "reason": reason}
        tenants.audit(tx, tenant, "change_owner", partner.name, detail)
    return records
