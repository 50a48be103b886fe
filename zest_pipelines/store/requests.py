"""What a person asks for: days to be pushed now, stopped records to be tried again. Written through one function each.

A request stands in the tables, so it is served whatever becomes of the process that made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.core.weeks import Days
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.deliveries import Target
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class PushRequest:
    """A request that was recorded."""

    request_id: UUID
    requested_at: datetime
    """By the database's clock: edits up to then are asked for."""


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
    "SELECT sync.request_retry(:tenant, :partner, CAST(:entity AS text), CAST(:record_id AS uuid))",
)


def push(tx: Transaction, target: Target, days: Days) -> PushRequest:
    """Ask that what stands in these days now be pushed. StoreError if there is no such connection."""
    made = _REQUEST_PUSH.run(tx, first=days.first, last=days.last, **target.parameters()).scalar_one()
    row = _PUSH_REQUEST.one(tx, tenant=target.tenant, request_id=made)
    assert row is not None  # made in this transaction
    return PushRequest(**row)


def retry(tx: Transaction, target: Target, entity: Entity | None = None, record_id: UUID | None = None) -> None:
    """Ask that what is stopped be tried again: of one kind or all, one record or all. StoreError as `push`."""
    _REQUEST_RETRY.run(tx, entity=entity and entity.value, record_id=record_id, **target.parameters())
