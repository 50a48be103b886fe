"""Limits on calls in flight: who has a seat, and until when.

A seat is leased: whoever dies leaves it to run out, since the call that it made may still be under way at the partner.
Times are seconds of the ledger's clock.
"""

from __future__ import annotations

from collections.abc import Mapping

Holders = Mapping[str, float]
"""By holder: until when its seat is taken, exclusive."""


def with_seat(seats: Holders, holder: str, most: int, now: float, until: float) -> Holders | None:
    """With a seat for `holder` until then, a new one or the one that it has; None: all `most` are taken."""
    alive = taken(seats, now)
    if holder not in alive and len(alive) >= most:
        return None
    return {**alive, holder: max(until, alive.get(holder, until))}


def without(seats: Holders, holder: str, now: float) -> Holders:
    """After `holder` has left."""
    return {each: until for each, until in taken(seats, now).items() if each != holder}


def taken(seats: Holders, now: float) -> Holders:
    """Those that are taken now."""
    return {each: until for each, until in seats.items() if until > now}
