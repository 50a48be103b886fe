"""The book of appointments (予約): a planned visit is one of a patient, at a time, under a doctor of a department.

    product                     partner
    starts_at                   Appointment_Date, Appointment_Time
    staff                       Physician_Code, Department_Code, as the connection is set
    note                        Appointment_Note, after our mark
    ends_at, service_code       nothing: ORCA has no place for them
    cancelled                   no appointment

ORCA keeps no key of ours. What is ours is told by a mark in the note, made of the visit's id: `ZEST` and ten letters
and digits, so that the wide letters into which ORCA turns it can be read back. The clinic's people see it.

The list by patient tells fifty appointments at most, the latest first. What it may hide is never taken for absent.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from partners.contract import Command, Entity, Json, Visit
from partners.errors import RejectedError, RetryableError
from partners.orca import codes, xml2
from partners.orca.apis import Api
from partners.orca.assignment import Assignments
from partners.orca.books import Entry, Facts, clock_of, day_of, known_entry, patient_of, shown_moment
from partners.orca.people import as_number, plain_number
from partners.orca.server import Server
from partners.orca.xml2 import Fields, records, text
from partners.wire import Answered, Exchange

SEARCHED = timedelta(days=31)
"""How long before its day an appointment of which no id is known is looked for: an older version may have made it."""
_MARK = re.compile(r"ZEST[A-Z2-7]{10}(?![A-Z0-9])")
_ALIKE = str.maketrans({"〜": "~", "−": "-", "―": "-", "—": "-", "‐": "-", "–": "-", "‖": "|", "¥": "\\"})
"""Signs that ORCA's table of characters has one of, whichever was sent."""


