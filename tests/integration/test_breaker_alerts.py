"""What the event log says of a connection whose breaker opens and closes, over many ticks: real ticks, real runs, a
partner that is dead, and one that refuses the key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import TOKEN, NewTenant, Tenant, wait_for
from dagster import AssetCheckEvaluation, DagsterEventType, DagsterInstance, SkipReason
from dead_partner import Wire, wire
from flow_bench import accumulate_all, forget_backoff

from partners.contract import Partner
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from partners.windows import JAPAN
from resources.configurable import PostgresResource
from resources.http import Http
from resources.logins import Login
from resources.vault import Vault
from zest_pipelines.definitions import definitions
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration.demands import pushes_due
from zest_pipelines.orchestration.ticks import request_runs
from zest_pipelines.store.database import Database

IMPATIENT = {"resources": {"http": {"config": {"total_seconds": 0.5}}}}


@pytest.fixture
def services(database: Database, data_dir: Path) -> Services:
    """Services whose vault is the one that runs find in the data directory."""
    return Services(database, Vault.from_file(data_dir / "vault.key", environ={}), Http(total_seconds=3))


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxConfig(token=TOKEN, clients=2, staff=1)) as running:
        yield running


@pytest.fixture
def line(sandbox: RunningSandbox) -> Iterator[Wire]:
    with wire(sandbox.url) as made:
        yield made


@dataclass
class Clock:
    """The minute's schedule and its runs, for one tenant."""

    instance: DagsterInstance
    tenant: Tenant
    partner: Partner
    ticks: int = 0
    runs: list[str] = field(default_factory=list)

    def pass_by(self, ticks: int = 1) -> int:
        """So many ticks, with whatever they request; how many runs that were."""
        before = len(self.runs)
        for _ in range(ticks):
            self.ticks += 1
            wanted = request_runs(pushes_due(self.partner), self.instance, PostgresResource(), str(self.ticks))
            for request in () if isinstance(wanted, SkipReason) else wanted:
                part = definitions.resolve_job_def("fhir_out").get_subset(
                    asset_selection=frozenset(request.asset_selection or ()), asset_check_selection=frozenset()
                )
                ended = part.execute_in_process(
                    instance=self.instance,
                    partition_key=request.partition_key,
                    tags=dict(request.tags),
                    run_config=IMPATIENT,
                )
                assert ended.success, "a background run stays green"
                self.runs.append(ended.run_id)
        return len(self.runs) - before

    def probe(self, times: int = 1) -> int:
        """What passes by when the hold and all backoffs have run out, so often; how many runs that were."""
        runs = 0
        for _ in range(times):
            self.tenant.sql("UPDATE sync.hold SET until = clock_timestamp()", Login.PUSH)
            forget_backoff(self.tenant)
            runs += self.pass_by(3)
        return runs

    def answers(self) -> Sequence[AssetCheckEvaluation]:
        """All that was ever logged of the check, in order."""
        logged = [
            each.get_dagster_event().asset_check_evaluation_data
            for run in self.runs
            for each in self.instance.all_logs(run, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
        ]
        return [each for each in logged if each.check_name == "not_stopped"]

    def rows(self) -> int:
        """Materializations and answers of all checks, so far."""
        kinds = {DagsterEventType.ASSET_CHECK_EVALUATION, DagsterEventType.ASSET_MATERIALIZATION}
        return sum(len(self.instance.all_logs(run, of_type=kinds)) for run in self.runs)


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def connected(new_tenant: NewTenant, sandbox: RunningSandbox, line: Wire) -> Tenant:
    """A tenant whose masters are in, three of whose visits wait."""
    tenant = new_tenant(sandbox, base_url=line.url)
    tenant.take_in()
    for _ in range(3):
        tenant.add_visit()
    accumulate_all(tenant)
    return tenant


def told(answers: Sequence[AssetCheckEvaluation]) -> list[tuple[bool, str]]:
    return [(each.passed, "" if each.passed else each.severity.value) for each in answers]


def delivered(tenant: Tenant) -> int:
    (row,) = tenant.sql("SELECT count(*) FROM sync.result WHERE outcome = 'delivered'", Login.OPERATOR)
    return int(row[0])


def test_a_dead_server_is_told_once_when_the_breaker_opens_and_once_when_it_closes(
    connected: Tenant, line: Wire, instance: DagsterInstance, fhir: Partner
) -> None:
    clock = Clock(instance, connected, fhir)
    line.is_dead = True

    def open_up() -> bool:
        clock.probe()
        return bool(clock.answers())

    wait_for(open_up, 60)
    opened, rows, calls = clock.answers(), clock.rows(), line.calls
    held = clock.pass_by(5)
    quiet = line.calls
    probes = clock.probe(3)
    open_still, rows_still = clock.answers(), clock.rows()
    line.is_dead = False
    wait_for(lambda: clock.probe() >= 0 and delivered(connected) == 3, 60)
    closed, rows_closed = clock.answers(), clock.rows()
    after = clock.pass_by(5)

    assert told(opened) == [(False, "WARN")]
    assert "looks whether it is over" in (opened[0].description or "")
    assert (held, quiet) == (0, calls), "a hold keeps the tenant out of every tick"
    assert probes == 3
    assert line.calls - calls == probes, "one call a probe"
    assert (told(open_still), rows_still) == ([(False, "WARN")], rows)
    assert told(closed) == [(False, "WARN"), (True, "")]
    assert (after, clock.rows()) == (0, rows_closed)


def test_a_bad_key_is_told_once_at_once_and_once_when_another_one_was_entered(
    connected: Tenant, sandbox: RunningSandbox, instance: DagsterInstance, fhir: Partner
) -> None:
    clock, vault = Clock(instance, connected, fhir), connected.services.vault
    for _ in range(2):
        connected.add_visit()
    accumulate_all(connected)

    def enter(token: str) -> None:
        sealed = vault.encrypt({"token": token}, tenant=connected.name, partner=fhir.name)
        statement = "UPDATE sync.credential SET ciphertext = :sealed, changed_at = clock_timestamp()"
        connected.sql(statement, Login.OPERATOR, sealed=sealed)

    enter("another")
    clock.pass_by()
    opened, rows = clock.answers(), clock.rows()
    held = clock.pass_by(5)
    probes = clock.probe(3)
    still, rows_still = clock.answers(), clock.rows()
    enter(TOKEN)
    clock.pass_by(5)
    closed = clock.answers()

    assert told(opened) == [(False, "ERROR")]
    assert "credential" in (opened[0].description or "")
    assert (held, probes) == (0, 3)
    assert (told(still), rows_still) == ([(False, "ERROR")], rows)
    assert told(closed) == [(False, "ERROR"), (True, "")]
    assert delivered(connected) == 5


def test_closed_hours_are_told_by_nobody_also_over_a_fault(
    connected: Tenant, line: Wire, instance: DagsterInstance, fhir: Partner
) -> None:
    clock = Clock(instance, connected, fhir)

    def close(until: timedelta) -> None:
        now = datetime.now(UTC).astimezone(JAPAN)
        hours = f"{now - timedelta(hours=1):%H:%M}-{now + until:%H:%M}"
        statement = "UPDATE sync.connection SET closed = :closed"
        connected.sql(statement, Login.OPERATOR, closed=[hours])

    def reopen() -> None:
        connected.sql("UPDATE sync.connection SET closed = '{}'", Login.OPERATOR)

    close(timedelta(hours=1))
    runs = clock.pass_by(5)
    at_first = clock.rows()
    reopen()
    line.is_dead = True
    wait_for(lambda: clock.probe() >= 0 and bool(clock.answers()), 60)
    opened = clock.answers()
    close(timedelta(hours=1))
    clock.probe(2)
    over_it = clock.answers()
    reopen()
    clock.probe(2)

    assert (runs, at_first) == (1, 0), "one run finds it closed, and the hold keeps the tenant out from then on"
    assert told(opened) == told(over_it) == told(clock.answers()) == [(False, "WARN")]
