"""What a push takes up: records whose turn it is, with all that their commands are built of. Read by `zest_push`.

`pending` says what is open and `standing` what is settled, so that history is looked at by its key and its month alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from partners.contract import Entity, Verb
from resources.logins import Login
from zest_pipelines.core.weeks import Days
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.keys import Key, Target, key_of
from zest_pipelines.store.query import query

GOES = "p.state IN ('due', 'retry', 'unknown') AND p.waits_for IS NULL"
"""Of the pending row `p`: it goes by itself, at its time. Index: pending_queue."""
IS_ITS_TIME = f"{GOES} AND (p.not_before IS NULL OR p.not_before <= clock_timestamp())"
DUE_SINCE = "coalesce(p.not_before, p.since)"
"""Of the pending row `p`: since when it has been due, or from when on it is. Index: pending_queue is in its order."""
COULD_GO = "p.state <> 'parked' AND (p.waits_for IS NULL OR sync.waits_for(p) IS NULL)"
"""Of the pending row `p`: nothing is missing that it needs, also where no push has looked since."""
IS_SUSPECT = """s.suspect_state IN ('due', 'retry', 'unknown')
      AND (s.suspect_not_before IS NULL OR s.suspect_not_before <= clock_timestamp())
      AND NOT EXISTS (SELECT FROM sync.pending newer WHERE newer.tenant_id = s.tenant_id AND newer.partner = s.partner
                      AND newer.entity = s.entity AND newer.record_id = s.record_id)"""
"""Of the standing `s`: it is to be read again now; a newer version that is pending will settle it anyhow."""
_CALL_IS_OVER = """(s.doubt_intent IS NULL OR s.doubt_is_answered
               OR s.doubt_at <= clock_timestamp() - CAST(:under_way AS interval))"""
"""Of the standing `s`: no call for the record can still be under way."""

OVERWRITING = "overwriting_partner_change"
"""The reason of an attempt that ran into somebody's change at the partner, which ours is to go over by policy."""


def noted_copy(p: str, s: str) -> str:
    """Of the pending row `p` whose standing is `s`: `Due.overwriting`.

    Index: result_of_record, of those alone of which the partner was heard since a version was delivered.
    """
    return f"""CASE WHEN {s}.known_version > {s}.delivered_version THEN (
               SELECT coalesce(r.theirs, '{{}}') FROM sync.result r
               WHERE r.tenant_id = {p}.tenant_id AND r.partner = {p}.partner AND r.entity = {p}.entity
                 AND r.record_id = {p}.record_id AND r.version > {s}.delivered_version AND r.version <= {p}.version
                 AND r.reason = '{OVERWRITING}'
               ORDER BY r.result_no DESC LIMIT 1) END"""


SUSPECT_KEY = """coalesce(s.delivered_month, CAST(date_trunc('month', s.suspect_since) AS date)) AS month, s.entity,
           s.record_id, s.delivered_version AS version"""
"""Of the standing `s`: the delivered version that should stand at the partner; 0: none."""

Record = tuple[Entity, UUID]


@dataclass(frozen=True)
class KnownCopy:
    """What the partner last said of a record that it has."""

    partner_id: str
    partner_version: str
    is_cancelled: bool
    links: Mapping[str, str]
    """What it was last sent with: entity to the partner's id."""
    version: int
    """Of ours: what it said that of."""


@dataclass(frozen=True)
class Base:
    """The newest delivered version of a record: what the partner's copy should be."""

    key: Key
    image: Mapping[str, Any]
    verb: Verb
    """UPDATE, whatever it was sent as; CANCEL if the partner should hold it as cancelled."""
    links: Mapping[str, str]


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
    made_at: datetime
    is_repair: bool
    """Whether it was to repair a settled record: its end is a repair and no result."""


@dataclass(frozen=True)
class Due:
    """A record whose newest version is due, with all that a command is built of."""

    key: Key
    op: str
    """upsert or cancel."""
    image: Mapping[str, Any]
    attempts: int
    client: str | None
    """The partner's id of the client; None: not known there."""
    staff: str | None
    visit: str | None
    """Of a visit record: the partner's id of its visit."""
    known: KnownCopy | None
    """None: the partner does not have it."""
    base: Base | None
    """None: no version of it was ever sent and delivered, or its month is archived."""
    settled_version: int
    """Highest version with a terminal result; 0: none."""
    doubt: Doubt | None
    unsure_for: str | None = None
    """Of a version in doubt: the reason of the answer that left it, whatever looks met since; None: there was none."""
    unsure_params: Mapping[str, str] = field(default_factory=dict)
    lost: int = 0
    """Of a version in doubt, how often a look has found that it had no effect."""
    is_asked_for: bool = False
    """Whether a person has asked for it and waits."""
    overwriting: Mapping[str, str] | None = field(default=None, repr=False)
    """What somebody changed there since a version was delivered, and ours is to go over; as `Found.theirs` told it.

    None: nothing was noticed. A person's data."""


