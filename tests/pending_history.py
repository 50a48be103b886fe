"""One record's history at one partner, written as accumulate and push write it, and the tables derived from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from partners.contract import Entity, Verb
from resources.logins import Login
from zest_pipelines.core.outcome import Outcome, RepairOutcome
from zest_pipelines.store import claims, projection, results
from zest_pipelines.store.claims import Due
from zest_pipelines.store.database import Database
from zest_pipelines.store.keys import Key, Target
from zest_pipelines.store.results import Intent, Repair, Result

TERMINAL = frozenset({"delivered", "delivered_with_warning", "superseded", "not_needed", "abandoned"})
_MONTHS = (date(2026, 12, 1), date(2027, 1, 1))
_ADD_CHANGE = sa.text(
    """
    INSERT INTO sync.change (month, tenant_id, partner, entity, record_id, version, op, image, client_id, on_date,
                             edited_at)
    VALUES (:month, :tenant, :partner, 'visit', :record, :version, 'upsert', '{}', :record,
            CAST(:month AS date) + CAST(:version AS integer), CAST(:month AS date) + make_interval(mins => :version))
    """
)
_PENDING = sa.text("SELECT * FROM sync.pending WHERE record_id = :record")
_STANDING = sa.text("SELECT * FROM sync.standing WHERE record_id = :record")


@dataclass(frozen=True)
class RecordHistory:
    """Every act is a transaction of its own, under the login whose act it is."""

    database: Database
    tenant: str
    record: UUID = field(default_factory=uuid4)

    @property
    def target(self) -> Target:
        return Target(self.tenant, "fhir")

    def change(self, *versions: int) -> None:
        """Changes, in one statement if the driver can."""
        with self.database.transaction(Login.ACCUMULATE, self.tenant) as tx:
            tx.execute(
                _ADD_CHANGE,
                [
                    self.target.parameters() | {"month": month(version), "record": self.record, "version": version}
                    for version in versions
                ],
            )

    def intend(self, version: int) -> UUID:
        intent = Intent(uuid4(), self.key(version), Verb.CREATE, "key", {"client": f"c{version}"}, None, None)
        with self.database.transaction(Login.PUSH, self.tenant) as tx:
            results.add_intents(tx, self.target, 1, [intent])
        return intent.intent_id

    def result(
        self,
        version: int,
        outcome: str,
        intent: UUID | None = None,
        *,
        partner_id: str | None = None,
        settle_older: bool = True,
    ) -> bool:
        """A result; a terminal one settles the older versions with it, as push does. Whether it came in time."""
        key = self.key(version)
        there = partner_id or ("there" if outcome.startswith("delivered") else None)
        with self.database.transaction(Login.PUSH, self.tenant) as tx:
            result = Result(key, Outcome(outcome), "busy", intent_id=intent, partner_id=there)
            late = results.add_results(tx, self.target, [result])
            if outcome in TERMINAL and settle_older and not late:
                results.supersede_older(tx, self.target, [key])
        return not late

    def repair(self, version: int, outcome: str, intent: UUID | None = None, partner_id: str | None = None) -> None:
        repair = Repair(self.key(version), RepairOutcome(outcome), "busy", intent_id=intent, partner_id=partner_id)
        with self.database.transaction(Login.PUSH, self.tenant) as tx:
            results.add_repairs(tx, self.target, [repair])

    def recheck(self) -> int:
        with self.database.transaction(Login.PUSH, self.tenant) as tx:
            return claims.recheck(tx, self.target)

    def pending(self) -> tuple[int, str] | None:
        """(version, state) of the record's pending row."""
        row = self.pending_row()
        return None if row is None else (row.version, row.state)

    def pending_row(self) -> Any:
        return self._row(_PENDING)

    def standing(self) -> Any:
        """The record's row in `standing`, or None."""
        return self._row(_STANDING)

    def differences(self) -> list[tuple[str, int | None, int | None, tuple[str, ...]]]:
        """(table, version found, version rebuilt, parts) of the record where the audit finds a difference."""
        with self.database.transaction(Login.OPERATOR, self.tenant) as tx:
            found = projection.differences(tx)
        return [(each.table, each.found, each.rebuilt, each.parts) for each in found if each.record_id == self.record]

    def due(self) -> Due | None:
        """The record as push would take it up now."""
        with self.database.transaction(Login.PUSH, self.tenant) as tx:
            taken = claims.due(tx, self.target, list(Entity), 1000)
        return next((due for due in taken if due.key.record_id == self.record), None)

    def key(self, version: int) -> Key:
        return Key(month(version), Entity.VISIT, self.record, version)

    def _row(self, statement: sa.TextClause) -> Any:
        with self.database.transaction(Login.OPERATOR, self.tenant) as tx:
            return tx.execute(statement, {"record": self.record}).one_or_none()


def month(version: int) -> date:
    """The later ones are edits of the next month."""
    return _MONTHS[version > 3]
