"""The ledger's rule against a partner that counts: sliding windows, days, a leaky bucket, several limits at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from partners.limits import Kind, LimitScope, Rate
from zest_pipelines.core.budget import Ask, Granted, Wait, admit
from zest_pipelines.core.meters import Bucket
from zest_pipelines.core.turns import Priority, Who

START = 1_800_000_000.0
DAY = 86_400
LATEST = 0.999_999
_ROUNDING = 1e-5
"""Seconds: what a float of so many seconds does not tell apart."""


@dataclass(frozen=True)
class Visit:
    """One worker's visit to the ledger."""

    after: float
    """Seconds since the visit before; below zero: the database's clock has gone back."""
    calls: int
    lateness: tuple[float, ...]
    """How late each of its calls leaves, in seconds, in turn."""
    priority: Priority
    tenant: str


def is_kept(sent: Sequence[float], limit: Rate) -> bool:
    """Whether a partner that counts exactly refuses none of the calls."""
    ordered = sorted(sent)
    if limit.burst is not None:
        level, last = 0.0, ordered[0] if ordered else 0.0
        for at in ordered:
            level = max(0.0, level - (at - last) * limit.calls / limit.seconds) + 1
            last = at
            if level > limit.burst + _ROUNDING:
                return False
        return True
    if limit.reset is not None:
        begins = 9 * 3600 - limit.reset.hour * 3600
        days = Counter((at + begins) // DAY for at in ordered)
        return max(days.values(), default=0) <= limit.calls
    return all(
        ordered[number + limit.calls] - at >= limit.seconds - _ROUNDING
        for number, at in enumerate(ordered[: max(0, len(ordered) - limit.calls)])
    )


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
    st.integers(1, 15),
    st.tuples(*[st.sampled_from([0.0, 0.5, LATEST])] * 3),
    st.sampled_from(list(Priority)),
    st.sampled_from(["one", "two"]),
)


@given(
    st.lists(rates | daily | leaky, min_size=1, max_size=4, unique_by=lambda each: each.counted),
    st.lists(visits, max_size=25),
)
@example([Rate(LimitScope.TENANT, 1, 1)], [Visit(0, 1, (LATEST,), Priority.PEOPLE, "one")] * 2)
@example([Rate(LimitScope.TENANT, 12, 600)], [Visit(0, 15, (LATEST, 0.0), Priority.PEOPLE, "one")] * 3)
def test_no_limit_ever_counts_more_calls_than_it_allows(limits: list[Rate], given_visits: list[Visit]) -> None:
    now = START
    buckets = {limit: Bucket(limit) for limit in limits}
    sent: list[float] = []
    for visit in given_visits:
        now += visit.after
        ask = Ask(Who(visit.tenant, visit.priority), visit.calls, now + 60)
        reply = admit(list(buckets.values()), ask, now)
        buckets |= {bucket.limit: bucket for bucket in reply.buckets}
        if isinstance(reply, Granted):
            assert 1 <= len(reply.send_at) <= visit.calls
            assert all(now <= at <= now + 1 for at in reply.send_at)
            late = visit.lateness
            sent += [at + late[number % len(late)] for number, at in enumerate(reply.send_at)]
        else:
            assert reply.until > now
    for limit in limits:
        assert is_kept(sent, limit), limit


@given(st.lists(rates | daily, min_size=1, max_size=3, unique_by=lambda each: each.counted), st.integers(0, 40))
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
