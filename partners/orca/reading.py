"""Reading patients and staff, in full or since a cursor.

- The list of changed patients goes by days, tells a thousand at most and has no pages: where more changed, the days are
  halved. More than a thousand in one day cannot be told apart by it (a migration does that): then all are read.
- That list lacks who was brought in without a date, and says nothing of who is not there. So a full reading goes
  through the numbers, a hundred a call, and asks for each patient that there is. It begins with the first number and
  ends where a thousand in a row are nobody's, or reads the ranges that the connection is set to; whom the list of
  changes knows beyond them is read as well. Where it cannot tell them, somebody has to say the ranges.
- A patient is always taken from the same call, which alone tells of a death and of a patient for tests; a content that
  came from two calls would change with each reading. So a full reading costs a call a patient, and is rare.
- "Today" is the server's own: nothing depends on our clock. A day is read again for a day after it.
- A patient for tests is nobody, and not there.
- Deletes are told by no list. Where the server keeps a log of what it told others (WebORCA), it is asked, and each
  patient that it says was deleted is asked for.
- Doctors and staff are lists without pages, and read as a whole each time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from partners.contract import Gone, Json, Page, SourceRecord
from partners.errors import RejectedError, RetryableError
from partners.orca import codes
from partners.orca.apis import Api
from partners.orca.people import as_number, plain_number, user_code
from partners.orca.server import Server
from partners.orca.xml2 import read, record, records, text
from partners.wire import Answered, read_json

OVERLAP = timedelta(days=1)
AT_ONCE = 100
"""Patient numbers in one call."""
GAP = 1000
"""So many numbers in a row that are nobody's end the reading of a range without an end."""
MOST_NUMBER = 10**9
_FIRST_DAY = date(1900, 1, 1)
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})?", re.ASCII)
_NOBODY = "【"
"""What the name of a number without a patient begins with (patientlst2v2: 【患者番号がありません】)."""
_TAKEN = ("Patient_ID", "WholeName", "WholeName_inKana", "BirthDate", "Sex", "CellularNumber", "Death_Flag")
_ADDRESS = ("Address_ZipCode", "WholeAddress1", "WholeAddress2", "PhoneNumber1", "PhoneNumber2")


class RangeError(ValueError):
    """The text is no list of ranges of patient numbers."""


@dataclass(frozen=True)
class Range:
    """Patient numbers, both ends in it."""

    first: int
    last: int | None
    """None: until GAP in a row are nobody's."""


_UNTOLD = (Range(1, None),)


def parse_ranges(written: str) -> tuple[Range, ...]:
    """`1-5000, 20230001-`: the ranges, in rising order; none of an empty text. Raises RangeError."""
    if not written.strip():
        return ()
    found = [_RANGE.fullmatch(part.strip()) for part in written.split(",")]
    if not all(found):
        raise RangeError(written)
    ranges = [Range(int(each[1]), int(each[2]) if each[2] else None) for each in found if each]
    for each, following in zip(ranges, [*ranges[1:], None], strict=True):
        is_open = each.last is None
        if (each.last is not None and each.last < each.first) or (is_open and following is not None):
            raise RangeError(written)
        if following is not None and each.last is not None and following.first <= each.last:
            raise RangeError(written)
    return tuple(ranges)


# --- Patients ---------------------------------------------------------------------------------------------------------


def read_patients(
    server: Server, cursor: str | None, resume: str | None, ranges: Sequence[Range], *, has_log: bool
) -> Iterator[Page]:
    """The pages of all patients, or of those changed since the cursor. Raises PartnerError.

    `ranges`: those that somebody has told; none: from 1 on, and whoever the list of changes tells.
    """
    since = _day_in(cursor, "since")
    if since is None or resume is not None:
        yield from _all(server, ranges, resume)
        return
    today = _today(server)
    numbers = _changed(server, since - OVERLAP, today)
    if numbers is None:
        yield from _all(server, ranges, None)
        return
    gone = _deleted(server, since - OVERLAP) if has_log else []
    wanted = [number for number in sorted(numbers, key=_in_order) if number not in gone]
    groups = [wanted[start : start + AT_ONCE] for start in range(0, len(wanted), AT_ONCE)] or [[]]
    for group in groups[:-1]:
        yield Page(tuple(_asked(server, group)), is_full=False)
    found = tuple(_asked(server, groups[-1]))
    yield Page(found, is_full=False, is_last=True, gone=tuple(gone), cursor=_spelled(since=today.isoformat()))


