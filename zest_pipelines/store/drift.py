"""Fields that a partner sends and its format does not have: which ones have been told. Written by `zest_land`."""

from __future__ import annotations

from collections.abc import Collection

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.landing import Reading
from zest_pipelines.store.query import query

_NOTE = query(
    "note_unknown_fields",
    Login.LAND,
    """
    INSERT INTO sync.unknown_field (tenant_id, partner, entity, field)
    SELECT :tenant, :partner, :entity, field FROM unnest(CAST(:fields AS text[])) AS field
    ON CONFLICT DO NOTHING RETURNING field
    """,
)
_TOLD = query(
    "unknown_fields_told",
    Login.LAND,
    """
    SELECT field FROM sync.unknown_field
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity ORDER BY field
    """,
)


def note(tx: Transaction, reading: Reading, fields: Collection[str]) -> frozenset[str]:
    """Note that these are told; those of them that never were before."""
    if not fields:
        return frozenset()
    key = {"tenant": reading.tenant, "partner": reading.partner, "entity": reading.entity.value}
    return frozenset(_NOTE.column(tx, fields=sorted(fields), **key))


def told(tx: Transaction, reading: Reading) -> tuple[str, ...]:
    """All that were ever told of the reading's entity."""
    return _TOLD.column(tx, tenant=reading.tenant, partner=reading.partner, entity=reading.entity.value)
