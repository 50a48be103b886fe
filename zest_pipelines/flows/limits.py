"""limits: how far a connection's limits are spent, and when what waits will have left. It looks and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from partners.contract import Connection, Partner
from partners.limits import Concurrency, Limit, Rate, parse_limit
from resources.logins import Login
from zest_pipelines.core.forecast import Work, forecast, is_late
from zest_pipelines.core.meters import Bucket, aligned, in_window
from zest_pipelines.core.seats import taken
from zest_pipelines.core.supplies import moment, supply, waiting
from zest_pipelines.core.turns import Who
from zest_pipelines.core.usage import hour
from zest_pipelines.flows.gate import DOOR, beginning, counting
from zest_pipelines.flows.naming import bucket_name
from zest_pipelines.flows.opening import connection_row
from zest_pipelines.flows.services import Services
from zest_pipelines.store import budgets, claims
from zest_pipelines.store.claims import Backlog
from zest_pipelines.store.keys import Target
from zest_pipelines.store.tenants import ConnectionRow


@dataclass(frozen=True)
class LimitStanding:
    """One limit of a connection."""

    limit: str
    """As it is written."""
    used: int
    """Calls that count in the window now, or are in flight."""
    allowed: int
    """How many may, after headroom."""
    believed: float
    """The share of it that the partner is believed to allow: 1 unless it has refused calls."""
    last_hour: tuple[int, ...]
    """Calls by minute, the current one last; empty for calls in flight."""
    closed_until: datetime | None
    """None: it is open."""
    waiting: int
    """Other tenants that wait for it now."""


@dataclass(frozen=True)
class Outlook:
    """How a connection stands with its limits."""

    limits: tuple[LimitStanding, ...]
    pending: int
    """Records that wait and could go."""
    done_at: datetime | None
    """When the last of them leaves at this rate; None: it cannot be told."""
    is_late: bool
    """Whether that is past the connection's own deadline."""


def outlook(services: Services, partner: Partner, tenant: str) -> Outlook:
    """Of one connection. Raises StoreError."""
    row = connection_row(services, partner, tenant, Login.PUSH)
    with services.database.transaction(Login.PUSH, tenant) as tx:
        backlog = claims.backlog(tx, Target(tenant, partner.name))
    return outlook_of(services, partner, row, backlog)


def outlook_of(services: Services, partner: Partner, row: ConnectionRow, backlog: Backlog) -> Outlook:
    """The same, of what is known already. Raises StoreError."""
    who = Who(row.connection.tenant, weight=row.weight)
    limits = [parse_limit(text) for text in (partner.limits if row.limits is None else row.limits)]
    buckets, standings, seconds = _looked_at(services, row.connection, limits, who)
    now = moment(seconds)  # by the ledger's clock, as all that it keeps
    records = backlog.pending - backlog.parked
    closed = max((each.closed_until for each in standings if each.closed_until), default=None)
    done = forecast(Work(records), [supply(each, who, seconds) for each in buckets], now, closed)
    return Outlook(standings, records, done, is_late(done, backlog.oldest, row.deliver_within))


def _looked_at(
    services: Services, connection: Connection, limits: Sequence[Limit], who: Who
) -> tuple[list[Bucket], tuple[LimitStanding, ...], float]:
    """The limits that count calls, as the ledger has them, how all of them stand, and its clock."""
    every = [*limits, DOOR] if DOOR in counting(limits) else limits
    names = {bucket_name(connection, limit): limit for limit in every}
    with services.database.transaction(Login.BUDGET, None) as tx:
        rates = {name: each for name, each in names.items() if isinstance(each, Rate)}
        entries, now, begin = budgets.read(tx, list(rates))
        for name in begin:
            entries[name] = beginning(tx, connection, rates[name], entries[name].state, now)
        seats = budgets.read_seats(tx, list(names))
    buckets: list[Bucket] = []
    standings: list[LimitStanding] = []
    for name, limit in names.items():
        if isinstance(limit, Concurrency):
            used = len(taken(seats.get(name, {}), now))
            standings.append(LimitStanding(str(limit), used, limit.allowed, 1.0, (), None, 0))
            continue
        entry = entries[name]
        bucket = aligned(Bucket(limit, entry.state, entry.closed_until), now)
        if limit is DOOR and entry.closed_until <= now:
            continue  # it is seen while the partner has closed it
        buckets.append(bucket)
        standings.append(_standing(limit, bucket, who, now))
    return buckets, tuple(standings), now


def _standing(limit: Rate, bucket: Bucket, who: Who, now: float) -> LimitStanding:
    return LimitStanding(
        "tenant" if limit is DOOR else str(limit),
        in_window(bucket, now),
        limit.allowed,
        bucket.state.belief.share,
        hour(bucket.state.used, now),
        moment(bucket.closed_until) if bucket.closed_until > now else None,
        len(waiting(bucket, who, now)),
    )
