"""Laws of closed times, for whatever windows a connection has; judged minute by minute."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from partners.windows import JAPAN, Dated, Weekly, Window, Yearly, closed_at, parse_window

DAY = 24 * 60
MINUTE = timedelta(minutes=1)
moments = st.integers(0, 16 * DAY).map(lambda minutes: datetime(2026, 12, 25, tzinfo=JAPAN) + minutes * MINUTE)
days = (
    st.builds(Weekly, st.integers(0, 6))
    | st.dates(date(2028, 1, 1), date(2028, 12, 31)).map(lambda day: Yearly((day.month, day.day), (day.month, day.day)))
    | st.tuples(st.dates(date(2026, 12, 27), date(2027, 1, 5)), st.integers(0, 3)).map(
        lambda span: Dated(span[0], span[0] + timedelta(days=span[1]))
    )
    | st.just(Yearly((12, 30), (1, 2)))
)
hours = st.tuples(st.integers(0, DAY - 1), st.integers(1, DAY - 1)).map(lambda span: (span[0], span[0] + span[1]))
windows = st.builds(
    lambda day, span: Window(day, *span), days, hours | st.just((0, DAY)) | st.just((0, 120))
) | hours.filter(lambda span: span[1] - span[0] < DAY // 2).map(lambda span: Window(None, *span))


def is_closed(found: Sequence[Window], moment: datetime) -> bool:
    """Whether a day's minute lies in a window, the days and hours of each read as they are written."""
    minute = moment.hour * 60 + moment.minute
    today, yesterday = moment.date(), moment.date() - timedelta(days=1)

    def begins_on(window: Window, day: date) -> bool:
        return window.days is None or window.days.has(day)

    return any(
        (each.begins <= minute < each.ends and begins_on(each, today))
        or (minute + DAY < each.ends and begins_on(each, yesterday))
        for each in found
    )


@given(windows)
def test_a_window_that_is_printed_is_read_back_as_it_was(window: Window) -> None:
    assert parse_window(str(window)) == window


@given(st.lists(windows, max_size=4), moments)
def test_a_moment_is_closed_until_the_first_open_minute_after_it(found: list[Window], moment: datetime) -> None:
    end = closed_at(found, moment)
    assert (end is not None) == is_closed(found, moment)
    if end is not None and end < moment + timedelta(days=20):
        minute = moment
        while minute < end:
            assert is_closed(found, minute)
            minute += MINUTE
        assert minute == end
        assert not is_closed(found, end)
