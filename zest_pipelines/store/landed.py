"""Landed versions: every state in which a partner showed a record, once. Written by `zest_land`, only ever added to.

A page's new versions go in by COPY, which is much cheaper than row by row. Row-level security refuses COPY into the
table itself, so they are copied into a temporary one of the session's and inserted from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.landing import Reading
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class NewVersion:
    """A state of a record that had not landed before; without a fingerprint: its absence was proved."""

    partner_id: str
    fingerprint: bytes | None
    partner_version: str = ""
    content: Mapping[str, Any] | None = None
    master: Mapping[str, Any] | None = None
    problem: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """A record's newest landed version."""

    landed_no: int
    fingerprint: bytes | None
    """None: it was gone."""


@dataclass(frozen=True)
class StandingProblem:
    """A record that cannot become a master as it last landed."""

    landed_no: int
    problem: str
    params: Mapping[str, str]
    of_its_reason: int
    """How many records stand with the same problem."""


# Walks the primary key once for each id of the page.
_KNOWN = query(
    "known_versions",
    Login.LAND,
    """
    SELECT wanted.partner_id, known.landed_no, known.fingerprint
    FROM unnest(CAST(:partner_ids AS text[])) AS wanted (partner_id)
    CROSS JOIN LATERAL (
        SELECT v.landed_no, v.fingerprint FROM sync.landed_version v
        WHERE v.tenant_id = :tenant AND v.partner = :partner AND v.entity = :entity
          AND v.partner_id = wanted.partner_id
        ORDER BY v.landed_no DESC LIMIT 1) AS known
    """,
)
# Each reason's first ones before any one's second, so that no reason goes unseen. Index: landed_version_unmappable.
_UNMAPPABLE = query(
    "unmappable_records",
    Login.LAND,
    """
    SELECT v.landed_no, v.problem, v.params, count(*) OVER (PARTITION BY v.problem) AS of_its_reason
    FROM sync.landed_version v
    WHERE v.tenant_id = :tenant AND v.partner = :partner AND v.entity = :entity AND v.problem IS NOT NULL
      AND NOT EXISTS (SELECT FROM sync.landed_version later
                      WHERE later.tenant_id = v.tenant_id AND later.partner = v.partner AND later.entity = v.entity
                        AND later.partner_id = v.partner_id AND later.landed_no > v.landed_no)
    ORDER BY row_number() OVER (PARTITION BY v.problem ORDER BY v.landed_no), v.landed_no LIMIT :most
    """,
)
# Rows up to a page of the disk are not compressed on their way through: they will be where they stay.
_COPIED = """
    CREATE TEMPORARY TABLE IF NOT EXISTS copied_version (
        partner_id text, fingerprint bytea, partner_version text, content jsonb, master jsonb, problem text,
        params jsonb) WITH (toast_tuple_target = 8160) ON COMMIT DELETE ROWS
"""
_COPY = """
    COPY pg_temp.copied_version (partner_id, fingerprint, partner_version, content, master, problem, params) FROM STDIN
"""
_ADD = query(
    "add_landed_versions",
    Login.LAND,
    """
    INSERT INTO sync.landed_version (tenant_id, partner, entity, partner_id, snapshot_id, fingerprint,
                                     partner_version, content, master, problem, params)
    SELECT CAST(:tenant AS text), CAST(:partner AS text), CAST(:entity AS text), partner_id, CAST(:snapshot AS uuid),
           fingerprint, partner_version, content, master, problem, params
    FROM pg_temp.copied_version
    RETURNING partner_id, landed_no
    """,
    temporary=_COPIED,
)


def known(tx: Transaction, reading: Reading, partner_ids: Sequence[str]) -> dict[str, Known]:
    """The newest version of each id that has landed before."""
    rows = _KNOWN.all(tx, partner_ids=list(partner_ids), **reading.parameters())
    return {row["partner_id"]: Known(row["landed_no"], row["fingerprint"]) for row in rows}


def unmappable(tx: Transaction, reading: Reading, most: int) -> tuple[StandingProblem, ...]:
    """At most `most` of the entity's records whose newest state cannot become a master, and of each reason, if there
    are no more reasons than that, at least one."""
    rows = _UNMAPPABLE.all(tx, most=most, **reading.parameters())
    return tuple(StandingProblem(**row) for row in rows)


def add(tx: Transaction, reading: Reading, versions: Sequence[NewVersion]) -> dict[str, int]:
    """Store new states, of different records and once in a transaction; their numbers by partner id."""
    if not versions:
        return {}
    driver = tx.connection.driver_connection
    assert driver is not None  # the transaction has begun on it
    with driver.cursor() as cursor:
        cursor.execute(_COPIED)
        with cursor.copy(_COPY) as copy:
            for version in versions:
                copy.write_row(_row(version))
    rows = _ADD.run(tx, snapshot=reading.snapshot, **reading.parameters())
    return {row.partner_id: row.landed_no for row in rows}


def _row(version: NewVersion) -> tuple[str | bytes | None, ...]:
    return (
        version.partner_id,
        version.fingerprint,
        version.partner_version,
        _json(version.content),
        _json(version.master),
        version.problem,
        _json(dict(version.params)),
    )


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
