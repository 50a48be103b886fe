"""The way in from SmartHR: its list is read whole whatever it does meanwhile, and each of its errors is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from evidence import is_told
from fhir_bench import Answer, NotingGate, scripted_server
from smarthr_bench import CONFIG, SAVED, connected, crew, crew_id, crews

from partners.contract import Access, Connector, Entity, Gone, Page, Staff, Unmappable
from partners.errors import AuthenticationError, PartnerError, RejectedError, RetryableError
from partners.smarthr import reading
from partners.smarthr.mapping import map_record
from partners.smarthr.sandbox import FaultKind
from partners.smarthr.sandbox.testing import RunningSmartHr, running_smarthr


@pytest.fixture(scope="module")
def server() -> Iterator[RunningSmartHr]:
    with running_smarthr(CONFIG) as running:
        yield running


@pytest.fixture
def smarthr(server: RunningSmartHr) -> Iterator[RunningSmartHr]:
    yield server
    server.set_faults()
    server.put_crews([])


@pytest.fixture
def connector(smarthr: RunningSmartHr) -> Iterator[Connector]:
    with connected(smarthr.url, seconds=0.5) as opened:
        yield opened


def read(connector: Connector, cursor: str | None = None, resume: str | None = None) -> list[Page]:
    return list(connector.read(Entity.STAFF, cursor, resume))


def numbers(pages: list[Page]) -> list[int]:
    """Which crews came, in their order."""
    known = {crew_id(number): number for number in range(1000)}
    return [known[record.partner_id] for page in pages for record in page.records]


def cursor_at(minutes: float) -> str:
    """As after a reading when the newest change was so many minutes before SAVED."""
    return (SAVED - timedelta(minutes=minutes)).isoformat()


def asked_pages(smarthr: RunningSmartHr, after: int) -> list[str]:
    return [row["query"]["page"] for row in smarthr.journal()[after:]]


# --- All of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_linked", [True, False])
@pytest.mark.parametrize(("count", "calls"), [(0, 1), (1, 1), (99, 1), (100, 1), (101, 2), (200, 2), (201, 3)])
def test_a_full_reading_has_each_crew_once_and_asks_for_no_page_too_many(
    smarthr: RunningSmartHr, connector: Connector, count: int, calls: int, is_linked: bool
) -> None:
    smarthr.put_crews(crews(count))
    before = len(smarthr.journal())
    if not is_linked:
        smarthr.fail(FaultKind.UNLINKED)
    pages = read(connector)
    assert numbers(pages) == list(range(count))
    assert [page.is_last for page in pages] == [False] * (calls - 1) + [True]
    assert {(page.is_full, page.total) for page in pages} == {(True, count)}
    assert len(smarthr.journal()) - before == calls
    assert {row["query"]["per_page"] for row in smarthr.journal()[before:]} == {"100"}


def test_what_is_asked_for_and_taken_is_what_masters_are_made_of(smarthr: RunningSmartHr, connector: Connector) -> None:
    smarthr.put_crews([crew(1, tel_number="090-0000-0001", address={"city": "みどり市"}, positions=[], occupation="")])
    ((record,),) = (page.records for page in read(connector))
    assert record.partner_version == (SAVED - timedelta(minutes=1)).isoformat()
    assert not {"tel_number", "address", "id", "updated_at", "positions", "occupation"} & record.content.keys()
    assert "tel_number" not in smarthr.journal()[-1]["query"]["fields"]
    fetched = connector.fetch(Entity.STAFF, crew_id(1))
    assert fetched == record


def test_a_reading_that_broke_off_is_taken_up_where_it_was(smarthr: RunningSmartHr, connector: Connector) -> None:
    smarthr.put_crews(crews(250))
    first, *rest = read(connector)
    before = len(smarthr.journal())
    again = read(connector, None, first.resume)
    assert (numbers(again), again[-1].cursor) == (numbers(rest), cursor_at(0))
    assert asked_pages(smarthr, before) == ["2", "3"]


@pytest.mark.parametrize("token", ["", "x", "[]", '{"page": 2}', '{"page": -1, "newest": null}', "null"])
def test_a_token_that_is_none_of_its_own_begins_at_the_start(
    smarthr: RunningSmartHr, connector: Connector, token: str
) -> None:
    smarthr.put_crews(crews(101))
    assert numbers(read(connector, token, token)) == list(range(101))


def test_a_deleted_crew_shifts_another_out_of_sight_and_the_totals_tell(
    smarthr: RunningSmartHr, connector: Connector
) -> None:
    smarthr.put_crews(crews(101))
    smarthr.fail(FaultKind.MOVED, page=2, crew=crew_id(7))
    pages = read(connector)
    assert 100 not in numbers(pages)
    assert [page.total for page in pages] == [101, 100]  # the certificate refuses this


def test_who_is_listed_without_an_id_is_counted_and_stops_nobody(smarthr: RunningSmartHr, connector: Connector) -> None:
    smarthr.put_crews([crew(1), crew(2, id="../crews"), crew(3)])
    (page,) = read(connector)
    assert (numbers([page]), page.nameless, page.total) == ([1, 3], 1, 3)


# --- The changed ones -------------------------------------------------------------------------------------------------


def test_changed_crews_alone_are_read_newest_first_down_to_the_cursor_and_a_little_beyond(
    smarthr: RunningSmartHr, connector: Connector
) -> None:
    smarthr.put_crews(crews(500))
    before = len(smarthr.journal())
    pages = read(connector, cursor_at(150))
    assert asked_pages(smarthr, before) == ["1", "2"]
    assert numbers(pages) == list(range(200))
    assert {(page.is_full, page.total) for page in pages} == {(False, None)}
    assert pages[-1].cursor == cursor_at(0)
    assert len(read(connector, cursor_at(0))) == 1
    # What was saved as long before the cursor as readings overlap is still read.
    assert [len(read(connector, cursor_at(minutes))) for minutes in (93, 94)] == [1, 2]


def test_who_is_saved_while_changes_are_read_comes_with_the_next_reading(
    smarthr: RunningSmartHr, connector: Connector
) -> None:
    smarthr.put_crews(crews(300))
    saved = (SAVED + timedelta(minutes=1)).isoformat()
    smarthr.fail(FaultKind.MOVED, page=2, times=1, crew=crew_id(150), said={"first_name": "竹", "updated_at": saved})
    pages = read(connector, cursor_at(140))
    assert 150 not in numbers(pages)[100:150]
    assert numbers(pages).count(99) == 2  # pushed down
    cursor = pages[-1].cursor
    assert numbers(read(connector, cursor))[0] == 150


def deleted_while_changes_are_read(smarthr: RunningSmartHr, connector: Connector) -> tuple[list[Page], list[Page]]:
    """The reading in which one who was read is deleted, so that the hundredth slips from the second page to the first,
    and the next one, before which others were saved and have pushed that one back."""
    smarthr.put_crews(crews(300))
    smarthr.fail(FaultKind.MOVED, page=2, times=1, crew=crew_id(7))
    pages = read(connector, cursor_at(140))
    assert 100 not in numbers(pages)
    for number in (200, 201):
        smarthr.put_crew(crew_id(number), updated_at=(SAVED + timedelta(minutes=1)).isoformat())
    return pages, read(connector, pages[-1].cursor)


def test_a_delete_while_changes_are_read_loses_nobody_since_the_cursor_stays(
    smarthr: RunningSmartHr, connector: Connector
) -> None:
    pages, following = deleted_while_changes_are_read(smarthr, connector)
    assert pages[-1].cursor == cursor_at(140)
    assert 100 in numbers(following)
    assert following[-1].cursor == cursor_at(-1)


def test_a_reading_that_believed_its_pages_would_lose_who_slipped_between_them(
    smarthr: RunningSmartHr, connector: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deliberate mutant of the cursor that stays."""
    after = reading.Place.after
    monkeypatch.setattr(reading.Place, "after", lambda place, listed: replace(after(place, listed), is_gapless=True))
    assert 100 not in numbers(deleted_while_changes_are_read(smarthr, connector)[1])


