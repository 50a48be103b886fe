"""Landed versions: every state in which a partner showed a record, once. Written by `zest_land`, only ever added to.

A page's new versions go in by COPY, which is much cheaper than row by row. Row-level security refuses COPY into the
table itself, so they are copied into a temporary one of the session's and inserted from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.landing import Reading
from zest_pipelines.store.query import query

_JSON = json.JSONEncoder(ensure_ascii=False)


class NewVersion(NamedTuple):
    """A state of a record that had not landed before; without a fingerprint: its absence was proved."""

    partner_id: str
    fingerprint: bytes | None
    partner_version: str = ""
    content: str | None = None
    """As JSON."""
    master: Mapping[str, Any] | None = None
    problem: str | None = None
    params: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class StandingProblem:
    """A record that cannot become a master as it last landed."""

    landed_no: int
    problem: str
    params: Mapping[str, str]
    of_its_reason: int
    """How many records stand with the same problem."""


# Walks the primary key once for each id. The ids come as JSON and the marks as one string of bytes: the driver makes an
# array of a thousand values one by one, which cost more than all the rest of this. What is as it was is told no more
# of, but noted at once: nothing of it goes to and fro. Who was passed by meanwhile notes nothing, and is refused
# with the page.
_NEWEST = """
    SELECT v.landed_no, v.fingerprint FROM sync.landed_version v
    WHERE v.tenant_id = :tenant AND v.partner = :partner AND v.entity = :entity AND v.partner_id = shown.partner_id
    ORDER BY v.landed_no DESC LIMIT 1
"""
_CHANGED = query(
    "changed_records",
    Login.LAND,
    f"""
    WITH compared AS MATERIALIZED (
        SELECT shown.partner_id, known.landed_no, known.fingerprint IS NOT DISTINCT FROM
                   substring(CAST(:marks AS bytea) FROM CAST(32 * shown.position - 31 AS integer) FOR 32) AS is_same
        FROM json_array_elements_text(CAST(:partner_ids AS json)) WITH ORDINALITY AS shown (partner_id, position)
        LEFT JOIN LATERAL ({_NEWEST}) AS known ON true),
    noted AS (
        INSERT INTO sync.sighting (tenant_id, snapshot_id, page, landed_nos, replaced)
        SELECT CAST(:tenant AS text), CAST(:snapshot AS uuid), CAST(:page AS integer),
               coalesce(array_agg(landed_no) FILTER (WHERE is_same), '{{}}'),
               coalesce(array_agg(landed_no) FILTER (WHERE NOT is_same AND landed_no IS NOT NULL), '{{}}')
        FROM compared HAVING CAST(:page AS integer) IS NOT NULL
        ON CONFLICT DO NOTHING)
    SELECT partner_id FROM compared WHERE NOT is_same
    """,
)
_LIVE = query(
    "live_records",
    Login.LAND,
    f"""
    SELECT shown.partner_id
    FROM unnest(CAST(:partner_ids AS text[])) AS shown (partner_id)
    CROSS JOIN LATERAL ({_NEWEST}) AS known
    WHERE known.fingerprint IS NOT NULL
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
    WITH added AS (
        INSERT INTO sync.landed_version (tenant_id, partner, entity, partner_id, snapshot_id, fingerprint,
                                         partner_version, content, master, problem, params)
        SELECT CAST(:tenant AS text), CAST(:partner AS text), CAST(:entity AS text), partner_id,
               CAST(:snapshot AS uuid), fingerprint, partner_version, content, master, problem, params
        FROM pg_temp.copied_version
        RETURNING partner_id, landed_no, fingerprint IS NOT NULL AS is_shown),
    noted AS (
        UPDATE sync.sighting s SET landed_nos = s.landed_nos || new.landed_nos
        FROM (SELECT array_agg(landed_no) AS landed_nos FROM added WHERE is_shown) AS new
        WHERE s.tenant_id = :tenant AND s.snapshot_id = CAST(:snapshot AS uuid) AND s.page = CAST(:page AS integer)
          AND new.landed_nos IS NOT NULL)
    SELECT partner_id, landed_no FROM added WHERE partner_id = ANY (CAST(:asked AS text[]))
    """,
    temporary=_COPIED,
)


def changed(tx: Transaction, reading: Reading, marks: Mapping[str, bytes], page: int | None) -> frozenset[str]:
    """The ids, of those that were shown with these fingerprints (32 bytes each), that are new or were last otherwise.

    Notes of each page which known versions it showed, and in whose place a new one will come; pages count from 1.
    None: what was shown is on no page.
    """
    rows = _CHANGED.quick(
        tx,
        partner_ids=_JSON.encode(list(marks)),
        marks=b"".join(marks.values()),
        page=page,
        snapshot=reading.snapshot,
        **reading.parameters(),
    )
    return frozenset(row["partner_id"] for row in rows)


def live(tx: Transaction, reading: Reading, partner_ids: Sequence[str]) -> frozenset[str]:
    """Those that have landed and are not gone."""
    if not partner_ids:
        return frozenset()
    return frozenset(_LIVE.column(tx, partner_ids=list(partner_ids), **reading.parameters()))


def unmappable(tx: Transaction, reading: Reading, most: int) -> tuple[StandingProblem, ...]:
    """At most `most` of the entity's records whose newest state cannot become a master, and of each reason, if there
    are no more reasons than that, at least one."""
    rows = _UNMAPPABLE.all(tx, most=most, **reading.parameters())
    return tuple(StandingProblem(**row) for row in rows)


def add(
    tx: Transaction, reading: Reading, versions: Sequence[NewVersion], page: int | None, asked: Sequence[str] = ()
) -> dict[str, int]:
    """Store new states, of different records and once in a transaction; the numbers of those `asked` for, by their ids.

    What is not gone was shown by `page`, which `changed` has noted; None: by none.
    """
    if not versions:
        return {}
    driver = tx.connection.driver_connection
    assert driver is not None  # the transaction has begun on it
    with driver.cursor() as cursor:
        cursor.execute(_COPIED)
        with cursor.copy(_COPY) as copy:
            for version in versions:
                copy.write_row(_row(version))
    rows = _ADD.quick(tx, snapshot=reading.snapshot, page=page, asked=list(asked), **reading.parameters())
    return {row["partner_id"]: row["landed_no"] for row in rows}


def _row(version: NewVersion) -> tuple[str | bytes | None, ...]:
    partner_id, fingerprint, partner_version, content, master, problem, params = version
    told = None if master is None else orjson.dumps(master).decode()
    why = _JSON.encode(dict(params)) if params else "{}"
    return partner_id, fingerprint, partner_version, content, told, problem, why
