"""FHIR's dates and times (R4, Datatypes, 2.24.0.1) as Python's, and back.

A date may be partial and then stands for all the days it could mean. A time without an offset is refused.
"""

from __future__ import annotations

import calendar
import re
from datetime import date, datetime, timedelta, timezone

JAPAN = timezone(timedelta(hours=9), "JST")
_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def is_date(text: str) -> bool:
    """Whether `text` is a whole or partial date that exists."""
    try:
        return _DATE.fullmatch(text) is not None and bool(first_day(text))
    except ValueError:
        return False


def first_day(text: str) -> date:
    """The first day that a date or dateTime can mean, in Japan. ValueError if it is neither."""
    return _days(text)[0]


def last_day(text: str) -> date:
    """The last day that a date or dateTime can mean, in Japan. ValueError if it is neither."""
    return _days(text)[1]


def parse_moment(text: object) -> datetime:
    """A dateTime or instant with time and offset, aware. ValueError if it is none, or at the calendar's very edge."""
    if not isinstance(text, str) or _TIME.fullmatch(text) is None:
        raise ValueError("not a FHIR time")
    moment = datetime.fromisoformat(text)
    if not date.min.year < moment.year < date.max.year:  # it may have no counterpart in another offset
        raise ValueError("a FHIR time that no calendar reaches")
    return moment


def format_moment(moment: datetime) -> str:
    """An aware datetime as a FHIR instant in Japan's offset, cut to milliseconds; whole seconds show none."""
    local = moment.astimezone(JAPAN)
    return local.isoformat(timespec="milliseconds" if local.microsecond >= 1000 else "seconds")


def _days(text: str) -> tuple[date, date]:
    found = _DATE.fullmatch(text)
    if found is None:
        day = parse_moment(text).astimezone(JAPAN).date()
        return day, day
    year, month, day_of_month = (int(part) if part else None for part in found.groups())
    assert year is not None  # the pattern needs it
    first = date(year, month or 1, day_of_month or 1)
    if day_of_month:
        return first, first
    last_month = month or 12
    return first, date(year, last_month, calendar.monthrange(year, last_month)[1])
