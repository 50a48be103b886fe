"""Scenes in which the partner that counts notices a broken rule of the ledger, and notices nothing while all hold.

Four processes of eight tenants each share a vendor's limit. Each scene ends when the partner has refused a call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from caller_process import Told, Work
from callers import Callers, calling
from counting_partner import refused, running_counting
from storm import wait_until

from resources.logins import Logins

LIMIT = (30, 3)
_TENANTS = 8
"""In each process: as many threads as there are slots in the second that may be taken ahead."""
_OFFSETS = (-6.0, -3.0, 0.0, 3.0)
"""Of the processes' clocks, rising: to a ledger that went by them, the slots of those before would be long past."""
_JITTER = 0.05


def _nothing(_: Callers) -> None:
    """They just work."""


def _frozen(callers: Callers) -> None:
    # Apart by more than what may be taken ahead: the last one awake has then a whole second of slots.
    callers.freeze_in_turn(apart=1.3)


SCENES: dict[str, tuple[bool, Callable[[Callers], None]]] = {
    "at work": (False, _nothing),
    "clocks apart": (True, _nothing),
    "frozen in turn": (False, _frozen),
}
"""Whether the processes start one after the other, and what befalls them."""


def refusals(name: str, logins: Logins, mutant: str | None, seconds: float) -> int:
    """How many calls the partner refused in the scene, which ends at the first or after `seconds`."""
    in_turn, befall = SCENES[name]
    with ExitStack() as stack:
        partner = stack.enter_context(running_counting(shared=[LIMIT]))
        limits = [f"vendor:{LIMIT[0]}/{LIMIT[1]}s"]
        work = [Work(partner.url, "vendor", f"t{number}", limits) for number in range(_TENANTS)]
        told = [
            Told.of(logins, work, seed=number, jitter=_JITTER, clock_offset=offset, mutant=mutant)
            for number, offset in enumerate(_OFFSETS)
        ]
        befall(stack.enter_context(calling(told, in_turn=in_turn)))
        wait_until(lambda: refused(partner.log()) > 0, seconds)
        return refused(partner.log())
