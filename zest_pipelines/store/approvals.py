"""A person's approval of a mass change: written through one function, used once by the next application."""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import UUID

from resources.logins import Login
from zest_pipelines.core.guard import Counts
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.masters import Scope
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Approval:
    """Up to how much a person has approved."""

    approval_id: UUID
    ceiling: Counts
    is_fresh: bool
    """False: it is more than a day old, and what it was about may be another matter by now."""


_APPROVE = query(
    "approve",
    Login.OPERATOR,
    "SELECT sync.approve(:tenant, :partner, :entity, :deletes, CAST(:changed AS jsonb))",
)
# Index: approval_of_scope, and one probe of the uses for each.
_STANDING = query(
    "standing_approvals",
    Login.APPLY,
    """
    SELECT a.approval_id, a.deletes, a.changed, a.approved_at > clock_timestamp() - interval '1 day' AS is_fresh
    FROM sync.approval a
    WHERE a.tenant_id = :tenant AND a.partner = :partner AND a.entity = :entity
      AND NOT EXISTS (SELECT FROM sync.approval_use u WHERE u.approval_id = a.approval_id)
    ORDER BY a.approved_at, a.approval_id
    """,
)
_USE = query(
    "use_approval",
    Login.APPLY,
    """
    INSERT INTO sync.approval_use (approval_id, tenant_id, partner, outcome, deletes, changed)
    VALUES (:approval_id, :tenant, :partner, :outcome, :deletes, CAST(:changed AS jsonb))
    """,
)


def approve(tx: Transaction, scope: Scope, ceiling: Counts) -> UUID:
    """Let the next application write up to and including so much. Raises StoreError for nothing at all."""
    parameters = scope.parameters() | _counted(ceiling)
    approval_id: UUID = _APPROVE.run(tx, **parameters).scalar_one()
    return approval_id


def standing(tx: Transaction, scope: Scope) -> tuple[Approval, ...]:
    """Those that no application has used, oldest first."""
    return tuple(
        Approval(row["approval_id"], Counts(row["deletes"], row["changed"]), row["is_fresh"])
        for row in _STANDING.all(tx, **scope.parameters())
    )


def use(tx: Transaction, scope: Scope, approval: Approval, outcome: str, about: Counts) -> None:
    """Note that an application has used the approval. `about`: what was about to be applied.

    `outcome`: let_through, exceeded (some of it was held again), not_needed or expired.
    """
    named = {"approval_id": approval.approval_id, "tenant": scope.tenant, "partner": scope.partner}
    _USE.run(tx, outcome=outcome, **named, **_counted(about))


def _counted(counts: Counts) -> dict[str, int | str]:
    return {"deletes": counts.deletes, "changed": json.dumps(dict(counts.changed))}
