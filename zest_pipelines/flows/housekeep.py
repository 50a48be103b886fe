"""housekeep: what the tables need once a day, whoever the tenants are.

The months to come get their partitions, and the one derived table is compared with what it is derived from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resources.logins import Login
from zest_pipelines.flows.services import Services
from zest_pipelines.store import due, months, projection
from zest_pipelines.store.projection import Difference

MONTHS_AHEAD = 14


@dataclass(frozen=True)
class HousekeepReport:
    """What the day's round found."""

    tenants: int
    differences: Mapping[str, Sequence[Difference]]
    """By tenant: records whose pending row is not what history says. It must be empty."""


def housekeep(services: Services) -> HousekeepReport:
    """Make the round. Raises StoreError."""
    with services.database.transaction(Login.OPERATOR, None) as tx:
        months.make(tx, services.now().date(), MONTHS_AHEAD)
    with services.database.transaction(Login.SCHEDULE, None) as tx:
        tenants = due.all_tenants(tx)
    found = {tenant: _compare(services, tenant) for tenant in tenants}
    return HousekeepReport(len(tenants), {tenant: rows for tenant, rows in found.items() if rows})


def _compare(services: Services, tenant: str) -> Sequence[Difference]:
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        return projection.rebuild_pending(tx)
