"""The mass-change guard: a master that changes all at once is more often an accident than news.

A wrong facility code, a half-done migration or an emptied list at the partner would otherwise reach every
schedule within a minute. The guard looks at the very set that is about to be written and holds its deletes
or its changes until a person approves; additions harm nobody and go on. Deletes come in instalments, as their
proofs do: those of the last day count with them. It does not protect a tenant of ten records or fewer: there
every set is small, and each delete still needs its own proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FEW = 10
"""Records: fewer changed, or no more deleted, never hold."""
DELETED_PERCENT = 5
CHANGED_PERCENT = 30


@dataclass(frozen=True)
class Counts:
    """How much is about to be written, or was approved."""

    deletes: int = 0
    changed: Mapping[str, int] = field(default_factory=dict)
    """Records that change in a field, by the field's name."""


@dataclass(frozen=True)
class Held:
    """Too much at once."""

    deletes: int
    """How many deletes are held; 0: deletes may go."""
    changed: Mapping[str, int]
    """The fields that change in too many records, with how many; empty: changes may go."""
    lately: int = 0
    """Of the deletes: how many more were written within a day, without a person's yes."""


def hold(counts: Counts, population: int, approved: Counts | None = None, lately: int = 0) -> Held | None:
    """What must wait for a person; None: all may be written. `population`: records in force before.

    Held are deletes that, with `lately` deleted ones, are above 10 and above 5 % of the population with those, and the
    changes of a field above 30 % of the population and of at least 10 records. Exactly 10, 5 % or 30 % pass. What a
    person approved is a ceiling: up to and including it all passes, one more holds again.
    """
    ceiling = approved or Counts()
    is_within = counts.deletes <= ceiling.deletes
    deletes = 0 if is_within or not _are_many(counts.deletes + lately, population + lately) else counts.deletes
    changed = {
        name: records
        for name, records in counts.changed.items()
        if _are_many_changes(records, population, ceiling.changed.get(name, 0))
    }
    return Held(deletes, changed, lately if deletes else 0) if deletes or changed else None


def _are_many(deletes: int, population: int) -> bool:
    return deletes > FEW and deletes * 100 > DELETED_PERCENT * population


def _are_many_changes(records: int, population: int, approved: int) -> bool:
    return records >= FEW and records > approved and records * 100 > CHANGED_PERCENT * population
