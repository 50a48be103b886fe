"""What a push writes: intents before it sends, and how each ended. Written by `zest_push`, append only.

`pending` and `standing` follow by themselves: trigger functions keep them (migrations).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from partners.contract import Verb
from resources.logins import Login
from zest_pipelines.core.outcome import Outcome, RepairOutcome
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.keys import Key, Target
from zest_pipelines.store.query import query


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
    theirs: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of a conflict, or a change that ours is to go over: the partner's values by field. A person's data: it goes into
    the record's own history alone."""
    calls: Sequence[Mapping[str, Any]] = ()
    """What was asked and answered, masked; empty: nothing, or there is nothing to explain."""


@dataclass(frozen=True)
class Repair:
    """What became of a settled record that a late sender may have touched, ready to be appended."""

    key: Key
    """The delivered version that should stand there."""
    outcome: RepairOutcome
    reason: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    intent_id: UUID | None = None
    """Of a suspicion: the late intent; else the repair's own, None if it needed no write."""
    partner_id: str | None = None
    partner_version: str | None = None
    not_before: datetime | None = None
    looked_at: datetime | None = None
    """Of an end without a write: since when the partner was looked at. What is suspected later stays so."""


_ADD_INTENTS = query(
    "add_intents",
    Login.PUSH,
    """
    INSERT INTO sync.intent (month, intent_id, tenant_id, partner, entity, record_id, version, epoch, verb, key,
                             links, partner_id, partner_version)
    SELECT i.month, i.intent_id, :tenant, :partner, i.entity, i.record_id, i.version, :epoch, i.verb, i.key,
           i.links, i.partner_id, i.partner_version
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i (
        month date, intent_id uuid, entity text, record_id uuid, version bigint, verb text, key text, links jsonb,
        partner_id text, partner_version text)
    ORDER BY i.entity, i.record_id
    """,
)
# Too late is what ends an intent or a version that has ended: two unique indexes are the judges. One that ends nothing
# (unknown) is dropped by a trigger of the table if its intent has ended.
_ADD_RESULTS = query(
    "add_results",
    Login.PUSH,
    """
    WITH given AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS g (
            place integer, month date, entity text, record_id uuid, version bigint, intent_id uuid, outcome text,
            reason text, params jsonb, partner_id text, partner_version text, is_cancelled boolean,
            not_before timestamptz, theirs jsonb, calls jsonb)
    ), stored AS (
        INSERT INTO sync.result (month, tenant_id, partner, entity, record_id, version, intent_id, outcome, reason,
                                 params, partner_id, partner_version, is_cancelled, not_before, theirs, calls)
        SELECT g.month, :tenant, :partner, g.entity, g.record_id, g.version, g.intent_id, g.outcome, g.reason,
               g.params, g.partner_id, g.partner_version, g.is_cancelled, g.not_before, g.theirs, g.calls
        FROM given g
        ORDER BY g.entity, g.record_id, g.place
        ON CONFLICT DO NOTHING
        RETURNING entity, record_id, version, intent_id, outcome
    )
    SELECT g.place FROM given g
    WHERE NOT EXISTS (
        SELECT FROM stored s WHERE s.entity = g.entity AND s.record_id = g.record_id AND s.version = g.version
          AND s.intent_id IS NOT DISTINCT FROM g.intent_id AND s.outcome = g.outcome)
    ORDER BY g.place
    """,
)
# Whether there may be older versions is told by `pending`: few records have any. Index: its primary key.
_WITH_OLDER = query(
    "records_with_older_versions",
    Login.PUSH,
    """
    SELECT newer.place
    FROM unnest(CAST(:entities AS text[]), CAST(:record_ids AS uuid[]), CAST(:versions AS bigint[]))
        WITH ORDINALITY AS newer (entity, record_id, version, place)
    JOIN sync.pending p ON p.tenant_id = :tenant AND p.partner = :partner AND p.entity = newer.entity
        AND p.record_id = newer.record_id AND (p.version < newer.version OR p.open > 1)
    """,
)
# Older versions end with the newer one, in its transaction; late ones too. Index: the primary key of change.
_SUPERSEDE = query(
    "supersede_older",
    Login.PUSH,
    """
    INSERT INTO sync.result (month, tenant_id, partner, entity, record_id, version, outcome)
    SELECT c.month, c.tenant_id, c.partner, c.entity, c.record_id, c.version, 'superseded'
    FROM unnest(CAST(:entities AS text[]), CAST(:record_ids AS uuid[]), CAST(:versions AS bigint[]))
        AS newer (entity, record_id, version)
    JOIN sync.change c ON c.tenant_id = :tenant AND c.partner = :partner AND c.entity = newer.entity
        AND c.record_id = newer.record_id AND c.version < newer.version
    WHERE NOT EXISTS (
        SELECT FROM sync.result r WHERE r.tenant_id = c.tenant_id AND r.partner = c.partner AND r.entity = c.entity
          AND r.record_id = c.record_id AND r.version = c.version AND r.month = c.month
          AND r.outcome IN ('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned'))
      AND NOT EXISTS ( -- a person gave the newer one up: what became of the older one's call is still to be learnt
        SELECT FROM sync.standing s WHERE s.tenant_id = c.tenant_id AND s.partner = c.partner AND s.entity = c.entity
          AND s.record_id = c.record_id AND s.outcome = 'abandoned' AND s.doubt_version = c.version)
    ORDER BY c.entity, c.record_id, c.version
    ON CONFLICT DO NOTHING
    RETURNING 1
    """,
)
# A late answer's word on where the copy is counts only where there was none: else it could turn the record away from
# the copy that is known. Index: the primary key of standing.
_ADD_REPAIRS = query(
    "add_repairs",
    Login.PUSH,
    """
    INSERT INTO sync.repair (tenant_id, partner, entity, record_id, version, intent_id, outcome, reason, params,
                             partner_id, partner_version, not_before, looked_at)
    SELECT :tenant, :partner, r.entity, r.record_id, r.version, r.intent_id, r.outcome, r.reason, r.params,
           CASE WHEN NOT late.is_known THEN r.partner_id END, CASE WHEN NOT late.is_known THEN r.partner_version END,
           r.not_before, r.looked_at
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
        place integer, entity text, record_id uuid, version bigint, intent_id uuid, outcome text, reason text,
        params jsonb, partner_id text, partner_version text, not_before timestamptz, looked_at timestamptz)
    CROSS JOIN LATERAL (
        SELECT r.outcome = 'suspected' AND EXISTS (
            SELECT FROM sync.standing s WHERE s.tenant_id = :tenant AND s.partner = :partner AND s.entity = r.entity
              AND s.record_id = r.record_id AND s.partner_id IS NOT NULL) AS is_known) AS late
    ORDER BY r.entity, r.record_id, r.place
    """,
)


