"""One limit: when its next call may leave, and what is left after it.

    paced     a call an interval, spread over a little more than the window
    counted   a sliding window that may be spent in bursts, counted in slices of a hundredth of it
    fixed     a daily count that starts anew at a known time, spent in bursts too
    leaky     so many at once, refilled at a steady rate

Times are seconds of the ledger's clock. Why each allows a little less than it says: a call leaves up to LATENESS after
its slot, so what one slot stands for may fall anywhere within that second, and a window must hold all of them. Paced,
N + 1 slots span the window and that second (98.3 % of the limit for a minute, 50 % for a second); counted, a slice and
a second more than the window are added up (98.9 % of a day); a fixed window counts what may leave near its reset in
both days. A bucket of calls that refills, or a count by calendar minute, would let two bursts fall into one sliding
window: 39 calls where 20 were allowed.

Of a limit that can be spent in bursts, background work leaves a fifth for people. What people do not use is lent out
as time passes, so the whole limit is used where nobody asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import assert_never

from partners.limits import DAY, Kind, Rate
from zest_pipelines.core.belief import FULL, Belief
from zest_pipelines.core.turns import RESERVED, Priority, Queue

LATENESS = 1.0
"""Seconds: a call leaves less than this after its slot, or not at all."""
SLICES = 100
"""Of a counted window."""
_GUARD = 5.0
"""Seconds by which the partner's clock may differ from ours around its reset."""
_MOST_PER_MILLE = 983
"""Of a limit, however long its window: ten simulated hours at 985 were over by one call."""
_JAPAN = 9 * 3600
_CLOCK_STEP = 0.001
"""Seconds that the ledger's clock may seem to go back by rounding alone."""


@dataclass(frozen=True)
class State:
    """What the ledger keeps of one limit, beside until when it is closed."""

    free_at: float = 0.0
    """Paced and leaky: when the next call would be exactly on pace (theoretical arrival time)."""
    counts: Mapping[int, int] = field(default_factory=dict)
    """Counted and fixed: calls by slice, or by the day of the count."""
    lent_at: float = 0.0
    """Counted: when background work may have the next of the calls that are kept for people."""
    load: float = 0.0
    """Calls of about one window, older ones fading; as of `seen`."""
    seen: float = 0.0
    """The ledger's clock when this was written."""
    used: Mapping[int, int] = field(default_factory=dict)
    """Calls by minute, for people to look at."""
    belief: Belief = FULL
    queue: Queue = Queue()


@dataclass(frozen=True)
class Bucket:
    """A limit and how far it is spent."""

    limit: Rate
    state: State = State()
    closed_until: float = 0.0
    """When the partner wants to hear of us again."""

    @property
    def is_shared(self) -> bool:
        """Whether who waits for it waits in its queue, if there is no wider one."""
        return self.limit.kind in (Kind.PACED, Kind.LEAKY)

    @property
    def allowed(self) -> int:
        """Calls in a window, as we believe for now; at least one."""
        return max(1, int(self.limit.allowed * self.state.belief.share))


def interval(bucket: Bucket) -> float:
    """Seconds from one slot to the next of a paced or leaky limit."""
    window = bucket.limit.seconds
    spread = max(window * 1000 / _MOST_PER_MILLE, window + LATENESS)
    return spread / (bucket.limit.allowed * bucket.state.belief.share)


