"""What waits to go out of one connection, whether anybody has tried it or not. Read by `zest_operator`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.deliveries import HAS_WHAT_IT_NEEDS, READY_FROM, REQUESTED
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Waiting:
    """What has not got through to the partner, edits that nobody has looked at included."""

    is_paused: bool
    pending: int
    parked: int
    oldest: datetime | None
    """Edit time of the oldest that could go: not parked, asked for, with all that it needs."""


@dataclass(frozen=True)
class Stuck:
    """A record that could go and was tried in vain."""

    entity: str
    record_id: UUID
    state: str
    reason: str
    params: Mapping[str, str]


_COULD_GO = f"p.state <> 'parked' AND {REQUESTED} AND {HAS_WHAT_IT_NEEDS}"
# An edit is unread too while a transaction that is still open keeps the accumulation from reading on.
_WAITING = query(
    "waiting_records",
    Login.OPERATOR,
    f"""
    SELECT c.paused_at IS NOT NULL AS is_paused, queued.pending, queued.parked,
           least(queued.oldest, unread.oldest) AS oldest
    FROM sync.connection c
    CROSS JOIN LATERAL (
        SELECT count(*) AS pending, count(*) FILTER (WHERE p.state = 'parked') AS parked,
               min(p.since) FILTER (WHERE {_COULD_GO}) AS oldest
        FROM sync.pending p
        {READY_FROM}
        WHERE p.tenant_id = c.tenant_id AND p.partner = c.partner) AS queued
    CROSS JOIN LATERAL (
        SELECT min(e.at) AS oldest FROM sync.update_event e
        LEFT JOIN sync.event_cursor k ON k.tenant_id = e.tenant_id AND k.partner = c.partner
        WHERE e.tenant_id = c.tenant_id
          AND (e.xid, e.event_id) > (coalesce(k.xid, xid8 '0'), coalesce(k.event_id, 0))) AS unread
    WHERE c.tenant_id = :tenant AND c.partner = :partner
    """,
)
_STUCK = query(
    "stuck_records",
    Login.OPERATOR,
    f"""
    SELECT p.entity, p.record_id, p.state, p.reason, p.params FROM sync.pending p
    {READY_FROM}
    WHERE p.tenant_id = :tenant AND p.partner = :partner AND p.reason IS NOT NULL AND {_COULD_GO}
    ORDER BY p.since, p.record_id LIMIT :most
    """,
)


def waiting(tx: Transaction, tenant: str, partner: str) -> Waiting:
    """What waits to go out."""
    row = _WAITING.one(tx, tenant=tenant, partner=partner)
    assert row is not None
    return Waiting(**row)


def stuck(tx: Transaction, tenant: str, partner: str, most: int) -> tuple[Stuck, ...]:
    """At most `most` records that could go and have failed so far, the oldest first."""
    return tuple(Stuck(**row) for row in _STUCK.all(tx, tenant=tenant, partner=partner, most=most))
