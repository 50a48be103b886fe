"""What tests share: one real PostgreSQL a session, a database cloned from a migrated template for each test, a tenant
connected to a sandbox."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from hypothesis import settings
from partner_process import RunningPartner, running_partner
from playwright.sync_api import Browser, sync_playwright
from psycopg import sql

from partners.contract import Connection, Entity, Partner
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from partners.registry import PARTNERS
from resources.http import Http
from resources.logins import Login, Logins
from resources.private_files import write_private
from resources.vault import Vault
from zest_pipelines.cli import run
from zest_pipelines.cli.options import remember_data_dir
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.services import Services
from zest_pipelines.local import embedded
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import tenants
from zest_pipelines.store.database import Database
from zest_pipelines.store.installation import install

settings.register_profile("zest", deadline=None)  # a law says nothing of how busy the machine is
settings.load_profile("zest")

TOKEN = "a-token-for-tests"
VAULT_KEY = Fernet.generate_key().decode()  # of `services`, and of the commands typed beside it
Said = Callable[..., tuple[int, str, str]]
_numbers = itertools.count(1)
_ROOMY = 6 << 30  # bytes; all tests together leave behind a fourth of it


def pytest_configure() -> None:
    """Temporary files go to memory if there is much of it: of a disk, half of the tests' time is making databases."""
    memory = Path("/dev/shm")  # pytest makes a directory of its own there
    if memory.is_dir() and shutil.disk_usage(memory).free > _ROOMY:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A PostgreSQL of its own, gone with the session."""
    data_dir = DataDir(tmp_path_factory.mktemp("zest"))
    data_dir.open()
    running = embedded.start(data_dir)
    try:
        yield running
    finally:
        running.stop("immediate")


@pytest.fixture(scope="session")
def template(server: EmbeddedServer) -> Logins:
    """Logins of the server, and the migrated database that each test's own is cloned from."""
    logins = Logins.generate(str(server.socket_dir), server.port, environ={})
    install(server.admin_url, logins)
    with psycopg.connect(server.admin_url, autocommit=True) as admin:  # what a power cut would lose is not tested here
        admin.execute("ALTER SYSTEM SET fsync = off")
        admin.execute("SELECT pg_reload_conf()")
    return logins


@contextmanager
def fresh_database(server: EmbeddedServer, template: Logins) -> Iterator[Logins]:
    """Logins to a fresh, migrated, empty database, gone at the end of the block."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        identifiers = sql.Identifier(name), sql.Identifier(template.database)
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER zest_owner").format(*identifiers))
        yield replace(template, database=name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def logins(server: EmbeddedServer, template: Logins) -> Iterator[Logins]:
    """Logins to a fresh, migrated, empty database of the test's own."""
    with fresh_database(server, template) as made:
        yield made


@pytest.fixture
def database(logins: Logins) -> Iterator[Database]:
    """Transactions on the test's database."""
    database = Database(logins)
    yield database
    database.close()


@pytest.fixture
def services(database: Database) -> Services:
    """The real services, with short timeouts."""
    vault = Vault([VAULT_KEY])
    # No partner of a test goes on working at a call that was cut: what is in doubt may be read back at once.
    return Services(database, vault, Http(total_seconds=3, connect_seconds=1), under_way=timedelta(0))


