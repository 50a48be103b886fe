"""What was used of a limit, for people to look at, and which of several limits a refusal speaks of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from partners.limits import PACED_MOST
from zest_pipelines.core.meters import LATENESS, MINUTES, Bucket, State, load

_BARS = "▁▂▃▄▅▆▇█"
_MINUTES_A_BAR = 5
_ALIKE = 0.9
"""Limits that are used at least so much as the most used one, relatively, are doubted with it."""
_SHORT = 1000
"""A limit of more than PACED_MOST is never full for less than this part of its window."""
_LONG = 1.1
"""Windows for which a limit is full at the longest: a little more than one, as clocks differ."""
_IDLE = 0.25
"""Of a limit: with less use than that, a refusal is not for our number of calls."""


def _can_mean(bucket: Bucket, rest: float | None) -> bool:
    window = bucket.limit.seconds
    if rest is None:
        return window <= PACED_MOST
    return (window <= PACED_MOST or rest >= window / _SHORT) and rest <= _LONG * window + LATENESS


def noted(bucket: Bucket, now: float, calls: int) -> State:
    """The state after so many calls were granted now."""
    minute = int(now // 60)
    used = {each: count for each, count in bucket.state.used.items() if minute - MINUTES < each <= minute}
    if calls:
        used[minute] = used.get(minute, 0) + calls
    return bucket.state._replace(load=load(bucket, now) + calls, seen=now, used=used)


def hour(used: Mapping[int, int], now: float) -> tuple[int, ...]:
    """Calls in each of the last MINUTES minutes, the current one last."""
    minute = int(now // 60)
    return tuple(used.get(each, 0) for each in range(minute - MINUTES + 1, minute + 1))


def plot(last_hour: Sequence[int]) -> str:
    """A bar for each five minutes of the last hour, the tallest for the busiest; a space for none."""
    sums = [sum(last_hour[at : at + _MINUTES_A_BAR]) for at in range(0, len(last_hour), _MINUTES_A_BAR)]
    most = max(sums, default=0)
    return "".join(_BARS[(each * len(_BARS) - 1) // most] if each else " " for each in sums)


def doubtful(buckets: Sequence[Bucket], now: float, rest: float | None) -> tuple[Bucket, ...]:
    """Which limits a refusal may be for: those that are used most, if any is used enough to be spent.

    Of those alone for which `rest` can be meant, the seconds for which the partner wants to be left alone: nobody waits
    a day for a minute's limit, nor a second for a day's. None: it named no time, so it is for the shortest kind.
    """
    buckets = [bucket for bucket in buckets if _can_mean(bucket, rest)] or ([] if rest is not None else buckets)
    loads = [load(bucket, now) / bucket.allowed for bucket in buckets]
    most = max(loads, default=0.0)
    if most < _IDLE:
        return ()
    return tuple(bucket for bucket, each in zip(buckets, loads, strict=True) if each >= most * _ALIKE)
