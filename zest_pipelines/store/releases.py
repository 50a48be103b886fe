"""What lets stopped records go on, or ends them: a request, a cure, a person's word. Read by `zest_push`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from resources.logins import Login
from zest_pipelines.store.claims import SUSPECT_KEY, noted_copy
from zest_pipelines.store.classifications import told_of_pending, told_of_suspect
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.keys import Key, Target, key_of, keys_of
from zest_pipelines.store.query import query

ASKED_AGAIN = f"""p.state IN ('parked', 'conflict', 'retry') AND EXISTS (
          SELECT FROM sync.retry_request q WHERE q.tenant_id = p.tenant_id AND q.partner = p.partner
          AND coalesce(q.entity, p.entity) = p.entity AND coalesce(q.record_id, p.record_id) = p.record_id
          AND (q.reason IS NULL OR q.reason = {told_of_pending("p")})
          AND (q.fingerprint IS NULL OR q.fingerprint = p.cause)
          AND (q.from_date IS NULL OR p.on_date BETWEEN q.from_date AND q.to_date)
          AND q.requested_at > (
              SELECT max(r.made_at) FROM sync.result r WHERE r.month = p.month AND r.tenant_id = p.tenant_id
              AND r.partner = p.partner AND r.entity = p.entity AND r.record_id = p.record_id
              AND r.version = p.version))"""
"""Of the pending row `p`: a person wants it tried again, and it was not tried since."""

HAS_CHANGED = """p.state = 'parked' AND p.reason <> 'delivery_unsure' -- only a person can tell whether it is there
      AND EXISTS (
          SELECT FROM sync.connection n
          LEFT JOIN sync.credential k ON k.tenant_id = n.tenant_id AND k.partner = n.partner
          LEFT JOIN sync.lease l ON l.tenant_id = n.tenant_id AND l.partner = n.partner
          WHERE n.tenant_id = p.tenant_id AND n.partner = p.partner AND (
              l.mapping <> :mapping OR greatest(n.changed_at, k.changed_at) > (
                  SELECT max(r.made_at) FROM sync.result r WHERE r.month = p.month AND r.tenant_id = p.tenant_id
                  AND r.partner = p.partner AND r.entity = p.entity AND r.record_id = p.record_id
                  AND r.version = p.version)))"""
"""Of the pending row `p`: its connection, its credential or the mapping (:mapping now) changed since it was parked."""

_GOING_ON = "SELECT w.fingerprint FROM sync.newest_word w WHERE w.code = ANY (CAST(:going_on AS text[]))"
IS_EXPLAINED = f"p.state = 'parked' AND p.cause IN ({_GOING_ON})"
"""Of the pending row `p`: it stands parked for an unknown error that an operator has given a reason among :going_on.
A push that was under way then parked it, or nobody had asked for it."""

_LAST_WORD = """(SELECT max(u.made_at) FROM sync.repair u WHERE u.tenant_id = s.tenant_id AND u.partner = s.partner
          AND u.entity = s.entity AND u.record_id = s.record_id)"""
"""Of the standing `s`: when the last of its suspicions, or of what became of them, was stored."""

SUSPECT_ASKED_AGAIN = f"""s.suspect_state IN ('parked', 'retry') AND EXISTS (
          SELECT FROM sync.retry_request q WHERE q.tenant_id = s.tenant_id AND q.partner = s.partner
          AND coalesce(q.entity, s.entity) = s.entity AND coalesce(q.record_id, s.record_id) = s.record_id
          AND (q.reason IS NULL OR q.reason = {told_of_suspect("s")})
          AND (q.fingerprint IS NULL OR q.fingerprint = s.suspect_cause)
          AND (q.from_date IS NULL OR s.on_date BETWEEN q.from_date AND q.to_date)
          AND q.requested_at > {_LAST_WORD})"""
"""Of the standing `s`: a person wants the suspect looked at again, and it was not since."""

IS_SUSPECT_EXPLAINED = f"s.suspect_state = 'parked' AND s.suspect_cause IN ({_GOING_ON})"
"""The same of the standing `s`: the suspect stands parked for such an error."""

IS_FOUND_RIGHT = f"d.act = 'adopt' AND s.suspect_state IS NOT NULL AND d.decided_at > {_LAST_WORD}"
"""Of the decision `d` on the settled version whose standing is `s`: it ends a suspicion, and was not carried out."""

IS_STILL_TO_DO = """NOT EXISTS (
        SELECT FROM sync.result r WHERE r.month = p.month AND r.tenant_id = p.tenant_id AND r.partner = p.partner
        AND r.entity = p.entity AND r.record_id = p.record_id AND r.version = p.version
        AND r.reason = 'adopted_by_person' AND r.made_at > d.decided_at)"""
"""Of the decision `d` on the pending row `p`: it was not carried out. One that ends the version takes the row away."""


class Act(StrEnum):
    """What a person decided of an open version."""

    ABANDON = "abandon"
    ADOPT = "adopt"


@dataclass(frozen=True)
class Decision:
    """A person's word on one open version, not carried out yet."""

    key: Key
    op: str
    """Of the version: upsert or cancel."""
    act: Act
    partner_id: str | None
    """Of ADOPT: the id under which the partner has it."""
    doubt: UUID | None
    """The intent of this version whose end is not known; None: there is none."""
    was_sent: bool
    """Whether it was ever sent; False: what the partner has can only be an older one."""
    is_overwriting: bool
    """Whether it was to go over a change that somebody made there."""


