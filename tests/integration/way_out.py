"""A connection's way out, written as accumulate, apply, the product and push write it: one act, one transaction."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from partners.contract import Connection, Entity, Verb
from resources.logins import Login
from zest_pipelines.core.commands import idempotency_key
from zest_pipelines.core.outcome import Outcome
from zest_pipelines.store import claims, due, results, tenants
from zest_pipelines.store.claims import Due, Suspect
from zest_pipelines.store.database import Database, Transaction
from zest_pipelines.store.keys import Key, Target
from zest_pipelines.store.results import Intent, Repair, Result

MONTH = date(2026, 11, 1)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
"""Long past."""

_numbers = itertools.count(1)
_ADD_CHANGE = sa.text(
    """
    INSERT INTO sync.change (month, tenant_id, partner, entity, record_id, version, op, image, client_id, staff_id,
                             on_date, edited_at)
    VALUES (:month, :tenant, :partner, :entity, :record, :version, :op, CAST(:image AS jsonb), :client, :staff,
            :on_date, :edited_at)
    """
)
_ADD_IDENTITY = sa.text(
    """
    INSERT INTO sync.identity (tenant_id, partner, entity, partner_id, record_id)
    VALUES (:tenant, :partner, :entity, :partner_id, :record)
    """
)


@dataclass(frozen=True)
class WayOut:
    """Of one tenant at one partner, which knows one client and one member of staff."""

    database: Database
    partner: str
    tenant: str = "sakura"
    client: UUID = field(default_factory=uuid4)
    staff: UUID = field(default_factory=uuid4)

    @property
    def target(self) -> Target:
        return Target(self.tenant, self.partner)

    def connect(self, timing: str = "minute") -> None:
        """Add the tenant and its connection, or change its timing."""
        with self.transaction(Login.OPERATOR) as tx:
            tenants.add(tx, self.tenant, "T")
            tenants.connect(
                tx,
                Connection(self.tenant, self.partner, "http://x", {}),
                timing=timing,
                limits=None,
                land_every=timedelta(hours=1),
                ciphertext=None,
            )

    def identify(self, entity: Entity, record: UUID, partner_id: str) -> None:
        parameters = self.target.parameters() | {"entity": entity.value, "record": record, "partner_id": partner_id}
        with self.transaction(Login.APPLY) as tx:
            tx.execute(_ADD_IDENTITY, parameters)

    def change(self, key: Key | None = None, **columns: Any) -> Key:
        """A change of `key`'s version, or of a new visit's first; edited `version` minutes after noon."""
        key = key or Key(MONTH, Entity.VISIT, uuid4(), 1)
        values = {
            "op": "upsert",
            "image": f'{{"version": {key.version}}}',
            "client": self.client,
            "staff": self.staff,
            "on_date": NOON.date(),
            "edited_at": NOON + timedelta(minutes=key.version),
        } | columns
        named = {"month": key.month, "entity": key.entity.value, "record": key.record_id, "version": key.version}
        with self.transaction(Login.ACCUMULATE) as tx:
            tx.execute(_ADD_CHANGE, self.target.parameters() | named | values)
        return key

    def intend(self, key: Key, verb: Verb = Verb.CREATE, suffix: str = "", **columns: Any) -> Intent:
        """An intent to send that version."""
        values = {"links": {"client": "C"}, "partner_id": None, "partner_version": None} | columns
        known = idempotency_key(key.entity, key.record_id, key.version) + suffix
        intent = Intent(uuid4(), key, verb, known, **values)
        with self.transaction() as tx:
            results.add_intents(tx, self.target, 1, [intent])
        return intent

    def store(self, *ended: Result) -> tuple[Result, ...]:
        """Store results. Returns those that came too late."""
        with self.transaction() as tx:
            return results.add_results(tx, self.target, ended)

    def repair(self, *repairs: Repair) -> None:
        with self.transaction() as tx:
            results.add_repairs(tx, self.target, repairs)

    def deliver(self, key: Key, verb: Verb = Verb.CREATE, partner_id: str = "there", version: str = "1") -> Intent:
        """Send that version with success."""
        intent = self.intend(key, verb)
        assert self.store(delivered(intent, partner_id, version)) == ()
        return intent

    def due(self, most: int = 100, **selection: Any) -> tuple[Due, ...]:
        with self.transaction() as tx:
            return claims.due(tx, self.target, list(Entity), most, **selection)

    def due_keys(self, **selection: Any) -> list[Key]:
        return [each.key for each in self.due(**selection)]

    def suspects(self, **selection: Any) -> tuple[Suspect, ...]:
        with self.transaction() as tx:
            return claims.suspects(tx, self.target, list(Entity), 100, **selection)

    def recheck(self) -> int:
        with self.transaction() as tx:
            return claims.recheck(tx, self.target)

    def outbound(self, mapping: str = "1") -> tuple[str, ...]:
        """Who is due, as the scheduler sees it; by that version of the mapping."""
        with self.database.transaction(Login.SCHEDULE, None) as tx:
            return due.outbound(tx, self.partner, mapping)

    def sql(self, statement: str, login: Login = Login.OPERATOR, **parameters: Any) -> Sequence[Any]:
        """Run one statement and return its rows, if it has any; `:tenant` and `:partner` are given."""
        with self.transaction(login) as tx:
            result = tx.execute(sa.text(statement), self.target.parameters() | parameters)
            return result.all() if result.returns_rows else []

    def outcomes(self, record: UUID) -> list[tuple[int, str]]:
        """(version, outcome) of every result of the record, in order."""
        statement = "SELECT version, outcome FROM sync.result WHERE record_id = :record ORDER BY result_no"
        return [tuple(row) for row in self.sql(statement, record=record)]

    @contextmanager
    def transaction(self, login: Login = Login.PUSH) -> Iterator[Transaction]:
        with self.database.transaction(login, self.tenant) as tx:
            yield tx


def way_out(
    database: Database, timing: str = "minute", *, tenant: str = "sakura", partner: str | None = None
) -> WayOut:
    """A new connection's; to a new partner, unless one is named: tests with one database have a partner each."""
    made = WayOut(database, partner or f"partner_{next(_numbers)}", tenant)
    made.connect(timing)
    made.identify(Entity.CLIENT, made.client, "C")
    made.identify(Entity.STAFF, made.staff, "S")
    return made


def delivered(intent: Intent, partner_id: str = "there", version: str = "1") -> Result:
    """The end of that intent: the partner has it."""
    return Result(
        intent.key,
        Outcome.DELIVERED,
        intent_id=intent.intent_id,
        partner_id=partner_id,
        partner_version=version,
        is_cancelled=intent.verb is Verb.CANCEL,
    )


def ended(intent: Intent, outcome: Outcome, reason: str = "busy", **columns: Any) -> Result:
    """Another end of that intent."""
    return Result(intent.key, outcome, reason, intent_id=intent.intent_id, **columns)
