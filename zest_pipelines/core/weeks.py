"""Days that are pushed together: a week, or any run of days. Pure.

A week begins on its Monday. Which days a moment belongs to is the caller's business: a visit's day is told by its
tenant's time zone and stands in the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

MOST_DAYS = 92
"""A quarter: more at once is a slip of the finger, or a first load, which the minute schedule does."""


class DaysError(ValueError):
    """Days that cannot be pushed; the message says which would do."""


@dataclass(frozen=True)
class Days:
    """A run of days, both ends inclusive."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise DaysError(f"the last day ({self.last}) is before the first ({self.first}): exchange them")
        if (self.last - self.first).days >= MOST_DAYS:
            raise DaysError(f"{self.first} to {self.last} is more than {MOST_DAYS} days: ask for fewer at a time")

    def __contains__(self, day: object) -> bool:
        return isinstance(day, date) and self.first <= day <= self.last

    def __str__(self) -> str:
        return f"{self.first}..{self.last}"


def week_of(day: date) -> Days:
    """The week, Monday to Sunday, that `day` lies in."""
    monday = day - timedelta(days=day.weekday())
    return Days(monday, monday + timedelta(days=6))


def week_from(monday: date) -> Days:
    """The week that begins on `monday`. DaysError if that is another day of the week."""
    week = week_of(monday)
    if week.first != monday:
        raise DaysError(f"{monday} is no Monday: that week begins on {week.first}")
    return week
