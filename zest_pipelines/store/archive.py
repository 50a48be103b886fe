"""Putting a settled month of history away: what keeps it, and the moving. Done by `zest_migrator`, for all tenants."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query
from zest_pipelines.store.unread import IS_OF_ANOTHER_CLUSTER, IS_PAST_CURSOR

# An edit's whole life lies in the month of the edit. Of a record with several open versions, `pending` has the newest
# one's month and the oldest one's time. Whether an intent of the month has no end is asked without the lock: no new one
# can come where nothing is open. Index: update_event_cursor, one probe a connection; standing_suspect; the rest reads
# all of pending and, without the lock, of standing and of the month's changes.
_KEEPS = query(
    "what_keeps_a_month",
    Login.MIGRATOR,
    f"""
    SELECT found.why, found.tenant FROM (
        SELECT 1 AS place, 'is_not_over' AS why, CAST(NULL AS text) AS tenant
        WHERE CAST(:month AS date) >= date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC')
        UNION ALL
        SELECT 2, 'is_away', NULL
        WHERE to_regclass('archive.change' || to_char(CAST(:month AS date), '_YYYY_MM')) IS NOT NULL
        UNION ALL
        SELECT 3, 'has_no_tables', NULL
        WHERE to_regclass('sync.change' || to_char(CAST(:month AS date), '_YYYY_MM')) IS NULL
        UNION ALL
        (SELECT 4, 'is_unread', c.tenant_id FROM sync.connection c
         LEFT JOIN sync.event_cursor k ON k.tenant_id = c.tenant_id AND k.partner = c.partner
         WHERE c.partner <> ALL (CAST(:only_read AS text[]))
           AND EXISTS (SELECT FROM sync.update_event e WHERE e.tenant_id = c.tenant_id AND e.month = :month
                       AND ({IS_PAST_CURSOR} OR {IS_OF_ANOTHER_CLUSTER}))
         LIMIT 1)
        UNION ALL
        (SELECT 5, 'is_open', p.tenant_id FROM sync.pending p
         WHERE p.month = :month OR (p.open > 1 AND p.month > :month
                                    AND p.since < (CAST(:month AS date) + interval '1 month') AT TIME ZONE 'UTC')
         LIMIT 1)
        UNION ALL
        (SELECT 6, 'is_suspected', s.tenant_id FROM sync.standing s
         WHERE s.suspect_state IS NOT NULL AND coalesce(s.delivered_month, :month) = :month
         LIMIT 1)
        UNION ALL
        (SELECT 7, 'is_in_doubt', s.tenant_id FROM sync.standing s
         WHERE NOT CAST(:is_locked AS boolean)
           AND (s.doubt_month = :month OR (s.open_intents > 1 AND s.doubt_month > :month))
         LIMIT 1)
        UNION ALL
        (SELECT 8, 'is_to_come', c.tenant_id FROM sync.change c
         WHERE NOT CAST(:is_locked AS boolean) AND c.month = :month AND c.on_date >= current_date
         LIMIT 1)
    ) AS found
    ORDER BY found.place LIMIT 1
    """,
)
_LOCK = query("lock_history", Login.MIGRATOR, "SELECT sync.lock_history(CAST(:month AS date))")
_ARCHIVE = query("archive_month", Login.MIGRATOR, "SELECT sync.archive_month(CAST(:month AS date))")

_WORDS = {
    "is_not_over": "it is not over yet",
    "is_away": "it is in the archive already",
    "has_no_tables": "there are no tables of it; what there is of it lies in the default ones, and stays there",
    "is_unread": "edits of tenant {tenant} in it have not been accumulated for each of its connections",
    "is_open": "an edit of tenant {tenant} from it, or from before it, is still open",
    "is_suspected": "a record of tenant {tenant} that was delivered in it is to be read again",
    "is_in_doubt": "of a call for tenant {tenant} that was made for it nobody knows the end",
    "is_to_come": "visits of tenant {tenant} that were edited in it are not over yet",
}


def hindrance(tx: Transaction, month: date, *, only_read: Collection[str] = (), is_locked: bool = False) -> str | None:
    """Why the month cannot be put away, in words that follow its name; None: it can.

    `only_read`: the partners to which nothing is written, for whom no edit is ever read. `is_locked`: history was
    locked in this transaction, after a look without the lock that found nothing.
    """
    row = _KEEPS.one(tx, month=month, only_read=list(only_read), is_locked=is_locked)
    return None if row is None else _WORDS[row["why"]].format(tenant=row["tenant"])


def lock(tx: Transaction, month: date) -> bool:
    """Keep everybody out of history until the transaction ends; False if somebody uses it just now."""
    is_locked: bool = _LOCK.run(tx, month=month).scalar_one()
    return is_locked


def put_away(tx: Transaction, month: date) -> tuple[str, ...]:
    """Move the month's tables to the schema `archive`; their names. History must be locked, and nothing hinder it."""
    return tuple(_ARCHIVE.run(tx, month=month).scalar_one())
