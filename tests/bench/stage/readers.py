"""What the benches of the way in share: a database of their own, tenants at the pages' server, readers in processes."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from stage.cost import Cost
from stage.installation import PARTNER, say
from stage.patients import SYSTEM

from partners.contract import Connection
from resources.logins import Login, Logins
from zest_pipelines.local import embedded, machine
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.local.postmaster import read_pid_file
from zest_pipelines.store import tenants
from zest_pipelines.store.database import Database

_STAGE = Path(__file__).parent


@dataclass(frozen=True)
class Ground:
    """An installation without a platform."""

    logins: Logins
    logins_file: Path
    admin_url: str
    postmaster: int
    """Its process id."""

    def as_admin(self, *statements: str) -> None:
        """Run each in a transaction of its own, past every wall."""
        with psycopg.connect(self.admin_url, dbname=self.logins.database, autocommit=True) as admin:
            for statement in statements:
                admin.execute(statement)

    @property
    def admin_database_url(self) -> str:
        """Of the project's database."""
        return self.admin_url.replace("/postgres?", f"/{self.logins.database}?", 1)

    @property
    def admin_credentials(self) -> dict[str, Any]:
        """The same for a library that wants parts, escaped, and a password although none is asked for."""
        known = psycopg.conninfo.conninfo_to_dict(self.admin_database_url)
        parts = {"database": known["dbname"], "username": known["user"], "password": "none"}
        return parts | {"host": quote(str(known["host"]), safe=""), "port": int(known["port"] or 0)}


@contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """Embedded PostgreSQL whose housekeeping runs between the measurements, and not in one of them by chance."""
    prepared = machine.prepare(DataDir(folder / "data"))
    try:
        noted = read_pid_file(prepared.data_dir.pg)
        server = embedded.running(prepared.data_dir)
        assert noted is not None
        assert server is not None
        made = Ground(prepared.logins, prepared.data_dir.logins_file, server.admin_url, noted.pid)
        made.as_admin("ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()")
        yield made
    finally:
        machine.stop(prepared.data_dir)


def connect(database: Database, tenant: str, url: str) -> None:
    """A tenant at the pages' server, with no limits and no credential."""
    with database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.add(tx, tenant, tenant)
        settings = {"patient_identifier_system": SYSTEM, "staff_identifier_system": f"{SYSTEM}:staff"}
        connection = Connection(tenant, PARTNER.name, url, settings)
        tenants.connect(tx, connection, timing="minute", limits=(), land_every=timedelta(days=1), ciphertext=None)


def run(program: str, order: Mapping[str, Any], python: str = sys.executable) -> tuple[Cost, dict[str, Any]]:
    """What it cost, and what else the program told."""
    command = [python, str(_STAGE / program)]
    done = subprocess.run(command, input=json.dumps(order), stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    names = Cost.__dataclass_fields__.keys()
    return Cost(**{name: told[name] for name in names}), {name: told[name] for name in told.keys() - names}


def python_with_dlt(folder: Path) -> str | None:
    """An interpreter in an environment of its own with dlt's newest version from PyPI; None if it cannot be had."""
    say("dlt is installed into an environment of its own")
    try:
        venv.create(folder, with_pip=True)
        python = folder / "bin" / "python"
        quiet = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "dlt[postgres]")
        subprocess.run([python, *quiet], check=True, stdout=sys.stderr)
    except (OSError, subprocess.CalledProcessError):
        return None
    return str(python)
