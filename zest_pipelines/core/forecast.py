"""When the last of what waits will have left, if all goes on as it does now. Pure.

Each limit is asked by itself, and the one that lets the last call go latest decides. What two limits do to each other
is left out: a day's calls are told as spent at once, though a minute's limit may spread them. So is what comes
meanwhile, and that a tenant has more of a shared limit once the others are done. A figure for people to plan by, never
one to send by.

It refuses to tell what lies beyond FARTHEST: a limit that gives nothing, or a partner that is closed for good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

from partners.reasons import Language
from partners.windows import JAPAN

FARTHEST = timedelta(days=366)
"""Nothing is foretold beyond."""
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Evenly:
    """A limit that lets one call go after another: paced, or leaky."""

    free_at: datetime
    """When the next call would be exactly on pace; in the past if it is idle."""
    interval: timedelta
    """From one call to the next, of all who share it; more than nothing."""
    burst: int = 1
    """Calls at once after idle time; 1 if it is paced."""
    share: float = 1.0
    """The tenant's part of it, above 0 and at most 1, as `share` tells."""


@dataclass(frozen=True)
class Sliding:
    """A limit on what was called in the window before now, spent in bursts."""

    free: int
    """Calls that may leave now."""
    returns: tuple[tuple[datetime, int], ...]
    """When calls that count now will count no longer, and how many; in rising order, within one window from now."""
    window: timedelta
    """For how long a call counts; more than nothing."""


@dataclass(frozen=True)
class Daily:
    """A limit on what was called since a daily reset, spent in bursts."""

    free: int
    """Calls that may leave before the reset."""
    allowed: int
    """Calls from one reset to the next, at least one."""
    reset_at: datetime
    """The next reset."""


Supply = Evenly | Sliding | Daily


@dataclass(frozen=True)
class Work:
    """What waits at one connection."""

    records: int
    calls_each: float = 1.0
    """Calls that a record needs, as measured; more than nothing."""

    @property
    def calls(self) -> int:
        """Calls that all of it needs, rounded up."""
        return math.ceil(self.records * self.calls_each)


def share(weight: int, others: Sequence[int]) -> float:
    """The part of a shared limit that a tenant of this weight gets while tenants of those weights wait too."""
    return weight / (weight + sum(others))


def forecast(
    work: Work, supplies: Sequence[Supply], now: datetime, closed_until: datetime | None = None
) -> datetime | None:
    """When the last call of `work` leaves under all of its limits; `now` if nothing waits.

    `closed_until`: when the partner takes calls again; None: it does. The answer is None if it lies beyond FARTHEST
    from now. Times are aware.
    """
    if not work.records:
        return now
    start = now if closed_until is None else max(now, closed_until)
    if start - now > FARTHEST:
        return None
    waits = [_wait(each, work.calls, start) for each in supplies]
    # Compared as seconds: a sum beyond the calendar would raise.
    longest = max([0.0, *waits])
    if (start - now).total_seconds() + longest > FARTHEST.total_seconds():
        return None
    return start + timedelta(seconds=longest)


def is_late(at: datetime | None, oldest_since: datetime | None, deliver_within: timedelta | None) -> bool:
    """Whether what waits will be older than the connection's own deadline allows.

    The age of the oldest is held against the time of the last, so it warns rather early than late. `at` None, since it
    cannot be told: late, if there is a deadline. `oldest_since` None, since nothing waits: never.
    """
    if deliver_within is None or oldest_since is None:
        return False
    return at is None or at - oldest_since > deliver_within


def sentence(tenant: str, records: int, at: datetime | None, now: datetime, language: Language) -> str:
    """`forecast` in words, in Japan's time, with the date unless it is today; `records` is at least one."""
    if language is Language.JAPANESE:
        waiting = f"{tenant}の送信待ちの予定{records:,}件"
        if at is None:
            return f"{waiting}を送り終わる時刻は、まだ分かりません。"
        return f"このままのペースでは、{waiting}は{_clock(at, now)}に送り終わります。"
    waiting = f"the last of {records:,} waiting visits" if records > 1 else "the one waiting visit"
    if at is None:
        return f"when {waiting} of tenant {tenant} leaves cannot be told yet"
    return f"at this rate {waiting} of tenant {tenant} leaves at {_clock(at, now)}"


def _wait(supply: Supply, calls: int, start: datetime) -> float:
    """Seconds from `start` until the last of so many calls may leave; infinite if it never may."""
    match supply:
        case Evenly():
            return _wait_evenly(supply, calls, start)
        case Sliding():
            return _wait_sliding(supply, calls, start)
        case Daily():
            return _wait_daily(supply, calls, start)


def _wait_evenly(supply: Evenly, calls: int, start: datetime) -> float:
    # While the tenant's calls go, the others' go too: it is done when all of them are.
    slots = math.ceil(calls / supply.share)
    owed = max(0.0, (supply.free_at - start).total_seconds())
    return max(0.0, owed + (slots - supply.burst) * supply.interval.total_seconds())


def _wait_sliding(supply: Sliding, calls: int, start: datetime) -> float:
    """A call counts for a window after it left: what comes free in one does so in the next, at the same times."""
    free = [(0.0, supply.free), *((max(0.0, (at - start).total_seconds()), count) for at, count in supply.returns)]
    a_window = sum(count for _, count in free)
    if not a_window:
        return math.inf
    windows, left = divmod(calls - 1, a_window)
    given = accumulate(count for _, count in free)
    wait = next(wait for (wait, _), until_then in zip(free, given, strict=True) if left < until_then)
    return wait + windows * supply.window.total_seconds()


def _wait_daily(supply: Daily, calls: int, start: datetime) -> float:
    free, reset_at = supply.free, supply.reset_at
    if reset_at <= start:
        free, reset_at = supply.allowed, reset_at + ((start - reset_at) // _DAY + 1) * _DAY
    if calls <= free:
        return 0.0
    resets = -(-(calls - free) // supply.allowed)
    return (reset_at - start).total_seconds() + (resets - 1) * _DAY.total_seconds()


def _clock(at: datetime, now: datetime) -> str:
    local = at.astimezone(JAPAN)
    return f"{local:%H:%M}" if local.date() == now.astimezone(JAPAN).date() else f"{local:%Y-%m-%d %H:%M}"
