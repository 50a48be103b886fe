"""The connector: what the platform may ask of an ORCA, in the terms of the contract.

Neither book can change an entry (`books`), so a change takes the old one away and makes another, under another id; a
cancelled record leaves nothing. Three rules keep that from losing or doubling a visit, whatever dies in between:

- Nothing is taken away by its id alone, which may be another appointment's by now: what stands there of the record is
  looked for first, by its mark, and a change to what is there already is none.
- What is half done is Unknown, never Refused: the old entry is gone, and whoever reads back finds that.
- A record that was there and is not is told as cancelled, in the way of partners that keep those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from partners.contract import (
    Absent,
    Access,
    CheckReport,
    Command,
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
from partners.errors import AuthenticationError, Deferred, PartnerError, RejectedError
from partners.orca import codes, reading, xml2
from partners.orca.acceptances import Acceptances
from partners.orca.apis import Api
from partners.orca.appointments import Appointments
from partners.orca.assignment import Assignments
from partners.orca.books import Book, Entry, Facts
from partners.orca.people import plain_number
from partners.orca.reading import Range
from partners.orca.server import Server
from partners.wire import Answered, Cause, NotSent

_DUPLICATE: Mapping[Api, str] = {Api.APPOINT: "20", Api.ACCEPT: "16"}
"""Refused since there is one already, which may be ours."""
_NONE_THERE: Mapping[Api, str] = {Api.APPOINT: "25", Api.ACCEPT: "17"}
"""Nothing was there to be taken away."""


@dataclass(frozen=True)
class Options:
    """What a connection is set to."""

    assignments: Assignments
    medical_content: str
    ranges: Sequence[Range]
    has_log: bool
    has_users: bool


class OrcaConnector:
    """A contract.Connector for one connection."""

    batch_size = 1

    def __init__(self, server: Server, options: Options) -> None:
        self._server, self._options = server, options
        how = server, options.assignments, options.medical_content
        self._books: Mapping[Entity, Book] = {Entity.VISIT: Appointments(*how), Entity.VISIT_RECORD: Acceptances(*how)}

    def check(self) -> CheckReport:
        """Read the institution, the departments, doctors and patients of today; see that the codes set are there."""
        answer = self._server.ask(Api.SYSTEM, {"Request_Number": "04", "Base_Date": ""})
        if isinstance(answer, NotSent) and answer.cause is Cause.DNS:
            raise RejectedError("address_wrong")
        told = xml2.read(answer) if isinstance(answer, Answered) else None
        if told is None or not codes.is_success(codes.result(answer)):
            raise codes.failure(Api.SYSTEM, answer)
        institution = xml2.record(told, "Medical_Information")
        self._check_codes()
        may_read_staff = self._may(lambda: reading.read_staff(self._server, has_users=self._options.has_users))
        may_read_clients = self._may(lambda: reading.probe_patients(self._server, has_log=self._options.has_log))
        return CheckReport(
            xml2.text(institution, "Institution_WholeName")[:80] or "ORCA",
            (
                Access(Entity.CLIENT, may_read_clients, None),
                Access(Entity.STAFF, may_read_staff, None),
                Access(Entity.VISIT, None, None),
                Access(Entity.VISIT_RECORD, None, None),
            ),
        )

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        """As the contract says. ValueError for an entity that is not read here."""
        if entity is Entity.CLIENT:
            has_log = self._options.has_log
            return reading.read_patients(self._server, cursor, resume, self._options.ranges, has_log=has_log)
        if entity is Entity.STAFF:
            return iter((reading.read_staff(self._server, has_users=self._options.has_users),))
        raise ValueError(f"not read from ORCA: {entity}")

    def fetch(self, entity: Entity, partner_id: str) -> SourceRecord | Gone:
        """As the contract says."""
        if entity is Entity.CLIENT:
            return reading.fetch_patient(self._server, partner_id)
        if entity is Entity.STAFF:
            return reading.fetch_staff(self._server, partner_id, has_users=self._options.has_users)
        raise ValueError(f"not read from ORCA: {entity}")

    def send(self, command: Command) -> Reply:
        """As the contract says. Raises the gate's Deferred, and that only before anything is written."""
        book = self._books[command.entity]
        try:
            wanted = None if command.verb is Verb.CANCEL else book.wanted(command)
            if command.verb is Verb.CREATE:
                return _nothing(book, command) if wanted is None else self._add(book, command, wanted)
            there = book.ours(command)
        except Deferred:
            raise
        except PartnerError as error:
            return unsent(error)
        if len(there) > 1:
            return Refused("several_at_partner")
        if wanted is None:
            return self._taken_away(book, command, there)
        if there and not there[0].differing(wanted):
            return Delivered(there[0].partner_id, "")
        return self._replaced(book, command, there, wanted)

    def send_batch(self, commands: Sequence[Command]) -> Sequence[Reply]:
        """ORCA takes none."""
        raise ValueError("ORCA takes no batches")

    def find(self, command: Command) -> ReadBack:
        """By its mark or id. What was there and is not is told as cancelled."""
        book = self._books[command.entity]
        wanted = None if command.verb is Verb.CANCEL else book.wanted(command)
        there = book.ours(command)
        if len(there) > 1:
            raise RejectedError("several_at_partner")
        if not there:
            return _not_there(command, is_wanted=wanted is not None)
        entry = there[0]
        names = ("status",) if wanted is None else entry.differing(wanted)
        theirs = {name: entry.facts[name] for name in names if entry.facts.get(name)}
        return Found(entry.partner_id, "", names, theirs)

    def close(self) -> None:
        """Close the HTTP client."""
        self._server.client.close()

    def _add(self, book: Book, command: Command, wanted: Facts) -> Reply:
        """Make an entry. Where one is there already it may be ours, of an earlier call that was not answered."""
        answer = book.add(command, wanted)
        code = codes.written(answer)
        if codes.is_success(code):
            made = book.made(command, answer)
            return Unknown("answer_unreadable") if made is None else _delivered(made, code)
        if code != _DUPLICATE[book.api]:
            return codes.denial(book.api, answer)
        try:
            same = book.same(command)
        except Deferred:
            raise
        except PartnerError as error:
            return unsent(error)
        if not same:
            return codes.denial(book.api, answer)
        is_equal = len(same) == 1 and not same[0].differing(wanted)
        return Delivered(same[0].partner_id, "") if is_equal else Unknown("found_different")

    def _taken_away(self, book: Book, command: Command, there: Sequence[Entry]) -> Reply:
        if not there:
            remark = "nothing_to_cancel" if command.verb is Verb.CANCEL else None
            return Delivered(command.partner_id or book.nothing(command).partner_id, "", remark)
        answer = book.remove(there[0])
        code = codes.written(answer)
        if codes.is_success(code) or code == _NONE_THERE[book.api]:
            return Delivered(there[0].partner_id, "")
        return codes.denial(book.api, answer)

    def _replaced(self, book: Book, command: Command, there: Sequence[Entry], wanted: Facts) -> Reply:
        for entry in there:
            answer = book.remove(entry)
            code = codes.written(answer)
            if not (codes.is_success(code) or code == _NONE_THERE[book.api]):
                return codes.denial(book.api, answer)
        try:
            reply = self._add(book, command, wanted)
        except Deferred:
            if not there:
                raise
            return Unknown("found_different")
        is_half = bool(there) and not isinstance(reply, Delivered | Unknown)
        return Unknown("found_different") if is_half else reply

    def _check_codes(self) -> None:
        """RejectedError for a code in the settings that this ORCA does not have today."""
        assignments = self._options.assignments
        given = assignments.by_staff.values()
        departments = {assignments.department, *(department for _, department in given)} - {""}
        doctors = {assignments.default_doctor, *(doctor for doctor, _ in given)} - {""}
        for number, wanted, what in (
            ("01", departments, codes.DEPARTMENT),
            ("02", doctors, codes.DOCTOR),
        ):
            there = {plain_number(xml2.text(row, "Code")) for row in reading.listing(self._server, number)}
            if not {plain_number(code) for code in wanted} <= there:
                raise RejectedError("code_unknown_at_partner", {"what": what})

    @staticmethod
    def _may(ask: Callable[[], object]) -> bool:
        try:
            ask()
        except AuthenticationError:
            return False
        return True


def _delivered(entry: Entry, code: str) -> Reply:
    return Delivered(entry.partner_id, "", codes.REMARKS.get(code))


def _nothing(book: Book, command: Command) -> Reply:
    try:
        return Delivered(book.nothing(command).partner_id, "")
    except RejectedError as error:
        return unsent(error)


def _not_there(command: Command, *, is_wanted: bool) -> ReadBack:
    if command.partner_id is None:
        return Absent()
    if not is_wanted:
        return Found(command.partner_id, "")
    return Found(command.partner_id, "", ("status",), {"status": "cancelled"})
