"""Four writers, late commits and rollbacks, two pushers: each committed edit ends once, and nothing else does."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from partner import PROOFS, connect
from partner_process import RunningPartner, running_partner
from product_writers import Ledger, writing
from pushers import serving
from storm import IS_SOAK, broken, drain, looking_at, wait_for_silence, writers

from resources.logins import Logins
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store.database import Database

EVENTS = 20_000 if IS_SOAK else 2_000
EVENTS_OF_MUTANT = 200
LONGEST_OF_MUTANT = 0.3
"""Seconds that a transaction stays open at most where one that commits late must be overtaken."""


@pytest.fixture(scope="module")
def partner() -> Iterator[RunningPartner]:
    with running_partner(latency=0.005) as running:
        yield running


def storm(
    server: EmbeddedServer, logins: Logins, database: Database, partner: RunningPartner, events: int, mutant: str | None
) -> list[str]:
    """What is wrong once writers have made so many events and quiet has come."""
    office = connect(database, "sakura" if mutant is None else "kaede", PROOFS["proof_version"], partner.url)
    ledger = Ledger()
    hands = writers(logins, office, ledger, seed=4, longest=0.02 if mutant is None else LONGEST_OF_MUTANT)
    started = time.monotonic()
    with serving(2, logins, office, mutant=mutant), looking_at(server.admin_url, logins) as admin:
        with writing(hands, events) as threads:
            for thread in threads:
                thread.join()
        hands[0].confirm_all()
        written = time.monotonic()
        if mutant is None:
            wrong = drain(admin, office, ledger)
        else:
            wait_for_silence(partner)
            wrong = drain(admin, office, ledger, 0.0)
    print(
        f"writers: {len(ledger.committed)} events, {len(ledger.undone)} rolled back, in {written - started:.1f} s; "
        f"settled {time.monotonic() - written:.1f} s later, {len(partner.log())} calls"
    )
    return wrong + broken(office, partner)


def test_every_committed_edit_of_four_writers_ends_once_and_no_other(
    server: EmbeddedServer, logins: Logins, database: Database, partner: RunningPartner
) -> None:
    assert storm(server, logins, database, partner, EVENTS, None) == []


def test_the_storm_notices_a_reader_that_goes_by_ids(
    server: EmbeddedServer, logins: Logins, database: Database, partner: RunningPartner
) -> None:
    wrong = storm(server, logins, database, partner, EVENTS_OF_MUTANT, "id > cursor")
    assert [each for each in wrong if each.endswith("has not ended")] != []
