"""The job of the day, as Dagster runs it, on a real database."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster import DagsterInstance, ExecuteInProcessResult

from resources.logins import Login, Logins
from zest_pipelines.definitions import definitions
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.housekeep import MONTHS_AHEAD


@pytest.fixture
def run(data_dir: Path) -> Any:
    """Runs the job on the test's own database."""

    def execute() -> ExecuteInProcessResult:
        job = definitions.resolve_job_def("housekeeping")
        with DagsterInstance.ephemeral() as instance:
            return job.execute_in_process(instance=instance, raise_on_error=False)

    return execute


def owner(logins: Logins, statement: str) -> Any:
    with psycopg.connect(logins.libpq_url(Login.MIGRATOR), autocommit=True) as connection:
        connection.execute("SET ROLE zest_owner")
        connection.execute("SELECT set_config('app.tenant', 'sakura', false)")
        return connection.execute(statement)


def test_a_quiet_day_is_green_and_makes_the_months_to_come(tenant: Any, logins: Logins, run: Any) -> None:
    tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)
    owner(logins, "DROP TABLE sync.change_2027_03")

    assert run().success

    last = _months_after(tenant.services.now().date(), MONTHS_AHEAD - 1)
    for month in ("2027_03", f"{last:%Y_%m}"):
        (row,) = tenant.sql(f"SELECT to_regclass('sync.change_{month}') AS made", Login.OPERATOR)
        assert row.made is not None


def _months_after(day: date, months: int) -> date:
    years, month = divmod(day.month - 1 + months, 12)
    return date(day.year + years, month + 1, 1)
