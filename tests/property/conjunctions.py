"""Senders under several limits at once, in simulated time, and what a partner and the best sender would say of them.

A tenant's sender works as a push does: it has lanes, each with a seat under every limit on calls in flight, asks for as
many slots as it has lanes free and work waiting, and comes again when told to. The partner's count is a log of the
calls' times, counted anew for each window of each limit; it knows nothing of slots, seats and margins.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle

from partners.limits import Concurrency, Kind, Limit, LimitScope, Rate
from zest_pipelines.core import budget
from zest_pipelines.core.budget import Ask, Granted
from zest_pipelines.core.meters import Bucket
from zest_pipelines.core.seats import Holders, with_seat, without
from zest_pipelines.core.turns import Priority, Who

START = 1_800_000_000.0
DAY = 86_400
CALL = 40.0
"""Seconds: no call is at work at the partner for longer."""
SEAT = CALL + 10.0
"""Seconds for which a seat is leased."""
_MOST_LANES = 20
ROUNDING = 1e-5
"""Seconds: what a float of so many seconds does not tell apart."""


@dataclass(frozen=True)
class Call:
    """What becomes of one call."""

    late: float
    """Seconds from its slot to when it leaves, below one."""
    takes: float
    """Seconds from when it leaves until the partner has done with it."""
    is_lost: bool = False
    """Its answer does not come: the sender gives it up halfway, while the partner is still at work on it."""


@dataclass(frozen=True)
class Work:
    """One tenant's."""

    arrivals: tuple[tuple[float, int], ...]
    """Seconds from the start, rising, and how many calls come then."""
    calls: tuple[Call, ...]
    """What becomes of them, in turn."""
    priority: Priority = Priority.PEOPLE


@dataclass(frozen=True)
class Sent:
    """One call, as it was."""

    tenant: int
    slot: float
    at: float
    """When it left."""
    until: float
    """When the partner had done with it, exclusive."""


# --- The senders ------------------------------------------------------------------------------------------------------


@dataclass
class _Lane:
    holder: str
    is_busy: bool = False


@dataclass
class _Sender:
    number: int
    work: Work
    fates: Iterator[Call]
    waiting: int = 0
    lanes: list[_Lane] = field(default_factory=list)
    is_coming: float | None = None
    """When it comes again by itself."""


