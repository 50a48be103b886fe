"""Slots a second out of the ledger, beside a bare bucket, a library's one, with many buckets, and in many processes.

An installation of its own in a temporary folder: embedded PostgreSQL, synchronous commits. The limit is so high that it
never holds anybody up, so what is measured is the asking. In rounds, one kind after the other:

    ledger     ten slots an acquire under one limit, one process
    bare       the same from a row of its own: UPDATE ... RETURNING and a commit, no rule and no state
    pyrate     the same from pyrate-limiter's bucket in PostgreSQL, which keeps a row a call (no bar)
    many       ten slots an acquire under a tenant's and the vendor's limit, of 5 tenants and of 5,000
    crowd      one vendor's bucket from 8 processes at once, beside one process

The bars: at least 0.5 times the bare bucket's slots; an acquire among 5,000 tenants at most 1.3 times as dear as among
5; at least half of one process's slots from eight.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from cryptography.fernet import Fernet
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool
from pyrate_limiter import Rate, RateItem
from pyrate_limiter.buckets.postgres import PostgresBucket

from partners.contract import Connection
from partners.limits import parse_limit
from resources.http import Http
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.flows.gate import Later, Ledger
from zest_pipelines.flows.services import Services
from zest_pipelines.local import embedded, machine
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.store.database import Database

AT_ONCE = 10
OWN, SHARED = "tenant:1000000/1s", "vendor:1000000/1s"
PROCESSES = 8
FEW, MANY = 5, 5000
LEAST_OF_BARE, MOST_OF_FEW, LEAST_OF_ONE = 0.5, 1.3, 0.5
_BARE = """
    UPDATE sync.budget SET closed_until = greatest(closed_until, clock_timestamp()) + interval '10 microseconds'
    WHERE bucket = 'bare' RETURNING closed_until
"""


def main() -> None:
    """Run it and print the figures as JSON; exit code 1 if a bar was missed."""
    parser = argparse.ArgumentParser(prog="zest bench limits", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of one kind in one round (default 3)")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind (default 5)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zest-limits-") as folder, _stage(Path(folder)) as (logins, admin):
        figures = figures_of(_rounds(logins, admin, chosen.seconds, chosen.rounds))
    print(json.dumps(figures, indent=2))
    sys.exit(0 if figures["within_the_bars"] else 1)


def figures_of(rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    """What is told of the rounds: slots a second of each kind, and the middle of the ratios within each round."""

    def ratio(one: str, other: str) -> float:
        return round(median(each[one] / each[other] for each in rounds), 3)

    told = {
        "slots_per_second": {kind: round(median(each[kind] for each in rounds)) for kind in rounds[0]},
        "of_bare": ratio("ledger", "bare"),
        "of_pyrate": ratio("ledger", "pyrate"),
        "cost_among_many": ratio("few", "many"),
        "of_one_process": ratio("crowd", "alone"),
    }
    kept = (
        told["of_bare"] >= LEAST_OF_BARE
        and told["cost_among_many"] <= MOST_OF_FEW
        and told["of_one_process"] >= LEAST_OF_ONE
    )
    bars = {"of_bare": LEAST_OF_BARE, "cost_among_many": MOST_OF_FEW, "of_one_process": LEAST_OF_ONE}
    load = round(os.getloadavg()[0], 1)
    return told | {"bars": bars, "within_the_bars": kept, "load": load, "cores": os.cpu_count()}


@contextmanager
def _stage(folder: Path) -> Iterator[tuple[Logins, str]]:
    """The logins, and the administrator's way into the same database."""
    prepared = machine.prepare(DataDir(folder / "data"))
    try:
        server = embedded.running(prepared.data_dir)
        assert server is not None
        yield prepared.logins, make_conninfo(server.admin_url, dbname=prepared.logins.database)
    finally:
        machine.stop(prepared.data_dir)


def _rounds(logins: Logins, admin: str, seconds: float, rounds: int) -> list[dict[str, float]]:
    with _services(logins) as services, _pool() as pool, ConnectionPool(admin, min_size=1, max_size=1) as single:
        with services.database.transaction(Login.BUDGET, None) as tx:
            tx.exec_driver_sql("INSERT INTO sync.budget (bucket, closed_until) VALUES ('bare', clock_timestamp())")
        kinds: dict[str, Callable[[], float]] = {
            "ledger": lambda: _slots(services, ["one"], [OWN], seconds),
            "bare": lambda: _bare(services, seconds),
            "pyrate": lambda: _pyrate(single, seconds),
            "few": lambda: _slots(services, [f"few{each}" for each in range(FEW)], [OWN, SHARED], seconds),
            "many": lambda: _slots(services, [f"many{each}" for each in range(MANY)], [OWN, SHARED], seconds),
            "alone": lambda: _together(pool, logins, 1, seconds),
            "crowd": lambda: _together(pool, logins, PROCESSES, seconds),
        }
        _slots(services, [f"many{each}" for each in range(MANY)], [OWN], 0.0, each_once=True)
        found = []
        for number in range(rounds + 1):
            figures = {kind: measure() for kind, measure in kinds.items()}
            print(f"round {number}: {[round(each) for each in figures.values()]}", file=sys.stderr, flush=True)
            if number:  # the first one warms all up
                found.append(figures)
    return found


@contextmanager
def _services(logins: Logins) -> Iterator[Services]:
    database = Database(logins)
    try:
        yield Services(database, Vault([Fernet.generate_key().decode()]), Http())
    finally:
        database.close()


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))


def _slots(
    services: Services, tenants: Sequence[str], limits: Sequence[str], seconds: float, *, each_once: bool = False
) -> float:
    """Slots a second, of tenants by chance."""
    parsed = [parse_limit(text) for text in limits]
    ledgers = [Ledger(services, Connection(tenant, "bench", "", {}), parsed) for tenant in tenants]
    if each_once:
        for ledger in ledgers:
            ledger.take("visits")
    chance, given, started = random.Random(1), 0, time.monotonic()
    while time.monotonic() < started + seconds:
        answer = chance.choice(ledgers).take("visits", AT_ONCE)
        given += 0 if isinstance(answer, Later) else len(answer)
    return given / max(time.monotonic() - started, 1e-9)


def _bare(services: Services, seconds: float) -> float:
    given, started = 0, time.monotonic()
    while time.monotonic() < started + seconds:
        with services.database.transaction(Login.BUDGET, None) as tx:
            tx.exec_driver_sql(_BARE).scalar_one()
        given += AT_ONCE
    return given / (time.monotonic() - started)


def _pyrate(pool: ConnectionPool, seconds: float) -> float:
    """Begun empty: its own limiter throws away what is out of the window every ten seconds only."""
    bucket = PostgresBucket(pool, "bench", [Rate(1_000_000, 1000)])
    bucket.flush()
    given, started = 0, time.monotonic()
    while time.monotonic() < started + seconds:
        given += AT_ONCE if bucket.put(RateItem("visits", bucket.now(), weight=AT_ONCE)) else 0
    return given / (time.monotonic() - started)


def _together(pool: ProcessPoolExecutor, logins: Logins, processes: int, seconds: float) -> float:
    """Slots a second of one bucket that all of the processes share."""
    asked = [pool.submit(_of_process, logins, f"crowd{each}", seconds) for each in range(processes)]
    return sum(each.result() for each in asked)


def _of_process(logins: Logins, tenant: str, seconds: float) -> float:
    with _services(logins) as services:
        return _slots(services, [tenant], [SHARED], seconds)


if __name__ == "__main__":
    main()
