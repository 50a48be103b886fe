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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import time, timedelta
from typing import NamedTuple, assert_never

from partners.limits import DAY, Kind, Rate
from zest_pipelines.core.belief import FULL, Belief
from zest_pipelines.core.turns import EMPTY, RESERVED, Priority, Queue

MINUTES = 60
"""Of which the calls are remembered one by one, to be looked at."""
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


class State(NamedTuple):
    """What the ledger keeps of one limit, beside until when it is closed."""

    free_at: float = 0.0
    """Paced and leaky: when the next call would be exactly on pace (theoretical arrival time)."""
    counts: Mapping[int, int] = {}
    """Counted and fixed: calls by slice, or by the day of the count."""
    reset: time | None = None
    """Fixed: when the days of `counts` begin, Japan time; None: nothing is counted."""
    lent: Mapping[int, int] = {}
    """Counted: those of them that were kept for people and lent out."""
    lent_at: float = 0.0
    """Counted: when background work may have the next of the calls that are kept for people."""
    load: float = 0.0
    """Calls of about one window, older ones fading; as of `seen`."""
    seen: float = 0.0
    """The ledger's clock when this was written."""
    used: Mapping[int, int] = {}
    """Calls by minute, for people to look at."""
    belief: Belief = FULL
    queue: Queue = EMPTY


class Bucket(NamedTuple):
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
    limit, share = bucket.limit, bucket.state.belief.share
    spread = limit.seconds * 1000 / _MOST_PER_MILLE
    if limit.kind is Kind.LEAKY:
        return max(spread, _least_spread(limit)) / (limit.allowed * share)
    return max(spread, limit.seconds + LATENESS) / (limit.allowed * share)