class Simulation:
    """All tenants' senders under the same limits, until all is sent."""

    def __init__(self, limits: Sequence[Limit], works: Sequence[Work]) -> None:
        self.sent: list[Sent] = []
        self._rates = [each for each in limits if isinstance(each, Rate)]
        self._seated = [each for each in limits if isinstance(each, Concurrency)]
        self._buckets: dict[tuple[Rate, int | None], Bucket] = {}
        self._seats: dict[tuple[Concurrency, int | None], Holders] = {}
        self._seatless: list[_Sender] = []
        self._names = count()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        senders = [_Sender(number, work, cycle(work.calls)) for number, work in enumerate(works)]
        for sender in senders:
            for after, calls in sender.work.arrivals:
                self._at(START + after, lambda now, sender=sender, calls=calls: self._arrive(sender, calls, now))
        while self._events:
            at, _, act = heapq.heappop(self._events)
            act(at)

    def _at(self, at: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (at, next(self._order), act))

    def _arrive(self, sender: _Sender, calls: int, now: float) -> None:
        sender.waiting += calls
        self._visit(sender, now)

    def _come(self, sender: _Sender, now: float) -> None:
        if sender.is_coming == now:
            sender.is_coming = None
            self._visit(sender, now)

    def _come_at(self, sender: _Sender, at: float) -> None:
        if sender.is_coming is None or at < sender.is_coming:
            sender.is_coming = at
            self._at(at, lambda now: self._come(sender, now))

    def _visit(self, sender: _Sender, now: float) -> None:
        """Send what can be sent; where nothing waits, go home."""
        if not sender.waiting:
            for lane in [lane for lane in sender.lanes if not lane.is_busy]:
                sender.lanes.remove(lane)
                self._leave_seats(sender, lane, now)
            return
        while sender.waiting and (free := self._free_lanes(sender, now)):
            buckets = [self._bucket(rate, sender) for rate in self._rates]
            who = Who(str(sender.number), sender.work.priority)
            answer = budget.admit(buckets, Ask(who, min(sender.waiting, len(free)), math.inf), now)
            for bucket in answer.buckets:
                self._buckets[bucket.limit, _owner(bucket.limit, sender)] = bucket
            if not isinstance(answer, Granted):
                self._come_at(sender, answer.until)
                return
            for lane, slot in zip(free, answer.send_at, strict=False):
                sender.waiting -= 1
                lane.is_busy = True
                call = next(sender.fates)
                self._at(
                    slot + call.late,
                    lambda at, lane=lane, slot=slot, call=call: self._send(sender, lane, slot, call, at),
                )
        if sender.waiting and not sender.lanes:
            self._come_for_a_seat(sender, now)

    def _send(self, sender: _Sender, lane: _Lane, slot: float, call: Call, now: float) -> None:
        if not self._holds_seats(sender, lane, now):
            sender.lanes.remove(lane)
            sender.waiting += 1
            self._visit(sender, now)
            return
        self.sent.append(Sent(sender.number, slot, now, now + call.takes))
        heard = call.takes / 2 if call.is_lost else call.takes
        self._at(now + heard, lambda at: self._heard(sender, lane, call, at))

    def _heard(self, sender: _Sender, lane: _Lane, call: Call, now: float) -> None:
        lane.is_busy = False
        if call.is_lost:
            sender.lanes.remove(lane)  # its seat stays behind
        self._visit(sender, now)

    # --- What the ledger keeps ----------------------------------------------------------------------------------------

    def _bucket(self, rate: Rate, sender: _Sender) -> Bucket:
        return self._buckets.get((rate, _owner(rate, sender))) or Bucket(rate)

    def _free_lanes(self, sender: _Sender, now: float) -> list[_Lane]:
        """Those that have their seats for a call that begins now."""
        idle = [lane for lane in sender.lanes if not lane.is_busy]
        for lane in [lane for lane in idle if not self._holds_seats(sender, lane, now)]:
            sender.lanes.remove(lane)
        while len(sender.lanes) < min(_MOST_LANES, sender.waiting + sum(lane.is_busy for lane in sender.lanes)):
            lane = _Lane(str(next(self._names)))
            if not self._holds_seats(sender, lane, now):
                break
            sender.lanes.append(lane)
        return [lane for lane in sender.lanes if not lane.is_busy]

    def _holds_seats(self, sender: _Sender, lane: _Lane, now: float) -> bool:
        """Whether it has a seat under every limit for a call that begins now."""
        found: dict[tuple[Concurrency, int | None], Holders] = {}
        for limit in self._seated:
            key = limit, _owner(limit, sender)
            seats = with_seat(self._seats.get(key, {}), lane.holder, limit.allowed, now, now + SEAT)
            if seats is None:
                return False
            found[key] = seats
        self._seats |= found
        return True

    def _leave_seats(self, sender: _Sender, lane: _Lane, now: float) -> None:
        for limit in self._seated:
            key = limit, _owner(limit, sender)
            self._seats[key] = without(self._seats.get(key, {}), lane.holder, now)
        for other in self._seatless:
            self._come_at(other, now)
        self._seatless.clear()

    def _come_for_a_seat(self, sender: _Sender, now: float) -> None:
        """When one has run out, or before that when one is left."""
        self._seatless.append(sender)
        self._come_at(sender, min(until for each in self._seats.values() for until in each.values() if until > now))


def _owner(limit: Limit, sender: _Sender) -> int | None:
    return None if limit.scope is LimitScope.VENDOR else sender.number


# --- The partner ------------------------------------------------------------------------------------------------------


def broken(limits: Sequence[Limit], sent: Sequence[Sent]) -> list[Limit]:
    """The limits that were exceeded, as a partner that counts every window exactly says."""
    of_each = [[each for each in sent if each.tenant == tenant] for tenant in {each.tenant for each in sent}]
    return [
        limit
        for limit in limits
        if not all(keeps(limit, log) for log in ([sent] if limit.scope is LimitScope.VENDOR else of_each))
    ]


def keeps(limit: Limit, sent: Sequence[Sent]) -> bool:
    """Whether these calls, which it counts together, never exceeded it."""
    if isinstance(limit, Concurrency):
        return all(
            sum(each.at <= at < each.until - ROUNDING for each in sent) <= limit.in_flight
            for at in (each.at for each in sent)
        )
    return is_kept([each.at for each in sent], limit)


