"""A night on which every tenant is read and nothing has changed: how long it takes, and what a tenant costs.

An installation of its own in a temporary folder: embedded PostgreSQL, and a FHIR server in a process of its own whose
page is made beforehand. One tenant is taken in by the stations, the database copies it for the others. A night is then
land, diff and apply of clients and staff for every tenant, in as many processes as Dagster runs readings at once, each
with as many tenants at once as a run has; with a twentieth of the tenants, a tenth, a fifth, all.

Told are seconds, and processor time of our processes and PostgreSQL's together. Not in it: Dagster's own start of a run
(some five seconds of processor time for each 50 seconds of readings) and the partner. The bar: a tenant among all costs
at most 1.25 times what it costs among the fewest.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from stage.copies import copy_tenant
from stage.cost import server_cpu
from stage.installation import PARTNER, say
from stage.patient_server import served
from stage.reader_process import services_for
from stage.readers import Ground, connect, ground

from resources.logins import Login, Logins
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration.at_once import at_once
from zest_pipelines.orchestration.steps import TENANTS_AT_ONCE
from zest_pipelines.store import due
from zest_pipelines.store.database import Database

RUNS_AT_ONCE = 2
"""Runs for due readings that dagster.yaml lets run beside each other."""
SHARES = (20, 10, 5, 1)
MOST_OF_FEWEST = 1.25
_MODEL = "tenant-00000"


@dataclass(frozen=True)
class Night:
    """One night of so many tenants."""

    tenants: int
    seconds: float
    client_cpu: float
    """Seconds of the processes that read."""
    server_cpu: float
    """Seconds of PostgreSQL's processes."""
    asked_ms: float
    """How long the clock's question takes: who is due."""

    @property
    def cpu_ms_a_tenant(self) -> float:
        """Of both together."""
        return 1000 * (self.client_cpu + self.server_cpu) / self.tenants


def main() -> None:
    """Run it and print the figures as JSON; exit code 1 if the bar was missed."""
    parser = argparse.ArgumentParser(prog="zest bench night", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tenants", type=int, default=5000, help="at most (default 5000)")
    parser.add_argument("--clients", type=int, default=200, help="of each tenant (default 200)")
    parser.add_argument("--processes", type=int, default=RUNS_AT_ONCE, help=f"that read (default {RUNS_AT_ONCE})")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zest-night-") as folder, ExitStack() as stack:
        made = stack.enter_context(ground(Path(folder)))
        url = stack.enter_context(served(chosen.clients, max(chosen.clients, 1))).url
        context = get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(chosen.processes, mp_context=context))
        _take_in(made, f"{url}/{_MODEL}", chosen.clients)
        nights = _nights(made, pool, chosen.processes, sizes(chosen.tenants))
    figures = figures_of(nights)
    about = {"clients_of_each": chosen.clients, "processes": chosen.processes, "tenants_at_once": TENANTS_AT_ONCE}
    about |= {"load": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
    print(json.dumps(about | figures, indent=2))
    sys.exit(0 if figures["within_the_bar"] else 1)


def sizes(tenants: int) -> list[int]:
    """How many there are in each night, rising."""
    return sorted({max(1, tenants // share) for share in SHARES})


def figures_of(nights: Sequence[Night]) -> dict[str, Any]:
    """What is told of the nights, the fewest tenants first."""
    growth = round(nights[-1].cpu_ms_a_tenant / nights[0].cpu_ms_a_tenant, 3)
    return {
        "nights": [_figures(each) for each in nights],
        "cost_of_a_tenant_among_all_to_fewest": growth,
        "bar": MOST_OF_FEWEST,
        "within_the_bar": growth <= MOST_OF_FEWEST,
    }


def _figures(night: Night) -> dict[str, float]:
    return {
        "tenants": night.tenants,
        "seconds": round(night.seconds, 1),
        "seconds_a_tenant": round(night.seconds / night.tenants, 4),
        "client_cpu": round(night.client_cpu, 1),
        "server_cpu": round(night.server_cpu, 1),
        "cpu_ms_a_tenant": round(night.cpu_ms_a_tenant, 1),
        "who_is_due_ms": round(night.asked_ms, 1),
    }


def _take_in(made: Ground, url: str, clients: int) -> None:
    """The model, by the stations."""
    database = Database(made.logins)
    connect(database, _MODEL, url)
    applied = _through_the_stations(services_for(database), _MODEL)
    database.close()
    assert applied == clients, f"{applied} of {clients} clients were taken in"


def _nights(made: Ground, pool: ProcessPoolExecutor, processes: int, counts: Sequence[int]) -> list[Night]:
    names = [_MODEL]
    found = []
    for count in counts:
        new = [f"tenant-{number:05}" for number in range(len(names), count)]
        copy_tenant(made, _MODEL, new)
        names += new
        if not found:
            _night(made, pool, processes, names[:processes])  # which starts the processes
        found.append(_night(made, pool, processes, names))
        say(f"{count} tenants: {found[-1].seconds:.1f} s, {found[-1].cpu_ms_a_tenant:.0f} ms of processor time each")
    return found


def _night(made: Ground, pool: ProcessPoolExecutor, processes: int, names: Sequence[str]) -> Night:
    server, started = server_cpu(made.postmaster), time.monotonic()
    shares = [names[number::processes] for number in range(processes)]
    spent = list(pool.map(_read_all, [made.logins] * processes, shares))
    seconds = time.monotonic() - started
    return Night(len(names), seconds, sum(spent), server_cpu(made.postmaster) - server, _asked(made))


def _read_all(logins: Logins, names: Sequence[str]) -> float:
    """What a run does for its tenants. The processor time that it took here."""
    if not gc.get_freeze_count():
        gc.freeze()  # as a run's process does
    spent = time.process_time()
    database = Database(logins, TENANTS_AT_ONCE)
    services = services_for(database)
    for name, applied in at_once(names, lambda name: _through_the_stations(services, name), TENANTS_AT_ONCE):
        assert applied == 0, f"{applied} records of {name} had changed"
    database.close()
    return time.process_time() - spent


def _through_the_stations(services: Services, name: str) -> int:
    """How many records were applied."""
    applied = 0
    for entity in PARTNER.reads:
        landed = land(services, PARTNER, name, entity)
        assert landed.is_certified, landed
        diff(services, PARTNER, name, entity)
        applied += apply(services, PARTNER, name, entity).applied
    return applied


def _asked(made: Ground) -> float:
    database = Database(made.logins)
    with database.transaction(Login.SCHEDULE, None) as tx:
        started = time.perf_counter()
        due.inbound(tx, PARTNER.name, PARTNER.reads)
        milliseconds = 1000 * (time.perf_counter() - started)
    database.close()
    return milliseconds


if __name__ == "__main__":
    main()
