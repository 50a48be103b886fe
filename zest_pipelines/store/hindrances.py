"""What keeps a connection or a record from going on, for people: holds, closed times, conflicts. Read by the operator.

A conflict's values are a person's data: they are shown to who asked for them, and go nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.holds import COLUMNS, IS_HELD, Hold
from zest_pipelines.store.keys import Target
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Hindrances:
    """What stands in one connection's way."""

    partner: str
    on_conflict: str
    """hold or overwrite."""
    closed: tuple[str, ...] | None
    """Its own closed times; None: the partner's."""
    held: Hold | None
    """None: nothing holds it, as far as any push has noted."""
    conflicts: int
    """Records that wait for a word on a copy that was changed at the partner."""
    repairs: int
    """Settled records that a late sender may have touched, not looked at yet."""


@dataclass(frozen=True)
class TheirChange:
    """One field in which the partner's copy was found to be another than ours."""

    partner: str
    version: int
    name: str
    ours: str | None = field(repr=False)
    theirs: str | None = field(repr=False)


_HELD = query(
    "held",
    Login.OPERATOR,
    f"""
    SELECT {COLUMNS} FROM sync.connection n
    JOIN sync.hold h ON h.tenant_id = n.tenant_id AND h.partner = n.partner AND {IS_HELD}
    WHERE n.tenant_id = :tenant AND n.partner = :partner
    """,
)
# Index: the primary key of connection, then pending_stopped and the partial index of standing.
_HINDRANCES = query(
    "hindrances",
    Login.OPERATOR,
    f"""
    SELECT n.partner, n.on_conflict, n.closed, {COLUMNS},
           (SELECT count(*) FROM sync.pending p WHERE p.tenant_id = n.tenant_id AND p.partner = n.partner
              AND p.state = 'conflict') AS conflicts,
           (SELECT count(*) FROM sync.standing s WHERE s.tenant_id = n.tenant_id AND s.partner = n.partner
              AND s.suspect_state IS NOT NULL) AS repairs
    FROM sync.connection n
    LEFT JOIN sync.hold h ON h.tenant_id = n.tenant_id AND h.partner = n.partner AND {IS_HELD}
    WHERE n.tenant_id = :tenant
    ORDER BY n.partner
    """,
)
_CONFLICTS = query(
    "conflicts_of_record",
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


def held(tx: Transaction, target: Target) -> Hold | None:
    """What holds the connection now; None: nothing, as far as any push has noted."""
    row = _HELD.one(tx, **target.parameters())
    return None if row is None else Hold(**row)


def of_tenant(tx: Transaction, tenant: str) -> tuple[Hindrances, ...]:
    """What stands in the way of each of a tenant's connections, by partner."""
    return tuple(
        Hindrances(
            row["partner"],
            row["on_conflict"],
            None if row["closed"] is None else tuple(row["closed"]),
            None if row["reason"] is None else Hold(**{name: row[name] for name in Hold.__dataclass_fields__}),
            row["conflicts"],
            row["repairs"],
        )
        for row in _HINDRANCES.all(tx, tenant=tenant)
    )


def conflicts(tx: Transaction, tenant: str, entity: Entity, record_id: UUID) -> tuple[TheirChange, ...]:
    """In what a record in conflict differs from the partner's copy, field by field; empty if it is in none."""
    rows = _CONFLICTS.all(tx, tenant=tenant, entity=entity.value, record_id=record_id)
    return tuple(TheirChange(**row) for row in rows)


def overwritten(tx: Transaction, tenant: str, entity: Entity, record_id: UUID) -> tuple[TheirChange, ...]:
    """What the partner's people had changed of a record and ours went over, or is to; oldest first at each partner."""
    rows = _OVERWRITTEN.all(tx, tenant=tenant, entity=entity.value, record_id=record_id)
    return tuple(TheirChange(**row) for row in rows)
