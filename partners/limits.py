"""How a partner's limits are written: the grammar as data.

    vendor:600/60s               600 calls in any 60 seconds, all tenants together
    tenant:5000/1d               5,000 calls a day for each tenant
    tenant:10000/1d@09:00        10,000 calls a day, counted anew at 09:00 Japan time
    vendor:2/1s+40               40 calls at once, refilled by 2 a second (leaky bucket)
    endpoint=appointments:5/1s   5 calls a second of one tenant at one endpoint
    tenant:concurrent=5          5 calls in flight at once
    tenant:5000/1d-20%           any of them, a fifth of it left to the tenant's other software

Limits stand in a partner's declaration and in a connection's settings; this module reads and prints them
and refuses what does not parse, names an endpoint that there is none of, or limits the same thing twice.
Whether a call may go now is the ledger's to say, not this module's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import time
from enum import StrEnum

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
_UNITS = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY}

MOST_CALLS = 1_000_000
MOST_IN_FLIGHT = 1_000
MOST_AT_ONCE = 1_000_000
MOST_HEADROOM = 95
"""Per cent."""
LONGEST_WINDOW = 31 * DAY
LONGEST_DRAIN = 366 * DAY
"""Seconds in which a leaky bucket must run empty."""
PACED_MOST = 120
"""Seconds: a tenant's or an endpoint's sliding window that is longer may be spent in bursts."""

_ENDPOINT = r"[A-Za-z][A-Za-z0-9_.-]{0,62}"
_GRAMMAR = re.compile(
    rf"(?:(?P<scope>vendor|tenant)|endpoint=(?P<endpoint>{_ENDPOINT})):"
    r"(?:concurrent=(?P<in_flight>[0-9]{1,7})"
    r"|(?P<calls>[0-9]{1,7})/(?P<amount>[0-9]{1,7})(?P<unit>[smhd])"
    r"(?:\+(?P<burst>[0-9]{1,7}))?(?:@(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}))?)"
    r"(?:-(?P<headroom>[0-9]{1,2})%)?"
)


class LimitScope(StrEnum):
    """Whose calls are counted together."""

    VENDOR = "vendor"
    """All tenants': the partner sees one caller, us."""
    TENANT = "tenant"
    """One tenant's at any endpoint."""
    ENDPOINT = "endpoint"
    """One tenant's at one endpoint."""


class Kind(StrEnum):
    """How a rate is kept, and thus how it can be spent."""

    PACED = "paced"
    """One call after another, evenly over the window."""
    COUNTED = "counted"
    """In bursts: what was called in the window before now counts."""
    FIXED = "fixed"
    """In bursts: what was called since the last reset counts."""
    LEAKY = "leaky"
    """So many at once, then evenly."""


class LimitError(ValueError):
    """Limits that cannot be kept as they are written; the message says why, and what would do."""


class LimitSyntaxError(LimitError):
    """The text is not a limit. The message says why and shows one of each kind that is."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(
            f"{text!r} is not a limit: {why}. Right are, for example, 'vendor:600/60s', 'tenant:5000/1d', "
            "'tenant:10000/1d@09:00', 'vendor:2/1s+40', 'endpoint=appointments:5/1s', 'tenant:concurrent=5' "
            "and 'tenant:5000/1d-20%'."
        )


@dataclass(frozen=True)
class Rate:
    """At most `calls` in any window of `seconds`, or between two resets; with `burst`, a leaky bucket."""

    scope: LimitScope
    calls: int
    """1 to 1,000,000, both allowed."""
    seconds: int
    """Length of the window: 1 second to 31 days, both allowed."""
    endpoint: str | None = None
    """The name that the connector gives its gate; None unless the scope is endpoint."""
    reset: time | None = None
    """Japan time at which a daily count starts anew; None: the window slides."""
    burst: int | None = None
    """Calls at once that the partner's bucket takes when empty, 1 to 1,000,000; it drains by `calls` each `seconds`.

    None: no leaky bucket. Never together with a reset.
    """
    headroom: int = 0
    """Per cent that are left to the tenant's other software: 0 to 95, both allowed."""

    def __str__(self) -> str:
        burst = "" if self.burst is None else f"+{self.burst}"
        reset = "" if self.reset is None else f"@{self.reset:%H:%M}"
        window = f"{self.calls}/{_window(self.seconds)}"
        return f"{_prefix(self.scope, self.endpoint)}:{window}{burst}{reset}{_suffix(self.headroom)}"

    @property
    def allowed(self) -> int:
        """Calls in a window after headroom, rounded down; at least one. The burst of a leaky bucket is not in it."""
        return _left(self.calls, self.headroom)

    @property
    def allowed_at_once(self) -> int | None:
        """The burst after headroom, rounded down; at least one. None: no leaky bucket."""
        return None if self.burst is None else _left(self.burst, self.headroom)

    @property
    def measured(self) -> str:
        """What is measured, without how much or from when: its scope, kind and window."""
        return f"{_prefix(self.scope, self.endpoint)}:{self.kind}/{_window(self.seconds)}"

    @property
    def kind(self) -> Kind:
        """How it is kept.

        What all tenants share is paced however long the window, with a reset too: in bursts, whoever comes first could
        spend a day's quota for all the others.
        """
        if self.burst is not None:
            return Kind.LEAKY
        if self.scope is LimitScope.VENDOR:
            return Kind.PACED
        if self.reset is not None:
            return Kind.FIXED
        return Kind.PACED if self.seconds <= PACED_MOST else Kind.COUNTED


