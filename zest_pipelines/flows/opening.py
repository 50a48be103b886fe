"""Opening a connection to a partner: its row, its secret, its limits, and connectors over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from partners.contract import TLS_SECRETS, Connector, Partner
from partners.errors import AuthenticationError
from partners.limits import parse_limit
from resources.http import PLAIN
from resources.logins import Login
from resources.tls import Tls, TlsError, context, expires_at
from zest_pipelines.core.turns import Priority
from zest_pipelines.flows.calls import Calls
from zest_pipelines.flows.gate import Ledger, LedgerGate
from zest_pipelines.flows.seats import Seats
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.tokens import Tokens
from zest_pipelines.store import tenants
from zest_pipelines.store.holds import OUTSIDE_WINDOW
from zest_pipelines.store.tenants import ConnectionRow

_MOST_PATIENCE = timedelta(seconds=90)
NOT_NOW = ("connection_paused", OUTSIDE_WINDOW)
"""The reasons for which a connection makes no calls, though nothing is wrong."""


@dataclass(frozen=True)
class Line:
    """An open line of a connection: one call at a time."""

    connector: Connector
    gate: LedgerGate
    calls: Calls


@dataclass(frozen=True)
class Lines:
    """Lines of one connection, opened one after another; each has a connector, a gate and a seat of its own."""

    partner: Partner
    row: ConnectionRow
    secret: Mapping[str, str] = field(repr=False)
    ledger: Ledger
    patience: timedelta
    """How long a call may wait for its slot."""
    seats: Seats
    tokens: Tokens
    closing: ExitStack
    tls: Tls = PLAIN
    priority: Priority = Priority.BACKGROUND

    def open(self, patience: timedelta) -> Line:
        """One more. Raises Deferred if it would be a call too many in flight, and none ends within `patience`."""
        seat = self.seats.take(patience)
        self.closing.callback(seat.free)
        gate = LedgerGate(self.ledger, self.patience, self.priority, seat, self.tokens)
        client, calls = self.ledger.services.http.client(self.tls, gate.spend), Calls()
        calls.watch(client)
        connector = self.partner.open(self.row.connection, self.secret, client, gate)
        self.closing.callback(connector.close)
        return Line(connector, gate, calls)


def tls_of(secret: Mapping[str, str]) -> Tls:
    """The certificates in a credential (`TLS_SECRETS`)."""
    return Tls(*(secret.get(each.key, "") for each in TLS_SECRETS))


def _usable(tls: Tls, services: Services) -> Tls:
    """Raises AuthenticationError if it is not: a call with it would be refused, and would be one call more."""
    try:
        until = expires_at(tls)
        if not tls.is_plain:
            context(tls)
    except TlsError:
        raise AuthenticationError("certificate_unusable") from None
    if until is not None and until <= services.now():
        raise AuthenticationError("client_certificate_expired")
    return tls


def connection_row(services: Services, partner: Partner, tenant: str, login: Login) -> ConnectionRow:
    """The connection with its sealed credential. Raises UnknownConnectionError."""
    with services.database.transaction(login, tenant) as tx:
        return tenants.openable_connection(tx, tenant, partner.name)


def not_now(services: Services, partner: Partner, row: ConnectionRow) -> str | None:
    """Which of NOT_NOW keeps the connection from calls; None: it may make some."""
    if row.is_paused:
        return "connection_paused"
    return None if partner.closed_until(row.closed, services.now()) is None else OUTSIDE_WINDOW


@contextmanager
def open_lines(
    services: Services,
    partner: Partner,
    row: ConnectionRow,
    patience: timedelta,
    priority: Priority = Priority.BACKGROUND,
) -> Iterator[Lines]:
    """What opens lines for `row`, all of them closed at the end of the block.

    `patience`: how long a call waits for its slot; or, if that is longer, two paces of the slowest limit, within
    _MOST_PATIENCE.

    Raises AuthenticationError if no credential is kept or its certificate cannot be used any more, VaultError if it
    cannot be opened.
    """
    connection = row.connection
    if row.ciphertext is None and any(secret.default is None for secret in partner.secrets):
        raise AuthenticationError("secret_missing")
    secret = (
        {}
        if row.ciphertext is None
        else services.vault.decrypt(row.ciphertext, tenant=connection.tenant, partner=connection.partner)
    )
    limits = [parse_limit(text) for text in (partner.limits if row.limits is None else row.limits)]
    ledger = Ledger(services, connection, limits, row.weight)
    # Two paces, else a second call never has its turn.
    patience = max(patience, min(timedelta(seconds=2 * ledger.slowest), _MOST_PATIENCE))
    with ExitStack() as closing:
        seats = Seats.of(services, connection, limits, priority)
        tls = _usable(tls_of(secret), services)
        tokens = Tokens(services, connection, secret)
        yield Lines(partner, row, secret, ledger, patience, seats, tokens, closing, tls, priority)


@contextmanager
def open_line(
    services: Services,
    partner: Partner,
    row: ConnectionRow,
    patience: timedelta,
    priority: Priority = Priority.BACKGROUND,
) -> Iterator[Line]:
    """One line for `row`. Raises as `open_lines`, and Deferred if too many calls are in flight."""
    with open_lines(services, partner, row, patience, priority) as lines:
        yield lines.open(patience)
