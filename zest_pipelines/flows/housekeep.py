"""housekeep: what the tables need once a day, whoever the tenants are: the months to come get their partitions."""

from __future__ import annotations

from resources.logins import Login
from zest_pipelines.flows.services import Services
from zest_pipelines.store import months

MONTHS_AHEAD = 14


def housekeep(services: Services) -> None:
    """Make the round. Raises StoreError."""
    with services.database.transaction(Login.OPERATOR, None) as tx:
        months.make(tx, services.now().date(), MONTHS_AHEAD)
