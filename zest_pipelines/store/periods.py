"""How the records of some days stand at a partner. Read by `zest_operator`.

A record belongs to the day of its newest change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.core.outcome import PendingState
from zest_pipelines.core.weeks import Days
from zest_pipelines.store.claims import COULD_GO
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.keys import Target
from zest_pipelines.store.query import query
from zest_pipelines.store.unread import IS_UNREAD


@dataclass(frozen=True)
class Moving:
    """The records of one kind that go by themselves."""

    entity: Entity
    seconds: float
    """Until the first of them may go; 0 or less: it may now."""


@dataclass(frozen=True)
class Standing:
    """How one record stands."""

    entity: Entity
    record_id: UUID
    state: PendingState | None
    """None: its newest version is settled."""
    reason: str | None
    """Of an open one: what it waits for or what stops it, as its badge says; None: nothing but its turn."""
    params: Mapping[str, str]
    is_delivered: bool
    """Whether a version of it was delivered since the time asked for."""


# Index: the primary key of pending; its rows are what is open.
_MOVING = query(
    "moving_records",
    Login.OPERATOR,
    f"""
    SELECT p.entity,
           CAST(extract(epoch FROM min(coalesce(p.not_before, clock_timestamp())) - clock_timestamp()) AS float8)
               AS seconds
    FROM sync.pending p
    JOIN sync.connection n ON n.tenant_id = p.tenant_id AND n.partner = p.partner
    WHERE p.tenant_id = :tenant AND p.partner = :partner AND n.paused_at IS NULL
      AND p.on_date BETWEEN :first AND :last AND p.edited_at <= :until AND p.state <> 'conflict' AND {COULD_GO}
    GROUP BY p.entity
    """,
)
# Index: update_event_cursor.
_IS_UNREAD = query(
    "has_unread_edits",
    Login.OPERATOR,
    f"""
    SELECT EXISTS (
        SELECT FROM sync.update_event e
        LEFT JOIN sync.event_cursor k ON k.tenant_id = e.tenant_id AND k.partner = :partner
        WHERE e.tenant_id = :tenant AND e.at <= :until AND {IS_UNREAD})
    """,
)
# Index: change_of_day, then one look-up a record in the others. A record's newest change is what is pending of it or
# what is settled of it. The badge is asked record by record: as a whole it reads all that the tenant ever had.
_STANDINGS = query(
    "standings",
    Login.OPERATOR,
    """
    SELECT c.entity, c.record_id, p.state, badge.reason, coalesce(badge.params, '{}') AS params,
           EXISTS (SELECT FROM sync.result r WHERE r.tenant_id = s.tenant_id AND r.partner = s.partner
                   AND r.entity = s.entity AND r.record_id = s.record_id AND r.version = s.delivered_version
                   AND r.month = s.delivered_month AND r.outcome IN ('delivered', 'delivered_with_warning')
                   AND r.made_at >= :since) AS is_delivered
    FROM sync.change c
    LEFT JOIN sync.pending p ON p.tenant_id = c.tenant_id AND p.partner = c.partner AND p.entity = c.entity
        AND p.record_id = c.record_id
    LEFT JOIN sync.standing s ON s.tenant_id = c.tenant_id AND s.partner = c.partner AND s.entity = c.entity
        AND s.record_id = c.record_id
    LEFT JOIN LATERAL (
        SELECT b.reason, b.params FROM sync.badge b
        WHERE b.tenant_id = p.tenant_id AND b.partner = p.partner AND b.entity = p.entity
          AND b.record_id = p.record_id
        LIMIT 1) AS badge ON true
    WHERE c.tenant_id = :tenant AND c.partner = :partner AND c.on_date BETWEEN :first AND :last
      AND c.version = greatest(p.version, s.version)
    ORDER BY c.on_date, c.entity, c.record_id
    """,
)


def moving(tx: Transaction, target: Target, days: Days, until: datetime) -> tuple[Moving, ...]:
    """What of these days, edited up to `until`, goes by itself: it is asked for, and waits for its time alone."""
    rows = _MOVING.all(tx, until=until, **_parameters(target, days))
    return tuple(Moving(Entity(row["entity"]), row["seconds"]) for row in rows)


def has_unread_edits(tx: Transaction, target: Target, until: datetime) -> bool:
    """Whether an edit of the tenant's up to `until` has not been accumulated yet, whatever day it is of."""
    found: bool = _IS_UNREAD.run(tx, until=until, **target.parameters()).scalar_one()
    return found


def standings(tx: Transaction, target: Target, days: Days, since: datetime) -> Sequence[Standing]:
    """Every record of these days by day; `since` is what `is_delivered` counts from."""
    rows = _STANDINGS.all(tx, since=since, **_parameters(target, days))
    return tuple(
        Standing(
            Entity(row["entity"]),
            row["record_id"],
            None if row["state"] is None else PendingState(row["state"]),
            row["reason"],
            row["params"],
            row["is_delivered"],
        )
        for row in rows
    )


def _parameters(target: Target, days: Days) -> dict[str, object]:
    return target.parameters() | {"first": days.first, "last": days.last}
