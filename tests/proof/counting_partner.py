"""The handle on a partner that only counts (`counting_server`), and what its log says of the callers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

_PROGRAM = Path(__file__).with_name("counting_server.py")
Window = tuple[int, float]
"""Calls, and seconds."""


@dataclass(frozen=True)
class Seen:
    """One call, as the partner saw it."""

    at: float
    """Monotonic seconds."""
    caller: str
    is_admitted: bool
    in_flight: int
    """How many of the caller's were, with it."""


@dataclass(frozen=True)
class CountingPartner:
    """A running one."""

    url: str

    def log(self) -> list[Seen]:
        """Every call so far, in the order of arrival."""
        with urlopen(f"{self.url}/-/log", timeout=30) as answer:
            return [Seen(*row) for row in json.load(answer)]

    def allow(self, factor: float) -> None:
        """From now on allow `factor` of each window's limit, without a word to the callers."""
        urlopen(f"{self.url}/-/limits?factor={factor}", timeout=30).close()


@contextmanager
def running_counting(
    per_caller: Sequence[Window] = (),
    shared: Sequence[Window] = (),
    in_flight: int | None = None,
    latency: float = 0.0,
) -> Iterator[CountingPartner]:
    """A partner with such limits: of each caller, of all together, of each caller's calls in flight (None: any).

    It answers an admitted call after `latency` seconds, and a refused one at once. Gone at the end of the block.
    """
    told = {"per_caller": per_caller, "all": shared, "in_flight": in_flight, "latency": latency}
    with subprocess.Popen(
        [sys.executable, "-I", str(_PROGRAM), json.dumps(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield CountingPartner(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


def refused(log: Sequence[Seen]) -> int:
    """How many calls the partner refused."""
    return sum(not seen.is_admitted for seen in log)


def worst(log: Sequence[Seen], seconds: float) -> int:
    """The most calls, refused ones too, that arrived within any half-open window of so many seconds."""
    first = most = 0
    for last, seen in enumerate(log):
        while log[first].at <= seen.at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def utilisation(log: Sequence[Seen], window: Window) -> float:
    """Share of the limit that was used, from the first call to the last: gaps between calls, not calls."""
    calls, seconds = window
    admitted = [seen.at for seen in log if seen.is_admitted]
    if len(admitted) < 2:
        return 0.0
    return (len(admitted) - 1) / (admitted[-1] - admitted[0]) * seconds / calls


def of_each(log: Sequence[Seen]) -> dict[str, list[Seen]]:
    """The log of each caller."""
    callers = sorted({seen.caller for seen in log})
    return {caller: [seen for seen in log if seen.caller == caller] for caller in callers}
