"""The demo's clinic: its clients and visits are in ORCA, its staff in SmartHR. Whether both equal the product.

As independent a reading as that of a FHIR partner (`demo_comparison`): the sandboxes' own state and the product's own
tables. ORCA keeps no id of ours, so its books are compared as what they say: as many entries as there are visits, each
of a patient, at a time, under a doctor.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from zest_pipelines.local.demo_comparison import Comparison, Difference, Entry, entries_differing, people_differing
from zest_pipelines.local.demo_partners import DEFAULT_DOCTOR, QUALIFICATIONS
from zest_pipelines.local.demo_product import JAPAN, Books, Row

Json = dict[str, Any]
"""What a book's entry says: patient, day, hour and minute, doctor, and of an appointment the note."""

_DOCTORS = "1"
"""What their codes begin with."""
_SEXES = {"1": "male", "2": "female"}


@dataclass(frozen=True)
class ClinicState:
    """All that both sandboxes keep."""

    patients: Mapping[str, Json]
    """By number."""
    appointments: Sequence[Json]
    acceptances: Sequence[Json]
    crews: Sequence[Json]


def crews_of(staff: Mapping[str, Json]) -> list[Json]:
    """The crews at SmartHR who work at the clinic: ORCA's staff, by their codes there."""
    crews = []
    for count, (code, row) in enumerate(staff.items()):
        names = {"last_name": row["name"], "last_name_yomi": row["kana"]}
        both = {name: text.split("　") for name, text in names.items()}
        job = QUALIFICATIONS[0] if code.startswith(_DOCTORS) else (*QUALIFICATIONS[1:], "事務")[count % 3]
        crews.append(
            {
                "id": str(uuid5(NAMESPACE_URL, f"urn:zest:demo:{code}")),
                "emp_code": code,
                "emp_status": "absent" if count % 20 == 9 else "employed",
                **{name: family for name, (family, _) in both.items()},
                **{name.replace("last", "first"): given for name, (_, given) in both.items()},
                "entered_at": f"{2005 + count % 20}-04-01",
                "resigned_at": None,
                "job_category": {"id": f"job-{job}", "name": job},
                "updated_at": f"2026-04-01T{count // 60:02}:{count % 60:02}:00.000Z",
            }
        )
    return crews


def compare_clinic(
    books: Books, state: ClinicState, at_orca: Mapping[UUID, str], at_smarthr: Mapping[UUID, str]
) -> Comparison:
    """Both sides of the tenant; `at_orca` and `at_smarthr` map our clients' and staff's ids to theirs."""
    return Comparison(
        clients=len(books.clients),
        staff=len(books.staff),
        visits=len(books.visits),
        booked=len(state.appointments),
        cancelled=0,  # a cancelled one leaves nothing there
        encounters=len(state.acceptances),
        differences=(*_masters(books, state, at_orca, at_smarthr), *_plans(books, state, at_orca)),
    )


def _masters(
    books: Books, state: ClinicState, at_orca: Mapping[UUID, str], at_smarthr: Mapping[UUID, str]
) -> Iterator[Difference]:
    living = {number: row for number, row in state.patients.items() if row.get("TestPatient_Flag") != "1"}
    yield from people_differing(
        "client", books.clients, {number: _client(living[number]) for number in living}, at_orca
    )
    yield from people_differing("staff", books.staff, {each["id"]: _staff(each) for each in state.crews}, at_smarthr)
    linked = (row["staff_id"] for row in books.staff)
    yield from (Difference("staff", str(record), "is linked") for record in linked if record not in at_orca)


def _client(patient: Json) -> Row:
    home = patient["Home_Address_Information"]
    return {
        **_names(patient, "WholeName", "name"),
        **_names(patient, "WholeName_inKana", "kana"),
        "birth_date": patient["BirthDate"],
        "sex": _SEXES[patient["Sex"]],
        "postal_code": home["Address_ZipCode"],
        "address": home["WholeAddress1"] + home["WholeAddress2"],
        "phone": home.get("PhoneNumber1") or patient.get("CellularNumber", ""),
        "active": patient.get("Death_Flag") != "1",
    }


def _names(patient: Json, name: str, suffix: str) -> Row:
    family, _, given = patient[name].partition("　")
    return {f"family_{suffix}": family, f"given_{suffix}": given}


def _staff(crew: Json) -> Row:
    job = crew["job_category"]["name"]
    return {
        "family_name": crew["last_name"],
        "given_name": crew["first_name"],
        "family_kana": crew["last_name_yomi"],
        "given_kana": crew["first_name_yomi"],
        "qualification": job if job in QUALIFICATIONS else "",
        "employed_from": date.fromisoformat(crew["entered_at"]),
        "employed_until": None,
        "active": crew["emp_status"] != "retired",
    }


def _plans(books: Books, state: ClinicState, people: Mapping[UUID, str]) -> Iterator[Difference]:
    visits = {row["visit_id"]: row for row in books.visits}
    wanted = {
        str(row["visit_id"]): (*_entry(row, row["starts_at"], people), row["note"])
        for row in books.visits
        if row["status"] == "confirmed"
    }
    there = [(*_shown(each), _note(each["note"])) for each in state.appointments]
    yield from entries_differing("visit", wanted, there)
    seen = {
        str(row["visit_id"]): _entry(visits[row["visit_id"]], row["started_at"], people)
        for row in books.records
        if row["status"] == "done"
    }
    yield from entries_differing("visit_record", seen, [_shown(each) for each in state.acceptances])


def _entry(visit: Row, at: datetime, people: Mapping[UUID, str]) -> Entry:
    moment = at.astimezone(JAPAN)
    staff = people.get(visit["staff_id"], "")
    doctor = staff if staff.startswith(_DOCTORS) else DEFAULT_DOCTOR
    return people.get(visit["client_id"], ""), moment.date().isoformat(), f"{moment:%H:%M}", doctor


def _shown(entry: Json) -> Entry:
    return str(entry["patient"]), entry["day"], entry["time"][:5], entry["doctor"]


def _note(note: str) -> str:
    """Without the mark that tells whose it is."""
    return unicodedata.normalize("NFKC", note).partition(" ")[2]
