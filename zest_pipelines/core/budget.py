"""Whether a call may go, under all the limits that it falls under at once.

Every limit is paced (the generic cell rate algorithm with a burst of one): its calls are spread evenly
over a little more than the window. A bucket of calls that refills would let two bursts fall into one
sliding window; so would a count by calendar minute, as measurements showed (39 calls where 20 were
allowed).

Why a little more than the window: a call leaves up to LATENESS after its slot, so N + 1 slots must span
the window W plus that lateness J. The margin is thus at most W / (W + J): 98.3 % of the limit for a
minute, 50 % for a second. It holds for every half-open window of W seconds, and therefore for windows with
a fixed reset too, which are paced all the same for now. A call later than that must not be sent; its slot
stays spent.

Calls in flight are not counted here: a `Concurrency` has no pace, and the types keep it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from partners.limits import Limit, LimitScope, Rate

LATENESS = timedelta(seconds=1)
"""A call leaves less than this after its slot, or not at all."""

_MOST_PER_MILLE = 983
"""Of a limit, however long its window: ten simulated hours at 985 were over by one call."""

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Bucket:
    """A limit and how far it is spent."""

    limit: Rate
    tat: datetime | None
    """When its next call may leave (theoretical arrival time); None: never used."""
    closed_until: datetime | None = None
    """When the partner wants to hear of us again (Retry-After); None: it is open."""


@dataclass(frozen=True)
class Granted:
    """The calls that are now reserved; the buckets must be stored with their new times."""

    send_at: tuple[datetime, ...]
    """When each may leave, in rising order: at least one, as many as were asked for at most."""
    tats: tuple[datetime, ...]
    """Each bucket's new time, in the order of the buckets."""


@dataclass(frozen=True)
class Wait:
    """Nothing was reserved in any bucket."""

    until: datetime
    """When to ask again; others may have been faster by then."""


def applies(limit: Limit, endpoint: str) -> bool:
    """Whether a call to `endpoint` falls under the limit."""
    return limit.scope is not LimitScope.ENDPOINT or limit.endpoint == endpoint


def interval(limit: Rate) -> timedelta:
    """Time from one slot to the next, rounded up to the microsecond."""
    window = timedelta(seconds=limit.seconds) // _TICK
    spread = max(-(-window * 1000 // _MOST_PER_MILLE), window + LATENESS // _TICK)
    return -(-spread // limit.calls) * _TICK


def admit(buckets: Sequence[Bucket], now: datetime, calls: int, horizon: timedelta) -> Granted | Wait:
    """Reserve up to `calls` slots that lie at most `horizon` ahead, in all buckets or in none.

    `buckets` are those that apply to the calls; with none every call may leave now. `now` is the ledger's
    clock, read after its rows were locked: a time read before the wait for the lock once let 23 of 20
    through.

    A slot ahead of now is never given where only the tenant's own limits are what holds it up: the
    vendor's bucket would stand idle until then, and with it every other tenant. That tenant waits instead.
    Raises ValueError for fewer than one call.
    """
    if calls < 1:
        raise ValueError("at least one call must be asked for")
    free = [_free(bucket, now) for bucket in buckets]
    send_at: list[datetime] = []
    while len(send_at) < calls and _ask_again_at(buckets, free, now, horizon) <= now:
        slot = max(free, default=now)
        send_at.append(slot)
        free = [slot + interval(bucket.limit) for bucket in buckets]
    if send_at:
        return Granted(tuple(send_at), tuple(free))
    return Wait(_ask_again_at(buckets, free, now, horizon))


def _free(bucket: Bucket, now: datetime) -> datetime:
    return max(now, bucket.tat or now, bucket.closed_until or now)


def _ask_again_at(buckets: Sequence[Bucket], free: Sequence[datetime], now: datetime, horizon: timedelta) -> datetime:
    """When the next slot can be reserved: `horizon` ahead, or not ahead if a vendor's bucket would idle."""
    slot = max(free, default=now)
    by_scope = [(bucket.limit.scope, at) for bucket, at in zip(buckets, free, strict=True)]
    vendor = max((at for scope, at in by_scope if scope is LimitScope.VENDOR), default=slot)
    return slot if vendor < slot else slot - horizon
