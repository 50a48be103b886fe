"""Landed plans: what somebody else has planned for each client and month. Written by `zest_land`, only ever added to.

They are compared with the product's visits by `zest_diff`, which may read of those what is compared, and write none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.keys import Target
from zest_pipelines.store.landing import Reading
from zest_pipelines.store.query import query

Whose = tuple[str, date]
"""The partner's id of a client, and the first day of a month."""


@dataclass(frozen=True)
class NewPlan:
    """A plan to be stored."""

    partner_id: str
    month: date
    said_at: str
    fingerprint: bytes
    services: str | None
    """As JSON; None: it was taken back."""
    problems: str
    """As JSON."""


@dataclass(frozen=True)
class StandingPlan:
    """What was said last of a client and month."""

    landed_no: int
    month: date
    client_id: UUID | None
    """Ours; None: the client is not linked to one of ours."""
    services: Sequence[Mapping[str, Any]] | None
    """None: it was taken back."""
    problems: Sequence[Mapping[str, Any]]
    """Lines that could not be taken: `reason` and `params`."""


@dataclass(frozen=True)
class ConfirmedVisit:
    """What is compared of a visit."""

    visit_id: UUID
    client_id: UUID
    starts_at: datetime
    ends_at: datetime
    service_code: str


# Index: the primary key, one probe a plan.
_NEWEST = query(
    "newest_landed_plans",
    Login.LAND,
    """
    SELECT asked.partner_id, asked.month, known.said_at, known.fingerprint
    FROM unnest(CAST(:partner_ids AS text[]), CAST(:months AS date[])) AS asked (partner_id, month)
    CROSS JOIN LATERAL (
        SELECT p.said_at, p.fingerprint FROM sync.landed_plan p
        WHERE p.tenant_id = :tenant AND p.partner = :partner AND p.month = asked.month
          AND p.partner_id = asked.partner_id
        ORDER BY p.landed_no DESC LIMIT 1) AS known
    """,
)
_ADD = query(
    "add_landed_plan",
    Login.LAND,
    """
    INSERT INTO sync.landed_plan (tenant_id, partner, month, partner_id, snapshot_id, said_at, fingerprint, services,
        problems)
    VALUES (:tenant, :partner, :month, :partner_id, :snapshot, :said_at, :fingerprint, CAST(:services AS jsonb),
        CAST(:problems AS jsonb))
    """,
)
# Index: the primary key, from the month on.
_STANDING = query(
    "standing_plans",
    Login.DIFF,
    """
    SELECT p.landed_no, p.month, i.record_id AS client_id, p.services, p.problems
    FROM (SELECT DISTINCT ON (month, partner_id) month, partner_id, landed_no, services, problems
          FROM sync.landed_plan
          WHERE tenant_id = :tenant AND partner = :partner AND month >= :since
          ORDER BY month, partner_id, landed_no DESC) AS p
    LEFT JOIN sync.identity i ON i.tenant_id = :tenant AND i.partner = :partner AND i.entity = 'client'
        AND i.partner_id = p.partner_id AND i.valid_to IS NULL
    ORDER BY p.landed_no
    """,
)
# Index: visit_confirmed.
_VISITS = query(
    "confirmed_visits",
    Login.DIFF,
    """
    SELECT v.visit_id, v.client_id, v.starts_at, v.ends_at, v.service_code FROM schedule.visit v
    WHERE v.tenant_id = :tenant AND v.status = 'confirmed' AND v.starts_at >= :since AND v.starts_at < :until
    """,
)


def newest(tx: Transaction, reading: Reading, whose: Sequence[Whose]) -> Mapping[Whose, tuple[str, bytes]]:
    """When what stands was said, and its fingerprint; those of whom nothing has landed are not in it."""
    rows = _NEWEST.all(
        tx,
        tenant=reading.tenant,
        partner=reading.partner,
        partner_ids=[partner_id for partner_id, _ in whose],
        months=[month for _, month in whose],
    )
    return {(row["partner_id"], row["month"]): (row["said_at"], bytes(row["fingerprint"])) for row in rows}


def add(tx: Transaction, reading: Reading, plans: Sequence[NewPlan]) -> None:
    """Store plans, of different clients and months, in the place of what stood."""
    key = {"tenant": reading.tenant, "partner": reading.partner, "snapshot": reading.snapshot}
    _ADD.run_many(tx, [key | vars(each) for each in plans])


def standing(tx: Transaction, target: Target, since: date) -> tuple[StandingPlan, ...]:
    """What was said last of each client and month, from a month on, by what landed first."""
    return tuple(StandingPlan(**row) for row in _STANDING.all(tx, since=since, **target.parameters()))


def confirmed(tx: Transaction, tenant: str, since: datetime, until: datetime) -> tuple[ConfirmedVisit, ...]:
    """The product's confirmed visits that begin from a moment on and before another."""
    return tuple(ConfirmedVisit(**row) for row in _VISITS.all(tx, tenant=tenant, since=since, until=until))


def spelled(document: object) -> str:
    """A document as it is stored."""
    return json.dumps(document, ensure_ascii=False, sort_keys=True)
