"""The connector: what the platform may ask of a care CSV folder, in the terms of the contract.

Nothing is sent of a visit before it was: what is planned is kept, and goes with its record. A change of either sends
the client's month anew. What was told is the partner's copy, as far as there is one: nobody answers a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

import httpx

from partners.carecsv import actuals, reading
from partners.carecsv.actuals import Client, Facts, Kept, Office
from partners.carecsv.folder import Folder, failure
from partners.carecsv.outbox import ACTUALS, DELETIONS, Outbox
from partners.carecsv.places import UnsureError
from partners.contract import (
    Absent,
    Access,
    CheckReport,
    Command,
    Conflict,
    Delivered,
    Entity,
    Found,
    Gone,
    Page,
    ReadBack,
    Refused,
    Reply,
    SourceRecord,
    Unknown,
    Verb,
    unsent,
)
from partners.errors import Deferred, PartnerError, RejectedError

MOST_AT_ONCE = 500
_CLIENT = re.compile(r"(\d{6})-(\d{10}|H[0-9A-Z]{9})(?:/.*)?", re.ASCII)
_SERVICE = re.compile(r"[0-9A-Z]{6}", re.ASCII)
SERVICE_CODE_FORM = "英数字6桁 (6 letters or digits)"
"""The same, for people."""


@dataclass
class _Work:
    """What a call is about to tell of one client."""

    before: Kept
    after: Kept
    commands: list[int] = field(default_factory=list)
    """Their places in the call."""
    given: Kept = field(default_factory=Kept)
    """Visits that go to another client with this call, and their records."""

    @property
    def meanwhile(self) -> Kept:
        """`after`, with what goes to others, until they have it."""
        after, given = self.after, self.given
        return replace(after, visits={**given.visits, **after.visits}, records={**given.records, **after.records})


@dataclass(frozen=True)
class CareCsvConnector:
    """A contract.Connector for one connection."""

    folder: Folder
    outbox: Outbox
    office: Office
    care_manager: str
    """The office to which the actuals of clients go of whom no file tells; empty: none."""
    client: httpx.Client
    now: Callable[[], datetime]
    batch_size: int = MOST_AT_ONCE

    def check(self) -> CheckReport:
        """List what comes in; see whether the other folder can be written. Nothing is written."""
        self.folder.names()
        try:
            may_write = self.outbox.may_write()
        except OSError as error:
            raise failure(error) from None
        return CheckReport(
            "care CSV",
            (
                Access(Entity.CLIENT, True, None),
                Access(Entity.VISIT, None, may_write),
                Access(Entity.VISIT_RECORD, None, may_write),
            ),
        )

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        """As the contract says; never taken up midway. ValueError for an entity that is not read here."""
        _check(entity)
        return reading.read_clients(self.folder, self.office.code, cursor)

    def fetch(self, entity: Entity, partner_id: str) -> SourceRecord | Gone:
        """As the contract says."""
        _check(entity)
        return reading.fetch_client(self.folder, self.office.code, partner_id)

    def send(self, command: Command) -> Reply:
        """As the contract says."""
        return self.send_batch([command])[0]

    def send_batch(self, commands: Sequence[Command]) -> Sequence[Reply]:
        """As the contract says: a file for each receiver and month, whatever their number."""
        self.folder.ask()
        replies: list[Reply | None] = [None] * len(commands)
        work: dict[Client, _Work] = {}
        is_put = False
        try:
            self.outbox.open()
            for number, command in enumerate(commands):
                replies[number] = self._answered(number, command, work)
            letters = self._letters(work, replies)
            for (kind, receiver, month), rows in letters.items():
                self.outbox.put(kind, self.office, receiver, month, rows, self.now())
                is_put = True
            # Who dies in between has a visit that moves with both clients, and not with neither.
            states = [(client, each.meanwhile) for client, each in work.items() if each.commands]
            states += [(client, each.after) for client, each in work.items() if each.given.visits]
            for client, kept in states:
                self.outbox.keep(client, kept)
                is_put = True
        except OSError as error:
            is_sure = not (is_put or isinstance(error, UnsureError))
            lost: Reply = unsent(failure(error)) if is_sure else Unknown("connection_cut_unsure")
            return [each if isinstance(each, Refused | Conflict) else lost for each in replies]
        except Deferred:
            raise  # nothing was written: what is asked for comes first
        except PartnerError as error:
            return [unsent(error)] * len(commands)
        assert all(each is not None for each in replies)
        return [each for each in replies if each is not None]

    def find(self, command: Command) -> ReadBack:
        """What was told of it last. Raises PartnerError."""
        self.folder.ask()
        client = _client_of(command)
        if client is None:
            return Absent()
        try:
            told, whose = self._found(client, command)
        except OSError as error:
            raise failure(error) from None
        if told is None:
            return Absent()
        names = actuals.differing(actuals.facts_of(command), told)
        theirs = {name: told[name] for name in names if told.get(name)}
        if whose != client:
            names, theirs = (*names, "client"), {**theirs, "client": whose.partner_id}
        return Found(_partner_id(whose, command), "", names, theirs)

    def _found(self, client: Client, command: Command) -> tuple[Facts | None, Client]:
        """What was told of a record last, and whose it is: of a visit that moves, still the client's before as long as
        that one has it, too. OSError."""
        record, old = str(command.record_id), _client_in(command.partner_id)
        if command.entity is Entity.VISIT and old is not None and old != client:
            told = self.outbox.kept(old).told(command.entity, record)
            if told is not None:
                return told, old
        return self.outbox.kept(client).told(command.entity, record), client

    def close(self) -> None:
        """Let go of the place, and of the HTTP client, which nothing is done with."""
        self.outbox.place.close()
        self.client.close()

    def _answered(self, number: int, command: Command, work: dict[Client, _Work]) -> Reply:
        """As `_taken`; what we keep of one client and cannot read any more stops that client alone."""
        try:
            return self._taken(number, command, work)
        except RejectedError as error:
            return unsent(error)

    def _taken(self, number: int, command: Command, work: dict[Client, _Work]) -> Reply:
        """What is answered if all goes well; what is to be told of it then stands in `work`."""
        client, record = _client_of(command), str(command.record_id)
        if client is None:
            return Refused("client_not_yet_at_partner")
        mine = self._work(client, work)
        told, facts = mine.after.told(command.entity, record), actuals.facts_of(command)
        is_visit, old = command.entity is Entity.VISIT, _client_in(command.partner_id)
        if is_visit and command.verb is not Verb.CANCEL and not _SERVICE.fullmatch(facts["service_code"]):
            return Refused("record_refused", {"field": "service_code", "detail": SERVICE_CODE_FORM})
        if is_visit and old is not None and old != client:
            is_told_of = bool(self._work(old, work).after.sent)
            if not self._receiver(client) or (is_told_of and not self._receiver(old)):  # before it is taken from there
                return Refused("care_manager_unknown")
            told = self._moved(old, mine, record, work) or told  # a repeat finds it where it went
        if told is None and command.verb is Verb.CANCEL:
            return Delivered(_partner_id(client, command), "", "nothing_to_cancel")
        if told is None and command.verb is Verb.UPDATE:
            return Conflict("record_gone_at_partner")
        if command.entity is Entity.VISIT_RECORD and mine.after.told(Entity.VISIT, record) is None:
            return Refused("visit_not_yet_delivered")
        mine.after = mine.after.telling(command.entity, record, {**(told or {}), **facts})
        mine.commands.append(number)
        return Delivered(_partner_id(client, command), "")

    def _work(self, client: Client, work: dict[Client, _Work]) -> _Work:
        if client not in work:
            kept = self.outbox.kept(client)
            work[client] = _Work(kept, kept)
        return work[client]

    def _moved(self, old: Client, mine: _Work, record: str, work: dict[Client, _Work]) -> Facts | None:
        """Take what was told of a visit from the client that it was of before; its record goes with it."""
        theirs = self._work(old, work)
        visit, done = theirs.after.visits.get(record), theirs.after.records.get(record)
        if visit is None:
            return None
        theirs.given = theirs.given.telling(Entity.VISIT, record, visit)
        theirs.after = replace(
            theirs.after,
            visits={key: told for key, told in theirs.after.visits.items() if key != record},
            records={key: told for key, told in theirs.after.records.items() if key != record},
        )
        if done is not None:
            theirs.given = theirs.given.telling(Entity.VISIT_RECORD, record, done)
            mine.after = mine.after.telling(Entity.VISIT_RECORD, record, done)
        return visit

    def _letters(
        self, work: Mapping[Client, _Work], replies: list[Reply | None]
    ) -> dict[tuple[str, str, str], list[list[str]]]:
        """What is to be put and is not there yet, by kind, receiver and month. Without a receiver it is refused."""
        found: dict[tuple[str, str, str], list[list[str]]] = {}
        standing = None
        for client, each in work.items():
            told = self._told(client, each.after)
            if not told:
                continue
            receiver = self._receiver(client)
            if not receiver:
                for number in each.commands:
                    replies[number] = Refused("care_manager_unknown")
                each.after = each.before
                continue
            standing = self.outbox.standing() if standing is None else standing
            for month, rows in told.items():
                kind, table = (ACTUALS, rows) if rows else (DELETIONS, [actuals.deletion(month, client, self.office)])
                there = standing.get((receiver, month, client.insurer, client.insured))
                if there != (kind, actuals.mark(table)):
                    found.setdefault((kind, receiver, month), []).extend(table)
            marks = {**each.after.sent, **{month: actuals.mark(rows) for month, rows in told.items()}}
            each.after = replace(each.after, sent={month: mark for month, mark in marks.items() if mark})
        return found

    def _told(self, client: Client, kept: Kept) -> dict[str, list[list[str]]]:
        """The rows of the months that are otherwise than they were sent."""
        today = f"{self.now():%Y%m%d}"
        rows = {month: actuals.rows(kept, month, client, self.office, today) for month in sorted(actuals.months(kept))}
        return {month: each for month, each in rows.items() if actuals.mark(each) != kept.sent.get(month, "")}

    def _receiver(self, client: Client) -> str:
        """The office that the client's actuals go to; empty: it is not known."""
        return self._senders.get(client.partner_id) or self.care_manager

    @cached_property
    def _senders(self) -> Mapping[str, str]:
        return reading.senders(self.folder, self.office.code)


def _check(entity: Entity) -> None:
    if entity is not Entity.CLIENT:
        raise ValueError(f"not read from care CSV: {entity}")


def _client_of(command: Command) -> Client | None:
    """Whose the record is now: the visit's client, of a record that of its visit."""
    if command.entity is Entity.VISIT:
        return _client_in(command.links.get(Entity.CLIENT)) or _client_in(command.partner_id)
    return _client_in(command.links.get(Entity.VISIT)) or _client_in(command.partner_id)


def _client_in(partner_id: str | None) -> Client | None:
    found = _CLIENT.fullmatch(partner_id or "")
    return None if found is None else Client(found[1], found[2])


def _partner_id(client: Client, command: Command) -> str:
    return f"{client.partner_id}/{command.record_id}"
