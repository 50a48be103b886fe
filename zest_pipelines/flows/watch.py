"""watch: what no run would notice by itself, because it would not have run.

A push that runs says how long edits have waited, and a reading that runs says what came of it. When none runs, since
a schedule is off or the daemon was down for a night, only the clock tells. Nor does a run come back to what it could
not do itself: another one, or a person, cures it, and nobody says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from partners.contract import Entity, Partner
from resources.logins import Login
from zest_pipelines.core.weeks import Days
from zest_pipelines.flows.check import certificate_of
from zest_pipelines.flows.land import freshness
from zest_pipelines.flows.opening import connection_row, not_now
from zest_pipelines.flows.push_period import counts, problems
from zest_pipelines.flows.reports import MOST_PROBLEMS, Freshness, PeriodReport, Problem, PushReport
from zest_pipelines.flows.services import Services
from zest_pipelines.store import hindrances, periods
from zest_pipelines.store import watch as outgoing
from zest_pipelines.store.holds import OUTSIDE_WINDOW
from zest_pipelines.store.keys import Target
from zest_pipelines.store.landing import Reading
from zest_pipelines.store.watch import Stuck


@dataclass(frozen=True)
class Watched:
    """How one connection stands."""

    tenant: str
    freshness: tuple[Freshness, ...]
    """Of all that the partner is read for: each master entity, and plans if it gives any."""
    certificate_until: datetime | None
    """Until when the client certificate is valid; None: there is none."""
    backlog: PushReport | None
    """As a push that tries nothing would report it; `stopped`: a pause, closed hours, or what opened the breaker. None:
    the partner is only read."""
    parked: tuple[Problem, ...]
    """Records that wait for a person, at most 20."""
    is_moving: bool
    """Whether something goes by itself, so that a push will say how it went."""


def look(services: Services, partner: Partner, tenant: str) -> Watched:
    """Look at one of them. Raises StoreError."""
    target = Target(tenant, partner.name)
    row = connection_row(services, partner, tenant, Login.LAND)
    why = not_now(services, partner, row)
    with services.database.transaction(Login.LAND, tenant) as tx:
        readings = [Reading(uuid4(), tenant, partner.name, entity) for entity in partner.readings]
        ages = tuple(freshness(tx, each, why) for each in readings)
    until = certificate_of(services, row)
    if not partner.writes:
        return Watched(tenant, ages, until, None, (), is_moving=False)
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        left = outgoing.waiting(tx, target)
        held = hindrances.held(tx, target) if left.pending or left.is_moving else None
        stuck = outgoing.stuck(tx, target, MOST_PROBLEMS) if left.oldest else ()
        parked = outgoing.parked(tx, target, MOST_PROBLEMS) if left.parked else ()
    backlog = PushReport(
        pending=left.pending,
        pending_parked=left.parked,
        oldest_pending=left.oldest,
        stopped="connection_paused" if left.is_paused else held.reason if held else None,
        params=held.params if held and not left.is_paused else {},
        is_held=held is not None and held.reason != OUTSIDE_WINDOW and held.failures > 0,
        problems=_problems(stuck),
    )
    return Watched(tenant, ages, until, backlog, _problems(parked), left.is_moving)


def look_at_days(services: Services, partner: Partner, watched: Watched, days: Days) -> PeriodReport | None:
    """How days that were asked for stand by now, whoever pushed them; None: nobody has asked. Raises StoreError.

    What keeps a push from its first call but leaves no trace in the tables (no credential is kept) is not seen.
    """
    target = Target(watched.tenant, partner.name)
    assert watched.backlog is not None  # who has weeks is written to
    with services.database.transaction(Login.OPERATOR, target.tenant) as tx:
        if (asked_at := outgoing.asked_at(tx, target, days)) is None:
            return None
        has_unread = periods.has_unread_edits(tx, target, asked_at)
        standings = periods.standings(tx, target, days, asked_at)
    stopped = None
    if has_unread or any(each.state for each in standings):
        stopped = watched.backlog.stopped or ("edits_not_yet_read" if has_unread else None)
    return PeriodReport(
        days,
        request="",
        visits=counts(standings, Entity.VISIT),
        visit_records=counts(standings, Entity.VISIT_RECORD),
        stopped=stopped,
        problems=problems(standings),
    )


def _problems(found: Sequence[Stuck]) -> tuple[Problem, ...]:
    return tuple(Problem(each.entity, str(each.record_id), each.state, each.reason, each.params) for each in found)