@dataclass(frozen=True)
class Suspect:
    """A settled record that a late sender may have touched, with what the partner should have of it."""

    key: Key
    """The newest delivered version; version 0: none ever was, so nothing should stand there."""
    image: Mapping[str, Any] | None
    """None: there is nothing to compare with, since it was never delivered or its month is archived."""
    verb: Verb
    """UPDATE, or CANCEL if the partner should hold it as cancelled."""
    links: Mapping[str, str]
    partner_id: str | None
    partner_version: str | None
    attempts: int
    doubt: Doubt | None
    """A repair whose end is not known."""
    claimed_at: datetime
    """By the database's clock: what was suspected up to then is answered by a look that begins now."""


@dataclass(frozen=True)
class Backlog:
    """What is open at a connection."""

    pending: int
    parked: int
    oldest: datetime | None
    """Edit time of the oldest that could go: not parked, asked for, with all that it needs."""


_TAKEN = f"""
        SELECT p.*, %s AS is_asked_for, sync.waits_for(p) AS waits_in_truth, coalesce(s.version, 0) AS settled_version,
               s.delivered_version, s.delivered_month, s.is_cancelled, s.known_version, s.partner_id,
               s.partner_version, s.links, s.doubt_intent, s.doubt_month, s.doubt_at
        FROM sync.pending p
        JOIN sync.connection n ON n.tenant_id = p.tenant_id AND n.partner = p.partner AND n.paused_at IS NULL
        LEFT JOIN LATERAL (
            SELECT * FROM sync.standing s WHERE s.tenant_id = p.tenant_id AND s.partner = p.partner
              AND s.entity = p.entity AND s.record_id = p.record_id
            LIMIT 1) AS s ON true -- one probe a row, whatever is thought of the tenant's size
        WHERE p.tenant_id = :tenant AND p.partner = :partner AND {IS_ITS_TIME}
          AND p.entity = ANY (CAST(:entities AS text[]))
          AND CASE WHEN CAST(:first AS date) IS NULL THEN true
                   ELSE p.on_date BETWEEN CAST(:first AS date) AND CAST(:last AS date) END
          AND (p.entity, p.record_id) NOT IN (
               SELECT * FROM unnest(CAST(:busy_entities AS text[]), CAST(:busy_ids AS uuid[])))
          AND {_CALL_IS_OVER}
          AND %s
        ORDER BY {DUE_SINCE} %s
        LIMIT :most"""
# What stands in pending is of the newest look. An intent without an answer is looked at once the lease that it was made
# under has run out: what is stored as late as that is of a look. Index: result_of_record, in the month's partition.
_ANSWER_OF_SEND = """
        SELECT r.reason, r.params FROM sync.result r
        WHERE r.month = p.doubt_month AND r.tenant_id = p.tenant_id AND r.partner = p.partner AND r.entity = p.entity
          AND r.record_id = p.record_id AND r.version = p.version AND r.intent_id = p.doubt_intent
          AND r.outcome = 'unknown' AND r.made_at < p.doubt_at + interval '1 minute'
        ORDER BY r.result_no LIMIT 1"""
_IS_ASKED_FOR = """
              EXISTS (SELECT FROM sync.push_request q WHERE q.tenant_id = :tenant AND q.partner = :partner)
          AND EXISTS (SELECT FROM sync.push_request q WHERE q.tenant_id = p.tenant_id AND q.partner = p.partner
                      AND p.on_date BETWEEN q.from_date AND q.to_date AND q.requested_at >= p.edited_at)"""
