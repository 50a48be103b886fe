"""When a partner takes no calls: the grammar as data, always in Japan's time.

    02:00-05:00                  every day
    23:00-01:00                  every day, over midnight
    sun                          all of each Sunday
    sat 12:00-24:00              each Saturday from noon on
    12-31                        each year on this day; 12-29..01-03 from the first to the last, both closed
    2026-12-31                   once; 2026-12-29..2027-01-03 from the first to the last, both closed
    12-31 17:00-09:00            any of these days with hours: those that begin on such a day

Windows stand in a partner's declaration and in a connection's settings; this module reads and prints them, refuses
what does not parse, and says until when a moment is closed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache

JAPAN = timezone(timedelta(hours=9), "JST")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONGEST = timedelta(days=366)
"""Nothing is closed for longer: neither the days of one window, nor all windows together."""

_DAY = 24 * 60
_YEARS = range(2024, 2052)
"""In 28 years each date has been each weekday."""
_TIME = r"([0-9]{2}):([0-9]{2})"
_HOURS = re.compile(rf"{_TIME}-{_TIME}")
_YEARLY = re.compile(r"([0-9]{2})-([0-9]{2})(?:\.\.([0-9]{2})-([0-9]{2}))?")
_DATED = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:\.\.([0-9]{4}-[0-9]{2}-[0-9]{2}))?")
_LEAP_YEAR = 2024


class WindowSyntaxError(ValueError):
    """The text is not a window. The message says why and shows some that are."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(
            f"{text!r} is not a closed time: {why}. Right are, for example, '02:00-05:00', '23:00-01:00', 'sun', "
            "'sat 12:00-24:00', '12-29..01-03' and '2026-12-31' (in Japan's time)."
        )


class NeverOpenError(ValueError):
    """The windows together leave no time for any call."""

    def __init__(self, year: int) -> None:
        super().__init__(
            f"These closed times together leave nothing open in {year}, so nothing would ever be sent: leave some time "
            "open in every year. What is not to be sent for a while is paused instead."
        )


@dataclass(frozen=True)
class Weekly:
    """One day of the week."""

    weekday: int
    """0 (Monday) to 6."""

    def has(self, day: date) -> bool:
        """Whether it is such a day."""
        return day.weekday() == self.weekday

    def __str__(self) -> str:
        return WEEKDAYS[self.weekday]


@dataclass(frozen=True)
class Yearly:
    """Some days of each year, over its end if the last comes before the first."""

    first: tuple[int, int]
    """Month and day, closed too; 29 February is there in leap years alone."""
    last: tuple[int, int]
    """Closed too."""

    def has(self, day: date) -> bool:
        """Whether it is such a day."""
        found = (day.month, day.day)
        if self.first <= self.last:
            return self.first <= found <= self.last
        return found >= self.first or found <= self.last

    def __str__(self) -> str:
        return _span(*("{:02}-{:02}".format(*each) for each in (self.first, self.last)))


@dataclass(frozen=True)
class Dated:
    """Some days once."""

    first: date
    last: date
    """Closed too; at most 366 days in all."""

    def has(self, day: date) -> bool:
        """Whether it is such a day."""
        return self.first <= day <= self.last

    def __str__(self) -> str:
        return _span(self.first.isoformat(), self.last.isoformat())


@dataclass(frozen=True)
class Window:
    """A time in which the partner takes no calls."""

    days: Weekly | Yearly | Dated | None = None
    """On which it begins; None: on every day."""
    begins: int = 0
    """Minutes after midnight in Japan, 0 to 1439; itself closed."""
    ends: int = _DAY
    """Minutes after the same midnight, after `begins` and at most a day after it; itself open."""

    def end_at(self, moment: datetime) -> datetime | None:
        """When the closed time that `moment` (in Japan) lies in ends, looking at this window's single days; or None."""
        midnight = datetime.combine(moment.date(), time(), JAPAN)
        for start in (midnight, midnight - timedelta(days=1)):  # the later day's ends later
            begins, ends = start + timedelta(minutes=self.begins), start + timedelta(minutes=self.ends)
            if begins <= moment < ends and (self.days is None or self.days.has(start.date())):
                return ends
        return None

    def __str__(self) -> str:
        hours = "" if self.days and (self.begins, self.ends) == (0, _DAY) else f"{_clock(self.begins)}-{self._until}"
        return " ".join(part for part in (str(self.days or ""), hours) if part)

    @property
    def _until(self) -> str:
        return _clock(self.ends if self.ends <= _DAY else self.ends - _DAY)