def is_kept(sent: Sequence[float], limit: Rate) -> bool:
    """Whether a partner that counts exactly refuses none of the calls."""
    ordered = sorted(sent)
    if limit.burst is not None:
        level, last = 0.0, ordered[0] if ordered else 0.0
        for at in ordered:
            level = max(0.0, level - (at - last) * limit.calls / limit.seconds) + 1
            last = at
            if level > limit.burst + ROUNDING:
                return False
        return True
    if limit.reset is not None:
        days = Counter((at - resets(limit)) // DAY for at in ordered)
        return max(days.values(), default=0) <= limit.calls
    return all(
        ordered[number + limit.calls] - at >= limit.seconds - ROUNDING
        for number, at in enumerate(ordered[: max(0, len(ordered) - limit.calls)])
    )


def resets(limit: Rate) -> float:
    """Seconds of the first reset of the epoch, by Japan's clock."""
    assert limit.reset is not None
    return limit.reset.hour * 3600 + limit.reset.minute * 60 - 9 * 3600


# --- The best sender --------------------------------------------------------------------------------------------------


def best_slots(limits: Sequence[Limit], arrivals: Sequence[float], takes: Callable[[int], float]) -> list[float]:
    """When the best sender of calls that are alike sends each of them, with limits that are 3 % longer than they are.

    It keeps the limits as docs/limits.md says that they are spent: evenly, in bursts or as seats come free; and has the
    margins that stand there, where they are more than that. `arrivals` in rising order; `takes`: how long the call of
    that number is in flight. No later call can go earlier because an earlier one waits, so nobody sends more by then.
    """
    slots: list[float] = []
    ends: list[float] = []
    meters = [_meter(limit) for limit in limits if isinstance(limit, Rate)]
    most = min([each.allowed for each in limits if isinstance(each, Concurrency)], default=_MOST_LANES)
    for number, arrival in enumerate(arrivals):
        at = max(arrival, slots[-1] if slots else 0.0)
        if number >= most:
            at = max(at, ends[-most])
        before = None
        while at != before:
            before = at
            for meter in meters:
                at = meter(slots, at)
        slots.append(at)
        insort(ends, at + takes(number))
    return slots


_TAKEN = 1.03
Meter = Callable[[Sequence[float], float], float]
"""From the slots before and a time on, the first time at which one more is allowed."""


def _meter(limit: Rate) -> Meter:
    spread = limit.seconds * _TAKEN
    match limit.kind:
        case Kind.PACED:
            pace = max(spread, limit.seconds + 1) / limit.allowed
            return lambda slots, at: max(at, slots[-1] + pace) if slots else at
        case Kind.LEAKY:
            assert limit.allowed_at_once is not None
            at_once = limit.allowed_at_once - math.ceil(limit.calls / limit.seconds)
            return _leaky(spread / limit.allowed, at_once)
        case Kind.COUNTED:
            return lambda slots, at: max(at, slots[-limit.allowed] + spread) if len(slots) >= limit.allowed else at
        case Kind.FIXED:
            return lambda slots, at: _in_days(limit, slots, at)


def _leaky(pace: float, at_once: int) -> Meter:
    def meter(slots: Sequence[float], at: float) -> float:
        full = 0.0
        for slot in slots:
            full = max(slot, full) + pace
        return max(at, full - (at_once - 1) * pace)

    return meter


def _in_days(limit: Rate, slots: Sequence[float], at: float) -> float:
    """The partner's clock may be 5 s off, and a call a second late: what leaves then counts on both days."""
    first, last = ((at + off - resets(limit)) // DAY for off in (-5, 6))
    for day in sorted({first, last}):
        begins = day * DAY + resets(limit)
        used = bisect_left(slots, begins + DAY + 5) - bisect_left(slots, begins - 6)
        if used >= limit.allowed:
            return _in_days(limit, slots, begins + DAY + 5)
    return at


def arrivals_of(works: Sequence[Work]) -> list[float]:
    """When each call of all these comes."""
    return sorted(START + after for work in works for after, calls in work.arrivals for _ in range(calls))
