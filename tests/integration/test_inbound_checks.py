"""The checks of the way in, in real Dagster runs over a real partner: what a person reads, all of them answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import NewTenant, Tenant
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckSeverity,
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    Definitions,
    JobDefinition,
    in_process_executor,
)
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from resources.configurable import HttpResource, PostgresResource, VaultResource
from resources.logins import Login
from zest_pipelines.cli.runs import ended
from zest_pipelines.definitions import STATIONS
from zest_pipelines.orchestration.assets import Stations, inbound_assets
from zest_pipelines.orchestration.steps import BACKGROUND_TAGS

WARN, ERROR = AssetCheckSeverity.WARN, AssetCheckSeverity.ERROR
OF_CLIENTS = ["landed_clients", "client_changes", "applied_clients"]
Answers = dict[str, AssetCheckEvaluation]


@pytest.fixture
def instance(data_dir: Path) -> Iterator[DagsterInstance]:
    """Dagster whose runs find the test's database."""
    with DagsterInstance.ephemeral() as made:
        yield made


def tomorrow(tenant: Tenant, days: int = 1) -> Tenant:
    """The tenant some days later, when a reading of everything is due."""
    moment = timedelta(days=days, hours=days)
    return replace(tenant, services=replace(tenant.services, now=lambda: datetime.now(UTC) + moment))


def job_of(instance: DagsterInstance, tenant: Tenant) -> JobDefinition:
    """All of the way in, with the tenant as a partition."""
    instance.add_dynamic_partitions(f"{tenant.partner.name}_tenants", [tenant.name])
    definitions = Definitions(
        assets=[inbound_assets(tenant.partner, _with_services_of(tenant))],
        resources={"postgres": PostgresResource(), "http": HttpResource(), "vault": VaultResource()},
        executor=in_process_executor,
    )
    return definitions.resolve_implicit_global_asset_job_def()


def run_in_background(instance: DagsterInstance, tenant: Tenant) -> list[str]:
    """Run clients' assets as the minute does; what was told: assets that were made, and checks."""
    keys = frozenset(AssetKey([tenant.partner.name, each]) for each in OF_CLIENTS)
    job = job_of(instance, tenant).get_subset(asset_selection=keys, asset_check_selection=frozenset())
    result = job.execute_in_process(instance=instance, partition_key=tenant.name, tags=BACKGROUND_TAGS)
    logged = [entry.dagster_event for entry in instance.all_logs(result.run_id) if entry.dagster_event]
    checks = [each.asset_check_evaluation_data for each in logged if each.event_type_value == "ASSET_CHECK_EVALUATION"]
    return [*(each.check_name for each in checks), *materialized(instance, result.run_id)]


