"""A minute in which every tenant has something to push: how long until all of it has arrived, and what it costs.

An installation of its own in a temporary folder: embedded PostgreSQL, one sandbox for all tenants, their masters taken
in, and the platform as `zest up` runs it. Three confirmed visits a tenant are then inserted in one go. The bar: all of
them are at the partner before the tick after the next one, with no limit in the way.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg

from partners.contract import Connection
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox
from partners.registry import PARTNERS
from resources.http import Http
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.services import Services
from zest_pipelines.local import machine
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.local.ports import free_port
from zest_pipelines.store import tenants
from zest_pipelines.store.database import Database

ZEST = (sys.executable, "-m", "zest_pipelines.cli")
TOKEN = "a-token-for-the-bench"
VISITS = 3
BAR_SECONDS = 120.0
_PATIENCE = 900.0


@dataclass(frozen=True)
class Cost:
    """Rows of Dagster's database, so far."""

    runs: int
    events: int
    checks: int
    """Answers of checks, or plans of them."""

    def since(self, before: Cost) -> Cost:
        """What came after `before`."""
        return Cost(self.runs - before.runs, self.events - before.events, self.checks - before.checks)


@dataclass(frozen=True)
class Stage:
    """The installation that is measured."""

    data_dir: DataDir
    logins: Logins
    sandbox: RunningSandbox
    names: tuple[str, ...]

    def cost(self) -> Cost:
        """Asked of Dagster's own database."""
        counts = self._dagster(
            "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM event_logs), "
            "(SELECT count(*) FROM asset_check_executions)"
        )
        return Cost(*counts)

    def known_tenants(self) -> int:
        """Partition keys: the first tick of any clock brings them."""
        return int(
            self._dagster("SELECT count(*) FROM dynamic_partitions WHERE partitions_def_name = 'fhir_tenants'")[0]
        )

    def unfinished_runs(self) -> int:
        """Runs that wait or run."""
        return int(self._dagster("SELECT count(*) FROM runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')")[0])

    def first_run_at(self, after: datetime) -> datetime | None:
        """When the first run after `after` was made."""
        utc = after.astimezone(UTC).replace(tzinfo=None)
        found = self._dagster("SELECT min(create_timestamp) FROM runs WHERE create_timestamp > %s", utc)[0]
        return None if found is None else found.replace(tzinfo=UTC)

    def arrived(self) -> int:
        """Visits that the partner has."""
        return int(self.sandbox.health()["resources"].get("Appointment", 0))

    def insert_visits(self) -> None:
        """Three confirmed visits for each tenant, each tenant in a transaction of its own."""
        starts_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        with psycopg.connect(self.logins.libpq_url(Login.PRODUCT)) as connection:
            for name in self.names:
                with connection.transaction():
                    connection.execute("SELECT set_config('app.tenant', %s, true)", [name])
                    for number in range(VISITS):
                        connection.execute(
                            "INSERT INTO schedule.visit (tenant_id, visit_id, client_id, staff_id, starts_at, ends_at, "
                            "status) SELECT %(tenant)s, %(visit)s, (SELECT min(client_id::text)::uuid FROM "
                            "schedule.client), (SELECT min(staff_id::text)::uuid FROM schedule.staff), %(from)s, "
                            "%(to)s, 'confirmed'",
                            {
                                "tenant": name,
                                "visit": uuid4(),
                                "from": starts_at + timedelta(hours=number),
                                "to": starts_at + timedelta(hours=number + 1),
                            },
                        )

    def _dagster(self, statement: str, *values: Any) -> tuple[Any, ...]:
        url = self.logins.dagster_url().replace("+psycopg2", "", 1)
        with psycopg.connect(url) as connection:
            row = connection.execute(statement, values).fetchone()
        assert row is not None
        return tuple(row)


