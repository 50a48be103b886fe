"""One record's history at one partner, written as accumulate and push write it, and what is pending by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from uuid import UUID, uuid4

import sqlalchemy as sa

from partners.contract import Entity, Verb
from resources.logins import Login
from zest_pipelines.store import deliveries, projection
from zest_pipelines.store.database import Database
from zest_pipelines.store.deliveries import Due, Intent, Key, Result, Target

TERMINAL = frozenset({"delivered", "delivered_with_warning", "superseded", "not_needed", "abandoned"})
_MONTH = date(2026, 12, 1)
_ADD_CHANGE = sa.text(
    """
    INSERT INTO sync.change (month, tenant_id, partner, entity, record_id, version, op, image, client_id, on_date,
                             edited_at)
    VALUES (:month, :tenant, :partner, 'visit', :record, :version, 'upsert', '{}', :record,
            CAST(:month AS date) + CAST(:version AS integer), CAST(:month AS date) + make_interval(mins => :version))
    """
)
_PENDING = sa.text("SELECT version, state FROM sync.pending WHERE record_id = :record")


@dataclass(frozen=True)
class RecordHistory:
    """Every act is a transaction of its own, under the login whose act it is."""

    database: Database
    tenant: str
    record: UUID = field(default_factory=uuid4)

    @property
    def target(self) -> Target:
        return Target(self.tenant, "fhir")

    def change(self, version: int) -> None:
        with self.database.transaction(Login.ACCUMULATE, self.tenant) as tx:
            parameters = self.target.parameters() | {"month": _MONTH, "record": self.record, "version": version}
            tx.execute(_ADD_CHANGE, parameters)

    def intend(self, version: int) -> UUID:
        intent = Intent(uuid4(), self._key(version), Verb.CREATE, "key", {}, None, None)
        with self.database.transaction(Login.PUSH, self.tenant) as tx:
            deliveries.add_intent(tx, self.target, 1, intent)
        return intent.intent_id

    def result(self, version: int, outcome: str, intent: UUID | None = None, *, settle_older: bool = True) -> None:
        """A result; a terminal one settles the older versions with it, as `flows.delivery` does."""
        key = self._key(version)
        partner_id = "there" if outcome.startswith("delivered") else None
        with self.database.transaction(Login.PUSH, self.tenant) as tx:
            deliveries.add_result(
                tx, self.target, Result(key, outcome, "busy", intent_id=intent, partner_id=partner_id)
            )
            if outcome in TERMINAL and settle_older:
                deliveries.supersede_older(tx, self.target, key)

    def pending(self) -> tuple[int, str] | None:
        """(version, state) of the record's pending row."""
        with self.database.transaction(Login.OPERATOR, self.tenant) as tx:
            row = tx.execute(_PENDING, {"record": self.record}).one_or_none()
        return None if row is None else (row.version, row.state)

    def differences(self) -> list[tuple[int | None, int | None]]:
        """(pending, rebuilt) version of the record, if the audit finds a difference."""
        with self.database.transaction(Login.OPERATOR, self.tenant) as tx:
            found = projection.rebuild_pending(tx)
        return [(each.pending, each.rebuilt) for each in found if each.record_id == self.record]

    def due(self) -> Due | None:
        """The record as push would take it up now."""
        with self.database.transaction(Login.PUSH, self.tenant) as tx:
            taken = deliveries.due(tx, self.target, list(Entity), 1000)
        return next((due for due in taken if due.key.record_id == self.record), None)

    def _key(self, version: int) -> Key:
        return Key(_MONTH, Entity.VISIT, self.record, version)
