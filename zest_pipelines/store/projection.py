"""Whether the pending projection is what history says: it is the one derived table, and can be rebuilt from the others.

Read by `zest_operator`, one tenant a transaction. It looks at all of a tenant's history, so it is for the night.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Difference:
    """A record whose pending row is not its newest open change."""

    partner: str
    entity: Entity
    record_id: UUID
    pending: int | None
    """The version that stands there; None: none."""
    rebuilt: int | None
    """The version that should; None: every change of the record is settled."""
    is_doubted: bool
    """Whether an intent's end is unknown, which the row's state must say."""


# A doubt is an intent that ended in nothing but unknown. Beyond that the row's state is not rebuilt: releases and
# backoff are the business of push, and a wrong one costs a call, never a record.
_REBUILD = query(
    "rebuild_pending",
    Login.OPERATOR,
    """
    WITH rebuilt AS (
        SELECT DISTINCT ON (c.partner, c.entity, c.record_id)
               c.partner, c.entity, c.record_id,
               (c.version, c.month, c.op, c.client_id, c.staff_id, c.on_date, c.edited_at) AS content, c.version,
               EXISTS (
                   SELECT FROM sync.result u
                   WHERE u.tenant_id = c.tenant_id AND u.partner = c.partner AND u.entity = c.entity
                     AND u.record_id = c.record_id AND u.version <= c.version AND u.outcome = 'unknown'
                     AND NOT EXISTS (SELECT FROM sync.result e WHERE e.month = u.month AND e.intent_id = u.intent_id
                                     AND e.outcome <> 'unknown')) AS is_doubted
        FROM sync.change c
        WHERE c.tenant_id = current_setting('app.tenant', true)
          AND NOT EXISTS (SELECT FROM sync.result r
                          WHERE r.tenant_id = c.tenant_id AND r.partner = c.partner AND r.entity = c.entity
                            AND r.record_id = c.record_id AND r.version = c.version AND r.outcome IN
                            ('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned'))
        ORDER BY c.partner, c.entity, c.record_id, c.version DESC
    ), pending AS (
        SELECT p.partner, p.entity, p.record_id,
               (p.version, p.month, p.op, p.client_id, p.staff_id, p.on_date, p.edited_at) AS content,
               p.version, p.state
        FROM sync.pending p WHERE p.tenant_id = current_setting('app.tenant', true)
    )
    SELECT partner, entity, record_id, p.version AS pending, r.version AS rebuilt,
           coalesce(r.is_doubted, false) AS is_doubted
    FROM rebuilt r FULL JOIN pending p USING (partner, entity, record_id)
    WHERE r.content IS DISTINCT FROM p.content OR r.is_doubted IS DISTINCT FROM (p.state = 'unknown')
    ORDER BY partner, entity, record_id
    """,
)


def rebuild_pending(tx: Transaction) -> tuple[Difference, ...]:
    """The transaction's tenant's pending records that differ from a rebuild out of changes and results; () if none."""
    return tuple(Difference(**row | {"entity": Entity(row["entity"])}) for row in map(dict, _REBUILD.all(tx)))
