"""Master changes and what became of them. `zest_diff` writes the changes, `zest_apply` results and masters."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from partners.contract import MASTERS, Entity
from resources.logins import Login
from zest_pipelines.core.guard import Beside
from zest_pipelines.core.identity import Link
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import Query, query


@dataclass(frozen=True)
class Scope:
    """One entity of one connection."""

    tenant: str
    partner: str
    entity: Entity

    def parameters(self) -> dict[str, Any]:
        """As the queries name them."""
        return {"tenant": self.tenant, "partner": self.partner, "entity": self.entity.value}


@dataclass(frozen=True)
class Step:
    """A record's newest landed state that no change speaks of yet, beside the master that was last applied."""

    partner_id: str
    landed_no: int
    master: Mapping[str, Any] | None
    """None: gone, or (with a problem) unmappable."""
    problem: str | None
    params: Mapping[str, str]
    applied: Mapping[str, Any] | None
    """None: never applied, or deleted."""


@dataclass(frozen=True)
class MasterChange:
    """取込差分: one step of a master."""

    partner_id: str
    landed_no: int
    kind: str
    """add, change, delete or unmappable."""
    fields: tuple[str, ...]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    problem: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def ends(self) -> bool:
        """Whether a record that was in force is so no longer: it is deleted, or told to be inactive."""
        if self.kind == "delete":
            return True
        return bool(self.before and self.after and self.before.get("active") and not self.after.get("active"))


@dataclass(frozen=True)
class OpenChange:
    """A change without a terminal result, and what applying it needs to know."""

    change: MasterChange
    is_newest: bool
    """False: a later change of the same record makes it superseded."""
    held_for: str | None
    """Reason for which it was last held."""
    held_params: Mapping[str, str]
    held_at: datetime | None
    link: Link | None
    """Whom the partner's id means, or meant last; None: it was never linked."""
    is_owner: bool
    """Whether what the partner says is written into the linked record."""


@dataclass(frozen=True)
class MasterResult:
    """取込結果: how a change ended, or that it is held."""

    partner_id: str
    landed_no: int
    outcome: str
    reason: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    record_id: UUID | None = None


@dataclass(frozen=True)
class Standing:
    """How many records of a scope stand where, by each one's newest landed version."""

    landed: int
    """There, and not known to be gone."""
    applied: int
    rejected: int
    held: int

    @property
    def left(self) -> int:
        """Neither applied nor waiting nor rejected."""
        return self.landed - self.applied - self.rejected - self.held


@dataclass(frozen=True)
class Unsettled:
    """A record that is not applied as it last landed."""

    landed_no: int
    reason: str | None
    """None: nobody has said anything of it yet."""
    params: Mapping[str, str]


