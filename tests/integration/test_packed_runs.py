"""Two dozen tenants through real packed runs, to a partner that really has their visits in the end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from conftest import TOKEN, wait_for
from dagster import (
    AssetKey,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    RunRequest,
    SkipReason,
)
from dead_partner import wire
from flow_bench import accumulate_all, calls

from partners.contract import Partner
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from resources.configurable import PostgresResource
from resources.http import Http
from resources.logins import Login
from resources.vault import Vault
from zest_pipelines.definitions import definitions
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration import steps
from zest_pipelines.orchestration.demands import MAX_RUNS_IN, MAX_RUNS_OUT, Demand, pushes_due, readings_due
from zest_pipelines.orchestration.ticks import request_runs
from zest_pipelines.store import due
from zest_pipelines.store.database import Database

NAMES = [f"t{number:02}" for number in range(24)]
IDLE = frozenset(NAMES[1::2])
REFUSED = "t06"
FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@pytest.fixture
def services(database: Database, data_dir: Path) -> Services:
    """Services whose vault is the one that runs find in the data directory."""
    return Services(database, Vault.from_file(data_dir / "vault.key", environ={}), Http(total_seconds=3))


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxConfig(token=TOKEN, clients=2, staff=1)) as running:
        yield running


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """A Dagster set as `zest up` sets it."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    monkeypatch.setenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "1")
    with DagsterInstance.ephemeral() as made:
        yield made


@dataclass(frozen=True)
class Ran:
    """What some runs logged."""

    events: Sequence[DagsterEvent]

    def of(self, kind: DagsterEventType) -> list[DagsterEvent]:
        return [each for each in self.events if each.event_type is kind]

    @property
    def made(self) -> list[tuple[str, str | None]]:
        """(asset, tenant) of each materialization."""
        found = self.of(DagsterEventType.ASSET_MATERIALIZATION)
        return [(each.asset_key.path[-1], each.partition) for each in found if each.asset_key]

    @property
    def failed(self) -> list[tuple[str, str | None]]:
        """(check, tenant) of each failed answer."""
        found = [each.asset_check_evaluation_data for each in self.of(DagsterEventType.ASSET_CHECK_EVALUATION)]
        return [(each.check_name, each.partition) for each in found if not each.passed]


def _tick(instance: DagsterInstance, demand: Demand) -> Sequence[RunRequest]:
    """What a schedule would request now."""
    requests = request_runs(demand, instance, PostgresResource(), "09:00")
    assert not isinstance(requests, SkipReason), requests.skip_message
    return requests


def _run(
    instance: DagsterInstance, job: str, requests: Sequence[RunRequest], run_config: Mapping[str, Any] | None = None
) -> Ran:
    """As the daemon does it: of the job, what the request selects and the checks that it selects."""
    events: list[DagsterEvent] = []
    for request in requests:
        part = definitions.resolve_job_def(job).get_subset(
            asset_selection=frozenset(request.asset_selection or ()),
            asset_check_selection=frozenset(request.asset_check_keys or ()),
        )
        result = part.execute_in_process(
            instance=instance,
            partition_key=request.partition_key,
            tags=dict(request.tags),
            run_config=run_config,
            raise_on_error=False,
        )
        assert result.success
        events += [entry.dagster_event for entry in instance.all_logs(result.run_id) if entry.dagster_event]
    return Ran(events)


