"""What keeps a connection or a record from going on, for people: holds, closed times, conflicts. Read by the operator.

A conflict's values are a person's data: they are shown to who asked for them, and go nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.holds import IS_HELD
from zest_pipelines.store.keys import Target
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Held:
    """Why nothing is sent for now."""

    reason: str
    params: Mapping[str, str]
    since: datetime
    until: datetime
    seconds: float
    """From now until then."""


@dataclass(frozen=True)
class Hindrances:
    """What stands in one connection's way."""

    partner: str
    on_conflict: str
    """hold or overwrite."""
    closed: tuple[str, ...] | None
    """Its own closed times; None: the partner's."""
    held: Held | None
    """None: nothing holds it, as far as any push has noted."""
    conflicts: int
    """Records that wait for a word on a copy that was changed at the partner."""
    repairs: int
    """Settled records that a late sender may have touched, not looked at yet."""


@dataclass(frozen=True)
class Difference:
    """One field in which the partner's copy was found to be another than ours."""

    partner: str
    version: int
    name: str
    ours: str | None = field(repr=False)
    theirs: str | None = field(repr=False)


_HELD_COLUMNS = """held.reason, held.params, held.since, held.until,
           CAST(extract(epoch FROM held.until - clock_timestamp()) AS float8) AS seconds"""
_HELD = query(
    "held",
    Login.OPERATOR,
    f"""
    SELECT {_HELD_COLUMNS} FROM sync.connection n
    JOIN sync.hold held ON held.tenant_id = n.tenant_id AND held.partner = n.partner AND {IS_HELD}
    WHERE n.tenant_id = :tenant AND n.partner = :partner
    """,
)
# Index: the primary key of connection, then pending_stopped and the partial index of standing.
_HINDRANCES = query(
    "hindrances",
    Login.OPERATOR,
    f"""
    SELECT n.partner, n.on_conflict, n.closed, {_HELD_COLUMNS},
           (SELECT count(*) FROM sync.pending p WHERE p.tenant_id = n.tenant_id AND p.partner = n.partner
              AND p.state = 'conflict') AS conflicts,
           (SELECT count(*) FROM sync.standing s WHERE s.tenant_id = n.tenant_id AND s.partner = n.partner
              AND s.suspect_state IS NOT NULL) AS repairs
    FROM sync.connection n
    LEFT JOIN sync.hold held ON held.tenant_id = n.tenant_id AND held.partner = n.partner AND {IS_HELD}
    WHERE n.tenant_id = :tenant
    ORDER BY n.partner
    """,
)
_DIFFERENCES = query(
    "differences_of_record",
    Login.OPERATOR,
    """
    SELECT c.partner, c.version, c.field AS name, c.ours, c.theirs FROM sync.conflict c
    WHERE c.tenant_id = :tenant AND c.entity = :entity AND c.record_id = :record_id
    ORDER BY c.partner, c.field
    """,
)
_OVERWRITTEN = query(
    "overwritten_of_record",
    Login.OPERATOR,
    """
    SELECT o.partner, o.version, o.field AS name, o.ours, o.theirs FROM sync.overwritten o
    WHERE o.tenant_id = :tenant AND o.entity = :entity AND o.record_id = :record_id
    ORDER BY o.partner, o.at, o.field
    """,
)


def held(tx: Transaction, target: Target) -> Held | None:
    """What holds the connection now; None: nothing, as far as any push has noted."""
    row = _HELD.one(tx, **target.parameters())
    return None if row is None else _held(row)


def of_tenant(tx: Transaction, tenant: str) -> tuple[Hindrances, ...]:
    """What stands in the way of each of a tenant's connections, by partner."""
    return tuple(
        Hindrances(
            row["partner"],
            row["on_conflict"],
            None if row["closed"] is None else tuple(row["closed"]),
            None if row["reason"] is None else _held(row),
            row["conflicts"],
            row["repairs"],
        )
        for row in _HINDRANCES.all(tx, tenant=tenant)
    )


def differences(tx: Transaction, tenant: str, entity: Entity, record_id: UUID) -> tuple[Difference, ...]:
    """In what a record in conflict differs from the partner's copy, field by field; empty if it is in none."""
    rows = _DIFFERENCES.all(tx, tenant=tenant, entity=entity.value, record_id=record_id)
    return tuple(Difference(**row) for row in rows)


def overwritten(tx: Transaction, tenant: str, entity: Entity, record_id: UUID) -> tuple[Difference, ...]:
    """What the partner's people had changed of a record and ours went over, or is to; oldest first at each partner."""
    rows = _OVERWRITTEN.all(tx, tenant=tenant, entity=entity.value, record_id=record_id)
    return tuple(Difference(**row) for row in rows)


def _held(row: RowMapping) -> Held:
    return Held(**{name: row[name] for name in Held.__dataclass_fields__})
