"""The watch over what no run would notice, as Dagster runs it, on a real database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import NewTenant
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
)
from flow_bench import accumulate_all
from issued import issue

from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login
from resources.vault import Vault
from zest_pipelines.core.weeks import Days, week_of
from zest_pipelines.definitions import definitions
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.flows.push_period import push_period
from zest_pipelines.flows.reports import PeriodReport, PushReport
from zest_pipelines.orchestration.findings import pushing
from zest_pipelines.orchestration.partitions import today_in_japan
from zest_pipelines.orchestration.week_findings import week_settled

WEEK = week_of(today_in_japan())
PUSHED_VISITS, PUSHED_WEEKS = AssetKey(["fhir", "pushed_visits"]), AssetKey(["fhir", "pushed_weeks"])
WARN, ERROR = AssetCheckSeverity.WARN, AssetCheckSeverity.ERROR


@dataclass(frozen=True)
class Look:
    """What one run of the watch logged."""

    answers: tuple[AssetCheckEvaluation, ...]
    failure: str = ""
    """What the run failed with."""

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
def instance() -> Iterator[DagsterInstance]:
    """A Dagster that remembers."""
    with DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def look(instance: DagsterInstance, data_dir: Path) -> Callable[[], Look]:
    """Runs the watch on the test's own database."""
    watching = definitions.resolve_job_def("fhir_watch")

    def run() -> Look:
        result = watching.execute_in_process(instance=instance, raise_on_error=False)
        logged = instance.all_logs(result.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
        failed = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
        return Look(
            tuple(each.dagster_event.asset_check_evaluation_data for each in logged if each.dagster_event),
            " ".join((each and each.description) or "a bug" for each in failed),
        )

    return run


def ago(tenant: Any, span: str) -> None:
    """What time does to the readings so far."""
    tenant.sql("UPDATE sync.snapshot SET started_at = started_at - CAST(:span AS interval)", Login.LAND, span=span)
    tenant.sql("UPDATE sync.connection SET changed_at = changed_at - interval '30 days'", Login.OPERATOR)


def edited(tenant: Any, span: str) -> None:
    """What time does to what waits. As the owner: nobody else may write `pending`."""
    with tenant.services.database.transaction(Login.MIGRATOR, tenant.name) as tx:
        tx.exec_driver_sql("SET LOCAL ROLE zest_owner")
        tx.exec_driver_sql(f"UPDATE sync.pending SET since = since - interval '{span}'")


def edited_before(tenant: Any, span: str) -> None:
    """What time does to edits."""
    with tenant.services.database.transaction(Login.MIGRATOR, tenant.name) as tx:
        tx.exec_driver_sql("SET LOCAL ROLE zest_owner")
        tx.exec_driver_sql("ALTER TABLE sync.update_event DISABLE TRIGGER USER")
        tx.exec_driver_sql(f"UPDATE sync.update_event SET at = at - interval '{span}'")


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


@pytest.mark.parametrize(
    ("lasts", "severity"),
    [(timedelta(days=61), None), (timedelta(days=59), WARN), (timedelta(days=-1), ERROR)],
)
def test_a_certificate_is_told_of_sixty_days_before_its_end(
    tenant: Any, look: Callable[[], Look], tmp_path: Path, lasts: timedelta, severity: AssetCheckSeverity | None
) -> None:
    shown = issue(issue(), lasts)
    secret = {"token": "t", "client_certificate": shown.pem + shown.key_pem()}
    sealed = Vault.from_file(tmp_path / "vault.key").encrypt(secret, tenant=tenant.name, partner="fhir")
    tenant.sql("UPDATE sync.credential SET ciphertext = :sealed", Login.OPERATOR, sealed=sealed)

    answers = look().answers

    assert [(each.check_name, each.passed, each.severity) for each in answers] == (
        [] if severity is None else [("certificate_lasts", False, severity)]
    )
    assert all("--secret-file FILE" in (each.description or "") for each in answers)


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
    edited_before(tenant, "2 hours")
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


# --- What others cured -----------------------------------------------------------------------------------------------


def told(instance: DagsterInstance, tenant: Any, report: PushReport) -> None:
    """As a run tells of its push."""
    for check in pushing(PUSHED_VISITS, tenant.name, report, tenant.services.now()).checks:
        instance.report_runless_asset_event(check)


def told_of_week(instance: DagsterInstance, report: PeriodReport, week: Days = WEEK) -> None:
    """As a run tells of its week."""
    instance.report_runless_asset_event(week_settled(PUSHED_WEEKS, f"sakura|{week.first}", report))


def visit_of(tenant: Any, week: Days = WEEK, **columns: Any) -> Any:
    times = {"starts_at": f"{week.first}T09:00:00+09:00", "ends_at": f"{week.first}T10:00:00+09:00"}
    return tenant.add_visit(**times, **columns)


def press(tenant: Any, week: Days = WEEK) -> PeriodReport:
    return push_period(tenant.services, tenant.partner, tenant.name, week, timedelta(seconds=5))


def held(tenant: Any, week: Days = WEEK) -> PushReport:
    """Two visits, a partner that refuses the credential at the first one, and a push after that."""
    for _ in range(2):
        visit_of(tenant, week)
    tenant.sandbox.set_faults(FaultRule(FaultKind.STATUS, status=401, times=1))
    assert press(tenant, week).stopped == "credential_refused"
    report = push(tenant.services, tenant.partner, tenant.name)
    assert (report.stopped, report.is_held) == ("credential_refused", True)
    return report


def mend(tenant: Any) -> None:
    tenant.sql("UPDATE sync.connection SET changed_at = clock_timestamp()", Login.OPERATOR)


def test_a_push_that_was_stopped_is_well_again_once_the_week_has_delivered_everything(
    sandbox: RunningSandbox, new_tenant: NewTenant, instance: DagsterInstance, look: Callable[[], Look]
) -> None:
    tenant = new_tenant(sandbox, timing="week")
    tenant.take_in()
    told(instance, tenant, held(tenant))
    before = look()
    mend(tenant)
    assert press(tenant).is_settled
    after, still = look(), look()

    assert before == Look(())
    assert {(each.check_name, each.passed) for each in after.answers} == {("not_stopped", True)}
    assert still == Look(())


def test_a_record_that_waits_for_a_person_keeps_no_stopped_push_red(
    tenant: Any, instance: DagsterInstance, look: Callable[[], Look]
) -> None:
    visit = visit_of(tenant)
    accumulate_all(tenant)
    push(tenant.services, tenant.partner, tenant.name)
    told(instance, tenant, held(tenant))
    mend(tenant)
    tenant.edit_visit(visit, note="ours")
    tenant.sandbox.set_faults(FaultRule(FaultKind.STATUS, method="PUT", times=1, status=412, code="conflict"))
    counts = press(tenant).visits
    assert (counts.delivered, counts.refused) == (2, 1)

    assert look().of("sakura", "not_stopped").passed


def test_what_a_push_is_about_to_answer_is_left_to_it(
    tenant: Any, instance: DagsterInstance, look: Callable[[], Look]
) -> None:
    visit_of(tenant)
    accumulate_all(tenant)
    tenant.sandbox.set_faults(FaultRule(FaultKind.STATUS, status=503))
    report = push(tenant.services, tenant.partner, tenant.name)
    assert report.stopped is not None
    told(instance, tenant, report)

    assert look() == Look(())


def test_what_holds_a_connection_is_told_in_place_of_the_schedules(tenant: Any, look: Callable[[], Look]) -> None:
    held(tenant)
    edited(tenant, "20 minutes")

    answers = look()

    words = answers.of("sakura", "oldest_pending_age").description or ""
    assert "credential" in words
    assert "daemon" not in words
    stopped = answers.of("sakura", "not_stopped")
    assert (stopped.passed, stopped.severity) == (False, ERROR)


def test_a_breaker_that_is_about_to_be_tried_is_left_to_the_push_and_a_fresh_answer_is_given_while_it_is_open(
    tenant: Any, instance: DagsterInstance, look: Callable[[], Look]
) -> None:
    told(instance, tenant, held(tenant))
    tenant.sql("UPDATE sync.hold SET until = clock_timestamp()", Login.PUSH)
    about_to_be = look()
    tenant.sql("UPDATE sync.hold SET until = clock_timestamp() + interval '10 minutes'", Login.PUSH)
    is_open = look()

    assert [each for each in (*about_to_be.answers, *is_open.answers) if each.check_name == "not_stopped"] == []


def test_while_the_partner_is_closed_nothing_is_said_of_it(
    tenant: Any, instance: DagsterInstance, look: Callable[[], Look]
) -> None:
    visit_of(tenant)
    accumulate_all(tenant)
    edited(tenant, "2 hours")
    for failed in (None, "partner_error"):
        if failed:
            told(instance, tenant, PushReport(stopped=failed, is_held=True))
        tenant.sql(
            "INSERT INTO sync.hold (tenant_id, partner, reason, failures, since, until) VALUES (:tenant, 'fhir', "
            "'outside_window', 0, now(), now() + interval '3 hours') ON CONFLICT DO NOTHING",
            Login.PUSH,
            tenant=tenant.name,
        )

        assert look() == Look(())


def test_a_red_week_is_green_once_the_rest_went_by_itself(
    tenant: Any, instance: DagsterInstance, look: Callable[[], Look]
) -> None:
    visit_of(tenant)
    bad = visit_of(tenant)
    tenant.sandbox.set_faults(FaultRule(FaultKind.STATUS, identifier=str(bad), status=422, code="business-rule"))
    report = press(tenant)
    assert report.visits.refused == 1
    told(instance, tenant, push(tenant.services, tenant.partner, tenant.name))
    told_of_week(instance, report)
    red = look()
    tenant.sandbox.set_faults()
    tenant.edit_visit(bad, note="corrected")
    unread = look()
    accumulate_all(tenant)
    waits = look()
    push(tenant.services, tenant.partner, tenant.name)
    green, still = look(), look()

    assert red == Look(())
    assert not [each for each in (*unread.answers, *waits.answers) if each.check_name == "week_settled"]
    settled = green.of(f"sakura|{WEEK.first}", "week_settled")
    assert settled.passed
    assert settled.metadata["visits_delivered"].value == 2
    assert still == Look(())


def test_a_week_is_not_green_while_an_edit_that_it_asked_for_is_unread(
    tenant: Any, instance: DagsterInstance, look: Callable[[], Look]
) -> None:
    visit_of(tenant)
    report = press(tenant)
    told_of_week(instance, replace(report, stopped="edits_not_yet_read"))
    visit_of(tenant)
    edited_before(tenant, "1 minute")
    unread = look()
    accumulate_all(tenant)
    push(tenant.services, tenant.partner, tenant.name)

    assert unread == Look(())
    assert look().of(f"sakura|{WEEK.first}", "week_settled").passed


def test_what_holds_the_connection_turns_a_yellow_week_red_but_none_that_the_partner_has(
    tenant: Any, instance: DagsterInstance, look: Callable[[], Look]
) -> None:
    last, coming = week_of(WEEK.first - timedelta(weeks=1)), week_of(WEEK.first + timedelta(weeks=1))
    visit_of(tenant, last)
    told_of_week(instance, replace(press(tenant, last), stopped="partner_busy"), last)
    visit_of(tenant)
    tenant.sandbox.set_faults(FaultRule(FaultKind.STATUS, status=503, times=1))
    told_of_week(instance, push_period(tenant.services, tenant.partner, tenant.name, WEEK, timedelta(0)))
    held(tenant, coming)

    answers = look()

    red, green = (answers.of(f"sakura|{week.first}", "week_settled") for week in (WEEK, last))
    assert (red.passed, red.severity) == (False, ERROR)
    assert "credential" in (red.description or "")
    assert green.passed


def test_a_week_that_waits_for_what_the_tables_do_not_tell_stays_red(
    tenant: Any, instance: DagsterInstance, look: Callable[[], Look]
) -> None:
    visit_of(tenant)
    tenant.sql("UPDATE sync.credential SET ciphertext = 'torn'", Login.OPERATOR)
    report = press(tenant)
    assert report.stopped == "secret_unreadable"
    told_of_week(instance, report)

    assert look() == Look(())


def test_weeks_that_left_the_grid_or_were_never_asked_for_are_left_alone(
    tenant: Any, instance: DagsterInstance, look: Callable[[], Look]
) -> None:
    past, coming = week_of(date(2026, 1, 5)), week_of(WEEK.first + timedelta(weeks=1))
    assert press(tenant, past).is_settled
    for week in (past, coming):
        told_of_week(instance, PeriodReport(week, "", stopped="partner_busy"), week)

    assert look() == Look(())


def test_one_tenants_fault_keeps_nobody_else_from_being_looked_at(
    sandbox: RunningSandbox, new_tenant: NewTenant, look: Callable[[], Look]
) -> None:
    tenants = [new_tenant(sandbox, name) for name in ("sakura", "ume", "yuri")]
    for each in tenants:
        ago(each, "0")
    with tenants[0].services.database.transaction(Login.MIGRATOR, "sakura") as tx:
        tx.exec_driver_sql("SET LOCAL ROLE zest_owner")
        tx.exec_driver_sql(
            "CREATE POLICY broken ON sync.connection AS RESTRICTIVE FOR SELECT TO zest_land "
            "USING (1 / (current_setting('app.tenant') NOT IN ('sakura', 'ume'))::int = 1)"
        )

    seen = look()

    assert {each.partition for each in seen.answers} == {"yuri"}
    assert "sakura: " in seen.failure
    assert "ume: " in seen.failure


def test_keys_of_nobody_are_taken_away_but_for_those_that_an_unfinished_run_is_for(
    instance: DagsterInstance, look: Callable[[], Look], sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    new_tenant(sandbox)
    instance.add_dynamic_partitions("fhir_tenants", ["sakura", "typed", "launched", "launched_week"])
    waiting = {"dagster/partition": "launched"}, {"dagster/partition/tenant": "launched_week"}
    for tags in waiting:
        job = definitions.resolve_job_def("fhir_watch")
        instance.create_run_for_job(job, tags=dict(tags), status=DagsterRunStatus.NOT_STARTED)

    look()

    assert instance.get_dynamic_partitions("fhir_tenants") == ["sakura", "launched", "launched_week"]
