"""Snapshots and landed versions: what partners showed us. Written by `zest_land`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Reading:
    """What one reading reads: the key of nearly every call here."""

    snapshot: UUID
    tenant: str
    partner: str
    entity: Entity


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
class Cursor:
    """Where the last reading that counted left off."""

    cursor: str | None
    last_full_at: datetime | None
    """When the last certified full reading ended; None: never."""


@dataclass(frozen=True)
class Ended:
    """How a reading ended."""

    snapshot: UUID
    state: str
    reason: str | None
    params: Mapping[str, str]
    pages: int
    records: int


@dataclass(frozen=True)
class Age:
    """How old the newest certified reading is; the fields of reports.Freshness."""

    age: timedelta
    was_read: bool
    every: timedelta
    is_paused: bool


@dataclass(frozen=True)
class StandingProblem:
    """A record that cannot become a master as it last landed."""

    landed_no: int
    problem: str
    params: Mapping[str, str]
    of_its_reason: int
    """How many records stand with the same problem."""


_BEGIN = query(
    "begin_snapshot",
    Login.LAND,
    """
    INSERT INTO sync.snapshot (snapshot_id, tenant_id, partner, entity, state)
    VALUES (:snapshot, :tenant, :partner, :entity, 'reading')
    """,
)
_END = query(
    "end_snapshot",
    Login.LAND,
    """
    UPDATE sync.snapshot SET state = :state, is_full = :is_full, reason = :reason, params = CAST(:params AS jsonb),
        pages = :pages, records = :records, new_versions = :new_versions, cursor = :cursor,
        finished_at = clock_timestamp()
    WHERE snapshot_id = :snapshot AND tenant_id = :tenant AND state = 'reading'
    RETURNING 1
    """,
)
# A reading that has not moved for five minutes was killed (a page has its slot's and the call's time, and what is
# joined to it may be read before); the next one says so in its place.
_END_DEAD = query(
    "end_dead_snapshots",
    Login.LAND,
    """
    UPDATE sync.snapshot SET state = 'failed', reason = 'reading_broken_off', finished_at = clock_timestamp()
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND state = 'reading'
      AND touched_at < clock_timestamp() - interval '5 minutes'
    """,
)
_RUNNING = query(
    "running_snapshots",
    Login.LAND,
    """
    SELECT count(*) FROM sync.snapshot
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND state = 'reading'
    """,
)
_TOUCH = query(
    "touch_snapshot",
    Login.LAND,
    """
    UPDATE sync.snapshot SET touched_at = clock_timestamp()
    WHERE snapshot_id = :snapshot AND tenant_id = :tenant AND state = 'reading'
    RETURNING 1
    """,
)
# Two readings of one entity that begin at once wait for each other here.
_LOCK = query(
    "lock_landing",
    Login.LAND,
    """
    SELECT pg_advisory_xact_lock(hashtextextended(
        concat_ws(' ', 'land', CAST(:tenant AS text), CAST(:partner AS text), CAST(:entity AS text)), 0))
    """,
)
# What was read under other settings, or at another address, is no beginning to go on from. Index: snapshot_newest.
_CURSOR = query(
    "landing_cursor",
    Login.LAND,
    """
    WITH certified AS (
        SELECT s.cursor, s.finished_at, s.started_at, s.is_full FROM sync.snapshot s
        JOIN sync.connection c ON c.tenant_id = s.tenant_id AND c.partner = s.partner AND c.changed_at <= s.started_at
        WHERE s.tenant_id = :tenant AND s.partner = :partner AND s.entity = :entity AND s.state = 'certified')
    SELECT (SELECT cursor FROM certified ORDER BY started_at DESC LIMIT 1) AS cursor,
           (SELECT finished_at FROM certified WHERE is_full ORDER BY started_at DESC LIMIT 1) AS last_full_at
    """,
)
# Walks the primary key once for each id of the page.
_KNOWN = query(
    "known_fingerprints",
    Login.LAND,
    """
    SELECT wanted.partner_id, known.fingerprint
    FROM unnest(CAST(:partner_ids AS text[])) AS wanted (partner_id)
    CROSS JOIN LATERAL (
        SELECT v.fingerprint FROM sync.landed_version v
        WHERE v.tenant_id = :tenant AND v.partner = :partner AND v.entity = :entity
          AND v.partner_id = wanted.partner_id
        ORDER BY v.landed_no DESC LIMIT 1) AS known
    """,
)
_NUMBERS = query(
    "newest_landed_numbers",
    Login.LAND,
    """
    SELECT wanted.partner_id, newest.landed_no
    FROM unnest(CAST(:partner_ids AS text[])) AS wanted (partner_id)
    CROSS JOIN LATERAL (
        SELECT v.landed_no FROM sync.landed_version v
        WHERE v.tenant_id = :tenant AND v.partner = :partner AND v.entity = :entity
          AND v.partner_id = wanted.partner_id
        ORDER BY v.landed_no DESC LIMIT 1) AS newest
    """,
)
# Index: snapshot_newest.
_LAST_ENDED = query(
    "last_ended_snapshot",
    Login.LAND,
    """
    SELECT s.snapshot_id AS snapshot, s.state, s.reason, s.params, s.pages, s.records FROM sync.snapshot s
    WHERE s.tenant_id = :tenant AND s.partner = :partner AND s.entity = :entity AND s.state <> 'reading'
      AND (s.reason IS NULL OR s.reason <> ALL (CAST(:besides AS text[])))
    ORDER BY s.started_at DESC LIMIT 1
    """,
)
# What was read before the connection changed may be somebody else's. Index: snapshot_newest.
_AGE = query(
    "age_of_certified_reading",
    Login.LAND,
    """
    SELECT clock_timestamp() - coalesce(last.started_at, c.changed_at) AS age, last.started_at IS NOT NULL AS was_read,
           c.land_every AS every, c.paused_at IS NOT NULL AS is_paused
    FROM sync.connection c
    LEFT JOIN LATERAL (
        SELECT s.started_at FROM sync.snapshot s
        WHERE s.tenant_id = c.tenant_id AND s.partner = c.partner AND s.entity = :entity AND s.state = 'certified'
          AND s.started_at >= c.changed_at
        ORDER BY s.started_at DESC LIMIT 1) AS last ON true
    WHERE c.tenant_id = :tenant AND c.partner = :partner
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
_LIVE = query(
    "live_partner_ids",
    Login.LAND,
    """
    SELECT newest.partner_id FROM (
        SELECT DISTINCT ON (v.partner_id) v.partner_id, v.fingerprint FROM sync.landed_version v
        WHERE v.tenant_id = :tenant AND v.partner = :partner AND v.entity = :entity
        ORDER BY v.partner_id, v.landed_no DESC) AS newest
    WHERE newest.fingerprint IS NOT NULL
    """,
)
_ADD = query(
    "add_landed_version",
    Login.LAND,
    """
    INSERT INTO sync.landed_version (tenant_id, partner, entity, partner_id, snapshot_id, fingerprint,
                                     partner_version, content, master, problem, params)
    VALUES (:tenant, :partner, :entity, :partner_id, :snapshot, :fingerprint, :partner_version,
            CAST(:content AS jsonb), CAST(:master AS jsonb), :problem, CAST(:params AS jsonb))
    """,
)


