"""The assets in real Dagster runs, over stations that report what a test says: one tenant, many, faults, subsets."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, DagsterEvent, DagsterEventType, DagsterInstance, ExecuteInProcessResult
from paper_partner import PAPER

from partners.contract import Partner
from resources.logins import Logins
from resources.vault import Vault
from zest_pipelines.core.boxes import BOX
from zest_pipelines.definitions import define
from zest_pipelines.flows.reports import AccumulateReport, ApplyReport, DiffReport, LandReport, PlanReport, PushReport
from zest_pipelines.orchestration import steps
from zest_pipelines.orchestration.assets import Stations
from zest_pipelines.store.errors import DatabaseUnreachableError, UnknownConnectionError

TENANTS = ["sakura", "ume", "matsu"]
BACKGROUND = {"zest/lane": "background"}
ALL_THREE = {
    "dagster/asset_partition_range_start": "sakura",
    "dagster/asset_partition_range_end": "matsu",
}
IN_ASSETS = ["landed_clients", "client_changes", "applied_clients"]
OUT_ASSETS = ["visit_changes", "pushed_visits"]
ASK = ("nothing_held_back", "projection_agrees")
PARTNER_AWAY = LandReport("client", "s1", "failed", "partner_unreachable")


@dataclass
class Script:
    """What each station reports for a tenant, or raises; by default that it found nothing new."""

    acts: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    """How long a station takes."""
    under_way: list[str] = field(default_factory=list)
    most_at_once: int = 0
    turns: list[float] = field(default_factory=list)
    """Seconds that each push was given."""

    def stations(self) -> Stations:
        """Stations that follow the script."""
        return Stations(
            land=self._station("land", LandReport("client", "s1", "certified", records=3)),
            diff=self._station("diff", DiffReport("client")),
            apply=self._station("apply", ApplyReport("client", landed_records=3, applied_records=3)),
            accumulate=self._station("accumulate", AccumulateReport()),
            push=self._station("push", PushReport()),
            plans=self._station("plans", PlanReport(LandReport("plan", "s1", "certified"))),
            certificate_until=lambda *_: None,
        )

    def _station(self, name: str, otherwise: Any) -> Any:
        def act(_services: object, _partner: Partner, tenant: str, *how: Any) -> Any:
            self.calls.append((name, tenant))
            if name == "push":
                self.turns += how
            self.under_way.append(tenant)
            self.most_at_once = max(self.most_at_once, len(self.under_way))
            time.sleep(self.seconds)
            self.under_way.remove(tenant)
            told = self.acts.get((name, tenant), otherwise)
            if isinstance(told, Exception):
                raise told
            return told

        return act


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """Dagster with three tenants' keys, and a data directory whose database nobody asks."""
    Logins.generate(str(tmp_path), 5432, environ={}).write(tmp_path / "logins.json")
    Vault.create_file(tmp_path / "vault.key")
    monkeypatch.setenv("ZEST_DATA_DIR", str(tmp_path))
    with DagsterInstance.ephemeral() as made:
        made.add_dynamic_partitions("paper_tenants", TENANTS)
        yield made


def _run(
    instance: DagsterInstance,
    script: Script,
    *,
    tenant: str | None = None,
    tags: Mapping[str, str] | None = None,
    job: str | None = "paper_in",
    assets: Sequence[str] | None = None,
) -> ExecuteInProcessResult:
    """`job` None: as the UI materializes assets, but for the checks that ask a database. Without checks if `tags` are
    those of a background run."""
    definitions = define([PAPER], script.stations())
    chosen = definitions.resolve_job_def(job) if job else definitions.resolve_implicit_global_asset_job_def()
    made = frozenset(chosen.asset_layer.selected_asset_keys)
    if assets is not None:
        made = frozenset(AssetKey(["paper", name]) for name in assets)
    is_background = tags is not None and BACKGROUND.items() <= tags.items()
    checks = [] if is_background else chosen.asset_layer.asset_graph.asset_check_keys
    planned = frozenset(key for key in checks if key.asset_key in made and key.name not in ASK)
    return chosen.get_subset(asset_selection=made, asset_check_selection=planned).execute_in_process(
        instance=instance, partition_key=tenant, tags=dict(tags or {}), raise_on_error=False
    )


def _logged(instance: DagsterInstance, result: ExecuteInProcessResult) -> list[DagsterEvent]:
    """From the event log: the result itself forgets what was logged before a step raised."""
    return [entry.dagster_event for entry in instance.all_logs(result.run_id) if entry.dagster_event]


def _made(instance: DagsterInstance, result: ExecuteInProcessResult) -> list[tuple[str, str | None]]:
    return [
        (event.asset_key.path[-1], event.partition)
        for event in _logged(instance, result)
        if event.is_step_materialization and event.asset_key
    ]


