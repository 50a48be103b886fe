"""Whether the two derived tables are what history says: both can be rebuilt from changes, intents, results and repairs.

Read by `zest_operator`, one tenant a transaction. It looks at all of a tenant's history, so it is for the night.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query

_TERMINAL = "('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned')"
_DELIVERED = "('delivered', 'delivered_with_warning')"
_LOOKED_AFTER = "('equal', 'repaired', 'superseded')"


@dataclass(frozen=True)
class Difference:
    """A record whose row in a derived table is not what history says."""

    table: str
    """pending or standing."""
    partner: str
    entity: Entity
    record_id: UUID
    found: int | None
    """The version that stands there; None: there is no row."""
    rebuilt: int | None
    """The version that should; None: there should be none."""
    parts: tuple[str, ...]
    """What differs, never its values."""


# Of the state only whether it is `unknown`: releases and backoff are the business of push, and a wrong one costs a
# call, never a record. What a record waits for is a hint.
_PENDING = query(
    "rebuild_pending",
    Login.OPERATOR,
    f"""
    WITH open AS (
        SELECT c.*, count(*) OVER (PARTITION BY c.partner, c.entity, c.record_id) AS open
        FROM sync.change c
        WHERE c.tenant_id = current_setting('app.tenant', true)
          AND NOT EXISTS (SELECT FROM sync.result r
                          WHERE r.month = c.month AND r.tenant_id = c.tenant_id AND r.partner = c.partner
                            AND r.entity = c.entity AND r.record_id = c.record_id AND r.version = c.version
                            AND r.outcome IN {_TERMINAL})
    ), rebuilt AS (
        SELECT DISTINCT ON (c.partner, c.entity, c.record_id)
               c.partner, c.entity, c.record_id, c.version,
               jsonb_build_object('version', c.version, 'month', c.month, 'op', c.op, 'client_id', c.client_id,
                                  'staff_id', c.staff_id, 'on_date', c.on_date, 'edited_at', c.edited_at,
                                  'open', c.open, 'doubt', coalesce(s.doubt_is_answered, false)) AS content
        FROM open c
        LEFT JOIN sync.standing s ON s.tenant_id = c.tenant_id AND s.partner = c.partner AND s.entity = c.entity
            AND s.record_id = c.record_id
        ORDER BY c.partner, c.entity, c.record_id, c.version DESC
    ), found AS (
        SELECT p.partner, p.entity, p.record_id, p.version,
               jsonb_build_object('version', p.version, 'month', p.month, 'op', p.op, 'client_id', p.client_id,
                                  'staff_id', p.staff_id, 'on_date', p.on_date, 'edited_at', p.edited_at,
                                  'open', p.open, 'doubt', p.state = 'unknown') AS content
        FROM sync.pending p WHERE p.tenant_id = current_setting('app.tenant', true)
    )
    SELECT 'pending' AS table, partner, entity, record_id, f.version AS found, r.version AS rebuilt,
           ARRAY(SELECT key FROM jsonb_each(r.content) a FULL JOIN jsonb_each(f.content) b USING (key)
                 WHERE a.value IS DISTINCT FROM b.value ORDER BY key) AS parts
    FROM rebuilt r FULL JOIN found f USING (partner, entity, record_id)
    WHERE r.content IS DISTINCT FROM f.content
    ORDER BY partner, entity, record_id
    """,
)
# Results and repairs are numbered together, in the order in which they were stored. What was settled in a month that is
# archived is told by `standing` alone: a part that history no longer speaks of is then left as it is.
_STANDING = query(
    "rebuild_standing",
    Login.OPERATOR,
    f"""
    WITH archived AS (
        SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                       WHERE n.nspname = 'archive' AND c.relname LIKE 'result%') AS is_so
    ), result AS MATERIALIZED (
        SELECT * FROM sync.result WHERE tenant_id = current_setting('app.tenant', true)
    ), intent AS MATERIALIZED (
        SELECT * FROM sync.intent WHERE tenant_id = current_setting('app.tenant', true)
    ), repair AS MATERIALIZED (
        SELECT * FROM sync.repair WHERE tenant_id = current_setting('app.tenant', true)
    ), settled AS (
        SELECT DISTINCT ON (r.partner, r.entity, r.record_id) r.partner, r.entity, r.record_id, r.version,
               jsonb_build_array(r.version, r.outcome, r.reason, r.params, c.on_date) AS part
        FROM result r
        LEFT JOIN sync.change c ON c.month = r.month AND c.tenant_id = r.tenant_id AND c.partner = r.partner
            AND c.entity = r.entity AND c.record_id = r.record_id AND c.version = r.version
        WHERE r.outcome IN {_TERMINAL}
        ORDER BY r.partner, r.entity, r.record_id, r.version DESC
    ), delivered AS (
        SELECT DISTINCT ON (r.partner, r.entity, r.record_id) r.partner, r.entity, r.record_id,
               jsonb_build_array(r.version, r.month, r.is_cancelled) AS part
        FROM result r WHERE r.outcome IN {_DELIVERED}
        ORDER BY r.partner, r.entity, r.record_id, r.version DESC
    ), said AS (
        SELECT r.partner, r.entity, r.record_id, r.version, r.result_no AS no, r.partner_id, r.partner_version,
               r.intent_id
        FROM result r WHERE r.partner_id IS NOT NULL
        UNION ALL
        SELECT r.partner, r.entity, r.record_id, r.version, r.repair_no, r.partner_id, r.partner_version, r.intent_id
        FROM repair r WHERE r.partner_id IS NOT NULL
    ), known AS (
        SELECT DISTINCT ON (s.partner, s.entity, s.record_id) s.partner, s.entity, s.record_id,
               jsonb_build_array(s.version, s.partner_id, s.partner_version) AS part
        FROM said s ORDER BY s.partner, s.entity, s.record_id, s.version DESC, s.no DESC
    ), linked AS (
        SELECT DISTINCT ON (s.partner, s.entity, s.record_id) s.partner, s.entity, s.record_id, i.links AS part
        FROM (SELECT *, max(version) OVER (PARTITION BY partner, entity, record_id ORDER BY no) AS newest
              FROM said) AS s
        JOIN intent i USING (intent_id)
        WHERE s.version = s.newest
        ORDER BY s.partner, s.entity, s.record_id, s.no DESC
    ), doubt AS (
        SELECT DISTINCT ON (i.partner, i.entity, i.record_id) i.partner, i.entity, i.record_id,
               jsonb_build_array(
                   count(*) OVER (PARTITION BY i.partner, i.entity, i.record_id), i.intent_id, i.month, i.version,
                   i.made_at,
                   EXISTS (SELECT FROM result u WHERE u.intent_id = i.intent_id AND u.outcome = 'unknown')
                   OR EXISTS (SELECT FROM repair u WHERE u.intent_id = i.intent_id AND u.outcome = 'unknown')) AS part
        FROM intent i
        WHERE NOT EXISTS (SELECT FROM result e WHERE e.intent_id = i.intent_id AND e.outcome <> 'unknown')
          AND NOT EXISTS (SELECT FROM repair e WHERE e.intent_id = i.intent_id
                          AND e.outcome NOT IN ('suspected', 'unknown'))
        ORDER BY i.partner, i.entity, i.record_id, i.version DESC, i.made_at DESC
    ), suspected AS ( -- neither looked at to the end nor written over by what began after it
        SELECT u.partner, u.entity, u.record_id, min(u.made_at) AS since, max(u.repair_no) AS last_no
        FROM repair u
        WHERE u.outcome = 'suspected'
          AND NOT EXISTS (
              SELECT FROM repair e LEFT JOIN intent i ON i.intent_id = e.intent_id
              WHERE e.partner = u.partner AND e.entity = u.entity AND e.record_id = u.record_id
              AND e.outcome IN {_LOOKED_AFTER} AND e.repair_no > u.repair_no
              AND coalesce(i.made_at, e.looked_at, e.made_at) >= u.made_at)
          AND NOT EXISTS (
              SELECT FROM result d LEFT JOIN intent i ON i.intent_id = d.intent_id
              WHERE d.partner = u.partner AND d.entity = u.entity AND d.record_id = u.record_id
              AND d.outcome IN {_DELIVERED} AND d.result_no > u.repair_no
              AND coalesce(i.made_at, d.made_at) >= u.made_at AND NOT EXISTS (
                  SELECT FROM result b WHERE b.partner = u.partner AND b.entity = u.entity
                  AND b.record_id = u.record_id AND b.outcome IN {_DELIVERED} AND b.result_no < d.result_no
                  AND b.version > d.version))
        GROUP BY u.partner, u.entity, u.record_id
    ), suspicion AS (
        SELECT u.partner, u.entity, u.record_id,
               jsonb_build_array(CASE last.outcome WHEN 'suspected' THEN 'due' ELSE last.outcome END, last.reason,
                                 u.since, last.not_before, last.attempts, last.params) AS part
        FROM suspected u
        CROSS JOIN LATERAL (
            SELECT r.outcome, r.reason, r.not_before, r.params, count(*) OVER () - 1 AS attempts FROM repair r
            WHERE r.partner = u.partner AND r.entity = u.entity AND r.record_id = u.record_id
              AND r.repair_no >= u.last_no AND r.outcome NOT IN {_LOOKED_AFTER}
            ORDER BY r.repair_no DESC LIMIT 1) AS last
    ), rebuilt AS (
        SELECT partner, entity, record_id, settled.version, settled.part AS settled, delivered.part AS delivered,
               known.part AS known, linked.part AS links, doubt.part AS doubt, suspicion.part AS suspicion
        FROM (SELECT partner, entity, record_id FROM result UNION SELECT partner, entity, record_id FROM intent
              UNION SELECT partner, entity, record_id FROM repair) AS record
        LEFT JOIN settled USING (partner, entity, record_id)
        LEFT JOIN delivered USING (partner, entity, record_id)
        LEFT JOIN known USING (partner, entity, record_id)
        LEFT JOIN linked USING (partner, entity, record_id)
        LEFT JOIN doubt USING (partner, entity, record_id)
        LEFT JOIN suspicion USING (partner, entity, record_id)
    ), found AS (
        SELECT s.partner, s.entity, s.record_id, nullif(s.version, 0) AS version,
               CASE WHEN s.version > 0
                    THEN jsonb_build_array(s.version, s.outcome, s.reason, s.params, s.on_date) END AS settled,
               CASE WHEN s.delivered_version > 0
                    THEN jsonb_build_array(s.delivered_version, s.delivered_month, s.is_cancelled) END AS delivered,
               CASE WHEN s.partner_id IS NOT NULL
                    THEN jsonb_build_array(s.known_version, s.partner_id, s.partner_version) END AS known,
               nullif(s.links, '{{}}') AS links,
               CASE WHEN s.open_intents > 0
                    THEN jsonb_build_array(s.open_intents, s.doubt_intent, s.doubt_month, s.doubt_version, s.doubt_at,
                                           s.doubt_is_answered) END AS doubt,
               CASE WHEN s.suspect_state IS NOT NULL
                    THEN jsonb_build_array(s.suspect_state, s.suspect_reason, s.suspect_since, s.suspect_not_before,
                                           s.suspect_attempts, s.suspect_params) END AS suspicion
        FROM sync.standing s WHERE s.tenant_id = current_setting('app.tenant', true)
    ), compared AS (
        SELECT partner, entity, record_id, f.version AS found, r.version AS rebuilt, array_remove(ARRAY[
                   CASE WHEN r.settled IS DISTINCT FROM f.settled AND NOT (a.is_so AND r.settled IS NULL)
                        THEN 'settled' END,
                   CASE WHEN r.delivered IS DISTINCT FROM f.delivered AND NOT (a.is_so AND r.delivered IS NULL)
                        THEN 'delivered' END,
                   CASE WHEN r.known IS DISTINCT FROM f.known AND NOT (a.is_so AND r.known IS NULL) THEN 'known' END,
                   CASE WHEN nullif(r.links, '{{}}') IS DISTINCT FROM f.links AND NOT (a.is_so AND r.links IS NULL)
                        THEN 'links' END,
                   CASE WHEN r.doubt IS DISTINCT FROM f.doubt THEN 'doubt' END,
                   CASE WHEN r.suspicion IS DISTINCT FROM f.suspicion THEN 'suspicion' END], NULL) AS parts
        FROM rebuilt r FULL JOIN found f USING (partner, entity, record_id) CROSS JOIN archived a
    )
    SELECT 'standing' AS table, * FROM compared WHERE parts <> '{{}}' ORDER BY partner, entity, record_id
    """,
)


def differences(tx: Transaction) -> tuple[Difference, ...]:
    """The transaction's tenant's rows of both tables that differ from a rebuild out of history; () if none does."""
    rows = [*_PENDING.all(tx), *_STANDING.all(tx)]
    return tuple(
        Difference(**row | {"entity": Entity(row["entity"]), "parts": tuple(row["parts"])}) for row in map(dict, rows)
    )
