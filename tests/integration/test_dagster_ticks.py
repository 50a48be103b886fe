"""Schedules and sensors against a real database: who gets a run, who has one, and what a tick says if nobody does.

And one whole way through Dagster: masters in, a visit out, to a sandbox that really has it in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dagster import (
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    RunRequest,
    build_schedule_context,
    build_sensor_context,
    instance_for_test,
    partition_loading_context,
)

from partners.contract import Connection
from resources.configurable import PostgresResource
from resources.http import Http
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.definitions import definitions
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration.demands import MAX_RUNS_IN
from zest_pipelines.store import tenants
from zest_pipelines.store.database import Database

MINUTE = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@pytest.fixture
def services(database: Database, data_dir: Path) -> Services:
    """Services whose vault is the one that runs find in the data directory."""
    return Services(database, Vault.from_file(data_dir / "vault.key", environ={}), Http(total_seconds=3))


@pytest.fixture
def instance(data_dir: Path) -> Iterator[DagsterInstance]:
    """A Dagster of the test's own, on disk: ticks open the instance anew."""
    with instance_for_test() as made:
        yield made


Connect = Callable[..., None]


@pytest.fixture
def connect(services: Services) -> Connect:
    """Connects tenants to a partner that is not there: ticks never call one."""

    def add(*names: str) -> None:
        for name in names:
            with services.database.transaction(Login.OPERATOR, name) as tx:
                tenants.add(tx, name, f"Tenant {name}")
                tenants.connect(
                    tx,
                    Connection(name, "fhir", "http://127.0.0.1:9", {}),
                    timing="minute",
                    limits=None,
                    land_every=timedelta(hours=1),
                    ciphertext=None,
                )

    return add


@dataclass(frozen=True)
class Tick:
    """What one evaluation came to."""

    requests: Sequence[RunRequest]
    skipped: str

    @property
    def targets(self) -> list[str]:
        """Each run's tenant, or its first and last."""
        return [each.partition_key or f"{each.tags[FIRST]}...{each.tags[LAST]}" for each in self.requests]


def _tick(instance: DagsterInstance, name: str) -> Tick:
    repository = definitions.get_repository_def()
    given: dict[str, Any] = {
        "instance": instance,
        "repository_def": repository,
        "resources": {"postgres": PostgresResource()},
    }
    made: Any
    if repository.has_sensor_def(name):
        # The daemon hands a sensor the instance's reference; the builder does not, and partitions need it.
        with (
            partition_loading_context(dynamic_partitions_store=instance),
            build_sensor_context(**given) as sensor_context,
        ):
            made = repository.get_sensor_def(name).evaluate_tick(sensor_context)
    else:
        with build_schedule_context(scheduled_execution_time=MINUTE, **given) as schedule_context:
            made = repository.get_schedule_def(name).evaluate_tick(schedule_context)
    return Tick(tuple(made.run_requests or ()), made.skip_message or "")


def _queue(instance: DagsterInstance, request: RunRequest, status: DagsterRunStatus, job: str = "fhir_in") -> None:
    """Put a requested run into the instance, as the daemon would."""
    instance.create_run_for_job(definitions.resolve_job_def(job), tags=dict(request.tags), status=status)


def test_without_tenants_a_tick_says_how_to_connect_one(instance: DagsterInstance) -> None:
    assert _tick(instance, "fhir_in_every_minute").skipped == (
        "No tenant is connected to fhir: `zest connect` connects one."
    )


def test_each_due_tenant_gets_a_background_run_of_its_own(instance: DagsterInstance, connect: Connect) -> None:
    connect("sakura", "ume")

    tick = _tick(instance, "fhir_in_every_minute")

    assert tick.targets == ["sakura", "ume"]
    assert {each.tags["zest/lane"] for each in tick.requests} == {"background"}
    assert {each.tags["dagster/priority"] for each in tick.requests} == {"-1"}
    assert [each.asset_check_keys for each in tick.requests] == [[], []]
    assert [each.tags["zest/connection"] for each in tick.requests] == ["sakura:fhir:in", "ume:fhir:in"]
    assert len({each.run_key for each in tick.requests}) == 2


def test_more_due_tenants_than_runs_are_packed_into_ranges(instance: DagsterInstance, connect: Connect) -> None:
    names = [f"t{number:02}" for number in range(9)]
    connect(*names)

    tick = _tick(instance, "fhir_in_every_minute")

    assert len(tick.requests) == MAX_RUNS_IN
    assert tick.requests[0].tags[FIRST] == "t00"
    assert all("zest/connection" not in each.tags for each in tick.requests if each.partition_key is None)


@pytest.mark.parametrize("status", [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTED])
def test_a_tenant_whose_run_waits_or_runs_gets_no_other(
    instance: DagsterInstance, connect: Connect, status: DagsterRunStatus
) -> None:
    connect("sakura", "ume")
    _queue(instance, _tick(instance, "fhir_in_every_minute").requests[0], status)

    assert _tick(instance, "fhir_in_every_minute").targets == ["ume"]


def test_tenants_of_an_unfinished_packed_run_get_no_other(instance: DagsterInstance, connect: Connect) -> None:
    connect(*[f"t{number:02}" for number in range(9)])
    for request in _tick(instance, "fhir_in_every_minute").requests:
        _queue(instance, request, DagsterRunStatus.NOT_STARTED)

    tick = _tick(instance, "fhir_in_every_minute")

    assert tick.requests == ()
    assert "each has a run queued or running already" in tick.skipped


