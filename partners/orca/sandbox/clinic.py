"""What an ORCA keeps: patients, staff, the two books and the log of what it told others. One clinic, in memory.

Patients and staff are made up from a number; the same number makes the same people. Some are irregular on purpose: one
without a date (as migrated ones are), one for tests, one who has died, one whose name is in one piece.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from partners.made_up_people import FAMILY_NAMES, FEMALE_NAMES, MALE_NAMES, PLACES
from partners.windows import JAPAN

Json = dict[str, Any]

DEPARTMENTS = {"01": "内科", "02": "精神科"}
CONTENTS = {"01": "診察１", "02": "薬のみ", "99": "該当なし"}
MOST_IN_A_DAY = 99
"""Appointments of one patient in one day: their ids have two digits."""


@dataclass(frozen=True)
class Appointment:
    """An entry of the book of appointments."""

    patient: int
    day: str
    time: str
    number: int
    department: str
    doctor: str
    content: str
    note: str


@dataclass(frozen=True)
class Acceptance:
    """An entry of the book of acceptances."""

    patient: int
    day: str
    time: str
    number: int
    department: str
    doctor: str
    content: str


@dataclass
class Clinic:
    """All of it. Its numbers are plain; answers pad them."""

    patients: dict[int, Json] = field(default_factory=dict)
    staff: dict[str, Json] = field(default_factory=dict)
    """By code; doctors' begin with 1."""
    appointments: list[Appointment] = field(default_factory=list)
    acceptances: list[Acceptance] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def today(self) -> date:
        """The day in Japan."""
        return self.now().astimezone(JAPAN).date()

    def put_patient(self, number: int, **said: Any) -> None:
        """Save a patient as the clinic's people do, with today's date unless another is given."""
        mode = "modify" if number in self.patients else "add"
        kept = {"UpdateDate": self.today().isoformat(), **said}
        self.patients[number] = {"CreateDate": kept["UpdateDate"], **self.patients.get(number, {}), **kept}
        self._tell(mode, number)

    def delete_patient(self, number: int) -> None:
        """Delete a patient as the clinic's people do."""
        del self.patients[number]
        self._tell("delete", number)

    def free_appointment(self, patient: int, day: str) -> int | None:
        """The lowest id that is free: one that was given up is given again. None: there is none."""
        taken = {each.number for each in self.appointments if (each.patient, each.day) == (patient, day)}
        return next((number for number in range(1, MOST_IN_A_DAY + 1) if number not in taken), None)

    def free_acceptance(self, day: str) -> int:
        """The lowest id of the day that is free."""
        taken = {each.number for each in self.acceptances if each.day == day}
        return next(number for number in range(1, len(taken) + 2) if number not in taken)

    def doctors(self) -> dict[str, Json]:
        """Those to whom appointments are given."""
        return {code: row for code, row in self.staff.items() if code.startswith("1")}

    def kept(self) -> Json:
        """As JSON."""
        return {
            "patients": {str(number): row for number, row in self.patients.items()},
            "staff": self.staff,
            "appointments": [asdict(each) for each in self.appointments],
            "acceptances": [asdict(each) for each in self.acceptances],
            "events": self.events,
        }

    def restore(self, kept: Json) -> None:
        """What `kept` said."""
        self.patients = {int(number): row for number, row in kept["patients"].items()}
        self.staff, self.events = kept["staff"], kept["events"]
        self.appointments = [Appointment(**row) for row in kept["appointments"]]
        self.acceptances = [Acceptance(**row) for row in kept["acceptances"]]

    def _tell(self, mode: str, number: int) -> None:
        self.events.append(
            {
                "id": len(self.events) % 65535 + 1,
                "event": "patient_information",
                "body": {"Patient_Mode": mode, "Patient_ID": f"{number:05}"},
                "time": self.now().astimezone(JAPAN).isoformat(timespec="seconds"),
            }
        )


def made_up(clinic: Clinic, seed: int, clients: int, staff: int) -> None:
    """Fill an empty clinic; the numbers of patients have gaps, as real ones do."""
    draw = random.Random(seed)  # noqa: S311  # made-up people need no cryptographic chance
    number = 0
    for count in range(1, clients + 1):
        number += draw.choice((1, 1, 1, 2, 7))
        clinic.patients[number] = _patient(draw, count, clinic.today())
    for count in range(1, staff + 1):
        group = "1" if count % 4 == 1 else draw.choice("2234")
        code = f"{group}{count:04}"
        (family, family_kana), (given, given_kana) = draw.choice(FAMILY_NAMES), draw.choice(FEMALE_NAMES)
        name, kana = f"{family}　{given}", f"{family_kana}　{given_kana}"
        clinic.staff[code] = {"name": name, "kana": kana, "since": "2015-04-01", "until": "9999-12-31"}


def _patient(draw: random.Random, count: int, today: date) -> Json:
    sex = draw.choice("12")
    (family, family_kana), (given, given_kana) = (
        draw.choice(FAMILY_NAMES),
        draw.choice((FEMALE_NAMES, MALE_NAMES)[sex == "1"]),
    )
    prefecture, place = draw.choice(PLACES)
    saved = (today - timedelta(days=2 + draw.randrange(900))).isoformat()
    space = "" if count % 20 == 5 else "　"
    patient: Json = {
        "WholeName": f"{family}{space}{given}",
        "WholeName_inKana": f"{family_kana}{space}{given_kana}",
        "BirthDate": (date(1925, 1, 1) + timedelta(days=draw.randrange(25_000))).isoformat(),
        "Sex": sex,
        "Home_Address_Information": {
            "Address_ZipCode": f"{draw.randrange(9_990_000, 9_999_999)}",
            "WholeAddress1": f"{prefecture}{place}",
            "WholeAddress2": f"{count}－{draw.randrange(1, 30)}",
            "PhoneNumber1": f"0{draw.randrange(10, 99)}-0000-{count:04}",
        },
        "CreateDate": saved,
        "UpdateDate": saved,
    }
    match count % 20:
        case 7:
            del patient["CreateDate"], patient["UpdateDate"]  # migrated
        case 11:
            patient["TestPatient_Flag"] = "1"
        case 13:
            patient["Death_Flag"] = "1"
        case 17:
            del patient["Home_Address_Information"]["PhoneNumber1"]
            patient["CellularNumber"] = f"090-0000-{count:04}"
    return patient
