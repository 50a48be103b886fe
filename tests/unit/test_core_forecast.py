"""When the last of what waits leaves, as told to people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from partners.reasons import Language
from zest_pipelines.core.forecast import (
    FARTHEST,
    Daily,
    Evenly,
    Sliding,
    Supply,
    Work,
    forecast,
    is_late,
    sentence,
    share,
)

NOW = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)  # 17:00 in Japan
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SPENT = Sliding(0, ((NOW + HOUR, 40), (NOW + 5 * HOUR, 60)), DAY)
FRESH = Sliding(100, (), DAY)


def after(supplies: list[Supply], records: int, closed: timedelta | None = None) -> timedelta | None:
    at = forecast(Work(records), supplies, NOW, None if closed is None else NOW + closed)
    return None if at is None else at - NOW


@pytest.mark.parametrize(
    ("supply", "records", "wait"),
    [
        (Evenly(NOW, SECOND), 1, 0 * SECOND),
        (Evenly(NOW, SECOND), 61, MINUTE),
        (Evenly(NOW - DAY, SECOND), 61, MINUTE),
        (Evenly(NOW + HOUR, SECOND), 61, HOUR + MINUTE),
        (Evenly(NOW, SECOND, share=0.25), 15, 59 * SECOND),
        (Evenly(NOW - DAY, SECOND, burst=40), 40, 0 * SECOND),
        (Evenly(NOW - DAY, SECOND, burst=40), 100, MINUTE),
        (Evenly(NOW + 40 * SECOND, SECOND, burst=40), 60, MINUTE),
        (FRESH, 100, 0 * SECOND),
        (FRESH, 101, DAY),
        (FRESH, 250, 2 * DAY),
        (SPENT, 1, HOUR),
        (SPENT, 41, 5 * HOUR),
        (SPENT, 101, DAY + HOUR),
        (Daily(7, 100, NOW + HOUR), 7, 0 * SECOND),
        (Daily(7, 100, NOW + HOUR), 107, HOUR),
        (Daily(7, 100, NOW + HOUR), 108, DAY + HOUR),
    ],
)
def test_the_last_leaves_when_the_limit_has_given_so_many_calls(supply: Supply, records: int, wait: timedelta) -> None:
    assert after([supply], records) == wait


def test_of_several_limits_the_one_that_takes_longest_decides() -> None:
    assert after([Evenly(NOW, SECOND), FRESH], 100) == 99 * SECOND
    assert after([Evenly(NOW, SECOND), FRESH], 101) == DAY
    assert after([], 1_000_000) == 0 * SECOND


def test_a_record_may_need_more_than_one_call() -> None:
    assert Work(214, 1.2).calls == 257
    assert forecast(Work(10, 1.2), [Evenly(NOW, SECOND)], NOW) == NOW + 11 * SECOND


def test_nothing_waits_for_nothing() -> None:
    assert forecast(Work(0), [SPENT], NOW, NOW + DAY) == NOW


@pytest.mark.parametrize(
    ("supply", "records", "wait"),
    [
        (Evenly(NOW + HOUR, SECOND), 61, 2 * HOUR + MINUTE),
        (Evenly(NOW + 40 * SECOND, SECOND, burst=40), 100, 2 * HOUR + MINUTE),
        (SPENT, 40, 2 * HOUR),
        (SPENT, 41, 5 * HOUR),
        (Daily(7, 100, NOW + HOUR), 100, 2 * HOUR),
        (Daily(7, 100, NOW + HOUR), 101, DAY + HOUR),
    ],
)
def test_what_comes_free_while_the_partner_is_closed_waits_for_its_return(
    supply: Supply, records: int, wait: timedelta
) -> None:
    assert after([supply], records, closed=2 * HOUR) == wait


def test_a_closing_that_is_over_holds_nothing_up() -> None:
    assert after([Evenly(NOW, SECOND)], 61, closed=-HOUR) == MINUTE


def test_what_never_comes_or_lies_too_far_is_not_told() -> None:
    assert after([Sliding(0, (), DAY)], 1) is None
    assert after([], 1, closed=FARTHEST + SECOND) is None
    assert after([Evenly(NOW, 31 * DAY)], 1_000_000) is None
    assert after([FRESH], 100, closed=FARTHEST) == FARTHEST
    assert forecast(Work(1), [], NOW, datetime.max.replace(tzinfo=UTC)) is None


def test_a_share_is_by_weight_among_those_who_wait() -> None:
    assert share(1, []) == 1
    assert share(1, [1, 1, 1]) == 0.25
    assert share(3, [1]) == 0.75


def test_late_is_what_will_be_older_than_the_deadline() -> None:
    assert not is_late(NOW, NOW - HOUR, HOUR)
    assert is_late(NOW + SECOND, NOW - HOUR, HOUR)
    assert is_late(None, NOW, HOUR)
    assert not is_late(None, NOW, None)
    assert not is_late(NOW, None, HOUR)


@pytest.mark.parametrize(
    ("records", "at", "english", "japanese"),
    [
        (
            214,
            NOW + 42 * MINUTE,
            "at this rate the last of 214 waiting visits of tenant a leaves at 17:42",
            "このままのペースでは、aの送信待ちの予定214件は17:42に送り終わります。",
        ),
        (
            1,
            NOW + 7 * HOUR,
            "at this rate the one waiting visit of tenant a leaves at 2026-11-26 00:00",
            "このままのペースでは、aの送信待ちの予定1件は2026-11-26 00:00に送り終わります。",
        ),
        (
            5_000,
            None,
            "when the last of 5,000 waiting visits of tenant a leaves cannot be told yet",
            "aの送信待ちの予定5,000件を送り終わる時刻は、まだ分かりません。",
        ),
    ],
)
def test_a_forecast_is_told_in_japans_time_with_the_date_unless_it_is_today(
    records: int, at: datetime | None, english: str, japanese: str
) -> None:
    assert sentence("a", records, at, NOW, Language.ENGLISH) == english
    assert sentence("a", records, at, NOW, Language.JAPANESE) == japanese
