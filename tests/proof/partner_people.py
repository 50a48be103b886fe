"""The partner's own people at work on its clients and staff, also between two pages of a reading.

A deleted id is not used again, so that a record that landed as gone and is there can only be one never deleted.
But ids are given to other people, and two are swapped. Nobody moves, and no two live at one address.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from conftest import Tenant

from partners.contract import Connector, Entity, Page
from partners.fhir.names import REPRESENTATION
from partners.fhir.sandbox.testing import RunningSandbox

Json = dict[str, Any]
_FIRST, _LAST = "0", "z"
"""Ids that begin so come before, or after, those of the people that the sandbox was seeded with."""

_FAMILY = {"IDE": "新田", "SYL": "ニッタ"}
"""Of everybody who is new, as written and as read; a number makes it one person's."""


def _name(script: str, family: str) -> Json:
    extension = [{"url": REPRESENTATION, "valueCode": script}]
    return {"extension": extension, "use": "usual", "family": family, "given": [_FAMILY[script]]}


@dataclass
class People:
    """They add, change and delete records."""

    sandbox: RunningSandbox
    draw: random.Random
    made: int = field(default=0)

    def act(self) -> None:
        """Any of it."""
        changes = (self.change, self.change, self.renumber, self.reuse, self.swap)
        acts = (*changes, self.add, self.add, self.delete)
        self.draw.choice(acts)()

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
        person = self._newcomer()
        number = person["identifier"][0]["value"]
        self.sandbox.put(person | {"id": f"{self.draw.choice((_FIRST, _LAST))}-{number}"})

    def delete(self) -> None:
        """Any client."""
        self.sandbox.delete("Patient", self._any()["id"])

    def delete_in_force(self) -> None:
        """Any client who is active."""
        theirs = self.draw.choice([each for each in self.sandbox.state("Patient") if each["active"]])
        self.sandbox.delete("Patient", theirs["id"])

    def renumber(self) -> None:
        """Any client gets another number."""
        self.made += 1
        theirs = self._any()
        self.sandbox.put(theirs | {"identifier": [theirs["identifier"][0] | {"value": f"n{self.made:05}"}]})

    def reuse(self) -> None:
        """Any client's id is given to somebody new."""
        self.sandbox.put(self._newcomer() | {"id": self._any()["id"]})

    def swap(self) -> None:
        """Two clients have each other's id and number from now on. Both are known by name and reading."""
        known = [each for each in self.sandbox.state("Patient") if len(each["name"]) == len(_FAMILY)]
        one, other = self.draw.sample(known, 2)
        for theirs, place in ((one, other), (other, one)):
            self.sandbox.put(theirs | {key: place[key] for key in ("id", "identifier")})

    def _newcomer(self) -> Json:
        """Somebody who was never there, with a number of his own."""
        self.made += 1
        like, number = self._any(), f"n{self.made:05}"
        return like | {
            "identifier": [like["identifier"][0] | {"value": number}],
            "name": [_name(script, f"{family}{self.made}") for script, family in _FAMILY.items()],
            "birthDate": f"20{self.made // 28:02}-02-{self.made % 28 + 1:02}",
            "address": [like["address"][0] | {"text": f"みどり市{self.made}号"}],
        }

    def _any(self) -> Json:
        found: Json = self.draw.choice(self.sandbox.state("Patient"))
        return found


@dataclass
class Observed:
    """A connector on which somebody else acts after each page that was taken, and each point read."""

    inner: Connector
    after_page: Callable[[int], None]
    """Given the page's number, from 1."""
    after_fetch: Callable[[int], None]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def read(self, entity: Entity, *given: Any, **named: Any) -> Iterator[Page]:
        """The pages, and what is done after each."""
        for number, page in enumerate(self.inner.read(entity, *given, **named), start=1):
            yield page
            self.after_page(number)

    def fetch(self, *given: Any) -> Any:
        """What the partner says of one, and what is done after it."""
        found = self.inner.fetch(*given)
        self.after_fetch(1)
        return found


def _nothing(_: int) -> None:
    pass


def meanwhile(
    tenant: Tenant, after_page: Callable[[int], None] = _nothing, after_fetch: Callable[[int], None] = _nothing
) -> Tenant:
    """The tenant, with something done at the partner's after each page of its readings, or each point read."""
    opened = tenant.partner.open
    return replace(
        tenant, partner=replace(tenant.partner, open=lambda *given: Observed(opened(*given), after_page, after_fetch))
    )
