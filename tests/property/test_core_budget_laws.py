"""The ledger's rule against a partner that counts calls in every sliding window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from partners.limits import LimitScope, Rate
from zest_pipelines.core.budget import Bucket, Granted, Wait, admit

START = datetime(2026, 11, 24, tzinfo=UTC)
LATEST = 0.999_999


@dataclass(frozen=True)
class Ask:
    """One worker's visit to the ledger."""

    after: float
    """Seconds since the visit before."""
    calls: int
    lateness: tuple[float, ...]
    """How late each of its calls leaves, in seconds, in turn."""


def most_in_a_window(sent: Sequence[datetime], limit: Rate) -> int:
    """The most calls in any half-open window, as the partner counts."""
    window = timedelta(seconds=limit.seconds)
    ordered = sorted(sent)
    return max((sum(start <= each < start + window for each in ordered) for start in ordered), default=0)


limits = st.builds(
    Rate,
    st.sampled_from([LimitScope.VENDOR, LimitScope.TENANT]),
    st.integers(1, 12),
    st.sampled_from([1, 2, 10, 60]),
)
asks = st.builds(
    Ask,
    st.sampled_from([0.0, 0.000_001, 0.1, 1.0, 12.0, 61.0]) | st.floats(0, 10),
    st.integers(1, 15),
    st.tuples(*[st.sampled_from([0.0, 0.5, LATEST])] * 3),
)


@given(st.lists(limits, min_size=1, max_size=3), st.lists(asks, max_size=25), st.sampled_from([0, 1, 45]))
@example([Rate(LimitScope.TENANT, 1, 1)], [Ask(0, 1, (LATEST,)), Ask(2, 1, (0.0,))], 0)
@example([Rate(LimitScope.TENANT, 5, 60)], [Ask(0, 15, (LATEST, 0.0, 0.0))] * 3, 45)
@example([Rate(LimitScope.TENANT, 12, 10)], [Ask(0, 15, (LATEST,) * 3), Ask(1, 15, (0.0,) * 3)], 45)
def test_no_window_of_any_limit_ever_holds_more_calls_than_it_allows(
    rates: list[Rate], visits: list[Ask], horizon: int
) -> None:
    now = START
    buckets = [Bucket(rate, None) for rate in rates]
    sent: list[datetime] = []
    for visit in visits:
        now += timedelta(seconds=visit.after)
        reply = admit(buckets, now, visit.calls, timedelta(seconds=horizon))
        if isinstance(reply, Granted):
            assert 1 <= len(reply.send_at) <= visit.calls
            assert all(now <= at <= now + timedelta(seconds=horizon) for at in reply.send_at)
            buckets = [Bucket(rate, tat) for rate, tat in zip(rates, reply.tats, strict=True)]
            sent += [at + timedelta(seconds=visit.lateness[number % 3]) for number, at in enumerate(reply.send_at)]
        else:
            assert reply.until > now
    for rate in rates:
        assert most_in_a_window(sent, rate) <= rate.calls


@given(st.lists(limits, min_size=1, max_size=3), st.integers(0, 90), st.sampled_from([0, 1, 45]))
def test_who_asks_again_when_told_to_is_served(rates: list[Rate], ahead: int, horizon: int) -> None:
    buckets = [Bucket(rate, START + timedelta(seconds=ahead * number)) for number, rate in enumerate(rates)]
    reply = admit(buckets, START, 1, timedelta(seconds=horizon))
    if isinstance(reply, Wait):
        assert isinstance(admit(buckets, reply.until, 1, timedelta(seconds=horizon)), Granted)


@pytest.mark.parametrize("calls", [1, 7, 60, 600])
@pytest.mark.parametrize("horizon", [timedelta(0), timedelta(seconds=5)])
def test_while_work_waits_a_minutes_limit_is_used_to_95_percent(calls: int, horizon: timedelta) -> None:
    minutes = 20
    now, end = START, START + timedelta(minutes=minutes)
    bucket, granted = Bucket(Rate(LimitScope.VENDOR, calls, 60), None), 0
    while now < end:
        reply = admit([bucket], now, 10, horizon)
        if isinstance(reply, Granted):
            bucket = Bucket(bucket.limit, reply.tats[0])
            granted += sum(at < end for at in reply.send_at)
        else:
            now = reply.until
    assert granted >= 0.95 * calls * minutes