def test_equal_times_at_the_edge_of_a_page_hold_the_cursor_and_those_within_a_page_do_not(
    smarthr: RunningSmartHr, connector: Connector
) -> None:
    def saved_at_once(first: int, last: int) -> None:
        same = SAVED.isoformat()
        smarthr.put_crews([crew(n, **({"updated_at": same} if first <= n <= last else {})) for n in range(300)])

    saved_at_once(0, 99)
    assert read(connector, cursor_at(120))[-1].cursor == cursor_at(0)
    saved_at_once(0, 100)
    smarthr.fail(FaultKind.UNSTEADY)
    pages = read(connector, cursor_at(120))
    assert len(pages) == 2
    assert pages[-1].cursor == cursor_at(120)
    seen = set(numbers(pages))
    for _ in range(40):  # each reading begins there again, so who has slipped through comes
        seen |= set(numbers(read(connector, pages[-1].cursor)))
        if seen >= set(range(120)):
            return
    pytest.fail(f"{set(range(120)) - seen} never came")


def test_where_the_wish_for_an_order_is_passed_over_the_whole_list_is_read(
    smarthr: RunningSmartHr, connector: Connector
) -> None:
    smarthr.put_crews(list(reversed(crews(250))))
    smarthr.fail(FaultKind.UNSORTED)
    assert sorted(numbers(read(connector, cursor_at(3)))) == list(range(250))


