"""Weeks as the product plans them: Monday to Sunday on Japan's calendar.

Japan keeps UTC+9 without summer time, so the offset is a constant and no time zone database is read.
A visit belongs to the day on which it starts, also when it ends past midnight.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

JST = timezone(timedelta(hours=9), "JST")


def local_date(moment: datetime) -> date:
    """The day in Japan on which `moment` falls. Raises ValueError for a time without a zone."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone belongs to no day")
    return moment.astimezone(JST).date()


def monday(day: date) -> date:
    """The Monday that starts the week of `day`: `day` itself or up to six days earlier."""
    return day - timedelta(days=day.weekday())


def week(first: date) -> tuple[date, date]:
    """The first and last day (Monday and Sunday, both inside) of the week that starts on `first`.

    Raises ValueError if `first` is no Monday: a shifted week would push days that nobody asked for.
    """
    if first != monday(first):
        raise ValueError(f"{first} is not a Monday")
    return first, first + timedelta(days=6)
