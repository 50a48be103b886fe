"""A reading has any length: it dies at any point and is taken up, keeps one page in memory, and tells of all its pages
together what no page tells."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any
from uuid import uuid4

import pytest
from conftest import NewTenant, Tenant
from listed_partner import Killed, Listed, connected, mapped, pass_time, record

from partners.contract import AfterReadings, DeleteEvents, Entity, Page
from partners.errors import Deferred, PartnerError, RejectedError, RetryableError
from resources.logins import Login
from zest_pipelines.core import certificate
from zest_pipelines.flows import absence
from zest_pipelines.flows import land as land_module
from zest_pipelines.flows import pages as pages_module
from zest_pipelines.flows.land import land
from zest_pipelines.flows.opening import connection_row
from zest_pipelines.flows.pages import SHAPE
from zest_pipelines.flows.reports import LandReport
from zest_pipelines.flows.versions import Mapper
from zest_pipelines.store import due, landed, landing, sightings, suspicions
from zest_pipelines.store.database import Database

SIX = {f"p{number}": "佐藤" for number in range(1, 7)}  # three pages
MINUTES = timedelta(minutes=1)


def read(tenant: Tenant) -> LandReport:
    return land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)


def versions(tenant: Tenant) -> list[tuple[str, str | None]]:
    """Id and family name of every landed version; None: gone."""
    rows = tenant.sql("SELECT partner_id, content FROM sync.landed_version ORDER BY partner_id, landed_no", Login.LAND)
    return [(row.partner_id, row.content and row.content["family_name"]) for row in rows]


def snapshots(tenant: Tenant) -> list[Any]:
    return list(tenant.sql("SELECT * FROM sync.snapshot ORDER BY started_at", Login.LAND))


def suspects(tenant: Tenant) -> dict[str, int]:
    """How many readings each suspect is missing from."""
    return {row.partner_id: row.absences for row in tenant.sql("SELECT * FROM sync.suspicion", Login.LAND)}


def sightings_left(tenant: Tenant) -> int:
    return int(tenant.sql("SELECT count(*) FROM sync.sighting", Login.LAND)[0][0])


def refuse(error: PartnerError) -> None:
    raise error


def die(*_: object, **__: object) -> None:
    raise Killed


@pytest.fixture
def listed() -> Listed:
    return Listed(dict(SIX))


@pytest.fixture
def tenant(new_tenant: NewTenant, listed: Listed) -> Tenant:
    return connected(new_tenant, listed)


# --- Dying ------------------------------------------------------------------------------------------------------------


def at_page(number: int) -> Callable[[Listed, pytest.MonkeyPatch], None]:
    def place(listed: Listed, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(listed, "befalls", lambda page: die() if page == number else None)

    return place


def within(module: Any, name: str, time: int, *, is_done: bool = False) -> Callable[[Listed, pytest.MonkeyPatch], None]:
    """In the transaction that stores: in the `time`-th call of one of its steps, before it or when it is done."""

    def place(listed: Listed, patch: pytest.MonkeyPatch) -> None:
        step, left = getattr(module, name), [time]

        def counted(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            found = step(*given, **named) if left[0] or is_done else None
            return found if left[0] else die()

        patch.setattr(module, name, counted)

    return place


DEATHS = {
    **{f"before page {number}": at_page(number) for number in (1, 2, 3)},
    **{f"storing page {number}": within(landed, "add", number) for number in (1, 2, 3)},
    **{f"between page {number} and its place": within(landing, "go_on", number) for number in (1, 2, 3)},
    **{f"before page {number} is compared": within(landed, "changed", number) for number in (1, 2, 3)},
    **{f"after the place of page {number}": within(landing, "go_on", number, is_done=True) for number in (1, 2, 3)},
    "before the certificate": within(sightings, "count", 1),
    "before the suspicions": within(suspicions, "raise_unseen", 1),
    "before the cursor": within(landing, "end", 1),
    "after the cursor": within(sightings, "forget", 1),
    "before a suspect is asked for": at_page(0),
    "before a suspect's answer is taken": within(suspicions, "lift", 1),
}


def test_a_reading_that_dies_anywhere_ends_as_one_that_does_not(new_tenant: NewTenant) -> None:
    """Each has six records, then one is changed, one deleted and one new: read twice, the second time with a death."""

    def outcome(name: str, death: Callable[[Listed, pytest.MonkeyPatch], None] | None) -> tuple[Any, ...]:
        listed = Listed(dict(SIX))
        tenant = connected(new_tenant, listed, f"t{name}")
        assert read(tenant).is_certified
        listed.rows = {"p0": "高橋", **SIX, "p5": "鈴木"}
        del listed.rows["p2"]
        if death is not None:
            with pytest.MonkeyPatch.context() as patch:
                death(listed, patch)
                with pytest.raises(Killed):
                    read(tenant)
            assert read(tenant).reason == ("reading_under_way" if snapshots(tenant)[-1].state == "reading" else None)
            pass_time(tenant, 6 * MINUTES)
        report = read(tenant)
        last = snapshots(tenant)[-1]
        left = tenant.sql("SELECT count(*) FROM sync.sighting", Login.LAND)[0][0]
        counts = (report.state, report.is_full, report.records, report.pages)
        return (*counts, last.cursor, versions(tenant), suspects(tenant), left)

    clean = outcome("-clean", None)
    assert clean[5] == [
        ("p0", "高橋"),
        ("p1", "佐藤"),
        ("p2", "佐藤"),
        ("p2", None),
        *((each, "佐藤") for each in ("p3", "p4")),
        *(("p5", name) for name in ("佐藤", "鈴木")),
        ("p6", "佐藤"),
    ]
    for number, (case, death) in enumerate(DEATHS.items()):
        assert outcome(str(number), death) == clean, case


def test_a_reading_is_taken_up_after_the_last_page_that_was_stored(tenant: Tenant, listed: Listed) -> None:
    listed.befalls = lambda page: die() if page == 3 else None
    with pytest.raises(Killed):
        read(tenant)
    assert len(versions(tenant)) == 4
    listed.befalls = lambda page: None
    pass_time(tenant, 6 * MINUTES)
    report = read(tenant)
    assert listed.asked == [(None, None), (None, "2")]
    assert (report.state, report.pages, report.records, report.new_versions) == ("certified", 3, 6, 6)
    (snapshot,) = snapshots(tenant)
    assert (snapshot.attempt, snapshot.resume, snapshot.progress) == (2, None, None)


@pytest.mark.parametrize("change", ["mapping", "connection", "token", "age"])
def test_a_reading_is_not_taken_up_where_it_could_not_go_on_as_it_began(
    tenant: Tenant, listed: Listed, change: str
) -> None:
    listed.can_resume = change != "token"
    listed.befalls = lambda page: die() if page == 3 else None
    with pytest.raises(Killed):
        read(tenant)
    listed.befalls = lambda page: None
    pass_time(tenant, timedelta(minutes=61 if change == "age" else 6))
    if change == "mapping":
        tenant = replace(tenant, partner=replace(tenant.partner, mapping_version="another"))
    if change == "connection":
        tenant.sql("UPDATE sync.connection SET changed_at = clock_timestamp()", Login.OPERATOR)
    report = read(tenant)
    assert listed.asked == [(None, None), (None, None)]
    assert (report.state, report.pages, report.records) == ("certified", 3, 6)
    assert [(row.state, row.reason) for row in snapshots(tenant)] == [
        ("failed", "reading_broken_off"),
        ("certified", None),
    ]
    assert tenant.sql("SELECT count(*) FROM sync.sighting", Login.LAND)[0][0] == 0


@pytest.mark.parametrize("is_death", [True, False])
def test_a_reading_of_changes_without_a_token_is_begun_anew_from_the_same_cursor(
    tenant: Tenant, listed: Listed, is_death: bool
) -> None:
    read(tenant)
    listed.can_resume = False
    listed.rows["p1"] = listed.rows["p6"] = "鈴木"
    listed.befalls = lambda page: (
        (die() if is_death else refuse(RetryableError("partner_failed"))) if page == 2 else None
    )
    with suppress(Killed):
        assert read(tenant).state == "failed"
    listed.befalls = lambda page: None
    pass_time(tenant, 6 * MINUTES)
    report = read(tenant)
    assert listed.asked[1:] == [("now", None), ("now", None)]
    assert (report.state, report.pages, report.new_versions) == ("certified", 3, 1)
    assert {("p1", "鈴木"), ("p6", "鈴木")} <= set(versions(tenant))


def test_who_was_taken_for_dead_stores_no_page_more(tenant: Tenant, listed: Listed) -> None:
    """It wakes up with a page in its hand that the other one has passed by."""
    taken_up: list[LandReport] = []

    def sleep_over_it(page: int) -> None:
        listed.befalls = lambda page: None
        pass_time(tenant, 6 * MINUTES)
        listed.rows["p9"] = "田中"
        taken_up.append(read(tenant))
        del listed.rows["p9"]

    listed.befalls = lambda page: sleep_over_it(page) if page == 3 else None
    slow = read(tenant)
    assert (slow.state, slow.reason) == ("failed", "reading_under_way")
    assert [each.state for each in taken_up] == ["incomplete"]  # it grew meanwhile: the totals differ
    assert [row.state for row in snapshots(tenant)] == ["incomplete"]
    assert {partner_id for partner_id, _ in versions(tenant)} == {*SIX, "p9"}


def test_who_was_taken_for_dead_stores_no_page_while_the_other_one_reads(tenant: Tenant, listed: Listed) -> None:
    row = connection_row(tenant.services, tenant.partner, tenant.name, Login.LAND)
    mapping = Mapper(tenant.partner, Entity.CLIENT, row.connection.settings).version

    def sleep_over_it(page: int) -> None:
        pass_time(tenant, 6 * MINUTES)
        other = landing.Reading(uuid4(), tenant.name, tenant.partner.name, Entity.CLIENT)
        with tenant.services.database.transaction(Login.LAND, tenant.name) as tx:
            begun = landing.begin(tx, other, mapping=mapping, full_before=datetime.now(UTC), shape=SHAPE)
        assert begun is not None
        assert (begun.reading.attempt, begun.resume) == (2, "1")

    listed.befalls = lambda page: sleep_over_it(page) if page == 2 else None
    slow = read(tenant)
    assert (slow.state, slow.reason) == ("failed", "reading_under_way")
    assert (len(versions(tenant)), snapshots(tenant)[0].state) == (2, "reading")


def test_what_was_odd_before_a_reading_died_is_told_by_who_takes_it_up(tenant: Tenant, listed: Listed) -> None:
    tenant = replace(
        tenant, partner=replace(tenant.partner, unknown_fields=lambda entity, content: ["Person.nickname"])
    )
    listed.befalls = lambda page: die() if page == 3 else None
    with pytest.raises(Killed):
        read(tenant)
    listed.befalls = lambda page: None
    pass_time(tenant, 6 * MINUTES)
    report = read(tenant)
    assert report.unknown_fields == {"Person.nickname": 6}
    assert len({problem.record for problem in report.problems}) == 6


def test_a_field_is_told_though_the_process_dies_between_the_last_page_and_the_report(
    tenant: Tenant, listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = replace(
        tenant, partner=replace(tenant.partner, unknown_fields=lambda entity, content: ["Person.nickname"])
    )
    with monkeypatch.context() as patched:
        patched.setattr(land_module, "told_once", die)
        with pytest.raises(Killed):
            read(tenant)
    assert [row.state for row in snapshots(tenant)] == ["certified"]
    assert (read(tenant).unknown_fields, read(tenant).unknown_fields) == ({"Person.nickname": 6}, {})


@pytest.mark.parametrize("page", [2, 3])
def test_who_takes_over_while_a_page_is_being_stored_waits_and_goes_on_after_it(
    tenant: Tenant, listed: Listed, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    real, is_stored, may_end = landing.go_on, threading.Event(), threading.Event()

    def slow(tx: Any, reading: Any, **named: Any) -> bool:
        went = real(tx, reading, **named)
        if named["pages"] == page and not is_stored.is_set():
            is_stored.set()
            may_end.wait(10)
        return went

    monkeypatch.setattr(landing, "go_on", slow)
    listed.befalls = lambda number: pass_time(tenant, 6 * MINUTES) if number == page else None
    database = Database(tenant.services.database._logins)
    beside = replace(tenant, services=replace(tenant.services, database=database))
    try:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(read, beside)
            assert is_stored.wait(20)
            listed.befalls = lambda number: None
            second = pool.submit(read, tenant)
            with pytest.raises(TimeoutError):
                second.result(0.3)
            may_end.set()
            states = first.result(20).state, second.result(20).state
    finally:
        database.close()
    # The first one is alive after all, once its page is stored: the second leaves it alone, or begins after its end,
    # which with a page left may come before the second has looked again.
    assert states in (
        [("certified", "certified")] if page == 3 else [("certified", "failed"), ("certified", "certified")]
    )
    assert (len(versions(tenant)), sightings_left(tenant)) == (6, 0)


def test_calls_before_the_first_page_show_that_a_reading_lives(
    tenant: Tenant, listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "_STILL_SECONDS", 0.0)
    beside: list[LandReport] = []

    def join(page: int) -> None:
        """What is joined to the first page takes its time, in several calls."""
        if page == 1 and not beside:
            pass_time(tenant, 6 * MINUTES)
            listed.gates[-1].admit("clients")
            beside.append(read(tenant))

    listed.befalls = join
    assert read(tenant).is_certified
    assert [each.reason for each in beside] == ["reading_under_way"]


def test_what_a_process_of_another_version_kept_is_not_taken_up(
    tenant: Tenant, listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed.befalls = lambda page: die() if page == 3 else None
    monkeypatch.setattr(pages_module, "SHAPE", "pages ids")
    with pytest.raises(Killed):
        read(tenant)
    monkeypatch.undo()
    listed.befalls = lambda page: None
    pass_time(tenant, 6 * MINUTES)
    assert read(tenant).is_certified
    assert listed.asked == [(None, None), (None, None)]


def test_an_id_told_gone_twice_lands_once(tenant: Tenant, listed: Listed) -> None:
    read(tenant)
    del listed.rows["p6"]
    listed.pages = lambda number, page: [replace(page, gone=("p6", "p6"))]
    assert read(tenant).gone == 1
    assert [name for partner_id, name in versions(tenant) if partner_id == "p6"] == ["佐藤", None]


def test_what_is_listed_without_an_id_leaves_the_reading_incomplete_and_the_rest_lands(
    tenant: Tenant, listed: Listed
) -> None:
    read(tenant)
    del listed.rows["p1"]
    listed.rows["p7"] = "田中"
    listed.pages = lambda number, page: [replace(page, nameless=1 if number == 2 else 0)]
    report = read(tenant)
    assert (report.state, report.params) == ("incomplete", {"why": "record_without_id"})
    assert (suspects(tenant), versions(tenant)[-1]) == ({}, ("p7", "田中"))


def test_a_reading_that_is_not_complete_is_made_anew_after_minutes_once_and_then_as_often_as_any(
    tenant: Tenant, listed: Listed
) -> None:
    read(tenant)
    listed.pages = lambda number, page: [replace(page, nameless=1)]
    for is_early in (True, False):
        assert read(tenant).state == "incomplete"
        for passed, is_due in ((0, False), (6, is_early), (61, True)):
            rewind = "UPDATE sync.snapshot SET finished_at = clock_timestamp() - make_interval(mins => :passed)"
            tenant.sql(
                f"{rewind} WHERE started_at = (SELECT max(started_at) FROM sync.snapshot)", Login.LAND, passed=passed
            )
            with tenant.services.database.transaction(Login.SCHEDULE, None) as tx:
                assert bool(due.inbound(tx, tenant.partner.name, [Entity.CLIENT])) == is_due, passed


def test_proofs_end_when_their_time_is_over_and_go_on_with_the_next_reading(
    tenant: Tenant, listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(tenant)
    del listed.rows["p5"], listed.rows["p6"]
    listed.befalls = lambda page: time.sleep(0.2) if page == 0 else None
    monkeypatch.setattr(absence, "MOST_SECONDS", 0.1)
    assert [read(tenant).gone for _ in range(3)] == [1, 1, 0]


# --- Without end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_total", [True, False])
def test_a_list_without_end_is_stopped_and_never_certified_and_the_next_reading_begins_anew(
    tenant: Tenant, listed: Listed, monkeypatch: pytest.MonkeyPatch, has_total: bool
) -> None:
    monkeypatch.setattr(certificate, "MOST_PAGES", 30)
    monkeypatch.setattr(certificate, "_SPARE", 30)

    endless = {"is_last": False, "cursor": None, "resume": "0"} | ({} if has_total else {"total": None})
    listed.pages = lambda number, page: repeat(replace(page, **endless))
    report = read(tenant)
    assert (report.state, report.reason) == ("incomplete", "partner_list_incomplete")
    assert ("endless" in report.params["why"].split(", "), report.records) == (True, 2)
    assert report.pages == (25 if has_total else 30)
    assert (suspects(tenant), sightings_left(tenant)) == ({}, 0)
    listed.pages = lambda number, page: [page]
    assert read(tenant).is_certified
    assert listed.asked == [(None, None), (None, None)]


# --- Breaking off -----------------------------------------------------------------------------------------------------

BREAKS: list[PartnerError] = [
    RetryableError("partner_failed"),
    RetryableError("partner_unreachable"),
    RetryableError("partner_busy"),
    Deferred(datetime.now(UTC)),
]


@pytest.mark.parametrize("error", BREAKS, ids=lambda error: str(error.reason))
def test_a_reading_that_the_partner_breaks_off_is_taken_up_after_the_last_page_that_was_stored(
    tenant: Tenant, listed: Listed, error: PartnerError
) -> None:
    listed.befalls = lambda page: refuse(error) if page in (2, 3) else None
    report = read(tenant)
    assert (report.state, report.reason, report.pages, report.records) == ("failed", error.reason, 1, 2)
    report = read(tenant)  # and it is not better at once
    assert (report.state, report.reason, report.pages, report.records) == ("failed", error.reason, 1, 2)
    listed.befalls = lambda page: None
    report = read(tenant)
    assert listed.asked == [(None, None), (None, "1"), (None, "1")]
    assert (report.state, report.pages, report.records, report.new_versions) == ("certified", 3, 6, 6)
    (snapshot,) = snapshots(tenant)
    assert (snapshot.attempt, snapshot.reason, snapshot.resume, snapshot.progress) == (3, None, None, None)
    assert sightings_left(tenant) == 0
    read(tenant)
    assert listed.asked[-1] == ("now", None)


@pytest.mark.parametrize("change", ["mapping", "connection", "token", "age", "refusal", "list"])
def test_a_reading_that_broke_off_is_begun_anew_where_it_could_not_go_on_as_it_began(
    tenant: Tenant, listed: Listed, change: str
) -> None:
    errors = {"refusal": RejectedError("address_wrong"), "list": RetryableError("partner_list_incomplete")}
    error = errors.get(change, RetryableError("partner_failed"))
    listed.can_resume = change != "token"
    listed.befalls = lambda page: refuse(error) if page == 3 else None
    state = "incomplete" if change == "list" else "failed"
    assert (read(tenant).state, len(versions(tenant))) == (state, 4)
    listed.befalls = lambda page: None
    if change == "age":
        age = "UPDATE sync.snapshot SET started_at = started_at - interval '61 minutes'"
        tenant.sql(age, Login.LAND)
        tenant.sql("UPDATE sync.connection SET changed_at = changed_at - interval '2 hours'", Login.OPERATOR)
    if change == "mapping":
        tenant = replace(tenant, partner=replace(tenant.partner, mapping_version="another"))
    if change == "connection":
        tenant.sql("UPDATE sync.connection SET changed_at = clock_timestamp()", Login.OPERATOR)
    report = read(tenant)
    assert listed.asked == [(None, None), (None, None)]
    assert (report.state, report.pages, report.records) == ("certified", 3, 6)
    assert [(row.state, row.reason, row.resume) for row in snapshots(tenant)] == [
        (state, error.reason, None),
        ("certified", None, None),
    ]
    assert sightings_left(tenant) == 0


def test_what_changed_while_a_reading_was_broken_off_is_not_lost(tenant: Tenant, listed: Listed) -> None:
    """One of a page already read, and one that makes the total another: the second spoils the certificate."""
    read(tenant)
    listed.befalls = lambda page: refuse(RetryableError("partner_failed")) if page == 3 else None
    assert read(tenant).state == "failed"
    listed.befalls = lambda page: None
    listed.rows = {"p0": "高橋", **SIX, "p1": "鈴木"}
    report = read(tenant)
    assert (report.state, report.params, suspects(tenant)) == ("incomplete", {"why": "total_moved"}, {})
    report = read(tenant)
    assert (report.state, report.records) == ("certified", 7)
    assert {("p0", "高橋"), ("p1", "鈴木")} <= set(versions(tenant))


# --- What all pages tell together -------------------------------------------------------------------------------------


def shows_besides(number: int, *rows: tuple[str, str]) -> Callable[[int, Page], list[Page]]:
    """Page `number` has these records besides its own."""

    def pages(at: int, page: Page) -> list[Page]:
        more = tuple(record(*row) for row in rows) if at == number else ()
        return [replace(page, records=(*page.records, *more))]

    return pages


@pytest.mark.parametrize("is_known", [False, True], ids=["first reading", "all known"])
@pytest.mark.parametrize("page", [1, 3], ids=["on one page", "on another page"])
def test_an_id_that_comes_twice_with_other_content_spoils_the_certificate_and_the_newer_one_lands(
    tenant: Tenant, listed: Listed, is_known: bool, page: int
) -> None:
    if is_known:
        read(tenant)
    listed.pages = shows_besides(page, ("p1", "鈴木"))
    report = read(tenant)
    assert (report.state, report.params, report.records) == ("incomplete", {"why": "id_twice"}, 6)
    assert versions(tenant)[:2][-1 if is_known or page == 3 else 0] == ("p1", "鈴木")
    assert suspects(tenant) == {}


def test_an_id_that_changes_there_and_back_within_a_reading_is_seen(tenant: Tenant, listed: Listed) -> None:
    read(tenant)
    back = shows_besides(3, ("p1", "佐藤"))
    listed.pages = lambda number, page: (
        shows_besides(2, ("p1", "鈴木"))(number, page) if number == 2 else back(number, page)
    )
    report = read(tenant)
    assert (report.params, report.records, report.new_versions) == ({"why": "id_twice"}, 6, 2)


def test_records_that_come_again_unchanged_count_once(tenant: Tenant, listed: Listed) -> None:
    listed.pages = lambda number, page: [replace(page, is_last=False), page]
    for new_versions in (6, 0):
        report = read(tenant)
        assert (report.state, report.pages, report.records, report.new_versions) == ("certified", 6, 6, new_versions)


def test_a_page_after_the_last_one_is_stored_and_spoils_the_certificate(tenant: Tenant, listed: Listed) -> None:
    listed.pages = lambda number, page: [page, Page((record("p7", "田中"),), True, 6)] if page.is_last else [page]
    report = read(tenant)
    assert (report.state, report.params) == ("incomplete", {"why": "page_after_last, count_differs"})
    assert ("p7", "田中") in versions(tenant)


def test_an_incomplete_reading_lands_what_came_and_suspects_nobody(tenant: Tenant, listed: Listed) -> None:
    read(tenant)
    listed.rows = {"p0": "高橋", **SIX, "p6": "鈴木"}
    listed.pages = lambda number, page: [replace(page, records=page.records[:1])]
    report = read(tenant)
    assert (report.state, report.reason, report.new_versions, report.gone) == (
        "incomplete",
        "partner_list_incomplete",
        2,
        0,
    )
    assert (suspects(tenant), listed.fetched) == ({}, [])


# --- Suspicion --------------------------------------------------------------------------------------------------------


def hide(listed: Listed, *hidden: str) -> None:
    """A pager that passes over some: the total and all ids agree."""
    kept = dict(listed.rows)
    listed.rows = {partner_id: name for partner_id, name in kept.items() if partner_id not in hidden}


def test_one_who_was_hidden_is_asked_for_and_stays(tenant: Tenant, listed: Listed) -> None:
    read(tenant)
    listed.pages = lambda number, page: [replace(page, total=5, records=page.records[number == 1 :])]
    report = read(tenant)
    assert (report.state, report.gone, report.suspects, listed.fetched) == ("certified", 0, 0, ["p1"])
    assert (versions(tenant), suspects(tenant)) == ([(each, "佐藤") for each in SIX], {})


def test_a_suspect_is_asked_for_until_the_partner_answers_and_others_go_before_it(
    tenant: Tenant, listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(tenant)
    hide(listed, "p1", "p2", "p3")
    listed.failing = {"p1"}
    assert read(tenant).suspects == 3
    assert listed.fetched == ["p1"]
    monkeypatch.setattr(absence, "MOST_POINT_READS", 1)
    assert (read(tenant).gone, read(tenant).gone) == (1, 1)
    assert listed.fetched == ["p1", "p2", "p3"]
    listed.failing = set()
    report = read(tenant)
    assert (report.gone, report.suspects) == (1, 0)
    assert [each for each in versions(tenant) if each[1] is None] == [("p1", None), ("p2", None), ("p3", None)]


def test_a_suspect_whom_the_limits_put_off_was_not_asked_for(tenant: Tenant, listed: Listed) -> None:
    read(tenant)
    hide(listed, "p1")

    def befalls(page: int) -> None:
        if page == 0:
            raise Deferred(datetime.now(UTC) + timedelta(minutes=1))

    listed.befalls = befalls
    report = read(tenant)
    assert (report.is_certified, report.suspects) == (True, 1)
    assert tenant.sql("SELECT asked_at FROM sync.suspicion", Login.LAND)[0].asked_at is None


def test_a_suspect_that_is_seen_again_is_lifted_before_its_proof_comes(tenant: Tenant, listed: Listed) -> None:
    """The partner says that it is not there; before that is stored, another reading shows it."""
    read(tenant)
    hide(listed, "p1")

    def comes_back(page: int) -> None:
        if page == 0:
            listed.befalls = lambda page: None
            listed.rows["p1"] = "佐藤"
            assert read(tenant).is_certified
            del listed.rows["p1"]

    listed.befalls = comes_back
    assert read(tenant).gone == 0
    assert versions(tenant) == [(each, "佐藤") for each in SIX]


def test_where_nobody_can_be_asked_for_many_readings_one_after_the_other_prove_an_absence(
    new_tenant: NewTenant, listed: Listed
) -> None:
    tenant = connected(new_tenant, listed, proves_absence=AfterReadings(3))
    read(tenant)
    hide(listed, "p1", "p2")
    assert [read(tenant).gone for _ in range(2)] == [0, 0]
    assert suspects(tenant) == {"p1": 2, "p2": 2}
    listed.rows["p2"] = "佐藤"  # it was hidden: from here it counts anew
    listed.pages = lambda number, page: [replace(page, total=99)]
    assert (read(tenant).state, suspects(tenant)) == ("incomplete", {"p1": 2})
    hide(listed, "p2")
    listed.pages = lambda number, page: [page]
    report = read(tenant)
    assert (report.gone, report.suspects, listed.fetched) == (1, 1, [])
    assert [each for each in versions(tenant) if each[1] is None] == [("p1", None)]
    assert (read(tenant).gone, suspects(tenant)) == (0, {"p2": 2})


def test_where_deletes_are_told_only_what_was_told_is_gone(new_tenant: NewTenant, listed: Listed) -> None:
    tenant = connected(new_tenant, listed, proves_absence=DeleteEvents())
    read(tenant)
    hide(listed, "p1", "p2")
    assert [read(tenant).gone for _ in range(3)] == [0, 0, 0]
    listed.pages = lambda number, page: [replace(page, gone=("p2", "p3", "unknown")) if number == 1 else page]
    report = read(tenant)
    assert (report.gone, report.suspects, listed.fetched) == (1, 1, [])  # p3 is on the very page that tells it gone
    assert [each for each in versions(tenant) if each[1] is None] == [("p2", None)]


def test_absence_from_one_reading_cannot_be_declared_a_proof() -> None:
    with pytest.raises(ValueError, match="one reading"):
        AfterReadings(1)


# --- Memory -----------------------------------------------------------------------------------------------------------

_FIELDS = {f"field{number}": "あ" * 20 for number in range(12)}


class _Long:
    """A list of any length that nobody holds: each page is made when it is asked for."""

    def __init__(self, length: int, size: int = 200) -> None:
        self._length, self._size = length, size

    def read(self, entity: Entity, cursor: str | None) -> Any:
        for start in range(0, self._length, self._size):
            rows = range(start, start + self._size)
            records = tuple(
                replace(each, content=each.content | _FIELDS) for each in (record(f"p{row:07}", "佐藤") for row in rows)
            )
            yield Page(records, True, self._length, is_last=start + self._size >= self._length, resume=str(start))

    def close(self) -> None:
        pass


def peak_of(tenant: Tenant, length: int) -> int:
    """Most memory in bytes that a reading of so many records holds."""
    long = replace(tenant, partner=replace(tenant.partner, open=lambda *_: _Long(length), map=mapped))
    tracemalloc.start()
    try:
        assert (report := read(long)).is_certified, report
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_reading_holds_one_page_whatever_its_length(tenant: Tenant) -> None:
    peak_of(tenant, 200)  # what is loaded once
    short, first, again = peak_of(tenant, 400), peak_of(tenant, 4_000), peak_of(tenant, 4_000)
    assert max(first, again) < 2 * short
