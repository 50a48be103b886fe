"""Sightings: which versions each page of a reading under way showed, and what all of them tell together.

They stand in place of a set in memory of all that was seen, which grows with the partner's list and dies with its
process. A version is named by its number alone, so an unchanged record costs eight bytes. Written by `zest_land`, with
the comparison of a page (`landed.changed`) and what is new on it (`landed.add`).
"""

from __future__ import annotations

from dataclasses import dataclass

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.landing import Reading
from zest_pipelines.store.query import query


@dataclass(frozen=True)
class Count:
    """What the pages of a reading showed."""

    ids: int
    """Different ones."""
    changed: int
    """Versions shown in whose place a later page showed another one."""


# Sets of numbers, by hash and without a join: nothing here that a wrong guess about their size could make slow.
_COUNT = query(
    "count_sightings",
    Login.LAND,
    """
    WITH shown AS MATERIALIZED (
        SELECT DISTINCT no FROM sync.sighting s CROSS JOIN LATERAL unnest(s.landed_nos) AS no
        WHERE s.tenant_id = :tenant AND s.snapshot_id = :snapshot),
    changed AS MATERIALIZED (
        SELECT no FROM shown
        INTERSECT
        SELECT no FROM sync.sighting s CROSS JOIN LATERAL unnest(s.replaced) AS no
        WHERE s.tenant_id = :tenant AND s.snapshot_id = :snapshot)
    SELECT (SELECT count(*) FROM shown) - (SELECT count(*) FROM changed) AS ids,
           (SELECT count(*) FROM changed) AS changed
    """,
)
_FORGET = query(
    "forget_sightings",
    Login.LAND,
    "DELETE FROM sync.sighting WHERE tenant_id = :tenant AND snapshot_id = :snapshot",
)


def count(tx: Transaction, reading: Reading) -> Count:
    """What all pages so far showed."""
    row = _COUNT.one(tx, **_key(reading))
    assert row is not None  # a query without FROM has one row
    return Count(**row)


def forget(tx: Transaction, reading: Reading) -> None:
    """The reading has ended."""
    _FORGET.run(tx, **_key(reading))


def _key(reading: Reading) -> dict[str, object]:
    return {"tenant": reading.tenant, "snapshot": reading.snapshot}
