"""Limits as options: what is counted, how, and for whom each count is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

Per = Literal["all", "caller", "endpoint"]
"""For whom a count is kept: one for all calls, one for each bearer token, or one for each endpoint."""
Calls = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class _Counted:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    per: Per = "all"
    endpoint: str | None = None
    """Only calls of this endpoint count: a resource type, `metadata`, or `/` for batches; None: every call."""


@dataclass(frozen=True, kw_only=True)
class SlidingRule(_Counted):
    """At most `calls` in any window of `seconds` seconds."""

    calls: Calls
    seconds: Seconds
    kind: Literal["sliding"] = "sliding"


@dataclass(frozen=True, kw_only=True)
class FixedRule(_Counted):
    """At most `calls` in each window of `seconds` seconds, the windows laid end to end."""

    calls: Calls
    seconds: Seconds
    offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """When one of the windows begins, in seconds of the Unix epoch; 0 with days: midnight UTC, 9 o'clock in Japan."""
    kind: Literal["fixed"] = "fixed"


@dataclass(frozen=True, kw_only=True)
class LeakyRule(_Counted):
    """A bucket that holds `size` calls and loses `leak` each second."""

    size: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    leak: Seconds
    """Calls a second."""
    kind: Literal["leaky"] = "leaky"


@dataclass(frozen=True, kw_only=True)
class InFlightRule(_Counted):
    """At most `calls` begun and not yet answered."""

    calls: Calls
    kind: Literal["in_flight"] = "in_flight"


LimitRule = Annotated[SlidingRule | FixedRule | LeakyRule | InFlightRule, Field(discriminator="kind")]