def aligned(bucket: Bucket, now: float) -> Bucket:
    """The bucket on a clock that went back: as if no time had passed, so that nothing is granted twice."""
    state = bucket.state
    step = state.seen - now
    if step <= _CLOCK_STEP:
        return bucket
    moved = replace(state, free_at=state.free_at - step, lent_at=state.lent_at - step, seen=now)
    if bucket.limit.kind is Kind.COUNTED:
        slices = int(step // _slice(bucket.limit))
        moved = replace(moved, counts={number - slices: calls for number, calls in state.counts.items()})
    return replace(bucket, state=moved)


def free_at(bucket: Bucket, at: float, priority: Priority) -> float:
    """The earliest slot from `at` on, inclusive; what closes the limit is heeded."""
    at = max(at, bucket.closed_until)
    match bucket.limit.kind:
        case Kind.PACED:
            return max(at, bucket.state.free_at)
        case Kind.LEAKY:
            return max(at, bucket.state.free_at - (_burst(bucket) - 1) * interval(bucket))
        case Kind.COUNTED:
            return _free_in_slices(bucket, at, priority)
        case Kind.FIXED:
            return _free_in_days(bucket, at, priority)
        case kind:
            assert_never(kind)


def spent(bucket: Bucket, at: float, priority: Priority) -> Bucket:
    """After one more slot at `at`."""
    state = bucket.state
    match bucket.limit.kind:
        case Kind.PACED | Kind.LEAKY:
            state = replace(state, free_at=max(at, state.free_at) + interval(bucket))
        case Kind.COUNTED:
            state = _spent_in_slices(bucket, at, priority)
        case Kind.FIXED:
            days = _days(bucket.limit, at)
            kept = {day: calls for day, calls in state.counts.items() if day >= days[0] - 1}
            state = replace(state, counts=kept | {day: kept.get(day, 0) + 1 for day in days})
        case kind:
            assert_never(kind)
    return replace(bucket, state=state)


def in_window(bucket: Bucket, now: float) -> int:
    """Calls that count in the window now; of a paced or leaky limit, about so many."""
    match bucket.limit.kind:
        case Kind.COUNTED:
            first = _first_slice(bucket.limit, now)
            return sum(calls for number, calls in bucket.state.counts.items() if number >= first)
        case Kind.FIXED:
            return bucket.state.counts.get(_days(bucket.limit, now)[0], 0)
        case _:
            return round(load(bucket, now))


def load(bucket: Bucket, now: float) -> float:
    """Calls of about one window, older ones fading."""
    passed = max(0.0, now - bucket.state.seen)
    return bucket.state.load * math.exp(-passed / bucket.limit.seconds)


def _burst(bucket: Bucket) -> float:
    """Calls at once: fewer than the partner's bucket holds by what may arrive late; at least one."""
    limit = bucket.limit
    assert limit.burst is not None  # it is leaky
    late = math.ceil(LATENESS * limit.calls / limit.seconds)
    return max(1.0, (limit.burst * (100 - limit.headroom) // 100 - late) * bucket.state.belief.share)


# --- Counted ----------------------------------------------------------------------------------------------------------


def _slice(limit: Rate) -> float:
    return limit.seconds / SLICES


def _first_slice(limit: Rate, at: float) -> int:
    """The oldest slice whose calls may fall into one window with a call whose slot is `at`."""
    return math.floor((at - limit.seconds - LATENESS) / _slice(limit))


def _free_in_slices(bucket: Bucket, at: float, priority: Priority) -> float:
    first = _first_slice(bucket.limit, at)
    kept = sorted((number, calls) for number, calls in bucket.state.counts.items() if number >= first)
    count, length = sum(calls for _, calls in kept), _slice(bucket.limit)
    reserve = 0 if priority is Priority.PEOPLE else int(bucket.allowed * RESERVED)
    free, lent = at, max(at, bucket.state.lent_at)
    for number, calls in kept:
        if count < bucket.allowed and (count < bucket.allowed - reserve or lent <= free):
            return free
        if count < bucket.allowed:
            return min(lent, max(free, _left_at(kept, count, bucket.allowed - reserve, bucket.limit, at)))
        count -= calls
        free = max(free, (number + 1) * length + bucket.limit.seconds + LATENESS)
    return free


def _left_at(kept: list[tuple[int, int]], count: int, most: int, limit: Rate, at: float) -> float:
    """When fewer than `most` of `count` calls are left in the window."""
    for number, calls in kept:
        if count < most:
            break
        count -= calls
        at = max(at, (number + 1) * _slice(limit) + limit.seconds + LATENESS)
    return at


def _spent_in_slices(bucket: Bucket, at: float, priority: Priority) -> State:
    limit, state = bucket.limit, bucket.state
    first, number = _first_slice(limit, at), math.floor(at / _slice(limit))
    kept = {each: calls for each, calls in state.counts.items() if each >= first}
    reserve = int(bucket.allowed * RESERVED)
    is_lent = priority is Priority.BACKGROUND and reserve and sum(kept.values()) >= bucket.allowed - reserve
    lent_at = max(at, state.lent_at) + limit.seconds / reserve if is_lent else state.lent_at
    return replace(state, counts=kept | {number: kept.get(number, 0) + 1}, lent_at=lent_at)


# --- Fixed ------------------------------------------------------------------------------------------------------------


def _day(limit: Rate, at: float) -> int:
    assert limit.reset is not None  # it is fixed
    reset = timedelta(hours=limit.reset.hour, minutes=limit.reset.minute).total_seconds()
    return math.floor((at + _JAPAN - reset) / DAY)


def _begins(limit: Rate, day: int) -> float:
    assert limit.reset is not None  # it is fixed
    reset = timedelta(hours=limit.reset.hour, minutes=limit.reset.minute).total_seconds()
    return day * DAY + reset - _JAPAN


def _days(limit: Rate, at: float) -> tuple[int, ...]:
    """The days in which the partner may count a call whose slot is `at`."""
    first, last = _day(limit, at - _GUARD), _day(limit, at + LATENESS + _GUARD)
    return (first,) if first == last else (first, last)


def _free_in_days(bucket: Bucket, at: float, priority: Priority) -> float:
    limit, counts, allowed = bucket.limit, bucket.state.counts, bucket.allowed
    days = _days(limit, at)
    if any(counts.get(day, 0) >= allowed for day in days):
        return _free_in_days(bucket, _begins(limit, days[0] + 1) + _GUARD, priority)
    reserve = 0 if priority is Priority.PEOPLE else int(allowed * RESERVED)
    over = counts.get(days[0], 0) + 1 - (allowed - reserve)
    if over <= 0:
        return at
    # Of the fifth, as much is lent as has passed of the day.
    return max(at, _begins(limit, days[0]) + DAY * over / reserve)
