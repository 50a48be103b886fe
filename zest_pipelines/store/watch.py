"""What waits to go out of one connection, whether anybody has tried it or not. Read by `zest_operator`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from resources.logins import Login
from zest_pipelines.core.weeks import Days
from zest_pipelines.store.claims import COULD_GO
from zest_pipelines.store.classifications import told_of_pending
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.keys import Target
from zest_pipelines.store.query import query
from zest_pipelines.store.unread import IS_UNREAD


@dataclass(frozen=True)
class Waiting:
    """What has not got through to the partner, edits that nobody has looked at included."""

    is_paused: bool
    pending: int
    parked: int
    oldest: datetime | None
    """Edit time of the oldest that could go: not parked, asked for, with all that it needs."""
    is_moving: bool
    """Whether any of these goes by itself, so that a push will say how it went."""


@dataclass(frozen=True)
class Stuck:
    """A record that was tried in vain."""

    entity: str
    record_id: UUID
    state: str
    reason: str
    params: Mapping[str, str]


_WAITING = query(
    "waiting_records",
    Login.OPERATOR,
    f"""
    SELECT c.paused_at IS NOT NULL AS is_paused, queued.pending, queued.parked,
           least(queued.oldest, unread.oldest) AS oldest, queued.moving > 0 OR unread.oldest IS NOT NULL AS is_moving
    FROM sync.connection c
    CROSS JOIN LATERAL (
        SELECT count(*) AS pending, count(*) FILTER (WHERE p.state = 'parked') AS parked,
               min(p.since) FILTER (WHERE {COULD_GO}) AS oldest,
               count(*) FILTER (WHERE p.state <> 'conflict' AND {COULD_GO}) AS moving
        FROM sync.pending p
        WHERE p.tenant_id = c.tenant_id AND p.partner = c.partner) AS queued
    CROSS JOIN LATERAL (
        SELECT min(e.at) AS oldest FROM sync.update_event e
        LEFT JOIN sync.event_cursor k ON k.tenant_id = e.tenant_id AND k.partner = c.partner
        WHERE e.tenant_id = c.tenant_id AND {IS_UNREAD}) AS unread
    WHERE c.tenant_id = :tenant AND c.partner = :partner
    """,
)
_STUCK = query(
    "stuck_records",
    Login.OPERATOR,
    f"""
    SELECT p.entity, p.record_id, p.state, {told_of_pending("p")} AS reason, p.params FROM sync.pending p
    WHERE p.tenant_id = :tenant AND p.partner = :partner AND p.reason IS NOT NULL AND {COULD_GO}
    ORDER BY p.since, p.record_id LIMIT :most
    """,
)
_PARKED = query(
    "parked_records",
    Login.OPERATOR,
    f"""
    SELECT p.entity, p.record_id, p.state, {told_of_pending("p")} AS reason, p.params FROM sync.pending p
    WHERE p.tenant_id = :tenant AND p.partner = :partner AND p.state = 'parked'
    ORDER BY p.since, p.record_id LIMIT :most
    """,
)
# Index: push_request_of_connection.
_ASKED_AT = query(
    "days_asked_for_at",
    Login.OPERATOR,
    """
    SELECT max(q.requested_at) FROM sync.push_request q
    WHERE q.tenant_id = :tenant AND q.partner = :partner AND q.from_date = :first AND q.to_date = :last
    """,
)


def waiting(tx: Transaction, target: Target) -> Waiting:
    """What waits to go out. The connection must be there."""
    row = _WAITING.one(tx, **target.parameters())
    assert row is not None  # the tenants that are looked at are those that are connected
    return Waiting(**row)


def stuck(tx: Transaction, target: Target, most: int) -> tuple[Stuck, ...]:
    """At most `most` records that could go and have failed so far, the oldest first."""
    return tuple(Stuck(**row) for row in _STUCK.all(tx, most=most, **target.parameters()))


def parked(tx: Transaction, target: Target, most: int) -> tuple[Stuck, ...]:
    """At most `most` parked records, the oldest first."""
    return tuple(Stuck(**row) for row in _PARKED.all(tx, most=most, **target.parameters()))


def asked_at(tx: Transaction, target: Target, days: Days) -> datetime | None:
    """When just these days were last asked for; None: never."""
    at: datetime | None = _ASKED_AT.run(tx, first=days.first, last=days.last, **target.parameters()).scalar_one()
    return at
