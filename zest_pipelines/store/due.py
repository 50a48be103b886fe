"""Who is due: the scheduler's questions across all tenants, answered with tenant ids and nothing else.

`zest_schedule` may read the columns that these queries name, and no content.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.deliveries import ASKED_AGAIN, HAS_WHAT_IT_NEEDS, LAST_ANSWER_FROM, READY, READY_FROM
from zest_pipelines.store.query import query

_TENANTS = query(
    "connected_tenants",
    Login.SCHEDULE,
    "SELECT c.tenant_id FROM sync.connection c WHERE c.partner = :partner ORDER BY c.tenant_id",
)
_ALL_TENANTS = query("all_tenants", Login.SCHEDULE, "SELECT t.tenant_id FROM schedule.tenant t ORDER BY t.tenant_id")
# A reading that failed, or was killed, is tried again after five minutes. Index: snapshot_newest.
_INBOUND = query(
    "due_inbound",
    Login.SCHEDULE,
    """
    SELECT c.tenant_id FROM sync.connection c
    WHERE c.partner = :partner AND c.paused_at IS NULL AND EXISTS (
        SELECT FROM unnest(CAST(:entities AS text[])) AS wanted (entity)
        LEFT JOIN LATERAL (
            SELECT s.state, s.started_at FROM sync.snapshot s
            WHERE s.tenant_id = c.tenant_id AND s.partner = c.partner AND s.entity = wanted.entity
            ORDER BY s.started_at DESC LIMIT 1) AS last ON true
        WHERE last.started_at IS NULL
           OR last.started_at + CASE last.state WHEN 'certified' THEN c.land_every
                                     WHEN 'reading' THEN interval '5 minutes'
                                     ELSE least(c.land_every, interval '5 minutes') END <= clock_timestamp())
    ORDER BY c.tenant_id
    """,
)
# Index: pending_queue.
_PENDING = query(
    "due_pending",
    Login.SCHEDULE,
    f"""
    SELECT DISTINCT p.tenant_id FROM sync.pending p
    {READY_FROM}
    WHERE p.partner = :partner AND {READY} AND {HAS_WHAT_IT_NEEDS}
    ORDER BY p.tenant_id
    """,
)
# A lease that ran out without being given back: the push died. Whoever pushes next takes it, and gives it back.
_ABANDONED = query(
    "abandoned_pushes",
    Login.SCHEDULE,
    f"""
    SELECT DISTINCT p.tenant_id FROM sync.lease l
    JOIN sync.pending p ON p.tenant_id = l.tenant_id AND p.partner = l.partner
    {READY_FROM}
    WHERE l.partner = :partner AND l.holder <> '' AND l.until <= clock_timestamp() AND {READY} AND {HAS_WHAT_IT_NEEDS}
    ORDER BY p.tenant_id
    """,
)
# Index: pending_stopped, then one probe a row in result and in retry_request.
_ASKED_AGAIN = query(
    "asked_again",
    Login.SCHEDULE,
    f"""
    SELECT DISTINCT p.tenant_id FROM sync.pending p
    JOIN sync.connection n ON n.tenant_id = p.tenant_id AND n.partner = p.partner
    WHERE p.partner = :partner AND n.paused_at IS NULL AND {ASKED_AGAIN}
    ORDER BY p.tenant_id
    """,
)
# Index: update_event_cursor, one probe a connection.
_UNREAD = query(
    "unread_events",
    Login.SCHEDULE,
    """
    SELECT c.tenant_id FROM sync.connection c
    LEFT JOIN sync.event_cursor k ON k.tenant_id = c.tenant_id AND k.partner = c.partner
    WHERE c.partner = :partner AND c.paused_at IS NULL AND EXISTS (
        SELECT FROM sync.update_event e WHERE e.tenant_id = c.tenant_id
          AND (e.xid, e.event_id) > (coalesce(k.xid, xid8 '0'), coalesce(k.event_id, 0))
          AND e.xid < pg_snapshot_xmin(pg_current_snapshot()))
    ORDER BY c.tenant_id
    """,
)
# Index: result_of_connection, one probe a tenant asked for and month.
_HELD = query(
    "held_connections",
    Login.SCHEDULE,
    f"""
    SELECT n.tenant_id FROM {LAST_ANSWER_FROM} AND n.tenant_id = ANY (CAST(:tenants AS text[]))
      AND last.reason = ANY (CAST(:reasons AS text[])) AND last.at > clock_timestamp() - CAST(:probe_every AS interval)
    """,
)
# A held change waits for a person: it alone makes nobody due.
_MASTER_CHANGES = query(
    "tenants_with_new_master_changes",
    Login.SCHEDULE,
    """
    SELECT DISTINCT c.tenant_id FROM sync.master_change c
    WHERE c.partner = :partner AND NOT EXISTS (
        SELECT FROM sync.master_result r WHERE r.tenant_id = c.tenant_id AND r.partner = c.partner
          AND r.entity = c.entity AND r.partner_id = c.partner_id AND r.landed_no = c.landed_no)
    ORDER BY c.tenant_id
    """,
)


def all_tenants(tx: Transaction) -> tuple[str, ...]:
    """Every tenant, connected or not, in order."""
    return _ALL_TENANTS.column(tx)


def tenants(tx: Transaction, partner: str) -> tuple[str, ...]:
    """Every tenant connected to the partner, in order."""
    return _TENANTS.column(tx, partner=partner)


def inbound(tx: Transaction, partner: str, entities: Sequence[Entity]) -> tuple[str, ...]:
    """Whose masters are due to be read."""
    return _INBOUND.column(tx, partner=partner, entities=[entity.value for entity in entities])


def outbound(tx: Transaction, partner: str) -> tuple[str, ...]:
    """Who has a record that could be pushed now or that a person wants tried again, or an unread edit."""
    return _merged(_PENDING.column(tx, partner=partner), asked_again(tx, partner), unread_events(tx, partner))


def asked_again(tx: Transaction, partner: str) -> tuple[str, ...]:
    """Who has a stopped record that a person wants tried again, and that was not tried since."""
    return _ASKED_AGAIN.column(tx, partner=partner)


def unread_events(tx: Transaction, partner: str) -> tuple[str, ...]:
    """Who has an edit that nobody has looked at."""
    return _UNREAD.column(tx, partner=partner)


def urgent(tx: Transaction, partner: str) -> tuple[str, ...]:
    """Who has an unread edit, a record that a person wants tried again, or some that a push left when it died."""
    return _merged(_ABANDONED.column(tx, partner=partner), asked_again(tx, partner), unread_events(tx, partner))


def held(
    tx: Transaction, partner: str, tenants: Sequence[str], reasons: Sequence[str], probe_every: timedelta
) -> frozenset[str]:
    """Of the tenants, those whose last answer was one of the reasons, less than `probe_every` ago, and still stands."""
    return frozenset(
        _HELD.column(tx, partner=partner, tenants=list(tenants), reasons=list(reasons), probe_every=probe_every)
    )


def open_master_changes(tx: Transaction, partner: str) -> tuple[str, ...]:
    """Who has a master change that nobody has tried to apply."""
    return _MASTER_CHANGES.column(tx, partner=partner)


def _merged(*groups: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({tenant for group in groups for tenant in group}))
