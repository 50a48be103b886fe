"""Four processes call through one ledger without rest: the partner never counts more than it allows, nor much less.

A partner that only counts judges; nobody looks at the ledger. Pace spreads the calls of a window of W seconds over
W + 1, as a call may leave up to a second late: at most W / (W + 1) of a limit can be used, so the seconds of the short
form use less of it than the minutes of the long one (ZEST_SOAK=1), where 97 % are asked for.

A frozen process is kept from sending late up to the first byte, before which the gate is asked for the last time. One
that stands still in the microseconds between the two cannot be, by any rule of ours.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from caller_process import Told, Work
from callers import calling, now_and_then
from counting_partner import CountingPartner, Seen, Window, of_each, refused, running_counting, utilisation, worst
from storm import IS_SOAK

from resources.logins import Logins

PROCESSES = 4
SECONDS = 300.0 if IS_SOAK else 8.0
TENANTS = 50 if IS_SOAK else 6
OWN: Window = (60, 60) if IS_SOAK else (12, 3)
VENDOR: Window = (600, 60) if IS_SOAK else (30, 3)
XERO: Sequence[Window] = [(60, 60), (5000, 86400)] if IS_SOAK else [(30, 3), (1_000_000, 86400)]
"""In the short form the day is wide enough not to hold anything up, even where it is paced."""
XERO_VENDOR: Window = (10_000, 60) if IS_SOAK else (500, 3)
IN_FLIGHT = 5
LATENCY = 5.6 if IS_SOAK else 0.75
"""So long that the pace of the rate alone would have six in flight."""
KILL_EVERY = 60.0 if IS_SOAK else 4.0
FREEZE_EVERY = 5.0 if IS_SOAK else 3.0
JITTER = 0.05
FREEZE = 1.0
"""As long as a call may leave after its slot: who was frozen with leave to go must not go."""


def told_limit(scope: str, window: Window) -> str:
    """In the grammar of limits."""
    return f"{scope}:{window[0]}/{window[1]}s"


def ramped(log: Sequence[Seen]) -> list[Seen]:
    """Without the first window or so, in which the processes still start and have no slots ahead."""
    return [seen for seen in log if seen.at >= log[0].at + 1.0]


def least_used(window: Window, share: float) -> float:
    """What must be used of a limit: 97 % from a minute on, else one point less than W / (W + 1); times `share`."""
    return share * (0.97 if window[1] >= 60 else window[1] / (window[1] + 1) - 0.01)


def shared_by_two(work: Sequence[Work]) -> list[list[Work]]:
    """The work of each process: every tenant is served by two of them at once."""
    return [
        [each for number, each in enumerate(work) if process in (number % PROCESSES, (number + 1) % PROCESSES)]
        for process in range(PROCESSES)
    ]


def tenants(partner: CountingPartner, name: str, *limits: str) -> list[Work]:
    return [Work(partner.url, name, f"t{number}", limits) for number in range(TENANTS)]


@dataclass(frozen=True)
class Verdict:
    """On one partner's log."""

    what: str
    window: Window
    log: Sequence[Seen]

    @property
    def used(self) -> float:
        """Share of the limit."""
        return utilisation(ramped(self.log), self.window)

    @property
    def most(self) -> int:
        """Calls in the worst window."""
        return worst(self.log, self.window[1])

    def __str__(self) -> str:
        return (
            f"{self.what}: {len(self.log)} calls, {refused(self.log)} refused, at most {self.most} of {self.window[0]} "
            f"in {self.window[1]} s, {self.used:.1%} used"
        )


def test_many_tenants_and_a_vendor_are_used_to_the_full_and_never_refuse(logins: Logins) -> None:
    with ExitStack() as stack:
        own = stack.enter_context(running_counting(per_caller=[OWN]))
        vendor = stack.enter_context(running_counting(shared=[VENDOR]))
        work = tenants(own, "own", told_limit("tenant", OWN)) + tenants(vendor, "vendor", told_limit("vendor", VENDOR))
        with calling([Told.of(logins, each) for each in shared_by_two(work)]):
            time.sleep(SECONDS)
            logs = of_each(own.log())
            verdicts = [Verdict(f"own limit of {caller}", OWN, log) for caller, log in logs.items()]
            verdicts.append(Verdict("shared by all", VENDOR, vendor.log()))
    for verdict in verdicts:
        print(verdict)
    assert len(logs) == TENANTS
    for verdict in verdicts:
        assert refused(verdict.log) == 0, verdict
        assert verdict.most <= verdict.window[0], verdict
        assert verdict.used >= least_used(verdict.window, 1.0), verdict


def test_jitter_freezes_kills_and_wrong_clocks_let_no_call_too_many_through(logins: Logins) -> None:
    with ExitStack() as stack:
        partner = stack.enter_context(running_counting(shared=[VENDOR]))
        work = shared_by_two(tenants(partner, "vendor", told_limit("vendor", VENDOR)))
        offsets = (-5.0, 5.0, 0.0, -2.5)
        told = [
            Told.of(logins, each, seed=number, jitter=JITTER, clock_offset=offsets[number])
            for number, each in enumerate(work)
        ]
        callers = stack.enter_context(calling(told))
        with (
            now_and_then(lambda draw: callers.freeze(draw, FREEZE), FREEZE_EVERY, seed=1),
            now_and_then(callers.kill, KILL_EVERY, seed=2),
        ):
            time.sleep(SECONDS)
        verdict = Verdict("shared by all, disturbed", VENDOR, partner.log())
    print(f"{verdict}; {callers.freezes} freezes, {callers.kills} kills")
    assert callers.freezes > 0
    assert callers.kills > 0
    assert refused(verdict.log) == 0, verdict
    assert verdict.most <= VENDOR[0], verdict
    # Slots that the frozen and the killed had taken stay spent: at most what lies a second ahead, each time.
    assert verdict.used >= (0.9 if IS_SOAK else least_used(VENDOR, 0.8)), verdict


def test_calls_in_flight_a_rate_a_day_and_a_vendor_hold_at_once(logins: Logins) -> None:
    with ExitStack() as stack:
        partner = stack.enter_context(running_counting(XERO, [XERO_VENDOR], IN_FLIGHT, latency=LATENCY))
        limits = [told_limit("tenant", each) for each in XERO]
        work = Work(
            partner.url, "xero", "t0", [f"tenant:concurrent={IN_FLIGHT}", told_limit("vendor", XERO_VENDOR), *limits]
        )
        told = [Told.of(logins, [work] * 2) for _ in range(PROCESSES)]
        with calling(told):
            time.sleep(SECONDS / 2)
            log = partner.log()
    verdict, most = Verdict("Xero's shape", XERO[0], log), max(seen.in_flight for seen in log)
    print(f"{verdict}; {most} in flight")
    assert refused(log) == 0, verdict
    assert verdict.most <= XERO[0][0], verdict
    assert most == IN_FLIGHT
    assert verdict.used >= 0.9 * IN_FLIGHT / LATENCY * XERO[0][1] / XERO[0][0], verdict
