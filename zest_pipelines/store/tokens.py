"""Tokens that partners gave, one row a connection, written by `zest_budget` on the database's clock."""

from __future__ import annotations

from dataclasses import dataclass

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.keys import Target
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Kept:
    """A token as it is kept."""

    ciphertext: bytes
    seconds: float
    """For how long it is good from now on; 0 or less: it is not."""


_READ = query(
    "read_token",
    Login.BUDGET,
    """
    SELECT ciphertext, extract(epoch FROM good_until - clock_timestamp())::float8 AS seconds
    FROM sync.access_token WHERE tenant_id = :tenant AND partner = :partner
    """,
)
_PUT = query(
    "put_token",
    Login.BUDGET,
    """
    INSERT INTO sync.access_token (tenant_id, partner, ciphertext, good_until)
    VALUES (:tenant, :partner, :ciphertext, clock_timestamp() + make_interval(secs => :seconds))
    ON CONFLICT (tenant_id, partner) DO UPDATE SET ciphertext = excluded.ciphertext, good_until = excluded.good_until
    """,
)
# In a session: whoever dies with it gives it back, and no transaction is open while the partner is asked.
_TAKE_TURN = query(
    "take_turn_for_token",
    Login.BUDGET,
    """
    SELECT pg_try_advisory_lock(
        hashtextextended(concat_ws(' ', 'token', CAST(:tenant AS text), CAST(:partner AS text)), 0))
    """,
)


def read(tx: Transaction, target: Target) -> Kept | None:
    """The connection's token, good or not; None: it was never given one."""
    row = _READ.one(tx, **target.parameters())
    return None if row is None else Kept(**row)


def put(tx: Transaction, target: Target, ciphertext: bytes, seconds: float) -> None:
    """Keep a sealed token that is good for so long from now on, in place of the one before."""
    _PUT.run(tx, ciphertext=ciphertext, seconds=seconds, **target.parameters())


def take_turn(session: Transaction, target: Target) -> bool:
    """Whether it is ours to ask for the connection's next token, from now until the session ends; else another's."""
    taken: bool = _TAKE_TURN.run(session, **target.parameters()).scalar_one()
    return taken
