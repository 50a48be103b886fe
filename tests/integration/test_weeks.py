"""A tenant's week in real Dagster runs: the grid, what is shown of it, what stops it, one whole way to a partner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from dagster import (
    AssetKey,
    AssetMaterialization,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    Definitions,
    ExecuteInProcessResult,
    in_process_executor,
    instance_for_test,
    partition_loading_context,
)
from flow_bench import copy_of
from paper_partner import PAPER

from partners.contract import Partner, Recovery
from partners.fhir.sandbox.testing import RunningSandbox
from resources.configurable import HttpResource, PostgresResource, VaultResource
from resources.http import Http
from resources.logins import Logins
from resources.vault import Vault
from zest_pipelines.core.weeks import Days, week_of
from zest_pipelines.definitions import definitions
from zest_pipelines.flows.reports import Mismatch, PeriodCounts, PeriodReport, Problem, ReconcileReport
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration.partitions import week_partitions
from zest_pipelines.orchestration.weeks import WeekStations, week_assets
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import DatabaseUnreachableError, UnknownConnectionError

TODAY = datetime.now(UTC).date()
MONDAY = week_of(TODAY).first.isoformat()
WEEK = f"sakura|{MONDAY}"
PUSHED, READ_BACK = "pushed_weeks", "reconciled_weeks"
WEEKLY = replace(PAPER, capability=replace(PAPER.capability, recovery=Recovery.SEARCH))

DONE = PeriodCounts(delivered=2, unchanged=1)


@dataclass
class Script:
    """What the stations report, or raise."""

    pushed: Any = None
    read_back: Any = None
    calls: list[tuple[str, str, Days]] = field(default_factory=list)

    def stations(self) -> WeekStations:
        """Stations that follow the script; by default all goes well."""
        return WeekStations(
            push_period=self._station("push", lambda days: self.pushed or PeriodReport(days, "r1", visits=DONE)),
            reconcile=self._station("read_back", lambda days: self.read_back or ReconcileReport(days, 3, 3)),
        )

    def _station(self, name: str, report: Callable[[Days], Any]) -> Any:
        def act(_services: object, _partner: Partner, tenant: str, days: Days) -> Any:
            self.calls.append((name, tenant, days))
            told = report(days)
            if isinstance(told, Exception):
                raise told
            return told

        return act


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """Dagster with two tenants' keys, and a data directory whose database nobody asks."""
    Logins.generate(str(tmp_path), 5432, environ={}).write(tmp_path / "logins.json")
    Vault.create_file(tmp_path / "vault.key")
    monkeypatch.setenv("ZEST_DATA_DIR", str(tmp_path))
    with DagsterInstance.ephemeral() as made:
        made.add_dynamic_partitions("paper_tenants", ["sakura", "ume"])
        yield made


def _tags(key: str) -> dict[str, str]:
    """As the UI launches one key."""
    tenant, week = key.split("|")
    return {"dagster/partition": key, "dagster/partition/tenant": tenant, "dagster/partition/week": week}


def _run(
    instance: DagsterInstance,
    script: Script,
    tags: Mapping[str, str] | None = None,
    assets: Sequence[str] = (PUSHED, READ_BACK),
) -> ExecuteInProcessResult:
    definitions = Definitions(
        assets=week_assets(WEEKLY, script.stations()),
        resources={"postgres": PostgresResource(), "http": HttpResource(), "vault": VaultResource()},
        executor=in_process_executor,
    )
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        tags=dict(_tags(WEEK) if tags is None else tags),
        raise_on_error=False,
        asset_selection=[AssetKey(["paper", name]) for name in assets],
    )


def _events(instance: DagsterInstance, result: ExecuteInProcessResult, kind: DagsterEventType) -> list[DagsterEvent]:
    return [entry.get_dagster_event() for entry in instance.all_logs(result.run_id, of_type=kind)]


def _made(instance: DagsterInstance, result: ExecuteInProcessResult) -> dict[str, AssetMaterialization]:
    events = _events(instance, result, DagsterEventType.ASSET_MATERIALIZATION)
    made = [event.step_materialization_data.materialization for event in events]
    assert all(each.partition == WEEK for each in made)
    return {each.asset_key.path[-1]: each for each in made}