def fetch_patient(server: Server, partner_id: str) -> SourceRecord | Gone:
    """One patient as the server has it now. Raises PartnerError."""
    answer = server.ask(Api.PATIENT, query={"id": partner_id})
    if codes.result(answer) == "10":
        return Gone()
    fields = read(answer) if isinstance(answer, Answered) and answer.status == 200 else None
    if fields is None or not codes.is_success(text(fields, "Api_Result")):
        raise codes.failure(Api.PATIENT, answer)
    patient = record(fields, "Patient_Information")
    if plain_number(text(patient, "Patient_ID")) != partner_id:
        raise RetryableError("answer_unreadable")
    return Gone() if text(patient, "TestPatient_Flag") == "1" else patient_record(patient)


def probe_patients(server: Server, *, has_log: bool) -> None:
    """Read what a reading of changes reads, of today alone. Raises PartnerError."""
    today = _today(server)
    _changed(server, today, today)
    if has_log:
        _deleted(server, today)


def patient_record(patient: Json) -> SourceRecord:
    """A patient as the platform takes it: what masters are made of, and no insurance."""
    content: Json = {name: said for name in _TAKEN if (said := text(patient, name))}
    home = record(patient, "Home_Address_Information")
    address = {name: said for name in _ADDRESS if (said := text(home, name))}
    if address:
        content["Home_Address_Information"] = address
    return SourceRecord(plain_number(text(patient, "Patient_ID")), "", content)


def _all(server: Server, told: Sequence[Range], resume: str | None) -> Iterator[Page]:
    """Every patient, in the order of the numbers; those beyond the ranges on the last page."""
    today = _day_in(resume, "since") or _today(server)
    ranges = told or _UNTOLD
    _dated(server, today, is_needed=not told)  # before a call a patient is made
    number = _number_in(resume)
    for each in ranges:
        number, unused = max(number, each.first), 0
        while number <= (each.last or MOST_NUMBER) and (each.last is not None or unused < GAP):
            last = min(number + AT_ONCE - 1, each.last or MOST_NUMBER)
            there = _there(server, [str(one) for one in range(number, last + 1)])
            unused = 0 if there else unused + last + 1 - number
            number = last + 1
            resume = _spelled(since=today.isoformat(), number=number)
            if there:
                yield Page(tuple(_asked(server, there)), is_full=True, resume=resume)
    dated = _dated(server, today, is_needed=not told)
    beyond = [one for one in sorted(dated, key=_in_order) if not _is_in(one, ranges, number)]
    yield Page(tuple(_asked(server, beyond)), is_full=True, is_last=True, cursor=_spelled(since=today.isoformat()))


def _dated(server: Server, today: date, *, is_needed: bool) -> set[str]:
    """The numbers of whoever was entered or saved on a day. RejectedError if that cannot be told and `is_needed`."""
    found = _changed(server, _FIRST_DAY, today)
    if found is None and is_needed:
        raise RejectedError("patient_numbers_missing")
    return found or set()


def _is_in(number: str, ranges: Sequence[Range], reached: int) -> bool:
    """Whether the number was gone through; `reached` is the first after the last range."""
    known = as_number(number)
    if known is None:
        return False
    return any(each.first <= known <= (reached - 1 if each.last is None else each.last) for each in ranges)


def _there(server: Server, numbers: Sequence[str]) -> list[str]:
    """Those of up to AT_ONCE numbers that are somebody's."""
    wanted = {"Patient_ID_Information": [{"Patient_ID": number} for number in numbers]}
    told = server.read(Api.PATIENTS, wanted, {"class": "01"})
    rows = records(told, "Patient_Information")
    shown = [plain_number(text(row, "Patient_ID")) for row in rows if not text(row, "WholeName").startswith(_NOBODY)]
    return [number for number in shown if number in set(numbers)]


def _asked(server: Server, numbers: Iterable[str]) -> Iterator[SourceRecord]:
    """The patients of these numbers; one who went meanwhile is left out."""
    for number in numbers:
        found = fetch_patient(server, number)
        if isinstance(found, SourceRecord):
            yield found


def _changed(server: Server, first: date, last: date) -> set[str] | None:
    """The numbers of who was entered or saved in these days; None: in one of them it was too many to be told."""
    told = server.read(Api.PATIENT_NUMBERS, _period(first, last), {"class": "01"})
    if text(told, "Api_Result") != codes.TOO_MANY[Api.PATIENT_NUMBERS]:
        rows = records(told, "Patient_Information")
        return {plain_number(text(row, "Patient_ID")) for row in rows if text(row, "Patient_ID")}
    if first == last:
        return None
    middle = first + (last - first) // 2
    halves = _changed(server, first, middle), _changed(server, middle + timedelta(days=1), last)
    return None if halves[0] is None or halves[1] is None else halves[0] | halves[1]


