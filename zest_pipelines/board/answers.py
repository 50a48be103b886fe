"""What the board says, as JSON: its pages show the same, and `zest badges` too."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from partners.contract import Entity
from partners.reasons import Language, sentences
from partners.registry import PARTNERS
from zest_pipelines.board.words import words
from zest_pipelines.core.badge import Badge, worst
from zest_pipelines.core.identifiers import landed_id
from zest_pipelines.core.reference import reference
from zest_pipelines.store import badges, reports
from zest_pipelines.store.database import Transaction

Json = dict[str, Any]

MOST_LISTED = 200


def overview(tx: Transaction, tenant: str, language: Language) -> Json:
    """How the tenant's connections stand, and how many records have which badge for which reason."""
    connections = [
        {"partner": each.partner, "title": _title(each.partner), "badge": each.badge}
        | {"since": utc(each.since), "next_at": utc(each.next_at)}
        | _words(each.reason, each.params, reference(tenant, each.partner), language)
        for each in badges.of_connections(tx, tenant)
    ]
    records = [
        {"partner": each.partner, "title": _title(each.partner), "entity": each.entity, "badge": each.badge}
        | {"records": each.records, "oldest": utc(each.oldest), "next_at": utc(each.next_at)}
        | _words(each.reason, each.params, reference(tenant, each.partner), language, is_of_many=each.records > 1)
        for each in badges.digest(tx, tenant)
    ]
    return {"tenant": tenant, "connections": connections, "records": records}


def group(
    tx: Transaction, tenant: str, partner: str, entity: Entity, badge: Badge, reason: str | None, language: Language
) -> Json:
    """The records that have that badge for that reason, oldest first, at most MOST_LISTED."""
    found = badges.members(tx, tenant, partner, entity, badge.value, reason, MOST_LISTED + 1)
    listed = [
        {"record_id": None if each.record_id is None else str(each.record_id), "landed_no": each.landed_no}
        | {"since": utc(each.since), "on_date": None if each.on_date is None else each.on_date.isoformat()}
        | _words(reason, each.params, reference(tenant, partner, entity.value, _id(each)), language)
        for each in found[:MOST_LISTED]
    ]
    about = {"partner": partner, "title": _title(partner), "entity": entity.value, "badge": badge.value}
    return about | {"reason": reason, "records": listed, "has_more": len(found) > MOST_LISTED}


def record(tx: Transaction, tenant: str, entity: Entity, record_id: UUID, language: Language) -> Json | None:
    """A record's badges and its whole life, oldest first. None: the tenant has no such record."""
    steps = reports.timeline(tx, tenant, entity, record_id)
    if not steps:
        return None
    shown = badges.of_record(tx, tenant, entity, record_id)

    def number(partner: str | None) -> str:
        return reference(tenant, partner or "", entity.value, str(record_id))

    return {
        "entity": entity.value,
        "record_id": str(record_id),
        "badge": worst(Badge(each.badge) for each in shown).value,
        "partners": [
            {"partner": each.partner, "title": _title(each.partner), "badge": each.badge}
            | {"next_at": utc(each.not_before)}
            | _words(each.reason, each.params, number(each.partner), language)
            for each in shown
        ],
        "timeline": [
            {"at": utc(each.at), "partner": each.partner, "title": _title(each.partner), "what": each.what}
            | {"version": each.version, "outcome": each.outcome, "why": each.params.get("why")}
            | _words(each.reason, each.params, number(each.partner), language)
            for each in steps
        ],
    }


def calls(tx: Transaction, tenant: str, entity: Entity, record_id: UUID) -> Json:
    """What was asked and answered about a record, masked. Whoever shows it notes that in the audit log."""
    kept = [vars(each) | {"at": utc(each.at)} for each in reports.calls(tx, tenant, entity, record_id)]
    return {"entity": entity.value, "record_id": str(record_id), "calls": kept}


def utc(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC."""
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _id(member: badges.GroupMember) -> str:
    """The id by which the record is spoken of: the product's own, else what stands for the partner's."""
    return landed_id(member.landed_no) if member.landed_no is not None else str(member.record_id)


def _title(partner: str | None) -> str | None:
    return PARTNERS[partner].title if partner is not None and partner in PARTNERS else partner


def _words(
    reason: str | None, params: Mapping[str, str], number: str, language: Language, *, is_of_many: bool = False
) -> Json:
    """Of many, what they do not have in common is to be seen at each of them."""
    missing = words(language)["each_its_own"] if is_of_many else ""
    message, action = (None, None) if reason is None else sentences(reason, params, number, language, missing)
    return {"reason": reason, "message": message, "next_action": action}
