"""Which unknown errors were seen, and what operators have said of them. Words are written through one function.

An error's row keeps what was answered. Queries that tell or choose by reasons read it through `told`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from resources.logins import Login
from zest_pipelines.core.classification import Classification
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query


def told(row: str) -> str:
    """Of a row with `partner`, `reason` and `params`: the reason as it is by now."""
    return f"CASE {row}.reason WHEN 'unknown' THEN sync.told({row}.partner, {row}.params) ELSE {row}.reason END"


def told_of_pending(row: str) -> str:
    """The same of a row of sync.pending, which keeps its cause."""
    return f"coalesce((SELECT w.code FROM sync.newest_word w WHERE w.fingerprint = {row}.cause), {row}.reason)"


def told_of_suspect(row: str) -> str:
    """The same of a row of sync.standing: the reason for which it is in question."""
    word = f"SELECT w.code FROM sync.newest_word w WHERE w.fingerprint = {row}.suspect_cause"
    return f"coalesce(({word}), {row}.suspect_reason)"


@dataclass(frozen=True)
class Word:
    """The newest word of an operator on an unknown error."""

    code: str | None
    """The reason that it is; None: it was taken back."""
    note: str
    said_by: str
    said_at: datetime


@dataclass(frozen=True)
class Seen:
    """An unknown error, over all tenants."""

    fingerprint: str
    partner: str
    params: Mapping[str, str]
    """Those that tell it apart."""
    occurrences: int
    """How often it was stored: of one record perhaps with its answer, with a look and with the hold."""
    tenants: tuple[str, ...]
    first_at: datetime
    last_at: datetime
    word: Word | None = None
    """None: nobody has said anything."""

    @property
    def code(self) -> str | None:
        """The reason that it is; None: nobody has said, or it was taken back."""
        return None if self.word is None else self.word.code


_OF_PARTNER = query(
    "classification_of_partner",
    Login.PUSH,
    "SELECT w.fingerprint, w.code FROM sync.newest_word w WHERE w.partner = :partner",
)
_TOLD = query(
    "told_of_reading", Login.LAND, "SELECT sync.told(:partner, jsonb_build_object('detail', CAST(:detail AS text)))"
)
_SEEN = query(
    "unknown_errors_seen",
    Login.ALERT,
    """
    SELECT u.fingerprint, u.partner, (array_agg(u.params))[1] AS params, sum(u.occurrences)::bigint AS occurrences,
           array_agg(u.tenant_id ORDER BY u.tenant_id) AS tenants, min(u.first_at) AS first_at,
           max(u.last_at) AS last_at
    FROM sync.unexplained u GROUP BY u.fingerprint, u.partner ORDER BY max(u.last_at) DESC, u.fingerprint
    """,
)
_WORD = ("code", "note", "said_by", "said_at")
_WORDS = query(
    "words_on_unknown_errors",
    Login.OPERATOR,
    """
    SELECT DISTINCT ON (c.fingerprint) c.fingerprint, c.code, c.note, c.said_by, c.said_at FROM sync.classification c
    ORDER BY c.fingerprint, c.word_no DESC
    """,
)
_CLASSIFY = query(
    "classify",
    Login.OPERATOR,
    "SELECT sync.classify(:partner, :detail, CAST(:code AS text), :note)",
)


def of_partner(tx: Transaction, partner: str) -> Classification:
    """What operators have said of a partner's unknown errors."""
    return Classification(partner, {row["fingerprint"]: row["code"] for row in _OF_PARTNER.all(tx, partner=partner)})


def told_of_reading(tx: Transaction, partner: str, detail: str) -> str:
    """The reason of a reading that broke off for an unknown error, as it is by now."""
    code: str = _TOLD.run(tx, partner=partner, detail=detail).scalar_one()
    return code


def seen(tx: Transaction) -> tuple[Seen, ...]:
    """Every unknown error that was ever seen, the newest first, without what was said of it."""
    return tuple(Seen(**{**row, "tenants": tuple(row["tenants"])}) for row in _SEEN.all(tx))


def words(tx: Transaction) -> Mapping[str, Word]:
    """By fingerprint, what was said last."""
    return {row["fingerprint"]: Word(**{name: row[name] for name in _WORD}) for row in _WORDS.all(tx)}


def classify(tx: Transaction, partner: str, detail: str, code: str | None, note: str) -> str:
    """Say which reason that unknown error is; None: none any more. Its fingerprint. StoreError for an unknown code."""
    fingerprint: str = _CLASSIFY.run(tx, partner=partner, detail=detail, code=code, note=note).scalar_one()
    return fingerprint
