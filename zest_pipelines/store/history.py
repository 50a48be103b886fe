"""Looks over what landed and what was applied, which change nothing: the masters of a past moment, and the newest
contents beside what was applied of them. Read by `zest_operator`, one tenant a transaction, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.masters import Scope
from zest_pipelines.store.query import Query, query

_CHUNK_ROWS = 500
"""Documents in memory at once."""


@dataclass(frozen=True)
class MasterThen:
    """A master as the product had it at a moment, and what said so."""

    record_id: UUID
    """Ours."""
    partner_id: str
    """The id under which the partner last spoke of it by then."""
    landed_no: int
    snapshot_id: UUID
    """The reading that brought it."""
    read_at: datetime
    applied_at: datetime
    is_gone: bool
    """Whether the partner had deleted it, or means somebody else by its id: the product keeps it, inactive."""
    master: Mapping[str, Any]


@dataclass(frozen=True)
class NewestContent:
    """A record's newest landed state, beside the master that was last applied."""

    landed_no: int
    content: Mapping[str, Any] | None
    """As the partner says it; None: gone."""
    problem: str | None
    """Why it could not be mapped when it landed."""
    params: Mapping[str, str]
    applied: Mapping[str, Any] | None
    """None: never applied, or deleted."""
    is_owner: bool
    """Whether what the partner says of it is written into one of our masters."""


# By record and not by the partner's id: a number that means another person by now leaves the first one as it was, and
# one who is known by two ids, one after the other, stands here once. A scope's applications wait for each other, so the
# numbers of results are in the order of their times. OFFSET 0: `is_gone` is looked up once, not for each use. Index:
# the primary keys, by their first columns in `r`.
MASTERS_AS_OF = """
    FROM (
        SELECT r.record_id, r.partner_id, r.landed_no, l.snapshot_id, l.landed_at AS read_at, r.made_at AS applied_at,
               is_gone, coalesce(c.after, kept.after, c.before)
                   || CASE WHEN is_gone THEN CAST('{"active": false}' AS jsonb) ELSE '{}' END AS master
        FROM (SELECT DISTINCT ON (record_id) * FROM sync.master_result
              WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND outcome = 'applied'
                AND made_at <= :at AND record_id IS NOT NULL
              ORDER BY record_id, result_no DESC) AS r
        JOIN sync.master_change c USING (tenant_id, partner, entity, partner_id, landed_no)
        JOIN sync.landed_version l USING (tenant_id, partner, entity, partner_id, landed_no)
        LEFT JOIN LATERAL (
            SELECT b.after FROM sync.master_change b
            JOIN sync.master_result br USING (tenant_id, partner, entity, partner_id, landed_no)
            WHERE c.after IS NULL AND b.tenant_id = r.tenant_id AND b.partner = r.partner AND b.entity = r.entity
              AND b.partner_id = r.partner_id AND b.landed_no < r.landed_no AND b.after IS NOT NULL
              AND br.outcome = 'applied' AND br.record_id = r.record_id
            ORDER BY b.landed_no DESC LIMIT 1) AS kept ON true
        CROSS JOIN LATERAL (
            SELECT c.after IS NULL OR EXISTS (
                SELECT FROM sync.master_result n
                WHERE n.tenant_id = r.tenant_id AND n.partner = r.partner AND n.entity = r.entity
                  AND n.partner_id = r.partner_id AND n.result_no > r.result_no AND n.outcome = 'applied'
                  AND n.made_at <= :at AND n.record_id <> r.record_id) AS is_gone OFFSET 0) AS now) AS v
    ORDER BY v.partner_id, v.record_id
"""
_AS_OF = query("masters_as_of", Login.OPERATOR, f"SELECT v.* {MASTERS_AS_OF}")
# Walks the primary key of landed_version from its end, so that nothing is sorted.
_NEWEST_CONTENTS = query(
    "newest_contents",
    Login.OPERATOR,
    """
    SELECT v.landed_no, v.content, v.problem, v.params, applied.after AS applied, EXISTS (
               SELECT FROM sync.identity i
               WHERE i.tenant_id = :tenant AND i.partner = :partner AND i.entity = :entity
                 AND i.partner_id = v.partner_id AND i.valid_to IS NULL AND i.is_owner) AS is_owner
    FROM (SELECT DISTINCT ON (partner_id) partner_id, landed_no, content, problem, params FROM sync.landed_version
          WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity
          ORDER BY partner_id DESC, landed_no DESC) AS v
    LEFT JOIN LATERAL (
        SELECT c.after FROM sync.master_change c
        JOIN sync.master_result r USING (tenant_id, partner, entity, partner_id, landed_no)
        WHERE c.tenant_id = :tenant AND c.partner = :partner AND c.entity = :entity AND c.partner_id = v.partner_id
          AND r.outcome = 'applied'
        ORDER BY c.landed_no DESC LIMIT 1) AS applied ON true
    """,
)
_READ_ONLY = text("SET TRANSACTION READ ONLY")


def as_of(tx: Transaction, scope: Scope, at: datetime) -> Iterator[MasterThen]:
    """The masters as they were at `at`, inclusive, by the database's clock; nobody for a moment before the first."""
    return (MasterThen(**row) for row in _rows(tx, _AS_OF, at=at, **scope.parameters()))


def newest_contents(tx: Transaction, scope: Scope) -> Iterator[NewestContent]:
    """Each record once, in no order that means anything. The transaction writes nothing from here on."""
    tx.execute(_READ_ONLY)
    return (NewestContent(**row) for row in _rows(tx, _NEWEST_CONTENTS, **scope.parameters()))


def _rows(tx: Transaction, asked: Query, **parameters: Any) -> Iterator[Mapping[str, Any]]:
    """The rows by a cursor of the server's."""
    statement = asked.statement.execution_options(stream_results=True)
    for rows in tx.execute(statement, parameters).mappings().partitions(_CHUNK_ROWS):
        for row in rows:
            yield {str(name): value for name, value in row.items()}