_NOBODY_ASKED = "NOT EXISTS (SELECT FROM asked_for a WHERE a.waits_in_truth IS NULL)"
# Index: pending_queue in its own order until `most` are found, then one look-up a row in the others; as subqueries,
# which are that also where the tables have no statistics and a join would read all of a tenant's rows. What a row says
# that it waits for may be out of date, so the rule itself is asked of those that are taken; `recheck` heals the rest.
# Where nobody ever asked for days (one look for all), no row is asked whether somebody did. What is asked for is looked
# for by itself: as a rank in one ORDER BY, all that is due would be read to find the first.
_DUE_SQL = f"""
    WITH asked_for AS MATERIALIZED ({_TAKEN % ("true", _IS_ASKED_FOR, "%(order)s")}
    ), taken AS MATERIALIZED (
        SELECT * FROM asked_for
        UNION ALL
        ({_TAKEN % ("false", f"{_NOBODY_ASKED} %(of_them)s", "%(order)s")})
    )
    SELECT p.month, p.entity, p.record_id, p.version, p.op, p.attempts, p.settled_version, p.is_asked_for,
           p.delivered_version, p.delivered_month, p.is_cancelled, p.known_version, p.partner_id, p.partner_version,
           p.links, p.doubt_intent, p.doubt_month, {noted_copy("p", "p")} AS overwriting,
           sent.reason AS unsure_for, sent.params AS unsure_params,
           (SELECT count(*) FROM sync.result r
            WHERE p.state = 'unknown' AND r.month = p.doubt_month AND r.tenant_id = p.tenant_id
              AND r.partner = p.partner AND r.entity = p.entity AND r.record_id = p.record_id
              AND r.version = p.version AND r.reason IN ('not_arrived', 'found_different')) AS lost,
           (SELECT c.image FROM sync.change c
            WHERE c.tenant_id = p.tenant_id AND c.partner = p.partner AND c.entity = p.entity
              AND c.record_id = p.record_id AND c.version = p.version AND c.month = p.month) AS image,
           (SELECT i.partner_id FROM sync.identity i
            WHERE i.tenant_id = p.tenant_id AND i.partner = p.partner AND i.entity = 'client'
              AND i.record_id = p.client_id AND i.valid_to IS NULL) AS client,
           (SELECT i.partner_id FROM sync.identity i
            WHERE i.tenant_id = p.tenant_id AND i.partner = p.partner AND i.entity = 'staff'
              AND i.record_id = p.staff_id AND i.valid_to IS NULL) AS staff,
           (SELECT v.partner_id FROM sync.standing v
            WHERE p.entity = 'visit_record' AND v.tenant_id = p.tenant_id AND v.partner = p.partner
              AND v.entity = 'visit' AND v.record_id = p.record_id
              AND v.delivered_version > 0 AND NOT v.is_cancelled) AS visit
    FROM taken p
    LEFT JOIN LATERAL ({_ANSWER_OF_SEND}) AS sent ON p.state = 'unknown'
    WHERE p.waits_in_truth IS NULL
    ORDER BY {DUE_SINCE} %(order)s
    """
