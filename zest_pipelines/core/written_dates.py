"""Dates as people and partners write them in Japan, as ISO dates: by the western calendar or by eras (和暦), whole or
partial.

What is not said is not invented: a year stays a year. What cannot be is no date: a thirtieth of February, a 昭和 after
its last day. A time beside the date is left out, and the date is the one that was written, in whatever time zone.
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class _Era:
    """An era; both of its days are in it, as the days of change before 平成 were in two."""

    name: str
    letter: str
    first: date
    last: date
    year_before: int
    """The western year before its first."""


_ERAS = (
    # Japan counted by the moon until the fifth year; what a date of then would be here takes tables.
    _Era("明治", "M", date(1873, 1, 1), date(1912, 7, 30), 1867),
    _Era("大正", "T", date(1912, 7, 30), date(1926, 12, 25), 1911),
    _Era("昭和", "S", date(1926, 12, 25), date(1989, 1, 7), 1925),
    _Era("平成", "H", date(1989, 1, 8), date(2019, 4, 30), 1988),
    _Era("令和", "R", date(2019, 5, 1), date.max, 2018),
)
_BY_SIGN = {sign: era for era in _ERAS for sign in (era.name, era.name[0], era.letter)}
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−─━﹣ー", "-"))
_SIGN = "|".join(sorted(_BY_SIGN, key=len, reverse=True))
_TIME = re.compile(r"(?<=[0-9日])(?:T|\s+)[0-9]{1,2}:[0-9]{2}.*", re.DOTALL)
# Between two numbers a space is the only mark, and which numbers they are is a guess.
_SPACES = re.compile(r"(?<![0-9])\s+|\s+(?![0-9])")
_COMPACT = re.compile(
    rf"(?:(?P<era>{_SIGN})(?P<of_era>[0-9]{{2}})|(?P<year>[0-9]{{4}}))(?P<m>[0-9]{{2}})(?P<d>[0-9]{{2}})"
)
_MARKED = re.compile(
    rf"(?:(?P<era>{_SIGN})(?P<of_era>元|[0-9]{{1,2}})|(?P<year>[0-9]{{4}}))"
    r"(?:(?P<mark>[-./])(?P<m>[0-9]{1,2})(?:(?P=mark)(?P<d>[0-9]{1,2}))?"
    r"|年(?:(?P<month>[0-9]{1,2})月(?:(?P<day>[0-9]{1,2})日)?)?)?"
)


def iso_date(text: str) -> str | None:
    """`YYYY-MM-DD`, `YYYY-MM` or `YYYY`, as much as the text says; None: it is no date that exists.

    Read are 1950-03-01 with - / or ., 1950年3月1日, 19500301, 昭和25年3月1日, S25.3.1, 昭25/3/1, S250301 and 元年; each
    but the compact ones also without its day, or its month and day; in full width too. An era's year alone is the
    western year in which it mostly lay: 大正元年 and 明治45年 are both 1912.
    """
    plain = unicodedata.normalize("NFKC", text).upper()
    plain = _SPACES.sub("", _TIME.sub("", plain.translate(_DASHES).strip()))
    found = _COMPACT.fullmatch(plain) or _MARKED.fullmatch(plain)
    if found is None:
        return None
    part = found.groupdict()
    month, day = (int(part[short] or part.get(long) or 0) or None for short, long in (("m", "month"), ("d", "day")))
    if (month is None) != _is_unsaid(part, "m", "month") or (day is None) != _is_unsaid(part, "d", "day"):
        return None  # the month or day 0
    era = _BY_SIGN[part["era"]] if part["era"] else None
    return _iso(era, int((part["of_era"] or part["year"]).replace("元", "1")), month, day)


def _is_unsaid(part: dict[str, str | None], *names: str) -> bool:
    return not any(part.get(name) for name in names)


def _iso(era: _Era | None, number: int, month: int | None, day: int | None) -> str | None:
    """The date in its calendar; None if there is no such one."""
    if era is not None and number == 0:
        return None
    year = number + (era.year_before if era else 0)
    try:
        first = date(year, month or 1, day or 1)
    except ValueError:
        return None
    last = first if day else first.replace(month=month or 12, day=calendar.monthrange(year, month or 12)[1])
    if era is not None and (last < era.first or first > era.last):
        return None
    return first.isoformat()[: 10 if day else 7 if month else 4]
