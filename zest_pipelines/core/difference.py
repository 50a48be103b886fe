"""What changed between two states of a record, field by field.

Laws: carried out on the older state it ends at the newer one, and `difference(a, a)` is nothing. Values are equal as
Python says; a field that comes or goes changes from or to ABSENT, which is not None: None is a value that a field
can have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Final

from zest_pipelines.core.normalise import is_same


class Absence(Enum):
    """The type of ABSENT, for annotations."""

    ABSENT = "absent"


ABSENT: Final = Absence.ABSENT
"""Stands for the value of a field that is not there."""


class Kind(StrEnum):
    """What has to happen to the record."""

    ADD = "add"
    CHANGE = "change"
    DELETE = "delete"
    NONE = "none"


@dataclass(frozen=True)
class FieldChange:
    """One field that differs."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Difference:
    """How one state becomes another."""

    kind: Kind
    fields: tuple[FieldChange, ...]
    """The fields that differ, by name. Of an added or deleted record: all of them."""

    @property
    def moved(self) -> tuple[str, ...]:
        """The names of those that mean something else, and are not only spelled otherwise."""
        return tuple(each.name for each in self.fields if not is_same(each.name, each.before, each.after))


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Difference:
    """What makes `after` out of `before`; None: the record is not there."""
    old, new = before or {}, after or {}
    changes = (FieldChange(name, old.get(name, ABSENT), new.get(name, ABSENT)) for name in sorted({*old, *new}))
    fields = tuple(change for change in changes if change.before != change.after)
    return Difference(_kind(before, after, bool(fields)), fields)


def _kind(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, differs: bool) -> Kind:
    if before is None and after is not None:
        return Kind.ADD
    if before is not None and after is None:
        return Kind.DELETE
    return Kind.CHANGE if differs else Kind.NONE
