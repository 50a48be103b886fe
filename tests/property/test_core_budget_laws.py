"""The ledger's rule against a partner that counts: sliding windows, days, a leaky bucket, several limits at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time
from typing import Any

import pytest
from conjunctions import is_kept
from hypothesis import Phase, example, find, given, settings
from hypothesis import strategies as st
from swaps import swapped

from partners.limits import Kind, LimitScope, Rate
from zest_pipelines.core import budget, meters
from zest_pipelines.core.budget import Ask, Granted, Wait, admit
from zest_pipelines.core.meters import Bucket
from zest_pipelines.core.turns import Priority, Who

START = 1_800_000_000.0
DAY = 86_400
LATEST = 0.999_999
FARTHEST_OFF = 4.0
"""Seconds: by less than the partner's clock may differ from the ledger's."""


@dataclass(frozen=True)
class Visit:
    """One worker's visit to the ledger."""

    after: float
    """Seconds since the visit before."""
    back: float
    """By how many of them the database's clock was put back meanwhile."""
    calls: int
    lateness: tuple[float, ...]
    """How late each of its calls leaves, in seconds, in turn."""
    priority: Priority
    tenant: str


rates = st.builds(
    Rate,
    st.sampled_from([LimitScope.VENDOR, LimitScope.TENANT]),
    st.integers(1, 12),
    st.sampled_from([1, 2, 10, 60, 600]),
)
daily = st.builds(
    Rate,
    st.just(LimitScope.TENANT),
    st.integers(1, 30),
    st.just(DAY),
    reset=st.sampled_from([None, time(9), time(17)]),
)
leaky = st.builds(
    Rate, st.just(LimitScope.VENDOR), st.integers(1, 20), st.sampled_from([1, 2, 10]), burst=st.integers(1, 40)
)
visits = st.builds(
    Visit,
    st.sampled_from([0.0, 0.000_001, 0.1, 1.0, 12.0, 61.0, 20_000.0, 86_000.0]) | st.floats(0, 10),
    st.sampled_from([0.0, 0.0, 0.0, 0.000_5, 0.3, 1.0, 7.0, 61.0, 3_700.0, 90_000.0]) | st.floats(0, 20),
    st.integers(1, 15),
    st.tuples(*[st.sampled_from([0.0, 0.5, LATEST])] * 3),
    st.sampled_from(list(Priority)),
    st.sampled_from(["one", "two"]),
)


conjunctions = st.lists(rates | daily | leaky, min_size=1, max_size=4, unique_by=lambda each: each.measured)


@given(conjunctions, st.lists(visits, max_size=25))
@example([Rate(LimitScope.TENANT, 1, 1)], [Visit(0, 0, 1, (LATEST,), Priority.PEOPLE, "one")] * 2)
@example([Rate(LimitScope.TENANT, 12, 600)], [Visit(0, 0, 15, (LATEST, 0.0), Priority.PEOPLE, "one")] * 3)
@example([Rate(LimitScope.TENANT, 1, 10)], [Visit(1, 20, 1, (0.0,), Priority.PEOPLE, "one")] * 2)
def test_no_limit_ever_counts_more_calls_than_it_allows_though_the_clock_goes_back(
    limits: list[Rate], given_visits: list[Visit]
) -> None:
    assert exceeded(limits, given_visits) == []


def test_a_clock_that_goes_back_by_more_than_is_heeded_is_noticed() -> None:
    with swapped([(budget, "aligned", _aligned_twice)]):
        find(
            st.tuples(conjunctions, st.lists(visits, max_size=25)),
            lambda each: bool(exceeded(*each)),
            settings=settings(max_examples=2000, phases=[Phase.generate], database=None, deadline=None),
        )


def _aligned_twice(real: Any) -> Any:
    return lambda bucket, now: real(bucket, min(now, 2 * now - bucket.state.seen))


def exceeded(limits: Sequence[Rate], given_visits: Sequence[Visit]) -> list[Rate]:
    """The limits that the partner, whose clock is right, has seen exceeded."""
    buckets = {limit: Bucket(limit) for limit in limits}
    truly, behind = START, 0.0
    sent: list[float] = []
    for visit in given_visits:
        truly += visit.after
        # No clock can be far off and count a day from its reset.
        behind = min(behind + visit.back, FARTHEST_OFF if any(each.reset for each in limits) else math.inf)
        now = truly - behind
        ask = Ask(Who(visit.tenant, visit.priority), visit.calls, now + 60)
        reply = admit(list(buckets.values()), ask, now)
        buckets |= {bucket.limit: bucket for bucket in reply.buckets}
        if isinstance(reply, Granted):
            assert 1 <= len(reply.send_at) <= visit.calls
            assert all(now <= at <= now + 1 for at in reply.send_at)
            late = visit.lateness
            sent += [at + behind + late[number % len(late)] for number, at in enumerate(reply.send_at)]
        else:
            assert reply.until > now
    return [limit for limit in limits if not is_kept(sent, limit)]


