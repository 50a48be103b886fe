"""Limits on calls in flight: who has a seat, and until when.

A seat is leased: whoever dies leaves it to run out, since the call that it made may still be under way at the partner.
For a tenant whose push a person waits for, the next seat that comes free is kept. Times are seconds of the ledger's
clock.
"""

from __future__ import annotations

from collections.abc import Mapping

Holders = Mapping[str, float]
"""By holder: until when its seat is taken, exclusive; and by `_WISH` and tenant: until when one is kept for it."""

_WISH = "wish:"


def with_seat(
    seats: Holders, holder: str, most: int, now: float, until: float, asked_by: str | None = None
) -> Holders | None:
    """With a seat for `holder` until then, a new one or the one that it has; None: all `most` are taken, or kept.

    `asked_by`: the tenant whose push a person waits for, if it is one; nothing is kept from it.
    """
    alive = taken(seats, now)
    kept = {each: end for each, end in _kept(seats, now).items() if each != f"{_WISH}{asked_by}"}
    free = most - len(alive) - (len(kept) if asked_by is None else 0)
    if holder not in alive and free <= 0:
        return None
    return {**alive, **kept, holder: max(until, alive.get(holder, until))}


def with_wish(seats: Holders, tenant: str, now: float, until: float) -> Holders:
    """With the next seat kept for a person's push of `tenant`, until then."""
    return {**taken(seats, now), **_kept(seats, now), f"{_WISH}{tenant}": until}


def without(seats: Holders, holder: str, now: float) -> Holders:
    """After `holder` has left."""
    return {**{each: until for each, until in taken(seats, now).items() if each != holder}, **_kept(seats, now)}


def taken(seats: Holders, now: float) -> Holders:
    """Those that are taken now."""
    return {each: until for each, until in seats.items() if until > now and not each.startswith(_WISH)}


def _kept(seats: Holders, now: float) -> Holders:
    return {each: until for each, until in seats.items() if until > now and each.startswith(_WISH)}