def _numbers(made: AssetMaterialization) -> dict[str, Any]:
    return {name: value.value for name, value in made.metadata.items() if isinstance(value.value, int)}


def _check(instance: DagsterInstance, result: ExecuteInProcessResult, name: str) -> tuple[bool, str, str]:
    """Whether it passed, its severity, and what it says."""
    events = _events(instance, result, DagsterEventType.ASSET_CHECK_EVALUATION)
    (found,) = [each for each in (e.asset_check_evaluation_data for e in events) if each.check_name == name]
    assert found.partition in (WEEK, "gone|" + MONDAY)
    return found.passed, found.severity.value, found.description or ""


def _failure(result: ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    told = event.step_failure_data.user_failure_data
    return (told.description or "") if told else str(event.step_failure_data.error)


# --- The grid --------------------------------------------------------------------------------------------------------


def _weeks(loaded: date, asked: date) -> list[date]:
    """The grid's weeks as a code server that loaded the code on one day offers them on another, at noon in Japan."""
    made = week_partitions(WEEKLY, loaded).get_partitions_def_for_dimension("week")
    with partition_loading_context(effective_dt=datetime.combine(asked, time(3), UTC)):
        return [date.fromisoformat(key) for key in made.get_partition_keys()]


@pytest.mark.parametrize("lived", [timedelta(0), timedelta(days=6), timedelta(weeks=2), timedelta(weeks=4)], ids=str)
@pytest.mark.parametrize("loaded", [date(2026, 11, 23) + timedelta(days=step) for step in range(0, 28, 3)], ids=str)
def test_the_grid_holds_mondays_from_four_weeks_ago_to_eight_ahead_and_at_most_eighteen_in_four_weeks_of_a_server(
    loaded: date, lived: timedelta
) -> None:
    weeks = _weeks(loaded, loaded + lived)

    this = week_of(loaded + lived).first
    assert weeks == [weeks[0] + timedelta(weeks=step) for step in range(len(weeks))]
    assert weeks[0].weekday() == 0
    assert weeks[-1] == this + timedelta(weeks=8)
    assert weeks[0] <= this - timedelta(weeks=4)
    assert len(weeks) <= (14 if lived == timedelta(0) else 18)


def test_a_week_is_named_by_its_monday_in_japan() -> None:
    with partition_loading_context(effective_dt=datetime(2026, 11, 22, 14, 59, tzinfo=UTC)):
        sunday = week_partitions(WEEKLY, date(2026, 11, 22)).get_partitions_def_for_dimension("week")
        assert sunday.get_partition_keys()[-9] == "2026-11-16"
    with partition_loading_context(effective_dt=datetime(2026, 11, 22, 15, 0, tzinfo=UTC)):
        assert sunday.get_partition_keys()[-9] == "2026-11-23"


def test_processes_that_load_the_code_weeks_apart_begin_the_grid_with_the_same_week() -> None:
    starts = [_weeks(day, day)[0] for day in (date(2026, 11, 23) + timedelta(weeks=step) for step in range(52))]

    assert {after - before for before, after in pairwise(sorted(set(starts)))} == {timedelta(weeks=2)}


def test_all_weeks_of_a_tenant_belong_to_the_tenants_changes() -> None:
    (pushed, *_) = week_assets(WEEKLY, Script().stations())
    (dep,) = next(iter(pushed.specs)).deps

    assert dep.asset_key == AssetKey(["paper", "visit_changes"])
    assert dep.partition_mapping is not None
    assert "tenant" in repr(dep.partition_mapping)


def test_no_week_asset_has_a_backfill_policy_because_ranges_carry_no_tenant() -> None:
    assert {each.backfill_policy for each in week_assets(WEEKLY, Script().stations())} == {None}


def test_a_partner_that_cannot_be_read_back_has_no_asset_for_it() -> None:

    keys = [each.key.path[-1] for each in week_assets(PAPER, Script().stations())]

    assert keys == [PUSHED]


# --- What a run shows ------------------------------------------------------------------------------------------------


def test_a_week_is_pushed_and_read_back_in_one_run(instance: DagsterInstance) -> None:
    script = Script()

    result = _run(instance, script)

    assert result.success
    week = week_of(date.fromisoformat(MONDAY))
    assert script.calls == [("push", "sakura", week), ("read_back", "sakura", week)]
    assert set(_made(instance, result)) == {PUSHED, READ_BACK}
    assert _check(instance, result, "week_settled")[0]
    assert _check(instance, result, "equals_read_back")[0]


def test_the_metadata_has_numbers_to_plot_and_a_table_with_each_next_action(instance: DagsterInstance) -> None:
    report = PeriodReport(
        Days(date(2026, 11, 23), date(2026, 11, 29)),
        "r1",
        visits=PeriodCounts(delivered=5, unchanged=4, waiting=3, refused=2),
        visit_records=PeriodCounts(waiting=1),
        problems=(
            Problem("visit", "v1", "parked", "record_refused", {"field": "start|end", "detail": "code 7"}),
            Problem("visit", "v2", "unknown", "timeout_unsure"),
        ),
        seconds=4.5,
    )

    made = _made(instance, _run(instance, Script(pushed=report)))[PUSHED]

    assert _numbers(made) == {
        "visits_delivered": 5,
        "visits_unchanged": 4,
        "visits_waiting": 3,
        "visits_refused": 2,
        "visit_records_delivered": 0,
        "visit_records_unchanged": 0,
        "visit_records_waiting": 1,
        "visit_records_refused": 0,
    }
    assert made.metadata["seconds"].value == 4.5
    rows = str(made.metadata["summary"].value).splitlines()
    assert rows[2:] == [
        "| delivered | 5 | 0 |  |",
        "| unchanged | 4 | 0 |  |",
        "| waiting | 3 | 1 | We find out by ourselves. Until then please wait, and do not enter it at the partner by hand. |",  # noqa: E501
        '| refused | 2 | 0 | Correct the field (start\\|end) under "Visits" and save. It is then sent again by itself. |',  # noqa: E501
    ]


def test_a_week_with_refused_records_is_shown_red_and_nothing_of_it_is_read_back(instance: DagsterInstance) -> None:
    counts = PeriodCounts(delivered=3, refused=1)
    problem = Problem("visit", "v1", "parked", "slot_taken")
    script = Script(pushed=PeriodReport(Days(TODAY, TODAY), "r1", visits=counts, problems=(problem,)))

    result = _run(instance, script)

    assert not result.success
    assert set(_made(instance, result)) == {PUSHED}
    assert [name for name, *_ in script.calls] == ["push"]
    passed, severity, words = _check(instance, result, "week_settled")
    assert (passed, severity) == (False, "ERROR")
    assert words.startswith("Of 4 records, 1 is refused. ")
    assert 'press "Send again"' in words


def test_a_week_that_was_edited_after_the_launch_is_red_and_says_to_launch_it_again(instance: DagsterInstance) -> None:
    counts = PeriodCounts(delivered=3, waiting=2)
    problems = (Problem("visit", "v1", "waiting", "not_requested_yet"), Problem("visit", "v2", "retry", "partner_busy"))
    script = Script(pushed=PeriodReport(Days(TODAY, TODAY), "r1", visits=counts, problems=problems))

    result = _run(instance, script)

    assert not result.success
    assert [name for name, *_ in script.calls] == ["push"]
    passed, severity, words = _check(instance, result, "week_settled")
    assert (passed, severity) == (False, "ERROR")
    assert words.startswith("Of 5 records, 2 are waiting. Some of it was edited after this run had asked for it. ")
    assert "Launch it again once the plan is settled." in words
    summary = str(_made(instance, result)[PUSHED].metadata["summary"].value)
    assert "| waiting | 2 | 0 | Launch it again once the plan is settled. We go on by ourselves" in summary


def test_a_week_that_goes_on_by_itself_is_a_warning_on_a_green_run_and_is_read_back(instance: DagsterInstance) -> None:
    counts = PeriodCounts(delivered=3, waiting=2)
    report = PeriodReport(Days(TODAY, TODAY), "r1", visits=counts, stopped="partner_busy")

    result = _run(instance, Script(pushed=report, read_back=ReconcileReport(report.days, 3, 3, open=2)))

    assert result.success
    assert set(_made(instance, result)) == {PUSHED, READ_BACK}
    passed, severity, words = _check(instance, result, "week_settled")
    assert (passed, severity) == (False, "WARN")
    assert "We go on by ourselves after a while." in words
    passed, severity, words = _check(instance, result, "equals_read_back")
    assert (passed, severity) == (False, "WARN")
    assert "All 3 records read back are as pushed. Left out: 2, of which" in words
    assert "Launch it again once the week is settled." in words


def test_a_week_of_which_nothing_is_at_the_partner_yet_is_no_green_one(instance: DagsterInstance) -> None:
    result = _run(instance, Script(read_back=ReconcileReport(Days(TODAY, TODAY), open=12)))

    passed, severity, words = _check(instance, result, "equals_read_back")
    assert (passed, severity) == (False, "WARN")
    assert words.startswith("No record was read back. Left out: 12,")


def test_an_empty_week_is_green(instance: DagsterInstance) -> None:
    result = _run(instance, Script(pushed=PeriodReport(Days(TODAY, TODAY), "r1")))

    assert result.success
    assert _check(instance, result, "week_settled")[2] == "There is nothing of these days to send."


def test_a_refused_credential_fails_the_run_with_the_catalogues_words(instance: DagsterInstance) -> None:
    counts = PeriodCounts(waiting=3)
    script = Script(pushed=PeriodReport(Days(TODAY, TODAY), "r1", visits=counts, stopped="credential_refused"))

    result = _run(instance, script)

    assert not result.success
    assert _made(instance, result) == {}
    assert 'enter it again in "Connection settings", "Credential"' in _failure(result)
    assert _check(instance, result, "week_settled")[:2] == (False, "ERROR")
    assert [name for name, *_ in script.calls] == ["push"]


def test_what_the_partner_shows_otherwise_is_named_by_record_and_field(instance: DagsterInstance) -> None:
    mismatches = (Mismatch("visit", "v1", ("starts_at", "note")), Mismatch("visit_record", "v2", ()))
    report = ReconcileReport(
        Days(TODAY, TODAY), compared=5, equal=3, missing=1, differing=1, mismatches=mismatches, seconds=1.0
    )

    result = _run(instance, Script(read_back=report))

    assert not result.success
    made = _made(instance, result)[READ_BACK]
    assert _numbers(made) == {"compared": 5, "equal": 3, "missing": 1, "differing": 1, "open": 0}
    passed, severity, words = _check(instance, result, "equals_read_back")
    assert (passed, severity) == (False, "ERROR")
    assert words.startswith("Of 5 records, 1 is missing there and 1 differs. ")
    assert "visit v1: starts_at, note; visit_record v2: the partner does not have it." in words
    assert "the job paper_release" in words
    assert "What is missing: no edit makes it anew." in words


@pytest.mark.parametrize(
    ("compared", "missing", "differing", "words"),
    [
        (0, 0, 0, "No record was read back."),
        (1, 0, 0, "The only record read back is as pushed."),
        (1, 1, 0, "The only record is missing there. visit v1: note. Look"),
        (4, 0, 3, "Of 4 records, 3 differ. visit v1: note; and 2 more. Look"),
    ],
)
def test_what_was_read_back_is_told_as_people_count(
    instance: DagsterInstance, compared: int, missing: int, differing: int, words: str
) -> None:
    shown = (Mismatch("visit", "v1", ("note",)),) if missing + differing else ()
    equal = compared - missing - differing
    report = ReconcileReport(Days(TODAY, TODAY), compared, equal, missing, differing, mismatches=shown)

    result = _run(instance, Script(read_back=report))

    assert _check(instance, result, "equals_read_back")[2].startswith(words)


def test_a_comparison_that_the_partner_broke_off_is_a_warning(instance: DagsterInstance) -> None:
    report = ReconcileReport(Days(TODAY, TODAY), compared=1, equal=1, stopped="partner_unreachable")

    result = _run(instance, Script(read_back=report))

    assert result.success
    passed, severity, words = _check(instance, result, "equals_read_back")
    assert (passed, severity) == (False, "WARN")
    assert "The partner cannot be reached. Launch it again later" in words
    assert "Launch it again later" in str(_made(instance, result)[READ_BACK].metadata["next_action"].value)


# --- What cannot be done ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [WEEK, f"gone|{MONDAY}"], ids=["known key", "key taken away meanwhile"])
def test_a_tenant_that_is_not_connected_fails_with_the_next_step(instance: DagsterInstance, key: str) -> None:
    script = Script(pushed=UnknownConnectionError(key.split("|")[0], "paper"))

    result = _run(instance, script, _tags(key))

    assert not result.success
    assert f"`zest connect {key.split('|')[0]} paper ...`" in _failure(result)
    assert not _check(instance, result, "week_settled")[0]


def test_a_database_that_is_away_blames_no_week(instance: DagsterInstance) -> None:
    result = _run(instance, Script(pushed=DatabaseUnreachableError("the database does not answer")))

    assert "The database does not answer" in _failure(result)
    assert _events(instance, result, DagsterEventType.ASSET_CHECK_EVALUATION) == []


def test_nothing_that_a_foreign_exception_says_reaches_the_event_log(instance: DagsterInstance) -> None:
    result = _run(instance, Script(pushed=ValueError("家族名 佐藤")))

    assert not result.success
    assert not [entry for entry in map(repr, instance.all_logs(result.run_id)) if "佐藤" in entry]


def test_several_weeks_in_one_run_are_refused_before_anything_is_pushed(instance: DagsterInstance) -> None:
    ends = {
        "dagster/asset_partition_range_start": f"sakura|{MONDAY}",
        "dagster/asset_partition_range_end": f"ume|{MONDAY}",
    }
    script = Script()

    result = _run(instance, script, ends)

    assert script.calls == []
    assert '"Multiple runs"' in _failure(result)


def test_a_week_that_is_none_of_the_grids_is_refused_in_words(instance: DagsterInstance) -> None:
    script = Script()

    result = _run(instance, script, _tags("sakura|2020-01-06"))

    assert script.calls == []
    assert "2020-01-06 is none of the weeks from" in _failure(result)


def test_a_run_without_a_partition_says_that_one_must_be_chosen(instance: DagsterInstance) -> None:
    assert "launch it again with a partition" in _failure(_run(instance, Script(), {}))


# --- Against a real database and a real partner -----------------------------------------------------------------------

NewTenant = Callable[..., Any]


@pytest.fixture
def services(database: Database, logins: Logins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    """Services whose vault is the one that runs find in the data directory, which is the test's own database's."""
    logins.write(tmp_path / "logins.json")
    monkeypatch.setenv("ZEST_DATA_DIR", str(tmp_path))
    return Services(database, Vault.create_file(tmp_path / "vault.key"), Http(total_seconds=3))


@pytest.fixture
def real_instance(services: Services) -> Iterator[DagsterInstance]:
    """Dagster beside the test's own database, with one tenant's key."""
    with instance_for_test() as made:
        made.add_dynamic_partitions("fhir_tenants", ["sakura"])
        yield made


def _launch(instance: DagsterInstance, tags: Mapping[str, str], *assets: str) -> ExecuteInProcessResult:
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        tags=dict(tags),
        raise_on_error=False,
        asset_selection=[AssetKey(["fhir", name]) for name in assets],
    )


def _visit_this_week(tenant: Any, day: int) -> UUID:
    starts_at = datetime.fromisoformat(f"{MONDAY}T09:00:00+09:00") + timedelta(days=day)
    visit: UUID = tenant.add_visit(starts_at=starts_at, ends_at=starts_at + timedelta(hours=1))
    return visit


def _put_record(tenant: Any, visit: UUID) -> None:
    """A record of the visit, done."""
    tenant.sql(
        "INSERT INTO schedule.visit_record (tenant_id, visit_id, started_at, ended_at, status) "
        "SELECT tenant_id, visit_id, starts_at, ends_at, 'done' FROM schedule.visit WHERE visit_id = :id",
        id=visit,
    )


def test_a_week_reaches_the_partner_and_asking_again_changes_nothing_there(
    real_instance: DagsterInstance, sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox, timing="week")
    tenant.take_in()
    visits = [_visit_this_week(tenant, day) for day in (0, 6)]
    of_next_week = _visit_this_week(tenant, 7)

    first = _launch(real_instance, _tags(WEEK), PUSHED, READ_BACK)
    writes = [row for row in sandbox.journal() if row["effect"] != "none"]
    second = _launch(real_instance, _tags(WEEK), PUSHED, READ_BACK)

    assert first.success
    assert second.success
    assert _numbers(_made(real_instance, first)[PUSHED])["visits_delivered"] == 2
    assert _numbers(_made(real_instance, second)[PUSHED])["visits_unchanged"] == 2
    assert _numbers(_made(real_instance, second)[READ_BACK])["equal"] == 2
    assert [row["identifier"] for row in writes] == [str(visit) for visit in visits]
    assert [row for row in sandbox.journal() if row["effect"] != "none"] == writes
    assert tenant.outcomes(of_next_week) == []


def test_a_change_at_the_partner_is_found_by_reading_back_and_named_without_its_value(
    real_instance: DagsterInstance, sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox)
    tenant.take_in()
    visit = _visit_this_week(tenant, 0)
    assert _launch(real_instance, _tags(WEEK), PUSHED, READ_BACK).success
    (there,) = sandbox.state("Appointment")
    sandbox.put(there | {"comment": "電話は090-1234-5678"})

    result = _launch(real_instance, _tags(WEEK), PUSHED, READ_BACK)

    assert not result.success
    assert f"visit {visit}: " in _check(real_instance, result, "equals_read_back")[2]
    assert not [entry for entry in map(repr, real_instance.all_logs(result.run_id)) if "090-1234" in entry]


def test_whoever_does_what_the_red_check_says_ends_with_an_equal_week(
    real_instance: DagsterInstance, sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox, timing="week")
    tenant.take_in()
    visits = corrected, overwritten, restored, made_anew = [_visit_this_week(tenant, day) for day in range(4)]
    for visit in visits:
        _put_record(tenant, visit)
    assert _launch(real_instance, _tags(WEEK), PUSHED, READ_BACK).success
    before = {(kind, visit): copy_of(sandbox, visit, kind) for visit in visits for kind in ("Appointment", "Encounter")}
    for (kind, visit), copy in before.items():
        if visit in (restored, made_anew):
            sandbox.delete(kind, copy["id"])
        else:
            sandbox.put(copy | ({"comment": "theirs"} if kind == "Appointment" else {"status": "cancelled"}))

    red = _launch(real_instance, _tags(WEEK), PUSHED, READ_BACK)

    words = _check(real_instance, red, "equals_read_back")[2]
    assert words.startswith("Of 8 records, 4 are missing there and 4 differ.")
    # "What differs: correct it there. Or let ours win: change the record ...". And "what is missing: ...".
    for (_, visit), copy in before.items():
        if visit in (corrected, restored):
            sandbox.put(copy)
    tenant.edit_visit(overwritten, note="ours")
    tenant.sql("UPDATE schedule.visit_record SET note = 'ours' WHERE visit_id = :id", id=overwritten)
    tenant.edit_visit(made_anew, status="cancelled")
    tenant.sql("DELETE FROM schedule.visit_record WHERE visit_id = :id", id=made_anew)
    _put_record(tenant, _visit_this_week(tenant, 3))
    # "... launch its week again (the change is held, because the partner's copy is another one) ..."
    held = _launch(real_instance, _tags(WEEK), PUSHED, READ_BACK)
    assert (
        "2 are refused. The record was changed at the partner itself." in _check(real_instance, held, "week_settled")[2]
    )
    # "... and launch the job fhir_release, which overwrites that copy."
    assert "fhir_release" in words
    config = {"ops": {"fhir_try_again": {"config": {"tenant": "sakura"}}}}
    assert definitions.resolve_job_def("fhir_release").execute_in_process(config, instance=real_instance).success
    assert copy_of(sandbox, overwritten)["comment"] == "ours"
    equal = _launch(real_instance, _tags(WEEK), PUSHED, READ_BACK)
    assert equal.success
    assert _check(real_instance, equal, "equals_read_back")[::2] == (True, "All 10 records read back are as pushed.")


@pytest.mark.parametrize("assets", [["visit_changes", "pushed_visits"], ["landed_clients"], [PUSHED]])
def test_a_tenant_that_somebody_made_up_in_the_ui_ends_with_the_next_step_even_when_its_key_is_gone(
    real_instance: DagsterInstance, assets: list[str]
) -> None:
    tags = _tags(f"nobody|{MONDAY}") if assets == [PUSHED] else {"dagster/partition": "nobody"}

    result = _launch(real_instance, tags, *assets)

    assert not result.success
    assert "`zest connect" in _failure(result) or "`zest tenant add nobody" in _failure(result)