def aligned(bucket: Bucket, now: float) -> Bucket:
    """The bucket as it counts now: by the reset that the limit has now, and on a clock that went back as if no time had
    passed, so that nothing is granted twice.
    """
    bucket = _by_its_reset(bucket, now)
    state = bucket.state
    step = state.seen - now
    if step <= _CLOCK_STEP:
        return bucket
    moved = state._replace(free_at=state.free_at - step, lent_at=state.lent_at - step, seen=now)
    if bucket.limit.kind is Kind.COUNTED:
        slices = int(step // _slice(bucket.limit))
        counts, lent = (
            {number - slices: calls for number, calls in each.items()} for each in (state.counts, state.lent)
        )
        moved = moved._replace(counts=counts, lent=lent)
    return bucket._replace(state=moved)


def begun(limit: Rate, others: Sequence[State], now: float) -> State:
    """The state of a limit that is called for the first time, beside what was kept of others on the same calls.

    What was used of them counts as used of it, at this moment: a limit that is counted in another way from now on is no
    second quota. Of their calls those of about one window of theirs are known, so it may begin fuller than it is; what
    was all used before any call could count by now is none.
    """
    since = _counts_from(limit, now)
    known = max((_known_calls(each) for each in others if each.seen > since), default=0)
    calls = min(_most_at_once(limit), known)
    if not calls:
        return State()
    state = State(seen=now, load=float(calls))
    match limit.kind:
        case Kind.PACED | Kind.LEAKY:
            return state._replace(free_at=now + calls * interval(Bucket(limit)))
        case Kind.COUNTED:
            return state._replace(counts={int(now // _slice(limit)): calls})
        case Kind.FIXED:
            return state._replace(counts=dict.fromkeys(_days(limit, now), calls), reset=limit.reset)
        case kind:
            assert_never(kind)


def _most_at_once(limit: Rate) -> int:
    """How many calls fill it."""
    return limit.allowed if limit.allowed_at_once is None else limit.allowed_at_once


def _counts_from(limit: Rate, now: float) -> float:
    """Calls that were granted before this moment count no longer: each left at most 2 s after that."""
    match limit.kind:
        case Kind.PACED | Kind.COUNTED:
            return now - limit.seconds - 2 * LATENESS
        case Kind.FIXED:
            return _begins(limit, _days(limit, now)[0]) - _GUARD - 2 * LATENESS
        case Kind.LEAKY:
            return now - _most_at_once(limit) * interval(Bucket(limit)) - 2 * LATENESS
        case kind:
            assert_never(kind)


def _known_calls(state: State) -> int:
    return max(sum(state.counts.values()), sum(state.used.values()), round(state.load))


def first_slot(bucket: Bucket, at: float, priority: Priority) -> float:
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
            state = state._replace(free_at=max(at, state.free_at) + interval(bucket))
        case Kind.COUNTED:
            state = _spent_in_slices(bucket, at, priority)
        case Kind.FIXED:
            days = _days(bucket.limit, at)
            kept = {day: calls for day, calls in state.counts.items() if day >= days[0] - 1}
            state = state._replace(counts=kept | {day: kept.get(day, 0) + 1 for day in days}, reset=bucket.limit.reset)
        case kind:
            assert_never(kind)
    return bucket._replace(state=state)


def slot_after(bucket: Bucket, at: float, slots: int) -> float:
    """Of a paced or leaky limit: the earliest slot from `at` on, inclusive, once so many more were given there."""
    state = bucket.state._replace(free_at=max(at, bucket.state.free_at) + slots * interval(bucket))
    return first_slot(bucket._replace(state=state), at, Priority.PEOPLE)


def in_window(bucket: Bucket, now: float) -> int:
    """Calls that count in the window now; of a paced or leaky limit, about so many: by the minutes of which its window
    consists, or, if it is shorter than one or longer than MINUTES, by what fades."""
    match bucket.limit.kind:
        case Kind.COUNTED:
            first = _first_slice(bucket.limit, now)
            return sum(calls for number, calls in bucket.state.counts.items() if number >= first)
        case Kind.FIXED:
            return bucket.state.counts.get(_days(bucket.limit, now)[0], 0)
        case _ if 60 <= bucket.limit.seconds <= 60 * MINUTES:
            return min(bucket.limit.allowed, round(_by_minutes(bucket, now)))
        case _:
            return round(load(bucket, now))


def _by_minutes(bucket: Bucket, now: float) -> float:
    """Of the minute in which the window begins, as much as lies in it."""
    first = now - bucket.limit.seconds
    shares = ((min(1.0, (60 * (minute + 1) - first) / 60), calls) for minute, calls in bucket.state.used.items())
    return sum(share * calls for share, calls in shares if share > 0)


def load(bucket: Bucket, now: float) -> float:
    """Calls of about one window, older ones fading."""
    passed = max(0.0, now - bucket.state.seen)
    return bucket.state.load * math.exp(-passed / bucket.limit.seconds)


def _least_spread(limit: Rate) -> float:
    """Of a leaky limit: over how many seconds its calls are spread at least.

    Where the partner's bucket holds less than may arrive late together, a second's calls, no more leave in any second
    than it holds; where it holds a single call, a late one and the next on time are still a pace apart.
    """
    at_once = limit.allowed_at_once
    assert at_once is not None  # it is leaky
    if at_once == 1:
        return limit.seconds + LATENESS * limit.allowed
    return limit.allowed * LATENESS / (at_once - 1) if _late(limit) >= at_once else 0.0


def _late(limit: Rate) -> int:
    """Of a leaky limit: calls that may arrive together because they are late."""
    return math.ceil(LATENESS * limit.calls / limit.seconds)


def _burst(bucket: Bucket) -> float:
    """Calls at once: fewer than the partner's bucket holds by what may arrive late; at least one."""
    limit = bucket.limit
    assert limit.allowed_at_once is not None  # it is leaky
    return max(1.0, (limit.allowed_at_once - _late(limit)) * bucket.state.belief.share)


def leaves(bucket: Bucket, now: float) -> list[tuple[float, int]]:
    """Of a counted limit: when calls that count now will count no longer, and how many; in rising order."""
    length, window = _slice(bucket.limit), bucket.limit.seconds + LATENESS
    return [((number + 1) * length + window, calls) for number, calls, _ in _kept(bucket, now)]


def day_ends(limit: Rate, now: float) -> float:
    """Of a fixed limit: the next reset."""
    return _begins(limit, _day(limit, now) + 1)


# --- Counted ----------------------------------------------------------------------------------------------------------


def _slice(limit: Rate) -> float:
    return limit.seconds / SLICES


def _first_slice(limit: Rate, at: float) -> int:
    """The oldest slice whose calls may fall into one window with a call whose slot is `at`."""
    return math.floor((at - limit.seconds - LATENESS) / _slice(limit))


def _free_in_slices(bucket: Bucket, at: float, priority: Priority) -> float:
    """As the slices leave the window, the first time at which there is a call left for `priority`."""
    kept = _kept(bucket, at)
    most = bucket.allowed - (0 if priority is Priority.PEOPLE else _reserve(bucket))
    count = sum(calls for _, calls, _ in kept)
    plain = count - sum(lent for _, _, lent in kept)
    for number, calls, lent in [*kept, (0, 0, 0)]:
        if count < bucket.allowed and plain < most:
            return at
        left = max(at, (number + 1) * _slice(bucket.limit) + bucket.limit.seconds + LATENESS)
        if count < bucket.allowed and bucket.state.lent_at < left:
            return max(at, bucket.state.lent_at)
        count, plain, at = count - calls, plain - (calls - lent), left
    raise AssertionError("an empty window has a call left")


def _spent_in_slices(bucket: Bucket, at: float, priority: Priority) -> State:
    state, kept, reserve = bucket.state, _kept(bucket, at), _reserve(bucket)
    number = math.floor(at / _slice(bucket.limit))
    plain = sum(calls - lent for _, calls, lent in kept)
    is_lent = priority is Priority.BACKGROUND and reserve > 0 and plain >= bucket.allowed - reserve
    lent_at = max(at, state.lent_at) + bucket.limit.seconds / reserve if is_lent else state.lent_at
    counts, lent = {each: calls for each, calls, _ in kept}, {each: calls for each, _, calls in kept if calls}
    counts[number] = counts.get(number, 0) + 1
    if is_lent:
        lent[number] = lent.get(number, 0) + 1
    return state._replace(counts=counts, lent=lent, lent_at=lent_at)


def _kept(bucket: Bucket, at: float) -> list[tuple[int, int, int]]:
    """The slices that may share a window with a slot at `at`, oldest first: number, calls, those of them lent."""
    first, lent = _first_slice(bucket.limit, at), bucket.state.lent
    return sorted((each, calls, lent.get(each, 0)) for each, calls in bucket.state.counts.items() if each >= first)


def _reserve(bucket: Bucket) -> int:
    return int(bucket.allowed * RESERVED)


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


def _by_its_reset(bucket: Bucket, now: float) -> Bucket:
    """With the counts of another reset carried over: each counts on every day that some of its calls may belong to."""
    limit, state = bucket.limit, bucket.state
    if limit.kind is not Kind.FIXED or state.reset in (None, limit.reset):
        return bucket
    before, counts = replace(limit, reset=state.reset), Counter[int]()
    for day, calls in state.counts.items():
        first = _begins(before, day) - LATENESS - _GUARD
        last = min(_begins(before, day + 1) + _GUARD, max(now, state.seen) + LATENESS)
        counts.update(dict.fromkeys(range(_day(limit, first), _day(limit, last) + 1), calls))
    return bucket._replace(state=state._replace(counts=counts, reset=limit.reset))


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
