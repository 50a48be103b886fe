"""Reading FHIR elements without trust: whatever a partner puts there, one gets the type one asked for.

An element of another type raises ElementError, which names the element and never holds what it contains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from partners.contract import Json, Unmappable

_T = TypeVar("_T")


class ElementError(Exception):
    """An element is missing or not what R4 says; `unmappable` is what to answer for the record."""

    def __init__(self, unmappable: Unmappable) -> None:
        super().__init__(unmappable.reason)
        self.unmappable = unmappable


@dataclass(frozen=True)
class Element:
    """A JSON object and where it stands in the resource."""

    json: Json
    path: str

    @property
    def use(self) -> str:
        """The code of `use`; empty if it has none."""
        return self.text("use")

    @property
    def is_over(self) -> bool:
        """Whether its period has an end. No clock is asked: an end in the future counts as one too."""
        period = self.one("period")
        return period is not None and bool(period.text("end"))

    def text(self, name: str) -> str:
        """The string `name`, without white space around it; empty if there is none."""
        found = self.json.get(name, "")
        return (found if isinstance(found, str) else self._checked(found, str, name)).strip()

    def flag(self, name: str, *, default: bool) -> bool:
        """The boolean `name`."""
        return self._checked(self.json.get(name, default), bool, name)

    def one(self, name: str) -> Element | None:
        """The object `name`; None if there is none."""
        if name not in self.json:
            return None
        return Element(self._checked(self.json[name], dict, name), f"{self.path}.{name}")

    def all(self, name: str) -> tuple[Element, ...]:
        """The objects in the list `name`; empty if there is none."""
        if name not in self.json:  # most of what R4 has is not there
            return ()
        path = f"{self.path}.{name}"
        return tuple([Element(item, path) for item in self._items(name, dict)])

    def texts(self, name: str) -> tuple[str, ...]:
        """The strings in the list `name` that are not blank."""
        return tuple([stripped for item in self._items(name, str) if (stripped := item.strip())])

    def wrong(self, name: str, reason: str = "field_invalid") -> ElementError:
        """The error to raise for the element `name` of this one."""
        return ElementError(Unmappable(reason, {"field": f"{self.path}.{name}"}))

    def _items(self, name: str, kind: type[_T]) -> Iterator[_T]:
        for item in self._checked(self.json.get(name, []), list, name):
            # R4, JSON, 2.6.2.4: a list of strings holds null where only the extension beside it has a value.
            if item is not None or kind is not str:
                yield self._checked(item, kind, name)

    def _checked(self, value: Any, kind: type[_T], name: str) -> _T:
        if not isinstance(value, kind):
            raise self.wrong(name)
        return value


def local_reference(reference: object) -> str | None:
    """`Type/id` of a Reference, be it relative, absolute or to one version; None if it has no literal."""
    literal = reference.get("reference") if isinstance(reference, dict) else None
    if not isinstance(literal, str):
        return None
    return "/".join(literal.partition("/_history/")[0].split("/")[-2:])


def objects(value: object) -> list[Json]:
    """The objects in what should be a list of objects; all else is passed over."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