@pytest.fixture
def data_dir(tmp_path: Path, logins: Logins, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory by which runs find the test's own database; its vault has a key of its own."""
    logins.write(tmp_path / "logins.json")
    Vault.create_file(tmp_path / "vault.key")
    monkeypatch.setenv("ZEST_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def zest(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Said:
    """Runs a command in this process: exit code, standard output, standard error."""
    logins = services.database._logins
    logins.write(tmp_path / "logins.json")
    if not (tmp_path / "vault.key").exists():
        write_private(tmp_path / "vault.key", VAULT_KEY)  # what `services` sealed, the command can open
    monkeypatch.setenv("ZEST_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("zest_pipelines.local.machine.attach", lambda _: logins)
    remember_data_dir(None)

    def typed(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run(arguments)
        return code, *capfd.readouterr()

    return typed


@pytest.fixture
def fhir() -> Partner:
    """The partner that most tests speak to."""
    return PARTNERS["fhir"]


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    """A FHIR sandbox with 30 clients and 8 staff."""
    with running_sandbox(SandboxConfig(token=TOKEN, clients=30, staff=8)) as running:
        yield running


@pytest.fixture(scope="module")
def one_partner() -> Iterator[RunningPartner]:
    """The partner for proofs, one process for all tests of a module."""
    with running_partner() as running:
        yield running


@pytest.fixture
def partner(one_partner: RunningPartner) -> Iterator[RunningPartner]:
    """The same; the next test finds nothing of what this one did to it."""
    yield one_partner
    one_partner.release()
    one_partner.heal()
    one_partner.configure(0.0)
    one_partner.revive()
    one_partner.reset()


def wait_for(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    """Poll until `is_so`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.01)


@dataclass(frozen=True)
class Tenant:
    """A tenant of a test and its product's hand."""

    name: str
    services: Services
    partner: Partner
    sandbox: RunningSandbox

    def take_in(self) -> None:
        """Land, diff and apply all masters."""
        for entity in self.partner.reads:
            land(self.services, self.partner, self.name, entity)
            diff(self.services, self.partner, self.name, entity)
            apply(self.services, self.partner, self.name, entity)

    def sql(self, statement: str, login: Login = Login.PRODUCT, **parameters: Any) -> Sequence[Any]:
        """Run one statement in a transaction of its own and return its rows, if it has any."""
        with self.services.database.transaction(login, self.name) as tx:
            result = tx.execute(sa.text(statement), parameters)
            return result.all() if result.returns_rows else []

    def ids(self, table: str) -> list[UUID]:
        """Ids of the tenant's clients or staff, in order."""
        return [row[0] for row in self.sql(f"SELECT {table}_id FROM schedule.{table} ORDER BY 1")]

    def add_visit(self, **columns: Any) -> UUID:
        """A confirmed visit of the first client by the first member of staff on 2026-12-01, unless said otherwise."""
        values: dict[str, Any] = {
            "tenant_id": self.name,
            "visit_id": uuid4(),
            "client_id": columns.get("client_id") or self.ids("client")[0],
            "staff_id": None if "staff_id" in columns else self.ids("staff")[0],
            "starts_at": "2026-12-01T09:00:00+09:00",
            "ends_at": "2026-12-01T10:00:00+09:00",
            "service_code": "131111",
            "note": "",
            "status": "confirmed",
        } | columns
        names = ", ".join(values)
        self.sql(f"INSERT INTO schedule.visit ({names}) VALUES (:{', :'.join(values)})", **values)
        return UUID(str(values["visit_id"]))

    def edit_visit(self, visit_id: UUID, **columns: Any) -> None:
        """Change columns of a visit."""
        sets = ", ".join(f"{name} = :{name}" for name in columns)
        self.sql(f"UPDATE schedule.visit SET {sets} WHERE visit_id = :id", id=visit_id, **columns)

    def outcomes(self, record_id: UUID, entity: Entity = Entity.VISIT) -> list[tuple[int, str]]:
        """(version, outcome) of every result of a record, in order."""
        rows = self.sql(
            "SELECT version, outcome FROM sync.result WHERE record_id = :id AND entity = :entity ORDER BY result_no",
            Login.OPERATOR,
            id=record_id,
            entity=entity.value,
        )
        return [(row.version, row.outcome) for row in rows]


NewTenant = Callable[..., Tenant]


@pytest.fixture
def new_tenant(services: Services, fhir: Partner) -> NewTenant:
    """Adds a tenant that is connected to a sandbox."""

    def add(
        sandbox: RunningSandbox,
        name: str = "sakura",
        *,
        timing: str = "minute",
        limits: Sequence[str] | None = ("tenant:60000/60s",),
        secret: Mapping[str, str] | None = None,
        base_url: str | None = None,
    ) -> Tenant:
        config = SandboxConfig()
        settings = {
            "patient_identifier_system": config.patient_identifier_system,
            "staff_identifier_system": config.staff_identifier_system,
        }
        sealed = services.vault.encrypt(secret or {"token": TOKEN}, tenant=name, partner=fhir.name)
        with services.database.transaction(Login.OPERATOR, name) as tx:
            tenants.add(tx, name, f"Tenant {name}")
            tenants.connect(
                tx,
                Connection(name, fhir.name, base_url or sandbox.url, settings),
                timing=timing,
                limits=limits,
                land_every=timedelta(hours=1),
                ciphertext=sealed,
            )
        return Tenant(name, services, fhir, sandbox)

    return add


@pytest.fixture
def tenant(sandbox: RunningSandbox, new_tenant: NewTenant) -> Tenant:
    """One connected tenant whose masters are in."""
    made = new_tenant(sandbox)
    made.take_in()
    return made


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser's program."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("there is no Chromium: apt-get install chromium fonts-noto-cjk")
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A real browser, one for each file of tests."""
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium)
