"""An installation of its own in a temporary folder: embedded PostgreSQL, one sandbox, tenants with their masters.

Masters are taken in without Dagster, for what is measured begins after them. `platform` runs `zest up` on it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

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
from zest_pipelines.store.database import Database, Transaction

ZEST = (sys.executable, "-m", "zest_pipelines.cli")
TOKEN = "a-token-for-the-bench"
PARTNER = PARTNERS["fhir"]
PATIENCE = 900.0
"""Seconds after which what is waited for is given up."""
_A_TRANSACTION = 5000
"""Visits; PostgreSQL's table of locks bounds how many one may hold."""


@dataclass(frozen=True)
class Installation:
    """What is running."""

    data_dir: DataDir
    logins: Logins
    sandbox: RunningSandbox
    names: tuple[str, ...]

    def known_tenants(self) -> int:
        """Partition keys: the first tick of any clock brings them."""
        query = "SELECT count(*) FROM dynamic_partitions WHERE partitions_def_name = 'fhir_tenants'"
        return int(self.ask_dagster(query)[0])

    def unfinished_runs(self) -> int:
        """Runs that wait or run."""
        query = "SELECT count(*) FROM runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"
        return int(self.ask_dagster(query)[0])

    def arrived(self) -> int:
        """Visits that the partner has."""
        return int(self.sandbox.health()["resources"].get("Appointment", 0))

    def insert_visits(self, names: Sequence[str], count: int, starts_at: datetime) -> dict[str, list[str]]:
        """So many confirmed visits of each tenant, within a day from `starts_at` on. Their ids, by tenant."""
        with psycopg.connect(self.logins.libpq_url(Login.PRODUCT)) as connection:
            return {name: _inserted(connection, name, count, starts_at) for name in names}

    def ask_dagster(self, statement: str, *values: Any) -> tuple[Any, ...]:
        """One row of Dagster's own database."""
        url = self.logins.dagster_url().replace("+psycopg2", "", 1)
        with psycopg.connect(url) as connection:
            row = connection.execute(statement, values).fetchone()
        assert row is not None
        return tuple(row)


def _inserted(connection: psycopg.Connection, name: str, count: int, starts_at: datetime) -> list[str]:
    ids: list[str] = []
    for first in range(0, count, _A_TRANSACTION):
        some = {"tenant": name, "from": starts_at, "count": min(count - first, _A_TRANSACTION)}
        with connection.transaction():
            connection.execute("SELECT set_config('app.tenant', %s, true)", [name])
            ids += [str(visit) for (visit,) in connection.execute(_INSERT, some)]
    return ids


_INSERT = """
INSERT INTO schedule.visit (tenant_id, visit_id, client_id, staff_id, starts_at, ends_at, status)
SELECT %(tenant)s, gen_random_uuid(), (SELECT min(client_id::text)::uuid FROM schedule.client),
    (SELECT min(staff_id::text)::uuid FROM schedule.staff), at, at + interval '1 hour', 'confirmed'
FROM (SELECT %(from)s + number %% 1320 * interval '1 minute' FROM generate_series(1, %(count)s) AS number) AS t (at)
RETURNING visit_id
"""


@contextmanager
def installation(folder: Path, names: Sequence[str], limits: Sequence[str] = ()) -> Iterator[Installation]:
    """With tenants of these names, each with such limits, until the block ends."""
    with ExitStack() as stack:
        prepared = machine.prepare(DataDir(folder / "data"))
        stack.callback(machine.stop, prepared.data_dir)
        sandbox = stack.enter_context(_sandbox(folder))
        made = Installation(prepared.data_dir, prepared.logins, sandbox, tuple(names))
        started = time.monotonic()
        _take_in(made, limits)
        say(f"{len(names)} tenants with their masters after {time.monotonic() - started:.0f} s")
        yield made


@contextmanager
def platform(folder: Path, made: Installation) -> Iterator[None]:
    """`zest up` until the block ends; begun when it answers."""
    port = str(free_port())
    with _running(folder, "--data-dir", str(made.data_dir.path), "up", "--port", port):
        wait_for(lambda: _answers(f"http://127.0.0.1:{port}/server_info"), "the platform")
        yield


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
        wait_for(lambda: _answers(f"{running.url}/_sandbox/health"), "the sandbox")
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


def _take_in(made: Installation, limits: Sequence[str]) -> None:
    """Connect every tenant and take its masters in, before its limits are in force: this is not what is measured."""
    database = Database(made.logins)
    services = Services(database, Vault.from_file(made.data_dir.vault_key_file), Http())
    for name in made.names:
        sealed = services.vault.encrypt({"token": TOKEN}, tenant=name, partner=PARTNER.name)
        with database.transaction(Login.OPERATOR, name) as tx:
            tenants.add(tx, name, name)
            _connect(tx, made, name, (), sealed)
        for entity in PARTNER.reads:
            report = land(services, PARTNER, name, entity)
            assert report.is_certified, report
            diff(services, PARTNER, name, entity)
            apply(services, PARTNER, name, entity)
        with database.transaction(Login.OPERATOR, name) as tx:
            _connect(tx, made, name, limits, None)
    database.close()


def _connect(tx: Transaction, made: Installation, name: str, limits: Sequence[str], sealed: bytes | None) -> None:
    config = SandboxConfig()
    settings = {
        "patient_identifier_system": config.patient_identifier_system,
        "staff_identifier_system": config.staff_identifier_system,
    }
    connection = Connection(name, PARTNER.name, made.sandbox.url, settings)
    day = timedelta(days=1)
    tenants.connect(tx, connection, timing="minute", limits=limits, land_every=day, ciphertext=sealed)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    """Return when it is so; ends the program after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            sys.exit(f"{what} did not come within {PATIENCE:.0f} s")
        time.sleep(0.5)


def say(words: str) -> None:
    """To people; standard output is for the figures."""
    print(words, file=sys.stderr, flush=True)
