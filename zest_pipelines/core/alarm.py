"""When an alert opens and recovers, and when a notice of it may be sent. Pure.

One cause is one alert, however many records and tenants it touches. It recovers only after it has stayed away for a
while, so that what comes and goes is told once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from hashlib import sha256

from partners.windows import JAPAN

IDENTIFYING = ("detail", "code", "status", "why", "protocol", "function", "permission")
"""Parameters that tell causes of one reason apart; all others (fields, ids, dates, counts) do not."""

RENEWED = timedelta(minutes=10)
"""So old the numbers of an open alert may be."""


def detail_of(params: Mapping[str, str]) -> str:
    """What of a reason's parameters tells its causes apart; `sync.detail` says the same in the database."""
    return " ".join(told for name in IDENTIFYING if (told := params.get(name)))[:200]


def fingerprint_of(partner: str, reason: str, detail: str) -> str:
    """Eight hexadecimal digits that stand for a cause; of an unknown one `sync.cause` says the same."""
    return sha256("\0".join((partner, reason, detail)).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Trouble:
    """Something that is wrong now, over all tenants."""

    partner: str
    """Empty: the platform itself."""
    reason: str
    detail: str
    records: int
    tenants: int
    since: datetime
    may_open: bool = True
    """False: nobody has tried lately, in closed hours as a rule; it opens no alert, and keeps one open."""

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that stand for the cause."""
        return fingerprint_of(self.partner, self.reason, self.detail)


@dataclass(frozen=True)
class Alert:
    """One that is open."""

    alert_id: int
    fingerprint: str
    seen_at: datetime
    """When its numbers were stored."""
    gone_at: datetime | None
    """Since when its cause is not seen any more; None: it is."""


@dataclass(frozen=True)
class Step:
    """What becomes of alerts with one look."""

    opened: tuple[Trouble, ...]
    seen: Mapping[int, Trouble]
    """By alert, its cause as it is now."""
    back: tuple[int, ...]
    """Of `seen`, those that were gone."""
    aged: tuple[int, ...]
    """Of `seen`, those whose stored numbers are older than RENEWED."""
    gone: tuple[int, ...]
    """Not seen since this look."""
    recovered: tuple[int, ...]

    @property
    def is_news(self) -> bool:
        """Whether there is anything to store that somebody waits for."""
        return bool(self.opened or self.back or self.aged or self.gone or self.recovered)


@dataclass(frozen=True)
class Hours:
    """When a target wants notices."""

    quiet_from: time | None = None
    quiet_to: time | None = None
    digest_at: time | None = None
    is_pierced: bool = False
    """Whether what is urgent comes in quiet hours too."""


def folded(troubles: Iterable[Trouble]) -> tuple[Trouble, ...]:
    """One a cause. Tenants of two rows of one cause may be the same, so the larger number counts."""
    found: dict[str, Trouble] = {}
    for each in troubles:
        other = found.get(each.fingerprint)
        found[each.fingerprint] = (
            each
            if other is None
            else Trouble(
                each.partner,
                each.reason,
                each.detail,
                each.records + other.records,
                max(each.tenants, other.tenants),
                min(each.since, other.since),
                each.may_open or other.may_open,
            )
        )
    return tuple(found.values())


def step(alerts: Iterable[Alert], troubles: Iterable[Trouble], now: datetime, calm: timedelta) -> Step:
    """What opens, goes on, is gone and has recovered: who was gone for `calm`."""
    current = {each.fingerprint: each for each in folded(troubles)}
    seen: dict[int, Trouble] = {}
    back: list[int] = []
    aged: list[int] = []
    gone: list[int] = []
    recovered: list[int] = []
    for alert in alerts:
        trouble = current.pop(alert.fingerprint, None)
        if trouble is not None:
            seen[alert.alert_id] = trouble
            if alert.gone_at is not None:
                back.append(alert.alert_id)
            elif now - alert.seen_at > RENEWED:
                aged.append(alert.alert_id)
        elif alert.gone_at is None:
            gone.append(alert.alert_id)
        elif now - alert.gone_at >= calm:
            recovered.append(alert.alert_id)
    opened = tuple(each for each in current.values() if each.may_open)
    return Step(opened, seen, tuple(back), tuple(aged), tuple(gone), tuple(recovered))


def send_at(hours: Hours, now: datetime, *, is_urgent: bool = False) -> datetime:
    """When a notice made at `now` may be sent: at once, at the end of quiet hours, or with the next digest."""
    local = now.astimezone(JAPAN)
    if hours.digest_at is not None:
        return _next(local, hours.digest_at)
    if (
        hours.quiet_from is None
        or hours.quiet_to is None
        or not _is_within(local.time(), hours.quiet_from, hours.quiet_to)
        or (is_urgent and hours.is_pierced)
    ):
        return now
    return _next(local, hours.quiet_to)


def _is_within(at: time, first: time, last: time) -> bool:
    """`last` exclusive; across midnight where it is before `first`."""
    return first <= at < last if first <= last else at >= first or at < last


def _next(after: datetime, at: time) -> datetime:
    """The next moment at that time of day, later than `after`."""
    today = datetime.combine(after.date(), at, JAPAN)
    return today if today > after else today + timedelta(days=1)
