"""Snapshots: the readings of what partners have, how far each has come and how it ended. Written by `zest_land`.

A reading under way belongs to one process at a time, told by its attempt: who takes it up raises it, and whoever reads
on with an older one is refused with its next page. What its pages showed stands in `sightings`. One that broke off
keeps them, and the partner's token, for who takes it up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.store.classifications import told
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query

_DEAD_AFTER = (
    "interval '5 minutes'"  # a page has its slot's and the call's time, and what is joined to it is read before
)
_TAKEN_UP_WITHIN = "interval '1 hour'"


@dataclass(frozen=True)
class Reading:
    """What one reading reads: the key of nearly every call here."""

    snapshot: UUID
    tenant: str
    partner: str
    entity: Entity
    attempt: int = 1
    """Which process reads on: the first one's, or one higher each time that it was taken up."""

    def parameters(self) -> dict[str, Any]:
        """As the queries name the connection's entity."""
        return {"tenant": self.tenant, "partner": self.partner, "entity": self.entity.value}


@dataclass(frozen=True)
class Begun:
    """A reading that may go on, and from where."""

    reading: Reading
    since: str | None
    """The cursor that it was begun with; None: it reads all records."""
    resume: str | None = None
    """The partner's token for the pages that are still to come; None: all of them."""
    progress: Mapping[str, Any] = field(default_factory=dict)
    """What was counted before it was taken up, as `go_on` was given it."""


@dataclass(frozen=True)
class Conclusion:
    """How a reading ends."""

    state: str
    """certified, incomplete or failed."""
    reason: str | None
    params: Mapping[str, str]
    is_full: bool
    pages: int
    records: int
    """Different ids that came."""
    new_versions: int
    cursor: str | None
    """Where the next reading starts. It counts only if this one is certified."""
    may_go_on: bool = False
    """Whether the next one may take it up after the last page that was stored: there is a token, and nothing speaks
    against it."""


@dataclass(frozen=True)
class EndedReading:
    """How a reading ended."""

    snapshot: UUID
    state: str
    reason: str | None
    params: Mapping[str, str]
    is_full: bool
    pages: int
    records: int


@dataclass(frozen=True)
class Age:
    """How old the newest certified reading is; the fields of reports.Freshness."""

    age: timedelta
    was_read: bool
    every: timedelta


