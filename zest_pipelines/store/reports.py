"""What is shown to people: connections in numbers and a record's timeline. Read by `zest_operator`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from partners.contract import MASTERS, Entity
from resources.logins import Login
from zest_pipelines.store.classifications import told
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query
from zest_pipelines.store.unread import IS_UNREAD


@dataclass(frozen=True)
class MasterStatus:
    """One entity's way in."""

    records: int
    """Records that the partner has, by what landed."""
    snapshot: str | None
    """State of the newest reading: reading, certified, incomplete, failed; None: there was none."""
    reason: str | None
    at: datetime | None
    """When that reading began."""
    applied: int
    rejected: int
    held: int


@dataclass(frozen=True)
class OutStatus:
    """One connection's way out."""

    changes: int
    delivered: int
    """Records that the partner has had from us."""
    pending: int
    parked: int
    unknown: int
    """In doubt or in conflict."""
    oldest_pending_seconds: float | None
    """Age of the oldest edit that the partner has not got, parked ones aside; None: there is none."""


@dataclass(frozen=True)
class LastError:
    """The newest thing that went wrong and still stands."""

    at: datetime
    reason: str
    params: Mapping[str, str]


@dataclass(frozen=True)
class ConnectionStatus:
    """One connection in numbers."""

    tenant: str
    partner: str
    timing: str
    weight: int
    """Its share of a limit that tenants share, beside the others'."""
    deliver_within_seconds: float | None
    """How old an edit may get before the partner has it; None: no deadline of its own."""
    is_paused: bool
    pause_reason: str | None
    masters: Mapping[Entity, MasterStatus]
    out: OutStatus
    last_error: LastError | None


@dataclass(frozen=True)
class Step:
    """One step of a record's life."""

    at: datetime
    partner: str | None
    """None: at the product."""
    what: str
    """edited, queued, sent, answered or settled."""
    version: int
    outcome: str | None
    """Of an answer or an end: the outcome; of a sending: the verb."""
    reason: str | None
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CallsOfResult:
    """What was asked of a partner and what it answered, as it is kept with the result that came of it: masked."""

    at: datetime
    partner: str
    version: int
    outcome: str
    reason: str
    calls: Sequence[Mapping[str, Any]]
    """method, path, asked, status (None: no answer), answer."""


@dataclass(frozen=True)
class ReadingStatus:
    """One reading of an entity, as it ended or stands."""

    at: datetime
    """When it began."""
    state: str
    reason: str | None
    params: Mapping[str, str]
    is_full: bool | None
    pages: int
    records: int
    new_versions: int
    calls: Sequence[Mapping[str, Any]] | None
    """The last ones, masked, of the newest that broke off at a call."""


@dataclass(frozen=True)
class LandedStatus:
    """A client or staff member as it came once, what became of that, and the reading that brought it."""

    landed_at: datetime
    record_id: UUID | None
    """None: it was not applied."""
    outcome: str | None
    """None: nothing became of it yet."""
    reason: str | None
    params: Mapping[str, str]
    reading: ReadingStatus