@dataclass(frozen=True)
class FoundRight:
    """A person's word on a suspect: the partner has it as it should. Not carried out yet."""

    key: Key
    """The delivered version that should stand there."""
    partner_id: str | None
    """Where the partner has it; None: where we knew it to be."""
    decided_at: datetime
    """What is suspected later stays so."""


_OPEN = """SELECT p.month, p.entity, p.record_id, p.version FROM sync.pending p
    WHERE p.tenant_id = :tenant AND p.partner = :partner"""
# Index: pending_stopped, then the newest result of each in its month.
_ASKED_AGAIN = query(
    "records_asked_for_again",
    Login.PUSH,
    f"""
    {_OPEN} AND {ASKED_AGAIN}
    """,
)
# What may be cured: something that it was refused by has changed since, or the partner has taken another of its kind.
# Index: pending_stopped; result_of_record in the month of each; result_of_connection for what came after.
_CURABLE = query(
    "curable_records",
    Login.PUSH,
    f"""
    {_OPEN} AND (({HAS_CHANGED})
        OR (p.state = 'parked' AND p.reason = ANY (CAST(:entity_reasons AS text[])) AND EXISTS (
            SELECT FROM sync.result r WHERE r.tenant_id = p.tenant_id AND r.partner = p.partner
            AND r.entity = p.entity AND r.outcome = 'delivered' AND r.result_no > (
                SELECT max(o.result_no) FROM sync.result o WHERE o.month = p.month AND o.tenant_id = p.tenant_id
                AND o.partner = p.partner AND o.entity = p.entity AND o.record_id = p.record_id
                AND o.version = p.version))))
    """,
)
# Index: pending_stopped.
_EXPLAINED = query(
    "explained_records",
    Login.PUSH,
    f"""
    {_OPEN} AND {IS_EXPLAINED}
    """,
)
# The newest word on each version counts; one on a version that is not open any more is spent.
_DECIDED = query(
    "decided_records",
    Login.PUSH,
    f"""
    SELECT DISTINCT ON (p.entity, p.record_id)
           p.month, p.entity, p.record_id, p.version, p.op, d.act, d.partner_id,
           CASE WHEN s.doubt_version = p.version THEN s.doubt_intent END AS doubt,
           EXISTS (SELECT FROM sync.intent i WHERE i.month = p.month AND i.tenant_id = p.tenant_id
                   AND i.partner = p.partner AND i.entity = p.entity AND i.record_id = p.record_id
                   AND i.version = p.version) AS was_sent,
           {noted_copy("p", "s")} IS NOT NULL AS is_overwriting
    FROM sync.decision d
    JOIN sync.pending p ON p.tenant_id = d.tenant_id AND p.partner = d.partner AND p.entity = d.entity
        AND p.record_id = d.record_id AND p.version = d.version
    LEFT JOIN sync.standing s ON s.tenant_id = p.tenant_id AND s.partner = p.partner AND s.entity = p.entity
        AND s.record_id = p.record_id
    WHERE d.tenant_id = :tenant AND d.partner = :partner AND {IS_STILL_TO_DO}
    ORDER BY p.entity, p.record_id, d.decided_at DESC
    """,
)


