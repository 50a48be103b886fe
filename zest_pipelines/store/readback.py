"""What a partner should have of some days, from our own tables: the other half of reading it back.

A record belongs to the day of its newest change and to no other, wherever earlier versions of it lay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from partners.contract import Entity, Verb
from resources.logins import Login
from zest_pipelines.core.weeks import Days
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.keys import Target
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Pushed:
    """A record whose newest version was delivered, with all that its command was built of."""

    entity: Entity
    record_id: UUID
    version: int
    verb: Verb
    """UPDATE, whatever it was sent as; CANCEL if the partner should hold it as cancelled."""
    idempotency_key: str
    image: Mapping[str, Any]
    links: Mapping[str, str]
    """Entity to the partner's id, as it was sent: a client linked anew since is no news to the partner's copy."""
    partner_id: str
    partner_version: str


@dataclass(frozen=True)
class PushedDays:
    """The records of some days, as they stood in one look at the tables."""

    records: tuple[Pushed, ...]
    """Visits first. Not those that ended without a call (not needed, abandoned): nothing was said to the partner."""
    open: int
    """How many the partner is to have otherwise than it has them now."""


# Index: change_of_day, then one look-up a row in the others. The newest change of a record is what is pending of it or
# what is settled of it. What was settled without an intent was not sent by us, and is nothing to compare.
_PUSHED = query(
    "pushed_records",
    Login.PUSH,
    """
    SELECT c.entity, c.record_id, c.version, c.image, s.version IS DISTINCT FROM c.version AS is_open,
           s.is_cancelled, s.partner_id, s.partner_version, sent.key, sent.links
    FROM sync.change c
    LEFT JOIN sync.pending p ON p.tenant_id = c.tenant_id AND p.partner = c.partner AND p.entity = c.entity
        AND p.record_id = c.record_id
    LEFT JOIN sync.standing s ON s.tenant_id = c.tenant_id AND s.partner = c.partner AND s.entity = c.entity
        AND s.record_id = c.record_id
    LEFT JOIN sync.result ended ON ended.tenant_id = c.tenant_id AND ended.partner = c.partner
        AND ended.entity = c.entity AND ended.record_id = c.record_id AND ended.version = c.version
        AND ended.month = c.month AND ended.outcome IN ('delivered', 'delivered_with_warning')
    LEFT JOIN sync.intent sent ON sent.month = ended.month AND sent.intent_id = ended.intent_id
    WHERE c.tenant_id = :tenant AND c.partner = :partner
      AND c.on_date BETWEEN CAST(:first AS date) AND CAST(:last AS date)
      AND c.version = greatest(p.version, s.version)
      AND (s.version IS DISTINCT FROM c.version OR sent.intent_id IS NOT NULL)
    ORDER BY c.entity, c.on_date, c.record_id
    """,
)
# Index: the primary keys of both.
_IS_NEWEST = query(
    "is_newest_change",
    Login.PUSH,
    """
    SELECT NOT EXISTS (
        SELECT FROM sync.pending p WHERE p.tenant_id = :tenant AND p.partner = :partner AND p.entity = :entity
        AND p.record_id = :record_id AND p.version > :version)
    AND NOT EXISTS (
        SELECT FROM sync.standing s WHERE s.tenant_id = :tenant AND s.partner = :partner AND s.entity = :entity
        AND s.record_id = :record_id AND s.version > :version)
    """,
)


def pushed(tx: Transaction, target: Target, days: Days) -> PushedDays:
    """What the partner should have of `days`."""
    rows = _PUSHED.all(tx, first=days.first, last=days.last, **target.parameters())
    delivered = tuple(_pushed(row) for row in rows if not row["is_open"])
    return PushedDays(delivered, open=len(rows) - len(delivered))


def is_newest(tx: Transaction, target: Target, record: Pushed) -> bool:
    """Whether the partner is still to have this version: a delivered one stays so until a newer change comes."""
    key = {"entity": record.entity.value, "record_id": record.record_id, "version": record.version}
    answer: bool = _IS_NEWEST.run(tx, **key, **target.parameters()).scalar_one()
    return answer


def _pushed(row: RowMapping) -> Pushed:
    return Pushed(
        Entity(row["entity"]),
        row["record_id"],
        row["version"],
        Verb.CANCEL if row["is_cancelled"] else Verb.UPDATE,
        row["key"],
        row["image"],
        row["links"],
        row["partner_id"],
        row["partner_version"] or "",
    )