@dataclass(frozen=True)
class Concurrency:
    """At most `in_flight` calls that were sent and not yet answered."""

    scope: LimitScope
    in_flight: int
    """1 to 1,000, both allowed."""
    endpoint: str | None = None
    """As a Rate's."""
    headroom: int = 0
    """As a Rate's."""

    def __str__(self) -> str:
        return f"{_prefix(self.scope, self.endpoint)}:concurrent={self.in_flight}{_suffix(self.headroom)}"

    @property
    def measured(self) -> str:
        """What is measured, without how much."""
        return f"{_prefix(self.scope, self.endpoint)}:in flight"

    @property
    def allowed(self) -> int:
        """Calls in flight after headroom, rounded down; at least one."""
        return _left(self.in_flight, self.headroom)


Limit = Rate | Concurrency


def parse_limit(text: str) -> Limit:
    """The limit that `text` says. `parse_limit(str(limit)) == limit`. Raises LimitSyntaxError."""
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise LimitSyntaxError(text, "it is written scope:calls/window or scope:concurrent=calls")
    endpoint = match["endpoint"]
    scope = LimitScope.ENDPOINT if endpoint else LimitScope(match["scope"])
    headroom = _bounded(text, int(match["headroom"] or 0), MOST_HEADROOM, "% of headroom", least=0)
    if match["in_flight"]:
        in_flight = _bounded(text, int(match["in_flight"]), MOST_IN_FLIGHT, " calls")
        return Concurrency(scope, in_flight, endpoint, headroom)
    seconds = _bounded(text, int(match["amount"]) * _UNITS[match["unit"]], LONGEST_WINDOW, " seconds")
    calls = _bounded(text, int(match["calls"]), MOST_CALLS, " calls")
    reset = _reset(text, match["hour"], match["minute"], seconds)
    burst = None if match["burst"] is None else _burst(text, int(match["burst"]), calls, seconds)
    if burst is not None and reset is not None:
        raise LimitSyntaxError(text, "a leaky bucket (+calls) drains all the time and has no time of reset")
    return Rate(scope, calls, seconds, endpoint, reset, burst, headroom)


def parse_limits(texts: Sequence[str], endpoints: Collection[str]) -> tuple[Limit, ...]:
    """The limits that hold together, at a partner that has these `endpoints`.

    Raises LimitSyntaxError, and LimitError for an endpoint that there is none of or two limits on the same thing.
    """
    limits = tuple(parse_limit(text) for text in texts)
    seen: dict[str, Limit] = {}
    for each in limits:
        if each.endpoint is not None and each.endpoint not in endpoints:
            known = ", ".join(endpoints) or "none"
            raise LimitError(f"'{each}' names an endpoint that this partner has none of: there are {known}")
        other = seen.setdefault(each.measured, each)
        if other is not each:
            raise LimitError(f"'{other}' and '{each}' limit the same thing in the same way: leave one of them out")
    return limits


def _bounded(text: str, value: int, most: int, unit: str, least: int = 1) -> int:
    if not least <= value <= most:
        raise LimitSyntaxError(text, f"{value}{unit} is not within {least} to {most}")
    return value


def _burst(text: str, burst: int, calls: int, seconds: int) -> int:
    # A bucket that takes years to drain is a slip of the pen, and its times would leave the calendar.
    if _bounded(text, burst, MOST_AT_ONCE, " calls at once") * seconds > LONGEST_DRAIN * calls:
        raise LimitSyntaxError(text, f"a bucket of {burst} calls would take more than 366 days to drain")
    return burst


def _left(calls: int, headroom: int) -> int:
    return max(1, calls * (100 - headroom) // 100)


def _suffix(headroom: int) -> str:
    return f"-{headroom}%" if headroom else ""


def _reset(text: str, hour: str | None, minute: str | None, seconds: int) -> time | None:
    if hour is None or minute is None:
        return None
    if seconds != DAY:
        raise LimitSyntaxError(text, "a time of reset goes with a window of one day only")
    if int(hour) > 23 or int(minute) > 59:
        raise LimitSyntaxError(text, f"{hour}:{minute} is not a time of day (00:00 to 23:59)")
    return time(int(hour), int(minute))


def _prefix(scope: LimitScope, endpoint: str | None) -> str:
    return str(scope) if endpoint is None else f"{scope}={endpoint}"


def _window(seconds: int) -> str:
    """Whole days and hours as such, all else in seconds: partners speak of `600 in 60 s`, not of `1m`."""
    if seconds % DAY == 0:
        return f"{seconds // DAY}d"
    if seconds % HOUR == 0:
        return f"{seconds // HOUR}h"
    return f"{seconds}s"
