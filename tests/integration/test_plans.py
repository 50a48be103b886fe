"""What care managers have planned lands, is compared with what is confirmed, and is never applied.

A scene returns what is broken, in words: nothing, unless a rule is broken on purpose.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from care_office_tenant import connect
from conftest import Tenant
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    Definitions,
    in_process_executor,
)
from evidence import is_told
from swaps import Swap, swapped

from partners.carecsv import partner as declaration
from partners.carecsv.layouts import ENDS, INSURED, INSURER, STARTS
from partners.carecsv.partner import CARECSV, plans_of
from partners.carecsv.sandbox.office import CareOffice, PlanFault, Row, made_up, planned, spoilt
from partners.contract import Connector, Entity, PlanPage
from resources.configurable import HttpResource, PostgresResource, VaultResource
from resources.logins import Login
from zest_pipelines.core import agreement
from zest_pipelines.definitions import STATIONS
from zest_pipelines.flows import planned as flow
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.reports import PlanReport
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.watch import look
from zest_pipelines.orchestration.assets import Stations, inbound_assets
from zest_pipelines.store import due, frames
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.keys import Target

NOW = datetime(2026, 11, 26, 0, 30, tzinfo=UTC)
NINE = datetime(2026, 12, 1, 0, 0, tzinfo=UTC)
ASSET = AssetKey(["carecsv", "landed_plans"])


def line(client: int, day: int = 1, hour: int = 9, service: str = "131111") -> Row:
    """An hour of a service, planned for a made-up client in December."""
    starts = NINE + timedelta(days=day - 1, hours=hour - 9)
    return planned(made_up(1, client), starts, starts + timedelta(hours=1), service)


@dataclass
class Stage:
    """A care manager's office and a tenant that reads its files, on a morning in November."""

    office: CareOffice
    tenant: Tenant
    clients: Mapping[int, UUID] = field(default_factory=dict)
    """Ours, by the made-up number."""

    def take(self) -> PlanReport:
        return flow.take_plans(self.tenant.services, CARECSV, self.tenant.name)

    def send(self, *lines: Row, minute: int = 0) -> str:
        return self.office.send_plans(lines, "202612", NOW + timedelta(minutes=minute))

    def visit(self, client: int, day: int = 1, hour: int = 9, **columns: Any) -> UUID:
        starts = NINE + timedelta(days=day - 1, hours=hour - 9)
        at = {"starts_at": starts, "ends_at": starts + timedelta(hours=1)}
        return self.tenant.add_visit(client_id=self.clients[client], **{"staff_id": uuid4(), **at, **columns})

    def product(self) -> list[Any]:
        """Everything that the product has, and all that was to be sent of it."""
        tables = ("schedule.client", "schedule.visit", "schedule.visit_record", "sync.update_event", "sync.pending")
        return [self.tenant.sql(f"SELECT t::text FROM {each} t ORDER BY 1", Login.OPERATOR) for each in tables]

    def standing(self) -> dict[str, Any]:
        """The newest services, by the partner's id."""
        rows = self.tenant.sql("SELECT partner_id, services FROM sync.landed_plan ORDER BY landed_no", Login.OPERATOR)
        return {row.partner_id: row.services for row in rows}


