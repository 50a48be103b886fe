"""Who keeps edits from being read: the oldest transaction of the server that is still open and has written something.

An edit is read once no transaction that began before it can still commit (adr/0002), and the server counts those of all
its databases. Asked by `zest_schedule`, which may see of another's session its database, its name and its transaction's
number, and no more: not what it runs, nor since when. So the age is that of the oldest edit that it holds back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Stall:
    """A transaction that holds edits back."""

    database: str
    application: str
    """As the session calls itself; may be empty."""
    pid: int | None
    """The server's process; None: the transaction is a prepared one, which no session has any more."""
    age: timedelta
    """Of the oldest edit that it holds back: so long it is open at least."""
    tenants: int
    """Who have edits that cannot be read."""


# Index: update_event_cursor, one probe a connection, and none while no transaction is open.
_STALL = query(
    "transaction_that_holds_events_back",
    Login.SCHEDULE,
    """
    WITH oldest AS MATERIALIZED (
        SELECT a.database, a.application, a.pid, s.xmin
        FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin) AS s
        JOIN (SELECT datname AS database, application_name AS application, pid, backend_xid AS xid
              FROM pg_stat_activity WHERE backend_xid IS NOT NULL
              UNION ALL SELECT database, '', NULL, transaction FROM pg_prepared_xacts) AS a
          ON a.xid = CAST(s.xmin AS xid)
        LIMIT 1)
    SELECT o.database, o.application, o.pid, clock_timestamp() - min(held.at) AS age, count(*) AS tenants
    FROM oldest o
    JOIN sync.connection c ON c.partner = :partner AND c.paused_at IS NULL
    CROSS JOIN LATERAL (SELECT min(e.at) AS at FROM sync.update_event e
                        WHERE e.tenant_id = c.tenant_id AND e.xid >= o.xmin) AS held
    WHERE held.at < clock_timestamp() - CAST(:patience AS interval)
    GROUP BY o.database, o.application, o.pid
    """,
)


def stall(tx: Transaction, partner: str, patience: timedelta) -> Stall | None:
    """What has held edits for the partner back for more than `patience`; None: nothing has."""
    row = _STALL.one(tx, partner=partner, patience=patience)
    return None if row is None else Stall(**row)
