"""What a person asks for: days to be pushed now, stopped records to be tried again. Written through one function each.

A request stands in the tables, so it is served whatever becomes of the process that made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.core.outcome import PendingState
from zest_pipelines.core.weeks import Days
from zest_pipelines.store.classifications import told_of_pending, told_of_suspect
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.keys import Target
from zest_pipelines.store.query import query
from zest_pipelines.store.releases import ASKED_AGAIN, SUSPECT_ASKED_AGAIN


@dataclass(frozen=True)
class PushRequest:
    """A request that was recorded."""

    request_id: UUID
    requested_at: datetime
    """By the database's clock: edits up to then are asked for."""


@dataclass(frozen=True)
class Selection:
    """Which of the records that are stopped; None: whichever."""

    entity: Entity | None = None
    record_id: UUID | None = None
    reason: str | None = None
    """For which they are stopped."""
    days: Days | None = None
    fingerprint: str | None = None
    """Of the unknown error for which they are stopped."""

    def parameters(self) -> dict[str, Any]:
        """As the queries name them."""
        return {
            "entity": self.entity and self.entity.value,
            "record_id": self.record_id,
            "reason": self.reason,
            "first": self.days and self.days.first,
            "last": self.days and self.days.last,
            "fingerprint": self.fingerprint,
        }


ALL = Selection()


@dataclass(frozen=True)
class StoppedGroup:
    """Records of one kind that are stopped in the same way for the same reason."""

    entity: Entity
    state: PendingState
    reason: str
    records: int


@dataclass(frozen=True)
class Stopped:
    """A record that waits for a person: parked, or in conflict, or settled and not certain to be so."""

    entity: Entity
    record_id: UUID
    state: PendingState
    reason: str
    params: Mapping[str, str]
    is_asked_again: bool
    """Whether another try of it was asked for and not made yet."""


@dataclass(frozen=True)
class RequestStatus:
    """How far a request has come. Each record counts once: `total` is the sum of the six that follow it."""

    request_id: UUID
    kind: str
    """push or retry."""
    tenant_id: str
    partner: str
    from_date: date | None
    """None, and the last day too: it is about stopped records, of whatever day."""
    to_date: date | None
    requested_at: datetime
    total: int
    delivered: int
    waiting: int
    retrying: int
    action_needed: int
    check_needed: int
    not_needed: int
    is_done: bool
    """Nothing of it goes by itself any more, as things stand."""


