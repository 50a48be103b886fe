"""The comparison of the demo's clinic finds every field that is not the same on both sides."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from zest_pipelines.local.demo_clinic import ClinicState, compare_clinic, crews_of
from zest_pipelines.local.demo_product import Books

CLIENT, NURSE, VISIT = UUID(int=1), UUID(int=2), UUID(int=3)
STAFF = {"20001": {"name": "山田　花子", "kana": "ヤマダ　ハナコ", "since": "2015-04-01", "until": "9999-12-31"}}
CREW = crews_of(STAFF)[0]["id"]
AT_ORCA, AT_SMARTHR = {CLIENT: "12", NURSE: "20001"}, {NURSE: CREW}
NAMES = {"family_name": "山田", "given_name": "花子", "family_kana": "ヤマダ", "given_kana": "ハナコ"}
Json = dict[str, Any]


def _books() -> Books:
    client = NAMES | {
        "client_id": CLIENT,
        "birth_date": "1940-02-03",
        "sex": "female",
        "postal_code": "9990001",
        "address": "東京都みどり市緑ヶ丘1－2",
        "phone": "03-0000-0001",
        "active": True,
    }
    staff = NAMES | {
        "staff_id": NURSE,
        "qualification": "看護師",
        "employed_from": date(2005, 4, 1),
        "employed_until": None,
        "active": True,
    }
    visit = {
        "visit_id": VISIT,
        "client_id": CLIENT,
        "staff_id": NURSE,
        "starts_at": datetime(2026, 12, 1, 0, tzinfo=UTC),
        "note": "駐車場は裏手",
        "status": "confirmed",
    }
    record = {"visit_id": VISIT, "started_at": datetime(2026, 12, 1, 0, 3, tzinfo=UTC), "status": "done"}
    return Books([client], [staff], [visit], [record])


def _state() -> ClinicState:
    patient = {
        "WholeName": "山田　花子",
        "WholeName_inKana": "ヤマダ　ハナコ",
        "BirthDate": "1940-02-03",
        "Sex": "2",
        "Home_Address_Information": {
            "Address_ZipCode": "9990001",
            "WholeAddress1": "東京都みどり市緑ヶ丘",
            "WholeAddress2": "1－2",
            "PhoneNumber1": "03-0000-0001",
        },
    }
    entry = {"patient": 12, "day": "2026-12-01", "number": 1, "department": "01", "doctor": "10001", "content": "01"}
    appointment = entry | {"time": "09:00:00", "note": "ＺＥＳＴＡＢＣＤＥ２３４５６　駐車場は裏手"}
    acceptance = entry | {"time": "09:03:00"}
    return ClinicState({"12": patient}, [appointment], [acceptance], crews_of(STAFF))


def test_equal_sides_have_no_difference() -> None:
    found = compare_clinic(_books(), _state(), AT_ORCA, AT_SMARTHR)
    assert found.differences == ()
    assert (found.clients, found.staff, found.visits, found.booked, found.encounters) == (1, 1, 1, 1, 1)


Change = Callable[[ClinicState], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.patients["12"].update(WholeName="山本　花子"),
        lambda s: s.patients["12"].update(WholeName_inKana="ヤマダ　ハナ"),
        lambda s: s.patients["12"].update(BirthDate="1940-02-04"),
        lambda s: s.patients["12"].update(Sex="1"),
        lambda s: s.patients["12"].update(Death_Flag="1"),
        lambda s: s.patients["12"].update(TestPatient_Flag="1"),
        lambda s: s.patients["12"]["Home_Address_Information"].update(WholeAddress2=""),
        lambda s: s.patients["12"]["Home_Address_Information"].update(PhoneNumber1="03-0000-0002"),
        lambda s: s.patients.update({"13": s.patients["12"]}),
        lambda s: s.patients.clear(),
        lambda s: s.crews[0].update(last_name="山本"),
        lambda s: s.crews[0].update(first_name_yomi="ハナ"),
        lambda s: s.crews[0].update(emp_status="retired"),
        lambda s: s.crews[0].update(entered_at="2006-04-01"),
        lambda s: s.crews[0].update(job_category={"name": "理学療法士"}),
        lambda s: s.crews.append(s.crews[0] | {"id": "another"}),
        lambda s: s.crews.clear(),
        lambda s: s.appointments[0].update(patient=13),
        lambda s: s.appointments[0].update(day="2026-12-02"),
        lambda s: s.appointments[0].update(time="09:10:00"),
        lambda s: s.appointments[0].update(doctor="10005"),
        lambda s: s.appointments[0].update(note="ＺＥＳＴＡＢＣＤＥ２３４５６　裏口"),
        lambda s: s.appointments.append(deepcopy(s.appointments[0])),
        lambda s: s.appointments.clear(),
        lambda s: s.acceptances[0].update(time="09:04:00"),
        lambda s: s.acceptances[0].update(doctor="10005"),
        lambda s: s.acceptances.append(deepcopy(s.acceptances[0])),
        lambda s: s.acceptances.clear(),
    ],
)
def test_each_field_that_differs_is_found(change: Change) -> None:
    state = _state()
    change(state)
    assert compare_clinic(_books(), state, AT_ORCA, AT_SMARTHR).differences


def test_staff_who_are_not_linked_at_orca_are_found() -> None:
    (found,) = compare_clinic(_books(), _state(), {CLIENT: "12"}, AT_SMARTHR).differences
    assert (found.kind, found.field) == ("staff", "is linked")


def test_a_visit_that_is_cancelled_leaves_nothing_there_and_a_client_who_was_out_was_not_seen() -> None:
    books, state = _books(), _state()
    books.visits[0]["status"], books.records[0]["status"] = "cancelled", "absent"
    nothing = ClinicState(state.patients, [], [], state.crews)
    assert compare_clinic(books, nothing, AT_ORCA, AT_SMARTHR).differences == ()
    assert {each.kind for each in compare_clinic(books, state, AT_ORCA, AT_SMARTHR).differences} == {
        "visit",
        "visit_record",
    }