def test_many_due_tenants_share_few_runs_and_each_has_its_own_truth(
    instance: DagsterInstance, sandbox: RunningSandbox, new_tenant: Any, fhir: Partner
) -> None:
    tenants = {name: new_tenant(sandbox, name) for name in NAMES}

    # The way in, all due: few runs, every tenant read once.
    requests = _tick(instance, readings_due(fhir))
    assert len(requests) == MAX_RUNS_IN
    _run(instance, "fhir_in", requests)
    assert {name: _readings(tenants[name]) for name in NAMES} == dict.fromkeys(NAMES, 2)

    # The way in, six due with others between them: the others ride along unread.
    stale = NAMES[0:24:4]
    for name in stale:
        tenants[name].sql("UPDATE sync.snapshot SET started_at = started_at - interval '2 hours'", Login.LAND)
    ran = _run(instance, "fhir_in", _tick(instance, readings_due(fhir)))
    assert {name for name in NAMES if _readings(tenants[name]) == 4} == set(stale)
    assert {tenant for _, tenant in ran.made} == set(stale)

    # The way out: three visits each but for the idle tenants; one partner refuses its tenant's token.
    refused = tenants[REFUSED]
    sealed = refused.services.vault.encrypt({"token": "another"}, tenant=REFUSED, partner="fhir")
    refused.sql("UPDATE sync.credential SET ciphertext = :sealed", Login.OPERATOR, sealed=sealed)
    busy = [name for name in NAMES if name not in IDLE]
    visits = {name: {tenants[name].add_visit() for _ in range(3)} for name in busy}

    requests = _tick(instance, pushes_due(fhir))
    packed = [request for request in requests if request.partition_key is None]
    ran = _run(instance, "fhir_out", requests)

    assert len(requests) == MAX_RUNS_OUT
    assert any(each.tags[FIRST] < idle < each.tags[LAST] for each in packed for idle in IDLE)
    assert ran.of(DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED) == []
    assert len(ran.of(DagsterEventType.ASSET_MATERIALIZATION_PLANNED)) == 2 * len(requests)
    assert ("not_stopped", REFUSED) in ran.failed
    assert {tenant for _, tenant in ran.failed} == {REFUSED}
    well = set(busy) - {REFUSED}
    assert instance.get_materialized_partitions(AssetKey(["fhir", "pushed_visits"])) == well
    assert IDLE.isdisjoint({each.partition for each in ran.events if each.partition is not None})
    made = Counter(row["identifier"] for row in sandbox.journal() if row["effect"] == "created")
    assert made == Counter(str(visit) for name in well for visit in visits[name])
    assert not any(_is_delivered(refused, visit) for visit in visits[REFUSED])


def test_a_packed_run_that_waited_in_the_queue_leaves_alone_what_another_did_meanwhile(
    instance: DagsterInstance, sandbox: RunningSandbox, new_tenant: Any, fhir: Partner
) -> None:
    for name in NAMES[:6]:
        new_tenant(sandbox, name)
    requests = _tick(instance, readings_due(fhir))
    _run(instance, "fhir_in", requests)

    late = _run(instance, "fhir_in", requests)
    # So does one that repeats a run which died, but for a repeat of one tenant: it may have been read and not applied.
    tags = [dict(each.tags) | {"dagster/parent_run_id": "the-one-that-died"} for each in requests]
    repeats = [each.with_replaced_attrs(tags=tag) for each, tag in zip(requests, tags, strict=True)]
    again = _run(instance, "fhir_in", repeats)

    assert late.made == []
    assert late.of(DagsterEventType.ASSET_CHECK_EVALUATION) == []
    alone = {each.partition_key for each in requests} - {None}
    assert 0 < len(alone) < len(requests)
    assert {tenant for _, tenant in again.made} == alone


