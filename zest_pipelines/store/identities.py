"""Partners' ids and our records, and who waits for a person to say who it is.

Links are written by `zest_apply`, a person's words through one function, a connection's rules by `zest_operator`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from partners.contract import MASTERS, Entity
from resources.logins import Login
from zest_pipelines.core.identity import Act, Question, Rule, Word
from zest_pipelines.core.matching import MATCHABLE, Candidate
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.masters import Scope
from zest_pipelines.store.query import Query, query
from zest_pipelines.store.remarks import remark


@dataclass(frozen=True)
class Said:
    """A person's newest word on a partner's id."""

    word: Word
    at: datetime


@dataclass(frozen=True)
class WaitingRecord:
    """A partner's record of which nobody knows who it is."""

    partner: str
    entity: Entity
    landed_no: int
    reason: str
    params: Mapping[str, str]
    since: datetime


_IDENTIFY = query(
    "add_identity",
    Login.APPLY,
    """
    INSERT INTO sync.identity (tenant_id, partner, entity, partner_id, record_id, number, is_owner)
    VALUES (:tenant, :partner, :entity, :partner_id, :record_id, :number, :is_owner)
    """,
)
_CLOSE = query(
    "close_identity",
    Login.APPLY,
    """
    UPDATE sync.identity SET valid_to = clock_timestamp()
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND partner_id = :partner_id
      AND valid_to IS NULL
    """,
)
_RENUMBER = query(
    "renumber_identity",
    Login.APPLY,
    """
    UPDATE sync.identity SET number = :number
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND partner_id = :partner_id
      AND valid_to IS NULL
    """,
)
_UNDO = query(
    "undo_identities",
    Login.APPLY,
    """
    UPDATE sync.identity i SET valid_to = clock_timestamp()
    FROM sync.identity_decision d
    WHERE i.tenant_id = :tenant AND i.partner = :partner AND i.entity = :entity AND i.valid_to IS NULL
      AND d.tenant_id = i.tenant_id AND d.partner = i.partner AND d.entity = i.entity AND d.partner_id = i.partner_id
      AND d.decided_at > i.valid_from AND d.act = 'unlink'
    """,
)
# The newest word on who owns a record counts, whichever partner it was about. First the owner so far, then the new one:
# a record never has two, nor none because the link that was to own it has been undone since. Indexes:
# identity_decision_of_owner, identity_of_partner_id, identity_decision_of_record.
_OWN = tuple(
    query(
        name,
        Login.APPLY,
        f"""
        UPDATE sync.identity i SET is_owner = {is_owner}
        FROM (SELECT DISTINCT ON (record_id) record_id, partner, partner_id, decided_at FROM sync.identity_decision
              WHERE tenant_id = :tenant AND entity = :entity AND act = 'own'
              ORDER BY record_id, decided_at DESC) AS d
        JOIN sync.identity owner ON owner.tenant_id = :tenant AND owner.partner = d.partner AND owner.entity = :entity
            AND owner.partner_id = d.partner_id AND owner.record_id = d.record_id AND owner.valid_to IS NULL
            AND owner.valid_from < d.decided_at
        WHERE i.tenant_id = :tenant AND i.entity = :entity AND i.record_id = d.record_id AND i.valid_to IS NULL
          AND i.valid_from < d.decided_at AND i.is_owner <> {is_owner} AND {whose}
          AND NOT EXISTS (
              SELECT FROM sync.identity_decision undone
              WHERE undone.tenant_id = :tenant AND undone.partner = d.partner AND undone.entity = :entity
                AND undone.partner_id = d.partner_id AND undone.decided_at > owner.valid_from AND undone.act = 'unlink')
        """,
    )
    for name, is_owner, whose in (
        ("disown_identities", "false", "i.partner <> d.partner"),
        ("own_identities", "true", "i.partner = d.partner"),
    )
)
_RULE = query(
    "identity_rule",
    Login.APPLY,
    """
    SELECT CAST(:entity AS text) = ANY (c.creates) AS creates,
           coalesce(c.match_on -> CAST(:entity AS text), '[]') AS keys
    FROM sync.connection c WHERE c.tenant_id = :tenant AND c.partner = :partner
    """,
)
# Few people have said something. Index: identity_decision_of_record.
_WORDS = query(
    "identity_words",
    Login.APPLY,
    """
    SELECT DISTINCT ON (d.partner_id) d.partner_id, d.act, d.record_id, d.decided_at, c.after
    FROM sync.identity_decision d
    JOIN sync.master_change c USING (tenant_id, partner, entity, partner_id, landed_no)
    WHERE d.tenant_id = :tenant AND d.partner = :partner AND d.entity = :entity
    ORDER BY d.partner_id, d.decided_at DESC
    """,
)
_FREE: dict[Entity, Query] = {
    entity: query(
        f"{entity}_records_without_id",
        Login.APPLY,
        f"""
        SELECT m.{entity}_id AS record_id, coalesce((
            SELECT o.partner = :partner AND o.valid_to IS NOT NULL FROM sync.identity o
            WHERE o.tenant_id = :tenant AND o.entity = :entity AND o.record_id = m.{entity}_id AND o.is_owner
            ORDER BY o.valid_to IS NULL DESC, o.valid_from DESC LIMIT 1), false) AS was_owned
        FROM schedule.{entity} m
        WHERE m.tenant_id = :tenant AND m.{entity}_id = ANY (CAST(:records AS uuid[])) AND NOT EXISTS (
            SELECT FROM sync.identity i WHERE i.tenant_id = :tenant AND i.partner = :partner AND i.entity = :entity
              AND i.record_id = m.{entity}_id AND i.valid_to IS NULL)
        """,
    )
    for entity in MASTERS
}
# The number is what the partner that owns the master calls it by.
_CANDIDATES: dict[Entity, Query] = {
    entity: query(
        f"{entity}_candidates",
        Login.APPLY,
        f"""
        SELECT m.{entity}_id AS record_id, mine.record_id IS NOT NULL AS is_linked, coalesce(o.number, '') AS number,
               {", ".join(f"CAST(m.{name} AS text) AS {name}" for name in MATCHABLE[entity] if name != "number")}
        FROM schedule.{entity} m
        LEFT JOIN sync.identity o ON o.tenant_id = m.tenant_id AND o.entity = :entity AND o.record_id = m.{entity}_id
            AND o.valid_to IS NULL AND o.is_owner
        LEFT JOIN sync.identity mine ON mine.tenant_id = m.tenant_id AND mine.partner = :partner
            AND mine.entity = :entity AND mine.record_id = m.{entity}_id AND mine.valid_to IS NULL
        WHERE m.tenant_id = :tenant
        """,
    )
    for entity in MASTERS
}
_QUESTIONS = ", ".join(f"'{question.value}'" for question in Question)
# Index: master_result_of_waiting; then the newest result and a later change of each, by their primary keys.
_WAITING = query(
    "records_without_identity",
    Login.OPERATOR,
    f"""
    SELECT w.partner, w.entity, w.landed_no, last.reason, last.params, w.since
    FROM (SELECT r.partner, r.entity, r.partner_id, r.landed_no, min(r.made_at) AS since FROM sync.master_result r
          WHERE r.tenant_id = :tenant AND r.partner = coalesce(CAST(:partner AS text), r.partner)
            AND r.outcome = 'held' AND r.reason IN ({_QUESTIONS})
          GROUP BY r.partner, r.entity, r.partner_id, r.landed_no) AS w
    JOIN LATERAL (
        SELECT r.outcome, r.reason, r.params FROM sync.master_result r
        WHERE r.tenant_id = :tenant AND r.partner = w.partner AND r.entity = w.entity AND r.partner_id = w.partner_id
          AND r.landed_no = w.landed_no
        ORDER BY r.result_no DESC LIMIT 1) AS last ON last.outcome = 'held'
    WHERE last.reason IN ({_QUESTIONS}) AND NOT EXISTS (
        SELECT FROM sync.master_change later
        WHERE later.tenant_id = :tenant AND later.partner = w.partner AND later.entity = w.entity
          AND later.partner_id = w.partner_id AND later.landed_no > w.landed_no)
    ORDER BY w.since, w.landed_no
    """,
)
_SETTLE = query(
    "settle_identity",
    Login.OPERATOR,
    """
    SELECT sync.settle_identity(:tenant, :partner, CAST(:landed_no AS bigint), CAST(:act AS text),
                                CAST(:record_id AS uuid), CAST(:reason AS text))
    """,
)
_UNLINK = query(
    "unlink_identity",
    Login.OPERATOR,
    """
    SELECT sync.unlink_identity(:tenant, :partner, CAST(:entity AS text), CAST(:partner_id AS text),
                                CAST(:reason AS text))
    """,
)
_SAY_OWNER = query(
    "say_owner_of_identities",
    Login.OPERATOR,
    "SELECT sync.own_identities(:tenant, :partner, CAST(:entity AS text), CAST(:reason AS text))",
)