def _period(first: date, last: date) -> Mapping[str, str]:
    return {
        "Base_StartDate": first.isoformat(),
        "Base_EndDate": last.isoformat(),
        "Contain_TestPatient_Flag": "1",  # without them
    }


def _deleted(server: Server, first: date) -> list[str]:
    """Numbers that the log says were deleted, and that are nobody's now."""
    answer = server.ask(Api.EVENTS, {"event": "patient_information", "start_time": first.isoformat()})
    if (code := codes.result(answer)) == codes.NO_ROWS[Api.EVENTS]:
        return []
    told = read_json(answer) if isinstance(answer, Answered) and answer.status == 200 else None
    if code or not isinstance(told, list):
        raise codes.failure(Api.EVENTS, answer)
    bodies = [record(record(each, "data"), "body") for each in told if isinstance(each, dict)]
    deleted = {plain_number(text(body, "Patient_ID")) for body in bodies if text(body, "Patient_Mode") == "delete"}
    return [number for number in sorted(deleted - {""}, key=_in_order) if fetch_patient(server, number) == Gone()]


def _today(server: Server) -> date:
    """The day by the server's clock."""
    told = server.read(Api.SYSTEM, {"Request_Number": "01", "Base_Date": ""})
    try:
        return date.fromisoformat(text(told, "Information_Date"))
    except ValueError:
        raise RetryableError("answer_unreadable") from None


def _in_order(number: str) -> tuple[int, str]:
    known = as_number(number)
    return (MOST_NUMBER, number) if known is None else (known, "")


# --- Staff ------------------------------------------------------------------------------------------------------------


def read_staff(server: Server, *, has_users: bool) -> Page:
    """All doctors and staff as one page. Raises PartnerError."""
    return Page(tuple(_staff(server, has_users=has_users)), is_full=True, is_last=True)


def fetch_staff(server: Server, code: str, *, has_users: bool) -> SourceRecord | Gone:
    """One of them, looked for in the lists as they are now. Raises PartnerError."""
    found = (each for each in _staff(server, has_users=has_users) if each.partner_id == code)
    return next(found, Gone())


def _staff(server: Server, *, has_users: bool) -> list[SourceRecord]:
    doctors = listing(server, "02")
    if not doctors:  # no clinic is without; who takes the list for whole has nobody left
        raise RetryableError("partner_list_incomplete", {"why": "no_doctors"})
    listed = {text(row, "Code"): row for row in (*doctors, *listing(server, "03"))}
    users = {code: row for row in _users(server) if (code := _code_of(row))} if has_users else {}
    contents = {code: _content(code, listed.get(code), users.get(code)) for code in sorted({*listed, *users}) if code}
    return [SourceRecord(code, "", content) for code, content in contents.items()]


def listing(server: Server, number: str) -> list[Json]:
    """Departments (01), doctors (02) or other staff (03) who are valid today. Raises PartnerError."""
    told = server.read(Api.SYSTEM, {"Request_Number": number, "Base_Date": ""})
    if text(told, "Api_Result") == codes.TOO_MANY[Api.SYSTEM]:
        raise RetryableError("partner_list_incomplete", {"why": "more_than_100"})
    return records(told, "Department_Information" if number == "01" else "Physician_Information")


def _users(server: Server) -> list[Json]:
    return records(server.read(Api.USERS, {"Request_Number": "01", "Base_Date": ""}), "User_Information")


def _code_of(user: Json) -> str:
    """Empty of the system's own user, and of who has no number."""
    group, number = text(user, "Group_Number"), text(user, "User_Number")
    return user_code(group, number) if group not in ("", "0") and number else ""


def _content(code: str, listed: Json | None, user: Json | None) -> Json:
    kept = {
        "listed": _some(listed, "WholeName", "WholeName_inKana"),
        "user": _some(user, "Full_Name", "Kana_Name", "Start_Date", "Expiry_Date"),
    }
    return {"code": code, **{name: said for name, said in kept.items() if said}}


def _some(fields: Json | None, *names: str) -> Json:
    return {name: said for name in names if (said := text(fields or {}, name))}


# --- Tokens -----------------------------------------------------------------------------------------------------------


def _spelled(**told: object) -> str:
    return json.dumps(told, sort_keys=True)


def _parsed(token: str | None) -> Json:
    """What a token says; one that is none of ours says nothing."""
    try:
        told = json.loads(token or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _day_in(token: str | None, name: str) -> date | None:
    try:
        return date.fromisoformat(str(_parsed(token).get(name)))
    except ValueError:
        return None


def _number_in(token: str | None) -> int:
    found = _parsed(token).get("number")
    return found if isinstance(found, int) and 0 < found <= MOST_NUMBER else 0
