"""The book of acceptances (受付): a record of a visit is that the patient was seen, on a day, at a time, by a doctor.

    product                     partner
    started_at                  Acceptance_Date, Acceptance_Time (the visit's day, and no time, where it is not told)
    staff                       Physician_Code, Department_Code, as the connection is set
    ended_at, note              nothing: ORCA has no place for them
    done                        an acceptance
    absent, withdrawn           no acceptance

An acceptance has no note, so it carries no mark of ours. It is told by its id, and where that is not known by saying
what we say: ORCA has one a day of a patient, department and doctor that is not yet billed, so there cannot be two. That
also means that a second visit of the day is refused; a person counts it to the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from partners.contract import Command, Entity, Json, Verb, VisitRecord
from partners.errors import RejectedError, RetryableError
from partners.orca import codes, xml2
from partners.orca.apis import Api
from partners.orca.assignment import Assignments, Place
from partners.orca.books import Entry, Facts, clock_of, day_of, known_entry, patient_of, shown_moment
from partners.orca.people import as_number, plain_number
from partners.orca.server import Server
from partners.orca.xml2 import record, records, text
from partners.wire import Answered, Exchange


@dataclass(frozen=True)
class Acceptances:
    """A books.Book of one connection."""

    server: Server
    assignments: Assignments
    medical_content: str
    api: Api = Api.ACCEPT

    def wanted(self, command: Command) -> Facts | None:
        """As the contract of a book says."""
        done = _record(command)
        if done.status != "done":
            return None
        place = self._place(command)
        began = done.started_at
        told = {} if began is None else {"started_at": shown_moment(day_of(began), clock_of(began))}
        return told | {
            "client": patient_of(command),
            "staff": plain_number(place.doctor),
            "Department_Code": plain_number(place.department),
        }

    def ours(self, command: Command) -> Sequence[Entry]:
        """The one under the id that is known; else one that says what the command says. To be cancelled is under its
        own id or not there: what says the same is the clinic's."""
        known = known_entry(command.partner_id)
        if known is not None and known.number:
            listed = self._listed(known.day)
            found = [each for each in listed if (each.patient, each.number) == (known.patient, known.number)]
            if found or command.verb is Verb.CANCEL:
                return found
        return self.same(command)

    def same(self, command: Command) -> Sequence[Entry]:
        """Those that say what the command says; none where it says that there is none, or could not be written.

        Nor where it does not say when it began: what says the rest may as well be the clinic's own.
        """
        try:
            wanted = self.wanted(command)
        except RejectedError:
            return []
        if wanted is None or "started_at" not in wanted:
            return []
        return [each for each in self._listed(_day(command)) if not each.differing(wanted)]

    def add(self, command: Command, facts: Facts) -> Exchange:
        """Make one."""
        place, started_at = self._place(command), _record(command).started_at
        time = f"{clock_of(started_at)}:00" if started_at else ""
        return self._write("01", patient_of(command), _day(command), time, "", place, self.medical_content)

    def remove(self, entry: Entry) -> Exchange:
        """Take it back."""
        place = Place(entry.facts["doctor"], entry.facts["department"])
        return self._write("02", entry.patient, entry.day, entry.facts["time"], f"{entry.number:05}", place, "")

    def made(self, command: Command, answer: Exchange) -> Entry | None:
        """The entry that the answer to `add` tells."""
        told = xml2.read(answer) if isinstance(answer, Answered) else None
        number = as_number(text(told or {}, "Acceptance_Id"))
        return None if number is None else Entry(patient_of(command), _day(command), number)

    def nothing(self, command: Command) -> Entry:
        """What stands for that the patient was not seen."""
        return Entry(patient_of(command), _day(command), 0)

    def _listed(self, day: date) -> list[Entry]:
        told = self.server.read(Api.ACCEPTANCES, {"Acceptance_Date": day.isoformat()}, {"class": "03"})
        if text(told, "Api_Result") == codes.TOO_MANY[Api.ACCEPTANCES]:
            raise RetryableError("appointments_hidden")
        return [_entry(day, row) for row in records(told, "Acceptlst_Information")]

    def _place(self, command: Command) -> Place:
        place = self.assignments.place(command.links.get(Entity.STAFF) or None)
        if place is None:
            raise RejectedError("staff_not_assignable")
        return place

    def _write(self, act: str, patient: str, day: date, time: str, number: str, place: Place, content: str) -> Exchange:
        request = {
            "Request_Number": act,
            "Patient_ID": patient,
            "Acceptance_Date": day.isoformat(),
            "Acceptance_Time": time,
            "Acceptance_Id": number,
            "Department_Code": place.department,
            "Physician_Code": place.doctor,
            "Medical_Information": content,
        }
        return self.server.ask(self.api, request)


def _entry(day: date, row: Json) -> Entry:
    number, time = as_number(text(row, "Acceptance_Id")), text(row, "Acceptance_Time")
    patient = plain_number(text(record(row, "Patient_Information"), "Patient_ID"))
    facts = {
        "started_at": shown_moment(day, time),
        "time": time,
        "client": patient,
        "staff": plain_number(text(row, "Physician_Code")),
        "doctor": text(row, "Physician_Code"),
        "Department_Code": plain_number(text(row, "Department_Code")),
        "department": text(row, "Department_Code"),
    }
    return Entry(patient, day, number or 0, facts)


def _day(command: Command) -> date:
    """The day of the acceptance: when it began, or the day of the visit."""
    started_at = _record(command).started_at
    if started_at is not None:
        return day_of(started_at)
    visit = known_entry(command.links.get(Entity.VISIT)) or known_entry(command.partner_id)
    if visit is None:
        raise RejectedError("record_refused", {"field": "started_at", "detail": "empty"})
    return visit.day


def _record(command: Command) -> VisitRecord:
    assert isinstance(command.fields, VisitRecord)
    return command.fields
