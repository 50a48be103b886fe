"""ORCA's two books, of appointments and of acceptances, in the same terms: what stands there of a record of ours, what
is to stand there, and how an entry is made and taken away. Neither book can change an entry.

An entry's id is small and belongs to its day, so what the platform keeps of it is patient, day and id together. Ids are
the same if they are the same as numbers: "00001" in one answer is "01" in another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol

from partners.contract import Command, Entity
from partners.errors import RejectedError
from partners.orca.apis import Api
from partners.orca.people import plain_number
from partners.windows import JAPAN
from partners.wire import Exchange

_PARTNER_ID = re.compile(r"([^/]+)/(\d{4}-\d\d-\d\d)/(\d+)", re.ASCII)

Facts = Mapping[str, str]
"""What an entry says, as text, by the names of contract.Found."""


@dataclass(frozen=True)
class Entry:
    """One entry of a book."""

    patient: str
    day: date
    number: int
    """Its id; 0: none, where that nothing stands there is as it should be."""
    facts: Facts = field(default_factory=dict, repr=False)

    @property
    def partner_id(self) -> str:
        """What the platform keeps of it."""
        return f"{self.patient}/{self.day.isoformat()}/{self.number}"

    def differing(self, wanted: Facts) -> tuple[str, ...]:
        """The names of what it says otherwise."""
        return tuple(name for name, value in wanted.items() if self.facts.get(name) != value)


class Book(Protocol):
    """One of the two."""

    @property
    def api(self) -> Api:
        """Its writing call."""

    def wanted(self, command: Command) -> Facts | None:
        """What the entry is to say; None: no entry is to stand there. Raises RejectedError if it cannot be written."""

    def ours(self, command: Command) -> Sequence[Entry]:
        """The entries that stand there of the command's record. Raises PartnerError."""

    def same(self, command: Command) -> Sequence[Entry]:
        """The entries that say what the command says, where one is in the way of it. Raises PartnerError."""

    def add(self, command: Command, facts: Facts) -> Exchange:
        """Make an entry that says so."""

    def remove(self, entry: Entry) -> Exchange:
        """Take it away."""

    def made(self, command: Command, answer: Exchange) -> Entry | None:
        """The entry that a successful answer tells; None: it does not."""

    def nothing(self, command: Command) -> Entry:
        """What stands for that no entry is to stand there."""


def patient_of(command: Command) -> str:
    """The patient's number. RejectedError if there is none."""
    found = command.links.get(Entity.CLIENT)
    if not found:
        raise RejectedError("client_not_yet_at_partner")
    return found


def known_entry(partner_id: str | None) -> Entry | None:
    """The entry of which the platform keeps this; None: none, or it is not of this form (a person's word)."""
    found = _PARTNER_ID.fullmatch(partner_id or "")
    if found is None:
        return None
    try:
        return Entry(plain_number(found[1]), date.fromisoformat(found[2]), int(found[3]))
    except ValueError:
        return None


def day_of(moment: datetime) -> date:
    """The day in Japan."""
    return moment.astimezone(JAPAN).date()


def clock_of(moment: datetime) -> str:
    """The time of day in Japan, to the minute: that is what ORCA's clerks see and set."""
    return moment.astimezone(JAPAN).strftime("%H:%M")


def shown_moment(day: date, clock: str) -> str:
    """A day and `hh:mm[:ss]` as an instant in Japan, to the minute; empty if there is no time."""
    return f"{day.isoformat()}T{clock[:5]}:00+09:00" if clock else ""