# Two readings of one entity that begin at once wait for each other here.
_LOCK = query(
    "lock_landing",
    Login.LAND,
    """
    SELECT pg_advisory_xact_lock(hashtextextended(
        concat_ws(' ', 'land', CAST(:tenant AS text), CAST(:partner AS text), CAST(:entity AS text)), 0))
    """,
)
# Index: snapshot_calls.
_KEEP_CALLS = query(
    "keep_calls_of_snapshot",
    Login.LAND,
    """
    WITH former AS (
        UPDATE sync.snapshot SET calls = NULL
        WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND calls IS NOT NULL
          AND snapshot_id <> :snapshot)
    UPDATE sync.snapshot SET calls = CAST(:calls AS jsonb)
    WHERE snapshot_id = :snapshot AND tenant_id = :tenant
    """,
)
# What was read by another mapping, under other settings or at another address is no beginning to go on from, and what
# was read too long ago has changed since. Whoever is storing a page of it is waited for, and what it stored is seen.
# Index: snapshot_newest.
_UNDER_WAY = query(
    "reading_under_way",
    Login.LAND,
    f"""
    SELECT s.snapshot_id AS snapshot, s.attempt, s.since, s.resume, coalesce(s.progress, '{{}}') AS progress,
           s.state = 'failed' OR s.touched_at < clock_timestamp() - {_DEAD_AFTER} AS is_left,
           s.resume IS NOT NULL AND s.mapping = CAST(:mapping AS text) AND c.changed_at <= s.started_at
               AND s.progress ->> 'shape' = CAST(:shape AS text)
               AND s.started_at > clock_timestamp() - {_TAKEN_UP_WITHIN} AS may_go_on
    FROM sync.snapshot s
    JOIN sync.connection c ON c.tenant_id = s.tenant_id AND c.partner = s.partner
    WHERE s.tenant_id = :tenant AND s.partner = :partner AND s.entity = :entity
      AND (s.state = 'reading' OR s.resume IS NOT NULL)
    ORDER BY s.started_at DESC LIMIT 1
    FOR UPDATE OF s
    """,
)
_TAKE_UP = query(
    "take_up_snapshot",
    Login.LAND,
    """
    UPDATE sync.snapshot SET state = 'reading', attempt = attempt + 1, touched_at = clock_timestamp(),
        reason = NULL, params = '{}', finished_at = NULL
    WHERE snapshot_id = :snapshot AND tenant_id = :tenant
    RETURNING attempt
    """,
)
_GIVE_UP = query(
    "give_up_snapshots",
    Login.LAND,
    """
    WITH given_up AS (
        UPDATE sync.snapshot SET state = 'failed', reason = coalesce(reason, 'reading_broken_off'),
            finished_at = coalesce(finished_at, clock_timestamp()), resume = NULL, progress = NULL
        WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity
          AND (state = 'reading' OR resume IS NOT NULL)
        RETURNING tenant_id, snapshot_id)
    DELETE FROM sync.sighting s USING given_up
    WHERE s.tenant_id = given_up.tenant_id AND s.snapshot_id = given_up.snapshot_id
    """,
)
_BEGIN = query(
    "begin_snapshot",
    Login.LAND,
    """
    INSERT INTO sync.snapshot (snapshot_id, tenant_id, partner, entity, state, mapping, since)
    VALUES (:snapshot, :tenant, :partner, :entity, 'reading', :mapping, :since)
    """,
)
# The lock of its row is kept to the transaction's end: who takes the reading up waits for what is stored with it.
_GO_ON = query(
    "go_on_with_snapshot",
    Login.LAND,
    """
    UPDATE sync.snapshot SET touched_at = clock_timestamp(), pages = :pages, new_versions = :new_versions,
        resume = :resume, progress = CAST(:progress AS jsonb)
    WHERE snapshot_id = :snapshot AND tenant_id = :tenant AND state = 'reading' AND attempt = :attempt
    RETURNING 1
    """,
)
_TOUCH = query(
    "touch_snapshot",
    Login.LAND,
    """
    UPDATE sync.snapshot SET touched_at = clock_timestamp()
    WHERE snapshot_id = :snapshot AND tenant_id = :tenant AND state = 'reading' AND attempt = :attempt
    """,
)
_END = query(
    "end_snapshot",
    Login.LAND,
    """
    UPDATE sync.snapshot SET state = :state, is_full = :is_full, reason = :reason, params = CAST(:params AS jsonb),
        pages = :pages, records = :records, new_versions = :new_versions, cursor = :cursor,
        resume = CASE WHEN :may_go_on THEN resume END,
        progress = CASE WHEN :may_go_on THEN progress END, finished_at = clock_timestamp()
    WHERE snapshot_id = :snapshot AND tenant_id = :tenant AND state = 'reading' AND attempt = :attempt
    RETURNING 1
    """,
)
# What was read by another mapping, under other settings or at another address is no beginning to go on from.
# Index: snapshot_newest.
_CURSOR = query(
    "landing_cursor",
    Login.LAND,
    """
    WITH certified AS (
        SELECT s.cursor, s.finished_at, s.started_at, s.is_full FROM sync.snapshot s
        JOIN sync.connection c ON c.tenant_id = s.tenant_id AND c.partner = s.partner AND c.changed_at <= s.started_at
        WHERE s.tenant_id = :tenant AND s.partner = :partner AND s.entity = :entity AND s.state = 'certified'
          AND s.mapping = CAST(:mapping AS text))
    SELECT (SELECT cursor FROM certified ORDER BY started_at DESC LIMIT 1) AS cursor,
           (SELECT finished_at FROM certified WHERE is_full ORDER BY started_at DESC LIMIT 1) AS last_full_at
    """,
)
# Index: snapshot_newest.
_LAST_ENDED = query(
    "last_ended_snapshot",
    Login.LAND,
    f"""
    SELECT s.snapshot_id AS snapshot, s.state, {told("s")} AS reason, s.params,
           coalesce(s.is_full, false) AS is_full, s.pages, s.records FROM sync.snapshot s
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
           c.land_every AS every
    FROM sync.connection c
    LEFT JOIN LATERAL (
        SELECT s.started_at FROM sync.snapshot s
        WHERE s.tenant_id = c.tenant_id AND s.partner = c.partner AND s.entity = :entity AND s.state = 'certified'
          AND s.started_at >= c.changed_at
        ORDER BY s.started_at DESC LIMIT 1) AS last ON true
    WHERE c.tenant_id = :tenant AND c.partner = :partner
    """,
)


