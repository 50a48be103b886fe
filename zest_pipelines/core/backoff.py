"""How long to leave a partner alone after a failure: exponential, with full jitter.

Full jitter (anything from zero to the exponential step) spreads a thousand records that failed together
over the whole step, where a fixed delay would send them back in one blow.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

BASE = timedelta(seconds=5)
CAP = timedelta(minutes=15)

_STEPS = 32
"""Doublings after which every cap is reached: keeps the power small for a record that failed for months."""


def delay(attempt: int, random: Callable[[], float]) -> timedelta:
    """Time before attempt `attempt` (first retry: 1): from nothing to CAP.

    `random` gives a number from 0 inclusive to 1 exclusive. Raises ValueError for an attempt below 1.
    """
    if attempt < 1:
        raise ValueError("the first retry is attempt 1")
    step: timedelta = min(CAP, BASE * 2 ** min(attempt - 1, _STEPS))
    return step * random()