# The last applied state of a record is the `after` of its newest applied change. Index: both primary keys.
_STEPS = query(
    "undiffed_landed_versions",
    Login.DIFF,
    """
    SELECT v.partner_id, v.landed_no, v.master, v.problem, v.params, applied.after AS applied
    FROM (SELECT DISTINCT ON (partner_id) * FROM sync.landed_version
          WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity
          ORDER BY partner_id, landed_no DESC) AS v
    LEFT JOIN LATERAL (
        SELECT c.after FROM sync.master_change c
        JOIN sync.master_result r USING (tenant_id, partner, entity, partner_id, landed_no)
        WHERE c.tenant_id = :tenant AND c.partner = :partner AND c.entity = :entity AND c.partner_id = v.partner_id
          AND r.outcome = 'applied'
        ORDER BY c.landed_no DESC LIMIT 1) AS applied ON true
    WHERE NOT EXISTS (
        SELECT FROM sync.master_change c
        WHERE c.tenant_id = :tenant AND c.partner = :partner AND c.entity = :entity AND c.partner_id = v.partner_id
          AND c.landed_no >= v.landed_no)
    ORDER BY v.landed_no
    """,
)
_ADD_CHANGE = query(
    "add_master_change",
    Login.DIFF,
    """
    INSERT INTO sync.master_change (tenant_id, partner, entity, partner_id, landed_no, kind, fields, before, after,
                                    problem, params)
    VALUES (:tenant, :partner, :entity, :partner_id, :landed_no, :kind, CAST(:fields AS text[]),
            CAST(:before AS jsonb), CAST(:after AS jsonb), :problem, CAST(:params AS jsonb))
    ON CONFLICT DO NOTHING
    """,
)
# What a person has undone since counts neither as a result nor as a link. A link in question owns no record that
# another partner has got meanwhile. Indexes: identity_decision_of_record, identity_of_owner.
_OPEN = query(
    "open_master_changes",
    Login.APPLY,
    """
    SELECT c.partner_id, c.landed_no, c.kind, c.fields, c.before, c.after, c.problem, c.params,
           held.reason AS held_for, coalesce(held.params, '{}') AS held_params, held.made_at AS held_at,
           link.record_id, link.is_valid, known.after AS known, first.after AS first,
           link.is_owner AND (link.is_valid OR NOT EXISTS (
               SELECT FROM sync.identity o
               WHERE o.tenant_id = c.tenant_id AND o.entity = c.entity AND o.record_id = link.record_id
                 AND o.valid_to IS NULL AND o.is_owner AND o.partner <> c.partner)) AS is_owner,
           NOT link.is_valid AND EXISTS (
               SELECT FROM sync.identity i
               WHERE i.tenant_id = c.tenant_id AND i.partner = c.partner AND i.entity = c.entity
                 AND i.record_id = link.record_id AND i.valid_to IS NULL) AS is_taken,
           NOT EXISTS (SELECT FROM sync.master_change later
                       WHERE later.tenant_id = c.tenant_id AND later.partner = c.partner AND later.entity = c.entity
                         AND later.partner_id = c.partner_id AND later.landed_no > c.landed_no) AS is_newest
    FROM sync.master_change c
    LEFT JOIN LATERAL (
        SELECT r.reason, r.params, r.made_at FROM sync.master_result r
        WHERE r.tenant_id = c.tenant_id AND r.partner = c.partner AND r.entity = c.entity
          AND r.partner_id = c.partner_id AND r.landed_no = c.landed_no
        ORDER BY r.result_no DESC LIMIT 1) AS held ON true
    LEFT JOIN LATERAL (
        SELECT i.record_id, i.is_owner, i.valid_from, i.valid_to IS NULL AS is_valid FROM sync.identity i
        WHERE i.tenant_id = c.tenant_id AND i.partner = c.partner AND i.entity = c.entity
          AND i.partner_id = c.partner_id
          AND NOT EXISTS (
              SELECT FROM sync.identity_decision d
              WHERE d.tenant_id = i.tenant_id AND d.partner = i.partner AND d.entity = i.entity
                AND d.partner_id = i.partner_id AND d.decided_at > i.valid_from AND d.act = 'unlink')
        ORDER BY i.valid_from DESC LIMIT 1) AS link ON true
    LEFT JOIN LATERAL (
        SELECT p.after FROM sync.master_change p
        JOIN sync.master_result r USING (tenant_id, partner, entity, partner_id, landed_no)
        WHERE p.tenant_id = c.tenant_id AND p.partner = c.partner AND p.entity = c.entity
          AND p.partner_id = c.partner_id AND p.after IS NOT NULL AND r.outcome = 'applied'
          AND r.record_id = link.record_id
        ORDER BY p.landed_no DESC LIMIT 1) AS known ON link.record_id IS NOT NULL
    LEFT JOIN LATERAL (
        SELECT p.after FROM sync.master_change p
        JOIN sync.master_result r USING (tenant_id, partner, entity, partner_id, landed_no)
        WHERE p.tenant_id = c.tenant_id AND p.partner = c.partner AND p.entity = c.entity
          AND p.partner_id = c.partner_id AND p.after IS NOT NULL AND r.outcome = 'applied'
          AND r.record_id = link.record_id AND r.made_at >= link.valid_from
        ORDER BY p.landed_no LIMIT 1) AS first ON link.record_id IS NOT NULL
    WHERE c.tenant_id = :tenant AND c.partner = :partner AND c.entity = :entity
      AND NOT EXISTS (SELECT FROM sync.master_result r
                      WHERE r.tenant_id = c.tenant_id AND r.partner = c.partner AND r.entity = c.entity
                        AND r.partner_id = c.partner_id AND r.landed_no = c.landed_no AND r.outcome <> 'held'
                        AND NOT EXISTS (
                            SELECT FROM sync.identity_decision d
                            WHERE d.tenant_id = r.tenant_id AND d.partner = r.partner AND d.entity = r.entity
                              AND d.partner_id = r.partner_id AND d.landed_no = r.landed_no
                              AND d.decided_at > r.made_at AND d.act IN ('unlink', 'own')))
    ORDER BY c.landed_no
    """,
)
_ADD_RESULT = query(
    "add_master_result",
    Login.APPLY,
    """
    INSERT INTO sync.master_result (tenant_id, partner, entity, partner_id, landed_no, outcome, reason, params,
                                    record_id, undone)
    SELECT :tenant, :partner, :entity, :partner_id, :landed_no, :outcome, :reason, CAST(:params AS jsonb),
           CAST(:record_id AS uuid), (
               SELECT count(*) FROM sync.identity_decision d
               WHERE d.tenant_id = :tenant AND d.partner = :partner AND d.entity = :entity
                 AND d.partner_id = :partner_id AND d.landed_no = :landed_no
                 AND d.act IN ('unlink', 'own'))
    """,
)
# Two applications of one kind of a tenant's masters wait for each other here, whichever partner they are of: the set
# that the guard judged is the set that is written, and whoever looks for a master sees all that there are.
_LOCK = query(
    "lock_application",
    Login.APPLY,
    """
    SELECT pg_advisory_xact_lock(hashtextextended(
        concat_ws(' ', 'apply', CAST(:tenant AS text), CAST(:entity AS text)), 0))
    """,
)
_PUT_CLIENT = query(
    "put_client",
    Login.APPLY,
    """
    INSERT INTO schedule.client (tenant_id, client_id, family_name, given_name, family_kana, given_kana, birth_date,
                                 sex, postal_code, address, phone, active)
    VALUES (:tenant, :record_id, :family_name, :given_name, :family_kana, :given_kana, :birth_date, :sex,
            :postal_code, :address, :phone, :active)
    ON CONFLICT (tenant_id, client_id) DO UPDATE SET
        family_name = excluded.family_name, given_name = excluded.given_name, family_kana = excluded.family_kana,
        given_kana = excluded.given_kana, birth_date = excluded.birth_date, sex = excluded.sex,
        postal_code = excluded.postal_code, address = excluded.address, phone = excluded.phone,
        active = excluded.active
    """,
)
_PUT_STAFF = query(
    "put_staff",
    Login.APPLY,
    """
    INSERT INTO schedule.staff (tenant_id, staff_id, family_name, given_name, family_kana, given_kana, qualification,
                                employed_from, employed_until, active)
    VALUES (:tenant, :record_id, :family_name, :given_name, :family_kana, :given_kana, :qualification,
            CAST(:employed_from AS date), CAST(:employed_until AS date), :active)
    ON CONFLICT (tenant_id, staff_id) DO UPDATE SET
        family_name = excluded.family_name, given_name = excluded.given_name, family_kana = excluded.family_kana,
        given_kana = excluded.given_kana, qualification = excluded.qualification,
        employed_from = excluded.employed_from, employed_until = excluded.employed_until, active = excluded.active
    """,
)
_RETIRE: dict[Entity, Query] = {
    Entity.CLIENT: query(
        "retire_client",
        Login.APPLY,
        "UPDATE schedule.client SET active = false WHERE tenant_id = :tenant AND client_id = :record_id",
    ),
    Entity.STAFF: query(
        "retire_staff",
        Login.APPLY,
        "UPDATE schedule.staff SET active = false WHERE tenant_id = :tenant AND staff_id = :record_id",
    ),
}
_PUT: dict[Entity, Query] = {Entity.CLIENT: _PUT_CLIENT, Entity.STAFF: _PUT_STAFF}
_AS_THEY_STAND: dict[Entity, Query] = {
    entity: query(
        f"{entity}_masters_as_they_stand",
        Login.APPLY,
        f"""
        SELECT m.{entity}_id AS record_id, to_jsonb(m) AS master FROM schedule.{entity} m
        WHERE m.tenant_id = :tenant AND m.{entity}_id = ANY (CAST(:records AS uuid[]))
        """,
    )
    for entity in MASTERS
}
_POPULATION: dict[Entity, Query] = {
    entity: query(
        f"active_{entity}_count",
        Login.APPLY,
        f"""
        SELECT count(*) FROM sync.identity i
        JOIN schedule.{entity} m ON m.tenant_id = i.tenant_id AND m.{entity}_id = i.record_id AND m.active
        WHERE i.tenant_id = :tenant AND i.partner = :partner AND i.entity = :entity AND i.valid_to IS NULL
          AND i.is_owner
        """,
    )
    for entity in MASTERS
}
_LAST_YES_TO = """coalesce((
    SELECT max(u.used_at) FROM sync.approval_use u JOIN sync.approval a USING (approval_id)
    WHERE a.tenant_id = :tenant AND a.partner = :partner AND a.entity = :entity
      AND u.outcome = 'let_through' AND %s), '-infinity')"""
