"""Transactions that stay open, here and in another database of the server, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Tenant
from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    build_sensor_context,
    instance_for_test,
)
from flow_bench import push_now

from resources.configurable import PostgresResource
from resources.logins import Login, Logins
from zest_pipelines.definitions import definitions
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store.database import Database
from zest_pipelines.store.stall import Stall, stall

SECRET_STATEMENT = "INSERT INTO patient VALUES ('山田')"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def other(server: EmbeddedServer) -> Iterator[psycopg.Connection]:
    """A session of somebody else's, in a database of its own, whose transaction has written and stays open."""
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE payroll")
        with psycopg.connect(server.admin_url, dbname="payroll", application_name="nightly batch") as batch:
            batch.execute("CREATE TABLE patient (name text)")
            batch.commit()
            batch.execute(SECRET_STATEMENT.encode())
            yield batch
            batch.close()
        admin.execute("DROP DATABASE payroll WITH (FORCE)")


def edited_before(tenant: Tenant, span: str) -> None:
    """What time does to edits. As the owner: nobody else may."""
    with tenant.services.database.transaction(Login.MIGRATOR, tenant.name) as tx:
        tx.exec_driver_sql("SET LOCAL ROLE zest_owner")
        tx.exec_driver_sql("ALTER TABLE sync.update_event DISABLE TRIGGER USER")
        tx.exec_driver_sql(f"UPDATE sync.update_event SET at = at - interval '{span}'")
        tx.exec_driver_sql("ALTER TABLE sync.update_event ENABLE ALWAYS TRIGGER refuse_rewrite")


def look(database: Database, patience: timedelta = MINUTE) -> Stall | None:
    with database.transaction(Login.SCHEDULE, None) as tx:
        return stall(tx, "fhir", patience)


def test_a_transaction_in_another_database_that_holds_edits_back_is_found_after_a_minute_and_not_before(
    tenant: Tenant, database: Database, other: psycopg.Connection
) -> None:
    assert look(database) is None, "it holds back nothing yet"
    tenant.add_visit()
    assert look(database) is None
    edited_before(tenant, "59 seconds")
    young = look(database)
    edited_before(tenant, "3 minutes")

    found = look(database)
    other.rollback()

    assert young is None
    assert found is not None
    assert (found.database, found.application, found.tenants) == ("payroll", "nightly batch", 1)
    assert found.pid == other.info.backend_pid
    assert timedelta(minutes=3) < found.age < timedelta(minutes=6)
    assert look(database) is None


def test_an_old_edit_that_can_be_read_is_nobodys_fault(
    tenant: Tenant, database: Database, other: psycopg.Connection
) -> None:
    other.rollback()
    tenant.add_visit()
    edited_before(tenant, "3 minutes")
    other.execute("INSERT INTO patient VALUES ('later')")

    assert look(database) is None


def test_edits_of_a_paused_connection_are_not_missed_by_anybody(
    tenant: Tenant, database: Database, other: psycopg.Connection
) -> None:
    tenant.add_visit()
    edited_before(tenant, "3 minutes")
    tenant.sql("UPDATE sync.connection SET paused_at = now(), pause_reason = 'they move house'", Login.OPERATOR)

    assert look(database) is None


def test_what_was_held_back_is_lost_to_nobody(tenant: Tenant, database: Database, other: psycopg.Connection) -> None:
    visit = tenant.add_visit()
    edited_before(tenant, "3 minutes")
    for _ in range(2):
        accumulate(tenant.services, tenant.partner, tenant.name)
        push(tenant.services, tenant.partner, tenant.name)
    meanwhile = tenant.outcomes(visit)
    other.commit()
    push_now(tenant)

    assert (meanwhile, tenant.outcomes(visit)) == ([], [(1, "delivered")])


# --- As Dagster tells it ---------------------------------------------------------------------------------------------


@pytest.fixture
def instance(data_dir: Path) -> Iterator[DagsterInstance]:
    """A Dagster of the test's own, on disk: sensors open the instance anew."""
    with instance_for_test() as made:
        yield made


Minute = Callable[[], list[AssetCheckEvaluation]]


@pytest.fixture
def minute(instance: DagsterInstance) -> Minute:
    """One look of the sensor, and the run that it requests, if any: the answers that were logged."""
    repository = definitions.get_repository_def()
    sensor = repository.get_sensor_def("fhir_edits_held_back")
    job = definitions.resolve_job_def("fhir_held_back")

    def pass_by() -> list[AssetCheckEvaluation]:
        resources = {"postgres": PostgresResource()}
        with build_sensor_context(instance=instance, repository_def=repository, resources=resources) as context:
            made: Any = sensor.evaluate_tick(context)
        answers = []
        for request in made.run_requests or ():
            result = job.execute_in_process(instance=instance, tags=dict(request.tags))
            logged = instance.all_logs(result.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
            answers += [each.get_dagster_event().asset_check_evaluation_data for each in logged]
        return answers

    return pass_by


def test_it_is_told_once_when_it_begins_and_once_when_it_is_over_with_who_it_is_and_nothing_that_it_runs(
    tenant: Tenant, other: psycopg.Connection, instance: DagsterInstance, minute: Minute
) -> None:
    quiet = [minute() for _ in range(3)]
    tenant.add_visit()
    edited_before(tenant, "3 minutes")
    red, *still = [minute() for _ in range(4)]
    other.commit()
    green, *after = [minute() for _ in range(4)]

    assert [*quiet, *still, *after] == [[]] * 9
    assert [(each.passed, each.severity.value, each.partition) for each in red] == [(False, "ERROR", None)]
    (told,) = red
    assert told.asset_key == AssetKey(["fhir", "visit_changes"])
    for part in ('"nightly batch"', '"payroll"', "Edits of 1 tenant", "3 min"):
        assert part in (told.description or "")
    assert told.metadata["database"].value == "payroll"
    assert told.metadata["application_name"].value == "nightly batch"
    assert [(each.passed, each.partition) for each in green] == [(True, None)]
    logged = "".join(repr(entry) for run in instance.get_runs() for entry in instance.all_logs(run.run_id))
    assert "山田" not in logged
    assert "INSERT" not in logged


def test_a_database_that_is_away_is_a_sentence_of_the_sensor(
    instance: DagsterInstance, minute: Minute, tmp_path: Path
) -> None:
    Logins.generate(str(tmp_path), 5432, environ={}).write(tmp_path / "logins.json")

    assert minute() == []