@dataclass(frozen=True)
class Appointments:
    """A books.Book of one connection."""

    server: Server
    assignments: Assignments
    medical_content: str
    api: Api = Api.APPOINT

    def wanted(self, command: Command) -> Facts:
        """As the contract of a book says; an appointment is always wanted."""
        visit = _visit(command)
        place = self.assignments.place(_staff(command))
        if place is None:
            raise RejectedError("staff_not_assignable")
        if not xml2.is_sendable(visit.note):
            raise RejectedError("character_refused", {"field": "note"})
        return {
            "record_id": mark_of(command.record_id),
            "starts_at": shown_moment(day_of(visit.starts_at), clock_of(visit.starts_at)),
            "client": patient_of(command),
            "staff": plain_number(place.doctor),
            "Department_Code": plain_number(place.department),
            "note": plain_note(visit.note),
        }

    def ours(self, command: Command) -> Sequence[Entry]:
        """Those with the record's mark; where there is none, the one under the id that is known, if it has no mark."""
        known, day = known_entry(command.partner_id), day_of(_visit(command).starts_at)
        patient = patient_of(command)
        found = self._of_patient(command, patient, day, known if known and known.patient == patient else None)
        if known is not None and known.patient != patient:  # the visit has become another client's
            found = [*found, *self._of_patient(command, known.patient, known.day, known)]
        marked = [entry for entry in found if entry.facts["record_id"]]
        return marked or found

    def _of_patient(self, command: Command, patient: str, day: date, known: Entry | None) -> list[Entry]:
        mark = mark_of(command.record_id)
        exact = day if known is None else min(day, known.day)
        # Of which no id is known, that may have been made by an older version, for an earlier day.
        for first in (exact - SEARCHED, exact) if command.partner_id is None else (exact,):
            listed, is_whole = self._listed(patient, first)
            marked = [entry for entry in listed if entry.facts["record_id"] == mark]
            if marked or is_whole:
                unmarked = (entry for entry in listed if known is not None and not entry.facts["record_id"])
                under_id = [each for each in unmarked if known and (each.day, each.number) == (known.day, known.number)]
                return marked or under_id
        raise RetryableError("appointments_hidden")

    def same(self, command: Command) -> Sequence[Entry]:
        """Those of the record itself: who is in the way of it is not told."""
        return self.ours(command)

    def add(self, command: Command, facts: Facts) -> Exchange:
        """Make one."""
        visit, place = _visit(command), self.assignments.place(_staff(command))
        assert place is not None  # else nothing was wanted
        note = " ".join(filter(None, (facts["record_id"], _one_line(visit.note))))
        return self._write(
            "01",
            patient_of(command),
            day_of(visit.starts_at),
            time=f"{clock_of(visit.starts_at)}:00",
            department=place.department,
            doctor=place.doctor,
            content=self.medical_content,
            note=note.replace(" ", "　"),
        )

    def remove(self, entry: Entry) -> Exchange:
        """Cancel it."""
        facts = entry.facts
        time = f"{facts['starts_at'][11:16]}:00"
        return self._write("02", entry.patient, entry.day, time=time, number=entry.number, doctor=facts["doctor"])

    def made(self, command: Command, answer: Exchange) -> Entry | None:
        """The entry that the answer to `add` tells."""
        told = xml2.read(answer) if isinstance(answer, Answered) else None
        number = as_number(text(told or {}, "Appointment_Id"))
        return None if number is None else Entry(patient_of(command), day_of(_visit(command).starts_at), number)

    def nothing(self, command: Command) -> Entry:
        """Never asked for: an appointment is always wanted, or cancelled."""
        return Entry(patient_of(command), day_of(_visit(command).starts_at), 0)

    def _listed(self, patient: str, first: date) -> tuple[list[Entry], bool]:
        """The patient's appointments from that day on, and whether these are all."""
        asked = {"Patient_ID": patient, "Base_Date": first.isoformat()}
        told = self.server.read(Api.APPOINTMENTS, asked, {"class": "01"})
        rows = (_entry(patient, row) for row in records(told, "Appointlst_Information"))
        is_whole = text(told, "Api_Result") != codes.TOO_MANY[Api.APPOINTMENTS]
        return [row for row in rows if row is not None], is_whole

    def _write(
        self,
        act: str,
        patient: str,
        day: date,
        *,
        time: str,
        doctor: str,
        number: int = 0,
        department: str = "",
        content: str = "",
        note: str = "",
    ) -> Exchange:
        request: Fields = {
            "Patient_ID": patient,
            "WholeName": "",
            "WholeName_inKana": "",
            "Appointment_Date": day.isoformat(),
            "Appointment_Time": time,
            "Appointment_Id": f"{number:02}" if number else "",
            "Department_Code": department,
            "Physician_Code": doctor,
            "Medical_Information": content,
            "Appointment_Information": "",
            "Appointment_Note": note,
        }
        return self.server.ask(self.api, request, {"class": act})


def mark_of(record_id: UUID) -> str:
    """What tells a visit's appointment from all others of its patient: fifty bits of its id."""
    digest = hashlib.sha256(record_id.bytes).digest()
    return "ZEST" + base64.b32encode(digest)[:10].decode()


def plain_note(note: str) -> str:
    """A note as two can be compared: neither width nor white space counts, nor which of two signs ORCA has."""
    return _one_line(unicodedata.normalize("NFKC", note).translate(_ALIKE))


def _entry(patient: str, row: Json) -> Entry | None:
    number, note = as_number(text(row, "Appointment_Id")), plain_note(text(row, "Appointment_Note"))
    try:
        day = date.fromisoformat(text(row, "Appointment_Date"))
    except ValueError:
        return None
    mark = _MARK.search(note)
    facts = {
        "record_id": mark[0] if mark else "",
        "starts_at": shown_moment(day, text(row, "Appointment_Time")),
        "client": patient,
        "staff": plain_number(text(row, "Physician_Code")),
        "doctor": text(row, "Physician_Code"),
        "Department_Code": plain_number(text(row, "Department_Code")),
        "note": _one_line(note.replace(mark[0], " ", 1)) if mark else note,
    }
    return Entry(patient, day, number or 0, facts)


def _one_line(note: str) -> str:
    return " ".join(note.split())


def _staff(command: Command) -> str | None:
    return command.links.get(Entity.STAFF) or None


def _visit(command: Command) -> Visit:
    assert isinstance(command.fields, Visit)
    return command.fields
