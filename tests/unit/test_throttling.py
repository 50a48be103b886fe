"""What a partner says about its limits is read in every dialect, and believed for a day at most."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from partners.throttling import MOST_PATIENCE, Told, retry_after, told

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
DAY = 86_400


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def waiting(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


TIMES = [
    ("0", 0),
    ("120", 120),
    (" 120 ", 120),
    ("1.5", 1.5),
    ("86400", DAY),
    ("86401", DAY),
    ("999999999", DAY),
    ("9" * 400, DAY),
    (str(EPOCH + 90), 90),
    (str(EPOCH + 90.5), 90.5),
    (str(EPOCH - 90), 0),
    (str((EPOCH + 90) * 1000 + 250), 90.25),
    (str((EPOCH - 90) * 1000), 0),
    ("99999999999", DAY),
    (format_datetime(after(90), usegmt=True), 90),
    ("Tue, 24 Nov 2026 18:01:00 +0900", 60),
    ("Tue, 24 Nov 2026 09:01:00 -0000", 60),
    (format_datetime(after(-DAY), usegmt=True), 0),
    ("Fri, 31 Dec 9999 23:59:59 GMT", DAY),
    ("2026-11-24T09:01:00Z", 60),
    ("2026-11-24T18:01:00+09:00", 60),
    ("2026-11-24T09:01:00", 60),
    ("2026-11-24 09:01:00.5", 60.5),
    ("2026-11-23T09:01:00Z", 0),
    ("9999-12-31T23:59:59-12:00", DAY),
]


@pytest.mark.parametrize(("text", "seconds"), TIMES)
def test_a_time_is_read_however_it_is_written_and_is_never_past_nor_far_off(text: str, seconds: float) -> None:
    assert retry_after({"retry-after": text}, NOW) == waiting(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-5",
        "nan",
        "inf",
        "1e3",
        "٣",
        "0x10",
        "5, 10",
        "5s",
        "Tue, 99 Nov 2026",
        "2026-13-24T09:00:00Z",
        "9" * 1001,
    ],
)
def test_a_time_that_makes_no_sense_is_none(text: str) -> None:
    assert retry_after({"retry-after": text}, NOW) is None


@pytest.mark.parametrize(
    ("named", "seconds"),
    [
        ({"retry-after": format_datetime(after(97), usegmt=True)}, 90),
        ({"retry-after": str(EPOCH + 97)}, 90),
        ({"retry-after": "90"}, 90),
        ({"x-ratelimit-reset": str(EPOCH + 97)}, 90),
    ],
)
def test_an_instant_is_one_of_the_partners_clock(named: dict[str, str], seconds: float) -> None:
    ahead = {"date": format_datetime(after(7), usegmt=True)}
    said = told(429, named | ahead, NOW)
    assert said is not None
    assert said.rest == waiting(seconds)


@pytest.mark.parametrize("hours", [-20, -2, 2, 20])
def test_an_instant_is_understood_whatever_this_machines_clock_says(hours: int) -> None:
    right = {"date": format_datetime(NOW, usegmt=True), "retry-after": format_datetime(after(60), usegmt=True)}
    assert retry_after(right, after(3600 * hours)) == waiting(60)


def test_an_answer_that_was_kept_on_the_way_is_as_old_as_it_says() -> None:
    kept = {"date": format_datetime(after(-50), usegmt=True), "age": "50", "retry-after": format_datetime(after(60))}
    assert retry_after(kept, NOW) == waiting(60)
    assert retry_after(kept | {"age": "old"}, NOW) == waiting(110)


@pytest.mark.parametrize("date", ["", "today", "Thu, 01 Jan 1970 00:00:00 GMT", format_datetime(after(86_401))])
def test_a_partners_clock_that_cannot_be_right_is_not_gone_by(date: str) -> None:
    assert retry_after({"retry-after": str(EPOCH + 90), "date": date}, NOW) == waiting(90)


def test_no_retry_after_is_none() -> None:
    assert retry_after({}, NOW) is None


IN_A_MINUTE = {"retry-after": "60"}


@pytest.mark.parametrize(
    ("status", "is_throttle", "wanted"),
    [
        (429, False, Told(True, waiting(60))),
        (503, False, Told(False, waiting(60))),
        (403, True, Told(True, waiting(60))),
        (503, True, Told(True, waiting(60))),
        *((status, False, None) for status in (200, 201, 301, 307, 400, 403, 404, 413, 500, 502, 504)),
    ],
)
def test_retry_after_counts_where_the_call_was_turned_away_and_nowhere_else(
    status: int, is_throttle: bool, wanted: Told | None
) -> None:
    assert told(status, IN_A_MINUTE, NOW, is_throttle=is_throttle) == wanted


@pytest.mark.parametrize("status", [200, 404, 500, 503])
def test_an_answer_without_a_word_of_limits_says_nothing(status: int) -> None:
    assert told(status, {"content-type": "text/plain", "retry-after": "soon"}, NOW) is None


def test_a_refusal_without_a_time_is_one_all_the_same() -> None:
    assert told(429, {}, NOW) == Told(True)


FIGURES = [
    ({"ratelimit-limit": "100", "ratelimit-remaining": "5", "ratelimit-reset": "12"}, None),
    ({"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "0", "ratelimit-reset": "12"}, 12),
    ({"ratelimit-remaining": "0"}, None),
    ({"ratelimit": '"default";r=5;t=12', "ratelimit-policy": '"default";q=100;w=60'}, None),
    ({"ratelimit": '"default";r=0;t=12'}, 12),
    ({"ratelimit": "default; t=12; r=0"}, 12),
    ({"ratelimit": '"burst";r=3;t=1, "day";r=0;t=600', "ratelimit-policy": '"burst";q=5;w=1,"day";q=900;w=86400'}, 600),
    ({"ratelimit": '"a";r=0;t=12, "b, of \\"c\\"";r=0;t=60;pk=:cHM=:'}, 60),
    ({"ratelimit": '"a";r=4'}, None),
    ({"ratelimit": "limit=100, remaining=0, reset=12"}, 12),
    ({"x-ratelimit-limit": "100", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(EPOCH + 30)}, 30),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str((EPOCH + 30) * 1000)}, 30),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, 30),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2026-11-24T09:00:30Z"}, 30),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": format_datetime(after(30), usegmt=True)}, 30),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "-30"}, None),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9" * 50}, DAY),
    (
        {"x-intensive-rate-limit-remaining": "0", "x-intensive-rate-limit-reset": "42", "x-rate-limit-remaining": "9"},
        42,
    ),
    ({"x-rate-limit-limit": "15", "x-rate-limit-remaining": "-1", "x-rate-limit-reset": str(EPOCH + 30)}, 30),
    ({"x-ratelimit-remaining": "7, 0", "x-ratelimit-reset": "1, 60", "x-ratelimit-limit": "10, 900"}, 60),
    ({"x-ratelimit-remaining": "7, 0", "x-ratelimit-reset": "1, 60, 5"}, 60),
    ({"x-ratelimit-remaining": "7", "ratelimit": '"a";r=0;t=60'}, 60),
    ({"x-ratelimit-limit": "100"}, None),
    ({"x-ratelimit-reset": "30"}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), FIGURES)
def test_figures_are_read_in_every_dialect_and_close_where_nothing_is_left(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert told(200, headers, NOW) == (None if seconds is None else Told(False, waiting(seconds)))


@pytest.mark.parametrize(
    "headers",
    [
        {"ratelimit-remaining": "many", "ratelimit-reset": "soon", "ratelimit-limit": ""},
        {"ratelimit": "unlimited", "ratelimit-policy": '"default"'},
        {"ratelimit": '"default";r=few;t=12'},
        {"ratelimit": '"' * 60_000},
        {"x-ratelimit-remaining": "9" * 5000},
    ],
)
def test_figures_that_make_no_sense_say_nothing(headers: dict[str, str]) -> None:
    assert told(200, headers, NOW) is None


def test_a_refusal_lasts_until_the_reset_if_it_names_no_other_time() -> None:
    reset = {"x-ratelimit-reset": "30"}
    assert told(429, reset, NOW) == Told(True, waiting(30))
    assert told(429, reset | IN_A_MINUTE, NOW) == Told(True, waiting(60))
    others = reset | {"x-ratelimit-remaining": "5"}  # of a limit that is not the one that was hit
    assert told(429, others, NOW) == Told(True)


_TEXTS = st.text('0123456789 ,:;=+-."rtTZ', max_size=30) | st.datetimes().map(format_datetime)
_NAMES = ("retry-after", "ratelimit", "ratelimit-policy", "x-ratelimit-remaining", "x-ratelimit-reset")


@given(st.sampled_from([200, 429, 503]), st.dictionaries(st.sampled_from(_NAMES), _TEXTS))
@example(429, {"retry-after": "0001-01-01T00:00:00+12:00"})
@example(200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "0001-01-01T00:00+23:59"})
def test_whatever_the_headers_hold_a_time_is_within_patience(status: int, headers: dict[str, str]) -> None:
    said = told(status, headers, NOW)
    assert said is None or said.rest is None or timedelta(0) <= said.rest <= MOST_PATIENCE
