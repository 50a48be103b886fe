"""The limits as a partner counts them: the oracles for "never more calls than allowed".

Each counts by itself, exactly, from the instants it is given: it shares no code and no rounding with whatever paces
the calls, so it can be that one's judge. `now` is in seconds of one clock that never falls; no oracle reads a clock.
A call that falls under several is admitted by all or by none (`admit`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True)
class Counts:
    """What one oracle has seen since it began."""

    admitted: int = 0
    refused: int = 0
    """Calls that this oracle refused; one that only another refused is in neither number."""
    peak: int = 0
    """Most admitted calls that ever stood in one window, in the bucket (rounded up) or in flight."""
    seen: int = 0
    """Most calls that ever came in one window, the refused too. Windows only."""
    over: int = 0
    """Most calls by which a window was ever asked for more than was allowed at the time. Windows only."""


@dataclass(frozen=True)
class Standing:
    """What a partner can tell of a limit beside its answer."""

    quota: int
    """Calls that it allows at once or in a window."""
    window: float
    """Seconds of a window; of a leaky bucket, seconds in which a full one runs dry."""
    remaining: int
    """Calls that would be admitted now."""
    reset: float
    """Seconds until more than `remaining` would be; 0 where nothing has been used. Not when all is restored."""


class Oracle(Protocol):
    """One limit of one caller, endpoint or of all."""

    @property
    def counts(self) -> Counts:
        """What it has seen so far."""

    def see(self, now: float) -> None:
        """A call has come, whatever becomes of it."""

    def wait(self, now: float) -> float:
        """Seconds until a call would be admitted; 0: at once."""

    def take(self, now: float) -> None:
        """Count a call as admitted; `wait` at this `now` was 0."""

    def refuse(self) -> None:
        """Count a call as refused by this one."""

    def standing(self, now: float) -> Standing | None:
        """What can be told of it; None: nothing with a time."""


def admit(oracles: Sequence[Oracle], now: float) -> float:
    """Let a call at `now` in by all of `oracles` or by none: 0 if it is in, else the seconds until it would be."""
    for oracle in oracles:
        oracle.see(now)
    waits = [oracle.wait(now) for oracle in oracles]
    longest = max(waits, default=0.0)
    for oracle, wait in zip(oracles, waits, strict=True):
        if longest == 0:
            oracle.take(now)
        elif wait > 0:
            oracle.refuse()
    return longest


class Counted:
    """The counts that every oracle keeps."""

    def __init__(self) -> None:
        self.counts = Counts()

    def see(self, now: float) -> None:
        """Nothing to note: only windows tell how many came."""

    def refuse(self) -> None:
        """Count a call as refused by this one."""
        self.counts = replace(self.counts, refused=self.counts.refused + 1)

    def _admitted(self, level: int) -> None:
        before = self.counts
        self.counts = replace(before, admitted=before.admitted + 1, peak=max(before.peak, level))

    def _asked(self, seen: int, allowed: int) -> None:
        before = self.counts
        self.counts = replace(before, seen=max(before.seen, seen), over=max(before.over, seen - allowed))


class SlidingLog(Counted):
    """At most `calls` in any window of `seconds`, at every instant. `calls` may change: what was counted stays."""

    def __init__(self, calls: int, seconds: float) -> None:
        super().__init__()
        self.calls = calls
        self.seconds = seconds
        self._log: deque[float] = deque()
        self._seen: deque[float] = deque()

    def see(self, now: float) -> None:
        """A call has come, whatever becomes of it."""
        self._forget(self._seen, now)
        self._seen.append(now)
        self._asked(len(self._seen), self.calls)

    def wait(self, now: float) -> float:
        """Seconds until a call would be admitted; 0: at once."""
        self._forget(self._log, now)
        if len(self._log) < self.calls:
            return 0.0
        return self._log[len(self._log) - self.calls] + self.seconds - now

    def take(self, now: float) -> None:
        """Count a call as admitted; `wait` at this `now` was 0."""
        self._log.append(now)
        self._admitted(len(self._log))

    def standing(self, now: float) -> Standing:
        """What is left in the window that ends now, and when its oldest call leaves it."""
        wait = self.wait(now)
        oldest = self._log[0] + self.seconds - now if self._log else 0.0
        return Standing(self.calls, self.seconds, max(0, self.calls - len(self._log)), wait or oldest)

    def _forget(self, log: deque[float], now: float) -> None:
        # <=: a call exactly one window old has left it, so a caller who waits the seconds told is admitted.
        while log and log[0] <= now - self.seconds:
            log.popleft()


class FixedWindow(Counted):
    """At most `calls` in each window that begins at `offset` plus a multiple of `seconds`, on the clock of `now`.

    `calls` may change: what was counted stays.
    """

    def __init__(self, calls: int, seconds: float, offset: float = 0.0) -> None:
        super().__init__()
        self.calls = calls
        self.seconds = seconds
        self.offset = offset
        self._number: int | None = None
        """The window in which `_taken` and `_came` were counted; None: no call yet."""
        self._taken = 0
        self._came = 0

    def see(self, now: float) -> None:
        """A call has come, whatever becomes of it."""
        self._turn(now)
        self._came += 1
        self._asked(self._came, self.calls)

    def wait(self, now: float) -> float:
        """Seconds until a call would be admitted; 0: at once."""
        end = self._turn(now)
        return 0.0 if self._taken < self.calls else end - now

    def take(self, now: float) -> None:
        """Count a call as admitted; `wait` at this `now` was 0."""
        self._turn(now)
        self._taken += 1
        self._admitted(self._taken)

    def standing(self, now: float) -> Standing:
        """What is left in this window, and when the next begins."""
        end = self._turn(now)
        return Standing(self.calls, self.seconds, max(0, self.calls - self._taken), end - now if self._taken else 0.0)

    def _turn(self, now: float) -> float:
        """Begin anew if `now` lies in another window than the last call; the end of its window."""
        number = math.floor((now - self.offset) / self.seconds)
        if number != self._number:
            self._number, self._taken, self._came = number, 0, 0
        return self.offset + (number + 1) * self.seconds
