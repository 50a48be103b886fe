"""Fields that a partner sends and its format does not have: seen, and told. Written by `zest_land`."""

from __future__ import annotations

from collections.abc import Mapping

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.landing import Reading
from zest_pipelines.store.query import query

MOST_NAMES = 200
"""Of one entity that are kept: a partner may make names of data."""
_NOTE = query(
    "note_unknown_fields",
    Login.LAND,
    """
    INSERT INTO sync.unknown_field AS known (tenant_id, partner, entity, field, records)
    SELECT :tenant, :partner, :entity, seen.field, seen.records
    FROM unnest(CAST(:fields AS text[]), CAST(:records AS integer[])) AS seen (field, records)
    WHERE (SELECT count(*) FROM sync.unknown_field
           WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity) < :most
       OR EXISTS (SELECT FROM sync.unknown_field k
                  WHERE k.tenant_id = :tenant AND k.partner = :partner AND k.entity = :entity AND k.field = seen.field)
    ON CONFLICT (tenant_id, partner, entity, field) DO UPDATE SET records = known.records + excluded.records
        WHERE known.told_at IS NULL
    """,
)
_TELL = query(
    "tell_unknown_fields",
    Login.LAND,
    """
    UPDATE sync.unknown_field SET told_at = clock_timestamp()
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND field IN (
        SELECT field FROM sync.unknown_field
        WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND told_at IS NULL
        ORDER BY records DESC, field LIMIT :most)
    RETURNING field, records
    """,
)
_TOLD = query(
    "unknown_fields_told",
    Login.LAND,
    """
    SELECT field FROM sync.unknown_field
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND told_at IS NOT NULL ORDER BY field
    """,
)


def note(tx: Transaction, reading: Reading, fields: Mapping[str, int]) -> None:
    """Note in how many new versions each of these was, in the transaction that stores them."""
    if fields:
        names = sorted(fields)  # in one order: two readings of a tenant do not wait for each other in a ring
        _NOTE.run(tx, fields=names, records=[fields[each] for each in names], most=MOST_NAMES, **_key(reading))


def tell(tx: Transaction, reading: Reading, most: int) -> dict[str, int]:
    """Those that nobody has been told of, which counts as done now, with their records; the most frequent ones."""
    return {row["field"]: row["records"] for row in _TELL.all(tx, most=most, **_key(reading))}


def told(tx: Transaction, reading: Reading) -> tuple[str, ...]:
    """All that were ever told of the reading's entity."""
    return _TOLD.column(tx, **_key(reading))


def _key(reading: Reading) -> dict[str, str]:
    return {"tenant": reading.tenant, "partner": reading.partner, "entity": reading.entity.value}
