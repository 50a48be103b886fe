"""What ORCA answers to each of the calls that the connector makes, by the API pages of the ORCA organisation.

Its checks come in the documents' order and end with their codes. Where a document leaves something open the harder
thing is done: ids that were given up are given again, half-width letters become full-width ones, and what the table of
characters lacks is refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any

from partners.orca.sandbox.clinic import CONTENTS, DEPARTMENTS, Acceptance, Appointment, Clinic

Json = dict[str, Any]
_GROUPS = "12345"


@dataclass(frozen=True)
class Rules:
    """How this ORCA is set up."""

    most_listed: int = 1000
    """Patients in a list of changes."""
    most_appointments: int = 50
    may_list_users: bool = True
    slot: int = 99
    """Appointments of a doctor at one time before ORCA remarks on it."""


@dataclass(frozen=True)
class Said:
    """An answer, and what was done."""

    name: str
    code: str
    fields: Json
    effect: str = "none"
    """created, cancelled or none."""
    entry: Appointment | Acceptance | None = None
    """Of the effect."""


Ask = tuple[Json, Mapping[str, str]]
"""The fields of a request, and its query."""
Handler = Callable[[Clinic, Rules, Ask], Said]


# --- Patients ---


def patientlst1v2(clinic: Clinic, rules: Rules, ask: Ask) -> Said:
    fields, query = ask
    first = fields.get("Base_StartDate") or clinic.today().isoformat()
    last = fields.get("Base_EndDate") or "9999-99-99"
    if first > last:
        return Said("patientlst1res", "01", {})
    dates = ("CreateDate",) if query.get("class") == "02" else ("UpdateDate", "CreateDate")
    hits = [
        (number, patient)
        for number, patient in clinic.patients.items()
        if any(first <= patient.get(name, "") <= last for name in dates)
        and not (fields.get("Contain_TestPatient_Flag") == "1" and patient.get("TestPatient_Flag") == "1")
    ]
    hits.sort(key=lambda hit: (hit[1]["UpdateDate"], hit[1]["CreateDate"], hit[0]))
    rows = [_short(number, patient) for number, patient in hits[: rules.most_listed]]
    code = "10" if len(hits) >= rules.most_listed else "00" if hits else "20"
    told: Json = {"Target_Patient_Count": f"{len(rows):04}", "Patient_Information": rows} if rows else {}
    return Said("patientlst1res", code, told)


def patientlst2v2(clinic: Clinic, _: Rules, ask: Ask) -> Said:
    wanted = [each.get("Patient_ID", "") for each in ask[0].get("Patient_ID_Information", [])][:100]
    if not wanted:
        return Said("patientlst2res", "01", {})
    rows: list[Json] = []
    for shown in wanted:
        patient = clinic.patients.get(int(shown)) if shown.isdecimal() else None
        missing: Json = {"Patient_ID": shown, "WholeName": "【患者番号がありません】"}
        rows.append(missing if patient is None else {**_short(int(shown), patient), **_home(patient)})
    return Said("patientlst2res", "00", {"Target_Patient_Count": f"{len(rows):03}", "Patient_Information": rows})


def patientgetv2(clinic: Clinic, _: Rules, ask: Ask) -> Said:
    shown = ask[1].get("id", "")
    if not shown:
        return Said("patientinfores", "01", {})
    patient = clinic.patients.get(int(shown)) if shown.isdecimal() else None
    if patient is None:
        return Said("patientinfores", "10", {})
    flags: Json = {name: patient[name] for name in ("Death_Flag", "CellularNumber") if name in patient}
    insurance = [{"Insurance_Combination_Number": "0001", "Certificate_ExpiredDate": "9999-12-31"}]
    whole = {**_short(int(shown), patient), **_home(patient), **flags, "HealthInsurance_Information": insurance}
    return Said("patientinfores", "00", {"Patient_Information": whole})


def _short(number: int, patient: Json) -> Json:
    names = ("WholeName", "WholeName_inKana", "BirthDate", "Sex", "CreateDate", "UpdateDate")
    said = {name: patient[name] for name in names if name in patient}
    return {"Patient_ID": f"{number:05}", **said, "TestPatient_Flag": patient.get("TestPatient_Flag", "0")}


def _home(patient: Json) -> Json:
    home = patient.get("Home_Address_Information")
    return {"Home_Address_Information": home} if home else {}


# --- Staff and the system ---


def system01lstv2(clinic: Clinic, _: Rules, ask: Ask) -> Said:
    day = ask[0].get("Base_Date") or clinic.today().isoformat()
    match ask[0].get("Request_Number") or ask[1].get("class"):
        case "01":
            rows = [{"Code": code, "WholeName": name} for code, name in DEPARTMENTS.items()]
            return Said("departmentres", "00", {"Department_Information": rows})
        case "04":
            return Said("system1001res", "00", {"Medical_Information": {"Institution_WholeName": "医療法人　ひだまり"}})
        case "02" | "03" as number:
            rows = [
                {"Code": code, "WholeName": row["name"], "WholeName_inKana": row["kana"]}
                for code, row in clinic.staff.items()
                if code.startswith("1") == (number == "02") and row["since"] <= day <= row["until"]
            ]
            code = "10" if len(rows) >= 100 else "00" if rows else "11"
            return Said("physicianres", code, {"Physician_Information": rows[:100]} if rows else {})
    return Said("physicianres", "91", {})


def manageusersv2(clinic: Clinic, rules: Rules, _: Ask) -> Said:
    if not rules.may_list_users:
        return Said("manageusersres", "8099", {})
    users = [
        {
            "User_Id": f"user{code}",
            "Group_Number": code[0],
            "User_Number": code[1:],
            "Full_Name": row["name"],
            "Kana_Name": row["kana"],
            "Start_Date": row["since"],
            "Expiry_Date": row["until"],
        }
        for code, row in clinic.staff.items()
    ]
    own = {"User_Id": "ormaster", "Group_Number": "0", "User_Number": "0001", "Full_Name": "管理者"}
    return Said("manageusersres", "0000", {"User_Information": [own, *users]})


# --- Appointments ---


def appointmodv2(clinic: Clinic, rules: Rules, ask: Ask) -> Said:
    fields, query = ask
    name, patient = "appointres", _number(fields.get("Patient_ID", ""))
    act = query.get("class")
    if act not in ("01", "02"):
        return Said(name, "91", {})
    for key, code in (("Patient_ID", "01"), ("Appointment_Date", "02"), ("Appointment_Time", "03")):
        if not fields.get(key):
            return Said(name, code, {})
    if patient not in clinic.patients:
        return Said(name, "10", {})
    if not _is_day(fields["Appointment_Date"]):
        return Said(name, "11", {})
    if not _is_time(fields["Appointment_Time"]):
        return Said(name, "12", {})
    return (_book if act == "01" else _cancel)(clinic, rules, patient, fields)


def _book(clinic: Clinic, rules: Rules, patient: int, fields: Json) -> Said:
    name, day, at = "appointres", fields["Appointment_Date"], fields["Appointment_Time"]
    department, doctor = fields.get("Department_Code", ""), fields.get("Physician_Code", "")
    if refusal := _places(clinic, department, doctor, missing=("04", "05")):
        return Said(name, refusal, {})
    content, remarks = fields.get("Medical_Information", ""), []
    if not content:
        content, remarks = "01", ["K3"]
    if content not in CONTENTS:
        return Said(name, "15", {})
    note = _wide(fields.get("Appointment_Note", ""))
    if note is None:
        return Said(name, "17", {})
    of_doctor = [each for each in clinic.appointments if (each.day, each.time, each.doctor) == (day, at, doctor)]
    if any((each.patient, each.content) == (patient, content) for each in of_doctor):
        return Said(name, "20", {})
    number = clinic.free_appointment(patient, day)
    if number is None:
        return Said(name, "50", {})
    made = Appointment(patient, day, at, number, department, doctor, content, note)
    clinic.appointments.append(made)
    remarks += ["K4"] if len(of_doctor) >= rules.slot else []
    remarks += ["K5"] if day < clinic.today().isoformat() else []
    return Said(name, (remarks or ["00"])[0], _appointment(clinic, made, f"{number:05}"), "created", made)


def _cancel(clinic: Clinic, _: Rules, patient: int, fields: Json) -> Said:
    name, day = "appointres", fields["Appointment_Date"]
    if not fields.get("Physician_Code"):
        return Said(name, "05", {})
    number = fields.get("Appointment_Id", "")
    if number and not number.isdecimal():
        return Said(name, "26", {})
    of_day = [each for each in clinic.appointments if (each.patient, each.day) == (patient, day)]
    at_time = fields["Appointment_Time"], fields["Physician_Code"]
    hits = [each for each in of_day if (each.number == int(number) if number else (each.time, each.doctor) == at_time)]
    if not hits:
        return Said(name, "25", {})
    clinic.appointments.remove(hits[0])
    return Said(name, "00", _appointment(clinic, hits[0], f"{hits[0].number:05}"), "cancelled", hits[0])


def appointlst2v2(clinic: Clinic, rules: Rules, ask: Ask) -> Said:
    name, patient = "appointlst2res", _number(ask[0].get("Patient_ID", ""))
    first = ask[0].get("Base_Date") or clinic.today().isoformat()
    if not ask[0].get("Patient_ID"):
        return Said(name, "01", {})
    if patient not in clinic.patients:
        return Said(name, "10", {})
    hits = [each for each in clinic.appointments if each.patient == patient and each.day >= first]
    hits.sort(key=lambda each: (each.day, each.time), reverse=True)
    rows = [_appointment(clinic, each, f"{each.number:02}") for each in hits[: rules.most_appointments]]
    for row in rows:
        del row["Patient_Information"]
    told = {"Base_Date": first, "Patient_Information": _short(patient, clinic.patients[patient])}
    code = "20" if len(hits) >= rules.most_appointments else "00" if hits else "21"
    return Said(name, code, {**told, "Appointlst_Information": rows})


def _appointment(clinic: Clinic, each: Appointment, number: str) -> Json:
    return {
        "Appointment_Date": each.day,
        "Appointment_Time": each.time,
        "Appointment_Id": number,
        "Medical_Information": each.content,
        "Department_Code": each.department,
        "Department_WholeName": DEPARTMENTS[each.department],
        "Physician_Code": each.doctor,
        "Physician_WholeName": clinic.staff[each.doctor]["name"],
        "Appointment_Note": each.note,
        "Patient_Information": _short(each.patient, clinic.patients[each.patient]),
    }


# --- Acceptances ---


def acceptmodv2(clinic: Clinic, _: Rules, ask: Ask) -> Said:
    fields = ask[0]
    name, patient = "acceptres", _number(fields.get("Patient_ID", ""))
    act = fields.get("Request_Number")
    if act not in ("01", "02"):
        return Said(name, "91", {})
    if not fields.get("Patient_ID"):
        return Said(name, "01", {})
    if patient not in clinic.patients:
        return Said(name, "10", {})
    day = fields.get("Acceptance_Date") or clinic.today().isoformat()
    if not _is_day(day):
        return Said(name, "11", {})
    if act == "02":
        return _take_back(clinic, patient, day, fields)
    return _accept(clinic, patient, day, fields)


def _accept(clinic: Clinic, patient: int, day: str, fields: Json) -> Said:
    name, at = "acceptres", fields.get("Acceptance_Time", "")
    department, doctor = fields.get("Department_Code", ""), fields.get("Physician_Code", "")
    if refusal := _places(clinic, department, doctor, missing=("02", "03")):
        return Said(name, refusal, {})
    remarks = []
    if not at:
        at, remarks = f"{clinic.now():%H:%M:%S}", ["K2"]
    if not _is_time(at):
        return Said(name, "12", {})
    same = (patient, day, department, doctor)
    if any((each.patient, each.day, each.department, each.doctor) == same for each in clinic.acceptances):
        return Said(name, "16", {})
    number = clinic.free_acceptance(day)
    content = fields.get("Medical_Information") or "01"
    made = Acceptance(patient, day, at, number, department, doctor, content)
    clinic.acceptances.append(made)
    return Said(name, (remarks or ["00"])[0], _acceptance(clinic, made), "created", made)


def _take_back(clinic: Clinic, patient: int, day: str, fields: Json) -> Said:
    number = fields.get("Acceptance_Id", "")
    if not number.isdecimal():
        return Said("acceptres", "19", {})
    hits = [each for each in clinic.acceptances if (each.day, each.number) == (day, int(number))]
    if not hits:
        return Said("acceptres", "17", {})
    if hits[0].patient != patient:
        return Said("acceptres", "20", {})
    clinic.acceptances.remove(hits[0])
    return Said("acceptres", "00", _acceptance(clinic, hits[0]), "cancelled", hits[0])


def acceptlstv2(clinic: Clinic, _: Rules, ask: Ask) -> Said:
    day = ask[0].get("Acceptance_Date") or clinic.today().isoformat()
    hits = [each for each in clinic.acceptances if each.day == day]
    rows = [_acceptance(clinic, each) for each in hits]
    for row in rows:
        del row["Acceptance_Date"]
    # An empty list comes with a child that holds nothing of a patient.
    told = rows or [{"Department_Code": ask[0].get("Department_Code", ""), "Medical_Information": "01"}]
    return Said("acceptlstres", "00" if hits else "21", {"Acceptance_Date": day, "Acceptlst_Information": told})


def _acceptance(clinic: Clinic, each: Acceptance) -> Json:
    return {
        "Acceptance_Date": each.day,
        "Acceptance_Time": each.time,
        "Acceptance_Id": f"{each.number:05}",
        "Department_Code": each.department,
        "Department_WholeName": DEPARTMENTS[each.department],
        "Physician_Code": each.doctor,
        "Physician_WholeName": clinic.staff[each.doctor]["name"],
        "Medical_Information": each.content,
        "Patient_Information": _short(each.patient, clinic.patients[each.patient]),
    }


def _places(clinic: Clinic, department: str, doctor: str, missing: tuple[str, str]) -> str:
    """The code of what is wrong with them; empty: nothing."""
    checks = (
        (not department, missing[0]),
        (not doctor, missing[1]),
        (department not in DEPARTMENTS, "13"),
        (doctor not in clinic.doctors(), "14"),
    )
    return next((code for is_wrong, code in checks if is_wrong), "")


def _number(shown: str) -> int:
    return int(shown) if shown.isdecimal() else -1


def _is_day(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def _is_time(text: str) -> bool:
    try:
        time.fromisoformat(text)
    except ValueError:
        return False
    return True


def _wide(note: str) -> str | None:
    """The note in full-width letters; None: a character that the table lacks."""
    composed = unicodedata.normalize("NFKC", note)
    wide = "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in composed).replace(" ", "　")
    try:
        wide.encode("cp932")
    except UnicodeEncodeError:
        return None
    return wide


HANDLERS: Mapping[str, Handler] = {
    "api01rv2/patientlst1v2": patientlst1v2,
    "api01rv2/patientlst2v2": patientlst2v2,
    "api01rv2/patientgetv2": patientgetv2,
    "api01rv2/system01lstv2": system01lstv2,
    "orca101/manageusersv2": manageusersv2,
    "orca14/appointmodv2": appointmodv2,
    "api01rv2/appointlst2v2": appointlst2v2,
    "orca11/acceptmodv2": acceptmodv2,
    "api01rv2/acceptlstv2": acceptlstv2,
}
"""By path. The log of events has another form: see the server."""


def refused(said: Said, code: str) -> Said:
    """The answer with another code, nothing of a patient, and nothing done."""
    return Said(said.name, code, {})
