"""What it costs to land a list of clients, all new, 1 % changed or unchanged, beside a bare floor and dlt.

An installation of its own in a temporary folder: embedded PostgreSQL, and a FHIR server in a process of its own whose
pages are made beforehand, 1,000 clients of 13 fields on each. In rounds, each reading in a fresh process, all three of
them one after the other over the same list:

    land    the station as it runs every night, through the FHIR connector and its mapping
    floor   fetch, parse, hash, compare, COPY into a temporary table, INSERT into a table of the same kind
    dlt     the newest from PyPI, strategy scd2, the records as they come; if it cannot be installed, the rest is told

Cost is processor time, that of the reading process and that of all PostgreSQL's processes together; the partner's is
not counted. The bars, in the middle of the rounds: at most 1.6 times the floor at first, 1.4 times with 1 % and with
nothing changed; dlt at least five times as dear in both; at most 60 MB beyond what the process had when the reading
began. A tenant of 500 clients is told besides: landing, diff and apply without a socket.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from stage.cost import Cost
from stage.installation import say
from stage.patient_server import PatientServer, served
from stage.patients import CHANGED_EVERY
from stage.reader_process import Order
from stage.readers import Ground, connect, ground, python_with_dlt, run
from stage.small_tenant import milliseconds

from zest_pipelines.store.database import Database

PAGE_SIZE = 1000
MOST_OF_FLOOR = {"first": 1.6, "changed": 1.4, "unchanged": 1.4}
LEAST_OF_DLT = 5.0
MOST_MB = 60.0
SMALL, SMALL_TARGET_MS = 500, 60.0
_STEPS = tuple(MOST_OF_FLOOR)
_FLOOR = (
    "CREATE SCHEMA floor",
    "CREATE TABLE floor.landed_version (LIKE sync.landed_version INCLUDING ALL)",
)

Round = Mapping[str, Mapping[str, Cost]]
"""By step and reader."""


@dataclass(frozen=True)
class _Stage:
    """What the rounds use."""

    ground: Ground
    server: PatientServer
    clients: int
    folder: Path
    dlt: str | None
    """An interpreter that has it."""
    is_dlt_flat: bool
    is_floor_quick: bool


def main() -> None:
    """Run it and print the figures as JSON; exit code 1 if a bar was missed."""
    parser = argparse.ArgumentParser(prog="zest bench land", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=100_000, help="in the list (default 100000)")
    parser.add_argument("--rounds", type=int, default=3, help="of each reader (default 3)")
    parser.add_argument("--dlt", metavar="PYTHON", help="an interpreter that has dlt (default: it is installed)")
    parser.add_argument("--without-dlt", action="store_true", help="leave it out")
    parser.add_argument("--dlt-flat", action="store_true", help="give it the 13 fields, not the records as they come")
    parser.add_argument("--quick-floor", action="store_true", help="the floor spells by orjson too, not by json")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zest-land-") as name, ExitStack() as stack:
        folder = Path(name)
        dlt = None if chosen.without_dlt else chosen.dlt or python_with_dlt(folder / "dlt")
        made = stack.enter_context(ground(folder))
        server = stack.enter_context(served(chosen.clients, PAGE_SIZE))
        made.as_admin(*_FLOOR)
        small = milliseconds(made, SMALL, times=20)
        say(f"{SMALL} unchanged clients: {small['together']} ms")
        stage = _Stage(made, server, chosen.clients, folder, dlt, chosen.dlt_flat, chosen.quick_floor)
        rounds, versions = _rounds(stage, chosen.rounds)
    figures = figures_of(rounds)
    about = {
        "clients": chosen.clients,
        "dlt": versions,
        "dlt_flat": chosen.dlt_flat,
        "quick_floor": chosen.quick_floor,
        f"unchanged_tenant_of_{SMALL}_ms": small,
    }
    about |= {"target_ms": SMALL_TARGET_MS, "load": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
    print(json.dumps(about | figures, indent=2))
    sys.exit(0 if figures["within_the_bars"] else 1)


def figures_of(rounds: Sequence[Round]) -> dict[str, Any]:
    """What is told of the rounds; the ratios are the middle ones of those within each round."""
    readers = list(rounds[0][_STEPS[0]])
    steps = {step: {reader: _figures([each[step][reader] for each in rounds]) for reader in readers} for step in _STEPS}
    of_floor = {step: _ratio(rounds, step, "land", "floor") for step in _STEPS}
    of_dlt = {step: _ratio(rounds, step, "dlt", "land") for step in _STEPS} if "dlt" in readers else None
    peak = max(steps[step]["land"]["peak_mb"] for step in _STEPS)
    missed = [f"{step} of floor" for step in _STEPS if of_floor[step] > MOST_OF_FLOOR[step]]
    missed += [f"dlt {step}" for step in _STEPS[1:] if of_dlt is not None and of_dlt[step] < LEAST_OF_DLT]
    missed += ["memory"] if peak > MOST_MB else []
    return {
        "steps": steps,
        "of_floor": of_floor,
        "dlt_of_land": of_dlt,
        "bars": {"of_floor": MOST_OF_FLOOR, "dlt_of_land": LEAST_OF_DLT, "peak_mb": MOST_MB},
        "missed": missed,
        "within_the_bars": not missed,
    }


def _figures(costs: Sequence[Cost]) -> dict[str, float]:
    names = ("client_cpu", "server_cpu", "seconds", "peak_mb")
    told = {name: round(median(getattr(each, name) for each in costs), 2) for name in names}
    return {"cpu": round(median(map(_cpu, costs)), 2)} | told


def _ratio(rounds: Sequence[Round], step: str, one: str, other: str) -> float:
    return round(median(_cpu(each[step][one]) / _cpu(each[step][other]) for each in rounds), 2)


def _cpu(cost: Cost) -> float:
    return cost.client_cpu + cost.server_cpu


def _rounds(stage: _Stage, count: int) -> tuple[list[Round], str | None]:
    """The rounds, and dlt's version; None without it."""
    found: list[Round] = []
    version = None
    for number in range(count):
        tenant = f"round-{number}"
        database = Database(stage.ground.logins)
        connect(database, tenant, f"{stage.server.url}/{tenant}")
        database.close()
        steps: dict[str, dict[str, Cost]] = {}
        # Unchanged before changed: the list goes back to what it was at the next round's beginning alone.
        for step in ("first", "unchanged", "changed"):
            stage.server.show(changed=step == "changed")
            new = {"first": stage.clients, "unchanged": 0, "changed": stage.clients // CHANGED_EVERY}[step]
            steps[step] = {each: _read(stage, each, tenant, new) for each in ("land", "floor")}
            if stage.dlt is not None:
                steps[step]["dlt"], version = _read_by_dlt(stage, tenant)
            stage.ground.as_admin("VACUUM ANALYZE")
            costs = ", ".join(f"{name} {_cpu(cost):.1f} s" for name, cost in steps[step].items())
            say(f"round {number}, {step}: {costs} of processor time")
        found.append(steps)
    return found, version


def _read(stage: _Stage, reader: str, tenant: str, new: int) -> Cost:
    made = stage.ground
    made.as_admin("CHECKPOINT")
    order = Order(
        reader=reader,
        url=f"{stage.server.url}/{tenant}",
        tenant=tenant,
        logins_file=str(made.logins_file),
        admin_url=made.admin_database_url,
        postmaster=made.postmaster,
        clients=stage.clients,
        new=new,
        quick=stage.is_floor_quick,
    )
    return run("reader_process.py", asdict(order))[0]


def _read_by_dlt(stage: _Stage, tenant: str) -> tuple[Cost, str]:
    assert stage.dlt is not None
    made = stage.ground
    made.as_admin("CHECKPOINT")
    order = {
        "url": f"{stage.server.url}/{tenant}",
        "flat": stage.is_dlt_flat,
        "folder": str(stage.folder / "dlt-state" / tenant),
        "dataset": tenant.replace("-", "_"),
        "credentials": made.admin_credentials,
        "postmaster": made.postmaster,
        "clients": stage.clients,
    }
    cost, told = run("dlt_process.py", order, stage.dlt)
    return cost, told["version"]


if __name__ == "__main__":
    main()
