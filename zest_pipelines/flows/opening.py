"""Opening a connection to a partner: its row, its secret, its limits, and the connector over them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from partners.contract import Connector, Partner
from partners.errors import AuthenticationError, Deferred, RetryableError
from partners.limits import parse_limit
from resources.logins import Login
from zest_pipelines.flows.gate import LedgerGate
from zest_pipelines.flows.seats import seated
from zest_pipelines.flows.services import Services
from zest_pipelines.store import tenants
from zest_pipelines.store.tenants import ConnectionRow


@dataclass(frozen=True)
class Line:
    """An open connection."""

    row: ConnectionRow
    connector: Connector
    gate: LedgerGate

    @contextmanager
    def heeding_partner(self) -> Iterator[None]:
        """Within the block, a partner that names a time to come back (Retry-After) closes the gate until then."""
        try:
            yield
        except Deferred:
            raise
        except RetryableError as error:
            if error.not_before is not None:
                self.gate.close_until(error.not_before)
            raise


def connection_row(services: Services, partner: Partner, tenant: str, login: Login) -> ConnectionRow:
    """The connection with its sealed credential. Raises UnknownConnectionError."""
    with services.database.transaction(login, tenant) as tx:
        return tenants.openable_connection(tx, tenant, partner.name)


@contextmanager
def open_line(services: Services, partner: Partner, row: ConnectionRow, patience: timedelta) -> Iterator[Line]:
    """A connector for `row`. Raises AuthenticationError if no credential is kept, VaultError if it cannot be opened,
    Deferred if too many calls are in flight."""
    connection = row.connection
    if row.ciphertext is None and any(secret.default is None for secret in partner.secrets):
        raise AuthenticationError("secret_missing")
    secret = (
        {}
        if row.ciphertext is None
        else services.vault.decrypt(row.ciphertext, tenant=connection.tenant, partner=connection.partner)
    )
    limits = [parse_limit(text) for text in (partner.limits if row.limits is None else row.limits)]
    gate = LedgerGate(services, connection, limits, patience)
    with seated(services, connection, limits, patience):
        connector = partner.open(connection, secret, services.http.client(), gate)
        try:
            yield Line(row, connector, gate)
        finally:
            connector.close()