def main() -> None:
    """Run it and print the figures as JSON; exit code 1 if the bar was missed."""
    parser = argparse.ArgumentParser(prog="zest bench minute", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tenants", type=int, default=300, help="how many (default 300)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zest-minute-") as folder, _stage(Path(folder), chosen.tenants) as stage:
        figures = _measured(stage)
    print(json.dumps(figures, indent=2))
    sys.exit(0 if figures["within_the_bar"] else 1)


def _measured(stage: Stage) -> dict[str, Any]:
    _wait(lambda: stage.known_tenants() == len(stage.names), "the first tick")
    _wait(lambda: stage.unfinished_runs() == 0, "the runs before it")
    before, load, wanted = stage.cost(), os.getloadavg()[0], VISITS * len(stage.names)
    inserted_at = datetime.now(UTC)
    stage.insert_visits()
    started = time.monotonic()
    _say(f"{wanted} visits inserted; waiting for them at the partner")
    _wait(lambda: stage.arrived() > 0, "the first visit")
    first = time.monotonic() - started
    _wait(lambda: stage.arrived() >= wanted, "the last visit")
    last, arrived_at = time.monotonic() - started, datetime.now(UTC)
    _wait(lambda: stage.unfinished_runs() == 0, "the runs' ends")
    cost = stage.cost().since(before)
    requested = stage.first_run_at(inserted_at)
    assert requested is not None
    _say("all are there; now a minute in which nothing happens")
    quiet = stage.cost()
    time.sleep(60)
    idle = stage.cost().since(quiet)
    since_request = (arrived_at - requested).total_seconds()
    return {
        "tenants": len(stage.names),
        "visits": wanted,
        "created_twice": _doubles(stage.sandbox),
        "seconds_to_first": round(first, 1),
        "seconds_to_last": round(last, 1),
        "seconds_from_first_run_requested_to_last": round(since_request, 1),
        "bar_seconds": BAR_SECONDS,
        "within_the_bar": last <= BAR_SECONDS,
        "runs": cost.runs,
        "event_rows": cost.events,
        "check_rows": cost.checks,
        "idle_minute": {"runs": idle.runs, "event_rows": idle.events, "check_rows": idle.checks},
        "load_before": round(load, 1),
        "load_after": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }


def _doubles(sandbox: RunningSandbox) -> int:
    made = [row["identifier"] for row in sandbox.journal() if row["effect"] == "created"]
    return len(made) - len(set(made))


@contextmanager
def _stage(folder: Path, count: int) -> Iterator[Stage]:
    with ExitStack() as stack:
        prepared = machine.prepare(DataDir(folder / "data"))
        stack.callback(machine.stop, prepared.data_dir)
        sandbox = stack.enter_context(_sandbox(folder))
        names = tuple(f"tenant-{number:04}" for number in range(count))
        stage = Stage(prepared.data_dir, prepared.logins, sandbox, names)
        started = time.monotonic()
        _take_in(stage)
        _say(f"{count} tenants with their masters after {time.monotonic() - started:.0f} s")
        port = str(free_port())
        stack.enter_context(_running(folder, "--data-dir", str(prepared.data_dir.path), "up", "--port", port))
        _wait(lambda: _answers(f"http://127.0.0.1:{port}/server_info"), "the platform")
        yield stage


@contextmanager
def _sandbox(folder: Path) -> Iterator[RunningSandbox]:
    port, token = free_port(), folder / "token.json"
    token.write_text(json.dumps({"token": TOKEN}))
    options = ("--port", str(port), "--clients", "5", "--staff", "2", "--token-file", str(token))
    with (
        _running(folder, "sandbox", "fhir", *options),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as control,
    ):
        running = RunningSandbox(f"http://127.0.0.1:{port}", control)
        _wait(lambda: _answers(f"{running.url}/_sandbox/health"), "the sandbox")
        yield running


@contextmanager
def _running(folder: Path, *arguments: str) -> Iterator[None]:
    """A command of ours as a process, ended as Ctrl-C ends it."""
    log = folder / f"{arguments[-1]}.log"
    with log.open("w") as output:
        process = subprocess.Popen([*ZEST, *arguments], cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _take_in(stage: Stage) -> None:
    """Connect every tenant and take its masters in, without Dagster: this is not what is measured."""
    config, partner = SandboxConfig(), PARTNERS["fhir"]
    settings = {
        "patient_identifier_system": config.patient_identifier_system,
        "staff_identifier_system": config.staff_identifier_system,
    }
    database = Database(stage.logins)
    services = Services(database, Vault.from_file(stage.data_dir.vault_key_file), Http())
    for name in stage.names:
        sealed = services.vault.encrypt({"token": TOKEN}, tenant=name, partner=partner.name)
        with database.transaction(Login.OPERATOR, name) as tx:
            tenants.add(tx, name, name)
            tenants.connect(
                tx,
                Connection(name, partner.name, stage.sandbox.url, settings),
                timing="minute",
                limits=(),
                land_every=timedelta(days=1),
                ciphertext=sealed,
            )
        for entity in partner.reads:
            report = land(services, partner, name, entity)
            assert report.is_certified, report
            diff(services, partner, name, entity)
            apply(services, partner, name, entity)
    database.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _wait(is_so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > end:
            sys.exit(f"{what} did not come within {_PATIENCE:.0f} s")
        time.sleep(0.5)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