resets = st.times().map(lambda each: each.replace(second=0, microsecond=0))
calls_of_days = st.lists(st.tuples(st.floats(0, 40_000), st.integers(1, 12)), max_size=12)


@given(st.integers(1, 10), resets, resets, calls_of_days, calls_of_days)
def test_a_reset_that_is_moved_lets_nothing_go_that_its_day_has_no_room_for(
    calls: int, before: time, after: time, first: list[tuple[float, int]], then: list[tuple[float, int]]
) -> None:
    assert not overfull(calls, before, after, first, then)


def test_a_reset_that_forgets_is_noticed() -> None:
    with swapped([(meters, "_by_its_reset", lambda _: lambda bucket, _: bucket)]):
        find(
            st.tuples(st.integers(1, 10), resets, resets, calls_of_days, calls_of_days),
            lambda each: overfull(*each),
            settings=settings(max_examples=2000, phases=[Phase.generate], database=None, deadline=None),
        )


def overfull(
    calls: int, before: time, after: time, first: list[tuple[float, int]], then: list[tuple[float, int]]
) -> bool:
    """Whether a call went after the reset was moved, on a day that holds too many by the new one."""
    bucket, now, sent = Bucket(Rate(LimitScope.TENANT, calls, DAY, reset=before)), START, list[float]()
    sent_before = 0
    for visits_of, reset in ((first, before), (then, after)):
        bucket, sent_before = bucket._replace(limit=Rate(LimitScope.TENANT, calls, DAY, reset=reset)), len(sent)
        for waited, wanted in visits_of:
            now += waited
            reply = admit([bucket], Ask(Who("one", Priority.PEOPLE), wanted, now), now)
            bucket = next(iter(reply.buckets), bucket)
            sent += reply.send_at if isinstance(reply, Granted) else ()
    day = [(at + 9 * 3600 - after.hour * 3600 - after.minute * 60) // DAY for at in sent]
    return any(day.count(each) > calls for each in day[sent_before:])


@given(st.lists(rates | daily, min_size=1, max_size=3, unique_by=lambda each: each.measured), st.integers(0, 40))
def test_who_asks_again_when_told_to_is_served_in_the_end(limits: list[Rate], before: int) -> None:
    buckets, now = {limit: Bucket(limit) for limit in limits}, START
    for _ in range(before):
        reply = admit(list(buckets.values()), Ask(Who("one"), 1, now + 1e6), now)
        buckets |= {bucket.limit: bucket for bucket in reply.buckets}
    for _ in range(3 + 2 * len(limits)):
        reply = admit(list(buckets.values()), Ask(Who("one"), 1, now + 1e6), now)
        buckets |= {bucket.limit: bucket for bucket in reply.buckets}
        if isinstance(reply, Granted):
            return
        now = reply.until
    raise AssertionError("it was told to come again and again")


@pytest.mark.parametrize("calls", [1, 7, 60, 600])
@pytest.mark.parametrize("scope", [LimitScope.VENDOR, LimitScope.TENANT])
def test_while_work_waits_a_minutes_limit_is_used_to_97_percent(calls: int, scope: LimitScope) -> None:
    assert granted_in(Rate(scope, calls, 60), 1200) >= 0.97 * calls * 20


def test_while_work_waits_an_hours_limit_is_used_to_97_percent() -> None:
    limit = Rate(LimitScope.TENANT, 500, 3600)
    assert limit.kind is Kind.COUNTED
    assert granted_in(limit, 20 * 3600) >= 0.97 * 500 * 20


@pytest.mark.parametrize(("calls", "burst"), [(2, 40), (10, 100), (10, 11), (1, 2)])
def test_while_work_waits_a_leaky_bucket_is_used_to_97_percent(calls: int, burst: int) -> None:
    assert granted_in(Rate(LimitScope.VENDOR, calls, 1, burst=burst), 1200) >= 0.97 * calls * 1200


def granted_in(limit: Rate, seconds: float) -> int:
    """Calls that one who always asks gets."""
    now, bucket, granted = START, Bucket(limit), 0
    while now < START + seconds:
        reply = admit([bucket], Ask(Who("one"), 10, now + 60), now)
        for changed in reply.buckets:
            bucket = changed
        if isinstance(reply, Wait):
            now = reply.until
        else:
            granted += sum(at < START + seconds for at in reply.send_at)
    return granted
