"""check: test a connection without writing anything anywhere."""

from __future__ import annotations

from datetime import timedelta

from partners.contract import CheckReport, Partner
from resources.logins import Login
from zest_pipelines.core.turns import Priority
from zest_pipelines.flows.opening import connection_row, open_line
from zest_pipelines.flows.services import Services

_PATIENCE = timedelta(seconds=30)


def check(services: Services, partner: Partner, tenant: str) -> CheckReport:
    """What the partner lets us do. Raises PartnerError, VaultError, StoreError."""
    row = connection_row(services, partner, tenant, Login.LAND)
    with open_line(services, partner, row, _PATIENCE, Priority.PEOPLE) as line:
        return line.connector.check()