def identify(
    tx: Transaction, scope: Scope, partner_id: str, record_id: UUID, number: str, *, is_owner: bool = True
) -> None:
    """Link a partner's id to our record from now on. An owner's changes are written into the master."""
    named = {"partner_id": partner_id, "record_id": record_id, "number": number, "is_owner": is_owner}
    _IDENTIFY.run(tx, **named, **scope.parameters())


def close(tx: Transaction, scope: Scope, partner_id: str) -> None:
    """End the link of a partner's id now."""
    _CLOSE.run(tx, partner_id=partner_id, **scope.parameters())


def renumber(tx: Transaction, scope: Scope, partner_id: str, number: str) -> None:
    """Have the link of a partner's id tell by which number the partner's people know the record now."""
    _RENUMBER.run(tx, partner_id=partner_id, number=number, **scope.parameters())


def undo(tx: Transaction, scope: Scope) -> None:
    """End the links of which people have said since that they are wrong."""
    _UNDO.run(tx, **scope.parameters())


def change_owners(tx: Transaction, scope: Scope) -> None:
    """Let those partners own the tenant's masters of the kind of which people have said so last."""
    for step in _OWN:
        step.run(tx, tenant=scope.tenant, entity=scope.entity.value)


def rule(tx: Transaction, scope: Scope) -> Rule:
    """What becomes of a record that the connection shows for the first time. The connection must be there."""
    row = _RULE.one(tx, **scope.parameters())
    assert row is not None  # changes are made for connections alone
    return Rule(row["creates"], tuple(row["keys"]))


