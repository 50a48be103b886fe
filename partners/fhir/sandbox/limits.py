"""The rate limit as a partner counts it: the oracle for "in no window more calls than allowed".

A sliding log, exact at every instant: it keeps the time of each admitted call and forgets none too early.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from partners.fhir.sandbox.config import Limit


@dataclass(frozen=True)
class LimitCounts:
    """Calls since the start, and the most that ever stood in one window."""

    admitted: int = 0
    refused: int = 0
    peak: int = 0


class Limiter:
    """Counts calls against one limit; without a limit it admits all, and counts them."""

    def __init__(self, limit: Limit | None = None) -> None:
        self.limit = limit
        self.counts = LimitCounts()
        self._log: deque[float] = deque()

    def admit(self, now: float) -> int | None:
        """None if the call at `now` (seconds, never falling) is admitted, else whole seconds to wait, at least 1."""
        before = self.counts
        if self.limit is None:
            self.counts = LimitCounts(before.admitted + 1, before.refused, before.peak)
            return None
        # <=: a call exactly one window old has left it, so a caller who waits the seconds told is admitted.
        while self._log and self._log[0] <= now - self.limit.seconds:
            self._log.popleft()
        if len(self._log) >= self.limit.calls:
            self.counts = LimitCounts(before.admitted, before.refused + 1, before.peak)
            oldest = self._log[len(self._log) - self.limit.calls]
            return max(1, math.ceil(oldest + self.limit.seconds - now))
        self._log.append(now)
        self.counts = LimitCounts(before.admitted + 1, before.refused, max(before.peak, len(self._log)))
        return None
