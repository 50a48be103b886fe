"""What the database can answer that is not a result, grouped by what the reader does next.

    StoreError
    ├── DatabaseUnreachableError   it is down or starting: wait, the next try finds it
    ├── SchemaError                it was not prepared: run `zest init`
    ├── ConstraintError            a value that it refuses: the code at fault is ours
    ├── UnknownTenantError         no such tenant: `zest tenant add`
    ├── UnknownConnectionError     no such connection: `zest connect`
    ├── UnknownRecordError         no such record: another id
    ├── NotOpenError               nothing of the record waits: nothing to decide
    └── SettledError               it is settled, and may not be right: nothing to give up, but to look up

PostgreSQL's DETAIL and a statement's parameters can hold a patient's name. A StoreError is therefore built from the
sqlstate, the primary message where that is safe, and the constraint's name, and carries no cause.
"""

from __future__ import annotations

from uuid import UUID

import psycopg
from sqlalchemy.exc import DBAPIError

_UNREACHABLE = (
    "08",
    "57P",
    "53",
)  # connection exceptions, server shutting down or starting, out of resources
_NOT_PREPARED = frozenset({"3D000", "3F000", "42P01", "42703", "42883", "28000", "28P01"})


class StoreError(Exception):
    """The database refused; the message is one sentence with the next step and without data."""


class DatabaseUnreachableError(StoreError):
    """The database does not answer."""


class SchemaError(StoreError):
    """The database is not what this version needs."""


class ConstraintError(StoreError):
    """A value breaks a rule of the database; `constraint` names it."""

    def __init__(self, sqlstate: str, constraint: str | None) -> None:
        super().__init__(f"the database refused a value (sqlstate {sqlstate}, constraint {constraint or 'unnamed'})")
        self.sqlstate = sqlstate
        self.constraint = constraint

    @property
    def is_duplicate(self) -> bool:
        """Whether it is about uniqueness. In a partitioned table the constraint has the partition's name for it."""
        return self.sqlstate == "23505"


class UnknownTenantError(StoreError):
    """There is no such tenant."""

    def __init__(self, tenant: str) -> None:
        super().__init__(f"there is no tenant {tenant}: add it with `zest tenant add {tenant} --name NAME`")


class UnknownConnectionError(StoreError):
    """The tenant is not connected to the partner."""

    def __init__(self, tenant: str, partner: str) -> None:
        super().__init__(f"tenant {tenant} is not connected to {partner}: run `zest connect {tenant} {partner} ...`")


class UnknownRecordError(StoreError):
    """The tenant's product never had the record; `kind` in words a person reads."""

    def __init__(self, tenant: str, kind: str, record_id: UUID) -> None:
        super().__init__(f"tenant {tenant} has no {kind} {record_id}: check the id, it is the product's visit_id")


class NotOpenError(StoreError):
    """Nothing of the record waits for the partner; `kind` in words a person reads."""

    def __init__(self, tenant: str, partner: str, kind: str, record_id: UUID) -> None:
        super().__init__(
            f"nothing of {kind} {record_id} is open at {partner}, so there is nothing to decide: see how it stands "
            f"with `zest explain {tenant} {kind} {record_id}`"
        )


class SettledError(StoreError):
    """The record is settled, and a late sender may have touched it; `kind` in words a person reads."""

    def __init__(self, tenant: str, partner: str, kind: str, record_id: UUID) -> None:
        super().__init__(
            f"{kind} {record_id} is settled at {partner}, so there is nothing to give up, but it may not be right "
            f"there: see what to do with `zest explain {tenant} {kind} {record_id}`; if it is right on the partner's "
            f"screen run `zest adopt {tenant} {partner} {kind} {record_id} --partner-id ID --reason WHY`"
        )


def store_error(error: DBAPIError | psycopg.Error) -> StoreError:
    """The StoreError for what a driver raised. Raise it `from None`."""
    original = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(original, "sqlstate", None)
    if state is None and isinstance(original, psycopg.DataError):
        return ConstraintError("22000", None)  # the driver refuses it before the server could: text with a NUL
    if state is None or state.startswith(_UNREACHABLE):
        if "password authentication failed" in str(original):
            return SchemaError("the database refuses the login's password: run `zest init` again")
        if "does not exist" in str(original):
            return SchemaError("the database is not prepared: run `zest init`")
        return DatabaseUnreachableError("the database does not answer: start it (`zest up`), or wait and try again")
    if state in _NOT_PREPARED:
        return SchemaError(f"the database is not prepared for this version (sqlstate {state}): run `zest init`")
    diag = getattr(original, "diag", None)
    if state.startswith("ZT"):
        return StoreError(str(getattr(diag, "message_primary", state)))  # our own sentences hold no data
    if state.startswith(("22", "23")):  # data exceptions, broken constraints
        return ConstraintError(state, getattr(diag, "constraint_name", None))
    return StoreError(f"the database answered with sqlstate {state}: run `zest init`, or ask us with this number")