def test_a_cursor_is_never_later_than_the_first_page_in_whatever_order_they_come(
    smarthr: RunningSmartHr, connector: Connector
) -> None:
    smarthr.put_crews(crews(200))
    saved = (SAVED + timedelta(hours=1)).isoformat()  # after others, on the first page, may have been
    moved = {"kind": FaultKind.MOVED, "page": 2, "times": 1, "crew": crew_id(150), "said": {"updated_at": saved}}
    smarthr.set_faults({"kind": FaultKind.UNSORTED}, moved)
    pages = read(connector)
    assert 150 in numbers(pages)
    assert pages[-1].cursor == cursor_at(0)


def test_a_time_in_the_future_hides_no_change_that_comes_before_it(
    smarthr: RunningSmartHr, connector: Connector
) -> None:
    smarthr.put_crews([crew(1, updated_at="2099-01-01T00:00:00Z"), crew(2)])
    cursor = read(connector)[-1].cursor or ""
    assert cursor < "2099"
    smarthr.put_crew(crew_id(2), first_name="竹")  # now
    assert 2 in numbers(read(connector, cursor))


def test_a_crew_without_a_readable_time_is_read_and_keeps_the_reading_going(
    smarthr: RunningSmartHr, connector: Connector
) -> None:
    smarthr.put_crews([crew(n, **({"updated_at": "yesterday"} if n == 50 else {})) for n in range(300)])
    pages = read(connector, cursor_at(3))
    assert sorted(numbers(pages)) == list(range(200))
    assert pages[-1].cursor == cursor_at(3)


# --- One crew ---------------------------------------------------------------------------------------------------------


def test_only_its_own_word_says_that_a_crew_is_gone(smarthr: RunningSmartHr, connector: Connector) -> None:
    smarthr.put_crews([crew(1)])
    assert connector.fetch(Entity.STAFF, crew_id(2)) == Gone()
    for fault, error in (
        ({"kind": FaultKind.STATUS, "status": 404}, RejectedError),  # a proxy's page
        ({"kind": FaultKind.ERROR, "code": 3, "status": 404}, AuthenticationError),
        ({"kind": FaultKind.ERROR, "code": 4, "status": 403}, RejectedError),
        ({"kind": FaultKind.STATUS, "status": 410}, RetryableError),
        ({"kind": FaultKind.LOST}, RetryableError),
    ):
        smarthr.set_faults(fault)
        with pytest.raises(error):
            connector.fetch(Entity.STAFF, crew_id(2))


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        ({"code": 1}, RejectedError, "request_malformed"),
        ({"code": 2}, AuthenticationError, "credential_refused"),
        ({"code": 3}, AuthenticationError, "permission_missing"),
        ({"code": 4}, RejectedError, "address_wrong"),
        ({"code": 5}, RetryableError, "partner_failed"),
        ({"code": 6}, RetryableError, "partner_busy"),
        ({"code": 6, "status": 403}, RetryableError, "partner_busy"),
        ({"code": 7}, RejectedError, "plan_insufficient"),
        ({"code": 8}, RejectedError, "request_malformed"),
        ({"code": 9}, RetryableError, "partner_maintenance"),
        ({"code": 9, "status": 200}, RetryableError, "partner_maintenance"),
        ({"code": 15}, RejectedError, "origin_not_permitted"),
        ({"code": 77, "status": 403}, RetryableError, "unknown"),
        ({"kind": FaultKind.STATUS, "status": 401}, AuthenticationError, "credential_refused"),
        ({"kind": FaultKind.STATUS, "status": 403}, RetryableError, "html_instead_of_data"),
        ({"kind": FaultKind.STATUS, "status": 404}, RejectedError, "address_wrong"),
        ({"kind": FaultKind.STATUS, "status": 302}, RejectedError, "address_wrong"),
        ({"kind": FaultKind.STATUS, "status": 429}, RetryableError, "partner_busy"),
        ({"kind": FaultKind.STATUS, "status": 502}, RetryableError, "partner_failed"),
        ({"kind": FaultKind.STATUS, "status": 503}, RetryableError, "partner_maintenance"),
        ({"kind": FaultKind.STATUS, "status": 200}, RetryableError, "html_instead_of_data"),
        ({"kind": FaultKind.LOST}, RetryableError, "partner_unreachable"),
        ({"kind": FaultKind.DELAY, "seconds": 0.7}, RetryableError, "partner_unreachable"),
    ],
)
def test_what_an_answer_means_is_told_by_its_code(
    smarthr: RunningSmartHr, connector: Connector, fault: dict[str, Any], error: type[PartnerError], reason: str
) -> None:
    smarthr.put_crews(crews(250))
    smarthr.set_faults({"kind": FaultKind.ERROR, "page": 2, **fault})
    coming = connector.read(Entity.STAFF, None)
    assert len(next(coming).records) == 100  # what comes before it has come
    with pytest.raises(error) as raised:
        next(coming)
    assert (type(raised.value), raised.value.reason) == (error, reason)
    is_told(reason, raised.value.params)


