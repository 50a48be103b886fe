"""The limits that are levels and not windows: a bucket that leaks, and calls in flight.

Judges as those in `limits`, and held to the same rules.
"""

from __future__ import annotations

import math

from partners.fhir.sandbox.limits import Counted, Standing

_SEAT_SECONDS = 1.0
"""What a caller is told to wait when too many calls are in flight: nobody knows when one ends."""
_DUST = 1e-9
"""Calls by which a leaky bucket may be too full: what is lost in adding up floats, and no more."""


class LeakyBucket(Counted):
    """Holds `size` calls and loses `per_second` each second; a call that would make it overflow is refused."""

    def __init__(self, size: float, per_second: float) -> None:
        super().__init__()
        self.size = size
        self.per_second = per_second
        self._level = 0.0
        self._at = -math.inf

    def resize(self, now: float, size: float, per_second: float) -> None:
        """Another size and leak from `now` on; what is in it stays in it."""
        self._leak(now)
        self.size, self.per_second = size, per_second

    def wait(self, now: float) -> float:
        """Seconds until a call would be admitted; 0: at once."""
        excess = self._leak(now) + 1 - self.size
        return excess / self.per_second if excess > _DUST else 0.0

    def take(self, now: float) -> None:
        """Count a call as admitted; `wait` at this `now` was 0."""
        self._level = self._leak(now) + 1
        self._admitted(math.ceil(self._level - _DUST))

    def standing(self, now: float) -> Standing:
        """How many calls still fit, and when one more would."""
        level = self._leak(now)
        remaining = max(0, math.floor(self.size - level + _DUST))
        reset = (level + remaining + 1 - self.size) / self.per_second if level > 0 else 0.0
        return Standing(math.floor(self.size), self.size / self.per_second, remaining, reset)

    def _leak(self, now: float) -> float:
        if self._level > 0:
            self._level = max(0.0, self._level - (now - self._at) * self.per_second)
        self._at = now
        return self._level


class InFlight(Counted):
    """At most `most` calls begun and not ended. `most` may change: who is in stays in."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.now = 0
        """Calls in flight."""

    def wait(self, now: float) -> float:
        """A second if all seats are taken (nobody knows when one is free), else 0."""
        return 0.0 if self.now < self.most else _SEAT_SECONDS

    def take(self, now: float) -> None:
        """A call begins; `wait` at this `now` was 0."""
        self.now += 1
        self._admitted(self.now)

    def release(self) -> None:
        """A call that was admitted has ended."""
        self.now -= 1

    def standing(self, now: float) -> None:
        """Nothing that has a time."""
