"""How a partner's limits are written: the grammar as data.

    vendor:600/60s               600 calls in any 60 seconds, all tenants together
    tenant:5000/1d               5,000 calls a day for each tenant
    tenant:10000/1d@09:00        the same, counted anew at 09:00 Japan time
    endpoint=appointments:5/1s   5 calls a second of one tenant at one endpoint
    tenant:concurrent=5          5 calls in flight at once

Limits stand in a partner's declaration and in a connection's settings; this module reads and prints them
and refuses what does not parse. Whether a call may go now is the ledger's to say, not this module's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from enum import StrEnum

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
_UNITS = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY}

MOST_CALLS = 1_000_000
MOST_IN_FLIGHT = 1_000
LONGEST_WINDOW = 31 * DAY

_ENDPOINT = r"[A-Za-z][A-Za-z0-9_.-]{0,62}"
_GRAMMAR = re.compile(
    rf"(?:(?P<scope>vendor|tenant)|endpoint=(?P<endpoint>{_ENDPOINT})):"
    r"(?:concurrent=(?P<in_flight>[0-9]{1,7})"
    r"|(?P<calls>[0-9]{1,7})/(?P<amount>[0-9]{1,7})(?P<unit>[smhd])(?:@(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}))?)"
)


class LimitScope(StrEnum):
    """Whose calls are counted together."""

    VENDOR = "vendor"
    """All tenants': the partner sees one caller, us."""
    TENANT = "tenant"
    """One tenant's at any endpoint."""
    ENDPOINT = "endpoint"
    """One tenant's at one endpoint."""


class LimitSyntaxError(ValueError):
    """The text is not a limit. The message says why and shows one that is."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(
            f"{text!r} is not a limit: {why}. Right are, for example, 'vendor:600/60s', "
            "'tenant:10000/1d@09:00', 'endpoint=appointments:5/1s' and 'tenant:concurrent=5'."
        )


@dataclass(frozen=True)
class Rate:
    """At most `calls` in any window of `seconds`, or between two resets."""

    scope: LimitScope
    calls: int
    """1 to 1,000,000, both allowed."""
    seconds: int
    """Length of the window: 1 second to 31 days, both allowed."""
    endpoint: str | None = None
    """The name that the connector gives its gate; None unless the scope is endpoint."""
    reset: time | None = None
    """Japan time at which a daily count starts anew; None: the window slides."""

    def __str__(self) -> str:
        reset = f"@{self.reset:%H:%M}" if self.reset else ""
        return f"{_prefix(self.scope, self.endpoint)}:{self.calls}/{_window(self.seconds)}{reset}"


@dataclass(frozen=True)
class Concurrency:
    """At most `in_flight` calls that were sent and not yet answered."""

    scope: LimitScope
    in_flight: int
    """1 to 1,000, both allowed."""
    endpoint: str | None = None

    def __str__(self) -> str:
        return f"{_prefix(self.scope, self.endpoint)}:concurrent={self.in_flight}"


Limit = Rate | Concurrency


def parse_limit(text: str) -> Limit:
    """The limit that `text` says. `parse_limit(str(limit)) == limit`. Raises LimitSyntaxError."""
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise LimitSyntaxError(text, "it is written scope:calls/window or scope:concurrent=calls")
    endpoint = match["endpoint"]
    scope = LimitScope.ENDPOINT if endpoint else LimitScope(match["scope"])
    if match["in_flight"]:
        return Concurrency(scope, _bounded(text, int(match["in_flight"]), MOST_IN_FLIGHT, "calls"), endpoint)
    seconds = _bounded(text, int(match["amount"]) * _UNITS[match["unit"]], LONGEST_WINDOW, "seconds")
    calls = _bounded(text, int(match["calls"]), MOST_CALLS, "calls")
    return Rate(scope, calls, seconds, endpoint, _reset(text, match["hour"], match["minute"], seconds))


def _bounded(text: str, value: int, most: int, unit: str) -> int:
    if not 1 <= value <= most:
        raise LimitSyntaxError(text, f"{value} {unit} is not within 1 to {most}")
    return value


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