"""When a person last let so much of the scope through."""
_LAST_YES = _LAST_YES_TO % "a.deletes > 0"
# What the partner does not own it has not written. Indexes: master_result_applied, the primary key of the changes, and
# identity_of_partner_id.
_CHANGED_LATELY = query(
    "fields_changed_lately",
    Login.APPLY,
    f"""
    SELECT changed.field, count(DISTINCT c.partner_id) AS records
    FROM sync.master_result r
    JOIN sync.master_change c USING (tenant_id, partner, entity, partner_id, landed_no)
    CROSS JOIN unnest(c.fields) AS changed (field)
    WHERE r.tenant_id = :tenant AND r.partner = :partner AND r.entity = :entity AND r.outcome = 'applied'
      AND r.made_at > clock_timestamp() - interval '1 hour' AND r.made_at > {_LAST_YES_TO % "a.changed <> '{}'"}
      AND c.kind = 'change' AND c.partner_id <> ALL (CAST(:besides AS text[]))
      AND EXISTS (SELECT FROM sync.identity i
                  WHERE i.tenant_id = r.tenant_id AND i.partner = r.partner AND i.entity = r.entity
                    AND i.partner_id = r.partner_id AND i.record_id = r.record_id AND i.valid_to IS NULL AND i.is_owner)
    GROUP BY changed.field
    """,
)
# The inactive ones of a tenant are few beside its results. Indexes: identity_of_owner, and both primary keys.
_DELETED_LATELY: dict[Entity, Query] = {
    entity: query(
        f"{entity}_deleted_lately",
        Login.APPLY,
        f"""
        SELECT count(*) FROM schedule.{entity} m
        JOIN sync.identity i ON i.tenant_id = m.tenant_id AND i.partner = :partner AND i.entity = :entity
            AND i.record_id = m.{entity}_id AND i.valid_to IS NULL AND i.is_owner
        WHERE m.tenant_id = :tenant AND NOT m.active AND EXISTS (
            SELECT FROM sync.master_result r
            JOIN sync.master_change c USING (tenant_id, partner, entity, partner_id, landed_no)
            WHERE r.tenant_id = i.tenant_id AND r.partner = i.partner AND r.entity = i.entity
              AND r.partner_id = i.partner_id AND r.outcome = 'applied'
              AND c.before ->> 'active' = 'true' AND (c.kind = 'delete' OR c.after ->> 'active' = 'false')
              AND r.made_at > clock_timestamp() - interval '1 day'
              AND r.made_at > {_LAST_YES})
        """,
    )
    for entity in MASTERS
}
# Left out are those of before a person's yes; where suspects are asked for, of these those for whom the partner was
# asked and did not say. Indexes: the primary keys of suspicion and of the master, and identity_of_partner_id.
_SUSPECTS: dict[Entity, Query] = {
    entity: query(
        f"{entity}_suspects_in_force",
        Login.APPLY,
        f"""
        SELECT count(*) FROM sync.suspicion s
        JOIN sync.identity i USING (tenant_id, partner, entity, partner_id)
        JOIN schedule.{entity} m ON m.tenant_id = i.tenant_id AND m.{entity}_id = i.record_id AND m.active
        WHERE s.tenant_id = :tenant AND s.partner = :partner AND s.entity = :entity
          AND (s.since > {_LAST_YES}
               OR CAST(:are_asked_for AS boolean) AND s.asked_at IS NULL)
          AND i.valid_to IS NULL AND i.is_owner
        """,
    )
    for entity in MASTERS
}
_STANDING = query(
    "standing_of_masters",
    Login.DIFF,
    """
    SELECT count(*) FILTER (WHERE v.fingerprint IS NOT NULL) AS landed,
           count(*) FILTER (WHERE v.fingerprint IS NOT NULL AND ended.outcome = 'applied') AS applied,
           count(*) FILTER (WHERE v.fingerprint IS NOT NULL AND ended.outcome = 'rejected') AS rejected,
           count(*) FILTER (WHERE v.fingerprint IS NOT NULL AND ended.outcome = 'held') AS held
    FROM (SELECT DISTINCT ON (partner_id) partner_id, landed_no, fingerprint FROM sync.landed_version
          WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity
          ORDER BY partner_id, landed_no DESC) AS v
    LEFT JOIN LATERAL (
        SELECT r.outcome FROM sync.master_result r
        WHERE r.tenant_id = :tenant AND r.partner = :partner AND r.entity = :entity AND r.partner_id = v.partner_id
          AND r.landed_no = v.landed_no
        ORDER BY r.result_no DESC LIMIT 1) AS ended ON true
    """,
)


