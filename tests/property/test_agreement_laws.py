"""Laws of the comparison of a plan with what is confirmed, for whatever stands on either side."""

from __future__ import annotations

from collections import Counter
from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from swaps import swapped

from zest_pipelines.core import agreement
from zest_pipelines.core.agreement import Confirmed, Planned, compare, differing, takes_its_place

days = st.sampled_from([date(2026, 12, 1), date(2026, 12, 2)])
times = st.sampled_from(["09:00", "09:30", "10:00"])
codes = st.sampled_from(["131111", "131211"])
spans = st.one_of(st.tuples(st.one_of(times, st.just("")), times), st.just(("", "")))
lines = st.lists(
    st.builds(lambda day, span, code, line: Planned(day, *span, code, line), days, spans, codes, st.integers(1, 9)),
    max_size=8,
)
visits = st.lists(
    st.builds(Confirmed, days, times, times, codes, st.integers(1, 2**64).map(lambda number: UUID(int=number))),
    max_size=8,
    unique_by=lambda each: each.visit,
)
instants = st.integers(0, 5).map(str)


def as_planned(visit: Confirmed, line: int) -> Planned:
    return Planned(visit.day, visit.starts, visit.ends, visit.service_code, line)


def check_that_all_is_accounted_for(planned: list[Planned], confirmed: list[Confirmed]) -> None:
    found = compare(planned, confirmed)
    assert Counter([*(pair.planned for pair in found.pairs), *found.missing_here, *found.no_visits]) == Counter(planned)
    assert all(not (line.starts or line.ends) for line in found.no_visits)
    assert all(line.starts or line.ends for line in found.missing_here)
    assert Counter([*(pair.confirmed for pair in found.pairs), *found.missing_there]) == Counter(confirmed)
    for pair in found.pairs:
        assert pair.planned.day == pair.confirmed.day
        assert pair.differing == differing(pair.planned, pair.confirmed)


@given(lines, visits)
def test_each_line_and_each_visit_is_told_of_once(planned: list[Planned], confirmed: list[Confirmed]) -> None:
    check_that_all_is_accounted_for(planned, confirmed)


@given(lines, visits)
def test_what_is_left_on_both_sides_of_a_day_has_neither_service_nor_start_in_common(
    planned: list[Planned], confirmed: list[Confirmed]
) -> None:
    found = compare(planned, confirmed)
    for line in (*found.missing_here, *found.no_visits):
        for visit in found.missing_there:
            if line.day == visit.day:
                assert line.service_code != visit.service_code
                assert line.starts != visit.starts


@given(visits, lines)
def test_a_plan_of_all_that_is_confirmed_agrees_and_one_line_more_is_all_that_is_missing(
    confirmed: list[Confirmed], more: list[Planned]
) -> None:
    plan = [as_planned(visit, number) for number, visit in enumerate(confirmed, start=1)]
    found = compare(plan, confirmed)
    assert (found.missing_here, found.missing_there) == ((), ())
    assert not any(pair.differing for pair in found.pairs)
    found = compare([*plan, *more], confirmed)
    assert len([*found.missing_here, *found.no_visits]) == len(more)


@given(lines, visits, st.randoms())
def test_the_order_in_which_they_come_is_nothing(
    planned: list[Planned], confirmed: list[Confirmed], chance: object
) -> None:
    found = compare(planned, confirmed)
    for each in (planned, confirmed):
        chance.shuffle(each)  # type: ignore[attr-defined]  # a random.Random
    assert compare(planned, confirmed) == found


@given(st.lists(st.tuples(instants, st.sampled_from("ab")), min_size=1))
def test_in_whatever_order_files_are_read_the_latest_stands(said: list[tuple[str, str]]) -> None:
    standing = ("", "")
    for at, what in said:
        if takes_its_place(at, standing[0], is_same=what == standing[1]):
            standing = (at, what)
    latest = max(at for at, _ in said)
    assert standing == (latest, [what for at, what in said if at == latest][-1])


def test_a_visit_that_stands_for_two_lines_is_noticed() -> None:
    visit = Confirmed(date(2026, 12, 1), "09:00", "10:00", "131111", UUID(int=1))
    plan = [as_planned(visit, 1), as_planned(visit, 2)]
    check_that_all_is_accounted_for(plan, [visit])

    def kept(real: object) -> object:
        return lambda line, left, pairs, wanted: real(line, list(left), pairs, wanted)  # type: ignore[operator]

    with swapped([(agreement, "_paired", kept)]), pytest.raises(AssertionError):
        check_that_all_is_accounted_for(plan, [visit])
