"""The sandbox's lists go wrong as they are told to: pages lost, repeated and out of turn, and lists that agree and lack
somebody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sandbox_caller import Caller, calling, link

from partners.fhir.sandbox import FaultKind, FaultRule

PAGES = (["c0", "c1"], ["c2", "c3"], ["c4", "c5"], ["c6", "c7"])


@pytest.fixture
def caller() -> Iterator[Caller]:
    """Eight clients in four pages of two."""
    with calling() as made:
        for number in range(8):
            made.put("Patient", f"c{number}", identifier=[{"system": "urn:s", "value": f"{number:04}"}])
        yield made


def read(caller: Caller, *rules: FaultRule) -> list[dict[str, Any]]:
    """The pages of a reading of all clients that meets the faults."""
    caller.sandbox.set_faults(*rules)
    answer = caller.get("Patient", _sort="_id", _count=2)
    pages = [answer]
    while address := link(answer, "next"):
        assert len(pages) < 10, "it does not end"
        answer = caller.http.get(address)
        pages.append(answer)
    return [page.json() for page in pages]


def ids(pages: list[dict[str, Any]]) -> list[list[str]]:
    return [[entry["resource"]["id"] for entry in page.get("entry", ())] for page in pages]


def totals(pages: list[dict[str, Any]]) -> list[int | None]:
    return [page.get("total") for page in pages]


def test_a_page_can_lose_its_second_half_or_come_the_other_way_round(caller: Caller) -> None:
    pages = read(caller, FaultRule(FaultKind.HALF_PAGE, page=2))
    assert (ids(pages), totals(pages)) == ([PAGES[0], ["c2"], *PAGES[2:]], [8] * 4)
    pages = read(caller, FaultRule(FaultKind.REVERSED_PAGE, page=2))
    assert ids(pages) == [PAGES[0], ["c3", "c2"], *PAGES[2:]]


def test_a_page_can_be_passed_over_shown_twice_or_come_before_the_one_before_it(caller: Caller) -> None:
    pages = read(caller, FaultRule(FaultKind.SKIPPED_PAGE, page=1))
    assert (ids(pages), totals(pages)) == ([PAGES[0], *PAGES[2:]], [8] * 3)
    pages = read(caller, FaultRule(FaultKind.REPEATED_PAGE, page=2, times=1))
    assert ids(pages) == [*PAGES[:2], *PAGES[1:]]
    pages = read(caller, FaultRule(FaultKind.SWAPPED_PAGES, page=1))
    assert ids(pages) == [PAGES[0], PAGES[2], PAGES[1], PAGES[3]]


def test_a_page_swapped_with_one_that_is_not_there_comes_behind_an_empty_one(caller: Caller) -> None:
    pages = read(caller, FaultRule(FaultKind.SWAPPED_PAGES, page=3))
    assert ids(pages) == [*PAGES[:3], [], PAGES[3]]


def test_a_page_that_leads_past_the_last_one_is_followed_by_an_empty_one(caller: Caller) -> None:
    pages = read(caller, FaultRule(FaultKind.SKIPPED_PAGE, page=3))
    assert (ids(pages), totals(pages)) == ([*PAGES[:3], []], [8] * 4)


def test_a_list_can_end_early_with_a_total_that_agrees(caller: Caller) -> None:
    pages = read(caller, FaultRule(FaultKind.SHORT_LIST, page=1))
    assert (ids(pages), totals(pages)) == ([PAGES[0]], [2])
    pages = read(caller, FaultRule(FaultKind.SHORT_LIST, page=2))
    assert (ids(pages), totals(pages)) == ([*PAGES[:2]], [8, 4]), "the total shrinks midway"


def test_a_list_can_be_empty_or_hold_nothing_but_an_error(caller: Caller) -> None:
    (page,) = read(caller, FaultRule(FaultKind.EMPTY_LIST))
    assert (page["type"], page["total"], "entry" in page) == ("searchset", 0, False)
    (page,) = read(caller, FaultRule(FaultKind.OUTCOME_LIST, code="transient"))
    (entry,) = page["entry"]
    assert (entry["resource"]["resourceType"], entry["resource"]["issue"][0]["code"]) == (
        "OperationOutcome",
        "transient",
    )
    assert "total" not in page


def test_rows_that_shift_hide_one_while_the_total_and_the_number_of_ids_agree(caller: Caller) -> None:
    pages = read(caller, FaultRule(FaultKind.SHIFTED_ROWS, page=1))
    shown = [each for page in ids(pages) for each in page]
    assert shown[:-1] == ["c0", "c1", "c3", "c4", "c5", "c6", "c7"], "c2 is there and was not shown"
    assert (len(shown), set(totals(pages))) == (8, {8})
    live = {each["id"]: each["identifier"][0]["value"] for each in caller.sandbox.state("Patient")}
    assert live.keys() == {*(f"c{number}" for number in range(1, 8)), shown[-1]}
    assert len(set(live.values())) == 8


def test_a_fault_of_links_befalls_no_last_page_and_one_of_rows_no_empty_one(caller: Caller) -> None:
    rules = [FaultRule(kind, page=4) for kind in (FaultKind.SHORT_LIST, FaultKind.REPEATED_PAGE)]
    assert ids(read(caller, *rules)) == [*PAGES]
    for each in caller.sandbox.state("Patient"):
        caller.sandbox.delete("Patient", each["id"])
    (page,) = read(caller, FaultRule(FaultKind.SHIFTED_ROWS), FaultRule(FaultKind.HALF_PAGE))
    assert page["total"] == 0
    assert [rule["fired"] for rule in caller.sandbox.faults()] == [0, 0]