_UNSETTLED = query(
    "unsettled_masters",
    Login.DIFF,
    """
    SELECT v.landed_no, ended.reason, coalesce(ended.params, '{}') AS params
    FROM (SELECT DISTINCT ON (partner_id) partner_id, landed_no, fingerprint FROM sync.landed_version
          WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity
          ORDER BY partner_id, landed_no DESC) AS v
    LEFT JOIN LATERAL (
        SELECT r.outcome, r.reason, r.params FROM sync.master_result r
        WHERE r.tenant_id = :tenant AND r.partner = :partner AND r.entity = :entity AND r.partner_id = v.partner_id
          AND r.landed_no = v.landed_no
        ORDER BY r.result_no DESC LIMIT 1) AS ended ON true
    WHERE v.fingerprint IS NOT NULL AND ended.outcome IS NOT DISTINCT FROM CAST(:outcome AS text)
    ORDER BY v.landed_no LIMIT :most
    """,
)


def steps(tx: Transaction, scope: Scope) -> tuple[Step, ...]:
    """What landed and has not been compared yet, oldest first."""
    return tuple(Step(**row) for row in _STEPS.all(tx, **scope.parameters()))


def add_changes(tx: Transaction, scope: Scope, changes: Iterable[MasterChange]) -> None:
    """Store changes; one that another process stored meanwhile stays as it is."""
    rows = [
        scope.parameters()
        | {
            "partner_id": change.partner_id,
            "landed_no": change.landed_no,
            "kind": change.kind,
            "fields": list(change.fields),
            "before": _json(change.before),
            "after": _json(change.after),
            "problem": change.problem,
            "params": json.dumps(dict(change.params)),
        }
        for change in changes
    ]
    _ADD_CHANGE.run_many(tx, rows)


