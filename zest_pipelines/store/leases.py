"""The lease on a connection's way out: one push at a time, by the database's clock. Written by `zest_push`."""

from __future__ import annotations

from dataclasses import dataclass

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.keys import Target
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Kept:
    """A lease that is still ours, and what the connection says of the next calls."""

    is_paused: bool
    on_conflict: str
    """hold or overwrite."""


_TAKE = query(
    "take_lease",
    Login.PUSH,
    """
    INSERT INTO sync.lease AS l (tenant_id, partner, epoch, holder, until)
    VALUES (:tenant, :partner, 1, :holder, clock_timestamp() + make_interval(secs => :seconds))
    ON CONFLICT (tenant_id, partner) DO UPDATE SET
        epoch = l.epoch + 1, holder = excluded.holder, until = excluded.until, goes_on_at = NULL
    WHERE l.until <= clock_timestamp()
    RETURNING l.epoch
    """,
)
_KEEP = query(
    "keep_lease",
    Login.PUSH,
    """
    UPDATE sync.lease l SET until = clock_timestamp() + make_interval(secs => :seconds)
    FROM sync.connection n
    WHERE l.tenant_id = :tenant AND l.partner = :partner AND l.epoch = :epoch AND l.until > clock_timestamp()
      AND n.tenant_id = l.tenant_id AND n.partner = l.partner
    RETURNING n.paused_at IS NOT NULL AS is_paused, n.on_conflict
    """,
)
_NOTE_MAPPING = query(
    "note_mapping",
    Login.PUSH,
    """
    UPDATE sync.lease SET mapping = :mapping
    WHERE tenant_id = :tenant AND partner = :partner AND epoch = :epoch AND mapping IS DISTINCT FROM :mapping
    """,
)
_GIVE_BACK = query(
    "give_back_lease",
    Login.PUSH,
    """
    UPDATE sync.lease SET until = clock_timestamp(), holder = '',
        goes_on_at = clock_timestamp() + make_interval(secs => CAST(:goes_on_in AS double precision))
    WHERE tenant_id = :tenant AND partner = :partner AND epoch = :epoch AND until > clock_timestamp()
    """,
)


def take(tx: Transaction, target: Target, holder: str, seconds: float) -> int | None:
    """The epoch of a new lease of `seconds`, by the database's clock; None while another one holds."""
    return _TAKE.run(tx, holder=holder, seconds=seconds, **target.parameters()).scalar_one_or_none()


def keep(tx: Transaction, target: Target, epoch: int, seconds: float) -> Kept | None:
    """Whether the lease is still ours; then it lasts `seconds` from now, and nobody takes it before we commit.

    None: it is lost.
    """
    row = _KEEP.one(tx, epoch=epoch, seconds=seconds, **target.parameters())
    return None if row is None else Kept(**row)


def note_mapping(tx: Transaction, target: Target, epoch: int, mapping: str) -> None:
    """Note the version of the mapping that is written by from now on, if the lease is still ours."""
    _NOTE_MAPPING.run(tx, epoch=epoch, mapping=mapping, **target.parameters())


def give_back(tx: Transaction, target: Target, epoch: int, goes_on_in: float | None = None) -> None:
    """Give the lease back, if it is still ours.

    `goes_on_in`: seconds after which what is left may go on, and is asked for between the minutes; None: by the minute.
    """
    _GIVE_BACK.run(tx, epoch=epoch, goes_on_in=goes_on_in, **target.parameters())
