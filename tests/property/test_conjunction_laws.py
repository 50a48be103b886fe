"""Several limits at once: no window of any of them is exceeded, and no call waits that all of them would let go.

Who is the best sender of all is certain for calls that are alike, of one tenant or under what all share; so where there
are several tenants and limits of both kinds, what all share is too wide to matter. What is sent there is for people:
background work leaves a fifth of what is spent in bursts, as it should.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import time
from typing import Any

import pytest
from conjunctions import Call, Sent, Simulation, Work, arrivals_of, best_slots, broken
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from swaps import swapped

from partners.limits import Concurrency, Limit, LimitScope, Rate, parse_limit
from zest_pipelines.core import budget, meters
from zest_pipelines.core.turns import Priority

IS_SOAK = os.environ.get("ZEST_SOAK") == "1"
EXAMPLES = 20_000 if IS_SOAK else 600
XERO = tuple(
    parse_limit(text) for text in ("tenant:concurrent=5", "tenant:60/60s", "tenant:5000/1d", "vendor:10000/60s")
)
VENDOR, TENANT = LimitScope.VENDOR, LimitScope.TENANT
LATEST = 0.999_999
FLOAT = 1e-3
"""Seconds that rounding may make of a thousand calls."""
ABSENCE = 0.5
"""Seconds for which one who shares is waited for."""
Schedule = tuple[tuple[Limit, ...], tuple[Work, ...]]


# --- Schedules --------------------------------------------------------------------------------------------------------


def rates(scopes: Sequence[LimitScope]) -> st.SearchStrategy[Rate]:
    """Of every kind that there is of these scopes: paced, counted, fixed and leaky."""
    scope, headroom = st.sampled_from(scopes), st.sampled_from([0, 0, 20])
    sliding = st.builds(
        Rate, scope, st.integers(1, 12), st.sampled_from([1, 2, 10, 60, 600, 3600, 86_400]), headroom=headroom
    )
    daily = st.builds(
        Rate, st.just(TENANT), st.integers(1, 20), st.just(86_400), reset=st.sampled_from([time(9), time(17, 30)])
    )
    # A bucket that holds less than two seconds' calls has margins of its own.
    leaky = st.builds(
        lambda scope, calls, seconds, more: Rate(scope, calls, seconds, burst=2 * calls + more),
        *(scope, st.integers(1, 6), st.sampled_from([1, 2, 10]), st.integers(1, 20)),
    )
    return sliding | leaky | (daily if TENANT in scopes else st.nothing())


def conjunctions(scopes: Sequence[LimitScope], seated: Sequence[LimitScope]) -> st.SearchStrategy[tuple[Limit, ...]]:
    """Two to four limits."""
    seats = st.builds(Concurrency, st.sampled_from(seated), st.integers(1, 5)) if seated else st.nothing()
    found = st.lists(rates(scopes) | seats, min_size=2, max_size=4, unique_by=lambda limit: limit.measured)
    return found.map(tuple)


afters = st.sampled_from([0.0, 0.1, 1.0, 3.0, 30.0, 61.0, 599.0, 20_000.0, 43_000.0]) | st.floats(0, 100)
priorities = st.sampled_from(list(Priority))


@st.composite
def works(draw: st.DrawFn, *, is_prompt: bool) -> Work:
    """A tenant's. Prompt: its calls leave on time, are answered and are for a person."""
    at, arrivals = 0.0, []
    for after, calls in draw(st.lists(st.tuples(afters, st.integers(1, 12)), min_size=1, max_size=2)):
        at += after
        arrivals.append((at, calls))
    late = st.just(0.0) if is_prompt else st.sampled_from([0.0, 0.5, LATEST])
    lost = st.just(False) if is_prompt else st.sampled_from([False, False, False, True])
    fate = st.builds(Call, late, st.sampled_from([0.0, 0.05, 0.7, 5.6, 30.0]), lost)
    calls = draw(st.lists(fate, min_size=1, max_size=3))
    return Work(tuple(arrivals), tuple(calls), Priority.PEOPLE if is_prompt else draw(priorities))


