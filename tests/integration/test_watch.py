"""The watch over what no run would notice, as Dagster runs it, on a real database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    DagsterEventType,
    DagsterInstance,
)

from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.definitions import definitions
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push

WARN, ERROR = AssetCheckSeverity.WARN, AssetCheckSeverity.ERROR


@dataclass(frozen=True)
class Look:
    """What one run of the watch logged."""

    answers: tuple[AssetCheckEvaluation, ...]

    def of(self, tenant: str, check: str) -> AssetCheckEvaluation:
        """The only answer of a tenant's check, of clients if it is one of a reading."""
        (found,) = [
            each
            for each in self.answers
            if (each.partition, each.check_name) == (tenant, check)
            and each.asset_key != AssetKey(["fhir", "landed_staff"])
        ]
        return found


@pytest.fixture
def look(logins: Logins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Look]]:
    """Runs the watch on the test's own database, in one Dagster that remembers."""
    logins.write(tmp_path / "logins.json")
    Vault.create_file(tmp_path / "vault.key")
    monkeypatch.setenv("ZEST_DATA_DIR", str(tmp_path))
    watching = definitions.resolve_job_def("fhir_watch")

    with DagsterInstance.ephemeral() as instance:

        def run() -> Look:
            result = watching.execute_in_process(instance=instance)
            logged = instance.all_logs(result.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
            return Look(tuple(each.dagster_event.asset_check_evaluation_data for each in logged if each.dagster_event))

        yield run


def ago(tenant: Any, span: str) -> None:
    """What time does to the readings so far."""
    tenant.sql("UPDATE sync.snapshot SET started_at = started_at - CAST(:span AS interval)", Login.LAND, span=span)
    tenant.sql("UPDATE sync.connection SET changed_at = changed_at - interval '30 days'", Login.OPERATOR)


def edited(tenant: Any, span: str) -> None:
    """What time does to what waits. As the owner: nobody else may write `pending`."""
    with tenant.services.database.transaction(Login.MIGRATOR, tenant.name) as tx:
        tx.exec_driver_sql("SET LOCAL ROLE zest_owner")
        tx.exec_driver_sql(f"UPDATE sync.pending SET since = since - interval '{span}'")


def test_tenants_who_are_well_add_no_answer(tenant: Any, look: Callable[[], Look]) -> None:
    tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)
    push(tenant.services, tenant.partner, tenant.name)

    assert look() == Look(())


@pytest.mark.parametrize(
    ("span", "severity"),
    [("119 minutes", None), ("121 minutes", WARN), ("5 hours 59 minutes", WARN), ("6 hours 1 minute", ERROR)],
)
def test_a_reading_goes_stale_after_twice_its_interval_and_is_an_error_after_six_times(
    tenant: Any, look: Callable[[], Look], span: str, severity: AssetCheckSeverity | None
) -> None:
    ago(tenant, span)

    answers = look().answers

    if severity is None:
        assert answers == ()
    else:
        assert {(each.asset_key.path[-1], each.check_name) for each in answers} == {
            ("landed_clients", "fresh"),
            ("landed_staff", "fresh"),
        }
        assert {(each.passed, each.severity) for each in answers} == {(False, severity)}
        assert "Automation" in (answers[0].description or "")


def test_the_same_answer_is_logged_once_and_the_change_for_the_better_too(
    tenant: Any, look: Callable[[], Look]
) -> None:
    ago(tenant, "3 hours")
    first, second = look(), look()
    ago(tenant, "4 hours")
    worse = look()
    tenant.take_in()
    well, still = look(), look()

    assert [len(each.answers) for each in (first, second, worse, well, still)] == [2, 0, 2, 2, 0]
    assert not first.of("sakura", "fresh").passed
    assert (worse.of("sakura", "fresh").passed, worse.of("sakura", "fresh").severity) == (False, ERROR)
    assert well.of("sakura", "fresh").passed


def test_a_tenant_that_was_never_read_counts_from_its_connection(
    sandbox: Any, new_tenant: Any, look: Callable[[], Look]
) -> None:
    tenant = new_tenant(sandbox)
    assert look() == Look(())

    ago(tenant, "0")

    stale = look().of("sakura", "fresh")
    assert (stale.passed, stale.severity) == (False, ERROR)


def test_a_paused_connection_is_not_red_and_says_so(tenant: Any, look: Callable[[], Look]) -> None:
    tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)
    ago(tenant, "1 day")
    edited(tenant, "2 hours")
    assert [each.passed for each in look().answers] == [False] * 3

    tenant.sql("UPDATE sync.connection SET paused_at = now(), pause_reason = 'they move house'", Login.OPERATOR)
    answers = look().answers

    assert [each.passed for each in answers] == [True] * 3
    assert all("paused" in (each.description or "") for each in answers)


def test_edits_that_nobody_tries_to_push_are_seen_whether_accumulated_or_not(
    tenant: Any, look: Callable[[], Look]
) -> None:
    tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)
    edited(tenant, "20 minutes")
    queued = look().of("sakura", "oldest_pending_age")
    push(tenant.services, tenant.partner, tenant.name)
    tenant.add_visit()
    with tenant.services.database.transaction(Login.MIGRATOR, tenant.name) as tx:
        tx.exec_driver_sql("SET LOCAL ROLE zest_owner")
        tx.exec_driver_sql("ALTER TABLE sync.update_event DISABLE TRIGGER USER")
        tx.exec_driver_sql("UPDATE sync.update_event SET at = at - interval '2 hours'")
    unread = look().of("sakura", "oldest_pending_age")

    assert [(each.passed, each.severity) for each in (queued, unread)] == [(False, WARN), (False, ERROR)]
    assert "the daemon runs" in (queued.description or "")


def test_a_record_that_failed_is_told_with_its_reason(tenant: Any, look: Callable[[], Look]) -> None:
    visit = tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)
    tenant.sandbox.set_faults({"kind": "status", "status": 503, "times": 9})
    push(tenant.services, tenant.partner, tenant.name)
    edited(tenant, "20 minutes")

    answer = look().of("sakura", "oldest_pending_age")

    assert str(visit) in str(answer.metadata["problems"])
    assert "the daemon runs" not in (answer.description or "")