_REQUEST_PUSH = query(
    "request_push",
    Login.OPERATOR,
    "SELECT sync.request_push(:tenant, :partner, CAST(:first AS date), CAST(:last AS date))",
)
_PUSH_REQUEST = query(
    "push_request",
    Login.OPERATOR,
    """
    SELECT q.request_id, q.requested_at FROM sync.push_request q
    WHERE q.tenant_id = :tenant AND q.request_id = :request_id
    """,
)
_REQUEST_RETRY = query(
    "request_retry",
    Login.OPERATOR,
    """
    SELECT sync.request_retry(:tenant, :partner, CAST(:entity AS text), CAST(:record_id AS uuid), CAST(:reason AS text),
                              CAST(:first AS date), CAST(:last AS date), CAST(:fingerprint AS text))
    """,
)
_REQUEST_STATUS = query(
    "request_status",
    Login.OPERATOR,
    "SELECT * FROM sync.request_status(CAST(:request_id AS uuid))",
)
# Index: pending_stopped and standing_suspect.
_SELECTED = f"""
    SELECT p.entity, p.record_id, p.state, {told_of_pending("p")} AS reason, p.params, {ASKED_AGAIN} AS is_asked_again
    FROM sync.pending p
    WHERE p.tenant_id = :tenant AND p.partner = :partner AND p.state = ANY (CAST(:states AS text[]))
      AND p.entity = coalesce(CAST(:entity AS text), p.entity)
      AND p.record_id = coalesce(CAST(:record_id AS uuid), p.record_id)
      AND (CAST(:reason AS text) IS NULL OR CAST(:reason AS text) = {told_of_pending("p")})
      AND (CAST(:fingerprint AS text) IS NULL OR CAST(:fingerprint AS text) = p.cause)
      AND (CAST(:first AS date) IS NULL OR p.on_date BETWEEN CAST(:first AS date) AND CAST(:last AS date))
    UNION ALL
    SELECT s.entity, s.record_id, s.suspect_state, {told_of_suspect("s")}, s.suspect_params, {SUSPECT_ASKED_AGAIN}
    FROM sync.standing s
    WHERE s.tenant_id = :tenant AND s.partner = :partner AND s.suspect_state = ANY (CAST(:states AS text[]))
      AND s.entity = coalesce(CAST(:entity AS text), s.entity)
      AND s.record_id = coalesce(CAST(:record_id AS uuid), s.record_id)
      AND (CAST(:reason AS text) IS NULL OR CAST(:reason AS text) = {told_of_suspect("s")})
      AND (CAST(:fingerprint AS text) IS NULL OR CAST(:fingerprint AS text) = s.suspect_cause)
      AND (CAST(:first AS date) IS NULL OR s.on_date BETWEEN CAST(:first AS date) AND CAST(:last AS date))
      AND NOT EXISTS (SELECT FROM sync.pending p WHERE p.tenant_id = s.tenant_id AND p.partner = s.partner
                      AND p.entity = s.entity AND p.record_id = s.record_id)
"""
_STOPPED = query("stopped_records", Login.OPERATOR, f"{_SELECTED} ORDER BY entity, record_id")
_GROUPS = query(
    "stopped_groups",
    Login.OPERATOR,
    f"""
    SELECT entity, state, reason, count(*) AS records FROM ({_SELECTED}) AS selected
    GROUP BY entity, state, reason ORDER BY entity, state, records DESC, reason
    """,
)
_FOR_GOOD = ["parked", "conflict"]
"""Does not go by itself."""


def push(tx: Transaction, target: Target, days: Days) -> PushRequest:
    """Ask that what stands in these days now be pushed. StoreError if there is no such connection."""
    made = _REQUEST_PUSH.run(tx, first=days.first, last=days.last, **target.parameters()).scalar_one()
    row = _PUSH_REQUEST.one(tx, tenant=target.tenant, request_id=made)
    assert row is not None  # made in this transaction
    return PushRequest(**row)


def retry(tx: Transaction, target: Target, selection: Selection = ALL) -> UUID:
    """Ask that what is stopped be tried again. StoreError as `push`, and for a reason that there is none of."""
    made: UUID = _REQUEST_RETRY.run(tx, **selection.parameters(), **target.parameters()).scalar_one()
    return made


def status(tx: Transaction, request_id: UUID) -> RequestStatus:
    """How far a request of the transaction's tenant has come. StoreError if it has none such."""
    row = _REQUEST_STATUS.one(tx, request_id=request_id)
    assert row is not None  # the function raises instead
    return RequestStatus(**row)


def groups(tx: Transaction, target: Target, selection: Selection = ALL) -> tuple[StoppedGroup, ...]:
    """What `retry` with the same selection has tried again, what waits for its next try included."""
    named = selection.parameters() | target.parameters()
    return tuple(
        StoppedGroup(Entity(row["entity"]), PendingState(row["state"]), row["reason"] or "unknown", row["records"])
        for row in _GROUPS.all(tx, states=[*_FOR_GOOD, "retry"], **named)
    )


def stopped(tx: Transaction, target: Target, selection: Selection = ALL) -> Sequence[Stopped]:
    """The same one by one, but for what goes by itself."""
    rows = _STOPPED.all(tx, states=_FOR_GOOD, **selection.parameters(), **target.parameters())
    return tuple(
        Stopped(
            Entity(row["entity"]),
            row["record_id"],
            PendingState(row["state"]),
            row["reason"] or "unknown",
            row["params"],
            row["is_asked_again"],
        )
        for row in rows
    )
