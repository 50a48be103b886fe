"""A bench at a real test system: nothing is injected, masters are as they are, and what was written is cancelled.

A visit that was sent is kept in mind until the partner itself says that it is gone, whatever ends the trial: what may
be left there can always be told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID, uuid4

from partners.certification.bench import Bench, NotOffered
from partners.certification.trial import READ_BACK, Bounds, ClientMaker, NotingGate, following
from partners.contract import (
    Absent,
    Command,
    Connection,
    Connector,
    Delivered,
    Entity,
    Found,
    Partner,
    PlanPage,
    Recovery,
    Reply,
    Retry,
    Unknown,
    Unmappable,
    Verb,
    Visit,
)
from partners.errors import AuthenticationError, Deferred, PartnerError, RejectedError, RetryableError
from partners.limits import Rate, parse_limits
from partners.windows import JAPAN

_BOUNDS = Bounds(total_seconds=5.0, connect_seconds=3.0)
"""For what is cancelled: somebody may be waiting for the end."""
_LATE = 1.0
"""Seconds that a write without an answer is given to take effect before its absence is believed."""
_LONG = timedelta(minutes=30)
_IN_A_DAY = 16


@dataclass(frozen=True)
class Left:
    """A visit that stands at the partner, or may."""

    partner_id: str
    """Empty: the partner never said it."""
    record_id: str
    """Ours, which it bears there where the partner keeps it."""
    starts_at: str
    """In Japan."""
    ends_at: str
    is_there: bool
    """False: nobody knows."""
    reason: str
    """Why it was not cancelled: a code of the catalogue, or what the connector raised."""


@dataclass
class _Sent:
    """A visit that was sent."""

    command: Command
    """Its creation."""
    may_stand: bool = False
    known: Delivered | None = None
    """What the partner said of it last."""
    is_unsure: bool = True
    """Whether the last answer is lost, or did not tell."""
    is_there: bool = False
    reason: str = ""


class RealBench(Bench):
    """One connection to a test system."""

    is_real = True

    def __init__(
        self,
        partner: Partner,
        address: tuple[str, Mapping[str, str], Mapping[str, str]],
        make_client: ClientMaker,
        first_visit: datetime,
    ) -> None:
        """`address`: address, secret and settings; `first_visit`: the visits that are written begin then and later."""
        self._declared, self._slots = partner, _slots(first_visit)
        self.url, self.secret, self.settings = address
        self.partner = replace(partner, open=self._noting, read_plans=partner.read_plans and self._plans)
        self._make_client = make_client
        self._people: Mapping[Entity, str] | None = None
        self._made: dict[UUID, Command] = {}
        self._sent: dict[UUID, _Sent] = {}
        self._written: set[UUID] = set()
        rates = [each for each in parse_limits(partner.limits, partner.endpoints) if isinstance(each, Rate)]
        self.pace = max((each.seconds / each.allowed for each in rates), default=0.0)
        self.batch_settings = {} if self._has_batches() else None

    def visit(self) -> Command:
        """Of the first active client whom a reading tells, and the first member of staff."""
        links, starts = self._links(), next(self._slots)
        fields = Visit(starts, starts + _LONG, "112345", "テスト")
        command = Command(Entity.VISIT, Verb.CREATE, uuid4(), 1, str(uuid4()), fields, links)
        self._made[command.record_id] = command
        return command

    def copies(self, command: Command) -> Sequence[object]:
        """As a read-back tells them."""
        if self.partner.capability.recovery not in READ_BACK:
            raise NotOffered("its copies cannot be read back")
        connector = self._connector()
        try:
            found = connector.find(command)
        finally:
            connector.close()
        if not isinstance(found, Found):
            return []
        is_cancelled = ("status" in found.differing) is (command.verb is not Verb.CANCEL)
        if self.partner.capability.replaces and is_cancelled:
            return []
        return [(found.partner_id, found.partner_version, found.differing)]

    def heal(self) -> None:
        """Cancel what was written and is still there."""
        self._cancel_all()

    def clean(self, seconds: float) -> None:
        """The same in the end, again and again for so long where the partner does not answer."""
        until, pause = time.monotonic() + seconds, 1.0
        while self._cancel_all(until) and time.monotonic() + pause < until:
            time.sleep(pause)
            pause *= 2

    @property
    def written(self) -> int:
        """How many visits the partner has, had, or may have had."""
        return len(self._written | {record_id for record_id, each in self._sent.items() if each.may_stand})

    @property
    def left(self) -> Sequence[Left]:
        """What is not known to be gone."""
        return [_left(each) for each in self._sent.values() if each.may_stand]

    def _cancel_all(self, until: float | None = None) -> bool:
        """Whether it is worth trying again soon."""
        is_worth_it = False
        if not self._sent:
            return False
        try:
            connector = self._connector(_BOUNDS)
        except PartnerError as error:
            self._blame(error.reason)
            return False
        try:
            for record_id, sent in list(self._sent.items()):
                if until is not None and time.monotonic() > until:
                    return False
                try:
                    reply = self._cancelled(connector, sent)
                except (RetryableError, AuthenticationError) as error:  # the next one's answer would be no other
                    self._blame(error.reason)
                    return isinstance(error, RetryableError)
                except PartnerError as error:
                    sent.reason = error.reason
                    continue
                if isinstance(reply, Delivered):
                    del self._sent[record_id]
                else:
                    sent.reason = reply.reason
                    is_worth_it |= isinstance(reply, Retry | Unknown)
        except Exception as error:  # noqa: BLE001  # of a connector that is tried: its text may hold a person's data
            self._blame(type(error).__name__)
            return False
        finally:
            connector.close()
        return is_worth_it

    def _blame(self, reason: str) -> None:
        for each in self._sent.values():
            each.reason = reason

    def _cancelled(self, connector: Connector, sent: _Sent) -> Reply:
        """Delivered once it is gone, in whatever way."""
        gone = Delivered("", "")
        standing: Delivered | Found | None = sent.known
        if self.partner.capability.recovery in READ_BACK:
            standing = self._standing(connector, sent)
            sent.is_there = sent.may_stand = standing is not None
        elif not sent.may_stand:
            return gone
        elif standing is None and self.partner.capability.recovery is Recovery.KEY:
            repeated = connector.send(sent.command)
            if not isinstance(repeated, Delivered):
                return repeated
            standing = repeated
        elif standing is None:
            raise RejectedError("cannot_be_read_back")
        if standing is None:
            return gone
        reply = connector.send(following(sent.command, standing, Verb.CANCEL))
        sent.is_there = not isinstance(reply, Delivered | Unknown)
        return reply

    @staticmethod
    def _standing(connector: Connector, sent: _Sent) -> Found | None:
        wanted = replace(sent.command, verb=Verb.CANCEL)
        found = connector.find(wanted)
        if isinstance(found, Absent) and sent.may_stand and sent.is_unsure:
            time.sleep(_LATE)
            found = connector.find(wanted)
        return found if isinstance(found, Found) and not found.matches else None

    def _links(self) -> Mapping[Entity, str]:
        if self._people is None:
            connector = self._connector()
            try:
                found = {each: self._first(connector, each) for each in self.partner.masters}
            finally:
                connector.close()
            self._people = {entity: partner_id for entity, partner_id in found.items() if partner_id}
        if Entity.CLIENT not in self._people:
            raise NotOffered("it has no active client whom a visit could be written for")
        return self._people

    def _first(self, connector: Connector, entity: Entity) -> str | None:
        for page in connector.read(entity, None):
            for each in page.records:
                master = self.partner.map(entity, each.content, self.settings)
                if not isinstance(master, Unmappable) and master.active:
                    return each.partner_id
        return None

    def _connector(self, bounds: Bounds | None = None) -> Connector:
        connection = Connection("certification", self.partner.name, self.url, self.settings)
        client = self._make_client(bounds or Bounds())
        return self._declared.open(connection, self.secret, client, NotingGate(self.pace))

    def _has_batches(self) -> bool:
        try:
            connector = self._connector()
        except PartnerError:
            return False  # the rows tell it
        try:
            return connector.batch_size > 1
        finally:
            connector.close()

    def _noting(self, connection: Connection, *how: object) -> Connector:
        """Opened as declared; what is sent to this system is kept in mind."""
        opened = self._declared.open(connection, *how)  # type: ignore[arg-type]
        return cast(Connector, _Noting(opened, self)) if connection.base_url == self.url else opened

    def _plans(self, connector: Connector, cursor: str | None) -> Iterator[PlanPage]:
        assert self._declared.read_plans is not None
        return self._declared.read_plans(connector.opened if isinstance(connector, _Noting) else connector, cursor)

    def has_made(self, command: Command) -> bool:
        """Whether it is about a visit of ours."""
        return command.record_id in self._made

    def sends(self, command: Command) -> _Sent | None:
        """It is about to leave: what was kept of it before. None: nothing was."""
        before = self._sent.get(command.record_id)
        creation = self._made[command.record_id]
        self._sent[command.record_id] = _Sent(creation, may_stand=True, known=before.known if before else None)
        return before

    def answered(self, command: Command, before: _Sent | None, reply: Reply | None) -> None:
        """What came of it; None: nothing was written."""
        sent = self._sent[command.record_id]
        if isinstance(reply, Delivered):
            sent.known, sent.is_unsure, sent.is_there = reply, False, command.verb is not Verb.CANCEL
            sent.may_stand = sent.is_there
        elif not isinstance(reply, Unknown):  # as before, if the connector is right in that: it is looked for anyhow
            self._sent[command.record_id] = before or _Sent(sent.command)
        if sent.is_there or isinstance(reply, Unknown):
            self._written.add(command.record_id)


class _Noting:
    """A connector that says what it sends."""

    def __init__(self, opened: Connector, bench: RealBench) -> None:
        self.opened, self._bench = opened, bench

    def __getattr__(self, name: str) -> object:
        return getattr(self.opened, name)

    def send(self, command: Command) -> Reply:
        """As the contract says."""
        if not self._bench.has_made(command):
            return self.opened.send(command)  # of who is only read, to see that it is refused
        before = self._bench.sends(command)
        try:
            reply = self.opened.send(command)
        except (Deferred, NotImplementedError):  # nothing was written
            self._bench.answered(command, before, None)
            raise
        self._bench.answered(command, before, reply)
        return reply


def _slots(first: datetime) -> Iterator[datetime]:
    """Half hours from then on, a working day of them, and so the next day."""
    while True:
        yield from (first + number * _LONG for number in range(_IN_A_DAY))
        first += timedelta(days=1)


def _left(sent: _Sent) -> Left:
    fields = sent.command.fields
    assert isinstance(fields, Visit)  # nothing else is written at a real system
    starts, ends = (each.astimezone(JAPAN).isoformat(timespec="minutes") for each in (fields.starts_at, fields.ends_at))
    partner_id = sent.known.partner_id if sent.known else ""
    return Left(partner_id, str(sent.command.record_id), starts, ends, sent.is_there, sent.reason)
