"""Who is due: the scheduler's questions across all tenants, answered with tenant ids and nothing else.

Who has waited longest is named first. A tenant waits since its oldest due record was edited or was due again, or since
its last push ended, whichever is later: so nobody has a second turn before each of those who waited then has had one,
however old or large its backlog is. One of whom only an unread edit is known, or a person's word, counts from its last
push.

`zest_schedule` may read the columns that these queries name, and no content.
"""

from __future__ import annotations

from collections.abc import Sequence

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.core.classification import going_on
from zest_pipelines.store.claims import DUE_SINCE, IS_ITS_TIME, IS_SUSPECT
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.holds import IS_HELD
from zest_pipelines.store.query import Query, query
from zest_pipelines.store.releases import (
    ASKED_AGAIN,
    HAS_CHANGED,
    IS_EXPLAINED,
    IS_FOUND_RIGHT,
    IS_STILL_TO_DO,
    IS_SUSPECT_EXPLAINED,
    SUSPECT_ASKED_AGAIN,
)
from zest_pipelines.store.unread import CURSOR, IS_BELOW_OPEN, IS_OF_ANOTHER_CLUSTER

_TENANTS = query(
    "connected_tenants",
    Login.SCHEDULE,
    "SELECT c.tenant_id FROM sync.connection c WHERE c.partner = :partner ORDER BY c.tenant_id",
)
# A reading that failed, or was killed, is tried again after five minutes; one that was not complete once: what it lacks
# may be lasting, and everything is read anew for it. Index: snapshot_newest.
_INBOUND = query(
    "due_inbound",
    Login.SCHEDULE,
    """
    SELECT c.tenant_id, c.closed FROM sync.connection c
    WHERE c.partner = :partner AND c.paused_at IS NULL AND EXISTS (
        SELECT FROM unnest(CAST(:entities AS text[])) AS wanted (entity)
        LEFT JOIN LATERAL (
            SELECT s.state, s.started_at, s.finished_at, lag(s.state) OVER (ORDER BY s.started_at) AS before FROM (
                SELECT n.state, n.started_at, n.finished_at FROM sync.snapshot n
                WHERE n.tenant_id = c.tenant_id AND n.partner = c.partner AND n.entity = wanted.entity
                ORDER BY n.started_at DESC LIMIT 2) AS s
            ORDER BY s.started_at DESC LIMIT 1) AS last ON true
        WHERE last.started_at IS NULL
           OR CASE last.state WHEN 'certified' THEN last.started_at + c.land_every
                              WHEN 'reading' THEN last.started_at + interval '5 minutes'
                              ELSE last.finished_at + CASE
                                  WHEN last.state = 'incomplete' AND last.before = 'incomplete' THEN c.land_every
                                  ELSE least(c.land_every, interval '5 minutes') END END
              <= clock_timestamp())
    ORDER BY c.tenant_id
    """,
)


def _among_open(name: str, who: str) -> Query:
    """The tenants in `who` whose connection to the partner may send: it is not paused and nothing holds it."""
    return query(
        name,
        Login.SCHEDULE,
        f"""
        SELECT DISTINCT n.tenant_id FROM ({who}) AS wanted
        JOIN sync.connection n ON n.tenant_id = wanted.tenant_id AND n.partner = :partner
        WHERE n.paused_at IS NULL AND NOT {IS_HELD}
        ORDER BY n.tenant_id
        """,
    )