def lock_application(tx: Transaction, scope: Scope) -> None:
    """Keep other applications and comparisons of this kind of the tenant's masters out until the transaction ends."""
    _LOCK.run(tx, tenant=scope.tenant, entity=scope.entity.value)


def open_changes(tx: Transaction, scope: Scope) -> tuple[OpenChange, ...]:
    """The changes that still want a result, oldest first."""
    return tuple(
        OpenChange(
            MasterChange(
                row["partner_id"],
                row["landed_no"],
                row["kind"],
                tuple(row["fields"]),
                row["before"],
                row["after"],
                row["problem"],
                row["params"],
            ),
            is_newest=row["is_newest"],
            held_for=row["held_for"],
            held_params=row["held_params"],
            held_at=row["held_at"],
            link=_link(row),
            is_owner=bool(row["is_owner"]),
        )
        for row in _OPEN.all(tx, **scope.parameters())
    )


def _link(row: RowMapping) -> Link | None:
    if row["record_id"] is None:
        return None
    return Link(row["record_id"], row["known"], row["first"], is_valid=row["is_valid"], is_taken=row["is_taken"])


def population(tx: Transaction, scope: Scope) -> int:
    """How many records in force come from the scope's partner."""
    count: int = _POPULATION[scope.entity].run(tx, **scope.parameters()).scalar_one()
    return count