def words(tx: Transaction, scope: Scope) -> dict[str, Said]:
    """What people have said last, by the partner's id."""
    return {
        row["partner_id"]: Said(Word(Act(row["act"]), row["after"] or {}, row["record_id"]), row["decided_at"])
        for row in _WORDS.all(tx, **scope.parameters())
    }


def free(tx: Transaction, scope: Scope, records: Collection[UUID]) -> dict[UUID, bool]:
    """Those of our records that are there and have no id at the partner; and whether it owned them last, and nobody
    does now."""
    rows = _FREE[scope.entity].all(tx, records=list(records), **scope.parameters())
    return {row["record_id"]: row["was_owned"] for row in rows}


def candidates(tx: Transaction, scope: Scope) -> Iterator[Candidate]:
    """All of the tenant's masters, read as they are asked for."""
    statement = _CANDIDATES[scope.entity].statement.execution_options(stream_results=True)
    for row in tx.execute(statement, scope.parameters()).mappings():
        yield Candidate(row["record_id"], {name: row[name] for name in MATCHABLE[scope.entity]}, row["is_linked"])


def waiting(tx: Transaction, tenant: str, partner: str | None) -> tuple[WaitingRecord, ...]:
    """Who waits, of one partner or of all (None), who has waited longest first."""
    rows = _WAITING.all(tx, tenant=tenant, partner=partner)
    return tuple(WaitingRecord(**{**row, "entity": Entity(row["entity"])}) for row in rows)


def settle(
    tx: Transaction, tenant: str, partner: str, landed_no: int, act: Act, record_id: UUID | None, reason: str | None
) -> None:
    """Store a person's word on a record that waits; the next application carries it out.

    StoreError if it does not wait, or the word cannot be carried out.
    """
    said = None if reason is None else remark(reason)
    _SETTLE.run(
        tx, tenant=tenant, partner=partner, landed_no=landed_no, act=act.value, record_id=record_id, reason=said
    )


def unlink(tx: Transaction, tenant: str, partner: str, entity: Entity | None, partner_id: str, reason: str) -> int:
    """Store a person's word that a partner's id is linked to the wrong record; the next application carries it out.

    The number of the version that the word is about. StoreError if the id is linked to none, or (without `entity`) to
    one of each kind.
    """
    named = {"tenant": tenant, "partner": partner, "partner_id": partner_id, "reason": remark(reason)}
    landed_no: int = _UNLINK.run(tx, entity=None if entity is None else entity.value, **named).scalar_one()
    return landed_no


def own(tx: Transaction, scope: Scope, reason: str) -> int:
    """Store a person's word that the partner owns, from now on, the masters that are linked at it; the next application
    carries it out. How many another one owned. StoreError without a reason."""
    asked: int = _SAY_OWNER.run(tx, reason=remark(reason), **scope.parameters()).scalar_one()
    return asked
