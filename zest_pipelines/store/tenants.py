"""Tenants and their connections to partners: what operators set, and what every station reads first."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import RowMapping

from partners.contract import MASTERS, Connection, Entity
from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.errors import UnknownConnectionError, UnknownTenantError
from zest_pipelines.store.query import query
from zest_pipelines.store.remarks import remark


@dataclass(frozen=True)
class ConnectionRow:
    """One connection as it is set."""

    connection: Connection
    timing: str
    """minute or week."""
    limits: tuple[str, ...] | None
    """None: the partner's defaults."""
    land_every: timedelta
    on_conflict: str
    """What becomes of a record that the partner has changed since we last wrote it: hold or overwrite."""
    closed: tuple[str, ...] | None
    """When the partner takes no calls; None: as the partner declares."""
    weight: int
    """Its share of a limit that tenants share, beside the others': 1 to 100."""
    deliver_within: timedelta | None
    """How old an edit may get before the partner has it; None: no deadline of its own."""
    creates: tuple[Entity, ...]
    """The kinds of master of which a new record makes one; of the others it is looked for among ours."""
    match_on: Mapping[Entity, tuple[str, ...]]
    """The fields in which such a record must agree, by kind."""
    is_paused: bool
    pause_reason: str | None
    read_at: datetime
    """By the database's clock."""
    ciphertext: bytes | None
    """The sealed credential; None: none is kept, or the login may not see it."""


@dataclass(frozen=True)
class Tenant:
    """One tenant."""

    tenant_id: str
    name: str
    timezone: str


_ADD_TENANT = query(
    "add_tenant",
    Login.OPERATOR,
    """
    INSERT INTO schedule.tenant (tenant_id, name) VALUES (:tenant, :name)
    ON CONFLICT (tenant_id) DO UPDATE SET name = excluded.name
    """,
)
_TENANT = query(
    "tenant",
    Login.OPERATOR,
    "SELECT tenant_id, name, timezone FROM schedule.tenant WHERE tenant_id = :tenant",
)
# Of each kind of master one partner makes them, unless somebody says otherwise: the first that reads it.
_PUT_CONNECTION = query(
    "put_connection",
    Login.OPERATOR,
    """
    INSERT INTO sync.connection (tenant_id, partner, base_url, timing, settings, limits, land_every, on_conflict,
                                 closed, weight, deliver_within, has_staff, creates, match_on)
    VALUES (:tenant, :partner, :base_url, :timing, CAST(:settings AS jsonb), CAST(:limits AS text[]), :land_every,
            :on_conflict, CAST(:closed AS text[]), :weight, :deliver_within,
            'staff' = ANY (CAST(:reads AS text[])),
            coalesce(CAST(:creates AS text[]), ARRAY(
                SELECT wanted FROM unnest(CAST(:reads AS text[])) AS wanted WHERE NOT EXISTS (
                    SELECT FROM sync.connection o
                    WHERE o.tenant_id = :tenant AND o.partner <> :partner AND wanted = ANY (o.creates)))),
            coalesce(CAST(:match_on AS jsonb), '{}'))
    ON CONFLICT (tenant_id, partner) DO UPDATE SET
        base_url = excluded.base_url, timing = excluded.timing, settings = excluded.settings,
        limits = excluded.limits, land_every = excluded.land_every, on_conflict = excluded.on_conflict,
        closed = excluded.closed, weight = excluded.weight, deliver_within = excluded.deliver_within,
        has_staff = excluded.has_staff,
        creates = coalesce(CAST(:creates AS text[]), connection.creates),
        match_on = coalesce(CAST(:match_on AS jsonb), connection.match_on),
        changed_at = clock_timestamp()
    """,
)
_PUT_CREDENTIAL = query(
    "put_credential",
    Login.OPERATOR,
    """
    INSERT INTO sync.credential (tenant_id, partner, ciphertext) VALUES (:tenant, :partner, :ciphertext)
    ON CONFLICT (tenant_id, partner) DO UPDATE SET ciphertext = :ciphertext, changed_at = clock_timestamp()
    """,
)
# Neither touches changed_at: what is stopped for a fault stays stopped.
_PAUSE = query(
    "pause_connection",
    Login.OPERATOR,
    """
    UPDATE sync.connection SET paused_at = coalesce(paused_at, clock_timestamp()), pause_reason = :reason
    WHERE tenant_id = :tenant AND partner = :partner
    """,
)
_RESUME = query(
    "resume_connection",
    Login.OPERATOR,
    """
    UPDATE sync.connection SET paused_at = NULL, pause_reason = NULL, resumed_at = clock_timestamp()
    WHERE tenant_id = :tenant AND partner = :partner AND paused_at IS NOT NULL
    RETURNING tenant_id
    """,
)
_WRITE_AUDIT = query(
    "write_audit",
    Login.OPERATOR,
    "SELECT sync.write_audit(:tenant, :act, :subject, CAST(:detail AS jsonb))",
)
_CONNECTION_COLUMNS = """
    c.tenant_id, c.partner, c.base_url, c.timing, c.settings, c.limits, c.land_every, c.on_conflict, c.closed,
    c.weight, c.deliver_within, c.creates, c.match_on, c.paused_at IS NOT NULL AS is_paused, c.pause_reason,
    clock_timestamp() AS read_at
"""
_CONNECTION = query(
    "connection",
    Login.OPERATOR,
    f"SELECT {_CONNECTION_COLUMNS} FROM sync.connection c WHERE c.tenant_id = :tenant AND c.partner = :partner",
)
_CONNECTIONS = query(
    "connections_of_tenant",
    Login.OPERATOR,
    f"SELECT {_CONNECTION_COLUMNS} FROM sync.connection c WHERE c.tenant_id = :tenant ORDER BY c.partner",
)
_IS_IDENTIFIED = query(
    "has_identities",
    Login.OPERATOR,
    "SELECT EXISTS (SELECT FROM sync.identity WHERE tenant_id = :tenant AND partner = :partner)",
)
_OPENABLE = query(
    "connection_with_credential",
    Login.PUSH,
    f"""
    SELECT {_CONNECTION_COLUMNS}, k.ciphertext
    FROM sync.connection c
    LEFT JOIN sync.credential k ON k.tenant_id = c.tenant_id AND k.partner = c.partner
    WHERE c.tenant_id = :tenant AND c.partner = :partner
    """,
)


