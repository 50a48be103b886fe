"""From update events to changes: the two statements of `zest_accumulate`.

The cursor (xid, event_id) is one of visibility: only events of transactions below the oldest one still running are
read, so one that commits late is never skipped. It is no order: a record's order is its version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Accumulated:
    """One batch."""

    events: int
    """Read."""
    changes: int
    """Made of them: those that this connection must receive and that were not there yet."""


# Two accumulations of one connection wait for each other on its cursor's row.
_LOCK_CURSOR = query(
    "lock_event_cursor",
    Login.ACCUMULATE,
    """
    INSERT INTO sync.event_cursor AS c (tenant_id, partner, xid, event_id) VALUES (:tenant, :partner, '0', 0)
    ON CONFLICT (tenant_id, partner) DO UPDATE SET event_id = c.event_id
    """,
)
# What a partner is to have; everything else that becomes of a record is its cancellation there.
_IS_FOR_PARTNERS = """({0}.op <> 'delete' AND CASE {0}.entity
        WHEN 'visit' THEN {0}.image ->> 'status' = 'confirmed'
        ELSE {0}.image ->> 'status' IN ('done', 'absent') END)"""
# Index: update_event_cursor, update_event_version. A draft is not for partners; a confirmed visit that is taken back,
# cancelled or deleted is a cancellation, but only where an earlier version was for partners. The events tell that, and
# not what was accumulated: an earlier version may be read later than this one, when its transaction began later.
_ACCUMULATE = query(
    "accumulate_changes",
    Login.ACCUMULATE,
    f"""
    WITH batch AS (
        SELECT e.*, CASE WHEN {_IS_FOR_PARTNERS.format("e")} THEN 'upsert' ELSE 'cancel' END AS change_op
        FROM sync.update_event e
        JOIN sync.event_cursor c ON c.tenant_id = e.tenant_id AND c.partner = :partner
        WHERE e.tenant_id = :tenant AND (e.xid, e.event_id) > (c.xid, c.event_id)
          AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY e.xid, e.event_id
        LIMIT :batch
    ), made AS (
        INSERT INTO sync.change (month, tenant_id, partner, entity, record_id, version, op, image, client_id, staff_id,
                                 on_date, edited_at)
        SELECT b.month, b.tenant_id, :partner, b.entity, b.record_id, b.version, b.change_op, b.image,
               CAST(b.image ->> 'client_id' AS uuid), CAST(b.image ->> 'staff_id' AS uuid),
               CAST(CAST(coalesce(b.image ->> 'starts_at', b.image ->> 'visit_starts_at') AS timestamptz)
                    AT TIME ZONE t.timezone AS date),
               b.at
        FROM batch b
        JOIN schedule.tenant t ON t.tenant_id = b.tenant_id
        WHERE b.entity = ANY (CAST(:entities AS text[]))
          AND (b.change_op = 'upsert'
               OR EXISTS (SELECT FROM sync.update_event earlier WHERE earlier.tenant_id = b.tenant_id
                          AND earlier.entity = b.entity AND earlier.record_id = b.record_id
                          AND earlier.version < b.version AND {_IS_FOR_PARTNERS.format("earlier")}))
        ORDER BY b.xid, b.event_id
        ON CONFLICT DO NOTHING
        RETURNING 1
    ), moved AS (
        UPDATE sync.event_cursor c SET xid = last.xid, event_id = last.event_id
        FROM (SELECT xid, event_id FROM batch ORDER BY xid DESC, event_id DESC LIMIT 1) AS last
        WHERE c.tenant_id = :tenant AND c.partner = :partner
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM batch) AS events, (SELECT count(*) FROM made) AS changes
    """,
)


def accumulate(tx: Transaction, tenant: str, partner: str, entities: Sequence[Entity], batch: int) -> Accumulated:
    """Turn up to `batch` unread events into changes and move the cursor, all in this transaction."""
    _LOCK_CURSOR.run(tx, tenant=tenant, partner=partner)
    names = [entity.value for entity in entities]
    row = _ACCUMULATE.one(tx, tenant=tenant, partner=partner, entities=names, batch=batch)
    assert row is not None  # a SELECT of two scalars has one row
    return Accumulated(**row)