def test_a_run_the_other_way_does_not_hold_a_tenant_back(instance: DagsterInstance, connect: Connect) -> None:
    connect("sakura")
    (request,) = _tick(instance, "fhir_in_every_minute").requests
    _queue(instance, request, DagsterRunStatus.STARTED, job="fhir_out")

    assert _tick(instance, "fhir_in_every_minute").targets == ["sakura"]


def test_a_run_that_ended_does_not_keep_a_tenant_from_the_next(instance: DagsterInstance, connect: Connect) -> None:
    connect("sakura")
    _queue(instance, _tick(instance, "fhir_in_every_minute").requests[0], DagsterRunStatus.FAILURE)

    assert _tick(instance, "fhir_in_every_minute").targets == ["sakura"]


def test_a_tick_adds_the_keys_of_new_tenants_and_lets_a_typed_one_ride_along(
    instance: DagsterInstance, connect: Connect
) -> None:
    instance.add_dynamic_partitions("fhir_tenants", ["nobody"])
    connect("sakura")

    assert _tick(instance, "fhir_in_every_minute").targets == ["sakura"]

    assert instance.get_dynamic_partitions("fhir_tenants") == ["nobody", "sakura"]


def test_a_database_that_is_away_is_said_in_a_sentence(
    instance: DagsterInstance, connect: Connect, data_dir: Path, tmp_path: Path
) -> None:
    connect("sakura")
    _tick(instance, "fhir_in_every_minute")
    Logins.generate(str(tmp_path), 5432, environ={}).write(data_dir / "logins.json")

    tick = _tick(instance, "fhir_in_every_minute")

    assert "the database" in tick.skipped
    assert "the next tick asks again" in tick.skipped
    assert instance.get_dynamic_partitions("fhir_tenants") == ["sakura"]


def test_in_closed_hours_nothing_is_read(instance: DagsterInstance, connect: Connect, services: Services) -> None:
    connect("sakura", "ume", "matsu")
    closed = {"sakura": ["00:00-24:00"], "ume": [], "matsu": ["from two on"]}  # its own reading says what is wrong
    for tenant, own in closed.items():
        with services.database.transaction(Login.OPERATOR, tenant) as tx:
            tx.execute(sa.text("UPDATE sync.connection SET closed = :own"), {"own": own})

    assert _tick(instance, "fhir_in_every_minute").targets == ["matsu", "ume"]


def test_ticks_with_nothing_to_do_say_what_they_looked_for(instance: DagsterInstance, connect: Connect) -> None:
    connect("sakura")

    assert _tick(instance, "fhir_new_edits").skipped == (
        "None of 1 connected tenants has a new edit, or what a push left that died or was cut short."
    )
    assert _tick(instance, "fhir_new_master_changes").skipped == (
        "None of 1 connected tenants has a new master change."
    )


def test_masters_and_a_visit_travel_through_dagster_to_the_partner(
    instance: DagsterInstance, sandbox: Any, new_tenant: Any
) -> None:
    tenant = new_tenant(sandbox)
    (request,) = _tick(instance, "fhir_in_every_minute").requests
    assert _execute(instance, "fhir_in", request)
    visit = tenant.add_visit()

    for name in ("fhir_new_edits", "fhir_out_every_minute"):
        assert _tick(instance, name).targets == ["sakura"]
    assert _execute(instance, "fhir_out", _tick(instance, "fhir_new_edits").requests[0])

    assert tenant.outcomes(visit) == [(1, "delivered")]
    for name in ("applied_clients", "applied_staff", "visit_changes", "pushed_visits"):
        assert instance.get_materialized_partitions(AssetKey(["fhir", name])) == {"sakura"}


def test_changes_that_were_landed_but_not_applied_are_applied_alone(
    instance: DagsterInstance, sandbox: Any, new_tenant: Any
) -> None:
    new_tenant(sandbox)
    (request,) = _tick(instance, "fhir_in_every_minute").requests
    landed_only = [AssetKey(["fhir", name]) for name in ("landed_clients", "client_changes")]
    assert _execute(instance, "fhir_in", request.with_replaced_attrs(asset_selection=landed_only))

    (apply,) = _tick(instance, "fhir_new_master_changes").requests

    assert {key.path[-1] for key in apply.asset_selection or ()} == {"applied_clients", "applied_staff"}
    assert _execute(instance, "fhir_in", apply)
    assert _tick(instance, "fhir_new_master_changes").requests == ()


def _execute(instance: DagsterInstance, job: str, request: RunRequest) -> bool:
    """As the daemon does it: the job's part that the request selects, with the checks that it selects."""
    assert request.asset_check_keys is not None
    part = definitions.resolve_job_def(job).get_subset(
        asset_selection=frozenset(request.asset_selection or ()),
        asset_check_selection=frozenset(request.asset_check_keys),
    )
    result = part.execute_in_process(
        instance=instance, partition_key=request.partition_key, tags=dict(request.tags), raise_on_error=False
    )
    evaluations = [
        entry.dagster_event.asset_check_evaluation_data
        for entry in instance.all_logs(result.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
        if entry.dagster_event
    ]
    return result.success and all(each.passed for each in evaluations)