def add(tx: Transaction, tenant: str, name: str) -> None:
    """Add a tenant, or rename it."""
    _ADD_TENANT.run(tx, tenant=tenant, name=name)
    audit(tx, tenant, "add_tenant", tenant, {})


def get(tx: Transaction, tenant: str) -> Tenant:
    """The tenant. UnknownTenantError if there is none."""
    row = _TENANT.one(tx, tenant=tenant)
    if row is None:
        raise UnknownTenantError(tenant)
    return Tenant(**row)


def connect(
    tx: Transaction,
    connection: Connection,
    *,
    timing: str,
    limits: Sequence[str] | None,
    land_every: timedelta,
    ciphertext: bytes | None,
    on_conflict: str = "hold",
    closed: Sequence[str] | None = None,
    weight: int = 1,
    deliver_within: timedelta | None = None,
    creates: Collection[Entity] | None = None,
    match_on: Mapping[Entity, Sequence[str]] | None = None,
    reads: Collection[Entity] = MASTERS,
) -> None:
    """Connect a tenant to a partner, or change how; a credential of None keeps the one there is.

    `weight` is 1 to 100, `deliver_within` more than nothing; `creates` and `match_on` are kept if they are None. All as
    in ConnectionRow. A new connection makes those masters that its partner `reads` and no other connection makes; of a
    partner that is not read for staff, no visit waits until it knows who comes.
    UnknownTenantError if there is no such tenant.
    """
    get(tx, connection.tenant)
    key = {"tenant": connection.tenant, "partner": connection.partner}
    _PUT_CONNECTION.run(
        tx,
        **key,
        base_url=connection.base_url,
        timing=timing,
        settings=json.dumps(dict(connection.settings)),
        limits=None if limits is None else list(limits),
        land_every=land_every,
        on_conflict=on_conflict,
        closed=None if closed is None else list(closed),
        weight=weight,
        deliver_within=deliver_within,
        creates=None if creates is None else [entity.value for entity in creates],
        match_on=None
        if match_on is None
        else json.dumps({entity.value: list(match_on[entity]) for entity in match_on}),
        reads=[entity.value for entity in reads if entity in MASTERS],
    )
    if ciphertext is not None:
        _PUT_CREDENTIAL.run(tx, **key, ciphertext=ciphertext)
    detail = {
        "timing": timing,
        "settings": sorted(connection.settings),
        "credential": ciphertext is not None,
        "on_conflict": on_conflict,
        "weight": weight,
        "deliver_within_seconds": None if deliver_within is None else deliver_within.total_seconds(),
        "creates": None if creates is None else sorted(creates),
        "match_on": None if match_on is None else {entity.value: list(match_on[entity]) for entity in match_on},
    }
    audit(tx, connection.tenant, "connect", connection.partner, detail)


