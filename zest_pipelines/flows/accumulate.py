"""accumulate: update events become changes, one for each connection that wants them."""

from __future__ import annotations

import time

from partners.contract import Partner
from resources.logins import Login
from zest_pipelines.flows.reports import AccumulateReport
from zest_pipelines.flows.services import Services
from zest_pipelines.store import events

BATCH = 1_000
"""Events in one transaction."""


def accumulate(services: Services, partner: Partner, tenant: str) -> AccumulateReport:
    """Read all events that are visible now. Raises StoreError."""
    started = time.monotonic()
    read = made = 0
    while True:
        with services.database.transaction(Login.ACCUMULATE, tenant) as tx:
            batch = events.accumulate(tx, tenant, partner.name, tuple(partner.writes), BATCH)
        read, made = read + batch.events, made + batch.changes
        if batch.events < BATCH:
            return AccumulateReport(read, made, time.monotonic() - started)
