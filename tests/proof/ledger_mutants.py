"""Rules of the ledger, each broken on purpose: the partner that counts must be seen to notice.

A mutant is patched into the processes that call (`caller_process`); the product's code knows of none. Each takes the
place of one small function, so that it breaks one rule and no other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from swaps import Swap, swapped

from zest_pipelines.core import meters
from zest_pipelines.core.budget import Ask, Granted, Wait
from zest_pipelines.core.meters import Bucket
from zest_pipelines.flows import gate
from zest_pipelines.store import budgets


@dataclass(frozen=True)
class LedgerMutant:
    """One rule, broken."""

    breaks: str
    """What is not done any more."""
    scene: str
    """The name of the scene, in `ledger_scenes`, in which the partner notices."""
    swaps: tuple[Swap, ...]

    def applied(self) -> AbstractContextManager[None]:
        """Within the block, the rule is broken in this process."""
        return swapped(self.swaps)


def played(name: str | None) -> AbstractContextManager[None]:
    """Within the block, the mutant plays in this process; None: none does."""
    return nullcontext() if name is None else LEDGER_MUTANTS[name].applied()


# --- How the rules are broken ---------------------------------------------------------------------------------------


def _by_worker_clock(real: Any) -> Any:
    def lock(*given: Any) -> Any:
        states, _, new = real(*given)
        return states, time.time(), new  # the process has it put off

    return lock


def _unlocked(real: Any) -> Any:
    assert real.sql.count("FOR UPDATE") == 1, "the query does not hold what is to be broken"
    return replace(real, sql=real.sql.replace("FOR UPDATE", ""))


def _of_the_transaction(real: Any) -> Any:
    assert real.sql.count("clock_timestamp()") == 1, "the query does not hold what is to be broken"
    return replace(real, sql=real.sql.replace("clock_timestamp()", "now()"))


def _constant(value: object) -> Callable[[Any], Any]:
    return lambda _: value


def _never_late(real: Any) -> Any:
    return lambda *given: replace(real(*given), until=float("inf"))


def _of_this_process(real: Any) -> Any:
    return lambda *given: f"{real(*given)}/{os.getpid()}"


def _calendar(_: Any) -> Any:
    """Counts by calendar window, of the first bucket alone."""

    def admit(buckets: Sequence[Bucket], ask: Ask, now: float) -> Granted | Wait:
        bucket = buckets[0]
        window = int(now // bucket.limit.seconds)
        count = bucket.state.counts.get(window, 0)
        if count >= bucket.limit.calls:
            return Wait((window + 1) * bucket.limit.seconds, ())
        return Granted((now,), (bucket._replace(state=bucket.state._replace(counts={window: count + 1})),))

    return admit


LEDGER_MUTANTS: dict[str, LedgerMutant] = {
    "worker clock": LedgerMutant(
        "slots go by the clock of the process that asks",
        "clocks apart",
        ((budgets, "lock", _by_worker_clock),),
    ),
    "now()": LedgerMutant(
        "the clock is that of before the wait for the lock",
        "locked out",
        ((budgets, "_LOCK", _of_the_transaction), (budgets, "_CLOCK", _of_the_transaction)),
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
        ((meters, "LATENESS", _constant(0.0)), (meters, "_MOST_PER_MILLE", _constant(1000))),
    ),
    "no deadline": LedgerMutant(
        "a slot may be used however late",
        "slots kept too long",
        ((gate, "Slot", _never_late),),
    ),
    "budget per process": LedgerMutant(
        "each process keeps buckets of its own",
        "at work",
        ((gate, "bucket_name", _of_this_process),),
    ),
}