def connection(tx: Transaction, tenant: str, partner: str) -> ConnectionRow:
    """One connection, without its credential. UnknownTenantError, UnknownConnectionError."""
    row = _CONNECTION.one(tx, tenant=tenant, partner=partner)
    if row is None:
        get(tx, tenant)
        raise UnknownConnectionError(tenant, partner)
    return _row(row)


def connections(tx: Transaction, tenant: str) -> tuple[ConnectionRow, ...]:
    """A tenant's connections by partner, without credentials."""
    return tuple(_row(row) for row in _CONNECTIONS.all(tx, tenant=tenant))


def pause(tx: Transaction, tenant: str, partner: str, reason: str) -> None:
    """Pause the connection; one that is paused already keeps the time and takes the new reason.

    The reason is shown to people and kept; it holds nothing of a patient. StoreError without one, UnknownTenantError,
    UnknownConnectionError.
    """
    said = remark(reason)
    connection(tx, tenant, partner)
    _PAUSE.run(tx, tenant=tenant, partner=partner, reason=said)
    audit(tx, tenant, "pause", partner, {"reason": said})


def resume(tx: Transaction, tenant: str, partner: str) -> None:
    """End the pause, if there is one. UnknownTenantError, UnknownConnectionError."""
    connection(tx, tenant, partner)
    if _RESUME.one(tx, tenant=tenant, partner=partner) is not None:
        audit(tx, tenant, "resume", partner, {})


def has_identities(tx: Transaction, tenant: str, partner: str) -> bool:
    """Whether records of ours are linked to ids of this partner's."""
    found: bool = _IS_IDENTIFIED.run(tx, tenant=tenant, partner=partner).scalar_one()
    return found


def openable_connection(tx: Transaction, tenant: str, partner: str) -> ConnectionRow:
    """One connection with its sealed credential, for the logins that call partners. UnknownConnectionError."""
    row = _OPENABLE.one(tx, tenant=tenant, partner=partner)
    if row is None:
        raise UnknownConnectionError(tenant, partner)
    return _row(row)


def audit(tx: Transaction, tenant: str, act: str, subject: str, detail: Mapping[str, object]) -> None:
    """Note what an operator did. `detail` holds no data of people and no secret."""
    _WRITE_AUDIT.run(tx, tenant=tenant, act=act, subject=subject, detail=json.dumps(dict(detail)))


def _row(row: RowMapping) -> ConnectionRow:
    limits, closed = row["limits"], row["closed"]
    return ConnectionRow(
        Connection(row["tenant_id"], row["partner"], row["base_url"], row["settings"]),
        timing=row["timing"],
        limits=None if limits is None else tuple(limits),
        land_every=row["land_every"],
        on_conflict=row["on_conflict"],
        closed=None if closed is None else tuple(closed),
        weight=row["weight"],
        deliver_within=row["deliver_within"],
        creates=tuple(Entity(entity) for entity in row["creates"]),
        match_on={Entity(entity): tuple(keys) for entity, keys in row["match_on"].items()},
        is_paused=row["is_paused"],
        pause_reason=row["pause_reason"],
        read_at=row["read_at"],
        ciphertext=row.get("ciphertext"),
    )