_CONNECTIONS = query(
    "connection_status",
    Login.OPERATOR,
    """
    SELECT h.partner, h.timing, h.is_paused, h.pause_reason, h.pending, h.parked, h.unknown, n.weight,
           CAST(extract(epoch FROM n.deliver_within) AS float8) AS deliver_within_seconds,
           CAST(extract(epoch FROM clock_timestamp() - h.oldest) AS float8) AS oldest_pending_seconds,
           (SELECT count(*) FROM sync.change c WHERE c.tenant_id = h.tenant_id AND c.partner = h.partner) AS changes,
           (SELECT count(*) FROM sync.standing s WHERE s.tenant_id = h.tenant_id AND s.partner = h.partner
            AND s.delivered_version > 0) AS delivered
    FROM sync.connection_health h
    JOIN sync.connection n ON n.tenant_id = h.tenant_id AND n.partner = h.partner
    WHERE h.tenant_id = :tenant ORDER BY h.partner
    """,
)
_MASTER = query(
    "master_status",
    Login.OPERATOR,
    f"""
    SELECT count(v.partner_id) AS records, last.state AS snapshot, last.reason, last.started_at AS at,
           count(*) FILTER (WHERE ended.outcome = 'applied') AS applied,
           count(*) FILTER (WHERE ended.outcome = 'rejected') AS rejected,
           count(*) FILTER (WHERE ended.outcome = 'held') AS held
    FROM (SELECT 1) AS one
    LEFT JOIN LATERAL (
        SELECT s.state, {told("s")} AS reason, s.started_at FROM sync.snapshot s
        WHERE s.tenant_id = :tenant AND s.partner = :partner AND s.entity = :entity
        ORDER BY s.started_at DESC LIMIT 1) AS last ON true
    LEFT JOIN (
        SELECT DISTINCT ON (partner_id) partner_id, landed_no, fingerprint FROM sync.landed_version
        WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity
        ORDER BY partner_id, landed_no DESC) AS v ON v.fingerprint IS NOT NULL
    LEFT JOIN LATERAL (
        SELECT r.outcome FROM sync.master_result r
        WHERE r.tenant_id = :tenant AND r.partner = :partner AND r.entity = :entity AND r.partner_id = v.partner_id
          AND r.landed_no = v.landed_no
        ORDER BY r.result_no DESC LIMIT 1) AS ended ON true
    GROUP BY last.state, last.reason, last.started_at
    """,
)
# Of what still stands: the record is not settled, no good reading followed, the record neither landed anew nor has got
# another result.
_LAST_ERROR = query(
    "last_error",
    Login.OPERATOR,
    f"""
    SELECT at, reason, params FROM (
        (SELECT r.made_at AS at, {told("r")} AS reason, r.params FROM sync.pending p
         JOIN sync.result r ON r.month = p.month AND r.tenant_id = p.tenant_id AND r.partner = p.partner
             AND r.entity = p.entity AND r.record_id = p.record_id AND r.version = p.version
         WHERE p.tenant_id = :tenant AND p.partner = :partner AND p.state <> 'due'
           AND r.outcome IN ('retry', 'unknown', 'conflict', 'parked')
         ORDER BY r.result_no DESC LIMIT 1)
        UNION ALL
        (SELECT s.finished_at, {told("s")}, s.params FROM sync.snapshot s
         WHERE s.tenant_id = :tenant AND s.partner = :partner AND s.reason IS NOT NULL AND s.finished_at IS NOT NULL
           AND NOT EXISTS (SELECT FROM sync.snapshot later WHERE later.tenant_id = s.tenant_id
                           AND later.partner = s.partner AND later.entity = s.entity AND later.state = 'certified'
                           AND later.started_at > s.started_at)
         ORDER BY s.started_at DESC LIMIT 1)
        UNION ALL
        (SELECT m.made_at, m.reason, m.params FROM sync.master_result m
         WHERE m.tenant_id = :tenant AND m.partner = :partner AND m.reason IS NOT NULL
           AND NOT EXISTS (SELECT FROM sync.landed_version later WHERE later.tenant_id = m.tenant_id
                           AND later.partner = m.partner AND later.entity = m.entity
                           AND later.partner_id = m.partner_id AND later.landed_no > m.landed_no)
           AND NOT EXISTS (SELECT FROM sync.master_result later WHERE later.tenant_id = m.tenant_id
                           AND later.partner = m.partner AND later.entity = m.entity
                           AND later.partner_id = m.partner_id AND later.landed_no = m.landed_no
                           AND later.result_no > m.result_no)
         ORDER BY m.result_no DESC LIMIT 1)) AS errors
    ORDER BY at DESC LIMIT 1
    """,
)
_TIMELINE = query(
    "timeline",
    Login.OPERATOR,
    """
    SELECT at, partner, what, version, outcome, reason, params FROM sync.delivery
    WHERE tenant_id = :tenant AND entity = :entity AND record_id = :record_id
    ORDER BY at, step
    """,
)
# Index: result_of_record.
_CALLS = query(
    "calls_of_record",
    Login.OPERATOR,
    f"""
    SELECT r.made_at AS at, r.partner, r.version, r.outcome, {told("r")} AS reason, r.calls FROM sync.result r
    WHERE tenant_id = :tenant AND partner IN (SELECT partner FROM sync.connection WHERE tenant_id = :tenant)
      AND entity = :entity AND record_id = :record_id AND calls IS NOT NULL
    ORDER BY result_no
    """,
)
_OF_READING = f"""
    s.started_at AS at, s.state, {told("s")} AS reason, s.params, s.is_full, s.pages, s.records, s.new_versions, s.calls
"""
_READINGS = query(
    "recent_readings",
    Login.OPERATOR,
    f"""
    SELECT {_OF_READING} FROM sync.snapshot s
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity
    ORDER BY started_at DESC LIMIT :most
    """,
)
_LANDED_NUMBERS = query(
    "landed_numbers",
    Login.OPERATOR,
    "SELECT partner, entity, landed_no FROM sync.landed_version WHERE tenant_id = :tenant",
)
_LANDED = query(
    "landed_and_what_became_of_it",
    Login.OPERATOR,
    """
    SELECT v.snapshot_id, v.landed_at, ended.record_id, ended.outcome, coalesce(ended.reason, v.problem) AS reason,
           CASE WHEN ended.reason IS NULL THEN v.params ELSE ended.params END AS params
    FROM sync.landed_version v
    LEFT JOIN LATERAL (
        SELECT r.record_id, r.outcome, r.reason, r.params FROM sync.master_result r
        WHERE r.tenant_id = v.tenant_id AND r.partner = v.partner AND r.entity = v.entity
          AND r.partner_id = v.partner_id AND r.landed_no = v.landed_no
        ORDER BY r.result_no DESC LIMIT 1) AS ended ON true
    WHERE v.tenant_id = :tenant AND v.partner = :partner AND v.entity = :entity AND v.landed_no = :landed_no
    """,
)
_READING = query(
    "one_reading",
    Login.OPERATOR,
    f"SELECT {_OF_READING} FROM sync.snapshot s WHERE s.tenant_id = :tenant AND s.snapshot_id = :snapshot",
)
_SERVER_VERSION = query("server_version", Login.OPERATOR, "SELECT current_setting('server_version')")