def add_intents(tx: Transaction, target: Target, epoch: int, intents: Sequence[Intent]) -> None:
    """Store intents, at most one a record. In the same transaction the lease must have been kept."""
    if intents:
        _ADD_INTENTS.run(tx, epoch=epoch, rows=_rows(map(_intent, intents)), **target.parameters())


def add_results(tx: Transaction, target: Target, results: Sequence[Result]) -> tuple[Result, ...]:
    """Append results. Returns those that came too late and are not stored: their intent or version has ended."""
    if not results:
        return ()
    late = _ADD_RESULTS.column(tx, rows=_rows(map(_result, results)), **target.parameters())
    return tuple(results[place] for place in late)


def supersede_older(tx: Transaction, target: Target, keys: Sequence[Key]) -> int:
    """End the open versions below `keys`' of their records, but for one in doubt below one given up; how many."""
    places = _WITH_OLDER.column(tx, **_columns(keys), **target.parameters()) if keys else ()
    if not places:
        return 0
    with_older = [keys[place - 1] for place in places]
    return len(_SUPERSEDE.column(tx, **_columns(with_older), **target.parameters()))


def add_repairs(tx: Transaction, target: Target, repairs: Sequence[Repair]) -> None:
    """Append what became of suspicions."""
    if repairs:
        _ADD_REPAIRS.run(tx, rows=_rows(map(_repair, repairs)), **target.parameters())


def _rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as the document that a statement takes them from; `place` is where each stands."""
    return json.dumps([{"place": place, **row} for place, row in enumerate(rows)], default=str)


def _columns(keys: Sequence[Key]) -> dict[str, Any]:
    return {
        "entities": [key.entity.value for key in keys],
        "record_ids": [key.record_id for key in keys],
        "versions": [key.version for key in keys],
    }


def _intent(intent: Intent) -> dict[str, Any]:
    return _key(intent.key) | {
        "intent_id": intent.intent_id,
        "verb": intent.verb,
        "key": intent.idempotency_key,
        "links": dict(intent.links),
        "partner_id": intent.partner_id,
        "partner_version": intent.partner_version,
    }


def _result(result: Result) -> dict[str, Any]:
    told = _ending(result) | {"is_cancelled": result.is_cancelled}
    if result.theirs:
        told["theirs"] = dict(result.theirs)
    if result.calls:
        told["calls"] = list(result.calls)
    return told


def _repair(repair: Repair) -> dict[str, Any]:
    return _ending(repair) | {"looked_at": repair.looked_at}


def _ending(ending: Result | Repair) -> dict[str, Any]:
    return _key(ending.key) | {
        "intent_id": ending.intent_id,
        "outcome": ending.outcome,
        "reason": ending.reason,
        "params": dict(ending.params),
        "partner_id": ending.partner_id,
        "partner_version": ending.partner_version,
        "not_before": ending.not_before,
    }


def _key(key: Key) -> dict[str, Any]:
    return {"month": key.month, "entity": key.entity, "record_id": key.record_id, "version": key.version}