def several(most: int, *, is_prompt: bool) -> st.SearchStrategy[tuple[Work, ...]]:
    return st.lists(works(is_prompt=is_prompt), min_size=1, max_size=most).map(tuple)


any_schedule = st.tuples(
    conjunctions([VENDOR, TENANT, TENANT], [VENDOR, TENANT]) | st.just(XERO), several(3, is_prompt=False)
)
of_one = st.tuples(conjunctions([VENDOR, TENANT, TENANT], [VENDOR, TENANT]), several(1, is_prompt=True))
of_all = st.tuples(conjunctions([VENDOR], []), several(3, is_prompt=True))
"""Paced by what all share."""
of_each = st.tuples(st.just(XERO), several(3, is_prompt=True))
"""As Xero has it: what all share is too wide to matter."""


# --- The laws ---------------------------------------------------------------------------------------------------------


def exceeded(schedule: Schedule) -> list[Limit]:
    """The limits that the partner would have seen exceeded."""
    limits, tenants = schedule
    return broken(limits, Simulation(limits, tenants).sent)


def idled(schedule: Schedule) -> float:
    """By how many seconds, at most, a call left after the best sender's."""
    limits, tenants = schedule
    sent = Simulation(limits, tenants).sent
    assert len(sent) == len(arrivals_of(tenants)), "not all was sent"
    if all(each.scope is VENDOR for each in limits):
        return _behind(limits, tenants, sent)
    return max(
        _behind(limits, [work], [each for each in sent if each.tenant == number]) for number, work in enumerate(tenants)
    )


def _behind(limits: Sequence[Limit], tenants: Sequence[Work], sent: Sequence[Sent]) -> float:
    """Of the calls of these together, the first of which is as good as any other."""
    slots = sorted(each.slot for each in sent)
    fates = tenants[0].calls
    best = best_slots(limits, arrivals_of(tenants), lambda number: fates[number % len(fates)].takes)
    return max(slot - at for slot, at in zip(slots, best, strict=True))


def laws(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=not IS_SOAK,
        suppress_health_check=[HealthCheck.too_slow],
    )


@laws(EXAMPLES)
@given(any_schedule)
def test_no_window_of_any_limit_is_ever_exceeded(schedule: Schedule) -> None:
    assert exceeded(schedule) == []


@laws(EXAMPLES)
@given(of_one)
def test_while_work_waits_one_tenant_is_never_idle_by_more_than_3_percent(schedule: Schedule) -> None:
    assert idled(schedule) <= FLOAT


@laws(EXAMPLES // 2)
@given(of_all | of_each)
def test_while_work_waits_tenants_who_share_are_never_idle_by_more_than_3_percent(schedule: Schedule) -> None:
    assert idled(schedule) <= ABSENCE


# --- Each law broken --------------------------------------------------------------------------------------------------


def _one_skipped(real: Any) -> Any:
    """The first limit of several is not asked."""
    return lambda buckets, *given: real(buckets[1:], *given)


def is_caught(schedules: st.SearchStrategy[Schedule], is_broken: Callable[[Schedule], bool]) -> bool:
    """Whether a random search meets a schedule in which the law is broken."""
    try:
        find(schedules, is_broken, settings=settings(laws(EXAMPLES), phases=[Phase.generate], database=None))
    except NoSuchExample:
        return False
    return True


def test_a_limit_that_is_skipped_is_noticed() -> None:
    with swapped([(budget, "_slot", _one_skipped)]):
        assert is_caught(any_schedule, lambda schedule: bool(exceeded(schedule)))


@pytest.mark.parametrize(
    ("name", "tripled", "schedules"),
    [("_MOST_PER_MILLE", 1000 - 3 * 17, of_one), ("SLICES", 33, of_one), ("_MOST_PER_MILLE", 1000 - 3 * 17, of_all)],
    ids=["evenly", "in bursts", "shared"],
)
def test_a_margin_three_times_as_wide_is_noticed(
    name: str, tripled: int, schedules: st.SearchStrategy[Schedule]
) -> None:
    with swapped([(meters, name, lambda _: tripled)]):
        assert is_caught(schedules, lambda schedule: idled(schedule) > ABSENCE)