_DUE = query("due_records", Login.PUSH, _DUE_SQL % {"order": "", "of_them": ""})
# Index: the same one, from its end; what was tried is passed over, and most of it waits for its time.
_NEWEST_UNTRIED = query(
    "newest_untried_records", Login.PUSH, _DUE_SQL % {"order": "DESC", "of_them": "AND p.attempts = 0"}
)
# Index: standing_suspect.
_SUSPECTS = query(
    "suspect_records",
    Login.PUSH,
    f"""
    SELECT {SUSPECT_KEY}, s.is_cancelled, s.links, s.partner_id, s.partner_version, s.suspect_attempts AS attempts,
           s.doubt_intent, s.doubt_month, c.image, clock_timestamp() AS claimed_at
    FROM sync.standing s
    JOIN sync.connection n ON n.tenant_id = s.tenant_id AND n.partner = s.partner AND n.paused_at IS NULL
    LEFT JOIN sync.change c ON c.tenant_id = s.tenant_id AND c.partner = s.partner AND c.entity = s.entity
        AND c.record_id = s.record_id AND c.version = s.delivered_version AND c.month = s.delivered_month
    WHERE s.tenant_id = :tenant AND s.partner = :partner AND {IS_SUSPECT}
      AND s.entity = ANY (CAST(:entities AS text[]))
      AND (s.entity, s.record_id) NOT IN (
           SELECT * FROM unnest(CAST(:busy_entities AS text[]), CAST(:busy_ids AS uuid[])))
      AND {_CALL_IS_OVER}
    ORDER BY s.suspect_attempts, s.suspect_since
    LIMIT :most
    """,
)
# Index: the primary keys of intent and change, in the month's partition.
_DOUBTS = query(
    "doubted_intents",
    Login.PUSH,
    """
    SELECT i.month, i.intent_id, i.entity, i.record_id, i.version, i.verb, i.key, i.links, i.partner_id,
           i.partner_version, i.made_at, c.image
    FROM unnest(CAST(:months AS date[]), CAST(:intent_ids AS uuid[])) AS asked (month, intent_id)
    JOIN sync.intent i ON i.month = asked.month AND i.intent_id = asked.intent_id
    JOIN sync.change c ON c.tenant_id = i.tenant_id AND c.partner = i.partner AND c.entity = i.entity
        AND c.record_id = i.record_id AND c.version = i.version AND c.month = i.month
    WHERE i.tenant_id = :tenant AND i.partner = :partner
    """,
)
# Index: result_ends_a_change_once, then the primary keys of intent and change, in the month's partition.
_BASES = query(
    "delivered_versions",
    Login.PUSH,
    """
    SELECT r.month, r.entity, r.record_id, r.version, r.is_cancelled, i.links, c.image
    FROM unnest(CAST(:months AS date[]), CAST(:entities AS text[]), CAST(:record_ids AS uuid[]),
                CAST(:versions AS bigint[])) AS asked (month, entity, record_id, version)
    JOIN sync.result r ON r.tenant_id = :tenant AND r.partner = :partner AND r.entity = asked.entity
        AND r.record_id = asked.record_id AND r.version = asked.version AND r.month = asked.month
        AND r.outcome IN ('delivered', 'delivered_with_warning')
    JOIN sync.intent i ON i.month = r.month AND i.intent_id = r.intent_id
    JOIN sync.change c ON c.tenant_id = r.tenant_id AND c.partner = r.partner AND c.entity = r.entity
        AND c.record_id = r.record_id AND c.version = r.version AND c.month = r.month
    """,
)
# Index: result_of_record, its newest row.
_UNSURE = query(
    "records_for_a_person",
    Login.PUSH,
    """
    SELECT asked.entity, asked.record_id
    FROM unnest(CAST(:entities AS text[]), CAST(:record_ids AS uuid[])) AS asked (entity, record_id)
    CROSS JOIN LATERAL (
        SELECT r.outcome, r.reason FROM sync.result r
        WHERE r.tenant_id = :tenant AND r.partner = :partner AND r.entity = asked.entity
          AND r.record_id = asked.record_id
          -- of these, only what ended a call tells of what is there
          AND (r.intent_id IS NOT NULL OR r.outcome NOT IN ('superseded', 'abandoned', 'retry', 'parked')
               OR r.reason = 'delivery_unsure')
        ORDER BY r.version DESC, r.result_no DESC LIMIT 1) AS newest
    WHERE newest.outcome = 'abandoned' OR (newest.outcome = 'parked' AND newest.reason = 'delivery_unsure')
    """,
)
_RECHECK = query("recheck_pending", Login.PUSH, "SELECT sync.recheck(:tenant, :partner)")
# Index: the primary key of pending; its rows are what is open.
_BACKLOG = query(
    "backlog",
    Login.PUSH,
    f"""
    SELECT count(*) AS pending, count(*) FILTER (WHERE p.state = 'parked') AS parked,
           min(p.since) FILTER (WHERE {COULD_GO}) AS oldest
    FROM sync.pending p
    WHERE p.tenant_id = :tenant AND p.partner = :partner
    """,
)


def due(
    tx: Transaction,
    target: Target,
    entities: Sequence[Entity],
    most: int,
    busy: Sequence[Record] = (),
    under_way: timedelta = timedelta(0),
    days: Days | None = None,
    *,
    newest_untried: bool = False,
) -> tuple[Due, ...]:
    """Up to `most` due records of these kinds and days (None: of all), without those in `busy`, longest waiting first;
    or of those that nobody has tried yet (or a person has asked for) the newest first.

    What was tried has waited since the time at which it was due again: it goes before what came later. As long as there
    are some that a person has asked for, it is only them.

    A record whose newest intent is younger than `under_way` and has no answer yet is left out: the call may go on.
    """
    parameters = _selection(target, entities, most, busy, under_way)
    parameters |= {"first": days and days.first, "last": days and days.last}
    rows = (_NEWEST_UNTRIED if newest_untried else _DUE).all(tx, **parameters)
    doubts, bases = _doubts(tx, target, rows), _bases(tx, target, rows)
    return tuple(_due(row, doubts, bases) for row in rows)


def suspects(
    tx: Transaction,
    target: Target,
    entities: Sequence[Entity],
    most: int,
    busy: Sequence[Record] = (),
    under_way: timedelta = timedelta(0),
) -> tuple[Suspect, ...]:
    """Up to `most` settled records of these kinds that are to be read again now; the rest as in `due`."""
    rows = _SUSPECTS.all(tx, **_selection(target, entities, most, busy, under_way))
    doubts = _doubts(tx, target, rows)
    return tuple(_suspect(row, doubts) for row in rows)


