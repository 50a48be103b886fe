"""operate: what an operator does to a connection by hand. Each act is noted in the audit log with its login."""

from __future__ import annotations

from uuid import UUID

from partners.contract import Entity, Partner
from resources.logins import Login
from zest_pipelines.flows.reports import Problem, StoppedReport
from zest_pipelines.flows.services import Services
from zest_pipelines.store import decisions, reports, requests, tenants
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.errors import NotOpenError, UnknownRecordError
from zest_pipelines.store.keys import Target
from zest_pipelines.store.requests import ALL, Selection, StoppedGroup

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


def release(services: Services, partner: Partner, tenant: str, selection: Selection = ALL) -> UUID:
    """Have what is stopped (parked, in conflict, waiting for a retry) tried again by the next push.

    A record in conflict is overwritten at the partner. Returns the request's id. Raises StoreError: UnknownRecordError,
    and NotOpenError of a record of which nothing was ever for that partner.
    """
    entity, record_id, reason, days = selection.entity, selection.record_id, selection.reason, selection.days
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        _check(tx, partner, tenant, selection)
        request_id = requests.retry(tx, Target(tenant, partner.name), selection)
        named = {"entity": entity, "record": record_id and str(record_id), "reason": reason, "days": days and str(days)}
        tenants.audit(tx, tenant, "release", partner.name, {name: value for name, value in named.items() if value})
    return request_id


def abandon(services: Services, partner: Partner, tenant: str, entity: Entity, record_id: UUID, reason: str) -> None:
    """Give up the open version of one record: the next push ends it without sending. A newer edit is sent as ever.

    `reason` is kept; it holds nothing of a patient. Raises StoreError: UnknownRecordError, NotOpenError, SettledError,
    and without a reason.
    """
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.connection(tx, tenant, partner.name)
        version = decisions.open_version(tx, Target(tenant, partner.name), entity, record_id)
        decisions.abandon(tx, Target(tenant, partner.name), entity, record_id, version, reason)
        tenants.audit(tx, tenant, "abandon", partner.name, _noted(entity, record_id, version, reason))


def abandon_all(services: Services, partner: Partner, tenant: str, reason: str) -> int:
    """Give up all that is open at the connection, such as when the tenant is gone; how many records.

    Raises StoreError, without a reason too.
    """
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.connection(tx, tenant, partner.name)
        records = decisions.abandon_all(tx, Target(tenant, partner.name), reason)
        tenants.audit(tx, tenant, "abandon_all", partner.name, {"records": records, "reason": reason.strip()})
    return records


def adopt(
    services: Services, partner: Partner, tenant: str, entity: Entity, record_id: UUID, partner_id: str, reason: str
) -> None:
    """Say that the partner has the open version of one record, under this id of its own: it ends as delivered.

    Or that a settled one, which a late sender may have touched, is right there. Later edits go to that record of the
    partner's. Raises as `abandon`, but for SettledError.
    """
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.connection(tx, tenant, partner.name)
        version = decisions.adoptable_version(tx, Target(tenant, partner.name), entity, record_id)
        decisions.adopt(tx, Target(tenant, partner.name), entity, record_id, version, partner_id, reason)
        tenants.audit(tx, tenant, "adopt", partner.name, _noted(entity, record_id, version, reason))


def would_release(
    services: Services, partner: Partner, tenant: str, selection: Selection = ALL
) -> tuple[StoppedGroup, ...]:
    """What `release` would have tried again, in groups. Raises as that."""
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        _check(tx, partner, tenant, selection)
        return requests.groups(tx, Target(tenant, partner.name), selection)


def stopped(services: Services, partner: Partner, tenant: str, selection: Selection = ALL) -> StoppedReport:
    """What is stopped now, of what the same selection asked for in `release`. Raises StoreError."""
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        found = requests.stopped(tx, Target(tenant, partner.name), selection)
    again = [each for each in found if not each.is_asked_again]
    problems = [
        Problem(each.entity, str(each.record_id), each.state, each.reason, each.params)
        for each in again[:_MOST_PROBLEMS]
    ]
    return StoppedReport(len(again), len(found) - len(again), tuple(problems))


def _check(tx: Transaction, partner: Partner, tenant: str, selection: Selection) -> None:
    """The connection is there, and the record, if one is named, and something of it was for that partner once."""
    tenants.connection(tx, tenant, partner.name)
    entity, record_id = selection.entity, selection.record_id
    if record_id is None:
        return
    kinds = partner.writes if entity is None else (entity,)
    steps = [(kind, step) for kind in kinds for step in reports.timeline(tx, tenant, kind, record_id)]
    if not steps:
        raise UnknownRecordError(tenant, entity or "record", record_id)
    if not any(step.partner == partner.name for _, step in steps):
        raise NotOpenError(tenant, partner.name, steps[0][0], record_id)


def _noted(entity: Entity, record_id: UUID, version: int, reason: str) -> dict[str, object]:
    """What the audit log says of a word on one record."""
    return {"entity": entity.value, "record": str(record_id), "version": version, "reason": reason.strip()}
