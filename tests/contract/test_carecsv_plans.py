"""Care CSV: what care managers have planned, out of the files that their offices send."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from carecsv_bench import client_id, connected
from evidence import is_told
from typer.testing import CliRunner

from partners.carecsv import plans
from partners.carecsv.layouts import COUNT, DAY, ENDS, INSURED, MONTH, STARTS
from partners.carecsv.partner import CARECSV
from partners.carecsv.sandbox.office import CareOffice, PlanFault, Row, made_up, planned, spoilt
from partners.contract import Connector, Plan, PlannedService, PlanPage, Unmappable
from partners.errors import RejectedError
from zest_pipelines.cli.app import app

AT = datetime(2026, 11, 26, 0, 30, tzinfo=UTC)
NINE = datetime(2026, 12, 1, 0, 0, tzinfo=UTC)
MONTH_DAY = date(2026, 12, 1)


@pytest.fixture
def office(tmp_path: Path) -> CareOffice:
    return CareOffice(tmp_path)


@pytest.fixture
def connector(office: CareOffice) -> Iterator[Connector]:
    with connected(office) as opened:
        yield opened


def later(minutes: int) -> datetime:
    return AT + timedelta(minutes=minutes)


def line(client: int, day: int = 1, hour: int = 9, **said: str) -> Row:
    starts = NINE + timedelta(days=day - 1, hours=hour - 9)
    return planned(made_up(1, client), starts, starts + timedelta(hours=1)) | said


def service(day: int = 1, hour: int = 9) -> PlannedService:
    return PlannedService(date(2026, 12, day), "131111", f"{hour:02}:00", f"{hour + 1:02}:00")


def pages(connector: Connector, cursor: str | None = None) -> Iterator[PlanPage]:
    assert CARECSV.read_plans is not None
    return CARECSV.read_plans(connector, cursor)


def read(connector: Connector, cursor: str | None = None) -> dict[str, Plan]:
    """By the client's id; each must come once."""
    found = [plan for page in pages(connector, cursor) for plan in page.plans]
    told = {plan.client: plan for plan in found}
    assert len(told) == len(found)
    return told


def test_a_later_file_takes_the_whole_place_of_an_earlier_one_in_whatever_order_they_are_put(
    office: CareOffice, connector: Connector
) -> None:
    office.send_plans([line(1, 3)], "202612", later(5))
    office.send_plans([line(1, 1), line(1, 2), line(2, 1)], "202612", later(0))  # put later, said earlier
    assert read(connector) == {
        client_id(1): Plan(client_id(1), MONTH_DAY, "20261126093500", (service(3),)),
        client_id(2): Plan(client_id(2), MONTH_DAY, "20261126093000", (service(1),)),
    }


def test_files_of_one_time_are_a_set_and_the_cursor_is_its_time(office: CareOffice, connector: Connector) -> None:
    office.send_plans([line(1, 1)], "202612", later(0), part="43")
    office.send_plans([line(1, 2)], "202612", later(0), part="46")
    told = read(connector)[client_id(1)]
    assert told.services == (service(1), service(2))
    assert [page.cursor for page in pages(connector)] == ["20261126093000"]
    office.send_plans([line(2)], "202612", later(1))
    assert set(read(connector, "20261126093100")) == {client_id(2)}
    assert set(read(connector, "20261126093000")) == {client_id(1), client_id(2)}


def test_plans_come_in_pages_and_each_once(
    office: CareOffice, connector: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "MOST_RECORDS", 2)
    for number in range(1, 6):
        office.send_plans([line(number), line(1, number)], "202612", later(number))
    told = list(pages(connector))
    assert [len(page.plans) for page in told] == [2, 2, 1]
    assert [page.cursor for page in told] == [None, None, "20261126093500"]
    assert read(connector)[client_id(1)].services == (service(5),)


def test_a_file_put_again_says_the_same_at_another_time(office: CareOffice, connector: Connector) -> None:
    first = office.send_plans([line(1)], "202612", later(0))
    office.send_plans([line(1, 2)], "202612", later(1))
    office.repeat(first, later(2))
    assert read(connector)[client_id(1)] == Plan(client_id(1), MONTH_DAY, "20261126093200", (service(1),))