def _failed_checks(instance: DagsterInstance, result: ExecuteInProcessResult) -> list[tuple[str, str | None]]:
    checks = [
        event.asset_check_evaluation_data
        for event in _logged(instance, result)
        if event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    return [(check.check_name, check.partition) for check in checks if not check.passed]


def _description(result: ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    return failure.description or ""


def test_a_run_that_a_person_asked_for_makes_all_that_was_selected(instance: DagsterInstance) -> None:
    result = _run(instance, Script(), tenant="ume")

    assert result.success
    assert _made(instance, result) == [(name, "ume") for name in IN_ASSETS]


def test_a_background_run_of_one_tenant_makes_only_what_happened(instance: DagsterInstance) -> None:
    result = _run(instance, Script(), tenant="ume", tags=BACKGROUND)

    assert result.success
    assert _made(instance, result) == [("landed_clients", "ume")]


def test_a_run_of_many_tenants_logs_each_tenants_own_events(instance: DagsterInstance) -> None:
    script = Script({("push", "ume"): PushReport(delivered=2)})

    result = _run(instance, script, job="paper_out", tags=BACKGROUND | ALL_THREE)

    assert result.success
    assert _made(instance, result) == [("pushed_visits", "ume")]
    for tenant in TENANTS:
        assert [name for name, called in script.calls if called == tenant] == ["accumulate", "push"]


def test_a_background_run_of_many_works_for_four_at_once_and_logs_in_its_own_thread(instance: DagsterInstance) -> None:
    names = [f"t{number:02}" for number in range(12)]
    instance.add_dynamic_partitions("paper_tenants", names)
    script = Script({("push", name): PushReport(delivered=1) for name in names}, seconds=0.1)
    check = DagsterEventType.ASSET_CHECK_EVALUATION

    began = time.monotonic()
    result = _run(instance, script, job="paper_out", tags=BACKGROUND | _range("t00", "t11"))
    took = time.monotonic() - began

    assert took < 12 * 2 * 0.1, "one after the other they take that long"
    assert script.most_at_once == steps.TENANTS_AT_ONCE == 4
    assert sorted(_made(instance, result)) == [("pushed_visits", name) for name in names]
    told = [
        event.asset_check_evaluation_data.partition if event.event_type is check else event.partition
        for event in _logged(instance, result)
        if event.event_type in (check, DagsterEventType.ASSET_MATERIALIZATION)
    ]
    assert len(told) == 4 * len(names)
    assert len([key for key, before in zip(told, [None, *told], strict=False) if key != before]) == len(names), (
        "a tenant's events do not stand together"
    )


def test_a_persons_run_of_many_tenants_logs_for_each_tenant_what_happened_to_it(
    instance: DagsterInstance,
) -> None:
    script = Script({("land", "ume"): PARTNER_AWAY})

    result = _run(instance, script, tags=ALL_THREE)

    assert result.success
    assert _made(instance, result) == [("landed_clients", "sakura"), ("landed_clients", "matsu")]


def test_one_unreachable_partner_fails_its_tenants_check_while_the_others_go_on(
    instance: DagsterInstance,
) -> None:
    script = Script({("land", "ume"): PARTNER_AWAY})

    result = _run(instance, script, tags=BACKGROUND | ALL_THREE)

    assert result.success
    assert _failed_checks(instance, result) == [("snapshot_certified", "ume")]
    assert sorted(_made(instance, result)) == [("landed_clients", "matsu"), ("landed_clients", "sakura")]
    assert ("apply", "ume") in script.calls  # what landed before is seen to all the same


def test_a_reading_that_broke_off_after_something_landed_lets_that_be_applied(
    instance: DagsterInstance,
) -> None:
    broken = LandReport("client", "s1", "failed", "partner_unreachable", records=2)
    script = Script({("land", "ume"): broken})

    _run(instance, script, tenant="ume", tags=BACKGROUND)

    assert script.calls == [("land", "ume"), ("diff", "ume"), ("apply", "ume")]


def test_a_tenant_without_a_connection_fails_the_run_that_a_person_asked_for(
    instance: DagsterInstance,
) -> None:
    script = Script({("land", "ume"): UnknownConnectionError("ume", "paper")})

    result = _run(instance, script, tenant="ume")

    assert not result.success
    assert "`zest connect ume paper ...`" in _description(result)
    assert ("snapshot_certified", "ume") in _failed_checks(instance, result)


def test_a_database_that_is_away_fails_the_run_at_once_and_blames_no_tenant(
    instance: DagsterInstance,
) -> None:
    names = [f"t{number:02}" for number in range(30)]
    instance.add_dynamic_partitions("paper_tenants", names)
    away = DatabaseUnreachableError("the database does not answer")
    script = Script({("accumulate", name): away for name in names})

    result = _run(instance, script, job="paper_out", tags=BACKGROUND | _range("t00", "t29"))

    assert not result.success
    assert _failed_checks(instance, result) == []
    assert len(script.calls) <= 2 * steps.TENANTS_AT_ONCE  # those under way, and no more


def test_a_bug_met_at_one_tenant_fails_the_run_only_after_the_others(instance: DagsterInstance) -> None:
    script = Script({("push", "sakura"): ValueError("家族名 佐藤"), ("push", "matsu"): PushReport(delivered=1)})

    result = _run(instance, script, job="paper_out", tags=BACKGROUND | ALL_THREE)

    assert not result.success
    assert _made(instance, result) == [("pushed_visits", "matsu")]
    assert _failed_checks(instance, result) == [("not_stopped", "sakura")]


def test_nothing_that_a_foreign_exception_says_reaches_the_event_log(instance: DagsterInstance) -> None:
    script = Script({("push", "sakura"): ValueError("家族名 佐藤")})

    result = _run(instance, script, job="paper_out", tenant="sakura")

    logged = [repr(entry) for entry in instance.all_logs(result.run_id)]
    assert not result.success
    assert not [entry for entry in logged if "佐藤" in entry]


def test_what_was_accumulated_before_is_pushed_even_if_accumulating_fails(instance: DagsterInstance) -> None:
    script = Script({("accumulate", "ume"): UnknownConnectionError("ume", "paper")})

    _run(instance, script, job="paper_out", tenant="ume", tags=BACKGROUND)

    assert ("push", "ume") in script.calls


def test_a_selection_runs_its_own_stations_alone(instance: DagsterInstance) -> None:
    script = Script()

    result = _run(instance, script, tenant="ume", assets=["applied_clients"])

    assert script.calls == [("apply", "ume")]
    assert _made(instance, result) == [("applied_clients", "ume")]


def test_both_ways_materialized_in_one_run_skip_nothing(instance: DagsterInstance) -> None:
    result = _run(instance, Script(), tenant="ume", job=None, assets=IN_ASSETS + OUT_ASSETS)

    assert result.success
    assert [event for event in result.all_events if event.is_step_skipped] == []
    assert _made(instance, result) == [(name, "ume") for name in IN_ASSETS + OUT_ASSETS]


def test_a_run_without_a_tenant_says_that_one_must_be_chosen(instance: DagsterInstance) -> None:
    result = _run(instance, Script())

    assert not result.success
    assert "No tenant was chosen" in _description(result)


def test_a_missing_data_directory_is_a_failure_that_names_the_next_step(
    instance: DagsterInstance, tmp_path: Path
) -> None:
    (tmp_path / "logins.json").unlink()

    result = _run(instance, Script(), tenant="ume")

    assert not result.success
    assert "`zest init`" in _description(result)


def test_the_partitions_of_assets_and_checks_show_each_tenant_apart(instance: DagsterInstance) -> None:
    _run(instance, Script({("land", "ume"): PARTNER_AWAY}), tags=BACKGROUND | ALL_THREE)

    made = instance.get_materialized_partitions(AssetKey(["paper", "landed_clients"]))
    assert made == {"sakura", "matsu"}


def _planned(instance: DagsterInstance, result: ExecuteInProcessResult) -> list[str]:
    planned = DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
    return [entry.message for entry in instance.all_logs(result.run_id, of_type=planned)]


def _count(instance: DagsterInstance, result: ExecuteInProcessResult) -> int:
    return len(instance.all_logs(result.run_id))


def test_tenants_for_whom_nothing_happens_add_no_event_to_a_packed_run(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "1")
    names = [f"t{number:02}" for number in range(30)]
    instance.add_dynamic_partitions("paper_tenants", names)
    script = Script({("push", name): PushReport(delivered=2) for name in names[::14]})

    few = _run(instance, script, job="paper_out", tags=BACKGROUND | _range("sakura", "matsu"))
    many = _run(instance, script, job="paper_out", tags=BACKGROUND | _range("t00", "t29"))

    assert len(_made(instance, many)) == 3
    assert _planned(instance, many) == []
    # A materialization and three answers for each of the three that had something.
    assert _count(instance, many) == _count(instance, few) + 3 * 4
    assert _count(instance, few) < 25


def test_a_persons_run_plans_its_checks_and_a_background_run_none(instance: DagsterInstance) -> None:
    asked = _run(instance, Script(), job="paper_out", tenant="ume")
    unasked = _run(instance, Script(), job="paper_out", tenant="ume", tags=BACKGROUND)

    assert len(_planned(instance, asked)) == len(_answers(instance, asked)) == 3
    assert (_planned(instance, unasked), _answers(instance, unasked)) == ([], [])


def test_a_check_that_is_well_again_is_answered_though_nothing_happened(instance: DagsterInstance) -> None:
    stopped = Script({("push", "ume"): PushReport(stopped="partner_unreachable", is_held=True)})
    _run(instance, stopped, job="paper_out", tags=BACKGROUND | ALL_THREE)

    first = _run(instance, Script(), job="paper_out", tags=BACKGROUND | ALL_THREE)
    second = _run(instance, Script(), job="paper_out", tags=BACKGROUND | ALL_THREE)

    assert _answers(instance, first) == [("not_stopped", "ume", True)]
    assert _answers(instance, second) == []


def test_a_fault_that_lasts_is_answered_once_and_not_with_every_run(instance: DagsterInstance) -> None:
    script = Script({("push", "ume"): PushReport(parked=1, stopped="credential_refused", is_held=True)})

    runs = [_run(instance, script, job="paper_out", tags=BACKGROUND | ALL_THREE) for _ in range(2)]
    asked = _run(instance, script, job="paper_out", tenant="ume")

    assert [_answers(instance, run) for run in runs] == [[("not_stopped", "ume", False)], []]
    assert len(_answers(instance, asked)) == 3


@pytest.mark.parametrize("code", ["partner_unreachable", "outside_window", "budget_deferred", "push_under_way"])
def test_a_push_that_only_waited_or_met_a_first_fault_says_nothing_of_a_fault_that_lasts(
    instance: DagsterInstance, code: str
) -> None:
    held = Script({("push", "ume"): PushReport(stopped="partner_error", is_held=True)})
    waited = Script({("push", "ume"): PushReport(stopped=code)})
    through = Script({("push", "ume"): PushReport(delivered=1, stopped="time_box_ended")})

    runs = [_run(instance, script, job="paper_out", tags=BACKGROUND | ALL_THREE) for script in (waited, held, waited)]
    asked = _run(instance, waited, job="paper_out", tenant="ume")
    closed = _run(instance, through, job="paper_out", tags=BACKGROUND | ALL_THREE)

    stops = [[each for each in _answers(instance, run) if each[0] == "not_stopped"] for run in (*runs, asked, closed)]
    assert stops == [
        [],
        [("not_stopped", "ume", False)],
        [],
        [("not_stopped", "ume", True)],
        [("not_stopped", "ume", True)],
    ]


def test_a_background_run_of_many_takes_no_new_tenant_after_its_time_and_says_how_many_it_leaves(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "TENANTS_AT_ONCE", 1)
    monkeypatch.setattr(steps, "TAKES_KEYS_FOR", 0.05)
    slow, asked = Script(seconds=0.1), Script(seconds=0.1)

    result = _run(instance, slow, job="paper_out", tags=BACKGROUND | ALL_THREE)
    _run(instance, asked, job="paper_out", tags=ALL_THREE)

    assert result.success
    assert [name for name, _ in slow.calls] == ["accumulate", "push"]  # the one that it took, to its end
    left = [entry.user_message for entry in instance.all_logs(result.run_id) if "are left" in entry.user_message]
    assert [words[:27] for words in left] == ["2 of 3 due tenants are left"]
    assert {tenant for _, tenant in asked.calls} == set(TENANTS)  # a person's run leaves none


def test_the_tenants_of_a_background_run_share_its_time_and_a_run_of_one_has_it_all(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "TENANTS_AT_ONCE", 1)
    many, one, asked = Script(), Script(), Script()

    _run(instance, many, job="paper_out", tags=BACKGROUND | ALL_THREE)
    _run(instance, one, job="paper_out", tags=BACKGROUND, tenant="ume")
    _run(instance, asked, job="paper_out", tags=ALL_THREE)

    assert [many.turns, one.turns, asked.turns] == [[BOX / 3] * 3, [BOX], [BOX] * 3]


def test_a_waiting_tenants_check_is_answered_when_its_severity_changes(instance: DagsterInstance) -> None:
    def waiting(minutes: int) -> Script:
        since = datetime.now(UTC) - timedelta(minutes=minutes)
        return Script({("push", "ume"): PushReport(pending=1, oldest_pending=since)})

    runs = [
        _run(instance, waiting(minutes), job="paper_out", tags=BACKGROUND | ALL_THREE) for minutes in (5, 20, 30, 90)
    ]

    assert [len(_answers(instance, run)) for run in runs] == [0, 1, 0, 1]


def _range(first: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def _answers(instance: DagsterInstance, result: ExecuteInProcessResult) -> list[tuple[str, str | None, bool]]:
    checks = [
        event.asset_check_evaluation_data
        for event in _logged(instance, result)
        if event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    return [(check.check_name, check.partition, check.passed) for check in checks]
