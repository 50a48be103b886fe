"""The mass-change guard: a master that changes all at once is more often an accident than news.

A wrong facility code, a half-done migration or an emptied list at the partner would otherwise reach every
schedule within a minute. The guard looks at the very set that is about to be written and holds its deletes
or its changes until a person approves; additions harm nobody and go on. Deletes come in instalments, as their
proofs do: those of the last day count with them, and who is still to be proved gone. It does not protect a
tenant of ten records or fewer: there every set is small, and each delete still needs its own proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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
class Beside:
    """What counts with what is about to be written, as far as no person's yes has come since."""

    lately: int = 0
    """Records that were deleted within a day and have not come back."""
    suspects: int = 0
    """Records in force that a reading did not show, and nobody knows yet whether they are gone."""
    changed: Mapping[str, int] = field(default_factory=dict)
    """Other records that changed in a field within an hour, by its name."""


NOTHING_BESIDE = Beside()


@dataclass(frozen=True)
class Held:
    """Too much at once."""

    deletes: int
    """How many deletes are held; 0: deletes may go."""
    changed: Mapping[str, int]
    """The fields that change in too many records, with how many; empty: changes may go."""
    beside: Beside = NOTHING_BESIDE
    """What counted with what is held."""


def hold(
    counts: Counts, population: int, approved: Counts | None = None, beside: Beside = NOTHING_BESIDE
) -> Held | None:
    """What must wait for a person; None: all may be written. `population`: records in force before.

    Held are deletes that, with what is beside them, are above 10 and above 5 % of what was in force a day ago, and the
    changes of a field that, with those beside them, are above 30 % of the population and of at least 10 records.
    Exactly 10, 5 % or 30 % pass. What a person approved is a ceiling: up to and including it all passes, one more holds
    again.
    """
    ceiling = approved or Counts()
    is_within = counts.deletes <= ceiling.deletes
    in_all = counts.deletes + beside.lately + beside.suspects
    deletes = 0 if is_within or not _are_many(in_all, population + beside.lately) else counts.deletes
    changed = {
        name: records
        for name, records in counts.changed.items()
        if records > ceiling.changed.get(name, 0)
        and _are_many_changes(records + beside.changed.get(name, 0), population)
    }
    if not deletes and not changed:
        return None
    counted = Beside(*((beside.lately, beside.suspects) if deletes else ()))
    others = {name: records for name, records in beside.changed.items() if name in changed}
    return Held(deletes, changed, replace(counted, changed=others))


def _are_many(deletes: int, population: int) -> bool:
    return deletes > FEW and deletes * 100 > DELETED_PERCENT * population


def _are_many_changes(records: int, population: int) -> bool:
    return records >= FEW and records * 100 > CHANGED_PERCENT * population