# Index: pending_queue alone; the table itself is not looked at.
_PENDING = _among_open(
    "due_pending",
    f"SELECT DISTINCT p.tenant_id FROM sync.pending p WHERE p.partner = :partner AND {IS_ITS_TIME}",
)
# Index: standing_suspect.
_SUSPECTS = _among_open(
    "due_suspects",
    f"SELECT s.tenant_id FROM sync.standing s WHERE s.partner = :partner AND {IS_SUSPECT}",
)
# A lease that ran out without being given back: the push died. Whoever pushes next takes it, and gives it back.
_ABANDONED = _among_open(
    "abandoned_pushes",
    f"""
    SELECT l.tenant_id FROM sync.lease l
    WHERE l.partner = :partner AND l.holder <> '' AND l.until <= clock_timestamp() AND EXISTS (
        SELECT FROM sync.pending p WHERE p.tenant_id = l.tenant_id AND p.partner = l.partner AND {IS_ITS_TIME})
    """,
)
# A push that was cut short by the end of its turn, or by limits that let it go on soon. A lease a tenant is looked at,
# and one probe each in pending_queue for those of which that is so.
_CUT_SHORT = _among_open(
    "pushes_cut_short",
    f"""
    SELECT l.tenant_id FROM sync.lease l
    WHERE l.partner = :partner AND l.holder = '' AND l.goes_on_at <= clock_timestamp() AND EXISTS (
        SELECT FROM sync.pending p WHERE p.tenant_id = l.tenant_id AND p.partner = l.partner AND {IS_ITS_TIME})
    """,
)
# Index: pending_queue, its first entry of each tenant, and the primary key of lease.
_TURNS = query(
    "whose_turn_is_first",
    Login.SCHEDULE,
    f"""
    SELECT wanted.tenant_id FROM unnest(CAST(:tenants AS text[])) AS wanted (tenant_id)
    LEFT JOIN LATERAL (
        SELECT {DUE_SINCE} AS since FROM sync.pending p
        WHERE p.tenant_id = wanted.tenant_id AND p.partner = :partner AND {IS_ITS_TIME}
        ORDER BY {DUE_SINCE} LIMIT 1) AS oldest ON true
    LEFT JOIN sync.lease l ON l.tenant_id = wanted.tenant_id AND l.partner = :partner
    ORDER BY greatest(oldest.since, l.until) NULLS FIRST, wanted.tenant_id
    """,
)
# Index: pending_stopped and standing_suspect, then one probe a row in result or repair, and in retry_request.
_ASKED_AGAIN = _among_open(
    "asked_again",
    f"""
    SELECT p.tenant_id FROM sync.pending p WHERE p.partner = :partner AND {ASKED_AGAIN}
    UNION ALL
    SELECT s.tenant_id FROM sync.standing s WHERE s.partner = :partner AND {SUSPECT_ASKED_AGAIN}
    """,
)
# Index: pending_stopped, then one probe a row in connection, credential, lease and result.
_CHANGED = _among_open(
    "changed_since", f"SELECT p.tenant_id FROM sync.pending p WHERE p.partner = :partner AND {HAS_CHANGED}"
)
# Index: pending_stopped and standing_suspect; the words are few.
_EXPLAINED = _among_open(
    "explained_since",
    f"""
    SELECT p.tenant_id FROM sync.pending p WHERE p.partner = :partner AND {IS_EXPLAINED}
    UNION ALL
    SELECT s.tenant_id FROM sync.standing s WHERE s.partner = :partner AND {IS_SUSPECT_EXPLAINED}
    """,
)
# It takes no call to carry one out, so a pause or a hold is nothing to it. Index: the primary key of pending, one probe
# a decision.
_DECIDED = query(
    "decided",
    Login.SCHEDULE,
    f"""
    SELECT DISTINCT p.tenant_id FROM sync.decision d
    JOIN sync.pending p ON p.tenant_id = d.tenant_id AND p.partner = d.partner AND p.entity = d.entity
        AND p.record_id = d.record_id AND p.version = d.version
    WHERE d.partner = :partner AND {IS_STILL_TO_DO}
    UNION
    SELECT s.tenant_id FROM sync.standing s
    JOIN sync.decision d ON d.tenant_id = s.tenant_id AND d.partner = s.partner AND d.entity = s.entity
        AND d.record_id = s.record_id AND d.version = s.version
    WHERE s.partner = :partner AND {IS_FOUND_RIGHT}
    """,
)
# Index: update_event_newest, one probe a month; then update_event_cursor, one a connection in each month whose newest
# event is past its cursor: mostly the last one alone. The months say nothing of the order that events are read in (a
# transaction that began before another may write in a later month), so none is left out for its date. What comes next
# in the index is looked at whosever it is: a search for the tenant's own would read whole months where statistics know
# few tenants.
_UNREAD = _among_open(
    "unread_events",
    f"""
    WITH RECURSIVE months AS (
        SELECT min(e.month) AS month FROM sync.update_event e
        UNION ALL
        SELECT (SELECT min(e.month) FROM sync.update_event e WHERE e.month > m.month) FROM months m
        WHERE m.month IS NOT NULL
    ), newest AS MATERIALIZED (
        SELECT m.month, last.xid, last.event_id FROM months m
        CROSS JOIN LATERAL (
            SELECT e.xid, e.event_id FROM sync.update_event e WHERE e.month = m.month AND {IS_BELOW_OPEN}
            ORDER BY e.xid DESC, e.event_id DESC LIMIT 1) AS last
    )
    SELECT c.tenant_id FROM sync.connection c
    LEFT JOIN sync.event_cursor k ON k.tenant_id = c.tenant_id AND k.partner = c.partner
    WHERE c.partner = :partner AND ({IS_OF_ANOTHER_CLUSTER} OR EXISTS (
        SELECT FROM newest n
        CROSS JOIN LATERAL (
            SELECT e.tenant_id, e.xid FROM sync.update_event e
            WHERE e.month = n.month AND (e.tenant_id, e.xid, e.event_id) > (c.tenant_id, {CURSOR})
            ORDER BY e.tenant_id, e.xid, e.event_id LIMIT 1) AS e
        WHERE (n.xid, n.event_id) > ({CURSOR}) AND e.tenant_id = c.tenant_id AND {IS_BELOW_OPEN}))
    """,
)
_RECHECK_WAITING = query("recheck_waiting", Login.SCHEDULE, "SELECT sync.recheck_waiting(:partner)")
# A held change waits for a person: it alone makes nobody due, but what a person has said of one does.
_MASTER_CHANGES = query(
    "tenants_with_new_master_changes",
    Login.SCHEDULE,
    """
    SELECT DISTINCT c.tenant_id FROM sync.master_change c
    WHERE c.partner = :partner AND NOT EXISTS (
        SELECT FROM sync.master_result r WHERE r.tenant_id = c.tenant_id AND r.partner = c.partner
          AND r.entity = c.entity AND r.partner_id = c.partner_id AND r.landed_no = c.landed_no)
    UNION
    SELECT a.tenant_id FROM sync.approval a
    WHERE a.partner = :partner AND NOT EXISTS (
        SELECT FROM sync.approval_use u WHERE u.approval_id = a.approval_id)
    UNION
    SELECT d.tenant_id FROM sync.identity_decision d
    WHERE d.partner = :partner AND NOT EXISTS (
        SELECT FROM sync.master_result r WHERE r.tenant_id = d.tenant_id AND r.partner = d.partner
          AND r.entity = d.entity AND r.partner_id = d.partner_id AND r.landed_no = d.landed_no
          AND r.made_at > d.decided_at)
    ORDER BY 1
    """,
)


