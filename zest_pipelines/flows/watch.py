"""watch: what no run would notice by itself, because it would not have run.

A push that runs says how long edits have waited, and a reading that runs says what came of it. When none runs, since
a schedule is off or the daemon was down for a night, only the clock tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

from partners.contract import MASTERS, Partner
from resources.logins import Login
from zest_pipelines.flows.reports import Freshness, Problem, PushReport
from zest_pipelines.flows.services import Services
from zest_pipelines.store import due, landing
from zest_pipelines.store import watch as outgoing
from zest_pipelines.store.landing import Reading

_MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Watched:
    """How one connection stands."""

    tenant: str
    freshness: tuple[Freshness, ...]
    """Of each master entity that the partner is read for."""
    backlog: PushReport
    """As a push that tries nothing would report it."""


def watch(services: Services, partner: Partner) -> Iterator[Watched]:
    """Look at every tenant of the partner, in order. Raises StoreError."""
    with services.database.transaction(Login.SCHEDULE, None) as tx:
        tenants = due.tenants(tx, partner.name)
    for tenant in tenants:
        yield _look(services, partner, tenant)


def _look(services: Services, partner: Partner, tenant: str) -> Watched:
    with services.database.transaction(Login.LAND, tenant) as tx:
        freshness = tuple(
            Freshness(entity, **vars(landing.age(tx, Reading(uuid4(), tenant, partner.name, entity))))
            for entity in MASTERS
            if entity in partner.reads
        )
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        left = outgoing.waiting(tx, tenant, partner.name)
        stuck = outgoing.stuck(tx, tenant, partner.name, _MOST_PROBLEMS)
    problems = (Problem(each.entity, str(each.record_id), each.state, each.reason, each.params) for each in stuck)
    backlog = PushReport(
        pending=left.pending,
        pending_parked=left.parked,
        oldest_pending=left.oldest,
        stopped="connection_paused" if left.is_paused else None,
        problems=tuple(problems),
    )
    return Watched(tenant, freshness, backlog)
