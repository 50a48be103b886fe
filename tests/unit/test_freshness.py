"""When a reading is stale, and what is said of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from dagster import AssetKey

from zest_pipelines.flows.reports import Freshness
from zest_pipelines.orchestration.inbound_checks import fresh

ASSET = AssetKey(["paper", "landed_clients"])
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("every", "age", "answer"),
    [
        (HOUR, 2 * HOUR, "passed"),
        (HOUR, 2 * HOUR + MINUTE, "WARN"),
        (HOUR, 6 * HOUR + MINUTE, "ERROR"),
        # A day's interval: six of them would be a week, one is too soon.
        (DAY, 2 * DAY, "passed"),
        (DAY, 3 * DAY, "WARN"),
        (DAY, 3 * DAY + MINUTE, "ERROR"),
        # Of six hours: an error after a day.
        (6 * HOUR, 24 * HOUR, "WARN"),
        (6 * HOUR, 24 * HOUR + MINUTE, "ERROR"),
        # A minute's interval is judged as ten: a failed reading is tried again after five.
        (MINUTE, 20 * MINUTE, "passed"),
        (MINUTE, 21 * MINUTE, "WARN"),
    ],
)
def test_a_reading_is_stale_by_multiples_of_its_interval(every: timedelta, age: timedelta, answer: str) -> None:
    told = fresh(ASSET, "sakura", Freshness("client", age, True, every))

    assert ("passed" if told.passed else told.severity.value) == answer


def test_a_reading_that_was_certified_just_now_is_fresh() -> None:
    assert fresh(ASSET, "sakura").passed


def test_a_stale_reading_names_the_next_action_and_one_not_to_be_made_now_the_reason() -> None:
    stale = fresh(ASSET, "sakura", Freshness("client", DAY, False, HOUR))
    paused = fresh(ASSET, "sakura", Freshness("client", DAY, True, HOUR, not_now="connection_paused"))
    closed = fresh(ASSET, "sakura", Freshness("client", DAY, True, HOUR, not_now="outside_window"))

    assert "no reading to be relied on" in (stale.description or "")
    assert "Automation" in (stale.description or "")
    assert paused.passed
    assert "paused" in (paused.description or "")
    assert closed.passed
    assert "until it opens" in (closed.description or "")