def materialized(instance: DagsterInstance, run_id: str) -> list[str]:
    """The assets that a run made."""
    made = instance.all_logs(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
    return [entry.get_dagster_event().asset_key.path[-1] for entry in made]


def run(
    instance: DagsterInstance, tenant: Tenant, assets: Sequence[str] = OF_CLIENTS, check: str | None = None
) -> Answers:
    """Materialize clients' assets of the tenant, or execute one check of an asset alone, as a person does in the UI.

    The answers by check; a check that was planned and not answered fails the test.
    """
    name = tenant.name
    keys = [AssetKey([tenant.partner.name, each]) for each in assets]
    job = job_of(instance, tenant)
    if check is None:
        job = job.get_subset(asset_selection=frozenset(keys))
    else:
        job = job.get_subset(asset_selection=frozenset(), asset_check_selection={AssetCheckKey(keys[0], check)})
    result = job.execute_in_process(instance=instance, partition_key=name, raise_on_error=False)
    logged = [entry.dagster_event for entry in instance.all_logs(result.run_id) if entry.dagster_event]
    planned = [
        each.asset_check_planned_data.asset_check_key
        for each in logged
        if each.event_type is DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
    ]
    assert planned
    for key in planned:
        (record,) = instance.event_log_storage.get_asset_check_execution_history(
            key, limit=1, partition_filter=PartitionKeyFilter(key=name)
        )
        assert (record.run_id, record.status is AssetCheckExecutionRecordStatus.PLANNED) == (result.run_id, False), key
    answers = [
        each.asset_check_evaluation_data
        for each in logged
        if each.event_type is DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    assert {each.partition for each in answers} == {name}
    assert {each.asset_check_key for each in answers} >= set(planned)
    return {each.check_name: each for each in answers}


def _with_services_of(tenant: Tenant) -> Stations:
    """The real stations, with the test's vault, timeouts and clock instead of the run's."""

    def served(station: Callable[..., Any]) -> Any:
        return lambda _, *given: station(tenant.services, *given)

    return Stations(**{name: served(station) for name, station in vars(STATIONS).items()})


def red(answers: Answers) -> dict[str, AssetCheckSeverity]:
    """The failed ones."""
    return {name: each.severity for name, each in answers.items() if not each.passed}


def words(answers: Answers, check: str) -> str:
    return answers[check].description or ""


def listed(answers: Answers, check: str) -> list[Any]:
    """The rows of the table of records."""
    return [row.data for row in answers[check].metadata["problems"].value.records]


def test_all_is_green_and_says_of_how_many_records(
    instance: DagsterInstance, sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox)
    answers = run(instance, tenant)
    assert red(answers) == {}
    assert words(answers, "snapshot_certified") == "30 records, all accounted for."
    assert words(answers, "shape_known").startswith("30 new or changed records, all of a form that we know")
    assert "30 landed; 30 applied" in words(answers, "equals_landed")
    sandbox.put(sandbox.state("Patient")[0] | {"birthDate": "1951-02-03"})
    answers = run(instance, tenant)
    assert words(answers, "no_mass_change") == (
        "Nothing is held: 0 of 28 records in force to be deleted, no field to change in more than 1."
    )


def test_a_mass_change_is_red_until_the_partner_has_taken_it_back(
    instance: DagsterInstance, tenant: Tenant, sandbox: RunningSandbox
) -> None:
    theirs = [each for each in sandbox.state("Patient") if each["active"]]
    for each in theirs[:11]:
        sandbox.delete("Patient", each["id"])
    for each in theirs[11:23]:
        sandbox.put(each | {"gender": "other"})
    sandbox.put(theirs[25] | {"birthDate": "1951-02-03"})
    for day in (1, 2):  # also when everything has been held before
        answers = run(instance, tomorrow(tenant, day))
        assert red(answers) == {"no_mass_change": ERROR}
        said = words(answers, "no_mass_change")
        assert "Held, of 28 records in force: 11 would be deleted, sex would change in 12. Additions" in said
        assert "correct them at the partner" in said
        told = {name: value.value for name, value in answers["no_mass_change"].metadata.items()}
        assert (told["population"], told["held_deletes"], told["held_fields"]) == (28, 11, {"sex": 12})
        assert all(row["record"].startswith("landed:") for row in listed(answers, "no_mass_change"))
    for each in theirs[:23]:
        sandbox.put(each)
    assert red(run(instance, tomorrow(tenant, 3))) == {}
    (client,) = tenant.sql("SELECT count(*) AS all, count(*) FILTER (WHERE active) AS active FROM schedule.client")
    assert (client.all, client.active) == (30, 28)


def test_a_changed_form_is_told_with_names_and_never_with_values_until_all_can_be_taken(
    instance: DagsterInstance, tenant: Tenant, sandbox: RunningSandbox
) -> None:
    theirs = sandbox.state("Patient")
    canary = {"nickname": "蟹工船太", "鳥籠町": 1, "Torikago": 1, "0312345678": 1, "_birthDate": {"id": "known"}}
    sandbox.put(theirs[0] | canary)
    sandbox.put(theirs[1] | {"nickname": "蟹工船太"})
    sandbox.put(theirs[2] | {"gender": "蟹工船太"})
    sandbox.put(theirs[3] | {"birthDate": 19510203})
    answers = run(instance, tenant)
    assert red(answers) == {"shape_known": WARN, "nothing_rejected": ERROR}
    said = words(answers, "shape_known")
    assert "Fields that we do not know: Patient.? (1 record), Patient.nickname (2 records)." in said
    assert "2 records cannot be taken: field_invalid (1), unknown_code (1)." in said
    assert 'Correct "Patient.birthDate" on the partner' in said
    numbers = {
        f"landed:{row.landed_no}": row.problem
        for row in tenant.sql("SELECT * FROM sync.landed_version ORDER BY landed_no DESC LIMIT 4", Login.OPERATOR)
    }
    shown = {row["record"]: row["reason"] for row in listed(answers, "shape_known")}
    assert shown == {record: reason or "fields_unknown" for record, reason in numbers.items()}
    assert {row["record"] for row in listed(answers, "nothing_rejected")} == {
        record for record, reason in numbers.items() if reason
    }
    logged = "".join(
        repr(each) for record in instance.get_run_records() for each in instance.all_logs(record.dagster_run.run_id)
    )
    assert [each for each in ("蟹工船太", "鳥籠町", "Torikago", "0312345678", "19510203") if each in logged] == []
    again = run(instance, tenant)
    assert red(again) == {"shape_known": WARN, "nothing_rejected": ERROR}  # those still wait for the partner
    assert listed(again, "nothing_rejected") == listed(answers, "nothing_rejected")
    said = words(again, "shape_known")
    assert said.startswith("2 records cannot be taken: field_invalid (1), unknown_code (1). Records: landed:")
    assert {row["record"] for row in listed(again, "shape_known")} == {
        record for record, reason in numbers.items() if reason
    }
    sandbox.put(theirs[2])
    assert "1 record cannot be taken: field_invalid (1)." in words(run(instance, tenant), "shape_known")
    sandbox.put(theirs[3])
    sandbox.put(theirs[1] | {"nickname": "鳥籠町"})
    cured = run(instance, tenant)
    assert red(cured) == {}
    assert words(cured, "shape_known").endswith("Told before: Patient.?, Patient.nickname.")
    taken = tenant.sql(
        "SELECT content->>'nickname' FROM sync.landed_version WHERE content ? 'nickname'", Login.OPERATOR
    )
    assert len(taken) == 3


def test_a_partner_that_is_away_fails_what_depends_on_it_and_answers_the_rest_as_it_is(
    instance: DagsterInstance, tenant: Tenant, sandbox: RunningSandbox
) -> None:
    sandbox.set_faults(FaultRule(FaultKind.STATUS, type="Patient", status=401))
    answers = run(instance, tenant)
    assert red(answers) == {"snapshot_certified": ERROR}
    assert "30 landed; 30 applied" in words(answers, "equals_landed")
    assert "The last reading to be relied on began 0 min ago" in words(answers, "fresh")


def test_a_reading_that_is_put_off_repeats_the_verdict_on_the_one_before(
    instance: DagsterInstance, sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox, limits=["tenant:1/3600s"])
    run(instance, tenant)
    for _ in range(2):  # the second one follows one that was put off itself
        answers = run(instance, tenant)
        assert red(answers) == {"shape_known": WARN}  # nothing came of whose form it could speak
        assert words(answers, "shape_known") == words(answers, "snapshot_certified").split(" The reading")[0]
        said = words(answers, "snapshot_certified")
        assert said.startswith("Waiting for its turn")
        assert "The reading before: 30 records, all accounted for." in said
    tenant.sql(
        "UPDATE sync.snapshot SET state = 'failed', reason = 'credential_refused' WHERE state = 'certified'", Login.LAND
    )
    answers = run(instance, tenant)
    assert red(answers) == {"snapshot_certified": ERROR, "shape_known": WARN}
    assert "The reading before: The partner did not accept" in words(answers, "snapshot_certified")


def begin_elsewhere(tenant: Tenant) -> None:
    """A reading of clients that another run has under way."""
    tenant.sql(
        "INSERT INTO sync.snapshot (snapshot_id, tenant_id, partner, entity, state) "
        "VALUES (gen_random_uuid(), :tenant, 'fhir', 'client', 'reading')",
        Login.LAND,
        tenant=tenant.name,
    )


def test_a_reading_under_way_leaves_the_rest_to_it_on_a_green_run(instance: DagsterInstance, tenant: Tenant) -> None:
    begin_elsewhere(tenant)
    answers = run(instance, tenant)
    of_applied = ("no_mass_change", "nothing_rejected", "equals_landed", "identities_settled")
    assert red(answers) == dict.fromkeys(("shape_known", *of_applied), WARN)
    assert "The reading before: 30 records, all accounted for." in words(answers, "snapshot_certified")
    assert words(answers, "equals_landed").startswith("Another run is reading from this partner.")
    (record,) = instance.get_run_records()
    assert record.dagster_run.is_success
    assert materialized(instance, record.dagster_run.run_id) == []


def test_a_command_is_told_that_another_reading_is_under_way(instance: DagsterInstance, tenant: Tenant) -> None:
    begin_elsewhere(tenant)
    job = job_of(instance, tenant)
    over = ended(instance, job.execute_in_process(instance=instance, partition_key=tenant.name))
    assert (over.failures, over.stops) == ((), {"reading_under_way"})


def test_a_background_reading_that_is_put_off_tells_nothing_new(
    instance: DagsterInstance, tenant: Tenant, sandbox: RunningSandbox
) -> None:
    sandbox.put(sandbox.state("Patient")[0] | {"nickname": "x"})
    assert "landed_clients" in run_in_background(instance, tenant)
    begin_elsewhere(tenant)
    assert run_in_background(instance, tenant) == []


@pytest.mark.parametrize("assets", [["landed_clients"], ["applied_clients"], OF_CLIENTS])
def test_a_tenant_that_there_is_not_fails_the_checks_of_what_was_asked(
    instance: DagsterInstance, sandbox: RunningSandbox, new_tenant: NewTenant, assets: list[str]
) -> None:
    nobody = replace(new_tenant(sandbox), name="nobody")
    answers = run(instance, nobody, assets)
    if "landed_clients" in assets:
        assert set(red(answers).values()) == {ERROR}
        assert len(red(answers)) == len(answers)
        assert all("`zest connect nobody fhir" in words(answers, name) for name in answers)


def test_a_check_that_is_executed_alone_has_its_station_run(
    instance: DagsterInstance, tenant: Tenant, sandbox: RunningSandbox
) -> None:
    sandbox.put(sandbox.state("Patient")[0] | {"nickname": "x"})
    answers = run(instance, tenant, ["landed_clients"], check="shape_known")
    assert red(answers)["shape_known"] is WARN


def test_records_left_behind_are_named_with_what_takes_them(
    instance: DagsterInstance, tenant: Tenant, sandbox: RunningSandbox
) -> None:
    sandbox.put(sandbox.state("Patient")[0] | {"birthDate": "1951-02-03"})
    run(instance, tenant, ["landed_clients"])
    answers = run(instance, tenant, ["applied_clients"])
    assert red(answers) == {"equals_landed": ERROR}
    (newest,) = tenant.sql(
        "SELECT max(landed_no) AS no FROM sync.landed_version WHERE entity = 'client'", Login.OPERATOR
    )
    assert f"Left behind: 1 (landed:{newest.no})." in words(answers, "equals_landed")
    assert red(run(instance, tenant, ["client_changes", "applied_clients"])) == {}
