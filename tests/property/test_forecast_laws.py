"""A forecast holds against a partner that is called as soon as it takes a call.

The partners here only count. They know nothing of how a forecast is made: each is asked again and again whether one
more call may go, from a moment on that may lie in the middle of their work. Time goes by in ticks, a second each unless
a test says otherwise.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from zest_pipelines.core.forecast import Daily, Evenly, Sliding, Supply, Work, forecast, share

NOW = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
A_DAY = 1440
records = st.integers(1, 300)
closings = st.integers(0, 500)
TICKS = 20
"""From one call to the next, of a bucket that drains."""


def foretold(supply: Supply, waiting: int, closed: timedelta, tick: timedelta) -> float:
    """Ticks until the forecast's time."""
    at = forecast(Work(waiting), [supply], NOW, NOW + closed)
    assert at is not None
    return (at - NOW) / tick


def called(takes: Callable[[int], bool], waiting: int, closed: int) -> int:
    """The tick at which the last call is taken, of calls that are tried from `closed` on."""
    tick = closed
    while True:
        while takes(tick):
            waiting -= 1
            if not waiting:
                return tick
        tick += 1


def is_near(told: float, real: int, closed: int) -> bool:
    """Within a tenth of the time from the opening on, or one tick."""
    return abs(told - real) <= max(1.0, (real - closed) / 10)


@given(records, closings, st.integers(1, 60), st.integers(0, 60), st.integers(1, 5), st.integers(1, 5))
def test_a_leaky_bucket_and_a_pace_are_foretold(
    waiting: int, closed: int, burst: int, called_before: int, calls: int, seconds: int
) -> None:
    level, at = min(called_before, burst) * TICKS, 0

    def takes(tick: int) -> bool:
        nonlocal level, at
        level, at = max(0, level - (tick - at)), tick
        if level + TICKS > burst * TICKS:
            return False
        level += TICKS
        return True

    interval = timedelta(seconds=seconds / calls)
    supply = Evenly(NOW + min(called_before, burst) * interval, interval, burst)
    told = foretold(supply, waiting, closed * interval / TICKS, interval / TICKS)
    assert is_near(told, called(takes, waiting, closed), closed)


@given(records, closings, st.lists(st.tuples(st.integers(0, 99), st.integers(1, 20)), max_size=8), st.integers(1, 40))
def test_a_sliding_window_is_foretold_from_what_was_called_in_it(
    waiting: int, closed: int, past: Sequence[tuple[int, int]], more: int
) -> None:
    window = 100
    log = deque(sorted(-ago for ago, calls in past for _ in range(calls)))
    allowed = len(log) + more
    returns = sorted(Counter(second + window for second in log).items())

    def takes(second: int) -> bool:
        while log and log[0] <= second - window:
            log.popleft()
        if len(log) >= allowed:
            return False
        log.append(second)
        return True

    supply = Sliding(more, tuple((NOW + at * SECOND, calls) for at, calls in returns), window * SECOND)
    told = foretold(supply, waiting, closed * SECOND, SECOND)
    assert is_near(told, called(takes, waiting, closed), closed)


@given(st.integers(1, 60), st.integers(0, 3 * A_DAY), st.integers(0, 20), st.integers(1, 20), st.integers(1, A_DAY))
def test_a_daily_count_is_foretold_from_what_is_left_of_it(
    waiting: int, closed: int, left: int, allowed: int, reset_in: int
) -> None:
    spent = Counter({0: allowed - min(left, allowed)})  # by day; a tick is a minute

    def takes(minute: int) -> bool:
        day = (minute - reset_in) // A_DAY + 1
        if spent[day] >= allowed:
            return False
        spent[day] += 1
        return True

    supply = Daily(min(left, allowed), allowed, NOW + reset_in * MINUTE)
    told = foretold(supply, waiting, closed * MINUTE, MINUTE)
    assert is_near(told, called(takes, waiting, closed), closed)


@given(st.integers(20, 200), st.integers(1, 5), st.lists(st.integers(1, 5), max_size=8))
def test_a_share_of_a_pace_is_foretold_while_all_who_share_it_wait(
    waiting: int, weight: int, others: list[int]
) -> None:
    weights = [*others, weight]
    mine = len(others)
    had = [0] * len(weights)
    while had[mine] < waiting:
        had[min(range(len(weights)), key=lambda name: (had[name] / weights[name], name))] += 1
    supply = Evenly(NOW, SECOND, share=share(weight, others))
    # The last call of a turn may go first in it or last.
    assert abs(foretold(supply, waiting, 0 * SECOND, SECOND) - (sum(had) - 1)) <= max(sum(weights), sum(had) / 10)
