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


@pytest.mark.parametrize("text", ["tenant:30/60s", "tenant:50/1h", "tenant:40/1d@09:00", "vendor:2/10s+10"])
def test_the_forecast_is_what_the_ledger_then_grants(text: str) -> None:
    limit = parse_limit(text)
    assert isinstance(limit, Rate)
    who, bucket, now, left = Who("sakura", Priority.PEOPLE), Bucket(limit), NOW, 100
    told = forecast(Work(left), [supply(bucket, who, now)], datetime.fromtimestamp(now, UTC))
    last = now
    while left:
        answer = admit([bucket], Ask(who, left, now + 1e9), now)
        for changed in answer.buckets:
            bucket = changed
        if isinstance(answer, Granted):
            left, last = left - len(answer.send_at), answer.send_at[-1]
        else:
            now = answer.until
    assert told is not None
    real, seconds = last - NOW, (told - datetime.fromtimestamp(NOW, UTC)) / timedelta(seconds=1)
    assert abs(real - seconds) <= 0.1 * real + limit.seconds / 20