def begin(tx: Transaction, reading: Reading) -> bool:
    """Note that a reading begins; False while another one runs. One that a dead process left is ended as failed."""
    _LOCK.run(tx, **_key(reading))
    _END_DEAD.run(tx, **_key(reading))
    if _RUNNING.run(tx, **_key(reading)).scalar_one():
        return False
    _BEGIN.run(tx, snapshot=reading.snapshot, **_key(reading))
    return True


def is_alive(tx: Transaction, reading: Reading) -> bool:
    """Note that the reading goes on; False if another one took it for dead."""
    touched = _TOUCH.run(tx, snapshot=reading.snapshot, tenant=reading.tenant).scalar_one_or_none()
    return touched is not None


def end(
    tx: Transaction,
    reading: Reading,
    *,
    state: str,
    is_full: bool,
    reason: str | None,
    params: Mapping[str, str],
    pages: int,
    records: int,
    new_versions: int,
    cursor: str | None,
) -> bool:
    """Note how a reading ended; False if another one took it for dead. `cursor` counts only if it is certified."""
    ended = _END.run(
        tx,
        snapshot=reading.snapshot,
        tenant=reading.tenant,
        state=state,
        is_full=is_full,
        reason=reason,
        params=json.dumps(dict(params)),
        pages=pages,
        records=records,
        new_versions=new_versions,
        cursor=cursor,
    )
    return ended.scalar_one_or_none() is not None


def cursor(tx: Transaction, reading: Reading) -> Cursor:
    """Where the next reading starts, and when all records were last read."""
    row = _CURSOR.one(tx, **_key(reading))
    assert row is not None  # a query without FROM has one row
    return Cursor(**row)


def known_fingerprints(tx: Transaction, reading: Reading, partner_ids: Sequence[str]) -> dict[str, bytes | None]:
    """The newest fingerprint of each id that has landed before; None: it was gone."""
    rows = _KNOWN.all(tx, partner_ids=list(partner_ids), **_key(reading))
    return {row["partner_id"]: row["fingerprint"] for row in rows}


def newest_numbers(tx: Transaction, reading: Reading, partner_ids: Sequence[str]) -> dict[str, int]:
    """The number of each id's newest landed version."""
    return {
        row["partner_id"]: row["landed_no"] for row in _NUMBERS.all(tx, partner_ids=list(partner_ids), **_key(reading))
    }


def last_ended(tx: Transaction, reading: Reading, besides: Sequence[str]) -> Ended | None:
    """The last reading of the entity that ended, but for those that ended for one of the reasons `besides`."""
    row = _LAST_ENDED.one(tx, besides=list(besides), **_key(reading))
    return None if row is None else Ended(**row)


def age(tx: Transaction, reading: Reading) -> Age:
    """How old what can be relied on is. The connection must be there."""
    row = _AGE.one(tx, **_key(reading))
    assert row is not None  # readings are begun for connections alone
    return Age(**row)


def live_partner_ids(tx: Transaction, reading: Reading) -> frozenset[str]:
    """The ids that were there when last seen."""
    return frozenset(_LIVE.column(tx, **_key(reading)))


def unmappable(tx: Transaction, reading: Reading, most: int) -> tuple[StandingProblem, ...]:
    """At most `most` of the entity's records whose newest state cannot become a master, and of each reason, if there
    are no more reasons than that, at least one."""
    return tuple(StandingProblem(**row) for row in _UNMAPPABLE.all(tx, most=most, **_key(reading)))


def add(tx: Transaction, reading: Reading, versions: Iterable[NewVersion]) -> None:
    """Store new states."""
    key = _key(reading) | {"snapshot": reading.snapshot}
    _ADD.run_many(
        tx,
        [
            key
            | {
                "partner_id": version.partner_id,
                "fingerprint": version.fingerprint,
                "partner_version": version.partner_version,
                "content": _json(version.content),
                "master": _json(version.master),
                "problem": version.problem,
                "params": json.dumps(dict(version.params)),
            }
            for version in versions
        ],
    )


def _key(reading: Reading) -> dict[str, Any]:
    return {"tenant": reading.tenant, "partner": reading.partner, "entity": reading.entity.value}


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
