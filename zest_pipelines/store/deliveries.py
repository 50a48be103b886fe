"""The tables of the push: lease, intents, results, and the reading of what is pending. Written by `zest_push`.

`pending` is only read here: two trigger functions keep it (migrations, 0001_functions.sql).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from partners.contract import Entity, Verb
from resources.logins import Login
from zest_pipelines.core.outcome import Outcome
from zest_pipelines.core.weeks import Days
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query

_TERMINAL = "('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned')"
_DELIVERED = "('delivered', 'delivered_with_warning')"

# What makes a pending record ready, in two halves, since the scheduler asks the same without a look at any content.
READY_FROM = f"""JOIN sync.connection n ON n.tenant_id = p.tenant_id AND n.partner = p.partner
    LEFT JOIN sync.identity client ON client.tenant_id = p.tenant_id AND client.partner = p.partner
        AND client.entity = 'client' AND client.record_id = p.client_id AND client.valid_to IS NULL
    LEFT JOIN sync.identity staff ON staff.tenant_id = p.tenant_id AND staff.partner = p.partner
        AND staff.entity = 'staff' AND staff.record_id = p.staff_id AND staff.valid_to IS NULL
    LEFT JOIN LATERAL (
        SELECT r.partner_id, r.is_cancelled FROM sync.result r
        WHERE p.entity = 'visit_record' AND r.tenant_id = p.tenant_id AND r.partner = p.partner
          AND r.entity = 'visit' AND r.record_id = p.record_id AND r.outcome IN {_DELIVERED}
        ORDER BY r.version DESC LIMIT 1) AS visit ON true"""
_ASKED_FOR = """EXISTS (
           SELECT FROM sync.push_request q WHERE q.tenant_id = p.tenant_id AND q.partner = p.partner
           AND p.on_date BETWEEN q.from_date AND q.to_date AND q.requested_at >= p.edited_at)"""
REQUESTED = f"(n.timing = 'minute' OR {_ASKED_FOR})"
_ITS_TIME = """p.state IN ('due', 'retry', 'unknown') AND n.paused_at IS NULL
      AND (p.not_before IS NULL OR p.not_before <= clock_timestamp())"""
READY = f"{_ITS_TIME} AND (p.state = 'unknown' OR {REQUESTED})"
HAS_WHAT_IT_NEEDS = """(p.op = 'cancel' OR p.state = 'unknown' OR (
          client.partner_id IS NOT NULL AND (p.staff_id IS NULL OR staff.partner_id IS NOT NULL)
          AND (p.entity = 'visit' OR (visit.partner_id IS NOT NULL AND NOT visit.is_cancelled))))"""
COULD_GO = f"p.state <> 'parked' AND {REQUESTED} AND {HAS_WHAT_IT_NEEDS}"
# A stopped record that a person wants tried again, and that was not tried since.
ASKED_AGAIN = """p.state IN ('parked', 'conflict', 'retry') AND EXISTS (
          SELECT FROM sync.retry_request q WHERE q.tenant_id = p.tenant_id AND q.partner = p.partner
          AND coalesce(q.entity, p.entity) = p.entity AND coalesce(q.record_id, p.record_id) = p.record_id
          AND q.requested_at > (
              SELECT max(r.made_at) FROM sync.result r WHERE r.month = p.month AND r.tenant_id = p.tenant_id
              AND r.partner = p.partner AND r.entity = p.entity AND r.record_id = p.record_id
              AND r.version = p.version))"""
# A connection's newest result, if something was wrong with it and nothing speaks against that it still is.
LAST_ANSWER_FROM = """sync.connection n
    LEFT JOIN sync.credential k ON k.tenant_id = n.tenant_id AND k.partner = n.partner
    CROSS JOIN LATERAL (
        SELECT r.reason, r.made_at AS at FROM sync.result r
        WHERE r.tenant_id = n.tenant_id AND r.partner = n.partner ORDER BY r.result_no DESC LIMIT 1) AS last
    WHERE n.partner = :partner AND last.reason IS NOT NULL AND last.at > greatest(n.changed_at, k.changed_at)
      AND NOT EXISTS (SELECT FROM sync.push_request q WHERE q.tenant_id = n.tenant_id AND q.partner = n.partner
                      AND q.requested_at > last.at)
      AND NOT EXISTS (SELECT FROM sync.retry_request q WHERE q.tenant_id = n.tenant_id AND q.partner = n.partner
                      AND q.requested_at > last.at)
      AND NOT EXISTS (SELECT FROM sync.snapshot s WHERE s.tenant_id = n.tenant_id AND s.partner = n.partner
                      AND s.state = 'certified' AND s.finished_at > last.at)"""


@dataclass(frozen=True)
class Target:
    """One connection's way out."""

    tenant: str
    partner: str

    def parameters(self) -> dict[str, Any]:
        """As the queries name them."""
        return {"tenant": self.tenant, "partner": self.partner}


