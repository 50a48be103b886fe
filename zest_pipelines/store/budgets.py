"""The ledger of calls, one row a bucket, written by `zest_budget` on the database's clock."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class BucketState:
    """What the ledger keeps of one limit."""

    tat: datetime
    """When the next call would be exactly on pace; in the past if the bucket is idle."""
    closed_until: datetime | None


_MAKE = query(
    "make_buckets",
    Login.BUDGET,
    """
    INSERT INTO sync.budget (bucket, tat) SELECT b, timestamptz '2000-01-01 00:00+00'
    FROM unnest(CAST(:buckets AS text[])) AS b
    ON CONFLICT DO NOTHING
    """,
)
# In the order of their names, so that two senders never wait for each other in a ring.
_LOCK = query(
    "lock_buckets",
    Login.BUDGET,
    """
    SELECT bucket, tat, closed_until FROM sync.budget WHERE bucket = ANY (CAST(:buckets AS text[]))
    ORDER BY bucket FOR UPDATE
    """,
)
# Not now(): that is the time before the wait for the locks.
_CLOCK = query("clock", Login.BUDGET, "SELECT clock_timestamp()")
_SAVE = query("save_bucket", Login.BUDGET, "UPDATE sync.budget SET tat = :tat WHERE bucket = :bucket")
_CLOSE = query(
    "close_buckets",
    Login.BUDGET,
    """
    UPDATE sync.budget SET closed_until = greatest(closed_until, CAST(:until AS timestamptz))
    WHERE bucket = ANY (CAST(:buckets AS text[]))
    """,
)


# Locks of the session: they end with its connection, so a killed process frees its seat.
_SIT = query(
    "take_seat",
    Login.BUDGET,
    "SELECT pg_try_advisory_lock(hashtextextended(:seat, 0))",
)


def take_seat(session: Transaction, bucket: str, seats: int, mine: Collection[int] = ()) -> int | None:
    """One of the bucket's seats that was free, as its number; it is then the session's until that ends. None: none was.

    `mine`: those that the session has already; its own lock keeps it from none.
    """
    for seat in range(1, seats + 1):
        # One by one: a single statement over all seats may lock more than the one that it returns.
        if seat not in mine and _SIT.run(session, seat=f"{bucket}#{seat}").scalar_one():
            return seat
    return None


def lock(tx: Transaction, buckets: Sequence[str]) -> tuple[dict[str, BucketState], datetime]:
    """The buckets, locked until the transaction ends, and the database's clock once they are."""
    _MAKE.run(tx, buckets=sorted(buckets))
    rows = _LOCK.all(tx, buckets=sorted(buckets))
    states = {row["bucket"]: BucketState(row["tat"], row["closed_until"]) for row in rows}
    now: datetime = _CLOCK.run(tx).scalar_one()
    return states, now


def save(tx: Transaction, tats: Mapping[str, datetime]) -> None:
    """Store new arrival times of locked buckets."""
    _SAVE.run_many(tx, [{"bucket": bucket, "tat": tat} for bucket, tat in sorted(tats.items())])


def close(tx: Transaction, buckets: Sequence[str], until: datetime) -> None:
    """Let nobody through before `until`; an earlier closing that lasts longer stays."""
    _MAKE.run(tx, buckets=sorted(buckets))  # one that was never called must be closed too
    _CLOSE.run(tx, buckets=sorted(buckets), until=until)
