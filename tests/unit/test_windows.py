"""The grammar of closed times, and until when a moment is closed."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from partners.windows import (
    JAPAN,
    WEEKDAYS,
    Dated,
    NeverOpenError,
    Weekly,
    Window,
    WindowSyntaxError,
    Yearly,
    closed_at,
    parse_window,
    parse_windows,
)


def japan(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=JAPAN)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("02:00-05:00", Window(None, 120, 300)),
        ("23:00-01:00", Window(None, 1380, 1500)),
        ("22:00-24:00", Window(None, 1320, 1440)),
        ("sun", Window(Weekly(6))),
        ("sat 12:00-24:00", Window(Weekly(5), 720, 1440)),
        ("12-31", Window(Yearly((12, 31), (12, 31)))),
        ("12-29..01-03", Window(Yearly((12, 29), (1, 3)))),
        ("02-29", Window(Yearly((2, 29), (2, 29)))),
        ("12-31 17:00-09:00", Window(Yearly((12, 31), (12, 31)), 1020, 1980)),
        ("2026-12-31", Window(Dated(date(2026, 12, 31), date(2026, 12, 31)))),
        ("2026-12-29..2027-01-03 12:00-13:30", Window(Dated(date(2026, 12, 29), date(2027, 1, 3)), 720, 810)),
    ],
)
def test_a_window_is_read_and_printed_as_it_was_written(text: str, window: Window) -> None:
    assert parse_window(text) == window
    assert str(window) == text


def test_other_spellings_are_understood_and_printed_the_usual_way() -> None:
    spellings = ("23:00-00:00", "sun 00:00-24:00", "12-31..12-31", "00:00-24:00", "01:00-00:30")
    printed = [str(parse_window(text)) for text in spellings]
    assert printed == ["23:00-24:00", "sun", "12-31", "00:00-24:00", "01:00-00:30"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "days, or hours"),
        (" 02:00-05:00", "days, or hours"),
        ("02:00-05:00 ", "nothing around them"),
        ("2:00-5:00", "no hours"),
        ("02:00", "no hours"),
        ("02:00-25:00", "25:00 is not a time of day"),
        ("02:60-05:00", "02:60 is not a time of day"),
        ("24:00-01:00", "has no length"),
        ("02:00-02:00", "has no length"),
        ("02:00-05:00\n", "nothing around them"),
        ("０２:00-05:00", "no hours"),
        ("Sunday", "neither a weekday"),
        ("SUN", "neither a weekday"),
        ("sun,mon", "neither a weekday"),
        ("sun  02:00-05:00", "neither a weekday"),
        ("13-01", "13-01 is no day of any year"),
        ("02-30", "02-30 is no day of any year"),
        ("12-29..", "neither a weekday"),
        ("12-29..2027-01-03", "neither a weekday"),
        ("2026-02-29", "no such day"),
        ("2027-01-03..2026-12-29", "not within a year"),
        ("2026-01-01..2027-01-02", "not within a year"),
        ("tenant:600/60s", "no hours"),
    ],
)
def test_what_is_no_window_is_refused_with_why_and_right_examples(text: str, why: str) -> None:
    with pytest.raises(WindowSyntaxError, match=why) as error:
        parse_window(text)
    assert "'sat 12:00-24:00'" in str(error.value)


@pytest.mark.parametrize(
    ("texts", "moment", "end"),
    [
        ("02:00-05:00", "2026-11-25T01:59", None),
        ("02:00-05:00", "2026-11-25T02:00", "2026-11-25T05:00"),
        ("02:00-05:00", "2026-11-25T04:59", "2026-11-25T05:00"),
        ("02:00-05:00", "2026-11-25T05:00", None),
        ("23:00-01:00", "2026-11-25T23:30", "2026-11-26T01:00"),
        ("23:00-01:00", "2026-11-26T00:59", "2026-11-26T01:00"),
        ("23:00-01:00", "2026-12-31T23:30", "2027-01-01T01:00"),
        ("sun", "2026-11-29T00:00", "2026-11-30T00:00"),
        ("sun", "2026-11-28T23:59", None),
        ("sun 23:00-01:00", "2026-11-30T00:30", "2026-11-30T01:00"),  # a Monday: it began on Sunday
        ("sun 23:00-01:00", "2026-11-29T00:30", None),
        ("20:00-19:00", "2026-11-25T19:30", None),
        ("12-31 17:00-09:00", "2027-01-01T08:59", "2027-01-01T09:00"),
        ("12-29..01-03", "2026-12-31T12:00", "2027-01-04T00:00"),
        ("12-29..01-03", "2027-01-03T23:59", "2027-01-04T00:00"),
        ("12-29..01-03", "2026-12-28T23:59", None),
        ("02-29", "2027-02-28T12:00", None),
        ("02-29", "2028-02-29T12:00", "2028-03-01T00:00"),
        ("2026-12-31", "2025-12-31T12:00", None),
        ("2026-12-31", "2026-12-31T12:00", "2027-01-01T00:00"),
        ("sat; sun", "2026-11-28T12:00", "2026-11-30T00:00"),  # touching
        ("sun; 23:00-05:00", "2026-11-28T23:30", "2026-11-30T05:00"),  # overlapping, one after the other
        ("02:00-05:00; 04:00-06:00; 05:30-07:00", "2026-11-25T02:00", "2026-11-25T07:00"),
        ("02:00-05:00; 05:01-07:00", "2026-11-25T02:00", "2026-11-25T05:00"),
        ("", "2026-11-25T02:00", None),
    ],
)
def test_a_moment_is_closed_until_the_whole_closed_time_around_it_ends(
    texts: str, moment: str, end: str | None
) -> None:
    windows = [parse_window(text) for text in texts.split("; ") if text]
    assert closed_at(windows, japan(moment)) == (None if end is None else japan(end))


def test_it_is_japans_time_whatever_zone_the_moment_is_written_in() -> None:
    night = [parse_window("02:00-05:00")]
    assert closed_at(night, datetime(2026, 11, 24, 17, 30, tzinfo=UTC)) == datetime(2026, 11, 24, 20, tzinfo=UTC)
    assert closed_at(night, datetime(2026, 11, 25, 2, 30, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("texts", "year"),
    [
        (["00:00-24:00"], 2024),
        (["09:00-21:00", "21:00-09:00"], 2024),
        (["mon", "tue", "wed", "thu", "fri", "sat", "sun"], 2024),
        (["01-01..06-30", "06-30..12-31"], 2024),
        (["03-01..02-28"], 2025),  # nothing but 29 February is left
        (["2030-01-01..2030-12-31"], 2030),
        (["2060-01-01..2060-12-31"], 2060),
        (["01-01..12-24", "12-26..12-31", *WEEKDAYS[:6]], 2024),
    ],
)
def test_windows_that_leave_a_year_nothing_open_are_refused(texts: list[str], year: int) -> None:
    with pytest.raises(NeverOpenError, match=f"nothing open in {year}.*leave some time"):
        parse_windows(texts)


def test_windows_that_leave_a_minute_are_taken() -> None:
    assert [str(each) for each in parse_windows(["00:01-24:00", "12-29..01-03"])] == ["00:01-24:00", "12-29..01-03"]
    assert parse_windows([]) == ()


def test_a_connection_that_never_opens_is_told_an_end_all_the_same() -> None:
    end = closed_at([parse_window("00:00-24:00")], japan("2026-11-25T12:00"))
    assert end is not None
    assert end >= japan("2027-11-25T12:00")
