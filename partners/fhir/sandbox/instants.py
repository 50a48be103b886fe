"""Time as FHIR writes it: instants in milliseconds, and dates that stand for a whole range.

A search value of lower precision stands for all it could mean (R4, Search, section 3.1.1.4.6): `2026-11` is the whole
month. A value without an offset is read as Japan time, where the sandbox's institution is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import formatdate

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_JAPAN = timezone(timedelta(hours=9))
_DATE = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)"
    r"(T(?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)(?P<fraction>\.\d+)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?"
)


@dataclass(frozen=True)
class Span:
    """What a FHIR date stands for: milliseconds since 1970 UTC, `start` within it, `end` the first one after it."""

    start: int
    end: int


def to_millis(moment: datetime) -> int:
    """Milliseconds since 1970 UTC, rounded down; `moment` is aware."""
    return (moment - _EPOCH) // _MILLISECOND


def format_instant(millis: int) -> str:
    """A FHIR instant with milliseconds, in UTC."""
    return (_EPOCH + timedelta(milliseconds=millis)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_http_date(millis: int) -> str:
    """The whole second as `Last-Modified` writes it."""
    return formatdate(millis // 1000, usegmt=True)


def parse_span(text: str) -> Span:
    """The range that a FHIR date, dateTime or instant stands for. ValueError if it is none."""
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError("not a FHIR date")
    part = found.groupdict()
    zone = _zone(part["zone"])
    numbers = [int(part[name] or least) for name, least in _LEAST]
    start = datetime(*numbers, tzinfo=zone)  # type: ignore[misc, arg-type]  # mypy cannot count the list
    fraction = int((part["fraction"] or ".0")[1:4].ljust(3, "0"))
    begin = to_millis(start) + fraction
    return Span(begin, begin + _width(part, start))


def parse_instant(text: object) -> int:
    """Milliseconds since 1970 UTC of a dateTime that has a time and an offset. ValueError if it is none."""
    if not isinstance(text, str) or (found := _DATE.fullmatch(text)) is None or found["zone"] is None:
        raise ValueError("not a FHIR instant")
    return parse_span(text).start


_LEAST = (("year", 1), ("month", 1), ("day", 1), ("hour", 0), ("minute", 0), ("second", 0))


def _zone(text: str | None) -> timezone:
    if text is None:
        return _JAPAN
    if text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return timezone(-offset if text[0] == "-" else offset)


def _width(part: dict[str, str | None], start: datetime) -> int:
    if part["fraction"]:
        return 1
    if part["second"]:
        return 1_000
    if part["hour"]:
        return 60_000
    if part["day"]:
        return 86_400_000
    months = 1 if part["month"] else 12
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    return to_millis(start.replace(year=year, month=month + 1)) - to_millis(start)