def unsure(tx: Transaction, target: Target, records: Sequence[Record]) -> frozenset[Record]:
    """Of these, those that an earlier call may have put there: nobody has said what became of it."""
    if not records:
        return frozenset()
    rows = _UNSURE.all(
        tx,
        entities=[entity.value for entity, _ in records],
        record_ids=[record_id for _, record_id in records],
        **target.parameters(),
    )
    return frozenset((Entity(row["entity"]), row["record_id"]) for row in rows)


def recheck(tx: Transaction, target: Target) -> int:
    """Look again what the connection's open records wait for; for how many that has changed."""
    changed: int = _RECHECK.run(tx, **target.parameters()).scalar_one()
    return changed


def backlog(tx: Transaction, target: Target) -> Backlog:
    """What is open now."""
    row = _BACKLOG.one(tx, **target.parameters())
    assert row is not None  # an aggregate without GROUP BY has one row
    return Backlog(**row)


def _selection(
    target: Target, entities: Sequence[Entity], most: int, busy: Sequence[Record], under_way: timedelta
) -> dict[str, Any]:
    return target.parameters() | {
        "entities": [entity.value for entity in entities],
        "most": most,
        "busy_entities": [entity.value for entity, _ in busy],
        "busy_ids": [record_id for _, record_id in busy],
        "under_way": under_way,
    }


def _doubts(tx: Transaction, target: Target, rows: Sequence[RowMapping]) -> dict[UUID, Doubt]:
    """The intents in doubt of these rows, by their ids."""
    doubted = [row for row in rows if row["doubt_intent"] is not None]
    if not doubted:
        return {}
    found = _DOUBTS.all(
        tx,
        months=[row["doubt_month"] for row in doubted],
        intent_ids=[row["doubt_intent"] for row in doubted],
        **target.parameters(),
    )
    return {row["intent_id"]: _doubt(row) for row in found}


def _bases(tx: Transaction, target: Target, rows: Sequence[RowMapping]) -> dict[Record, Base]:
    """What was last delivered of these rows' records, as far as history still has it."""
    delivered = [row for row in rows if row["delivered_version"]]
    if not delivered:
        return {}
    found = _BASES.all(
        tx,
        months=[row["delivered_month"] for row in delivered],
        entities=[row["entity"] for row in delivered],
        record_ids=[row["record_id"] for row in delivered],
        versions=[row["delivered_version"] for row in delivered],
        **target.parameters(),
    )
    bases = [Base(key_of(row), row["image"], _standing_verb(row), row["links"]) for row in found]
    return {base.key.record: base for base in bases}


def _doubt(row: RowMapping) -> Doubt:
    return Doubt(
        row["intent_id"],
        key_of(row),
        Verb(row["verb"]),
        row["key"],
        row["image"],
        row["links"],
        row["partner_id"],
        row["partner_version"],
        row["made_at"],
        is_repair=":repair:" in row["key"],
    )


def _due(row: RowMapping, doubts: Mapping[UUID, Doubt], bases: Mapping[Record, Base]) -> Due:
    key, known = key_of(row), None
    if row["partner_id"] is not None:
        known = KnownCopy(
            row["partner_id"], row["partner_version"] or "", row["is_cancelled"], row["links"], row["known_version"]
        )
    return Due(
        key,
        op=row["op"],
        image=row["image"],
        attempts=row["attempts"],
        client=row["client"],
        staff=row["staff"],
        visit=row["visit"],
        known=known,
        base=bases.get(key.record),
        settled_version=row["settled_version"],
        doubt=doubts[row["doubt_intent"]] if row["doubt_intent"] else None,
        unsure_for=row["unsure_for"],
        unsure_params=row["unsure_params"] or {},
        lost=row["lost"],
        is_asked_for=row["is_asked_for"],
        overwriting=row["overwriting"],
    )


def _suspect(row: RowMapping, doubts: Mapping[UUID, Doubt]) -> Suspect:
    return Suspect(
        key_of(row),
        row["image"],
        _standing_verb(row),
        row["links"],
        row["partner_id"],
        row["partner_version"],
        row["attempts"],
        doubts[row["doubt_intent"]] if row["doubt_intent"] else None,
        row["claimed_at"],
    )


def _standing_verb(row: RowMapping) -> Verb:
    return Verb.CANCEL if row["is_cancelled"] else Verb.UPDATE
