"""Rules of the ledger, each broken on purpose: the partner that counts must be seen to notice.

A mutant is patched into the processes that call (`caller_process`); the product's code knows of none. Each takes the
place of one small function, so that it breaks one rule and no other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from zest_pipelines.core import budget
from zest_pipelines.core.budget import Bucket, Granted, Wait
from zest_pipelines.flows import gate
from zest_pipelines.store import budgets

Swap = tuple[object, str, Callable[[Any], Any]]
"""An owner, one of its names, and what makes the broken one of the real one."""


@dataclass(frozen=True)
class LedgerMutant:
    """One rule, broken."""

    breaks: str
    """What is not done any more."""
    scene: str
    """The name of the scene, in `ledger_scenes`, in which the partner notices."""
    swaps: tuple[Swap, ...]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block, the rule is broken in this process."""
        with ExitStack() as stack:
            for owner, name, broken in self.swaps:
                stack.enter_context(patch.object(owner, name, broken(getattr(owner, name))))
            yield


# --- How the rules are broken ---------------------------------------------------------------------------------------


def _by_worker_clock(real: Any) -> Any:
    def lock(*given: Any) -> Any:
        states, _ = real(*given)
        return states, datetime.fromtimestamp(time.time(), UTC)  # the process has `time.time` put off

    return lock


def _unlocked(real: Any) -> Any:
    assert real.sql.count("FOR UPDATE") == 1, "the query does not hold what is to be broken"
    return replace(real, sql=real.sql.replace("FOR UPDATE", ""))


def _constant(value: object) -> Callable[[Any], Any]:
    return lambda _: value


def _never_late(real: Any) -> Any:
    return lambda *given: real(*given[:-1], float("inf"))


def _of_this_process(real: Any) -> Any:
    return lambda *given: f"{real(*given)}/{os.getpid()}"


def _calendar(_: Any) -> Any:
    """Counts by calendar window, of the first bucket alone; its time says the window, its microseconds the count."""
    tick = timedelta(microseconds=1)

    def admit(buckets: Sequence[Bucket], now: datetime, calls: int, horizon: timedelta) -> Granted | Wait:
        limit, tat = buckets[0].limit, buckets[0].tat
        start = datetime.fromtimestamp(now.timestamp() // limit.seconds * limit.seconds, UTC)
        count = (tat - start) // tick if tat and tat >= start else 0
        if count >= limit.calls:
            return Wait(start + timedelta(seconds=limit.seconds))
        return Granted((now,), (start + (count + 1) * tick,))

    return admit


LEDGER_MUTANTS: dict[str, LedgerMutant] = {
    "worker clock": LedgerMutant(
        "slots go by the clock of the process that asks",
        "clocks apart",
        ((budgets, "lock", _by_worker_clock),),
    ),
    "count then insert": LedgerMutant(
        "buckets are read without a lock",
        "at work",
        ((budgets, "_LOCK", _unlocked),),
    ),
    "calendar window": LedgerMutant(
        "calls are counted by calendar window",
        "at work",
        ((gate, "admit", _calendar),),
    ),
    "no margin": LedgerMutant(
        "slots leave no room for lateness",
        "at work",
        ((budget, "LATENESS", _constant(timedelta(0))), (budget, "_MOST_PER_MILLE", _constant(1000))),
    ),
    "no deadline": LedgerMutant(
        "a slot may be used however late",
        "frozen in turn",
        ((gate, "Slot", _never_late),),
    ),
    "budget per process": LedgerMutant(
        "each process keeps buckets of its own",
        "at work",
        ((gate, "bucket_name", _of_this_process),),
    ),
}
