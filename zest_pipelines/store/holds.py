"""Why a connection's sending stands still, and until when: one row a connection, for closed hours and for the breaker.
It stays when it is over, so that alerts know since when edits could go.

Written by `zest_push`, read by the scheduler too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from resources.logins import Login
from zest_pipelines.store.classifications import told
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.keys import Target
from zest_pipelines.store.query import query

OUTSIDE_WINDOW = "outside_window"
"""The reason of a hold for closed hours. Every other one is the breaker's, or for a time that the partner named."""

_STANDS = f"""h.until > statement_timestamp()
      AND NOT EXISTS (SELECT FROM sync.connection changed WHERE changed.tenant_id = h.tenant_id
                      AND changed.partner = h.partner AND changed.changed_at > h.noted_at)
      AND NOT EXISTS (SELECT FROM sync.credential k WHERE k.tenant_id = h.tenant_id AND k.partner = h.partner
                      AND k.changed_at > h.noted_at)
      AND NOT EXISTS (SELECT FROM sync.classification word
                      WHERE word.fingerprint = h.cause AND word.said_at > h.noted_at)
      AND (h.reason = '{OUTSIDE_WINDOW}' OR NOT (
          EXISTS (SELECT FROM sync.push_request q WHERE q.tenant_id = h.tenant_id AND q.partner = h.partner
                  AND q.requested_at > h.noted_at)
          OR EXISTS (SELECT FROM sync.retry_request q WHERE q.tenant_id = h.tenant_id AND q.partner = h.partner
                     AND q.requested_at > h.noted_at)
          OR EXISTS (SELECT FROM sync.snapshot good WHERE good.tenant_id = h.tenant_id AND good.partner = h.partner
                     AND good.state = 'certified' AND good.finished_at > h.noted_at)))"""
IS_HELD = f"""EXISTS (
    SELECT FROM sync.hold h WHERE h.tenant_id = n.tenant_id AND h.partner = n.partner AND {_STANDS})"""
"""Of the connection `n`: its sending stands still, and nothing speaks against that.

What does: the connection or its credential was changed since, or an operator said something of the unknown error that
it is for; for the breaker also that a person has asked for days or for another try, or that the partner was read
without a fault.
"""


@dataclass(frozen=True)
class Hold:
    """Why nothing is sent."""

    reason: str
    """A code of the catalogue."""
    params: Mapping[str, str]
    failures: int
    """In a row, from before the closed hours too; 0: the connection was as it should be."""
    since: datetime
    """When it began to stand still, over all renewals."""
    until: datetime
    """When the next call may be tried."""
    noted_at: datetime
    """By the database's clock: when the connection was read that it speaks of. What changed since speaks against it."""


COLUMNS = f"{told('h')} AS reason, h.params, h.failures, h.since, h.until, h.noted_at"
"""Of the row `h` of sync.hold: a Hold."""
_IN_FORCE = query(
    "hold_in_force",
    Login.PUSH,
    f"SELECT {COLUMNS} FROM sync.hold h WHERE h.tenant_id = :tenant AND h.partner = :partner AND {_STANDS}",
)
_LAST = query(
    "last_hold",
    Login.PUSH,
    f"""
    SELECT {COLUMNS} FROM sync.hold h
    WHERE h.tenant_id = :tenant AND h.partner = :partner AND h.lifted_at IS NULL
    """,
)
_PUT = query(
    "put_hold",
    Login.PUSH,
    """
    INSERT INTO sync.hold (tenant_id, partner, reason, params, failures, since, until, noted_at)
    VALUES (:tenant, :partner, :reason, CAST(:params AS jsonb), :failures, :since, :until, :noted_at)
    ON CONFLICT (tenant_id, partner) DO UPDATE SET
        reason = excluded.reason, params = excluded.params, failures = excluded.failures, since = excluded.since,
        until = excluded.until, noted_at = excluded.noted_at, lifted_at = NULL
    """,
)
_LIFT = query(
    "lift_hold",
    Login.PUSH,
    """
    UPDATE sync.hold SET until = least(until, clock_timestamp()), lifted_at = clock_timestamp()
    WHERE tenant_id = :tenant AND partner = :partner AND lifted_at IS NULL
    """,
)


def hold_in_force(tx: Transaction, target: Target) -> Hold | None:
    """The hold that is in force now and that nothing speaks against; None: calls may be tried."""
    row = _IN_FORCE.one(tx, **target.parameters())
    return None if row is None else Hold(**row)


def last(tx: Transaction, target: Target) -> Hold | None:
    """The hold that is noted, whether it is over or not; None: the connection is as it should be."""
    row = _LAST.one(tx, **target.parameters())
    return None if row is None else Hold(**row)


def put(tx: Transaction, target: Target, hold: Hold) -> None:
    """Note the hold in place of the one there was."""
    _PUT.run(
        tx,
        reason=hold.reason,
        params=json.dumps(dict(hold.params)),
        failures=hold.failures,
        since=hold.since,
        until=hold.until,
        noted_at=hold.noted_at,
        **target.parameters(),
    )


def lift(tx: Transaction, target: Target) -> None:
    """The connection is as it should be: the hold is over, if there is one."""
    _LIFT.run(tx, **target.parameters())
