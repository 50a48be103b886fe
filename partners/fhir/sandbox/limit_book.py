"""All limits of one sandbox, their counts, and the one step in which a call is admitted by all of them or by none.

Callers are told apart by their bearer tokens, and named here by a digest: counts are shown, tokens never.
An unknown token has counts of its own too, as the limits come before the token.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, assert_never

from partners.fhir.sandbox.levels import InFlight, LeakyBucket
from partners.fhir.sandbox.limit_rules import FixedRule, InFlightRule, LeakyRule, LimitRule, SlidingRule
from partners.fhir.sandbox.limits import Counts, FixedWindow, SlidingLog, Standing, admit

NOBODY = "nobody"
"""The name of all callers without a token."""
_REMEMBERED = 100_000

AnyOracle = SlidingLog | FixedWindow | LeakyBucket | InFlight


@dataclass(frozen=True)
class Verdict:
    """What the limits say of one call."""

    wait: float
    """Seconds until it would be admitted; 0: it is."""
    tightest: Standing | None
    """Of its limits that have a time, the one with the least left, the call itself counted; None: there is none."""
    seats: tuple[InFlight, ...]
    """The seats that it takes until it has ended."""

    def release(self) -> None:
        """Free the seats. Once: the call has ended."""
        for seat in self.seats:
            seat.release()


class _Meter:
    """One rule, and an oracle for each whose calls it counts apart."""

    def __init__(self, rule: LimitRule) -> None:
        self.rule = rule
        self.admitted_by: Counter[str] = Counter()
        self._oracles: dict[str, AnyOracle] = {}

    def oracle(self, caller: str, endpoint: str, origin: float) -> AnyOracle | None:
        """The one that counts such a call; None if the rule is not about it."""
        if self.rule.endpoint not in (None, endpoint):
            return None
        key = {"all": "", "caller": caller, "endpoint": endpoint}[self.rule.per]
        if key not in self._oracles:
            self._oracles[key] = _oracle(self.rule, origin)
        return self._oracles[key]

    def become(self, rule: LimitRule, now: float) -> None:
        """Go on under a rule that differs in its amounts alone."""
        self.rule = rule
        for oracle in self._oracles.values():
            _resize(oracle, rule, now)

    @property
    def counts(self) -> Counts:
        """Of all its oracles: the sums, and of what is a highest the highest of any."""
        each = [oracle.counts for oracle in self._oracles.values()] or [Counts()]
        return Counts(
            admitted=sum(counts.admitted for counts in each),
            refused=sum(counts.refused for counts in each),
            peak=max(counts.peak for counts in each),
            seen=max(counts.seen for counts in each),
            over=max(counts.over for counts in each),
        )

    def summary(self) -> dict[str, Any]:
        """The rule, the counts, and how evenly the admitted calls lie over the callers."""
        shares = self.admitted_by.values()
        return (
            asdict(self.rule)
            | asdict(self.counts)
            | {
                "callers": len(shares),
                "least_admitted": min(shares, default=0),
                "most_admitted": max(shares, default=0),
            }
        )


class LimitBook:
    """The rules in force and what they have counted. All instants are of one clock that never falls."""

    def __init__(self, rules: Mapping[str, LimitRule], origin: float) -> None:
        """`rules` by name. `origin`: the Unix time at which that clock stood at 0, for windows laid on the day."""
        self._origin = origin
        self._meters = {name: _Meter(rule) for name, rule in rules.items()}
        self._admitted: deque[tuple[float, str]] = deque(maxlen=_REMEMBERED)

    def pass_or_refuse(self, now: float, caller: str, endpoint: str) -> Verdict:
        """Admit a call that came at `now` and count it in every limit that it falls under, or refuse it and in none."""
        concerned = [
            (meter, oracle)
            for meter in self._meters.values()
            if (oracle := meter.oracle(caller, endpoint, self._origin))
        ]
        oracles = [oracle for _, oracle in concerned]
        wait = admit(oracles, now)
        for meter, _ in concerned:
            meter.admitted_by[caller] += wait == 0
        if wait == 0:
            self._admitted.append((now, caller))
        standings = [standing for oracle in oracles if (standing := oracle.standing(now))]
        return Verdict(
            wait=wait,
            tightest=min(standings, key=lambda each: (each.remaining, -each.reset), default=None),
            seats=tuple(oracle for oracle in oracles if wait == 0 and isinstance(oracle, InFlight)),
        )

    def change(self, rules: Mapping[str, LimitRule], now: float, anew: Collection[str] = ()) -> None:
        """Other rules from `now` on. One that differs from its namesake in amounts alone goes on, unless in `anew`."""
        old, self._meters = self._meters, {name: _Meter(rule) for name, rule in rules.items()}
        for name, rule in rules.items():
            if name in old and name not in anew and _like(old[name].rule, rule):
                old[name].become(rule, now)
                self._meters[name] = old[name]

    def counts(self, name: str) -> Counts:
        """The counts of the rule of this name; zeros if there is none."""
        return self._meters[name].counts if name in self._meters else Counts()

    def summary(self) -> list[dict[str, Any]]:
        """Rule by rule, in their order."""
        return [{"name": name} | meter.summary() for name, meter in self._meters.items()]

    def detail(self) -> dict[str, Any]:
        """The summaries, each with the calls admitted by caller, and (time, caller) of the last 100,000 admitted."""
        callers = [{"admitted_by": dict(meter.admitted_by)} for meter in self._meters.values()]
        limits = [summary | by_caller for summary, by_caller in zip(self.summary(), callers, strict=True)]
        return {"limits": limits, "admitted": list(self._admitted)}


def caller_name(token: str | None) -> str:
    """The name under which a caller who shows this bearer token is counted."""
    return NOBODY if token is None else hashlib.sha256(token.encode()).hexdigest()[:12]


def _oracle(rule: LimitRule, origin: float) -> AnyOracle:
    match rule:
        case SlidingRule():
            return SlidingLog(rule.calls, rule.seconds)
        case FixedRule():
            return FixedWindow(rule.calls, rule.seconds, rule.offset - origin)
        case LeakyRule():
            return LeakyBucket(rule.size, rule.leak)
        case InFlightRule():
            return InFlight(rule.calls)
        case _:
            assert_never(rule)


def _like(old: LimitRule, new: LimitRule) -> bool:
    """Whether they count the same things in the same way, however many they allow."""
    match old, new:
        case (LeakyRule(), LeakyRule()):
            return replace(old, size=new.size, leak=new.leak) == new
        case LeakyRule(), _:
            return False
        case _, LeakyRule():
            return False
        case _:
            return replace(old, calls=new.calls) == new


def _resize(oracle: AnyOracle, rule: LimitRule, now: float) -> None:
    match oracle, rule:
        case (LeakyBucket(), LeakyRule()):
            oracle.resize(now, rule.size, rule.leak)
        case (InFlight(), InFlightRule()):
            oracle.most = rule.calls
        case (SlidingLog(), SlidingRule()):
            oracle.calls = rule.calls
        case (FixedWindow(), FixedRule()):
            oracle.calls = rule.calls