def test_a_plan_that_was_taken_back_is_told_as_that_until_there_is_another(
    office: CareOffice, connector: Connector
) -> None:
    office.send_plans([line(1), line(2)], "202612", later(0))
    office.take_back([made_up(1, 1), made_up(1, 2)], "202612", later(1))
    office.send_plans([line(2, 5)], "202612", later(1))  # of the same set: taken back, and planned anew
    told = read(connector)
    assert told[client_id(1)].services is None
    assert told[client_id(2)].services == (service(5),)


def test_lines_for_other_offices_are_not_ours_and_the_client_has_a_plan_all_the_same(
    office: CareOffice, connector: Connector
) -> None:
    starts = NINE
    other = planned(made_up(1, 1), starts, starts + timedelta(hours=1), provider="1370000009")
    office.send_plans([other | {STARTS: "25"}, line(2), other | {INSURED: made_up(1, 2)[INSURED]}], "202612", AT)
    told = read(connector)
    assert (told[client_id(1)].services, told[client_id(1)].bad) == ((), ())
    assert told[client_id(2)].services == (service(),)


def test_times_may_be_open_or_midnight_and_a_service_may_be_planned_twice(
    office: CareOffice, connector: Connector
) -> None:
    lines = [line(1, **{STARTS: "9999", ENDS: "9999", COUNT: "02"}), line(1, **{STARTS: "2300", ENDS: "2400"})]
    office.send_plans(lines, "202612", AT)
    assert read(connector)[client_id(1)].services == (
        PlannedService(MONTH_DAY, "131111", "", "", 2),
        PlannedService(MONTH_DAY, "131111", "23:00", "00:00"),
    )


@pytest.mark.parametrize(
    ("fault", "reason", "told"),
    [
        (PlanFault.BAD_CHARACTER, "plan_line_character", {"field": "サービス事業所名", "character": "0x81"}),
        (PlanFault.WRONG_LENGTH, "plan_line_invalid", {"field": "サービスコード"}),
        (PlanFault.MISSING, "plan_line_invalid", {"field": "サービスコード"}),
        (PlanFault.TOO_FEW_COLUMNS, "plan_line_invalid", {"field": "columns"}),
    ],
)
def test_a_bad_line_waits_alone_and_is_told_with_file_line_and_what_is_wrong(
    office: CareOffice, connector: Connector, fault: PlanFault, reason: str, told: dict[str, str]
) -> None:
    lines = [line(1, 1), line(1, 2), line(2)]
    name = office.put(spoilt(lines, fault), AT, kind="UPPLAN", month="202612")
    taken = read(connector)
    assert taken[client_id(1)].bad == (Unmappable(reason, {"file": name, "line": "1"} | told),)
    is_told(reason, taken[client_id(1)].bad[0].params)
    assert taken[client_id(1)].services == (service(2),)
    assert (taken[client_id(2)].services, taken[client_id(2)].bad) == ((service(),), ())


@pytest.mark.parametrize(
    ("wrong", "column"),
    [
        ({MONTH: "202611"}, MONTH),
        ({DAY: "20261131"}, DAY),
        ({DAY: "20270101"}, DAY),
        ({STARTS: "2460"}, STARTS),
        ({STARTS: "2400"}, STARTS),
        ({ENDS: ""}, ENDS),
        ({COUNT: "-1"}, COUNT),
        ({"サービス事業者コード": "13700000021"}, "サービス事業者コード"),
        ({"３０日超区分": ""}, "３０日超区分"),
        ({"プラン担当業者コード": "13700000010"}, "プラン担当業者コード"),
    ],
)
def test_what_the_layout_does_not_allow_is_named_by_its_column(
    office: CareOffice, connector: Connector, wrong: Row, column: str
) -> None:
    office.send_plans([line(1, **wrong)], "202612", AT)
    plan = read(connector)[client_id(1)]
    assert ([each.params["field"] for each in plan.bad], plan.services) == ([column], ())


