"""operate: what an operator does to a connection by hand. Each act is noted in the audit log with its login."""

from __future__ import annotations

from uuid import UUID

from partners.contract import Entity, Partner
from resources.logins import Login
from zest_pipelines.flows.reports import Problem, StoppedReport
from zest_pipelines.flows.services import Services
from zest_pipelines.store import reports, requests, tenants
from zest_pipelines.store.deliveries import Target
from zest_pipelines.store.errors import UnknownRecordError

_MOST_PROBLEMS = 20


def find(services: Services, partner: Partner, tenant: str) -> None:
    """Make sure that the tenant is connected. Raises UnknownTenantError, UnknownConnectionError."""
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.connection(tx, tenant, partner.name)


def pause(services: Services, partner: Partner, tenant: str, reason: str) -> None:
    """Stop all calls to the partner for the tenant; a call under way, or a reading, comes to its end. Nothing is lost.

    `reason` is shown to people and kept; it holds nothing of a patient. Raises StoreError, without a reason too.
    """
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.pause(tx, tenant, partner.name, reason)


def resume(services: Services, partner: Partner, tenant: str) -> None:
    """Let it all go on; what is parked stays parked. Raises StoreError."""
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.resume(tx, tenant, partner.name)


def ask_again(
    services: Services, partner: Partner, tenant: str, entity: Entity | None = None, record_id: UUID | None = None
) -> None:
    """Have what is stopped (parked, in conflict, waiting for a retry) tried again by the next push; None means all.

    A record in conflict is overwritten at the partner. Raises StoreError, UnknownRecordError among them.
    """
    kinds = partner.writes if entity is None else (entity,)
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.connection(tx, tenant, partner.name)
        if record_id and not any(reports.timeline(tx, tenant, kind, record_id) for kind in kinds):
            raise UnknownRecordError(tenant, entity or "record", record_id)
        requests.retry(tx, Target(tenant, partner.name), entity, record_id)
        named = {"entity": entity, "record": record_id and str(record_id)}
        tenants.audit(tx, tenant, "ask_again", partner.name, {name: value for name, value in named.items() if value})


def stopped(
    services: Services, partner: Partner, tenant: str, entity: Entity | None = None, record_id: UUID | None = None
) -> StoppedReport:
    """What is stopped now, of what the same arguments asked for in `ask_again`. Raises StoreError."""
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        found = requests.stopped(tx, Target(tenant, partner.name), entity, record_id)
    again = [each for each in found if not each.is_asked_again]
    problems = [
        Problem(each.entity, str(each.record_id), each.state, each.reason, each.params)
        for each in again[:_MOST_PROBLEMS]
    ]
    return StoppedReport(len(again), len(found) - len(again), tuple(problems))
