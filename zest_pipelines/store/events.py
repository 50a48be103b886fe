"""From update events to changes: the statements of `zest_accumulate`.

The cursor (xid, event_id) is one of visibility: only events of transactions below the oldest one still running are
read, so one that commits late is never skipped. It is no order: a record's order is its version.

Transactions are numbered by a cluster. After a dump and a restore the numbers in the cursor and in the events are
another's, and say nothing here: all of the tenant's events are read once more, which makes no change a second time.
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
    INSERT INTO sync.event_cursor AS c (tenant_id, partner, xid, event_id, system_id)
    SELECT :tenant, :partner, '0', 0, system_identifier FROM pg_control_system()
    ON CONFLICT (tenant_id, partner) DO UPDATE SET event_id = c.event_id
    RETURNING system_id IS NOT DISTINCT FROM (SELECT system_identifier FROM pg_control_system()) AS is_of_this_cluster
    """,
)
# What a partner is to have; everything else that becomes of a record is its cancellation there.
_IS_FOR_PARTNERS = """({0}.op <> 'delete' AND CASE {0}.entity
        WHEN 'visit' THEN {0}.image ->> 'status' = 'confirmed'
        ELSE {0}.image ->> 'status' IN ('done', 'absent') END)"""
_OF_RECORD = """{0}.tenant_id = b.tenant_id AND {0}.entity = b.entity AND {0}.record_id = b.record_id"""
# Index: update_event_cursor, update_event_version. A draft is not for partners; a confirmed visit that is taken back,
# cancelled or deleted is a cancellation, but only where an earlier version was for partners. The events tell that, and
# not what was accumulated: an earlier version may be read later than this one, when its transaction began later. Where
# the record's first event is in a month that is archived, what is open and what is settled of it tell.
_ACCUMULATE = f"""
    WITH batch AS (
        SELECT e.*, CASE WHEN {_IS_FOR_PARTNERS.format("e")} THEN 'upsert' ELSE 'cancel' END AS change_op
        FROM sync.update_event e
        JOIN sync.event_cursor c ON c.tenant_id = e.tenant_id AND c.partner = :partner
        WHERE e.tenant_id = :tenant %s
    ), made AS (
        INSERT INTO sync.change (month, tenant_id, partner, entity, record_id, version, op, image, client_id, staff_id,
                                 on_date, edited_at)
        SELECT b.month, b.tenant_id, :partner, b.entity, b.record_id, b.version, b.change_op, b.image,
               CAST(b.image ->> 'client_id' AS uuid), CAST(b.image ->> 'staff_id' AS uuid),
               coalesce(
                   CAST(CAST(coalesce(b.image ->> 'starts_at', b.image ->> 'visit_starts_at') AS timestamptz)
                        AT TIME ZONE t.timezone AS date),
                   -- A record whose visit went with it, and whose earlier events are archived.
                   (SELECT s.on_date FROM sync.standing s WHERE {_OF_RECORD.format("s")} AND s.partner = :partner),
                   CAST(b.at AT TIME ZONE t.timezone AS date)),
               b.at
        FROM batch b
        JOIN schedule.tenant t ON t.tenant_id = b.tenant_id
        WHERE b.entity = ANY (CAST(:entities AS text[]))
          AND (b.change_op = 'upsert'
               OR EXISTS (SELECT FROM sync.update_event earlier WHERE {_OF_RECORD.format("earlier")}
                          AND earlier.version < b.version AND {_IS_FOR_PARTNERS.format("earlier")})
               OR (NOT EXISTS (SELECT FROM sync.update_event earlier WHERE {_OF_RECORD.format("earlier")}
                               AND earlier.version = 1)
                   AND (EXISTS (SELECT FROM sync.standing s WHERE {_OF_RECORD.format("s")} AND s.partner = :partner)
                        OR EXISTS (SELECT FROM sync.pending p WHERE {_OF_RECORD.format("p")}
                                   AND p.partner = :partner))))
        ORDER BY b.xid, b.event_id
        ON CONFLICT DO NOTHING
        RETURNING 1
    ), moved AS (
        UPDATE sync.event_cursor c SET xid = last.xid, event_id = last.event_id, system_id = last.system_id
        FROM (%s) AS last
        WHERE c.tenant_id = :tenant AND c.partner = :partner
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM batch) AS events, (SELECT count(*) FROM made) AS changes
    """
_READ_ON = query(
    "accumulate_changes",
    Login.ACCUMULATE,
    _ACCUMULATE
    % (
        """AND (e.xid, e.event_id) > (c.xid, c.event_id)
          AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY e.xid, e.event_id
        LIMIT :batch""",
        """SELECT b.xid, b.event_id, c.system_id FROM batch b, sync.event_cursor c
              WHERE c.tenant_id = :tenant AND c.partner = :partner ORDER BY b.xid DESC, b.event_id DESC LIMIT 1""",
    ),
)
# All events that this statement sees, whatever their numbers; from the oldest transaction still running on, as always.
_READ_AGAIN = query(
    "accumulate_changes_after_a_restore",
    Login.ACCUMULATE,
    _ACCUMULATE
    % (
        "",
        """SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xid, 0 AS event_id, system_identifier AS system_id
              FROM pg_control_system()""",
    ),
)


def accumulate(tx: Transaction, tenant: str, partner: str, entities: Sequence[Entity], batch: int) -> Accumulated:
    """Turn up to `batch` unread events into changes and move the cursor, all in this transaction.

    All events, and not only `batch`, if the cursor is of another cluster.
    """
    parameters = {"tenant": tenant, "partner": partner, "entities": [entity.value for entity in entities]}
    if _LOCK_CURSOR.run(tx, tenant=tenant, partner=partner).scalar_one():
        row = _READ_ON.one(tx, batch=batch, **parameters)
    else:
        row = _READ_AGAIN.one(tx, **parameters)
    assert row is not None  # a SELECT of two scalars has one row
    return Accumulated(**row)