@pytest.fixture
def stage(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Three clients are linked."""
    monkeypatch.setattr(declaration, "STILL_SECONDS", 0.0)
    office, services = CareOffice(tmp_path), replace(services, now=lambda: NOW)
    tenant = connect(services, office)
    office.send([made_up(1, number) for number in (1, 2, 3)], NOW)
    for station in (land, diff, apply):
        station(services, CARECSV, "sakura", Entity.CLIENT)
    rows = tenant.sql("SELECT number, record_id FROM sync.identity", Login.OPERATOR)
    known = {row.number: row.record_id for row in rows}
    return Stage(office, tenant, {number: known[made_up(1, number)[INSURED]] for number in (1, 2, 3)})


def records(report: PlanReport) -> set[tuple[str, str]]:
    return {(each.reason, each.record) for each in report.problems}


def number_of(stage: Stage, client: int) -> int:
    """The newest landed plan of a client."""
    row = made_up(1, client)
    (found,) = stage.tenant.sql(
        "SELECT max(landed_no) AS no FROM sync.landed_plan WHERE partner_id = :whose",
        Login.OPERATOR,
        whose=f"{row[INSURER]}-{row[INSURED]}",
    )
    return int(found.no)


def test_a_plan_that_is_confirmed_agrees_and_each_difference_is_found_with_its_own_reason(stage: Stage) -> None:
    same, late, other = stage.visit(1, 1), stage.visit(1, 2, 10), stage.visit(1, 3, service_code="131211")
    extra, drafted = stage.visit(2, 1, 15), stage.visit(2, 2, status="draft")
    stage.send(line(1, 1), line(1, 2), line(1, 3), line(2, 2), line(9, 4))
    told = stage.take()
    assert told.landing.is_certified
    assert (told.landing.records, told.landing.new_versions, told.plans) == (3, 3, 2)
    assert (told.agreeing, told.differing, told.missing_here, told.missing_there) == (1, 2, 1, 1)
    assert (told.unlinked, told.without_plan, told.agrees) == (1, 0, False)
    assert records(told) == {
        ("plan_differs", str(late)),
        ("plan_differs", str(other)),
        ("plan_not_confirmed", f"plan:{number_of(stage, 2)}/1"),
        ("visit_not_planned", str(extra)),
        ("plan_client_unlinked", f"plan:{number_of(stage, 9)}"),
    }
    params = {each.reason: each.params for each in told.problems}
    is_told("plan_differs", params["plan_differs"])
    is_told("plan_not_confirmed", params["plan_not_confirmed"])
    is_told("visit_not_planned", params["visit_not_planned"])
    is_told("plan_client_unlinked", params["plan_client_unlinked"])
    fields = {each.record: each.params["fields"] for each in told.problems if each.reason == "plan_differs"}
    assert fields == {str(late): "starts_at, ends_at", str(other): "service_code"}
    assert same not in fields

    stage.tenant.edit_visit(late, starts_at=NINE + timedelta(days=1), ends_at=NINE + timedelta(days=1, hours=1))
    stage.tenant.edit_visit(other, service_code="131111")
    stage.tenant.edit_visit(extra, status="cancelled")
    stage.tenant.edit_visit(drafted, status="confirmed")
    stage.office.send([made_up(1, 9)], NOW + timedelta(minutes=1))
    for station in (land, diff, apply):
        station(stage.tenant.services, CARECSV, "sakura", Entity.CLIENT)
    assert records(again := stage.take()) == {("plan_not_confirmed", f"plan:{number_of(stage, 9)}/1")}
    assert (again.agreeing, again.unlinked, again.landing.new_versions) == (4, 0, 0)


def test_a_visit_of_a_client_without_a_plan_is_counted_and_is_no_finding(stage: Stage) -> None:
    stage.visit(1)
    stage.visit(3)
    assert (stage.take().agrees, stage.take().without_plan) == (True, 0)  # no plan of that month has come at all
    stage.send(line(1))
    told = stage.take()
    assert (told.agrees, told.agreeing, told.without_plan) == (True, 1, 1)
    stage.office.take_back([made_up(1, 1)], "202612", NOW + timedelta(minutes=1))
    told = stage.take()
    assert (told.agrees, told.plans, told.missing_there) == (True, 0, 0)


def test_additions_are_no_visits_and_no_finding_while_a_visit_without_a_time_still_stands_for_its_line(
    stage: Stage,
) -> None:
    no_time = {STARTS: "9999", ENDS: "9999"}
    stage.visit(1)
    stage.send(line(1), line(1, service="136101") | no_time, line(2, 5) | no_time)
    told = stage.take()
    assert (told.agrees, told.agreeing, told.no_visits, records(told)) == (True, 1, 2, set())
    stage.visit(2, 5, 14)
    told = stage.take()
    assert (told.agrees, told.agreeing, told.no_visits) == (True, 2, 1)
    stage.send(line(1), line(1, 2, service="136101"), minute=1)  # with a time it may be a visit
    told = stage.take()
    assert records(told) == {("plan_not_confirmed", f"plan:{number_of(stage, 1)}/2")}


def test_what_is_past_is_compared_no_more(stage: Stage) -> None:
    stage.send(line(1), line(9))
    assert not stage.take().agrees
    stage.tenant = replace(
        stage.tenant, services=replace(stage.tenant.services, now=lambda: datetime(2026, 12, 31, 15, 0, tzinfo=UTC))
    )
    told = stage.take()  # in Japan it is January
    assert (told.agrees, told.plans, told.unlinked) == (True, 0, 0)


@pytest.mark.parametrize("fault", [PlanFault.BAD_CHARACTER, PlanFault.TOO_FEW_COLUMNS])
def test_a_bad_line_is_quarantined_alone_and_its_plan_finds_no_visit_too_many(stage: Stage, fault: PlanFault) -> None:
    stage.visit(1, 1)
    stage.visit(1, 2)
    name = stage.office.put(spoilt([line(1, 1), line(1, 2), line(2)], fault), NOW, kind="UPPLAN", month="202612")
    for _ in range(2):  # it stands until it is corrected
        told = stage.take()
        assert told.landing.is_certified
        (bad,) = told.landing.problems
        assert (bad.record, bad.params["file"], bad.params["line"]) == (f"plan:{number_of(stage, 1)}", name, "1")
        assert (told.landing.unmappable, told.agreeing, told.unsure, told.missing_there) == (1, 1, 1, 0)
        assert records(told) == {("plan_not_confirmed", f"plan:{number_of(stage, 2)}/1")}
    stage.send(line(1, 1), line(1, 2), line(2), minute=1)
    told = stage.take()
    assert (told.landing.unmappable, told.agreeing, told.unsure) == (0, 2, 0)


def test_a_line_that_says_not_whose_it_is_ends_the_reading_badly_and_the_rest_is_compared(stage: Stage) -> None:
    stage.visit(2)
    stage.office.put(spoilt([line(1), line(2)], PlanFault.NAMELESS), NOW, kind="UPPLAN", month="202612")
    told = stage.take()
    assert (told.landing.state, told.landing.reason) == ("failed", "plan_line_nameless")
    assert (told.agreeing, told.agrees) == (1, True)


def test_who_reads_plans_is_due_for_them_and_a_paused_or_closed_one_is_compared_by_what_stands(stage: Stage) -> None:
    def is_due() -> bool:
        with stage.tenant.services.database.transaction(Login.SCHEDULE, None) as tx:
            return list(due.inbound(tx, "carecsv", [Entity.PLAN])) == ["sakura"]

    assert is_due()
    stage.send(line(1))
    stage.take()
    assert not is_due()
    stage.tenant.sql("UPDATE sync.connection SET paused_at = now(), pause_reason = 'a test'", Login.OPERATOR)
    told = stage.take()
    assert (told.landing.reason, told.missing_here) == ("connection_paused", 1)
    assert told.landing.last is not None
    assert told.landing.last.is_certified
    stage.tenant.sql(
        "UPDATE sync.connection SET paused_at = NULL, pause_reason = NULL, closed = ARRAY['00:00-24:00']",
        Login.OPERATOR,
    )
    assert (stage.take().landing.reason, stage.take().missing_here) == ("outside_window", 1)


def test_two_readings_at_once_are_one(stage: Stage) -> None:
    stage.send(line(1))
    stage.tenant.sql(
        "INSERT INTO sync.snapshot (snapshot_id, tenant_id, partner, entity, state) "
        "VALUES (gen_random_uuid(), 'sakura', 'carecsv', 'plan', 'reading')",
        Login.LAND,
    )
    assert stage.take().landing.reason == "reading_under_way"
    assert stage.standing() == {}
    stage.tenant.sql("UPDATE sync.snapshot SET touched_at = touched_at - interval '6 minutes'", Login.LAND)
    assert stage.take().landing.is_certified  # its process is dead
    assert len(stage.standing()) == 1


def test_a_reading_that_another_process_took_for_dead_stores_no_page_more(stage: Stage) -> None:
    def read(connector: Connector, cursor: str | None) -> Iterator[PlanPage]:
        (page,) = plans_of(connector, cursor)
        yield replace(page, plans=page.plans[:1])
        stage.tenant.sql("UPDATE sync.snapshot SET attempt = attempt + 1 WHERE entity = 'plan'", Login.LAND)
        yield replace(page, plans=page.plans[1:])

    stage.send(line(1), line(2))
    told = flow.take_plans(stage.tenant.services, replace(CARECSV, read_plans=read), "sakura")
    assert (told.landing.reason, told.landing.records) == ("reading_under_way", 1)
    assert len(stage.standing()) == 1


def test_the_watch_tells_how_old_the_plans_are(stage: Stage) -> None:
    watched = look(stage.tenant.services, CARECSV, "sakura")
    assert [(each.entity, each.was_read) for each in watched.freshness] == [("client", True), ("plan", False)]
    stage.take()
    watched = look(stage.tenant.services, CARECSV, "sakura")
    assert [(each.entity, each.was_read) for each in watched.freshness] == [("client", True), ("plan", True)]


def test_what_is_said_again_later_is_no_news_and_what_was_said_between_takes_no_place(stage: Stage) -> None:
    stage.send(line(1, 1), minute=0)
    stage.take()
    again = stage.send(line(1, 1), minute=9)
    assert stage.take().landing.new_versions == 0
    (stage.office.folder / again).unlink()
    stage.send(line(1, 2), minute=5)
    stage.tenant.sql("UPDATE sync.snapshot SET finished_at = finished_at - interval '9 years'", Login.LAND)
    assert stage.take().landing.is_full
    (services,) = stage.standing().values()
    assert [each["day"] for each in services] == ["2026-12-01"]


def test_the_frame_of_plans_has_a_row_a_service(stage: Stage) -> None:
    stage.send(line(1, 1), line(1, 2, 14))
    stage.take()
    with stage.tenant.services.database.transaction(Login.OPERATOR, "sakura") as tx:
        frame = frames.landed_plans(tx, Target("sakura", "carecsv"))
    assert list(frame["line"]) == [1, 2]
    assert list(frame["starts"]) == ["09:00", "14:00"]
    assert list(frame["record_id"]) == [str(stage.clients[1])] * 2
    assert [each.date() for each in frame["day"]] == [date(2026, 12, 1), date(2026, 12, 2)]


# --- In Dagster -------------------------------------------------------------------------------------------------------


@pytest.fixture
def instance(data_dir: Path) -> Iterator[DagsterInstance]:
    """Dagster whose runs find the test's database."""
    with DagsterInstance.ephemeral() as made:
        yield made


def checks_of(instance: DagsterInstance, stage: Stage) -> dict[str, AssetCheckEvaluation]:
    """Materialize the tenant's plans as a person does; the answers by check."""

    def served(station: Callable[..., Any]) -> Any:
        return lambda _, *given: station(stage.tenant.services, *given)

    stations = Stations(**{name: served(station) for name, station in vars(STATIONS).items()})
    instance.add_dynamic_partitions("carecsv_tenants", [stage.tenant.name])
    job = Definitions(
        assets=[inbound_assets(CARECSV, stations)],
        resources={"postgres": PostgresResource(), "http": HttpResource(), "vault": VaultResource()},
        executor=in_process_executor,
    ).resolve_implicit_global_asset_job_def()
    result = job.get_subset(asset_selection=frozenset([ASSET])).execute_in_process(
        instance=instance, partition_key=stage.tenant.name, raise_on_error=False
    )
    assert result.success
    logged = [entry.dagster_event for entry in instance.all_logs(result.run_id) if entry.dagster_event]
    found = (
        each.asset_check_evaluation_data
        for each in logged
        if each.event_type is DagsterEventType.ASSET_CHECK_EVALUATION
    )
    return {each.check_name: each for each in found}


def test_the_check_warns_with_counts_opaque_ids_and_what_to_do_and_shows_nobody(
    stage: Stage, instance: DagsterInstance
) -> None:
    for day in range(1, 23):
        stage.visit(2, day, 15)
    stage.send(line(1), line(2, 1, 15), line(9))
    answers = checks_of(instance, stage)
    assert {name for name, each in answers.items() if each.passed} == {"snapshot_certified", "shape_known", "fresh"}
    told = answers["plan_agrees"]
    assert told.severity is AssetCheckSeverity.WARN
    assert "1 planned and not confirmed, 21 confirmed and not planned, 1 of clients who are not linked" in (
        told.description or ""
    )
    assert "Ask the care manager" in (told.description or "")
    assert told.metadata["missing_there"].value == 21
    problems: Any = told.metadata["problems"]
    listed = [record.data for record in problems.records]
    assert len(listed) == 21  # the first twenty, and the one who is not linked
    assert {row["record"].partition(":")[0] for row in listed} >= {"plan"}
    shown = json.dumps([repr(each) for each in answers.values()], ensure_ascii=False)
    for client in (1, 2, 9):
        row = made_up(1, client)
        assert not any(row[name] in shown for name in (INSURED, "利用者氏名", "利用者氏名フリガナ"))

    stage.office.take_back([made_up(1, number) for number in (1, 2, 9)], "202612", NOW + timedelta(minutes=1))
    assert all(each.passed for each in checks_of(instance, stage).values())


# --- What must never be -----------------------------------------------------------------------------------------------


def earlier_comes_late(stage: Stage) -> list[str]:
    """The newer file is taken away, and then an older one is copied in."""
    newer = stage.send(line(1, 2), minute=5)
    stage.take()
    (stage.office.folder / newer).unlink()
    stage.send(line(1, 1), minute=0)
    stage.tenant.sql("UPDATE sync.snapshot SET started_at = started_at - interval '2 days'", Login.LAND)
    stage.tenant = replace(
        stage.tenant, services=replace(stage.tenant.services, now=lambda: datetime.now(UTC) + timedelta(days=1))
    )
    assert stage.take().landing.is_full
    (services,) = stage.standing().values()
    return [] if [each["day"] for each in services] == ["2026-12-02"] else ["the earlier file stands"]


def plan_comes(stage: Stage) -> list[str]:
    """A plan comes that differs from what is confirmed in every way."""
    stage.visit(1, 1, 10)
    stage.visit(2, 2)
    before = stage.product()
    stage.send(line(1, 1), line(1, 2), line(2, 2, service="131211"), line(9))
    stage.take()
    return [] if stage.product() == before else ["the product was written"]


def moved_by_an_hour(stage: Stage) -> list[str]:
    """A visit is confirmed an hour later than it is planned."""
    stage.visit(1, 1, 10)
    stage.send(line(1, 1))
    return [] if not stage.take().agrees else ["another hour agrees"]


def quarantined_line(stage: Stage) -> list[str]:
    """One line of two plans is bad."""
    stage.office.put(spoilt([line(1), line(1, 2), line(2)], PlanFault.WRONG_LENGTH), NOW, kind="UPPLAN", month="202612")
    told = stage.take()
    return [] if told.landing.unmappable == 1 and told.missing_here == 2 else ["a good line was not taken"]


def _applied(real: Any) -> Any:
    def compared(services: Services, target: Target) -> Any:
        found = real(services, target)
        with services.database.transaction(Login.PRODUCT, target.tenant) as tx:
            for plan in found[1]:
                for each in plan.services if plan.client_id else ():
                    tx.exec_driver_sql(
                        "INSERT INTO schedule.visit (tenant_id, visit_id, client_id, starts_at, ends_at, service_code) "
                        "VALUES (%s, gen_random_uuid(), %s, %s, %s, %s)",
                        (
                            target.tenant,
                            plan.client_id,
                            f"{each['day']}T{each['starts']}+09:00",
                            f"{each['day']}T{each['ends']}+09:00",
                            each["service_code"],
                        ),
                    )
        return found

    return compared


def _none_with_a_bad_line(real: Any) -> Any:
    return lambda plan: real(replace(plan, services=()) if plan.bad else plan)


def _whichever_comes(_: Any) -> Any:
    return lambda said_at, standing, *, is_same: not is_same


def _but_times(real: Any) -> Any:
    return lambda planned, confirmed: tuple(each for each in real(planned, confirmed) if each == "service_code")


@dataclass(frozen=True)
class PlanMutant:
    """One rule, broken."""

    breaks: str
    scene: Callable[[Stage], list[str]]
    notices: str
    swaps: tuple[Swap, ...]


MUTANTS = (
    PlanMutant(
        "an earlier file that is read later wins",
        earlier_comes_late,
        "the earlier file stands",
        ((flow, "takes_its_place", _whichever_comes),),
    ),
    PlanMutant("the plan is applied", plan_comes, "the product was written", ((flow, "_compared", _applied),)),
    PlanMutant(
        "times are not compared", moved_by_an_hour, "another hour agrees", ((agreement, "differing", _but_times),)
    ),
    PlanMutant(
        "a bad line takes its plan with it",
        quarantined_line,
        "a good line was not taken",
        ((flow, "_as_stored", _none_with_a_bad_line),),
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.breaks)
def test_nothing_is_broken(stage: Stage, mutant: PlanMutant) -> None:
    assert mutant.scene(stage) == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.breaks)
def test_the_breach_is_noticed(stage: Stage, mutant: PlanMutant) -> None:
    with swapped(mutant.swaps):
        assert mutant.scene(stage) == [mutant.notices]


def test_who_lands_or_compares_plans_cannot_write_the_product(stage: Stage) -> None:
    stage.visit(1)
    for login in (Login.LAND, Login.DIFF):
        for statement in (
            "UPDATE schedule.visit SET status = 'cancelled'",
            "DELETE FROM schedule.visit",
            "SELECT note FROM schedule.visit",
        ):
            with pytest.raises(StoreError):
                stage.tenant.sql(statement, login)
