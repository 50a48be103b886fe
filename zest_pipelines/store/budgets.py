"""The ledger of calls, one row a bucket, written by `zest_budget` on the database's clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import RowMapping

from resources.logins import Login
from zest_pipelines.core.belief import FULL, Belief
from zest_pipelines.core.meters import State
from zest_pipelines.core.seats import Holders
from zest_pipelines.core.turns import Place, Priority, Queue
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Entry:
    """What the ledger keeps of one limit."""

    state: State
    closed_until: float
    """Seconds by the ledger's clock; 0: it is open."""


UNUSED = Entry(State(), 0.0)
"""Of a limit that was never called."""

_MAKE = query(
    "make_buckets",
    Login.BUDGET,
    "INSERT INTO sync.budget (bucket) SELECT unnest(CAST(:buckets AS text[])) ON CONFLICT DO NOTHING RETURNING bucket",
)
_COLUMNS = "bucket, state, coalesce(extract(epoch FROM closed_until), 0)::float8 AS closed_until"
# In the order of their names, so that two senders never wait for each other in a ring, and none of them while one is
# missing: who then makes that one must hold nothing. The clock is read where the rows are given out, when they are
# locked; not now(), which is the time before the wait for the locks.
_LOCK = query(
    "lock_buckets",
    Login.BUDGET,
    f"""
    SELECT locked.*, extract(epoch FROM clock_timestamp())::float8 AS now
    FROM (SELECT {_COLUMNS} FROM sync.budget WHERE bucket = ANY (CAST(:buckets AS text[]))
              AND cardinality(CAST(:buckets AS text[])) =
                  (SELECT count(*) FROM sync.budget WHERE bucket = ANY (CAST(:buckets AS text[])))
          ORDER BY bucket FOR UPDATE) AS locked
    """,
)
_READ = query(
    "read_buckets",
    Login.BUDGET,
    f"""
    SELECT {_COLUMNS} FROM sync.budget WHERE bucket = ANY (CAST(:buckets AS text[]))
    """,
)
# Once in a bucket's life, so it may read them all.
_ON_SAME_CALLS = query(
    "buckets_on_same_calls",
    Login.BUDGET,
    f"""
    SELECT {_COLUMNS} FROM sync.budget
    WHERE starts_with(bucket, :prefix) AND NOT state ? 'seats'
    """,
)
_CLOCK = query("clock", Login.BUDGET, "SELECT extract(epoch FROM clock_timestamp())::float8")
_SAVE = query("save_bucket", Login.BUDGET, "UPDATE sync.budget SET state = :state WHERE bucket = :bucket")
_CLOSE = query(
    "close_buckets",
    Login.BUDGET,
    """
    UPDATE sync.budget SET closed_until = greatest(closed_until, CAST(:until AS timestamptz))
    WHERE bucket = ANY (CAST(:buckets AS text[]))
    """,
)
# Locked in the order of their names first, as by those who send.
_OPEN = query(
    "open_buckets",
    Login.BUDGET,
    """
    UPDATE sync.budget SET closed_until = NULL,
        state = CASE WHEN state ? 'belief' THEN state || '{"belief": null}' ELSE state END
    WHERE bucket IN (
        SELECT bucket FROM sync.budget
        WHERE starts_with(bucket, :prefix) AND (closed_until > clock_timestamp() OR state -> 'belief' <> 'null')
        ORDER BY bucket FOR UPDATE)
    RETURNING bucket
    """,
)
# Locked as above. One without a state has none to go on with.
_BEGIN_ANEW = query(
    "begin_buckets_anew",
    Login.BUDGET,
    """
    UPDATE sync.budget SET state = state || '{"begins": true}'
    WHERE bucket IN (
        SELECT bucket FROM sync.budget WHERE bucket = ANY (CAST(:buckets AS text[])) AND state <> '{}'
        ORDER BY bucket FOR UPDATE)
    """,
)
_IS_CLOSED = query(
    "is_bucket_closed",
    Login.BUDGET,
    """
    SELECT coalesce(bool_or(closed_until > clock_timestamp()), false)
    FROM sync.budget WHERE bucket = ANY (CAST(:buckets AS text[]))
    """,
)


def lock(tx: Transaction, buckets: Sequence[str]) -> tuple[dict[str, Entry], float, frozenset[str]]:
    """At least one bucket, locked until the transaction ends; the database's clock once they are; and which of them
    begin, for the first time or anew."""
    rows, new = _locked(tx, buckets)
    return {row["bucket"]: _entry(row) for row in rows}, max(row["now"] for row in rows), new | _beginning(rows)


def on_same_calls(tx: Transaction, prefix: str) -> tuple[Entry, ...]:
    """The limits on calls whose names begin so; nothing is locked."""
    return tuple(map(_entry, _ON_SAME_CALLS.all(tx, prefix=prefix)))


def clock(tx: Transaction) -> float:
    """The database's clock."""
    now: float = _CLOCK.run(tx).scalar_one()
    return now