@dataclass(frozen=True)
class Key:
    """One version of one record. `month` is that of its edit: part of every key of history."""

    month: date
    entity: Entity
    record_id: UUID
    version: int


@dataclass(frozen=True)
class Known:
    """What the partner last said of a record that it has."""

    partner_id: str
    partner_version: str
    is_cancelled: bool
    links: Mapping[str, str]
    """What it was last sent with: entity to the partner's id."""


@dataclass(frozen=True)
class Doubt:
    """An intent whose end is not known: its process died, or its answer was lost."""

    intent_id: UUID
    key: Key
    verb: Verb
    idempotency_key: str
    image: Mapping[str, Any]
    links: Mapping[str, str]
    partner_id: str | None
    partner_version: str | None


@dataclass(frozen=True)
class Due:
    """A record whose newest version is due, with all that a command is built of."""

    key: Key
    op: str
    """upsert or cancel."""
    image: Mapping[str, Any]
    attempts: int
    edited_at: datetime
    client: str | None
    """The partner's id of the client; None: not known there."""
    staff: str | None
    visit: str | None
    """Of a visit record: the partner's id of its visit."""
    known: Known | None
    """None: the partner does not have it."""
    settled_version: int
    """Highest version with a terminal result; 0: none."""
    doubt: Doubt | None


@dataclass(frozen=True)
class Intent:
    """送信意図, ready to be committed."""

    intent_id: UUID
    key: Key
    verb: Verb
    idempotency_key: str
    links: Mapping[str, str]
    """Entity to the partner's id of what the record refers to."""
    partner_id: str | None
    partner_version: str | None


@dataclass(frozen=True)
class Result:
    """反映結果, ready to be appended."""

    key: Key
    outcome: Outcome
    reason: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    intent_id: UUID | None = None
    partner_id: str | None = None
    partner_version: str | None = None
    is_cancelled: bool = False
    not_before: datetime | None = None


@dataclass(frozen=True)
class LastAnswer:
    """The newest result of a connection that came with a reason."""

    reason: str
    at: datetime
    now: datetime
    """The database's clock at the reading."""


@dataclass(frozen=True)
class Backlog:
    """What is open at a connection."""

    pending: int
    parked: int
    oldest: datetime | None
    """Edit time of the oldest that could go: not parked, asked for, with all that it needs."""


