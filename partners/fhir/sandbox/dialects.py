"""How a vendor says that calls are too many: the dialects in which APIs tell it, right or wrong.

What is told is true of the limits, but for the dialects whose name says that it is not. Whole seconds are rounded up,
so that who comes back when told is admitted.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from typing import assert_never

from partners.fhir.sandbox.limits import Standing
from partners.fhir.sandbox.outcome import Issue, Refusal

Headers = tuple[tuple[str, str], ...]


class Dialect(StrEnum):
    """The header or status that says it."""

    RETRY_AFTER_SECONDS = "retry_after_seconds"
    """429, `Retry-After` in seconds."""
    RETRY_AFTER_DATE = "retry_after_date"
    """429, `Retry-After` as an HTTP date."""
    RETRY_AFTER_EPOCH = "retry_after_epoch"
    """429, `Retry-After` in seconds of the Unix epoch, against RFC 9110."""
    RETRY_AFTER_ISO = "retry_after_iso"
    """429, `Retry-After` as an ISO 8601 instant in UTC, against RFC 9110."""
    NONE = "none"
    """429 without a word."""
    NEGATIVE = "negative"
    """429, a `Retry-After` below 0."""
    ABSURD = "absurd"
    """429, a `Retry-After` of three thousand years."""
    RATELIMIT = "ratelimit"
    """On every answer `RateLimit-Limit`, `-Remaining` and `-Reset` in seconds (IETF httpapi draft, to version 7)."""
    RATELIMIT_STRUCTURED = "ratelimit_structured"
    """On every answer `RateLimit` and `RateLimit-Policy` as structured fields (the draft's version 8 and later)."""
    X_RATELIMIT_EPOCH = "x_ratelimit_epoch"
    """On every answer `X-RateLimit-Limit`, `-Remaining` and `-Reset` in seconds of the Unix epoch."""
    X_RATELIMIT_SECONDS = "x_ratelimit_seconds"
    """The same with `-Reset` in seconds from now."""
    FORBIDDEN = "forbidden"
    """403 with the issue code `throttled`, `Retry-After` in seconds."""
    BODY = "body"
    """503 with the issue code `throttled`, `Retry-After` in seconds."""


_STATUS = {Dialect.FORBIDDEN: 403, Dialect.BODY: 503}
_ABSURD_SECONDS = 99_999_999_999


def refusal(dialect: Dialect, wait: float, wall: float) -> Refusal:
    """The answer to a call that would be admitted `wait` seconds after `wall`, the Unix time now."""
    told = _retry_after(dialect, wait, wall)
    headers = () if told is None else (("retry-after", told),)
    return Refusal(_STATUS.get(dialect, 429), Issue("throttled", "too many calls"), headers=headers)


def announced(dialect: Dialect, standing: Standing | None, wall: float) -> Headers:
    """The headers that go on every answer, refused or not; none where the dialect or the limits have none."""
    if standing is None:
        return ()
    left, reset = standing.remaining, math.ceil(standing.reset)
    match dialect:
        case Dialect.RATELIMIT:
            return _three("ratelimit", standing, reset)
        case Dialect.RATELIMIT_STRUCTURED:
            policy = f'"default";q={standing.quota};w={math.ceil(standing.window)}'
            return ("ratelimit-policy", policy), ("ratelimit", f'"default";r={left};t={reset}')
        case Dialect.X_RATELIMIT_EPOCH:
            return _three("x-ratelimit", standing, math.ceil(wall + standing.reset))
        case Dialect.X_RATELIMIT_SECONDS:
            return _three("x-ratelimit", standing, reset)
        case _:
            return ()


def _three(prefix: str, standing: Standing, reset: int) -> Headers:
    figures = {"limit": standing.quota, "remaining": standing.remaining, "reset": reset}
    return tuple((f"{prefix}-{name}", str(figure)) for name, figure in figures.items())


def _retry_after(dialect: Dialect, wait: float, wall: float) -> str | None:
    match dialect:
        case Dialect.RETRY_AFTER_SECONDS | Dialect.FORBIDDEN | Dialect.BODY:
            return str(max(1, math.ceil(wait)))
        case Dialect.RETRY_AFTER_DATE:
            return format_datetime(datetime.fromtimestamp(math.ceil(wall + wait), UTC), usegmt=True)
        case Dialect.RETRY_AFTER_EPOCH:
            return str(math.ceil(wall + wait))
        case Dialect.RETRY_AFTER_ISO:
            # One millisecond more: the format cuts off what is finer.
            instant = datetime.fromtimestamp(wall + wait, UTC) + timedelta(milliseconds=1)
            return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case Dialect.NEGATIVE:
            return "-5"
        case Dialect.ABSURD:
            return str(_ABSURD_SECONDS)
        case Dialect.NONE | Dialect.RATELIMIT | Dialect.RATELIMIT_STRUCTURED:
            return None
        case Dialect.X_RATELIMIT_EPOCH | Dialect.X_RATELIMIT_SECONDS:
            return None
        case _:
            assert_never(dialect)
