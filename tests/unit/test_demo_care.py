"""The comparison of the demo's home-visit business with its care manager finds every field that is not the same."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from partners.carecsv.layouts import COUNT, DAY, ENDS, INSURED, INSURER, MONTH, SERVICE, STARTS
from partners.carecsv.sandbox.office import CareOffice, made_up
from zest_pipelines.local.demo_care import CareState, DemoOffice, compare_care
from zest_pipelines.local.demo_product import Books

CLIENT, VISIT = UUID(int=1), UUID(int=3)
ROW = made_up(1, 1)
WHOSE = "139999-9000000001"
PEOPLE = {CLIENT: WHOSE}
MONTH_DAY = date(2026, 12, 1)


def _books() -> Books:
    family, given = ROW["利用者氏名"].split("　")
    family_kana, given_kana = ROW["利用者氏名フリガナ"].split(" ")
    born = ROW["利用者生年月日"]
    client = {
        "client_id": CLIENT,
        "family_name": family,
        "given_name": given,
        "family_kana": family_kana,
        "given_kana": given_kana,
        "birth_date": f"{born[:4]}-{born[4:6]}-{born[6:]}",
        "sex": {"1": "male", "2": "female"}[ROW["利用者性別"]],
        "postal_code": ROW["利用者郵便番号"],
        "address": ROW["利用者住所１"] + ROW["利用者住所２"],
        "phone": ROW["利用者電話番号"],
        "active": True,
    }
    visit = {
        "visit_id": VISIT,
        "client_id": CLIENT,
        "starts_at": datetime(2026, 12, 1, 0, tzinfo=UTC),
        "ends_at": datetime(2026, 12, 1, 1, tzinfo=UTC),
        "service_code": "111111",
        "status": "confirmed",
    }
    record = {
        "visit_id": VISIT,
        "started_at": datetime(2026, 12, 1, 0, 3, tzinfo=UTC),
        "ended_at": datetime(2026, 12, 1, 1, tzinfo=UTC),
        "status": "done",
    }
    return Books([client], [], [visit], [record])


def _state() -> CareState:
    line = {DAY: "20261201", STARTS: "0900", ENDS: "1000", COUNT: "1", SERVICE: "111111", MONTH: "202612"}
    told = ["202410", "139999", "9000000001", "20261201", "202612", "", "", "", "", "20261201", "", "0903", "1000"]
    told += ["1", "111111", "", "", "", "", "1370000002", "", "", "0", "1370000002", ""]
    landed: dict[str, Any] = {"day": "2026-12-01", "starts": "09:00", "ends": "10:00", "service_code": "111111"}
    return CareState(
        {WHOSE: dict(ROW)},
        {(WHOSE, "202612"): [line]},
        {("9000000001", "202612"): [told]},
        {(WHOSE, MONTH_DAY): [landed | {"count": 1}]},
    )


def test_equal_sides_have_no_difference() -> None:
    found = compare_care(_books(), _state(), PEOPLE)
    assert found.differences == ()
    assert (found.clients, found.staff, found.visits, found.booked, found.encounters) == (1, 0, 1, 1, 1)


PLAN, TOLD, LANDED = (WHOSE, "202612"), ("9000000001", "202612"), (WHOSE, MONTH_DAY)
Change = Callable[[Any], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.clients[WHOSE].update({"利用者氏名": "山本　花子"}),
        lambda s: s.clients[WHOSE].update({"利用者氏名フリガナ": "ヤマモト ハナコ"}),
        lambda s: s.clients[WHOSE].update({"利用者性別": "1" if ROW["利用者性別"] == "2" else "2"}),
        lambda s: s.clients[WHOSE].update({"利用者生年月日": "19250101"}),
        lambda s: s.clients[WHOSE].update({"利用者郵便番号": "1"}),
        lambda s: s.clients[WHOSE].update({"利用者住所２": ""}),
        lambda s: s.clients[WHOSE].update({"利用者電話番号": "00"}),
        lambda s: s.clients.update({"139999-9000000002": s.clients[WHOSE]}),
        lambda s: s.clients.clear(),
        *(lambda s, name=name: s.plans[PLAN][0].update({name: "1"}) for name in (DAY, STARTS, ENDS, SERVICE)),
        lambda s: s.plans[PLAN].append(deepcopy(s.plans[PLAN][0])),
        lambda s: s.plans.clear(),
        *(lambda s, at=at: s.actuals[TOLD][0].__setitem__(at, "1") for at in (1, 2, 9, 11, 12, 14)),
        lambda s: s.actuals[TOLD].append(list(s.actuals[TOLD][0])),
        lambda s: s.actuals.update({("9000000001", "202611"): s.actuals.pop(TOLD)}),
        lambda s: s.actuals.clear(),
        *(
            lambda s, name=name: s.landed[LANDED][0].update({name: "1"})
            for name in ("day", "starts", "ends", "service_code")
        ),
        lambda s: s.landed[LANDED].append(dict(s.landed[LANDED][0])),
        lambda s: s.landed.clear(),
    ],
)
def test_each_field_that_differs_is_found(change: Change) -> None:
    state = _state()
    change(state)
    assert compare_care(_books(), state, PEOPLE).differences


@pytest.mark.parametrize(("status", "record"), [("cancelled", "done"), ("draft", "done"), ("confirmed", "absent")])
def test_what_was_not_done_for_a_visit_that_stands_is_in_no_actuals(status: str, record: str) -> None:
    books, state = _books(), _state()
    books.visits[0]["status"], books.records[0]["status"] = status, record
    found = [each for each in compare_care(books, state, PEOPLE).differences if each.kind == "visit_record"]
    assert [each.field for each in found] == ["is ours"]


def test_the_office_plans_what_is_confirmed_and_takes_back_the_rest_and_a_later_one_goes_on(tmp_path: Path) -> None:
    office, care = DemoOffice("demo-care", 1, tmp_path), CareOffice(tmp_path)
    care.send([ROW, made_up(1, 2)])
    care.send_plans([_line(made_up(1, 2)), _line(ROW)], "202612", datetime(2026, 11, 1, tzinfo=UTC))
    office.agree(_books(), PEOPLE)
    plans = office.state({}).plans
    assert {whose: [(line[DAY], line[STARTS], line[SERVICE]) for line in of] for whose, of in plans.items()} == {
        PLAN: [("20261201", "0900", "111111")]
    }
    row = _state().actuals[TOLD][0]
    (care.out / "UPJSK_202612_1370000002_11_1370000001_43_20261202000000.CSV").write_text(",".join(row) + "\r\n")
    assert office.state({}).actuals == {TOLD: [row]}
    assert office.state({}).actuals == {TOLD: [row]}, "another one of the same folder"


def _line(client: dict[str, str]) -> dict[str, str]:
    who = {name: client[name] for name in (INSURER, INSURED)}
    return {**who, DAY: "20261205", STARTS: "1000", ENDS: "1100"}