def test_letters_that_each_maker_has_otherwise_are_refused_and_those_of_cp932_are_taken(
    office: CareOffice, connector: Connector
) -> None:
    name = {"サービス事業所名": "髙﨑①訪問～"}
    office.send_plans([line(1, **name), line(2, **{"サービス事業所名": "\ue000"})], "202612", AT)
    told = read(connector)
    assert told[client_id(1)].services == (service(),)
    assert told[client_id(2)].bad[0].params["character"] == "U+E000"


def test_a_line_that_does_not_say_whose_it_is_keeps_no_other_back_until_the_month_is_said_anew(
    office: CareOffice, connector: Connector
) -> None:
    name = office.put(spoilt([line(1), line(2)], PlanFault.NAMELESS), AT, kind="UPPLAN", month="202612")
    coming = pages(connector)
    assert [plan.client for plan in next(coming).plans] == [client_id(2)]
    with pytest.raises(RejectedError) as caught:
        next(coming)
    assert (caught.value.reason, caught.value.params) == ("plan_line_nameless", {"file": name, "line": "1"})
    is_told("plan_line_nameless", caught.value.params)
    office.send_plans([line(1), line(2)], "202612", later(1))
    assert set(read(connector)) == {client_id(1), client_id(2)}


@pytest.mark.parametrize("month", ["000000", "202613"])
def test_a_file_of_no_month_or_no_table_is_told_and_the_others_are_taken(
    office: CareOffice, connector: Connector, month: str
) -> None:
    office.send_plans([line(1)], "202612", later(0))
    office.put(b'"never closed', later(1), kind="UPPLAN", month="202612")
    bad = office.send_plans([line(2)], month, later(2))
    coming = pages(connector)
    assert [plan.client for plan in next(coming).plans] == [client_id(1)]
    with pytest.raises(RejectedError) as caught:
        next(coming)
    assert (caught.value.reason, caught.value.params["file"]) == ("file_unreadable", bad)


@pytest.mark.parametrize(("lines", "times"), [(11, "99"), (1001, "1")])
def test_a_file_with_more_of_a_client_than_a_month_can_have_is_not_taken(
    office: CareOffice, connector: Connector, lines: int, times: str
) -> None:
    office.send_plans([line(1)], "202612", later(0))
    name = office.send_plans([line(1, **{COUNT: times})] * lines, "202612", later(1))
    coming = pages(connector)
    assert [plan.services for plan in next(coming).plans] == [(service(),)]
    with pytest.raises(RejectedError) as caught:
        next(coming)
    assert caught.value.params == {"file": name, "why": "too_long"}


def test_what_takes_back_and_is_wrong_leaves_the_plan_standing(office: CareOffice, connector: Connector) -> None:
    office.send_plans([line(1)], "202612", later(0))
    office.take_back([made_up(1, 1) | {"CSVバージョン": ""}], "202612", later(1))
    coming = pages(connector)
    (plan,) = next(coming).plans
    assert plan.services == (service(),)
    with pytest.raises(RejectedError) as caught:
        next(coming)
    assert (caught.value.reason, caught.value.params["field"]) == ("plan_line_invalid", "CSVバージョン")


def test_a_file_that_is_still_being_written_keeps_back_the_newer_ones_alone(office: CareOffice) -> None:
    office.send_plans([line(1)], "202612", later(0))
    with connected(office, still=60.0) as waiting:
        (page,) = pages(waiting)
    assert (page.plans, page.cursor) == ((), None)


def test_the_sandbox_puts_plans_that_all_can_be_taken(office: CareOffice, connector: Connector) -> None:
    told = CliRunner().invoke(app, ["sandbox", "carecsv", str(office.base), "--clients", "20", "--plans", "202612"])
    assert told.exit_code == 0, told.output
    assert [line.split("_")[0] for line in told.output.split()] == ["UPHOSOKU", "UPPLAN"]
    taken = read(connector)
    assert set(taken) == {client_id(number) for number in range(1, 21)}
    assert all(4 <= len(plan.services or ()) <= 5 and not plan.bad for plan in taken.values())
