"""A partner's new record beside our masters: linked to the only one that agrees in all the fields that were chosen.

Refused as fields to match on is what two people can share: names alone, a number alone. Where two of ours agree, or two
of the partner's want the same one, nobody is linked. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from partners.contract import Entity
from zest_pipelines.core.identity import (
    BORN,
    KANA,
    NAMES,
    Linked,
    Master,
    Question,
    Waiting,
    dates_disagree,
    form,
    names_disagree,
    sexes_disagree,
)

Name = TypeVar("Name", bound=Hashable)
"""What the caller calls a new record by."""

MATCHABLE: Mapping[Entity, tuple[str, ...]] = {
    Entity.CLIENT: ("number", "birth_date", *KANA, *NAMES, "sex", "postal_code", "phone"),
    Entity.STAFF: ("number", "employed_from", *KANA, *NAMES, "qualification"),
}
"""The fields that can be matched on."""

_FULL_DATE = len("2026-11-30")


@dataclass(frozen=True)
class Candidate:
    """One of our masters, as a new record is compared with it."""

    record_id: UUID
    fields: Master
    is_linked: bool
    """Whether it has an id at this partner already."""


def match(
    newcomers: Mapping[Name, Master], masters: Iterable[Candidate], keys: Sequence[str], taken: Collection[UUID] = ()
) -> dict[Name, Linked | Waiting]:
    """For each newcomer the one master that agrees in all `keys`, or why it waits. `taken`: linked meanwhile.

    A value that is missing, or a date of which a part is unknown, agrees with nothing. Masters are read once, and only
    those that agree with somebody are kept.
    """
    wanted = {name: _key(master, keys) for name, master in newcomers.items()}
    agreeing: dict[tuple[str, ...], list[Candidate]] = {key: [] for key in wanted.values() if key is not None}
    for candidate in masters:
        if (key := _key(candidate.fields, keys)) in agreeing:
            agreeing[key].append(candidate)
    alike = Counter(key for key in wanted.values() if key is not None)
    return {
        name: Waiting(Question.UNMATCHED) if key is None else _only(newcomers[name], agreeing[key], alike[key], taken)
        for name, key in wanted.items()
    }


def weakness(entity: Entity, keys: Sequence[str]) -> str | None:
    """Why records must not be linked on these fields, with the next step; None: they are strong enough."""
    known = MATCHABLE[entity]
    if unknown := [each for each in keys if each not in known]:
        return f"{', '.join(unknown)}: a {entity} cannot be matched on that; there are {', '.join(known)}"
    if not keys:
        return None
    chosen = set(keys)
    has_name = set(KANA) <= chosen or set(NAMES) <= chosen
    strong = {BORN[entity], "number"} & chosen
    if not strong:
        born = BORN[entity]
        return f"names and the like are not enough to tell two people apart: add {born} or number to the fields"
    if not has_name and len(strong) == 1:
        return "one field alone can be two people's: add family_kana and given_kana (or both names) to the fields"
    return None


def _only(new: Master, agreeing: Sequence[Candidate], alike: int, taken: Collection[UUID]) -> Linked | Waiting:
    """The only one that agrees, if nothing speaks against it."""
    if not agreeing:
        return Waiting(Question.UNMATCHED)
    first = agreeing[0]
    is_free = not first.is_linked and first.record_id not in taken
    if len(agreeing) == 1 and alike == 1 and is_free and not _contradicts(first.fields, new):
        return Linked(first.record_id)
    return Waiting(Question.AMBIGUOUS, tuple(each.record_id for each in agreeing))


def _contradicts(ours: Master, theirs: Master) -> bool:
    """Whether they cannot be one person, whatever else agrees: sex, name, or the day of birth or entry."""
    dates = any(dates_disagree(ours.get(born), theirs.get(born)) for born in BORN.values())
    return sexes_disagree(ours, theirs) or dates or _kana_disagree(ours, theirs)


def _kana_disagree(ours: Master, theirs: Master) -> bool:
    """Names as written differ between systems (髙, 高) where kana do not."""
    is_told = all(any(each.get(name) for name in KANA) for each in (ours, theirs))
    return is_told and names_disagree(ours, theirs)


def _key(master: Master, keys: Sequence[str]) -> tuple[str, ...] | None:
    """The values by which it is looked for; None: one is missing, or there are no keys."""
    values = tuple(form(name, master.get(name)) for name in keys)
    if not values or not all(values) or any(_is_partial(*each) for each in zip(keys, values, strict=True)):
        return None
    return values


def _is_partial(name: str, value: str) -> bool:
    if name == "sex":
        return value not in ("male", "female")
    return name in BORN.values() and len(value) < _FULL_DATE
