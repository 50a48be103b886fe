"""Writers, pushers, kills and a bad partner for a while; then quiet, in which the partner must have become equal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

from partner import PROOFS, Office, connect
from partner_process import RunningPartner, running_partner
from product_writers import Ledger, writing
from pushers import killing, serving
from storm import IS_SOAK, broken, drain, looking_at, writers

from resources.logins import Logins
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store.database import Database

SECONDS = 600.0 if IS_SOAK else 20.0
SEED = 20261125
CALL_SECONDS = 1.0
FAULTS = ("refuse", "cut_before", "fail_after", "cut_after", "slow", "garbage")
SHARE = 0.15
CLASSES = ("key", "client_id", "search", "version")
"""Those that have a means against doubles. What the others may lose is a person's: the crash points show it."""
DRAIN_SECONDS = 60.0
PUSHERS = 3


def be_bad(partner: RunningPartner) -> None:
    """15 % of the writes meet a fault, each kind as often as the others."""
    left = 1.0
    for number, kind in enumerate(FAULTS):  # the first that fires decides, so each later one sees fewer writes
        share = SHARE / len(FAULTS)
        partner.fail(kind, probability=share / left, seed=SEED + number, seconds=1.5 * CALL_SECONDS)
        left -= share


def told_figures(partner: RunningPartner, ledgers: Sequence[Ledger], kills: int, drained: float) -> str:
    """One line on what happened."""
    log = partner.log()
    faults = Counter(row["fault"] for row in log if row["method"] != "GET")
    writes = sum(faults.values())
    faulty = ", ".join(f"{kind} {faults[kind]}" for kind in FAULTS)
    return (
        f"soak: {SECONDS:.0f} s, {sum(len(ledger.committed) for ledger in ledgers)} events, {len(log)} calls, "
        f"{writes} writes of which {1 - faults[None] / writes:.1%} met a fault ({faulty}), {kills} kills; "
        f"quiet after {drained:.1f} s"
    )


def test_after_kills_and_faults_the_partner_equals_us_and_saw_nothing_twice(
    server: EmbeddedServer, logins: Logins, database: Database
) -> None:
    with ExitStack() as stack:
        partner = stack.enter_context(running_partner(latency=0.01))
        be_bad(partner)
        offices: list[tuple[Office, Ledger]] = [
            (connect(database, f"soak-{name}".replace("_", "-"), PROOFS[f"proof_{name}"], partner.url), Ledger())
            for name in CLASSES
        ]
        hands = [
            hand
            for office, ledger in offices
            for hand in writers(logins, office, ledger, 1, seed=SEED, rest=0.1, fresh=0.2)
        ]
        served = [office for office, _ in offices]
        pool = stack.enter_context(serving(PUSHERS, logins, *served, call_seconds=CALL_SECONDS, under_way=3.0))
        with writing(hands), killing(pool, 5.0, SEED):
            time.sleep(SECONDS)
        partner.heal()
        for hand in hands:
            hand.confirm_all()
        healed, wrong = time.monotonic(), list[str]()
        admin = stack.enter_context(looking_at(server.admin_url, logins))
        for office, ledger in offices:
            wrong += drain(admin, office, ledger, DRAIN_SECONDS - (time.monotonic() - healed))
        print(told_figures(partner, [ledger for _, ledger in offices], pool.kills, time.monotonic() - healed))
        for office, _ in offices:
            wrong += broken(office, partner)
    assert wrong == []
