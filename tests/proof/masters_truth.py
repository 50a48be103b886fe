"""What the product keeps of a tenant's clients and staff, judged by what the partner's sandbox has.

The sandbox's records go through the partner's own mapping here, without a reading, a page or a table in between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from conftest import Tenant

from partners.contract import Client, Entity, Master, SourceRecord, Staff
from partners.fhir.mapping import PATIENT_SYSTEM, STAFF_SYSTEM
from partners.fhir.reading import client_record, staff_record
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login

KINDS: Mapping[Entity, str] = {Entity.CLIENT: "Patient", Entity.STAFF: "Practitioner"}
_SETTINGS = {
    PATIENT_SYSTEM: SandboxConfig().patient_identifier_system,
    STAFF_SYSTEM: SandboxConfig().staff_identifier_system,
}
_FIELDS: Mapping[Entity, Sequence[str]] = {
    entity: [each.name for each in fields(kind) if each.name != "number"]
    for entity, kind in ((Entity.CLIENT, Client), (Entity.STAFF, Staff))
}
"""Those that the product keeps in the master itself."""


def live_ids(sandbox: RunningSandbox, entity: Entity) -> frozenset[str]:
    """The partner's ids of the records that it has."""
    return frozenset(each["id"] for each in sandbox.state(KINDS[entity]))


def differences(tenant: Tenant) -> list[str]:
    """Where the product's masters are not what the partner has. Empty after a good reading."""
    return [each for entity in tenant.partner.reads for each in _differences(tenant, entity)]


def false_deletes(tenant: Tenant) -> list[str]:
    """Records that once landed as gone though the partner has them. Its people must not use an id again."""
    wrong = []
    for entity in tenant.partner.reads:
        statement = "SELECT partner_id FROM sync.landed_version WHERE entity = :entity AND fingerprint IS NULL"
        gone = {row.partner_id for row in tenant.sql(statement, Login.OPERATOR, entity=entity.value)}
        wrong += [f"{each} is gone, and the partner has it" for each in sorted(gone & live_ids(tenant.sandbox, entity))]
    return wrong


def _differences(tenant: Tenant, entity: Entity) -> list[str]:
    theirs, ours = _theirs(tenant, entity), _ours(tenant, entity)
    wrong = [f"{each} is missing" for each in sorted(theirs.keys() - ours.keys())]
    wrong += [f"{each} is still in force" for each in sorted(ours.keys() - theirs.keys()) if ours[each].active]
    for each in sorted(theirs.keys() & ours.keys()):
        names = [name for name in _FIELDS[entity] if getattr(theirs[each], name) != getattr(ours[each], name)]
        wrong += [f"{each} differs in {', '.join(names)}"] if names else []
    return wrong


def _theirs(tenant: Tenant, entity: Entity) -> dict[str, Master]:
    found = {}
    for record in _records(tenant.sandbox, entity):
        master = tenant.partner.map(entity, record.content, _SETTINGS)
        assert isinstance(master, Client | Staff), f"{record.partner_id} cannot be mapped"
        found[record.partner_id] = master
    return found


def _ours(tenant: Tenant, entity: Entity) -> dict[str, Any]:
    statement = f"""
        SELECT i.partner_id, m.* FROM sync.identity i
        JOIN schedule.{entity} m ON m.tenant_id = i.tenant_id AND m.{entity}_id = i.record_id
        WHERE i.partner = :partner AND i.entity = :entity AND i.valid_to IS NULL
    """
    rows = tenant.sql(statement, Login.OPERATOR, partner=tenant.partner.name, entity=entity.value)
    return {row.partner_id: row for row in rows}


def _records(sandbox: RunningSandbox, entity: Entity) -> list[SourceRecord]:
    people = sandbox.state(KINDS[entity])
    if entity is Entity.CLIENT:
        return [client_record(each) for each in people]
    held = defaultdict(list)
    for role in sandbox.state("PractitionerRole"):
        held[role["practitioner"]["reference"]].append(role)
    return [staff_record(each, held[f"Practitioner/{each['id']}"]) for each in people]