# Index: standing_suspect, then one probe a row in repair.
_SUSPECTS_ASKED_AGAIN = query(
    "suspects_asked_again",
    Login.PUSH,
    f"""
    SELECT {SUSPECT_KEY} FROM sync.standing s
    WHERE s.tenant_id = :tenant AND s.partner = :partner AND {SUSPECT_ASKED_AGAIN}
    """,
)
# Index: standing_suspect.
_SUSPECTS_EXPLAINED = query(
    "suspects_explained",
    Login.PUSH,
    f"""
    SELECT {SUSPECT_KEY} FROM sync.standing s
    WHERE s.tenant_id = :tenant AND s.partner = :partner AND {IS_SUSPECT_EXPLAINED}
    """,
)
# Index: standing_suspect, then decision_of_record.
_FOUND_RIGHT = query(
    "suspects_found_right",
    Login.PUSH,
    f"""
    SELECT DISTINCT ON (s.entity, s.record_id) {SUSPECT_KEY},
           nullif(d.partner_id, s.partner_id) AS partner_id, d.decided_at
    FROM sync.standing s
    JOIN sync.decision d ON d.tenant_id = s.tenant_id AND d.partner = s.partner AND d.entity = s.entity
        AND d.record_id = s.record_id AND d.version = s.version
    WHERE s.tenant_id = :tenant AND s.partner = :partner AND {IS_FOUND_RIGHT}
    ORDER BY s.entity, s.record_id, d.decided_at DESC
    """,
)


def curable(tx: Transaction, target: Target, mapping: str, entity_reasons: Sequence[str]) -> tuple[Key, ...]:
    """Parked records worth another try. `mapping`: its version now; the reasons: faults of all records of a kind."""
    given = {"mapping": mapping, "entity_reasons": list(entity_reasons)}
    return keys_of(_CURABLE.all(tx, **given, **target.parameters()))


def explained(tx: Transaction, target: Target, going_on: Sequence[str]) -> tuple[Key, ...]:
    """Records that stand parked for unknown errors which by now are known to be no reason to park one."""
    return keys_of(_EXPLAINED.all(tx, going_on=list(going_on), **target.parameters()))


def asked_again(tx: Transaction, target: Target) -> tuple[Key, ...]:
    """Stopped records that a person wants tried again, and that were not tried since."""
    return keys_of(_ASKED_AGAIN.all(tx, **target.parameters()))


def suspects_asked_again(tx: Transaction, target: Target) -> tuple[Key, ...]:
    """Settled records with a suspicion that waits, which a person wants looked at again, and that were not since."""
    return keys_of(_SUSPECTS_ASKED_AGAIN.all(tx, **target.parameters()))


def suspects_explained(tx: Transaction, target: Target, going_on: Sequence[str]) -> tuple[Key, ...]:
    """The same of what is `explained`: settled records with a suspicion that stands parked for such errors."""
    return keys_of(_SUSPECTS_EXPLAINED.all(tx, going_on=list(going_on), **target.parameters()))


def found_right(tx: Transaction, target: Target) -> tuple[FoundRight, ...]:
    """Suspects that persons have looked up, and found to be as they should."""
    return tuple(
        FoundRight(key_of(row), row["partner_id"], row["decided_at"])
        for row in _FOUND_RIGHT.all(tx, **target.parameters())
    )


def decided(tx: Transaction, target: Target) -> tuple[Decision, ...]:
    """What persons have decided of versions that are still open."""
    return tuple(
        Decision(
            key_of(row),
            row["op"],
            Act(row["act"]),
            row["partner_id"],
            row["doubt"],
            row["was_sent"],
            row["is_overwriting"],
        )
        for row in _DECIDED.all(tx, **target.parameters())
    )
