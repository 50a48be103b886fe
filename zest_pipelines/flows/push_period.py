"""push_period: push some days because a person wants them pushed now, and wait until it is done, whoever does it.

The request stands in the tables first. It puts these days before all else that is due, and is served by the minute
schedule if this process dies. The pushes are the same as everywhere, under the same lease, and take these days alone:
what else is due has no place in a run that somebody waits for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from partners.contract import Entity, Partner
from partners.reasons import reason
from resources.logins import Login
from zest_pipelines.core.backoff import delay
from zest_pipelines.core.outcome import PendingState
from zest_pipelines.core.weeks import Days
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.flows.reports import MOST_PROBLEMS, PeriodCounts, PeriodReport, Problem, PushReport
from zest_pipelines.flows.services import Services
from zest_pipelines.store import hindrances, periods, requests, tenants
from zest_pipelines.store.keys import Target
from zest_pipelines.store.periods import Standing

_BOX_SECONDS = 45.0
_LOOK_EVERY = 1.0
_STILL_SECONDS = 90.0
"""For so long it waits while the partner or its limits let nothing through: the request stands, and the slot is
somebody else's meanwhile."""
_AT_WORK = ("time_box_ended", "push_under_way")
_NOT_READ = "edits_not_yet_read"


@dataclass(frozen=True)
class _Stop:
    """Why it went no further: a code of the catalogue; None: nothing more goes by itself."""

    reason: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether nothing goes on until a person acts."""
        return self.reason is not None and not reason(self.reason).retried


@dataclass(frozen=True)
class _Outlook:
    """What may still come by itself."""

    seconds: float | None
    """Until the next record may go, 0 or less if now; None: none goes by itself."""
    hindrance: str | None = None
    """What stands in its way: a code of the catalogue."""
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Period:
    """What was asked for."""

    services: Services
    partner: Partner
    target: Target
    days: Days
    until: datetime
    """Edits up to then, by the database's clock."""

    def push(self, seconds: float) -> PushReport:
        """One push of these days, with all edits that can be read now; `seconds`: for how long at most."""
        accumulate(self.services, self.partner, self.target.tenant)
        return push(self.services, self.partner, self.target.tenant, min(seconds, _BOX_SECONDS), self.days)

    def outlook(self, blocked: Collection[str]) -> _Outlook:
        """Of the kinds that are not in `blocked`."""
        with self.services.database.transaction(Login.OPERATOR, self.target.tenant) as tx:
            if tenants.connection(tx, self.target.tenant, self.target.partner).is_paused:
                return _Outlook(None, "connection_paused")
            if periods.has_unread_edits(tx, self.target, self.until):
                return _Outlook(0.0, _NOT_READ)
            moving = periods.moving(tx, self.target, self.days, self.until)
            held = hindrances.held(tx, self.target)
        seconds = min((each.seconds for each in moving if each.entity not in blocked), default=None)
        if held is None or seconds is None:
            return _Outlook(seconds)
        until_then = (held.until - self.services.now()).total_seconds()
        return _Outlook(max(seconds, until_then), held.reason, held.params)

    def wait(self, seconds: float, blocked: Collection[str]) -> None:
        """Wait so long, or until there is nothing left to wait for."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self.outlook(blocked).seconds is not None:
            self.services.sleep(min(left, _LOOK_EVERY))


def push_period(
    services: Services, partner: Partner, tenant: str, days: Days, patience: timedelta = timedelta(minutes=10)
) -> PeriodReport:
    """Push what stands in `days` now. Returns when all of it is settled, or nothing more goes by itself in time.

    Edits made meanwhile are not waited for. Raises StoreError.
    """
    started = time.monotonic()
    target = Target(tenant, partner.name)
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.connection(tx, tenant, partner.name)
        request = requests.push(tx, target, days)
    period = _Period(services, partner, target, days, request.requested_at)
    stop = _settle(period, started + patience.total_seconds())
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        standings = periods.standings(tx, target, days, request.requested_at)
    if stop.reason != _NOT_READ and not any(each.state for each in standings):
        stop = _Stop()  # it concerns others: the partner has all of this
    return PeriodReport(
        days,
        str(request.request_id),
        visits=counts(standings, Entity.VISIT),
        visit_records=counts(standings, Entity.VISIT_RECORD),
        stopped=stop.reason,
        params=stop.params,
        problems=problems(standings),
        seconds=time.monotonic() - started,
    )


def _settle(period: _Period, end: float) -> _Stop:
    """Push and wait until nothing of the period goes by itself any more or gets through, or until monotonic `end`."""
    failures, was_repeated, moved_at = 0, False, time.monotonic()
    while True:
        pushed = period.push(max(end - time.monotonic(), 0.0))
        if pushed.delivered or pushed.stopped in _AT_WORK:
            moved_at = time.monotonic()
        outlook = period.outlook(pushed.blocked)
        stops = [
            each
            for each in (_Stop(outlook.hindrance, outlook.params), _Stop(pushed.stopped, pushed.params))
            if each.reason
        ]
        if any(each.is_final for each in stops):
            return next(each for each in stops if each.is_final)
        if outlook.seconds is None:
            if was_repeated or pushed.delivered == 0:
                return _Stop()
            was_repeated = True  # what got through may end a fault: then the next push releases what that had parked
            continue
        rest = outlook.seconds
        if pushed.stopped == "time_box_ended":
            rest = 0.0
        elif _is_hindered(pushed.stopped):  # the next push had better not follow at once
            failures += 1
            rest = max(rest, _LOOK_EVERY, delay(failures, period.services.random).total_seconds())
        else:
            rest = max(rest, _LOOK_EVERY)
        if time.monotonic() + rest > min(end, moved_at + _STILL_SECONDS):
            return next(iter(stops), _Stop())
        period.wait(rest, pushed.blocked)


def _is_hindered(stopped: str | None) -> bool:
    """Whether the partner or its limits ended a push."""
    return stopped is not None and stopped not in _AT_WORK


def counts(standings: Sequence[Standing], entity: Entity) -> PeriodCounts:
    """How the records of one kind stand."""
    return PeriodCounts(**Counter(_stands(each) for each in standings if each.entity is entity))


def _stands(record: Standing) -> str:
    """Which of PeriodCounts it counts as."""
    match record.state:
        case None:
            return "delivered" if record.is_delivered else "unchanged"
        case PendingState.CONFLICT | PendingState.PARKED:
            return "refused"
        case _:
            return "waiting"


def problems(standings: Sequence[Standing]) -> tuple[Problem, ...]:
    """Of the open records that have a reason, those first for which a person has to act."""
    persons_first = sorted(standings, key=lambda each: (_stands(each) != "refused", _goes_by_itself(each)))
    found = [
        Problem(
            each.entity,
            str(each.record_id),
            "waiting" if each.state is PendingState.DUE else each.state,
            each.reason,
            each.params,
        )
        for each in persons_first
        if each.state is not None and each.reason is not None
    ]
    return tuple(found[:MOST_PROBLEMS])


def _goes_by_itself(record: Standing) -> bool:
    return record.reason is None or reason(record.reason).retried
