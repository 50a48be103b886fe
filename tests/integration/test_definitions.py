"""What Dagster is shown: a snapshot, so that a key, a partition or a check changes only on purpose."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dagster import AssetsDefinition, AssetSpec, Definitions, DynamicPartitionsDefinition

from partners.contract import Entity
from partners.registry import PARTNERS
from zest_pipelines.definitions import STATIONS, define, definitions

KEYS = {
    "landed_clients": [],
    "client_changes": ["landed_clients"],
    "applied_clients": ["client_changes"],
    "landed_staff": [],
    "staff_changes": ["landed_staff"],
    "applied_staff": ["staff_changes"],
    "visit_changes": ["applied_clients", "applied_staff"],
    "pushed_visits": ["visit_changes"],
}
CHECKS = {
    ("landed_clients", "snapshot_certified"),
    ("landed_staff", "snapshot_certified"),
    ("applied_clients", "nothing_rejected"),
    ("applied_clients", "equals_landed"),
    ("applied_staff", "nothing_rejected"),
    ("applied_staff", "equals_landed"),
    ("pushed_visits", "not_stopped"),
    ("pushed_visits", "oldest_pending_age"),
    ("pushed_visits", "nothing_parked"),
}


@pytest.fixture(params=sorted(PARTNERS))
def partner(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _specs(partner: str) -> dict[str, AssetSpec]:
    specs = definitions.resolve_all_asset_specs()
    return {spec.key.path[-1]: spec for spec in specs if spec.key.path[0] == partner}


def test_everything_that_dagster_resolves_later_resolves() -> None:
    Definitions.validate_loadable(definitions)


def test_each_partner_has_its_keys_with_their_lineage(partner: str) -> None:
    lineage = {name: sorted(dep.asset_key.path[-1] for dep in spec.deps) for name, spec in _specs(partner).items()}

    assert lineage == KEYS


def test_each_asset_has_a_group_an_owner_kinds_and_a_description(partner: str) -> None:
    for spec in _specs(partner).values():
        assert spec.group_name == partner
        assert spec.owners
        assert spec.kinds
        assert "Written by" in (spec.description or "")
        assert "Red:" in (spec.description or "")


def test_each_asset_is_partitioned_by_the_partners_tenants(partner: str) -> None:
    expected = DynamicPartitionsDefinition(name=f"{partner}_tenants")

    assert {spec.partitions_def for spec in _specs(partner).values()} == {expected}


def test_each_check_is_partitioned_as_its_asset_is(partner: str) -> None:
    assets = [each for each in definitions.assets or () if isinstance(each, AssetsDefinition)]
    specs = [spec for each in assets for spec in each.check_specs if spec.asset_key.path[0] == partner]

    assert {(spec.asset_key.path[-1], spec.name) for spec in specs} == CHECKS
    assert {spec.partitions_def for spec in specs} == {DynamicPartitionsDefinition(name=f"{partner}_tenants")}


def test_each_partner_has_its_jobs_schedules_and_sensors_running(partner: str) -> None:
    repository = definitions.get_repository_def()

    schedules = {each.name: each for each in repository.schedule_defs if each.name.startswith(f"{partner}_")}
    sensors = {each.name: each for each in repository.sensor_defs if each.name.startswith(f"{partner}_")}
    assert {f"{partner}_in", f"{partner}_out"} <= set(repository.job_names)
    assert {name: each.job_name for name, each in schedules.items()} == {
        f"{partner}_in_every_minute": f"{partner}_in",
        f"{partner}_out_every_minute": f"{partner}_out",
    }
    assert {each.cron_schedule for each in schedules.values()} == {"* * * * *"}
    assert {each.execution_timezone for each in schedules.values()} == {"Asia/Tokyo"}
    assert {name: each.job_name for name, each in sensors.items()} == {
        f"{partner}_new_edits": f"{partner}_out",
        f"{partner}_new_master_changes": f"{partner}_in",
    }
    assert {each.default_status.value for each in (*schedules.values(), *sensors.values())} == {"RUNNING"}


def test_a_partner_that_is_read_for_staff_alone_has_no_assets_of_clients() -> None:
    staff_only = define([replace(PARTNERS["fhir"], reads=(Entity.STAFF,))], STATIONS)

    names = {spec.key.path[-1] for spec in staff_only.resolve_all_asset_specs()}
    assert names == {"landed_staff", "staff_changes", "applied_staff", "visit_changes", "pushed_visits"}
    Definitions.validate_loadable(staff_only)
