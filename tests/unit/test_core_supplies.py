"""What the ledger keeps of a limit, told to the forecast."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from partners.limits import Rate, parse_limit
from zest_pipelines.core.budget import Ask, Granted, admit
from zest_pipelines.core.forecast import Work, forecast
from zest_pipelines.core.meters import Bucket
from zest_pipelines.core.supplies import supply
from zest_pipelines.core.turns import Priority, Who

NOW = 1_800_000_000.0


WHO = Who("sakura", Priority.PEOPLE)


def granted(bucket: Bucket, calls: int, now: float) -> tuple[Bucket, float]:
    """The bucket after so many calls, and when the last one leaves."""
    last = now
    while calls:
        answer = admit([bucket], Ask(WHO, calls, now + 1e9), now)
        for changed in answer.buckets:
            bucket = changed
        if isinstance(answer, Granted):
            calls, last = calls - len(answer.send_at), answer.send_at[-1]
        else:
            now = answer.until
    return bucket, last


def bucket_of(text: str, before: Bucket | None = None) -> Bucket:
    limit = parse_limit(text)
    assert isinstance(limit, Rate)
    return Bucket(limit) if before is None else Bucket(limit, before.state)


def differ(bucket: Bucket, calls: int, now: float) -> tuple[float, float]:
    """Seconds until the last of so many calls leaves: really, and as foretold."""
    told = forecast(Work(calls), [supply(bucket, WHO, now)], datetime.fromtimestamp(now, UTC))
    assert told is not None
    return granted(bucket, calls, now)[1] - now, (told - datetime.fromtimestamp(now, UTC)) / timedelta(seconds=1)


@pytest.mark.parametrize("text", ["tenant:30/60s", "tenant:50/1h", "tenant:40/1d@09:00", "vendor:2/10s+10"])
def test_the_forecast_is_what_the_ledger_then_grants(text: str) -> None:
    bucket = bucket_of(text)
    real, told = differ(bucket, 100, NOW)
    assert abs(real - told) <= 0.1 * real + bucket.limit.seconds / 20


@pytest.mark.parametrize("less", [1, 10, 35])
def test_what_was_used_of_a_limit_beyond_what_it_is_lowered_to_gives_nothing_back(less: int) -> None:
    used, now = granted(bucket_of("tenant:50/1h"), 40, NOW)
    lowered = bucket_of(f"tenant:{less}/1h", used)
    real, told = differ(lowered, 3 * less, now)
    assert abs(real - told) <= 0.1 * real + 3600 / 20
