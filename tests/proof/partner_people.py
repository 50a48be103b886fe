"""The partner's own people at work on its clients and staff, also between two pages of a reading.

No id is used twice, so that a record that landed as gone and is there can only be one that was never deleted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from conftest import Tenant

from partners.contract import Connector, Entity, Page
from partners.fhir.sandbox.testing import RunningSandbox

Json = dict[str, Any]
_FIRST, _LAST = "0", "z"
"""Ids that begin so come before, or after, those of the people that the sandbox was seeded with."""


@dataclass
class People:
    """They add, change and delete records."""

    sandbox: RunningSandbox
    draw: random.Random
    made: int = field(default=0)

    def act(self) -> None:
        """Any of it."""
        self.draw.choice((self.change, self.change, self.add, self.add, self.delete))()

    def change(self) -> None:
        """Change one field of any client."""
        elements: tuple[Json, ...] = (
            {"birthDate": f"19{self.draw.randint(20, 99)}-0{self.draw.randint(1, 9)}-1{self.draw.randint(0, 9)}"},
            {"gender": self.draw.choice(("male", "female", "other"))},
            {"telecom": [{"system": "phone", "use": "home", "value": f"03-0000-{self.draw.randint(1000, 9999)}"}]},
            {"active": self.draw.random() < 0.5},
        )
        self.sandbox.put(self._any() | self.draw.choice(elements))

    def add(self) -> None:
        """A new client, before all others or after them."""
        self.made += 1
        like, number = self._any(), f"n{self.made:05}"
        own = {"id": f"{self.draw.choice((_FIRST, _LAST))}-{number}"}
        self.sandbox.put(like | own | {"identifier": [like["identifier"][0] | {"value": number}]})

    def delete(self) -> None:
        """Any client."""
        self.sandbox.delete("Patient", self._any()["id"])

    def _any(self) -> Json:
        found: Json = self.draw.choice(self.sandbox.state("Patient"))
        return found


@dataclass
class Observed:
    """A connector on which somebody else acts after each page that was taken."""

    inner: Connector
    after_page: Callable[[int], None]
    """Given the page's number, from 1."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def read(self, entity: Entity, *given: Any, **named: Any) -> Iterator[Page]:
        """The pages, and what is done after each."""
        for number, page in enumerate(self.inner.read(entity, *given, **named), start=1):
            yield page
            self.after_page(number)


def meanwhile(tenant: Tenant, after_page: Callable[[int], None]) -> Tenant:
    """The tenant, with something done at the partner's after each page of its readings."""
    opened = tenant.partner.open
    return replace(tenant, partner=replace(tenant.partner, open=lambda *given: Observed(opened(*given), after_page)))
