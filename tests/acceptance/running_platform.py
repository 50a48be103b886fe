"""A real installation that runs: `zest up` as people start it, two tenants and their partners as processes.

It is driven by the commands, by SQL under the product's login, by what Dagster's webserver answers, and by signals.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import psycopg.sql
from sandbox_process import CLIENTS, RECORD_SYSTEM, SETTINGS, STAFF, TOKEN, VISIT_SYSTEM, SandboxProcess
from zest_process import Zest, wait_for

from resources.logins import Logins
from zest_pipelines.local.demo_comparison import Difference, Identifiers, compare
from zest_pipelines.local.demo_product import Product
from zest_pipelines.local.ports import free_port
from zest_pipelines.store.errors import StoreError

Visit = UUID


@dataclass
class Tenant:
    """One tenant: its product's hand and its partner."""

    name: str
    platform: Platform
    partner: SandboxProcess
    notes: dict[Visit, int] = field(default_factory=dict)
    """How often each visit was edited; its remark says so, so that the partner's memory shows the order."""

    def has_masters(self) -> bool:
        """Whether all people of the partner have come in."""
        counts = [self.rows(f"SELECT count(*) FROM schedule.{table}")[0][0] for table in ("client", "staff")]
        return counts == [CLIENTS, STAFF]

    def add_visit(self, starts_at: datetime | None = None) -> Visit:
        """A confirmed visit of an hour; three hours ago unless said otherwise."""
        visit = uuid4()
        starts_at = starts_at or datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
        client, staff = (self.rows(f"SELECT {t}_id FROM schedule.{t} ORDER BY 1")[0][0] for t in ("client", "staff"))
        self.rows(
            "INSERT INTO schedule.visit (tenant_id, visit_id, client_id, staff_id, starts_at, ends_at, note, status) "
            "VALUES (%s, %s, %s, %s, %s, %s, '1', 'confirmed')",
            self.name, visit, client, staff, starts_at, starts_at + timedelta(hours=1),
        )  # fmt: skip
        self.notes[visit] = 1
        return visit

    def edit(self, visit: Visit) -> str:
        """A new remark, a number higher than the one before; waits for a database that is away, as a product does."""
        note = str(self.notes[visit] + 1)
        statement = "UPDATE schedule.visit SET note = %s WHERE visit_id = %s"
        assert wait_for(lambda: self._is_done(statement, note, visit), 60)
        self.notes[visit] += 1
        return note

    def cancel(self, visit: Visit) -> None:
        self.rows("UPDATE schedule.visit SET status = 'cancelled' WHERE visit_id = %s", visit)

    def record(self, visit: Visit) -> None:
        self.rows(
            "INSERT INTO schedule.visit_record (tenant_id, visit_id, started_at, ended_at, status) "
            "SELECT tenant_id, visit_id, starts_at, ends_at, 'done' FROM schedule.visit WHERE visit_id = %s",
            visit,
        )

    def personal_data(self) -> Iterator[str]:
        """Names, numbers, addresses and dates of birth of all people at the partner, and its own ids of them."""
        state = self.partner.state()
        for person in (*state.patients, *state.practitioners):
            yield person["id"]
            yield from (each["value"] for each in (*person["identifier"], *person.get("telecom", ())))
            yield from (part for name in person["name"] for part in (name["text"], name["family"], *name["given"]))
            yield from (each["text"] for each in person.get("address", ()))
            if len(born := person.get("birthDate", "")) == len("YYYY-MM-DD"):
                yield born

    def rows(self, statement: str, *values: Any, login: str = "product") -> list[tuple[Any, ...]]:
        """Run a statement in a transaction of its own, under a login of the installation."""
        with psycopg.connect(self.platform.url(login)) as tx:
            tx.execute("SELECT set_config('app.tenant', %s, true)", [self.name])
            found = tx.execute(statement, values)
            return found.fetchall() if found.description else []

    def appointment(self, visit: Visit) -> dict[str, Any]:
        """What the partner has of the visit; {} if nothing."""
        return _one(self.partner.running.state("Appointment"), VISIT_SYSTEM, visit)

    def encounter(self, visit: Visit) -> dict[str, Any]:
        return _one(self.partner.running.state("Encounter"), RECORD_SYSTEM, visit)

    def has(self, visit: Visit, note: str) -> bool:
        return self.appointment(visit).get("comment") == note

    def differences(self) -> tuple[Difference, ...]:
        """All that is not the same in the product and at the partner, field by field."""
        books = Product(self.platform.logins, self.name).books()
        people = dict(
            self.rows("SELECT record_id, partner_id FROM sync.identity WHERE valid_to IS NULL", login="operator")
        )
        return compare(books, self.partner.state(), people, Identifiers(VISIT_SYSTEM, RECORD_SYSTEM)).differences

    def is_equal(self) -> bool:
        try:
            open_changes = Product(self.platform.logins, self.name).open_changes()
            return open_changes == 0 and not self.differences()
        except (psycopg.OperationalError, StoreError):  # being restarted
            return False

    def pusher(self) -> int | None:
        """The process that holds the right to push, as its run noted it."""
        query = "SELECT holder FROM sync.lease WHERE until > clock_timestamp() AND holder <> ''"
        found = self.rows(query, login="operator")
        return int(found[0][0].rpartition(":")[2]) if found else None

    def _is_done(self, statement: str, *values: Any) -> bool:
        try:
            self.rows(statement, *values)
        except psycopg.OperationalError:
            return False
        return True

    @contextmanager
    def caught_sending(self, visit: Visit) -> Iterator[int]:
        """The worker's process, in the middle of a call: the partner has taken the edit and holds its answer back."""
        sandbox, after = self.partner.running, self.partner.running.health()["journal"]
        sandbox.set_faults({"kind": "delay", "method": "PUT", "type": "Appointment", "seconds": 15.0, "times": 1})
        self.edit(visit)

        def is_caught() -> bool:
            taken = [row for row in self.partner.writes(after) if row["identifier"] == str(visit)]
            return bool(taken) and self.pusher() is not None

        assert wait_for(is_caught, 150), self.platform.told()
        worker = self.pusher()
        assert worker is not None
        yield worker
        sandbox.clear_faults()