_TAKE = query(
    "take_lease",
    Login.PUSH,
    """
    INSERT INTO sync.lease AS l (tenant_id, partner, epoch, holder, until)
    VALUES (:tenant, :partner, 1, :holder, clock_timestamp() + make_interval(secs => :seconds))
    ON CONFLICT (tenant_id, partner) DO UPDATE SET
        epoch = l.epoch + 1, holder = excluded.holder, until = excluded.until
    WHERE l.until <= clock_timestamp()
    RETURNING l.epoch
    """,
)
_HOLD = query(
    "hold_lease",
    Login.PUSH,
    """
    UPDATE sync.lease SET until = clock_timestamp() + make_interval(secs => :seconds)
    WHERE tenant_id = :tenant AND partner = :partner AND epoch = :epoch AND until > clock_timestamp()
    RETURNING epoch
    """,
)
_RELEASE = query(
    "release_lease",
    Login.PUSH,
    """
    UPDATE sync.lease SET until = clock_timestamp(), holder = ''
    WHERE tenant_id = :tenant AND partner = :partner AND epoch = :epoch AND until > clock_timestamp()
    """,
)
# Index: pending_queue, then one look-up a row in the others. A record in doubt, and one whose newest version is settled
# already (it came late), need no partner's ids.
_DUE = query(
    "due_records",
    Login.PUSH,
    f"""
    SELECT p.month, p.entity, p.record_id, p.version, p.op, p.attempts, p.edited_at, c.image,
           client.partner_id AS client, staff.partner_id AS staff,
           CASE WHEN NOT visit.is_cancelled THEN visit.partner_id END AS visit,
           known.partner_id AS known_id, known.partner_version AS known_partner_version,
           coalesce(known.links, '{{}}') AS known_links,
           coalesce(done.is_cancelled, false) AS done_is_cancelled,
           coalesce(ended.version, 0) AS settled_version,
           doubt.intent_id AS doubt_intent, doubt.month AS doubt_month, doubt.version AS doubt_version,
           doubt.verb AS doubt_verb, doubt.key AS doubt_key, doubt.image AS doubt_image,
           doubt.links AS doubt_links, doubt.partner_id AS doubt_partner_id,
           doubt.partner_version AS doubt_partner_version
    FROM sync.pending p
    {READY_FROM}
    JOIN sync.change c ON c.tenant_id = p.tenant_id AND c.partner = p.partner AND c.entity = p.entity
        AND c.record_id = p.record_id AND c.version = p.version AND c.month = p.month
    LEFT JOIN LATERAL (
        SELECT r.partner_id, r.partner_version, sent.links FROM sync.result r
        LEFT JOIN sync.intent sent ON sent.month = r.month AND sent.intent_id = r.intent_id
        WHERE r.tenant_id = p.tenant_id AND r.partner = p.partner AND r.entity = p.entity
          AND r.record_id = p.record_id AND r.partner_id IS NOT NULL
        ORDER BY r.version DESC, r.result_no DESC LIMIT 1) AS known ON true
    LEFT JOIN LATERAL (
        SELECT r.is_cancelled FROM sync.result r
        WHERE r.tenant_id = p.tenant_id AND r.partner = p.partner AND r.entity = p.entity
          AND r.record_id = p.record_id AND r.outcome IN {_DELIVERED}
        ORDER BY r.version DESC LIMIT 1) AS done ON true
    LEFT JOIN LATERAL (
        SELECT r.version FROM sync.result r
        WHERE r.tenant_id = p.tenant_id AND r.partner = p.partner AND r.entity = p.entity
          AND r.record_id = p.record_id AND r.outcome IN {_TERMINAL}
        ORDER BY r.version DESC LIMIT 1) AS ended ON true
    LEFT JOIN LATERAL (
        SELECT i.intent_id, i.month, i.version, i.verb, i.key, i.links, i.partner_id, i.partner_version,
               ic.image, i.made_at > clock_timestamp() - CAST(:under_way AS interval) AND NOT EXISTS (
                   SELECT FROM sync.result r WHERE r.month = i.month AND r.intent_id = i.intent_id) AS is_under_way
        FROM sync.intent i
        JOIN sync.change ic ON ic.tenant_id = i.tenant_id AND ic.partner = i.partner AND ic.entity = i.entity
            AND ic.record_id = i.record_id AND ic.version = i.version AND ic.month = i.month
        WHERE i.tenant_id = p.tenant_id AND i.partner = p.partner AND i.entity = p.entity
          AND i.record_id = p.record_id
          AND NOT EXISTS (SELECT FROM sync.result r WHERE r.month = i.month AND r.intent_id = i.intent_id
                          AND r.outcome <> 'unknown')
        ORDER BY i.version DESC, i.made_at DESC LIMIT 1) AS doubt ON true
    WHERE p.tenant_id = :tenant AND p.partner = :partner AND {_ITS_TIME}
      AND p.entity = ANY (CAST(:entities AS text[])) AND NOT coalesce(doubt.is_under_way, false)
      AND p.on_date BETWEEN coalesce(CAST(:first AS date), '-infinity') AND coalesce(CAST(:last AS date), 'infinity')
      AND (NOT CAST(:asked_for AS boolean) OR {_ASKED_FOR})
      AND (doubt.intent_id IS NOT NULL OR ended.version >= p.version OR ({REQUESTED} AND {HAS_WHAT_IT_NEEDS}))
      AND (p.entity, p.record_id) <> ALL (
           SELECT * FROM unnest(CAST(:done_entities AS text[]), CAST(:done_ids AS uuid[])))
    ORDER BY p.attempts, p.since, p.entity, p.record_id
    LIMIT :most
    """,
)
_ADD_INTENT = query(
    "add_intent",
    Login.PUSH,
    """
    INSERT INTO sync.intent (month, intent_id, tenant_id, partner, entity, record_id, version, epoch, verb, key,
                             links, partner_id, partner_version)
    VALUES (:month, :intent_id, :tenant, :partner, :entity, :record_id, :version, :epoch, :verb, :key,
            CAST(:links AS jsonb), :partner_id, :partner_version)
    """,
)
_ADD_RESULT = query(
    "add_result",
    Login.PUSH,
    """
    INSERT INTO sync.result (month, tenant_id, partner, entity, record_id, version, intent_id, outcome, reason, params,
                             partner_id, partner_version, is_cancelled, not_before)
    VALUES (:month, :tenant, :partner, :entity, :record_id, :version, :intent_id, :outcome, :reason,
            CAST(:params AS jsonb), :partner_id, :partner_version, :is_cancelled, :not_before)
    """,
)
# Older versions end with the newer one, in its transaction; late ones too. Index: the primary key of change.
_SUPERSEDE = query(
    "supersede_older",
    Login.PUSH,
    f"""
    INSERT INTO sync.result (month, tenant_id, partner, entity, record_id, version, outcome)
    SELECT c.month, c.tenant_id, c.partner, c.entity, c.record_id, c.version, 'superseded'
    FROM sync.change c
    WHERE c.tenant_id = :tenant AND c.partner = :partner AND c.entity = :entity AND c.record_id = :record_id
      AND c.version < :version
      AND NOT EXISTS (SELECT FROM sync.result r WHERE r.tenant_id = c.tenant_id AND r.partner = c.partner
                      AND r.entity = c.entity AND r.record_id = c.record_id AND r.version = c.version
                      AND r.outcome IN {_TERMINAL})
    RETURNING 1
    """,
)
_LAST_ANSWER = query(
    "last_answer",
    Login.PUSH,
    f"""
    SELECT last.reason, last.at, clock_timestamp() AS now FROM {LAST_ANSWER_FROM} AND n.tenant_id = :tenant
    """,
)
_ASKED_AGAIN = query(
    "records_asked_for_again",
    Login.PUSH,
    f"""
    SELECT p.month, p.entity, p.record_id, p.version FROM sync.pending p
    WHERE p.tenant_id = :tenant AND p.partner = :partner AND {ASKED_AGAIN}
    """,
)
# What may be cured: the connection or its credential changed since, or a fault of the whole connection has passed.
_CURABLE = query(
    "curable_records",
    Login.PUSH,
    """
    SELECT p.month, p.entity, p.record_id, p.version FROM sync.pending p
    JOIN sync.connection n ON n.tenant_id = p.tenant_id AND n.partner = p.partner
    LEFT JOIN sync.credential k ON k.tenant_id = p.tenant_id AND k.partner = p.partner
    CROSS JOIN LATERAL (
        SELECT r.result_no, r.made_at FROM sync.result r
        WHERE r.tenant_id = p.tenant_id AND r.partner = p.partner AND r.entity = p.entity
          AND r.record_id = p.record_id AND r.version = p.version
        ORDER BY r.result_no DESC LIMIT 1) AS parked
    WHERE p.tenant_id = :tenant AND p.partner = :partner AND p.state = 'parked'
      AND (greatest(n.changed_at, k.changed_at) > parked.made_at
           OR EXISTS (
               SELECT FROM sync.result r WHERE r.tenant_id = p.tenant_id AND r.partner = p.partner
               AND r.result_no > parked.result_no AND r.outcome = 'delivered'
               AND (p.reason = ANY (CAST(:connection_reasons AS text[]))
                    OR (p.reason = ANY (CAST(:entity_reasons AS text[])) AND r.entity = p.entity))))
    """,
)
_BACKLOG = query(
    "backlog",
    Login.PUSH,
    f"""
    SELECT count(*) AS pending, count(*) FILTER (WHERE p.state = 'parked') AS parked,
           min(p.since) FILTER (WHERE {COULD_GO}) AS oldest
    FROM sync.pending p
    {READY_FROM}
    WHERE p.tenant_id = :tenant AND p.partner = :partner
    """,
)