_IS_UNREAD = query(
    "record_has_unread_edits",
    Login.OPERATOR,
    f"""
    SELECT EXISTS (
        SELECT FROM sync.connection c
        LEFT JOIN sync.event_cursor k ON k.tenant_id = c.tenant_id AND k.partner = c.partner
        JOIN sync.update_event e ON e.tenant_id = c.tenant_id AND e.entity = :entity AND e.record_id = :record_id
            AND {IS_UNREAD}
        WHERE c.tenant_id = :tenant AND c.partner <> ALL (CAST(:only_read AS text[])))
    """,
)


def connections(tx: Transaction, tenant: str) -> tuple[ConnectionStatus, ...]:
    """A tenant's connections in numbers, by partner."""
    return tuple(
        ConnectionStatus(
            tenant,
            row["partner"],
            row["timing"],
            row["weight"],
            row["deliver_within_seconds"],
            row["is_paused"],
            row["pause_reason"],
            {entity: _master(tx, tenant, row["partner"], entity) for entity in MASTERS},
            OutStatus(**{name: row[name] for name in OutStatus.__dataclass_fields__}),
            _last_error(tx, tenant, row["partner"]),
        )
        for row in _CONNECTIONS.all(tx, tenant=tenant)
    )


def timeline(tx: Transaction, tenant: str, entity: Entity, record_id: UUID) -> tuple[Step, ...]:
    """A record's life at the product and at every partner, oldest first; empty if it was never edited."""
    rows = _TIMELINE.all(tx, tenant=tenant, entity=entity.value, record_id=record_id)
    return tuple(Step(**row) for row in rows)


def calls(tx: Transaction, tenant: str, entity: Entity, record_id: UUID) -> tuple[CallsOfResult, ...]:
    """What was asked and answered about a record, oldest first, where there was something to explain.

    Not for the product: who looks at it is noted in the audit log by the caller.
    """
    rows = _CALLS.all(tx, tenant=tenant, entity=entity.value, record_id=record_id)
    return tuple(CallsOfResult(**row) for row in rows)


def readings(tx: Transaction, tenant: str, partner: str, entity: Entity, most: int) -> tuple[ReadingStatus, ...]:
    """The newest readings of an entity, newest first."""
    rows = _READINGS.all(tx, tenant=tenant, partner=partner, entity=entity.value, most=most)
    return tuple(ReadingStatus(**row) for row in rows)


def landed_numbers(tx: Transaction, tenant: str) -> tuple[tuple[str, Entity, int], ...]:
    """Partner, kind and number of all that ever came of the tenant's clients and staff."""
    rows = _LANDED_NUMBERS.all(tx, tenant=tenant)
    return tuple((row["partner"], Entity(row["entity"]), row["landed_no"]) for row in rows)


def landed(tx: Transaction, tenant: str, partner: str, entity: Entity, landed_no: int) -> LandedStatus:
    """What came under that number, which must be one of `landed_numbers`."""
    row = _LANDED.one(tx, tenant=tenant, partner=partner, entity=entity.value, landed_no=landed_no)
    assert row is not None
    came = dict(row)
    reading = _READING.one(tx, tenant=tenant, snapshot=came.pop("snapshot_id"))
    assert reading is not None  # what came refers to it
    return LandedStatus(**came, reading=ReadingStatus(**reading))


def server_version(tx: Transaction) -> str:
    """Of PostgreSQL."""
    return str(_SERVER_VERSION.run(tx).scalar_one())


def has_unread_edits(
    tx: Transaction, tenant: str, entity: Entity, record_id: UUID, only_read: Collection[str] = ()
) -> bool:
    """Whether an edit of the record has not been looked at yet for some connection: no badge speaks of it so far.

    `only_read`: the partners to which nothing is written, for whom nobody looks at edits.
    """
    named = {"tenant": tenant, "entity": entity.value, "record_id": record_id, "only_read": list(only_read)}
    found: bool = _IS_UNREAD.run(tx, **named).scalar_one()
    return found


def _master(tx: Transaction, tenant: str, partner: str, entity: Entity) -> MasterStatus:
    row = _MASTER.one(tx, tenant=tenant, partner=partner, entity=entity.value)
    assert row is not None  # it selects from one row
    return MasterStatus(**row)


def _last_error(tx: Transaction, tenant: str, partner: str) -> LastError | None:
    row = _LAST_ERROR.one(tx, tenant=tenant, partner=partner)
    return None if row is None else LastError(**row)
