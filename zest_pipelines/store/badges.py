"""What the badge views say (`sync.badge` and its sisters): of records, of connections, and in numbers.

Read by `zest_operator`; the product reads the same views under its own login.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class RecordBadge:
    """How a record stands at one partner."""

    partner: str
    badge: str
    reason: str | None
    params: Mapping[str, str]
    not_before: datetime | None


@dataclass(frozen=True)
class ConnectionBadge:
    """How a whole connection stands: the worst of what keeps all of its records from going or coming."""

    partner: str
    badge: str
    reason: str | None
    """None: it is ok."""
    params: Mapping[str, str]
    since: datetime | None
    next_at: datetime | None
    """When it is tried again; None: with the next run, or it waits for a person."""


@dataclass(frozen=True)
class BadgeGroup:
    """Records of one kind that have the same badge for the same reason; none of those that are ok."""

    partner: str
    entity: str
    badge: str
    reason: str | None
    params: Mapping[str, str]
    """What fills the reason's sentences, if it is the same for all of them."""
    records: int
    oldest: datetime | None
    next_at: datetime | None


@dataclass(frozen=True)
class GroupMember:
    """One record of a group."""

    record_id: UUID | None
    """None: a master that the product does not have yet."""
    landed_no: int | None
    """Of a master: what came."""
    params: Mapping[str, str]
    since: datetime | None
    on_date: date | None
    """Of a visit: its day."""


_OF_RECORD = query(
    "badges_of_record",
    Login.OPERATOR,
    """
    SELECT partner, badge, reason, params, not_before FROM sync.badge
    WHERE tenant_id = :tenant AND entity = :entity AND record_id = :record_id
    ORDER BY partner
    """,
)
_OF_CONNECTIONS = query(
    "badges_of_connections",
    Login.OPERATOR,
    """
    SELECT partner, badge, reason, params, since, next_at FROM sync.connection_badge
    WHERE tenant_id = :tenant ORDER BY partner
    """,
)
_DIGEST = query(
    "badge_digest",
    Login.OPERATOR,
    """
    SELECT partner, entity, badge, reason, params, records, oldest, next_at FROM sync.badge_digest
    WHERE tenant_id = :tenant ORDER BY partner, entity, badge, records DESC, reason
    """,
)


_EVERY = query(
    "records_with_a_badge",
    Login.OPERATOR,
    "SELECT partner, entity, record_id FROM sync.badge WHERE tenant_id = :tenant",
)
_MEMBERS = query(
    "badge_group_members",
    Login.OPERATOR,
    """
    SELECT record_id, NULL::bigint AS landed_no, params, since, on_date FROM sync.badge
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND badge = :badge
      AND reason IS NOT DISTINCT FROM CAST(:reason AS text)
    UNION ALL
    SELECT record_id, landed_no, params, since, NULL FROM sync.master_badge
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND badge = :badge
      AND reason IS NOT DISTINCT FROM CAST(:reason AS text)
    ORDER BY since, record_id, landed_no LIMIT :most
    """,
)


def of_record(tx: Transaction, tenant: str, entity: Entity, record_id: UUID) -> tuple[RecordBadge, ...]:
    """How the record stands at each partner that must receive it."""
    rows = _OF_RECORD.all(tx, tenant=tenant, entity=entity.value, record_id=record_id)
    return tuple(RecordBadge(**row) for row in rows)


def of_connections(tx: Transaction, tenant: str) -> tuple[ConnectionBadge, ...]:
    """How the tenant's connections stand, by partner."""
    return tuple(ConnectionBadge(**row) for row in _OF_CONNECTIONS.all(tx, tenant=tenant))


def digest(tx: Transaction, tenant: str) -> tuple[BadgeGroup, ...]:
    """The tenant's records that are not simply ok, in groups."""
    return tuple(BadgeGroup(**row) for row in _DIGEST.all(tx, tenant=tenant))


def every(tx: Transaction, tenant: str) -> tuple[tuple[str, str, UUID], ...]:
    """Partner, kind and id of each record that has a badge, whatever it says."""
    return tuple((row["partner"], row["entity"], row["record_id"]) for row in _EVERY.all(tx, tenant=tenant))


def members(
    tx: Transaction, tenant: str, partner: str, entity: Entity, badge: str, reason: str | None, most: int
) -> tuple[GroupMember, ...]:
    """The records of a group, oldest first, at most so many."""
    named = {"tenant": tenant, "partner": partner, "entity": entity.value, "badge": badge, "reason": reason}
    return tuple(GroupMember(**row) for row in _MEMBERS.all(tx, most=most, **named))