def as_they_stand(tx: Transaction, scope: Scope, records: Collection[UUID]) -> dict[UUID, Mapping[str, Any]]:
    """These of our records as the product keeps them, by id."""
    rows = _AS_THEY_STAND[scope.entity].all(tx, tenant=scope.tenant, records=list(records))
    return {row["record_id"]: row["master"] for row in rows}


def beside(tx: Transaction, scope: Scope, *, are_asked_for: bool) -> Beside:
    """What counts with the deletes of the scope's partner: both since a person has last let deletes through.

    `are_asked_for`: whether the partner is asked for each suspect.
    """
    lately: int = _DELETED_LATELY[scope.entity].run(tx, **scope.parameters()).scalar_one()
    suspects: int = _SUSPECTS[scope.entity].run(tx, are_asked_for=are_asked_for, **scope.parameters()).scalar_one()
    return Beside(lately, suspects)


def changed_lately(tx: Transaction, scope: Scope, besides: Sequence[str]) -> dict[str, int]:
    """How many records of the partner's own, but for these, changed in each field within an hour, and since a person
    has last let changes through."""
    rows = _CHANGED_LATELY.all(tx, besides=list(besides), **scope.parameters())
    return {row["field"]: row["records"] for row in rows}


def add_results(tx: Transaction, scope: Scope, results: Sequence[MasterResult]) -> None:
    """Store how changes ended."""
    rows = [
        scope.parameters()
        | {
            "partner_id": result.partner_id,
            "landed_no": result.landed_no,
            "outcome": result.outcome,
            "reason": result.reason,
            "params": json.dumps(dict(result.params)),
            "record_id": result.record_id,
        }
        for result in results
    ]
    _ADD_RESULT.run_many(tx, rows)


def put_master(tx: Transaction, scope: Scope, record_id: UUID, master: Mapping[str, Any]) -> None:
    """Write a master as the product keeps it, new or changed."""
    _PUT[scope.entity].run(tx, tenant=scope.tenant, record_id=record_id, **master)


def retire_master(tx: Transaction, scope: Scope, record_id: UUID) -> None:
    """A deleted master stays, inactive."""
    _RETIRE[scope.entity].run(tx, tenant=scope.tenant, record_id=record_id)


def standing(tx: Transaction, scope: Scope) -> Standing:
    """How many records stand where. For `zest_diff` and `zest_operator`, who may see what landed."""
    row = _STANDING.one(tx, **scope.parameters())
    assert row is not None  # an aggregate without GROUP BY has one row
    return Standing(**row)


def unsettled(tx: Transaction, scope: Scope, outcome: str | None, most: int) -> tuple[Unsettled, ...]:
    """The first `most` records whose newest landed version ended so (None: has no result), oldest first. Logins as for
    `standing`."""
    rows = _UNSETTLED.all(tx, outcome=outcome, most=most, **scope.parameters())
    return tuple(Unsettled(**row) for row in rows)


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