def take_lease(tx: Transaction, target: Target, holder: str, seconds: float) -> int | None:
    """The epoch of a new lease of `seconds`, by the database's clock; None while another one holds."""
    return _TAKE.run(tx, holder=holder, seconds=seconds, **target.parameters()).scalar_one_or_none()


def hold_lease(tx: Transaction, target: Target, epoch: int, seconds: float) -> bool:
    """Whether the lease is still ours; then it lasts `seconds` from now, and nobody takes it before we commit."""
    held = _HOLD.run(tx, epoch=epoch, seconds=seconds, **target.parameters()).scalar_one_or_none()
    return held is not None


def release_lease(tx: Transaction, target: Target, epoch: int) -> None:
    """Give the lease back, if it is still ours."""
    _RELEASE.run(tx, epoch=epoch, **target.parameters())


def due(
    tx: Transaction,
    target: Target,
    entities: Sequence[Entity],
    most: int,
    done: Sequence[tuple[Entity, UUID]] = (),
    under_way: timedelta = timedelta(0),
    days: Days | None = None,
) -> tuple[Due, ...]:
    """Up to `most` due records of these kinds and days (None: of all), without those in `done`, longest waiting first.

    As long as there are some that a person has asked for, it is only them.

    A record whose newest intent is younger than `under_way` and has no result yet is left out: the call may go on.
    """
    for asked_for in (True, False):  # as a rank in one ORDER BY, all that is due would be read to find the first
        rows = _DUE.all(
            tx,
            entities=[entity.value for entity in entities],
            most=most,
            done_entities=[entity.value for entity, _ in done],
            done_ids=[record_id for _, record_id in done],
            under_way=under_way,
            first=days and days.first,
            last=days and days.last,
            asked_for=asked_for,
            **target.parameters(),
        )
        if rows:
            break
    return tuple(_due(row) for row in rows)


