"""Reading FHIR elements without trust: whatever a partner puts there, one gets the type one asked for.

An element of another type raises ElementError, which names the element and never holds what it contains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from partners.contract import Json, Unmappable

_T = TypeVar("_T")


class ElementError(Exception):
    """An element is missing or not what R4 says; `unmappable` is what to answer for the record."""

    def __init__(self, unmappable: Unmappable) -> None:
        super().__init__(unmappable.reason)
        self.unmappable = unmappable


class Element:
    """A JSON object and where it stands in the resource: some ten for each record, so they are made at little cost."""

    __slots__ = ("json", "path")

    def __init__(self, json: Json, path: str) -> None:
        self.json = json
        self.path = path

    @property
    def use(self) -> str:
        """The code of `use`; empty if it has none."""
        return self.text("use")

    @property
    def is_over(self) -> bool:
        """Whether its period has an end. No clock is asked: an end in the future counts as one too."""
        if "period" not in self.json:  # as nearly always
            return False
        period = self.one("period")
        return period is not None and bool(period.text("end"))

    def text(self, name: str) -> str:
        """The string `name`, without white space around it; empty if there is none."""
        found = self.json.get(name, "")
        if found.__class__ is not str:
            self._checked(found, str, name)
        stripped: str = found.strip()
        return stripped

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
        found = []
        for item in self._checked(self.json[name], list, name):
            if item.__class__ is not dict:
                self._checked(item, dict, name)
            found.append(Element(item, path))
        return tuple(found)

    def texts(self, name: str) -> tuple[str, ...]:
        """The strings in the list `name` that are not blank."""
        # R4, JSON, 2.6.2.4: a list of strings holds null where only the extension beside it has a value.
        given = [item for item in self._checked(self.json.get(name, []), list, name) if item is not None]
        return tuple([stripped for item in given if (stripped := self._checked(item, str, name).strip())])

    def wrong(self, name: str, reason: str = "field_invalid") -> ElementError:
        """The error to raise for the element `name` of this one."""
        return ElementError(Unmappable(reason, {"field": f"{self.path}.{name}"}))

    def _checked(self, value: Any, kind: type[_T], name: str) -> _T:
        if not isinstance(value, kind):
            raise self.wrong(name)
        return value


def best(candidates: Sequence[_T], order: Callable[[_T], Any]) -> _T | None:
    """The first by that order; None if there is none. One alone, as there mostly is, is not asked for its rank."""
    if len(candidates) > 1:
        return min(candidates, key=order)
    return candidates[0] if candidates else None


def local_reference(reference: object) -> str | None:
    """`Type/id` of a Reference, be it relative, absolute or to one version; None if it has no literal."""
    literal = reference.get("reference") if isinstance(reference, dict) else None
    if not isinstance(literal, str):
        return None
    return "/".join(literal.partition("/_history/")[0].split("/")[-2:])


def objects(value: object) -> list[Json]:
    """The objects in what should be a list of objects; all else is passed over."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
