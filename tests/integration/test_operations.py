"""The jobs that a person launches from the launchpad, in real Dagster runs: their config, their acts, their events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, ExecuteInProcessResult, instance_for_test
from flow_bench import push_now
from paper_partner import PAPER

from partners.contract import Entity, Partner
from partners.fhir.sandbox.testing import RunningSandbox
from resources.http import Http
from resources.logins import Logins
from resources.vault import Vault
from zest_pipelines.core.boxes import BOX
from zest_pipelines.core.outcome import PendingState
from zest_pipelines.core.weeks import Days
from zest_pipelines.definitions import define, definitions
from zest_pipelines.flows.operate import release, stopped
from zest_pipelines.flows.reports import (
    AccumulateReport,
    ApplyReport,
    DiffReport,
    LandReport,
    PeriodCounts,
    PeriodReport,
    PlanReport,
    Problem,
    PushReport,
    StoppedReport,
)
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration.assets import Stations
from zest_pipelines.orchestration.operations import Acts
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import UnknownConnectionError
from zest_pipelines.store.requests import Selection, StoppedGroup

NewTenant = Callable[..., Any]
OPS = {
    "sync_now": "bring_up_to_date",
    "push_period": "push_days",
    "release": "try_again",
    "abandon": "give_up",
    "adopt": "take_as_delivered",
    "pause": "stop_calls",
    "resume": "let_calls_go_on",
}
RECORD = str(uuid4())
NAMED = {"abandon": {"record": RECORD}, "adopt": {"record": RECORD, "partner_id": "a-17"}}
"""What the launchpad cannot fill in, but for the tenant."""
ACTS = ("push_period", "release", "pause", "resume", "abandon", "adopt")
WRITTEN = replace(PAPER, writes={Entity.VISIT: "visits", Entity.VISIT_RECORD: "records"})


@dataclass
class Script:
    """What each function reports, or raises; and how it was called."""

    acts: Mapping[str, Any] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def stations(self) -> Stations:
        return Stations(
            land=self._act("land", LandReport("client", "s1", "certified", records=3)),
            diff=self._act("diff", DiffReport("client")),
            apply=self._act("apply", ApplyReport("client", landed_records=3, applied_records=3)),
            accumulate=self._act("accumulate", AccumulateReport()),
            push=self._act("push", PushReport(delivered=1)),
            plans=self._act("plans", PlanReport(LandReport("plan", "s1", "certified"))),
            certificate_until=lambda *_: None,
        )

    def operators(self) -> Acts:
        done = PeriodReport(Days(date(2026, 11, 23), date(2026, 11, 29)), "r1", visits=PeriodCounts(delivered=2))
        told = {"push_period": done, "would_release": (), "stopped": StoppedReport()}
        return Acts(**{name: self._act(name, told.get(name)) for name in ("find", "would_release", "stopped", *ACTS)})

    def _act(self, name: str, otherwise: Any) -> Any:
        def act(_services: object, _partner: Partner, *arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            told = self.acts.get(name, otherwise)
            if isinstance(told, Exception):
                raise told
            return told

        return act


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """Dagster, and a data directory whose database nobody asks."""
    Logins.generate(str(tmp_path), 5432, environ={}).write(tmp_path / "logins.json")
    Vault.create_file(tmp_path / "vault.key")
    monkeypatch.setenv("ZEST_DATA_DIR", str(tmp_path))
    with DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def services(database: Database, logins: Logins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    """Services whose vault is the one that runs find in the data directory, which is the test's own database's."""
    logins.write(tmp_path / "logins.json")
    monkeypatch.setenv("ZEST_DATA_DIR", str(tmp_path))
    return Services(database, Vault.create_file(tmp_path / "vault.key"), Http(total_seconds=3))


def _run(instance: DagsterInstance, script: Script, operation: str, **config: Any) -> ExecuteInProcessResult:
    """The job, launched with what the launchpad is filled with and `config` put over it."""
    job = define([WRITTEN], script.stations(), acts=script.operators()).resolve_job_def(f"paper_{operation}")
    assert job.run_config is not None
    filled = job.run_config["ops"][f"paper_{OPS[operation]}"]["config"]
    run_config = {"ops": {f"paper_{OPS[operation]}": {"config": filled | config}}}
    return job.execute_in_process(instance=instance, run_config=run_config, raise_on_error=False)


def _events(instance: DagsterInstance, result: ExecuteInProcessResult, kind: DagsterEventType) -> list[DagsterEvent]:
    return [entry.get_dagster_event() for entry in instance.all_logs(result.run_id, of_type=kind)]


def _failure(result: ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    told = event.step_failure_data.user_failure_data
    assert told is not None, event.step_failure_data.error
    return told.description or ""


def _shown(instance: DagsterInstance, result: ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = _events(instance, result, DagsterEventType.STEP_OUTPUT)
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def test_each_partner_has_seven_operations_that_say_what_they_do() -> None:
    for name in OPS:
        job = definitions.resolve_job_def(f"fhir_{name}")
        assert "put the tenant's id in place of TENANT" in (job.description or "")
        assert {"zest/partner": "fhir", "zest/operation": name}.items() <= job.tags.items()


@pytest.mark.parametrize("operation", OPS)
def test_the_launchpad_is_filled_in_so_that_only_the_tenant_and_the_record_are_to_be_changed(
    instance: DagsterInstance, operation: str
) -> None:
    script = Script()

    unchanged = _run(instance, script, operation)
    changed = _run(instance, Script(), operation, tenant="ume", **NAMED.get(operation, {}))

    assert "Put a tenant's id in place of TENANT; `zest status`" in _failure(unchanged)
    assert script.calls == []
    assert changed.success


@pytest.mark.parametrize("operation", OPS)
def test_a_tenant_that_is_not_connected_ends_with_the_next_step(instance: DagsterInstance, operation: str) -> None:
    unknown = UnknownConnectionError("nobody", "paper")
    script = Script(dict.fromkeys(("find", "would_release", *ACTS), unknown))

    result = _run(instance, script, operation, tenant="nobody", **NAMED.get(operation, {}))

    assert "`zest connect nobody paper ...`" in _failure(result)
    assert "`zest status`, and the partitions" in _failure(result)
    assert len(script.calls) == 1
    for kind in (DagsterEventType.ASSET_CHECK_EVALUATION, DagsterEventType.ASSET_MATERIALIZATION):
        assert _events(instance, result, kind) == []  # nothing stands under a key that there is none of


@pytest.mark.parametrize("operation", OPS)
def test_nothing_that_a_foreign_exception_says_reaches_the_event_log(instance: DagsterInstance, operation: str) -> None:
    script = Script({name: ValueError("家族名 佐藤") for name in ("land", *ACTS)})

    result = _run(instance, script, operation, tenant="ume", **NAMED.get(operation, {}))

    assert not result.success
    assert not [entry for entry in map(repr, instance.all_logs(result.run_id)) if "佐藤" in entry]


@pytest.mark.parametrize(
    ("operation", "config", "words"),
    [
        ("push_period", {"first_day": "next monday"}, "first_day is neither `today` nor a date such as 2026-11-23"),
        ("push_period", {"days": 0}, "days: Input should be greater than or equal to 1"),
        ("push_period", {"days": 93}, "days: Input should be less than or equal to 92"),
        ("release", {"entity": "client"}, "entity is one of all, visit, visit_record"),
        ("release", {"record": "12"}, "record is `all` or a record's id"),
        ("release", {"because": "no reason"}, "because is `all`, or a code"),
        ("release", {"week": "2026-11-24"}, "that week begins on 2026-11-23"),
        ("release", {"week": "next"}, "week is `all`, or a Monday"),
        ("abandon", {}, "Put a record's id, as checks and `zest explain` show it, in place of RECORD"),
        ("abandon", {"record": RECORD, "entity": "all"}, "entity is one of visit, visit_record"),
        ("adopt", {"record": RECORD}, "Put the id that"),
        ("adopt", {"record": RECORD, "partner_id": " "}, "in place of PARTNER_ID"),
        ("sync_now", {"tenant": ""}, "Put a tenant's id in place of TENANT"),
    ],
)
def test_a_config_that_cannot_be_meant_says_what_to_write(
    instance: DagsterInstance, operation: str, config: dict[str, Any], words: str
) -> None:
    script = Script()

    told = _failure(_run(instance, script, operation, **{"tenant": "ume", **config}))

    assert words in told
    assert "launch it again" in told
    assert script.calls == []


def test_sync_now_passes_the_stations_of_the_assets_and_logs_what_they_would(instance: DagsterInstance) -> None:
    script = Script()

    result = _run(instance, script, "sync_now", tenant="ume")

    assert [name for name, *_ in script.calls] == ["find", "land", "diff", "apply", "accumulate", "push"]
    made = [e.step_materialization_data.materialization for e in _events(
        instance, result, DagsterEventType.ASSET_MATERIALIZATION)]  # fmt: skip
    assert [(each.asset_key.path[-1], each.partition) for each in made] == [
        (name, "ume")
        for name in ("landed_clients", "client_changes", "applied_clients", "visit_changes", "pushed_visits")
    ]
    checks = [e.asset_check_evaluation_data for e in _events(
        instance, result, DagsterEventType.ASSET_CHECK_EVALUATION)]  # fmt: skip
    assert {"snapshot_certified", "equals_landed", "not_stopped"} <= {each.check_name for each in checks}
    assert {each.partition for each in checks} == {"ume"}
    assert _shown(instance, result)["pushed_visits: delivered"] == 1


def test_sync_now_of_a_partner_that_is_away_fails_with_what_to_do_and_still_pushes(instance: DagsterInstance) -> None:
    script = Script({"land": LandReport("client", "s1", "failed", "credential_refused")})

    result = _run(instance, script, "sync_now", tenant="ume")

    assert 'enter it again in "Connection settings"' in _failure(result)
    assert "push" in [name for name, *_ in script.calls]


def test_push_period_counts_its_days_from_today_in_japan_or_a_date(instance: DagsterInstance) -> None:
    script = Script()

    _run(instance, script, "push_period", tenant="ume")
    result = _run(instance, script, "push_period", tenant="ume", first_day="2026-11-23", days=3)

    japan = datetime.now(UTC).astimezone(timezone(timedelta(hours=9))).date()
    assert script.calls == [
        ("push_period", "ume", Days(japan, japan + timedelta(days=6))),
        ("push_period", "ume", Days(date(2026, 11, 23), date(2026, 11, 25))),
    ]
    assert _shown(instance, result)["visits_delivered"] == 2
    assert _shown(instance, result)["outcome"] == "The partner has all 2 records."


def test_push_period_is_red_when_a_person_has_to_act_and_green_when_it_goes_on_by_itself(
    instance: DagsterInstance,
) -> None:
    days = Days(date(2026, 11, 23), date(2026, 11, 29))
    refused = PeriodReport(days, "r1", visits=PeriodCounts(refused=1))
    waiting = PeriodReport(days, "r1", visits=PeriodCounts(waiting=1), stopped="partner_busy")

    red = _run(instance, Script({"push_period": refused}), "push_period", tenant="ume")
    green = _run(instance, Script({"push_period": waiting}), "push_period", tenant="ume")

    assert "The only record is refused." in _failure(red)
    assert "We go on by ourselves" in _shown(instance, green)["outcome"]


def test_release_takes_what_was_named_and_pushes_once(instance: DagsterInstance) -> None:
    everything, one, record = Script(), Script(), uuid4()

    _run(instance, everything, "release", tenant="ume")
    _run(instance, one, "release", tenant="ume", entity="visit", record=str(record))

    of_all, named = ("ume", Selection()), ("ume", Selection(Entity.VISIT, UUID(str(record))))
    pushed = [("accumulate", "ume"), ("push", "ume", BOX)]
    for script, asked in ((everything, of_all), (one, named)):
        assert script.calls == [("would_release", *asked), ("release", *asked), *pushed, ("stopped", *asked)]


def test_a_release_of_a_group_says_first_what_it_is(instance: DagsterInstance) -> None:
    group = Selection(reason="slot_taken", days=Days(date(2026, 11, 23), date(2026, 11, 29)))
    script = Script({"would_release": (StoppedGroup(Entity.VISIT, PendingState.PARKED, "slot_taken", 3),)})

    result = _run(instance, script, "release", tenant="ume", because="slot_taken", week="2026-11-23")

    assert script.calls[:2] == [("would_release", "ume", group), ("release", "ume", group)]
    assert _shown(instance, result)["tried_again"] == "3 visits (parked, slot_taken)"
    script.calls.clear()

    result = _run(instance, script, "release", tenant="ume", because="slot_taken", week="2026-11-23", only_show=True)

    assert script.calls == [("would_release", "ume", group)]
    assert _shown(instance, result) == {"would_try_again": "3 visits (parked, slot_taken)"}


@pytest.mark.parametrize("record", ["all", str(uuid4())], ids=["all", "one"])
def test_a_release_that_was_refused_once_more_says_so_and_is_red_for_a_record_that_was_named(
    instance: DagsterInstance, record: str
) -> None:
    left = StoppedReport(again=2, untried=1, problems=(Problem("visit", "v1", "parked", "slot_taken"),))

    result = _run(instance, Script({"stopped": left}), "release", tenant="ume", record=record)

    assert result.success is (record == "all")
    outcome = _shown(instance, result)["outcome"] if result.success else _failure(result)
    assert "2 records are stopped once more. The partner already has another booking" in outcome
    assert 'press "Send again"' in outcome
    assert "1 record waits for the push that is under way" in outcome


def test_a_release_tells_what_is_stopped_once_more_from_what_no_push_has_taken_up_yet(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox)
    tenant.take_in()
    refused, other = tenant.add_visit(), tenant.add_visit()
    asked = (tenant.services, tenant.partner, tenant.name)
    sandbox.set_faults({"kind": "status", "method": "POST", "type": "Appointment", "status": 422, "times": 3})
    push_now(tenant)
    release(*asked, Selection(Entity.VISIT, refused))
    assert stopped(*asked) == StoppedReport(again=1, untried=1, problems=stopped(*asked).problems)
    assert stopped(*asked, Selection(Entity.VISIT, refused)) == StoppedReport(untried=1)
    push_now(tenant)
    report = stopped(*asked, Selection(record_id=refused))
    assert (report.again, report.untried) == (1, 0)
    assert [(each.record, each.outcome, each.reason) for each in report.problems] == [
        (str(refused), "parked", "content_refused")
    ]
    assert stopped(*asked, Selection(Entity.VISIT_RECORD)) == StoppedReport()
    release(*asked)
    push_now(tenant)
    assert stopped(*asked) == StoppedReport()
    assert [tenant.outcomes(each)[-1][1] for each in (refused, other)] == ["delivered"] * 2


def test_a_word_on_one_record_is_handed_on_and_says_when_it_is_carried_out(instance: DagsterInstance) -> None:
    script = Script()

    abandoned = _run(instance, script, "abandon", tenant="ume", record=RECORD, reason="tenant gone")
    adopted = _run(instance, script, "adopt", tenant="ume", entity="visit_record", record=RECORD, partner_id="a-17")

    assert script.calls == [
        ("abandon", "ume", Entity.VISIT, UUID(RECORD), "tenant gone"),
        ("adopt", "ume", Entity.VISIT_RECORD, UUID(RECORD), "a-17", "Decided in Dagster"),
    ]
    for result in (abandoned, adopted):
        assert "it is carried out at the next minute" in _shown(instance, result)["next_action"]


def test_pause_and_resume_say_what_happens_next(instance: DagsterInstance) -> None:
    script = Script()

    paused = _run(instance, script, "pause", tenant="ume", reason="server moves")
    resumed = _run(instance, script, "resume", tenant="ume")

    assert script.calls == [("pause", "ume", "server moves"), ("resume", "ume")]
    assert "paper_resume" in _shown(instance, paused)["next_action"]
    assert "next minute" in _shown(instance, resumed)["next_action"]


def test_for_a_paused_tenant_nobody_is_called_until_it_is_resumed_and_a_release_sends_what_was_parked(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox)

    def run(instance: DagsterInstance, operation: str, **config: Any) -> ExecuteInProcessResult:
        job = definitions.resolve_job_def(f"fhir_{operation}")
        run_config = {"ops": {f"fhir_{OPS[operation]}": {"config": {"tenant": "sakura"} | config}}}
        return job.execute_in_process(instance=instance, run_config=run_config, raise_on_error=False)

    with instance_for_test() as instance:
        assert run(instance, "sync_now").success
        visit = tenant.add_visit()
        assert run(instance, "pause").success
        calls = len(sandbox.journal())
        assert "connection is paused" in _failure(run(instance, "sync_now"))
        assert len(sandbox.journal()) == calls
        assert run(instance, "resume").success
        sandbox.set_faults({"kind": "status", "method": "POST", "type": "Appointment", "status": 422, "times": 1})
        run(instance, "sync_now")
        assert [outcome for _, outcome in tenant.outcomes(visit)] == ["parked"]
        unknown = uuid4()
        assert f"has no visit {unknown}" in _failure(run(instance, "release", entity="visit", record=str(unknown)))
        assert run(instance, "release", entity="visit", record=str(visit)).success
    assert [outcome for _, outcome in tenant.outcomes(visit)][-1] == "delivered"
