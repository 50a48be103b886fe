"""Suspicions: live records that a certified full reading did not show. A list that moves while it is read hides some,
so each is proved or lifted by itself, in whatever reading that happens. Written by `zest_land`.

Whoever ends one takes its row first. So a proof that was asked for before the record was seen again comes to
nothing, and of two proofs one lands.
"""

from __future__ import annotations

from collections.abc import Sequence

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.landing import Reading
from zest_pipelines.store.query import query

# The two sets are compared by hash whatever the planner thinks of their size: it knows nothing yet of what has just
# been stored, and a loop in a loop over a million would never end. Undone with the transaction.
_BY_HASH = query("compare_sets_by_hash", Login.LAND, "SELECT set_config('enable_nestloop', 'off', true)")
# First all versions not shown, then of these the newest of a record: an unchanged night looks at no record twice.
_RAISE = query(
    "raise_suspicions",
    Login.LAND,
    """
    WITH shown AS MATERIALIZED (
        SELECT no FROM sync.sighting s CROSS JOIN LATERAL unnest(s.landed_nos) AS no
        WHERE s.tenant_id = :tenant AND s.snapshot_id = :snapshot)
    INSERT INTO sync.suspicion AS known (tenant_id, partner, entity, partner_id, snapshot_id)
    SELECT v.tenant_id, v.partner, v.entity, v.partner_id, CAST(:snapshot AS uuid) FROM sync.landed_version v
    WHERE v.tenant_id = :tenant AND v.partner = :partner AND v.entity = :entity AND v.fingerprint IS NOT NULL
      AND NOT EXISTS (SELECT FROM shown WHERE shown.no = v.landed_no)
      AND NOT EXISTS (SELECT FROM sync.landed_version later
                      WHERE later.tenant_id = v.tenant_id AND later.partner = v.partner AND later.entity = v.entity
                        AND later.partner_id = v.partner_id AND later.landed_no > v.landed_no)
    ON CONFLICT (tenant_id, partner, entity, partner_id) DO UPDATE
        SET absences = known.absences + 1, snapshot_id = excluded.snapshot_id
    """,
)
# Index: the primary key; the table is small.
_LIFT = query(
    "lift_suspicions",
    Login.LAND,
    """
    DELETE FROM sync.suspicion
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity
      AND partner_id = ANY (CAST(:partner_ids AS text[]))
    RETURNING partner_id
    """,
)
_LAND_ABSENT = query(
    "land_absent",
    Login.LAND,
    """
    WITH proved AS (
        DELETE FROM sync.suspicion
        WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND absences >= :absences
        RETURNING tenant_id, partner, entity, partner_id)
    INSERT INTO sync.landed_version (tenant_id, partner, entity, partner_id, snapshot_id)
    SELECT tenant_id, partner, entity, partner_id, CAST(:snapshot AS uuid) FROM proved
    """,
)
_TO_ASK = query(
    "suspicions_to_ask",
    Login.LAND,
    """
    SELECT partner_id FROM sync.suspicion
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity
    ORDER BY asked_at NULLS FIRST, since, partner_id LIMIT :most
    """,
)
_NOTE_ASKED = query(
    "note_suspicion_asked",
    Login.LAND,
    """
    UPDATE sync.suspicion SET asked_at = clock_timestamp()
    WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity AND partner_id = :partner_id
    """,
)
_ANY = query(
    "any_suspicion",
    Login.LAND,
    """
    SELECT EXISTS (SELECT FROM sync.suspicion
                   WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity) AS found
    """,
)
_COUNT = query(
    "count_suspicions",
    Login.LAND,
    "SELECT count(*) FROM sync.suspicion WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity",
)


def raise_unseen(tx: Transaction, reading: Reading) -> None:
    """Suspect every live record that no page of the reading showed. For certified full readings alone, whose sightings
    are still there."""
    _BY_HASH.run(tx)
    _RAISE.run(tx, snapshot=reading.snapshot, **reading.parameters())


def lift(tx: Transaction, reading: Reading, partner_ids: Sequence[str]) -> frozenset[str]:
    """End the suspicions of these ids, proved or lifted; the ids that were suspect."""
    return frozenset(_LIFT.column(tx, partner_ids=list(partner_ids), **reading.parameters()))


def are_there(tx: Transaction, reading: Reading) -> bool:
    """Whether the entity has any. While a reading goes on no others come: only the end of one raises them."""
    row = _ANY.quick(tx, **reading.parameters()).fetchone()
    return row is not None and row["found"]


def land_absent(tx: Transaction, reading: Reading, absences: int) -> int:
    """Land as gone who did not come in `absences` certified full readings, one after the other; how many they are."""
    return _LAND_ABSENT.run(tx, absences=absences, snapshot=reading.snapshot, **reading.parameters()).rowcount


def to_ask(tx: Transaction, reading: Reading, most: int) -> Sequence[str]:
    """At most `most` suspect ids to ask the partner for: first those that it was never asked for."""
    return _TO_ASK.column(tx, most=most, **reading.parameters())


def note_asked(tx: Transaction, reading: Reading, partner_id: str) -> None:
    """The partner was asked for this one and did not say: the others go before it next time."""
    _NOTE_ASKED.run(tx, partner_id=partner_id, **reading.parameters())


def count(tx: Transaction, reading: Reading) -> int:
    """How many of the entity's records are suspect."""
    found: int = _COUNT.run(tx, **reading.parameters()).scalar_one()
    return found