def read(tx: Transaction, buckets: Sequence[str]) -> tuple[dict[str, Entry], float, frozenset[str]]:
    """As `lock`, of limits on calls; nothing is locked, and what was never called is as it is at first."""
    names = frozenset(buckets)
    rows = {row["bucket"]: row for row in _READ.all(tx, buckets=sorted(names))}
    entries = {name: _entry(rows[name]) if name in rows else UNUSED for name in names}
    return entries, clock(tx), (names - rows.keys()) | _beginning(rows.values())


def read_seats(tx: Transaction, buckets: Sequence[str]) -> dict[str, Holders]:
    """The seats of those of the buckets that have any."""
    rows = _READ.all(tx, buckets=sorted(set(buckets)))
    return {row["bucket"]: row["state"]["seats"] for row in rows if "seats" in row["state"]}


def save(tx: Transaction, states: Mapping[str, State]) -> None:
    """Store new states of locked buckets."""
    for bucket, state in sorted(states.items()):  # few: one by one is quicker than the driver's way for many
        _SAVE.quick(tx, bucket=bucket, state=Jsonb(_json(state)))


def close(tx: Transaction, buckets: Sequence[str], until: datetime) -> None:
    """Let nobody through before `until`, an aware time; an earlier closing that lasts longer stays."""
    names = sorted(set(buckets))
    _MAKE.run(tx, buckets=names)  # one that was never called must be closed too
    _CLOSE.run(tx, buckets=names, until=until)


def reopen(tx: Transaction, prefix: str) -> int:
    """Open those buckets whose names begin so, and believe again in all of their limits; how many that changed."""
    return len(_OPEN.column(tx, prefix=prefix))


def begin_anew(tx: Transaction, buckets: Sequence[str]) -> None:
    """Have those of the buckets that were called before begin with the next call, as those that never were."""
    _BEGIN_ANEW.run(tx, buckets=list(buckets))


def is_closed(tx: Transaction, buckets: Sequence[str]) -> bool:
    """Whether one of them is closed now."""
    found: bool = _IS_CLOSED.run(tx, buckets=list(buckets)).scalar_one()
    return found


def lock_seats(tx: Transaction, buckets: Sequence[str]) -> tuple[dict[str, Holders], float]:
    """The seats of limits on calls in flight, as `lock`."""
    rows, _ = _locked(tx, buckets)
    return {row["bucket"]: row["state"].get("seats", {}) for row in rows}, max(row["now"] for row in rows)


def save_seats(tx: Transaction, seats: Mapping[str, Holders]) -> None:
    """Store who sits in locked buckets."""
    _SAVE.run_many(tx, [{"bucket": bucket, "state": Jsonb({"seats": each})} for bucket, each in sorted(seats.items())])


def _locked(tx: Transaction, buckets: Sequence[str]) -> tuple[Sequence[Mapping[str, Any]], frozenset[str]]:
    names, new = sorted(set(buckets)), frozenset[str]()
    rows = _LOCK.quick(tx, buckets=names).fetchall()
    if not rows:
        new = frozenset(_MAKE.column(tx, buckets=names))
        rows = _LOCK.quick(tx, buckets=names).fetchall()
    return rows, new


def _beginning(rows: Iterable[Mapping[str, Any] | RowMapping]) -> frozenset[str]:
    return frozenset(row["bucket"] for row in rows if "begins" in row["state"])


# --- As JSON: what is as it was at first is left out ------------------------------------------------------------------


def _entry(row: Mapping[str, Any] | RowMapping) -> Entry:
    return Entry(_state(row["state"]), row["closed_until"])


def _json(state: State) -> dict[str, Any]:
    belief, queue = state.belief, state.queue
    return {
        "free_at": state.free_at,
        "counts": state.counts,
        "reset": state.reset and state.reset.isoformat("minutes"),
        "lent": state.lent,
        "lent_at": state.lent_at,
        "load": state.load,
        "seen": state.seen,
        "used": state.used,
        "belief": None if belief == FULL else [belief.share, belief.held, belief.since, belief.patience],
        "places": [[tenant, priority, *place] for (tenant, priority), place in queue.places.items()],
        "times": queue.times,
        "shares": queue.shares,
        "share_time": queue.share_time,
    }


def _state(json: Mapping[str, Any]) -> State:
    if not json:
        return State()
    belief = json["belief"]
    return State(
        json["free_at"],
        {int(number): calls for number, calls in json["counts"].items()},
        _reset(json.get("reset")),
        {int(number): calls for number, calls in json["lent"].items()},
        json["lent_at"],
        json["load"],
        json["seen"],
        {int(minute): calls for minute, calls in json["used"].items()},
        FULL if belief is None else Belief(*belief),
        Queue(
            {(tenant, Priority(priority)): Place(*place) for tenant, priority, *place in json["places"]},
            {Priority(priority): tag for priority, tag in json["times"].items()},
            {Priority(priority): tag for priority, tag in json["shares"].items()},
            json["share_time"],
        ),
    )


def _reset(text: str | None) -> time | None:
    """None also in rows of before it was kept: their days are those of the limit."""
    return None if text is None else time.fromisoformat(text)
