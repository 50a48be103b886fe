"""The audit of the night and by hand, as Dagster runs it, on a real database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Tenant
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    ExecuteInProcessResult,
)
from flow_bench import accumulate_all

from resources.logins import Login, Logins
from zest_pipelines.definitions import definitions

PUSHED = AssetKey(["fhir", "pushed_visits"])


@pytest.fixture
def instance(data_dir: Path) -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as made:
        yield made


Night = Callable[[], list[AssetCheckEvaluation]]


@pytest.fixture
def night(instance: DagsterInstance) -> Night:
    """One night's run: the answers that it logged."""

    def run() -> list[AssetCheckEvaluation]:
        result = definitions.resolve_job_def("fhir_audit").execute_in_process(instance=instance)
        return _answers(instance, result)

    return run


def _answers(instance: DagsterInstance, result: ExecuteInProcessResult) -> list[AssetCheckEvaluation]:
    logged = instance.all_logs(result.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
    return [each.get_dagster_event().asset_check_evaluation_data for each in logged]


def owner(logins: Logins, tenant: str, statement: str) -> None:
    """As somebody who writes to derived tables by hand."""
    with psycopg.connect(logins.libpq_url(Login.MIGRATOR), autocommit=True) as connection:
        connection.execute("SET ROLE zest_owner")
        connection.execute("SELECT set_config('app.tenant', %s, false)", [tenant])
        connection.execute(statement.encode())


def test_tenants_whose_tables_agree_add_no_answer(tenant: Tenant, night: Night) -> None:
    tenant.add_visit()
    accumulate_all(tenant)

    assert [night(), night()] == [[], []]


def test_what_history_does_not_know_is_red_once_with_partner_kind_and_count_and_green_once_it_is_mended(
    tenant: Tenant, new_tenant: Any, logins: Logins, instance: DagsterInstance, night: Night
) -> None:
    ume = new_tenant(tenant.sandbox, "ume")
    ume.take_in()
    for each in (tenant, ume):
        for _ in range(3):
            each.add_visit(note="佐藤様は不在")
        accumulate_all(each)
    owner(
        logins,
        "ume",
        "UPDATE sync.pending SET version = 9 WHERE record_id IN (SELECT record_id FROM sync.pending "
        "ORDER BY 1 LIMIT 2)",
    )
    (red,) = night()
    still = night()
    owner(logins, "ume", "UPDATE sync.pending SET version = 1")
    (green,) = night()
    after = night()

    assert (red.asset_key, red.check_name, red.partition) == (PUSHED, "projection_agrees", "ume")
    assert (red.passed, red.severity.value, red.metadata["differences"].value) == (False, "ERROR", 2)
    assert "2 visits at fhir in sync.pending (version)" in (red.description or "")
    assert (green.passed, green.partition) == (True, "ume")
    assert [*still, *after] == []
    people = {str(row.record_id) for row in ume.sql("SELECT record_id FROM sync.pending", Login.OPERATOR)}
    logged = "".join(repr(entry) for run in instance.get_runs() for entry in instance.all_logs(run.run_id))
    assert "佐藤" not in logged
    assert not [each for each in people if each in logged]


def test_a_person_can_have_one_tenant_looked_at_by_day(
    tenant: Tenant, logins: Logins, instance: DagsterInstance
) -> None:
    tenant.add_visit()
    accumulate_all(tenant)
    instance.add_dynamic_partitions("fhir_tenants", ["sakura", "ume"])
    executed = definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={AssetCheckKey(PUSHED, "projection_agrees")}
    )

    def by_hand() -> list[tuple[bool, str | None]]:
        result = executed.execute_in_process(instance=instance, tags={"dagster/partition": "sakura"})
        return [(each.passed, each.partition) for each in _answers(instance, result)]

    well = by_hand()
    owner(logins, "sakura", "DELETE FROM sync.pending")

    assert well == [(True, "sakura")]
    assert by_hand() == [(False, "sakura")]


def test_the_checks_that_have_a_job_of_their_own_are_planned_by_no_run_of_the_way_out() -> None:
    job = definitions.resolve_job_def("fhir_out")

    assert {key.name for key in job.asset_layer.asset_graph.asset_check_keys} == {
        "not_stopped",
        "oldest_pending_age",
        "nothing_parked",
    }
