"""What a partner says about its limits: an answer's status and headers as one value.

Partners tell it in a dozen dialects, and many against the standard that they name: an instant where seconds belong, a
date without a zone, nothing at all. Read here is what has one sensible meaning; all else is as if it had not been said.
Refused is to believe a time without end: after MOST_PATIENCE the partner is asked again, whatever it said.

Only a refusal may send us away: Retry-After with a redirect, a missing record or a failure speaks of that one thing.
Figures of what remains are believed on any answer: none left closes the limit before the first call is refused.

What comes out are durations from the answer on. An instant is turned into one by the partner's own clock, where the
answer tells it (Date): neither this machine's clock nor the partner's has to be right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

MOST_PATIENCE = timedelta(hours=24)
"""A partner that asks us to stay away longer is asked again after this."""

_MOST_LETTERS = 1000
"""Of a header, inclusive: reading takes longer than in proportion."""
_NO_SECONDS = 1e9
"""From here on a number is no duration but seconds of the Unix epoch (those since 2001)."""
_MILLISECONDS = 1e12
"""From here on, milliseconds of it."""
_MOST_APART = timedelta(days=1)
"""A clock that is further from ours tells no time: nobody has set it."""


@dataclass(frozen=True)
class Told:
    """What one answer says about the partner's limits."""

    is_refusal: bool
    """Whether the call was refused for the number of our calls."""
    rest: timedelta | None = None
    """No call for so long from the answer on: 0 to MOST_PATIENCE.

    None: of a refusal it is not known how long it lasts."""


def told(status: int, headers: Mapping[str, str], now: datetime, *, is_throttle: bool = False) -> Told | None:
    """What an answer that came at `now`, by our clock, says; None: nothing. `headers`: by name, in any case.

    `is_throttle`: whether it means too many calls by the partner's own convention, whatever its status.
    """
    is_refusal = is_throttle or status == 429
    wanted = retry_after(headers, now) if is_refusal or status == 503 else None
    strictest = min(_standings(headers, _theirs(headers, now)), key=_strictness, default=_Standing())
    is_used_up = strictest.remaining == 0 or (is_refusal and strictest.remaining is None)
    if wanted is None and is_used_up:
        wanted = strictest.resets_in
    return None if wanted is None and not is_refusal else Told(is_refusal, wanted)


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How long Retry-After (RFC 9110, 10.2.3, and beyond) asks us to wait: 0 to MOST_PATIENCE. `now`: by our clock.

    None: no such header, or one that names no time. Whether it means anything depends on the status: see `told`.
    """
    return _wait(_text(headers, "retry-after"), _theirs(headers, now))


def _text(headers: Mapping[str, str], name: str) -> str:
    """The header; empty if there is none, or one so long that it says nothing."""
    text = headers.get(name, "")
    return text if len(text) <= _MOST_LETTERS else ""


# --- Times ----------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
"""None below nothing: that names no time."""
_ISO = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d.*", re.ASCII)


def _theirs(headers: Mapping[str, str], now: datetime) -> datetime:
    """What the partner's clock says now: Date, to the second, and Age if the answer was kept on the way. Ours where it
    does not tell."""
    named, age = _instant(_text(headers, "date")), _text(headers, "age").strip()
    if named is None or abs(named - now) > _MOST_APART:
        return now
    return named + timedelta(seconds=int(age)) if re.fullmatch(r"[0-9]{1,8}", age) else named


def _wait(text: str, now: datetime) -> timedelta | None:
    """How long after `now` the named time is: seconds, an instant of the epoch, an HTTP date or ISO 8601."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return _within_patience(_seconds(float(text), now))
    named = _instant(text)
    return None if named is None else _within_patience((named - now).total_seconds())


def _instant(text: str) -> datetime | None:
    """Of an HTTP date or ISO 8601; a date without a zone is UTC."""
    try:
        named = datetime.fromisoformat(text) if _ISO.fullmatch(text) else parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return named if named.tzinfo else named.replace(tzinfo=UTC)  # "-0000" is UTC of unknown origin