@dataclass
class Platform:
    """`zest up` of one data directory."""

    zest: Zest
    port: int
    up: subprocess.Popen[str]
    logins: Logins
    tenants: list[Tenant] = field(default_factory=list)
    _urls: dict[str, str] = field(default_factory=dict)

    def url(self, login: str) -> str:
        """The login's address, asked of `zest db-url` once."""
        if login not in self._urls:
            self._urls[login] = self.zest("db-url", "--login", login).out.strip()
        return self._urls[login]

    def ask(self, query: str) -> Any:
        """What Dagster's webserver answers to a GraphQL query."""
        answer = httpx.post(f"{self.ui}/graphql", json={"query": query}, timeout=20, trust_env=False)
        told = answer.raise_for_status().json()
        assert "errors" not in told, told
        return told["data"]

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.ui}/server_info", timeout=5, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def shows_code(self) -> bool:
        """Whether the UI has the definitions, and got them without an error."""
        told = self.ask(
            "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
        )
        entries = told["workspaceOrError"]["locationEntries"]
        return [entry["locationOrLoadError"]["__typename"] for entry in entries] == ["RepositoryLocation"]

    def code_servers(self) -> list[int]:
        """The processes that hold the definitions for webserver and daemon."""
        return self.processes("api", "grpc")

    def processes(self, *words: str) -> list[int]:
        """The installation's living processes that have all the words among their arguments."""
        return [pid for pid, argv in _processes(str(self.zest.data_dir)) if set(words) <= set(argv)]

    def postmaster(self) -> int:
        return int((self.zest.data_dir / "pg" / "postmaster.pid").read_text().splitlines()[0])

    def everything_kept(self) -> Iterator[tuple[str, str]]:
        """What Dagster's database and the data directory hold, but for the product's database: (where, text)."""
        with psycopg.connect(self.logins.dagster_url().replace("+psycopg2", "", 1)) as dagster:
            tables = dagster.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
            ).fetchall()
            for (table,) in tables:
                rows = dagster.execute(
                    psycopg.sql.SQL("SELECT t::text FROM {} t").format(psycopg.sql.Identifier(table))
                )
                yield table, "\n".join(row for (row,) in rows)
        for path in sorted(self.zest.data_dir.rglob("*")):
            if path.is_file() and "pg" not in path.relative_to(self.zest.data_dir).parts:
                yield str(path), path.read_text(errors="replace")

    def told(self) -> str:
        """The last lines of the logs, for a test that failed."""
        lines = []
        for log in sorted((self.zest.data_dir / "logs").glob("*.log")):
            lines += [f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-60:]]
        return "\n".join(lines)


@contextmanager
def running_platform(folder: Path, timing: str = "minute") -> Iterator[Platform]:
    """An installation with the tenants sakura and hinoki, each at a partner of its own, that runs."""
    zest = Zest(folder / "data")
    assert zest("init").code == 0
    with contextlib.ExitStack() as stack:
        partners = {name: SandboxProcess(folder / name, seed) for seed, name in enumerate(("sakura", "hinoki"), 1)}
        for name, partner in partners.items():
            stack.callback(partner.stop)
            partner.start()
            _connect(zest, name, partner.url, timing)
        stack.callback(zest, "down")
        port = free_port()
        up = stack.enter_context(zest.running("up", "--port", str(port)))
        platform = Platform(zest, port, up, Logins.from_file(zest.data_dir / "logins.json", environ={}))
        platform.tenants += [Tenant(name, platform, partner) for name, partner in partners.items()]
        assert wait_for(platform.answers, 90), platform.told()
        try:
            yield platform
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(60)


def _connect(zest: Zest, name: str, url: str, timing: str) -> None:
    assert zest("tenant", "add", name, "--name", f"法人 {name}").code == 0
    settings = {
        "patient_identifier_system": SETTINGS.patient_identifier_system,
        "staff_identifier_system": SETTINGS.staff_identifier_system,
        "visit_identifier_system": VISIT_SYSTEM,
        "record_identifier_system": RECORD_SYSTEM,
    }
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    arguments = ("connect", name, "fhir", "--base-url", url, "--timing", timing, "--limit", "tenant:6000/60s")
    done = zest(*arguments, *options, "--secret-file", "-", stdin=f'{{"token": "{TOKEN}"}}')
    assert done.code == 0, done.err


def _one(resources: list[dict[str, Any]], system: str, visit: Visit) -> dict[str, Any]:
    ours = {"system": system, "value": str(visit)}
    found = [each for each in resources if ours in each.get("identifier", [])]
    assert len(found) <= 1, f"the partner has {len(found)} copies"
    return found[0] if found else {}


def _processes(mark: str) -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                argv = (folder / "cmdline").read_bytes()
                if argv and mark.encode() in argv + (folder / "environ").read_bytes():
                    yield int(folder.name), argv.decode(errors="replace").split("\0")