def begin(tx: Transaction, reading: Reading, *, mapping: str, full_before: datetime, shape: str) -> Begun | None:
    """Begin `reading`, or take up the one that a dead process left or that broke off; None while another one goes on.

    One that was left and cannot be taken up (it reads by another `mapping`, its connection has changed, its partner
    gave no token, it is older than an hour, or its progress has another `shape`) is given up. If no full reading by
    this mapping was certified since `full_before`, all records are read.
    """
    _LOCK.run(tx, **reading.parameters())
    left = _UNDER_WAY.one(tx, mapping=mapping, shape=shape, **reading.parameters())
    if left is not None and not left["is_left"]:
        return None
    if left is not None and left["may_go_on"]:
        attempt = _TAKE_UP.run(tx, snapshot=left["snapshot"], tenant=reading.tenant).scalar_one()
        mine = replace(reading, snapshot=left["snapshot"], attempt=attempt)
        return Begun(mine, left["since"], left["resume"], left["progress"])
    if left is not None:
        _GIVE_UP.run(tx, **reading.parameters())
    since = _cursor(tx, reading, mapping, full_before)
    _BEGIN.run(tx, snapshot=reading.snapshot, mapping=mapping, since=since, **reading.parameters())
    return Begun(reading, since)


def go_on(
    tx: Transaction, reading: Reading, *, pages: int, new_versions: int, resume: str | None, progress: Mapping[str, Any]
) -> bool:
    """Note that one more page was stored, in the transaction that stores it; False if another process took it up."""
    went = _GO_ON.run(
        tx,
        **_mine(reading),
        pages=pages,
        new_versions=new_versions,
        resume=resume,
        progress=json.dumps(dict(progress), ensure_ascii=False),
    )
    return went.scalar_one_or_none() is not None


def touch(tx: Transaction, reading: Reading) -> None:
    """Note that its process lives, though no page has come: who would take it up waits."""
    _TOUCH.run(tx, **_mine(reading))


def end(tx: Transaction, reading: Reading, verdict: Conclusion) -> bool:
    """Note how a reading ended; False if another process took it up."""
    told = {**vars(verdict), "params": json.dumps(dict(verdict.params))}
    return _END.run(tx, **_mine(reading), **told).scalar_one_or_none() is not None


def keep_calls(tx: Transaction, reading: Reading, calls: Sequence[Mapping[str, Any]]) -> None:
    """What was asked and answered when the reading broke off, masked; that of the entity's earlier ones goes."""
    _KEEP_CALLS.run(tx, snapshot=reading.snapshot, calls=json.dumps(list(calls)), **reading.parameters())


def last_ended(tx: Transaction, reading: Reading, besides: Sequence[str]) -> EndedReading | None:
    """The last reading of the entity that ended, but for those that ended for one of the reasons `besides`."""
    row = _LAST_ENDED.one(tx, besides=list(besides), **reading.parameters())
    return None if row is None else EndedReading(**row)


def age(tx: Transaction, reading: Reading) -> Age:
    """How old what can be relied on is. The connection must be there."""
    row = _AGE.one(tx, **reading.parameters())
    assert row is not None  # readings are begun for connections alone
    return Age(**row)


def _cursor(tx: Transaction, reading: Reading, mapping: str, full_before: datetime) -> str | None:
    """Where the last certified reading left off; None: all records are to be read."""
    row = _CURSOR.one(tx, mapping=mapping, **reading.parameters())
    assert row is not None  # a query without FROM has one row
    is_due = row["last_full_at"] is None or row["last_full_at"] <= full_before
    return None if is_due else row["cursor"]


def _mine(reading: Reading) -> dict[str, Any]:
    return {"snapshot": reading.snapshot, "tenant": reading.tenant, "attempt": reading.attempt}