def tenants(tx: Transaction, partner: str) -> tuple[str, ...]:
    """Every tenant connected to the partner, in order."""
    return _TENANTS.column(tx, partner=partner)


def inbound(tx: Transaction, partner: str, entities: Sequence[Entity]) -> dict[str, Sequence[str] | None]:
    """Whose masters, or plans, are due to be read, each with the closed times of its connection's own."""
    rows = _INBOUND.all(tx, partner=partner, entities=[entity.value for entity in entities])
    return {row["tenant_id"]: row["closed"] for row in rows}


def recheck_waiting(tx: Transaction, partner: str) -> int:
    """Look again what the records that wait for something still wait for; for how many that has changed.

    To be asked before `outbound`: what a record waited for may have come since.
    """
    changed: int = _RECHECK_WAITING.run(tx, partner=partner).scalar_one()
    return changed


def outbound(tx: Transaction, partner: str, mapping: str) -> tuple[str, ...]:
    """Who has something to push now: a record, one that is to be read again, a person's word, an unread edit, or what
    was parked under another connection, credential or mapping (`mapping`: its version now), or for an error that an
    operator has explained since.

    Whose connection is paused or held is among them only for a decision, which takes no call. Who has waited longest
    comes first.
    """
    found = (each.column(tx, partner=partner) for each in (_PENDING, _SUSPECTS))
    changed = _CHANGED.column(tx, partner=partner, mapping=mapping)
    explained = _EXPLAINED.column(tx, partner=partner, going_on=list(going_on()))
    return _in_turn(tx, partner, *found, changed, explained, *_persons(tx, partner))


def urgent(tx: Transaction, partner: str) -> tuple[str, ...]:
    """Who has an unread edit, a person's word not carried out yet, or what a push left that died or was cut short, in
    the order of `outbound`; as that."""
    left = (each.column(tx, partner=partner) for each in (_ABANDONED, _CUT_SHORT))
    return _in_turn(tx, partner, *left, *_persons(tx, partner))


def open_master_changes(tx: Transaction, partner: str) -> tuple[str, ...]:
    """Who has a master change that nobody has tried to apply, or a person's word on one that is not carried out."""
    return _MASTER_CHANGES.column(tx, partner=partner)


def _in_turn(tx: Transaction, partner: str, *groups: Sequence[str]) -> tuple[str, ...]:
    """All of them once, who has waited longest first."""
    found = {tenant for group in groups for tenant in group}
    return _TURNS.column(tx, partner=partner, tenants=list(found)) if found else ()


def _persons(tx: Transaction, partner: str) -> Sequence[Sequence[str]]:
    """Who has something that a person has just done: an edit that nobody has looked at, a request, a decision."""
    return [each.column(tx, partner=partner) for each in (_ASKED_AGAIN, _DECIDED, _UNREAD)]