def add_intent(tx: Transaction, target: Target, epoch: int, intent: Intent) -> None:
    """Store an intent. In the same transaction the lease must have been held."""
    _ADD_INTENT.run(
        tx,
        intent_id=intent.intent_id,
        epoch=epoch,
        verb=intent.verb.value,
        key=intent.idempotency_key,
        links=json.dumps(dict(intent.links)),
        partner_id=intent.partner_id,
        partner_version=intent.partner_version,
        **_key(target, intent.key),
    )


def add_result(tx: Transaction, target: Target, result: Result) -> None:
    """Append a result."""
    _ADD_RESULT.run(
        tx,
        intent_id=result.intent_id,
        outcome=result.outcome,
        reason=result.reason,
        params=json.dumps(dict(result.params)),
        partner_id=result.partner_id,
        partner_version=result.partner_version,
        is_cancelled=result.is_cancelled,
        not_before=result.not_before,
        **_key(target, result.key),
    )


def supersede_older(tx: Transaction, target: Target, key: Key) -> int:
    """End every open version of the record below `key`'s; how many there were."""
    parameters = _key(target, key)
    del parameters["month"]
    return len(_SUPERSEDE.column(tx, **parameters))


def last_answer(tx: Transaction, target: Target) -> LastAnswer | None:
    """The connection's newest result, if something was wrong with it and nothing speaks against that it still is.

    What does: the connection or its credential was changed since, the partner was read since without a fault, or a
    person has asked for days or for another try since.
    """
    row = _LAST_ANSWER.one(tx, **target.parameters())
    return None if row is None else LastAnswer(**row)


def curable(
    tx: Transaction, target: Target, connection_reasons: Sequence[str], entity_reasons: Sequence[str]
) -> tuple[Key, ...]:
    """Parked records worth another try. The reasons: faults of a whole connection, and of all records of a kind."""
    reasons = {"connection_reasons": list(connection_reasons), "entity_reasons": list(entity_reasons)}
    return _keys(_CURABLE.all(tx, **reasons, **target.parameters()))


def asked_again(tx: Transaction, target: Target) -> tuple[Key, ...]:
    """Stopped records that a person wants tried again, and that were not tried since."""
    return _keys(_ASKED_AGAIN.all(tx, **target.parameters()))


def backlog(tx: Transaction, target: Target) -> Backlog:
    """What is open now."""
    row = _BACKLOG.one(tx, **target.parameters())
    assert row is not None  # an aggregate without GROUP BY has one row
    return Backlog(**row)


def _key(target: Target, key: Key) -> dict[str, Any]:
    return {
        "month": key.month,
        "entity": key.entity.value,
        "record_id": key.record_id,
        "version": key.version,
        **target.parameters(),
    }


def _keys(rows: Sequence[RowMapping]) -> tuple[Key, ...]:
    return tuple(Key(row["month"], Entity(row["entity"]), row["record_id"], row["version"]) for row in rows)


def _due(row: RowMapping) -> Due:
    entity, record_id = Entity(row["entity"]), row["record_id"]
    known = doubt = None
    if row["known_id"] is not None:
        known = Known(
            row["known_id"],
            row["known_partner_version"] or "",
            row["done_is_cancelled"],
            row["known_links"],
        )
    if row["doubt_intent"] is not None:
        doubt = Doubt(
            row["doubt_intent"],
            Key(row["doubt_month"], entity, record_id, row["doubt_version"]),
            Verb(row["doubt_verb"]),
            row["doubt_key"],
            row["doubt_image"],
            row["doubt_links"],
            row["doubt_partner_id"],
            row["doubt_partner_version"],
        )
    return Due(
        Key(row["month"], entity, record_id, row["version"]),
        op=row["op"],
        image=row["image"],
        attempts=row["attempts"],
        edited_at=row["edited_at"],
        client=row["client"],
        staff=row["staff"],
        visit=row["visit"],
        known=known,
        settled_version=row["settled_version"],
        doubt=doubt,
    )