@pytest.mark.parametrize("up_for", [900, 5000])
def test_the_limits_are_told_to_the_gate_with_the_time_of_the_window_that_is_full(
    up_for: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = time.monotonic()
    now = lambda: up_for + time.monotonic() - begun  # noqa: E731  # on a machine that came up a quarter of an hour ago, and later
    monkeypatch.setattr("partners.smarthr.sandbox.server.monotonic", now)
    gate = NotingGate()
    with running_smarthr(replace(CONFIG, per_hour=2)) as smarthr, connected(smarthr.url, gate=gate) as connector:
        read(connector)
        assert gate.told == []
        read(connector)
        (last_one,) = gate.told
        assert last_one.rest is not None
        assert (last_one.is_refusal, timedelta(minutes=50) < last_one.rest <= timedelta(hours=1)) == (False, True)
        with pytest.raises(RetryableError) as raised:
            read(connector)
    assert (raised.value.reason, gate.told[-1].is_refusal) == ("partner_busy", True)
    assert raised.value.not_before is not None
    assert gate.admitted == ["crews"] * 3


def test_its_own_word_for_too_many_calls_is_told_to_the_gate_whatever_the_status(smarthr: RunningSmartHr) -> None:
    gate = NotingGate()
    smarthr.fail(FaultKind.ERROR, code=6, status=403)
    with connected(smarthr.url, gate=gate) as connector, pytest.raises(RetryableError):
        read(connector)
    assert [told.is_refusal for told in gate.told] == [True]


def test_a_full_second_or_minute_rests_for_no_longer_than_that() -> None:
    for limits in ({"per_second": 1}, {"per_minute": 1}):
        gate = NotingGate()
        with running_smarthr(replace(CONFIG, **limits)) as strict, connected(strict.url, gate=gate) as connector:  # type: ignore[arg-type]
            read(connector)
            with pytest.raises(RetryableError, match="partner_busy"):
                read(connector)
        rest = gate.told[-1].rest
        assert gate.told[-1].is_refusal
        assert rest is None or rest <= timedelta(minutes=1)


# --- The check --------------------------------------------------------------------------------------------------------


def test_the_check_reads_one_crew_and_tells(smarthr: RunningSmartHr, connector: Connector) -> None:
    report = connector.check()
    assert (report.server, report.access) == ("SmartHR", (Access(Entity.STAFF, True, None),))
    assert smarthr.journal()[-1]["query"]["per_page"] == "1"
    smarthr.fail(FaultKind.ERROR, code=3)
    assert connector.check().access == (Access(Entity.STAFF, False, None),)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"token": "another"}, "credential_refused"),
        ({"url": "http://nobody.invalid"}, "address_wrong"),
        ({"token": " "}, "secret_missing"),
        ({"token": "one\nand another"}, "credential_refused"),
        ({"token": "秘密"}, "credential_refused"),
        ({"url": "https://u:p@kaisha.smarthr.jp"}, "address_wrong"),
        ({"url": "kaisha.smarthr.jp"}, "address_wrong"),
        ({"names": "nickname"}, "settings_missing"),
    ],
)
def test_the_check_says_what_is_set_wrong(smarthr: RunningSmartHr, how: dict[str, str], reason: str) -> None:
    given = {"url": smarthr.url} | how
    with pytest.raises(RejectedError) as raised, connected(**given) as connector:  # type: ignore[arg-type]
        connector.check()
    assert raised.value.reason == reason
    is_told(reason, raised.value.params)