@lru_cache(maxsize=1024)  # asked before each call of every connection
def parse_window(text: str) -> Window:
    """The window that `text` says. `parse_window(str(window)) == window`. Raises WindowSyntaxError."""
    if text != text.strip() or not text:
        raise WindowSyntaxError(text, "it is written as days, or hours, or days and hours, with nothing around them")
    days, _, hours = text.rpartition(" ") if ":" in text else (text, "", "")
    return Window(_days(text, days) if days else None, *(_hours(text, hours) if hours else (0, _DAY)))


def parse_windows(texts: Sequence[str]) -> tuple[Window, ...]:
    """The windows that hold together. Raises WindowSyntaxError; NeverOpenError if they leave nothing open in a year."""
    windows = tuple(parse_window(text) for text in texts)
    dated = [each.days.first.year for each in windows if isinstance(each.days, Dated)]
    for year in sorted({*_YEARS, *dated}):
        end = closed_at(windows, datetime(year, 1, 1, tzinfo=JAPAN))
        if end is not None and end.year > year:
            raise NeverOpenError(year)
    return windows


def closed_at(windows: Sequence[Window], moment: datetime) -> datetime | None:
    """When the closed time that `moment` (aware) lies in ends, windows that touch or overlap taken as one; None: open.

    At most a year ahead, where windows never open: who asks again then is told the next.
    """
    asked = moment.astimezone(JAPAN)
    end = asked
    while end < asked + LONGEST:
        later = [found for each in windows if (found := each.end_at(end)) is not None]
        if not later:
            break
        end = max(later)
    return end if end > asked else None


def _days(text: str, days: str) -> Weekly | Yearly | Dated:
    if days in WEEKDAYS:
        return Weekly(WEEKDAYS.index(days))
    if found := _YEARLY.fullmatch(days):
        first = _day_of_year(text, found[1], found[2])
        return Yearly(first, _day_of_year(text, found[3], found[4]) if found[3] else first)
    if found := _DATED.fullmatch(days):
        return _dated(text, found[1], found[2] or found[1])
    raise WindowSyntaxError(text, f"{days!r} is neither a weekday (mon to sun) nor a date such as 12-31 or 2026-12-31")


def _day_of_year(text: str, month: str, day: str) -> tuple[int, int]:
    try:
        found = date(_LEAP_YEAR, int(month), int(day))
    except ValueError:
        raise WindowSyntaxError(text, f"{month}-{day} is no day of any year (month-day)") from None
    return (found.month, found.day)


def _dated(text: str, first: str, last: str) -> Dated:
    try:
        days = Dated(date.fromisoformat(first), date.fromisoformat(last))
    except ValueError:
        raise WindowSyntaxError(text, "there is no such day (year-month-day)") from None
    if not timedelta(0) <= days.last - days.first < LONGEST:
        raise WindowSyntaxError(text, f"{last} is not within a year from {first} on")
    return days


def _hours(text: str, hours: str) -> tuple[int, int]:
    found = _HOURS.fullmatch(hours)
    if found is None:
        raise WindowSyntaxError(text, f"{hours!r} are no hours such as 02:00-05:00")
    begins, ends = _minutes(text, found[1], found[2]), _minutes(text, found[3], found[4])
    if begins in (ends, _DAY):
        raise WindowSyntaxError(text, f"{hours} has no length: a whole day is 00:00-24:00")
    return begins, ends if ends > begins else ends + _DAY


def _minutes(text: str, hour: str, minute: str) -> int:
    minutes = int(hour) * 60 + int(minute)
    if int(minute) > 59 or minutes > _DAY:
        raise WindowSyntaxError(text, f"{hour}:{minute} is not a time of day (00:00 to 24:00)")
    return minutes


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first}..{last}"
