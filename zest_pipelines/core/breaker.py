"""The breaker of one connection: after which failures its calls stay away, and for how long.

A failure is an answer that tells of the whole connection, such as a refused credential or no answer at all; a push
that meets one stops, so each push counts once. What a person has to cure opens the breaker at once: trying again cures
nothing. Everything else may pass by itself, so it opens at the third failure in a row and stays open for longer each
time. Once it is over, one call is tried before all others; any answer about a record itself closes it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from partners.reasons import Owner, Reason

PERSON = timedelta(minutes=15)
"""How long a fault is left alone that only a person can cure, unless somebody changes the connection before."""
BASE = timedelta(seconds=30)
CAP = timedelta(minutes=15)
OPENS_AT = 3
"""Failures in a row that may pass by themselves."""

_STEPS = 16
"""Doublings after which the cap is reached: keeps the power small for a partner that is away for months."""


def stays_away(why: Reason, failures: int, random: Callable[[], float]) -> timedelta:
    """How long to send nothing after the `failures`-th failure in a row (first: 1); zero: the breaker stays closed.

    `random` gives a number from 0 inclusive to 1 exclusive: half of each step is chance, so that tenants whose partner
    went away together do not come back in one blow. Raises ValueError for a number of failures below 1.
    """
    if failures < 1:
        raise ValueError("the first failure is number 1")
    if why.owner is Owner.USER and not why.retried:
        return PERSON
    if failures < OPENS_AT:
        return timedelta(0)
    step: timedelta = min(CAP, BASE * 2 ** min(failures - OPENS_AT, _STEPS))
    return step * (1 + random()) / 2
