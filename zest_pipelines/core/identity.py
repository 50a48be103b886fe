"""Who is who: whether a partner's record is one of our masters, another person, or for a person to say.

A wrong link is worse than a record that waits: visits of one client would be written to another. So nothing is linked
on a name alone, a number that suddenly means somebody else is never written over whom it meant before, and where two
answers are possible neither is taken. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from partners.contract import Entity
from zest_pipelines.core.normalise import normal

Master = Mapping[str, Any]
"""A master as it is stored: each field's value, dates as text."""


class Question(StrEnum):
    """Why a record waits for a person; codes of the catalogue of reasons."""

    REUSED = "partner_id_reused"
    """Its id meant somebody else before."""
    UNMATCHED = "identity_unmatched"
    """None of our masters agrees with it."""
    AMBIGUOUS = "identity_ambiguous"
    """More than one does, or the one that does is spoken for."""


class Act(StrEnum):
    """What a person can say of a record that waits, or (`UNLINK`, `OWN`) of one that is linked."""

    SAME = "same"
    """It is whom the id meant before."""
    NEW = "new"
    """It is nobody whom we have."""
    LINK = "link"
    """It is this one of ours."""
    UNLINK = "unlink"
    """It is not whom it was linked to, whoever it is."""
    OWN = "own"
    """What the partner says of it is written into our record from now on."""


@dataclass(frozen=True)
class Rule:
    """What a connection does with a record that it has never shown before."""

    creates: bool
    """Whether it makes a master. If not, it is looked for among ours."""
    match_on: tuple[str, ...] = ()
    """The fields in which it must agree to be linked; none: it waits."""


@dataclass(frozen=True)
class Word:
    """A person's newest word on a partner's id."""

    act: Act
    about: Master
    """The record as it was when it was looked at."""
    record_id: UUID | None = None
    """Of a link."""


@dataclass(frozen=True)
class Link:
    """Whom a partner's id meant last, unless a person has undone that."""

    record_id: UUID
    known: Master | None
    """What was last applied under it; None: nothing is known."""
    first: Master | None = None
    """What was applied first since it means this record; None: as `known`."""
    is_valid: bool = True
    """False while it is in question."""
    is_taken: bool = False
    """Whether our record has got another id at the partner meanwhile."""


@dataclass(frozen=True)
class Known:
    """It is the record that its id is linked to; a link that was in question is valid again."""

    record_id: UUID


@dataclass(frozen=True)
class New:
    """A master is made of it, and whatever its id meant before is over."""


@dataclass(frozen=True)
class Linked:
    """Its id is linked to this master of ours from now on."""

    record_id: UUID
    is_owner: bool = False
    """Whether the master was this partner's under another id, and is again."""


@dataclass(frozen=True)
class Waiting:
    """A person has to say who it is."""

    why: Question
    records: tuple[UUID, ...] = ()
    """Ours that it may be."""


@dataclass(frozen=True)
class Newcomer:
    """It has to be looked for among our masters (`matching`)."""


Judgement = Known | New | Linked | Waiting

BORN = {Entity.CLIENT: "birth_date", Entity.STAFF: "employed_from"}
"""What does not change over a person's life with us, but for corrections."""
KANA = ("family_kana", "given_kana")
NAMES = ("family_name", "given_name")


def judge(entity: Entity, new: Master, link: Link | None, rule: Rule, word: Word | None) -> Judgement | Newcomer:
    """Who the record is.

    A word counts only while the record is the person about whom it was said; that it is not whom it was linked to
    counts until it clearly is somebody else. A link that a person has said needs the caller's look whether ours is
    still free. Somebody else is whoever is not the one who was last applied, nor the one whom the id meant first: a
    name and a day of birth that are changed one after the other are somebody else too.
    """
    is_other = link is not None and any(_is_another(entity, seen, new) for seen in (link.known, link.first) if seen)
    if link is not None and not is_other and not link.is_taken:
        return Known(link.record_id)
    if word is not None and _is_alike(entity, word.about, new):
        if link is not None and not link.is_taken and _means(word, link):
            return Known(link.record_id)
        match word.act:
            case Act.NEW:
                return New()
            case Act.LINK if word.record_id is not None:
                return Linked(word.record_id)
    if word is not None and word.act is Act.UNLINK and not _is_another(entity, word.about, new):
        return Waiting(Question.UNMATCHED)
    if link is not None:
        return Waiting(Question.REUSED if is_other else Question.AMBIGUOUS, (link.record_id,))
    return New() if rule.creates else Newcomer()


def names_disagree(one: Master, other: Master) -> bool:
    """Whether two known names are not the same: their kana, or without kana on both sides the names as written."""
    names = KANA if _joined(one, KANA) and _joined(other, KANA) else NAMES
    mine, yours = _joined(one, names), _joined(other, names)
    return bool(mine and yours) and mine != yours


def dates_disagree(one: str | None, other: str | None) -> bool:
    """Whether two known dates cannot be the same. One of which a part is unknown can be each that begins with it."""
    mine, yours = form("birth_date", one), form("birth_date", other)
    return bool(mine and yours) and not (mine.startswith(yours) or yours.startswith(mine))


def _means(word: Word, link: Link) -> bool:
    """Whether the word says that it is whom the id meant before, by itself or by our record."""
    return word.act is Act.SAME or (word.act is Act.LINK and word.record_id == link.record_id)


def sexes_disagree(one: Master, other: Master) -> bool:
    """Whether one is told to be male and the other female."""
    return {one.get("sex"), other.get("sex")} == {"male", "female"}


def _is_another(entity: Entity, before: Master, after: Master) -> bool:
    """Whether the name disagrees, and with it the day of birth (of staff the day of entry) or the sex."""
    born = BORN[entity]
    is_other_day = dates_disagree(before.get(born), after.get(born))
    return names_disagree(before, after) and (is_other_day or sexes_disagree(before, after))


def _is_alike(entity: Entity, seen: Master, now: Master) -> bool:
    """Whether a word about the one is a word about the other."""
    marks = (BORN[entity], *KANA, *NAMES)
    return all(form(name, seen.get(name)) == form(name, now.get(name)) for name in marks)


def _joined(master: Master, names: Sequence[str]) -> str:
    """A whole name: partners differ in where they part it."""
    return "".join(form(name, master.get(name)) for name in names)


def form(name: str, value: str | None) -> str:
    """The one spelling in which a field's value is compared; empty: there is none."""
    return normal(name, value or "")
