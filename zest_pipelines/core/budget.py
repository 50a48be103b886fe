"""Whether calls may go, under all the limits that they fall under at once: granted all of it or none.

Slots are given no further than HORIZON ahead, so that what lies further is for who comes first then, and a limit that
was closed meanwhile costs few of them. A slot ahead of now is never given where only the tenant's own limits are what
holds it up: what all share would stand idle until then, and with it every other tenant. That tenant waits instead.

Where several wait for a limit that has a pace, they have turns there (`turns`): at the widest one alone. Two queues in
which two tenants stand the other way round would hold up both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from partners.limits import Limit, LimitScope
from zest_pipelines.core import turns
from zest_pipelines.core.belief import doubted, relaxed
from zest_pipelines.core.meters import Bucket, aligned, first_slot, slot_after, spent
from zest_pipelines.core.turns import Who
from zest_pipelines.core.usage import doubtful, noted

HORIZON = 0.4
"""Seconds, inclusive. More would keep lanes waiting with slots in their hands, most of all those of a great weight."""
_SOONEST = 0.005
"""Seconds after which it is asked again at the earliest."""


@dataclass(frozen=True)
class Ask:
    """What is wanted."""

    who: Who
    calls: int
    """At least one; fewer may be granted."""
    waits_until: float
    """Until when it goes on asking; beyond that it has no place in a queue."""


@dataclass(frozen=True)
class Granted:
    """The calls that are now reserved."""

    send_at: tuple[float, ...]
    """When each may leave, in rising order: at least one."""
    buckets: tuple[Bucket, ...]
    """To be stored."""


@dataclass(frozen=True)
class Wait:
    """Nothing was reserved in any bucket."""

    until: float
    """When to ask again; others may have been faster by then."""
    buckets: tuple[Bucket, ...]
    """To be stored: the one in whose queue it waits, if any, and those that a clock that went back has moved."""


def applies(limit: Limit, endpoint: str) -> bool:
    """Whether a call to `endpoint` falls under the limit."""
    return limit.scope is not LimitScope.ENDPOINT or limit.endpoint == endpoint


def admit(buckets: Sequence[Bucket], ask: Ask, now: float) -> Granted | Wait:
    """Reserve up to `ask.calls` slots, in all buckets or in none.

    `buckets` are those that apply to the calls; with none every call may leave now. `now` is the ledger's clock, read
    after its rows were locked: a time read before the wait for the lock once let 23 of 20 through. Raises ValueError
    for fewer than one call.
    """
    if ask.calls < 1:
        raise ValueError("at least one call must be asked for")
    shifted = [aligned(bucket, now) for bucket in buckets]
    found = [_believed(bucket, now) for bucket in shifted]
    queued = _queued(found)
    contested = None if queued is None or turns.is_alone(found[queued].state.queue, ask.who, now) else queued
    send_at: list[float] = []
    until = now
    while len(send_at) < ask.calls:
        at = _slot(found, ask, now)
        until = _next(found, contested, ask, now, at)
        if until > now:
            break
        found = [spent(bucket, at, ask.who.priority) for bucket in found]
        if contested is not None:
            found[contested] = _with_turn(found[contested], ask, now, at)
        send_at.append(at)
    if queued is not None:
        if contested is None and send_at:
            found[queued] = _with_turn(found[queued], ask, now, now, len(send_at))
        found[queued] = _left(found[queued], ask, now, until, send_at)
    stored = [bucket._replace(state=noted(bucket, now, len(send_at))) for bucket in found]
    if send_at:
        return Granted(tuple(send_at), tuple(stored))
    is_moved = [new is not old for new, old in zip(shifted, buckets, strict=True)]
    return Wait(until, tuple(each for number, each in enumerate(stored) if is_moved[number] or number == queued))


def refused(buckets: Sequence[Bucket], now: float, rest: float | None) -> tuple[Bucket, ...]:
    """The buckets after the partner has refused a call that they allowed: which of them it spoke of is believed less.

    Those alone that have changed. `rest`: seconds for which it wants to be left alone; None: it named no time.
    """
    return tuple(
        bucket._replace(state=bucket.state._replace(belief=belief))
        for bucket in doubtful(buckets, now, rest)
        if (belief := doubted(bucket.state.belief, now, bucket.limit.seconds)) != bucket.state.belief
    )


def _believed(bucket: Bucket, now: float) -> Bucket:
    """With quiet windows heeded; where nothing was called nothing was learnt."""
    belief = bucket.state.belief
    eased = relaxed(belief, now, bucket.limit.seconds)
    return bucket if eased is belief else bucket._replace(state=bucket.state._replace(belief=eased))


def _queued(buckets: Sequence[Bucket]) -> int | None:
    """Which bucket's queue is waited in: the widest scope's; of several the first by its text."""
    widest = list(LimitScope)
    paced = [number for number, bucket in enumerate(buckets) if bucket.is_shared]
    return min(
        paced, key=lambda each: (widest.index(buckets[each].limit.scope), str(buckets[each].limit)), default=None
    )


def _slot(buckets: Sequence[Bucket], ask: Ask, now: float) -> float:
    """The earliest time at which all of them have a call left."""
    at, before = now, None
    while at != before:
        before = at
        for bucket in buckets:
            at = first_slot(bucket, at, ask.who.priority)
    return at


def _next(buckets: Sequence[Bucket], contested: int | None, ask: Ask, now: float, slot: float) -> float:
    """When the next slot, at `slot`, can be reserved; `contested`: the bucket in whose queue others wait as well."""
    shared = [bucket for bucket in buckets if bucket.limit.scope is LimitScope.VENDOR]
    if shared and _slot(shared, ask, now) < slot:
        return slot
    if contested is not None:
        bucket = buckets[contested]
        others = turns.rivals(bucket.state.queue, ask.who, now, slot)
        if not turns.is_next(bucket.state.queue, ask.who, others):
            slot = slot_after(bucket, slot, turns.ahead(bucket.state.queue, ask.who, others))
            return max(now + _SOONEST, slot - HORIZON)
    return slot - HORIZON


def _with_turn(bucket: Bucket, ask: Ask, now: float, at: float, slots: int = 1) -> Bucket:
    queue = bucket.state.queue
    others = turns.rivals(queue, ask.who, now, at)
    return bucket._replace(state=bucket.state._replace(queue=turns.served(queue, ask.who, others, slots)))


def _left(bucket: Bucket, ask: Ask, now: float, until: float, send_at: Sequence[float]) -> Bucket:
    """The queued bucket, with who asked in its place for the calls that it still wants, if it will come for them."""
    waits = len(send_at) < ask.calls and until <= ask.waits_until
    queue = turns.placed(bucket.state.queue, ask.who, until if waits else None)
    return bucket._replace(state=bucket.state._replace(queue=turns.pruned(queue, now)))
