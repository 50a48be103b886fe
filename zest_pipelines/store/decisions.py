"""A person's word on one open version of a record: give it up, or take it as delivered. Written through two functions.

It is carried out by the next push, which finds it in `releases.decided`.
"""

from __future__ import annotations

from uuid import UUID

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.errors import NotOpenError, SettledError, UnknownRecordError
from zest_pipelines.store.keys import Target
from zest_pipelines.store.query import query
from zest_pipelines.store.remarks import remark

# Index: the primary keys of both.
_VERSIONS = query(
    "versions_to_decide_on",
    Login.OPERATOR,
    """
    SELECT (SELECT p.version FROM sync.pending p
            WHERE p.tenant_id = :tenant AND p.partner = :partner AND p.entity = :entity
              AND p.record_id = :record_id) AS open,
           (SELECT s.version FROM sync.standing s
            WHERE s.tenant_id = :tenant AND s.partner = :partner AND s.entity = :entity AND s.record_id = :record_id
              AND s.suspect_state = 'parked') AS suspect
    """,
)
_IS_KNOWN = query(
    "is_record_known",
    Login.OPERATOR,
    """
    SELECT EXISTS (SELECT FROM sync.update_event e
                   WHERE e.tenant_id = :tenant AND e.entity = :entity AND e.record_id = :record_id)
    """,
)
_DECIDE = query(
    "decide",
    Login.OPERATOR,
    """
    SELECT sync.decide(:tenant, :partner, CAST(:entity AS text), CAST(:record_id AS uuid), CAST(:version AS bigint),
                       CAST(:act AS text), CAST(:partner_id AS text), CAST(:reason AS text))
    """,
)
_ABANDON_ALL = query(
    "abandon_all",
    Login.OPERATOR,
    "SELECT sync.abandon_all(:tenant, :partner, CAST(:reason AS text))",
)


def open_version(tx: Transaction, target: Target, entity: Entity, record_id: UUID) -> int:
    """The version of the record that is open at the connection.

    UnknownRecordError; SettledError if there is none but a settled one for a person to look up; else NotOpenError.
    """
    version, suspect = _versions(tx, target, entity, record_id)
    if version is None:
        refusal = NotOpenError if suspect is None else SettledError
        raise refusal(target.tenant, target.partner, entity, record_id)
    return version


def adoptable_version(tx: Transaction, target: Target, entity: Entity, record_id: UUID) -> int:
    """The version of the record that is open at the connection, or is settled and for a person to look up.

    UnknownRecordError; NotOpenError if there is none.
    """
    version, suspect = _versions(tx, target, entity, record_id)
    if (found := suspect if version is None else version) is None:
        raise NotOpenError(target.tenant, target.partner, entity, record_id)
    return found


def abandon(tx: Transaction, target: Target, entity: Entity, record_id: UUID, version: int, reason: str) -> None:
    """Have this version end without being sent. StoreError if it is not open any more, or the reason says nothing."""
    _decide(tx, target, entity, record_id, version, "abandon", None, reason)


def adopt(
    tx: Transaction, target: Target, entity: Entity, record_id: UUID, version: int, partner_id: str, reason: str
) -> None:
    """Have this version end as delivered, kept by the partner under `partner_id`; or a settled one as it should be.

    StoreError as `abandon`.
    """
    _decide(tx, target, entity, record_id, version, "adopt", partner_id.strip(), reason)


def abandon_all(tx: Transaction, target: Target, reason: str) -> int:
    """`abandon` all that is open at the connection; how many records. StoreError if the reason says nothing."""
    records: int = _ABANDON_ALL.run(tx, reason=remark(reason), **target.parameters()).scalar_one()
    return records


def _versions(tx: Transaction, target: Target, entity: Entity, record_id: UUID) -> tuple[int | None, int | None]:
    """The open version, and the settled one that is for a person to look up. UnknownRecordError."""
    named = {"entity": entity.value, "record_id": record_id}
    row = _VERSIONS.one(tx, **named, **target.parameters())
    assert row is not None  # a SELECT without FROM has one row
    if row["open"] is None and not _IS_KNOWN.run(tx, tenant=target.tenant, **named).scalar_one():
        raise UnknownRecordError(target.tenant, entity, record_id)
    return row["open"], row["suspect"]


def _decide(
    tx: Transaction,
    target: Target,
    entity: Entity,
    record_id: UUID,
    version: int,
    act: str,
    partner_id: str | None,
    reason: str,
) -> None:
    _DECIDE.run(
        tx,
        entity=entity.value,
        record_id=record_id,
        version=version,
        act=act,
        partner_id=partner_id,
        reason=remark(reason),
        **target.parameters(),
    )