def _seconds(number: float, now: datetime) -> float:
    """From `now`, of a number that may be a duration or an instant."""
    if number < _NO_SECONDS:
        return number
    return (number / 1000 if number >= _MILLISECONDS else number) - now.timestamp()


def _within_patience(seconds: float) -> timedelta:
    return timedelta(seconds=min(max(seconds, 0.0), MOST_PATIENCE.total_seconds()))


# --- Figures --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Standing:
    """How we stand with one of the partner's limits; None: not said."""

    remaining: int | None = None
    """Calls that it still allows."""
    resets_in: timedelta | None = None
    """After how long it counts anew."""


_FAMILIES = ("ratelimit", "x-ratelimit", "x-rate-limit", "x-intensive-rate-limit")
"""What the names of the headers begin with: the IETF draft's to version 6, older ones, and SmartHR's second one."""
_COUNT = re.compile(r"\s*(-?\d{1,18})(?:\.\d+)?\s*(?:;.*)?", re.ASCII)
_MEMBER = re.compile(r'("(?:[^"\\]|\\.)*"|[^",;=\s]+)\s*([;=][^,]*)?')
"""Of a structured field: a policy's name, then its parameters; in version 7, a name and its value."""
_PARAMETER = re.compile(r"([a-z]+)\s*=\s*(-?\d{1,18})(?!\d)", re.ASCII)


def _strictness(standing: _Standing) -> tuple[float, float]:
    """In rising order: who allows less goes first, and of these who counts anew last."""
    left = float("inf") if standing.remaining is None else standing.remaining
    return left, 0.0 if standing.resets_in is None else -standing.resets_in.total_seconds()


def _standings(headers: Mapping[str, str], now: datetime) -> Iterator[_Standing]:
    """All that the headers tell of, in whatever dialect."""
    for family in _FAMILIES:
        yield from _in_three(headers, family, now)
    yield from _structured(headers, now)


def _in_three(headers: Mapping[str, str], family: str, now: datetime) -> Iterator[_Standing]:
    """`-Remaining` and `-Reset`, each perhaps of several limits in the same order."""
    remaining, resets = _counts(_text(headers, f"{family}-remaining")), _waits(_text(headers, f"{family}-reset"), now)
    if not (remaining or resets):
        return
    standings: Sequence[int | None] = [*remaining] or [None]
    for number, left in enumerate(standings):
        # Which reset is whose cannot be told where their numbers differ: the last of them is safe.
        reset = resets[number] if len(resets) == len(standings) else max(resets, default=None)
        yield _Standing(left, reset)


def _counts(text: str) -> list[int]:
    """Numbers of calls, none of them negative."""
    found = (_COUNT.fullmatch(each) for each in text.split(","))
    return [max(0, int(each[1])) for each in found if each is not None]


def _waits(text: str, now: datetime) -> list[timedelta]:
    alone = _wait(text, now)  # an HTTP date has a comma of its own
    found = [alone] if alone is not None else [_wait(each, now) for each in text.split(",")]
    return [each for each in found if each is not None]


def _structured(headers: Mapping[str, str], now: datetime) -> Iterator[_Standing]:
    """`RateLimit`: the draft's version 7, and those after it."""
    whole: dict[str, int] = {}
    for name, figures in _members(_text(headers, "ratelimit")):
        if "r" in figures:
            yield _standing(figures["r"], figures.get("t"), now)
        whole |= {name: figures[""]} if "" in figures else {}
    if "remaining" in whole:
        yield _standing(whole["remaining"], whole.get("reset"), now)


def _members(text: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Each member's name and its numbers; its own value is under the empty name."""
    for member in _MEMBER.finditer(text):
        rest = member[2] or ""
        own = f"own{rest}" if rest.startswith("=") else rest
        figures = {key: int(number) for key, number in _PARAMETER.findall(own)}
        if "own" in figures:
            figures[""] = figures.pop("own")
        yield member[1], figures


def _standing(remaining: int, seconds: int | None, now: datetime) -> _Standing:
    resets_in = None if seconds is None else _within_patience(_seconds(float(seconds), now))
    return _Standing(max(0, remaining), resets_in)
