"""check: test a connection without writing anything anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from partners.contract import CheckReport, Partner
from resources.logins import Login
from resources.tls import TlsError, expires_at
from resources.vault import VaultError
from zest_pipelines.core.turns import Priority
from zest_pipelines.flows.opening import connection_row, open_lines, tls_of
from zest_pipelines.flows.services import Services
from zest_pipelines.store.tenants import ConnectionRow

_PATIENCE = timedelta(seconds=30)
WARNED_BEFORE = timedelta(days=60)
"""So long before its end a certificate is told of: a partner takes its time to issue another one."""


@dataclass(frozen=True)
class Checked:
    """What a test of a connection found."""

    report: CheckReport
    certificate_until: datetime | None
    """Until when the certificate that we show is valid; None: we show none."""
    is_ending: bool
    """Whether that is within WARNED_BEFORE."""


def certificate_until(services: Services, partner: Partner, tenant: str) -> datetime | None:
    """As `certificate_of` the connection. Raises StoreError."""
    return certificate_of(services, connection_row(services, partner, tenant, Login.LAND))


def certificate_of(services: Services, row: ConnectionRow) -> datetime | None:
    """Until when the connection's client certificate is valid. None: it shows none, or one that cannot be read, which
    whoever calls the partner tells."""
    if row.ciphertext is None:
        return None
    connection = row.connection
    try:
        secret = services.vault.decrypt(row.ciphertext, tenant=connection.tenant, partner=connection.partner)
        return expires_at(tls_of(secret))
    except (TlsError, VaultError):
        return None


def check(services: Services, partner: Partner, tenant: str) -> Checked:
    """What the partner lets us do. Raises PartnerError, VaultError, StoreError."""
    row = connection_row(services, partner, tenant, Login.LAND)
    with open_lines(services, partner, row, _PATIENCE, Priority.PEOPLE) as lines:
        until = expires_at(lines.tls)
        report = lines.open(_PATIENCE).connector.check()
    return Checked(report, until, until is not None and until <= services.now() + WARNED_BEFORE)
