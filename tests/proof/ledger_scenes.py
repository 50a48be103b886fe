"""Scenes in which the partner that counts notices a broken rule of the ledger, and notices nothing while all hold.

Where callers just work, four processes of eight tenants each share a vendor's limit, until the partner has refused a
call. The other scenes bring about by themselves what a busy machine brings about now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import partial
from urllib.request import urlopen

from caller_process import Told, Work
from callers import calling
from counting_partner import CountingPartner, Window, refused, running_counting
from ledger_mutants import played
from storm import wait_until

from partners.contract import Connection
from partners.errors import Deferred
from partners.limits import parse_limit
from resources.logins import Login, Logins
from zest_pipelines.flows.gate import Later, Ledger, LedgerGate, Slot
from zest_pipelines.store import budgets

LIMIT: Window = (30, 3)
_TENANTS = 8
"""In each process: as many threads as there are slots in the second that may be taken ahead."""
_OFFSETS = (-6.0, -3.0, 0.0, 3.0)
"""Of the processes' clocks, rising: to a ledger that went by them, the slots of those before would be long past."""
_JITTER = 0.05
FEW: Window = (3, 3)
"""One call more is made at once, within the window on any machine."""
_PACE = (FEW[1] + 1) / FEW[0]
_PATIENCE = timedelta(seconds=30)
_ENDPOINT = "appointments"
Scene = Callable[[Logins, str | None, float], int]
"""With a mutant or none (None), for so many seconds at most: how many calls the partner refused."""


def _at_work(logins: Logins, mutant: str | None, seconds: float, *, in_turn: bool = False) -> int:
    with ExitStack() as stack:
        partner = stack.enter_context(running_counting(shared=[LIMIT]))
        limits = [f"vendor:{LIMIT[0]}/{LIMIT[1]}s"]
        work = [Work(partner.url, "vendor", f"t{number}", limits) for number in range(_TENANTS)]
        told = [
            Told.of(logins, work, seed=number, jitter=_JITTER, clock_offset=offset, mutant=mutant)
            for number, offset in enumerate(_OFFSETS)
        ]
        stack.enter_context(calling(told, in_turn=in_turn))
        wait_until(lambda: refused(partner.log()) > 0, seconds)
        return refused(partner.log())


def _kept_too_long(logins: Logins, mutant: str | None, _: float) -> int:
    """Slots are taken as they come and all are used when there is one more than the limit has calls."""
    with _few(logins, mutant) as (partner, ledger):
        slots: list[Slot] = []
        while len(slots) <= FEW[0]:
            answer = ledger.take(_ENDPOINT)
            if isinstance(answer, Later):
                time.sleep(answer.seconds)
            else:
                slots += answer
        for slot in slots:
            gate = LedgerGate(ledger, timedelta(0))
            gate.hand(slot)
            _call(partner, gate)
        return refused(partner.log())


def _locked_out(logins: Logins, mutant: str | None, _: float) -> int:
    """One more than the limit has calls ask to call, a pace apart, while somebody has the bucket locked."""
    with _few(logins, mutant) as (partner, ledger), ThreadPoolExecutor(FEW[0] + 1) as pool:
        buckets, database = list(ledger._named(_ENDPOINT)), ledger.services.database
        with database.transaction(Login.BUDGET, None) as tx:
            budgets.lock(tx, buckets)  # there from now on: it can be waited for
        with database.transaction(Login.BUDGET, None) as tx:
            budgets.lock(tx, buckets)
            calls = []
            for _caller in range(FEW[0] + 1):
                calls.append(pool.submit(_call, partner, LedgerGate(ledger, _PATIENCE)))
                time.sleep(1.05 * _PACE)
        for each in calls:
            each.result()
        return refused(partner.log())


@contextmanager
def _few(logins: Logins, mutant: str | None) -> Iterator[tuple[CountingPartner, Ledger]]:
    """A partner that allows few calls, and its ledger, in this process."""
    with running_counting(shared=[FEW]) as partner, played(mutant):
        limit = parse_limit(f"vendor:{FEW[0]}/{FEW[1]}s")
        services = Told.of(logins, []).services(connections=FEW[0] + 2)
        yield partner, Ledger(services, Connection("t0", "few", "", {}), [limit])
        services.database.close()


def _call(partner: CountingPartner, gate: LedgerGate) -> None:
    """One call, if the gate lets it go."""
    with suppress(Deferred):
        gate.admit(_ENDPOINT)
        gate.leave()
        with suppress(OSError):  # refused
            urlopen(f"{partner.url}/t0/{_ENDPOINT}", timeout=30).close()


SCENES: dict[str, Scene] = {
    "at work": _at_work,
    "clocks apart": partial(_at_work, in_turn=True),
    "slots kept too long": _kept_too_long,
    "locked out": _locked_out,
}
"""By name. Where clocks are apart the processes start one after the other."""


def refusals(name: str, logins: Logins, mutant: str | None, seconds: float) -> int:
    """How many calls the partner refused in the scene, which ends at the first or after about `seconds`."""
    return SCENES[name](logins, mutant, seconds)