# --- The mapping ------------------------------------------------------------------------------------------------------


def mapped(settings: dict[str, str] | None = None, **said: Any) -> Staff:
    staff = map_record(Entity.STAFF, reading.crew_record(crew(1, **said)).content, settings or {})
    assert isinstance(staff, Staff)
    return staff


def test_a_crew_becomes_the_right_member_of_staff() -> None:
    assert mapped(resigned_at="2027-03-31") == Staff(
        number="00001",
        family_name="森",
        given_name="梅",
        family_kana="モリ",
        given_kana="ウメ",
        qualification="",
        employed_from=date(2020, 4, 1),
        employed_until=date(2027, 3, 31),
        active=True,
    )


@pytest.mark.parametrize(("status", "is_active"), [("employed", True), ("absent", True), ("retired", False)])
def test_who_has_retired_is_inactive_and_who_is_absent_is_not(status: str, is_active: bool) -> None:
    assert mapped(emp_status=status).active is is_active


def test_a_business_name_comes_with_its_own_reading_and_a_setting_chooses() -> None:
    both = {"business_last_name": "林", "business_last_name_yomi": "ハヤシ"}
    business = mapped(**both)
    assert (business.family_name, business.family_kana, business.given_name) == ("林", "ハヤシ", "梅")
    legal = mapped({"names": "legal"}, **both)
    assert (legal.family_name, legal.family_kana) == ("森", "モリ")
    alone = mapped(business_last_name="林")
    assert (alone.family_name, alone.family_kana) == ("林", "")  # モリ is no reading of it


def test_a_qualification_is_the_first_name_set_that_is_a_position_or_a_job() -> None:
    setting = {"qualifications": "看護師, 理学療法士,主任"}
    nurse = {"positions": [{"id": "1", "name": "主任"}], "job_category": {"id": "2", "name": "看護師"}}
    assert mapped(setting, **nurse).qualification == "看護師"
    assert mapped(setting, positions=["主任"]).qualification == "主任"
    assert mapped(setting, occupation="理学療法士").qualification == "理学療法士"
    assert mapped(setting, occupation="事務").qualification == ""
    assert mapped({}, **nurse).qualification == ""


@pytest.mark.parametrize(
    ("said", "reason", "field"),
    [
        ({"last_name": None, "last_name_yomi": ""}, "required_field_missing", "last_name"),
        ({"emp_status": None}, "required_field_missing", "emp_status"),
        ({"emp_status": "resting"}, "unknown_code", "emp_status"),
        ({"emp_code": 12}, "field_invalid", "emp_code"),
        ({"entered_at": "2020/04/01"}, "field_invalid", "entered_at"),
        ({"resigned_at": "2020-02-31"}, "field_invalid", "resigned_at"),
        ({"positions": "主任"}, "field_invalid", "positions"),
        ({"positions": [{"id": "1"}]}, "field_invalid", "positions"),
        ({"job_category": ["看護師"]}, "field_invalid", "job_category"),
    ],
)
def test_a_crew_that_cannot_be_read_names_the_field_and_not_what_stands_in_it(
    said: dict[str, Any], reason: str, field: str
) -> None:
    content = reading.crew_record(crew(1, **said)).content
    found = map_record(Entity.STAFF, content, {"qualifications": "看護師"})
    assert found == Unmappable(reason, {"field": field})
    is_told(reason, found.params)


@pytest.mark.parametrize("date", ["Mon, 01 Jan 99999999999 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 +99999999999999"])
def test_a_date_beyond_all_is_as_good_as_none(date: str) -> None:
    headers = {"content-type": "application/json", "date": date}
    with (
        scripted_server(lambda path: (200, headers, json.dumps([crew(1)]).encode())) as server,
        connected(server.url) as opened,
    ):
        assert [page.cursor for page in read(opened)] == [(SAVED - timedelta(minutes=1)).isoformat()]


def test_an_empty_page_is_the_last_one_whatever_it_says() -> None:
    def answer(path: str) -> Answer:
        assert len(server.seen) < 9, "it goes on for ever"
        links = {"link": '<https://x/api/v1/crews?page=2>; rel="next"'}
        return (
            200,
            {"content-type": "application/json", **links},
            json.dumps([crew(1)] * (len(server.seen) < 3)).encode(),
        )

    with scripted_server(answer) as server, connected(server.url) as opened:
        assert [page.is_last for page in read(opened)] == [False, False, True]
