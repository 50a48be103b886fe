"""One record in a hundred is refused: it costs one call and holds nobody up.

Two offices are served at the same time by a pusher each, one of them without a bad record: what the machine does to one
of them, it does to the other as well.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from partner import PROOFS, Office, connect
from partner_process import RunningPartner, running_partner
from pushers import serving
from storm import IS_SOAK, wait_until

from resources.logins import Login, Logins
from zest_pipelines.store.database import Database

RECORDS = 10_000 if IS_SOAK else 1_000
EVERY = 100
"""One in so many is bad."""
MOST_LATER = 1.5
BATCHED = RECORDS // 2
MOST_HALVINGS = 6
"""Refusals until one of twenty is alone and refused itself."""
NAMES = ("well", "ill")


@pytest.fixture
def partner() -> Iterator[RunningPartner]:
    with running_partner(latency=0.03) as running:
        yield running


def left(office: Office) -> Counter[str]:
    """Open records by state."""
    return Counter(row.state for row in office.sql("SELECT state FROM sync.pending", Login.OPERATOR))


def parked(office: Office) -> set[UUID]:
    """Records that stand refused."""
    return {
        row.record_id for row in office.sql("SELECT record_id FROM sync.pending WHERE state = 'parked'", Login.OPERATOR)
    }


def lateness(office: Office, partner: RunningPartner, records: set[UUID]) -> list[float]:
    """Seconds from each record's edit to its effect."""
    rows = office.sql("SELECT record_id, at FROM sync.update_event", Login.OPERATOR)
    edited = {row.record_id: row.at.timestamp() for row in rows}
    effects = {
        row["record_id"]: row["at"] for row in partner.log() if row["space"] == office.name and row["effect"] != "none"
    }
    return [effects[str(record)] - edited[record] for record in records]


def p95(seconds: list[float]) -> float:
    """What 95 % do not exceed."""
    return statistics.quantiles(seconds, n=20)[-1]


@dataclass(frozen=True)
class Served:
    """Two offices that were served until they were quiet, one of them with bad records."""

    well: Office
    ill: Office
    bad: set[UUID]
    calls: list[dict[str, Any]]
    """Writes for the ill one, as the partner logged them."""
    later: tuple[float, float]
    """p95 of the lateness of the good ones' effects in seconds: without bad ones, and with them."""

    @property
    def factor(self) -> float:
        """How much later, by the bad ones."""
        return self.later[1] / self.later[0]


def serve(
    logins: Logins, database: Database, partner: RunningPartner, records: int, fault: str, batch_size: int = 1
) -> Served:
    """Serve two offices of so many records until each is delivered or parked."""
    settings = {"batch_size": str(batch_size)}
    well, ill = (connect(database, name, PROOFS["proof_search"], partner.url, settings=settings) for name in NAMES)
    good, known = well.add_visits(records), ill.add_visits(records)
    bad = set(known[::EVERY])
    partner.fail(fault, record_ids=[str(record) for record in bad])

    def are_quiet() -> bool:
        return (left(well), left(ill)) == ({}, {"parked": len(bad)})

    with serving(1, logins, well), serving(1, logins, ill):
        assert wait_until(are_quiet, 300.0 if IS_SOAK else 60.0), (left(well), left(ill))
    assert parked(ill) == bad
    calls = [row for row in partner.log() if row["space"] == ill.name and row["method"] != "GET"]
    later = p95(lateness(well, partner, set(good))), p95(lateness(ill, partner, set(known) - bad))
    return Served(well, ill, bad, calls, later)


def test_one_bad_record_in_a_hundred_costs_one_call_and_delays_no_other(
    logins: Logins, database: Database, partner: RunningPartner
) -> None:
    served = serve(logins, database, partner, RECORDS, "reject")
    spent = Counter(UUID(row["record_id"]) for row in served.calls)
    print(
        f"poison: {len(served.bad)} of {RECORDS} refused; p95 lateness of the others {served.later[1]:.2f} s, "
        f"{served.later[0]:.2f} s without those ({served.factor:.2f} times)"
    )
    assert {record: spent[record] for record in served.bad} == dict.fromkeys(served.bad, 1)
    assert served.factor <= MOST_LATER


def test_a_bad_entry_that_the_partner_names_is_parked_by_its_batch(
    logins: Logins, database: Database, partner: RunningPartner
) -> None:
    served = serve(logins, database, partner, BATCHED, "reject", batch_size=20)
    spent = Counter(UUID(row["record_id"]) for row in served.calls)
    assert {record: spent[record] for record in served.bad} == dict.fromkeys(served.bad, 1)


def test_a_bad_entry_that_spoils_its_batch_is_found_by_halving_and_parked_alone(
    logins: Logins, database: Database, partner: RunningPartner
) -> None:
    served = serve(logins, database, partner, BATCHED, "reject_batch", batch_size=20)
    refused = [row for row in served.calls if row["status"] == 422]
    alone = Counter(UUID(row["record_id"]) for row in refused if row["batch"] == 1)
    assert alone == Counter(served.bad)
    spent = Counter(UUID(row["record_id"]) for row in refused)
    assert max(spent[record] for record in served.bad) <= MOST_HALVINGS
    made = Counter(UUID(row["record_id"]) for row in served.calls if row["effect"] == "created")
    assert set(made.values()) == {1}
    print(f"bisection: {len(served.calls)} writes and refusals for {BATCHED} records, {len(served.bad)} of them bad")