def test_a_packed_run_and_a_run_of_one_of_its_tenants_that_meet_push_it_once(
    instance: DagsterInstance, sandbox: RunningSandbox, new_tenant: Any, fhir: Partner
) -> None:
    tenants = [new_tenant(sandbox, name) for name in NAMES[:3]]
    for tenant in tenants:
        tenant.take_in()
    met = tenants[1]
    visits = {str(met.add_visit()) for _ in range(8)}
    for neighbour in (tenants[0], tenants[2]):
        neighbour.add_visit()
    slow = 0.4
    sandbox.set_faults(FaultRule(FaultKind.DELAY, method="POST", type="Appointment", seconds=slow))

    def writes() -> list[float]:
        return [row["monotonic"] for row in calls(sandbox, "POST", "PUT") if row["identifier"] in visits]

    (packed,) = _tick(instance, replace(pushes_due(fhir), max_runs=1))
    background = threading.Thread(target=_run, args=(instance, "fhir_out", [packed]))
    background.start()
    wait_for(lambda: len(writes()) > 0, 30)
    _run(instance, "fhir_out", [RunRequest(partition_key=met.name)])
    background.join()

    assert len(writes()) == len(visits)
    at_once = zip(writes(), writes()[fhir.parallel :], strict=False)
    assert min(after - before for before, after in at_once) >= slow, "more calls than one push makes at once"
    assert met.sql("SELECT epoch FROM sync.lease", Login.OPERATOR) == [(1,)], (
        "pushed twice: they did not meet, or the lease failed"
    )
    made = Counter(row["identifier"] for row in sandbox.journal() if row["effect"] == "created")
    assert (set(made.values()), len(made)) == ({1}, 10)


def test_tenants_whose_server_is_dead_cost_the_others_of_their_run_nothing(
    instance: DagsterInstance, sandbox: RunningSandbox, services: Services, new_tenant: Any, fhir: Partner
) -> None:
    patience, dead = 4.0, set(NAMES[:9:3])
    with wire(sandbox.url) as cut:
        tenants = {
            name: new_tenant(sandbox, name, base_url=cut.url if name in dead else sandbox.url) for name in NAMES[:9]
        }
        for tenant in tenants.values():
            tenant.take_in()
            tenant.add_visit()
        cut.is_dead = True
        wait_for(lambda: _due(services) == set(tenants))
        (packed,) = _tick(instance, replace(pushes_due(fhir), max_runs=1))

        began = time.monotonic()
        ran = _run(instance, "fhir_out", [packed], {"resources": {"http": {"config": {"total_seconds": patience}}}})
        took = time.monotonic() - began
        waited = cut.calls

    assert (waited, took > patience) == (len(dead), True), "nobody waited for a dead server, so nothing is shown"
    arrived = [row["monotonic"] for row in calls(sandbox, "POST") if row["effect"] == "created"]
    assert len(arrived) == len(tenants) - len(dead)
    assert max(arrived) - began < patience, "some waited until a dead server's time was up"
    assert {name for asset, name in ran.made if asset == "pushed_visits"} >= set(tenants) - dead


def test_a_packed_run_takes_its_tenants_in_the_order_of_their_edits(
    instance: DagsterInstance,
    sandbox: RunningSandbox,
    new_tenant: Any,
    fhir: Partner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steps, "TENANTS_AT_ONCE", 1)
    edited = [NAMES[number] for number in (3, 0, 4, 1)]
    tenants = {name: new_tenant(sandbox, name) for name in NAMES[:5]}
    for tenant in tenants.values():
        tenant.take_in()
    visits = {}
    for name in edited:
        visits[str(tenants[name].add_visit())] = name
        accumulate_all(tenants[name])

    requests = _tick(instance, replace(pushes_due(fhir), max_runs=2))
    assert [each.partition_key or each.tags[FIRST] for each in requests] == [NAMES[3], NAMES[0]]
    (packed,) = _tick(instance, replace(pushes_due(fhir), max_runs=1))
    _run(instance, "fhir_out", [packed])

    made = [row["identifier"] for row in calls(sandbox, "POST") if row["effect"] == "created"]
    assert [visits[each] for each in made] == edited


def _due(services: Services) -> set[str]:
    with services.database.transaction(Login.SCHEDULE, None) as tx:
        return set(due.outbound(tx, "fhir", "1"))


def _readings(tenant: Any) -> int:
    return int(tenant.sql("SELECT count(*) FROM sync.snapshot", Login.OPERATOR)[0][0])


def _is_delivered(tenant: Any, visit: UUID) -> bool:
    return (1, "delivered") in tenant.outcomes(visit)
