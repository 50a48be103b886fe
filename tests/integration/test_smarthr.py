"""SmartHR behind the whole platform: staff come in, leave and are deleted as the corporation's people have it, whatever
its list does meanwhile; and nothing waits for a partner that nothing is sent to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from conftest import Said, Tenant
from dagster import DagsterEventType, DagsterInstance
from flow_bench import push_now

from partners.contract import Connection, Entity, Partner
from partners.orca.partner import ORCA
from partners.orca.sandbox import OrcaConfig
from partners.orca.sandbox.testing import RunningOrca, running_orca
from partners.registry import ONLY_READ
from partners.smarthr.partner import SMARTHR
from partners.smarthr.sandbox import FaultKind, SmartHrConfig
from partners.smarthr.sandbox.testing import Json, RunningSmartHr, running_smarthr
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.cli import synchronization
from zest_pipelines.definitions import definitions
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.archive import archive
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.reports import LandReport
from zest_pipelines.flows.services import Services
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.orchestration.partitions import add_tenants
from zest_pipelines.store import tenants

TOKEN = "a-token"
QUICK = ("tenant:60000/60s",)
SETTINGS = {"names": "business", "qualifications": "看護師,准看護師,理学療法士"}


@pytest.fixture
def services(services: Services, tmp_path: Path) -> Services:
    """The same, with a vault that commands open too."""
    Vault.create_file(tmp_path / "vault.key")
    return replace(services, vault=Vault.from_file(tmp_path / "vault.key"))


@pytest.fixture
def smarthr() -> Iterator[RunningSmartHr]:
    with running_smarthr(SmartHrConfig(token=TOKEN, staff=250, per_second=1000)) as running:
        yield running


def connect(
    services: Services, partner: Partner, url: str, secret: Mapping[str, str], settings: Mapping[str, str], **how: Any
) -> Tenant:
    with services.database.transaction(Login.OPERATOR, "sakura") as tx:
        tenants.add(tx, "sakura", "Tenant sakura")
        tenants.connect(
            tx,
            Connection("sakura", partner.name, url, settings),
            timing="minute",
            land_every=timedelta(hours=1),
            ciphertext=services.vault.encrypt(secret, tenant="sakura", partner=partner.name),
            reads=partner.reads,
            **({"limits": QUICK} | how),
        )
    return Tenant("sakura", services, partner, None)  # type: ignore[arg-type]  # nothing here asks for its sandbox


@pytest.fixture
def corporation(services: Services, smarthr: RunningSmartHr) -> Tenant:
    """A tenant whose staff are in SmartHR."""
    return connect(services, SMARTHR, smarthr.url, {"token": TOKEN}, SETTINGS)


def take_in(tenant: Tenant) -> LandReport:
    """Land, diff and apply staff once."""
    report = land(tenant.services, tenant.partner, tenant.name, Entity.STAFF)
    diff(tenant.services, tenant.partner, tenant.name, Entity.STAFF)
    apply(tenant.services, tenant.partner, tenant.name, Entity.STAFF)
    return report


def read_all_again(tenant: Tenant) -> None:
    """What a day does: the next reading is of all."""
    tenant.sql(
        "UPDATE sync.snapshot SET started_at = started_at - interval '2 days', finished_at = finished_at", Login.LAND
    )


def staff(tenant: Tenant) -> dict[str, Any]:
    """The product's staff by the partner's ids."""
    rows = tenant.sql(
        "SELECT i.partner_id, s.* FROM schedule.staff s JOIN sync.identity i ON i.record_id = s.staff_id "
        "AND i.entity = 'staff' AND i.partner = 'smarthr' AND i.valid_to IS NULL",
        Login.OPERATOR,
    )
    return {row.partner_id: row for row in rows}


def differing(tenant: Tenant, smarthr: RunningSmartHr) -> list[str]:
    """Whom the product has otherwise than SmartHR, read by hand."""
    ours, theirs = staff(tenant), {each["id"]: each for each in smarthr.crews()}
    return [each for each in theirs if each not in ours or _facts(theirs[each]) != _shown(ours[each])] + [
        each for each, row in ours.items() if each not in theirs and row.active
    ]


def _facts(crew: Json) -> tuple[Any, ...]:
    day = crew.get("resigned_at")
    return (
        crew["business_last_name"] or crew["last_name"],
        crew["business_last_name_yomi"] or crew["last_name_yomi"],
        crew["first_name"],
        crew["emp_status"] != "retired",
        date.fromisoformat(day) if day else None,
    )


def _shown(row: Any) -> tuple[Any, ...]:
    return row.family_name, row.family_kana, row.given_name, row.active, row.employed_until


def test_staff_come_in_whole_and_then_by_their_changes(corporation: Tenant, smarthr: RunningSmartHr) -> None:
    first = take_in(corporation)
    assert (first.state, first.is_full, first.records, first.calls) == ("certified", True, 250, 3)
    assert differing(corporation, smarthr) == []
    assert {row.qualification for row in staff(corporation).values()} == {"看護師", "准看護師", "理学療法士", ""}
    leaver, changed, *_ = (each["id"] for each in smarthr.crews() if each["emp_status"] == "employed")
    smarthr.put_crew(leaver, emp_status="retired", resigned_at="2026-11-20")
    smarthr.put_crew(changed, business_last_name="林", business_last_name_yomi="ハヤシ")
    second = take_in(corporation)
    assert (second.state, second.is_full, second.calls, second.new_versions) == ("certified", False, 1, 2)
    assert differing(corporation, smarthr) == []
    left = staff(corporation)[leaver]
    assert (left.active, left.employed_until) == (False, date(2026, 11, 20))


def test_a_list_that_shifts_while_it_is_read_is_not_certified_and_loses_nobody(
    corporation: Tenant, smarthr: RunningSmartHr
) -> None:
    take_in(corporation)
    by_time = sorted(smarthr.crews(), key=lambda crew: str(crew["updated_at"]), reverse=True)
    read_all_again(corporation)
    smarthr.fail(FaultKind.MOVED, page=2, times=1, crew=by_time[7]["id"])
    shifted = take_in(corporation)
    assert (shifted.state, shifted.suspects) == ("incomplete", 0)
    read_all_again(corporation)
    smarthr.fail(FaultKind.MOVED, page=2, times=1, crew=by_time[150]["id"], said={"last_name": "林"})
    moved = take_in(corporation)
    assert (moved.state, moved.suspects) == ("incomplete", 0)
    smarthr.set_faults()
    read_all_again(corporation)
    whole = take_in(corporation)
    assert (whole.state, whole.is_full, whole.suspects) == ("certified", True, 0)
    assert differing(corporation, smarthr) == []


def test_who_is_deleted_is_gone_once_smarthr_itself_says_so(corporation: Tenant, smarthr: RunningSmartHr) -> None:
    take_in(corporation)
    deleted = next(each["id"] for each in smarthr.crews() if each["emp_status"] == "employed")
    smarthr.delete_crew(deleted)
    assert not take_in(corporation).is_full  # nobody is missed in a reading of changes
    for fault in (
        {"kind": FaultKind.STATUS, "status": 404},
        {"kind": FaultKind.ERROR, "code": 3, "status": 404},
        {"kind": FaultKind.LOST},
    ):
        read_all_again(corporation)
        smarthr.set_faults({**fault, "page": 0})
        report = take_in(corporation)
        assert (report.state, report.gone, report.suspects) == ("certified", 0, 1)
        assert staff(corporation)[deleted].active
    smarthr.set_faults()
    read_all_again(corporation)
    report = take_in(corporation)
    assert (report.gone, report.suspects) == (1, 0)
    assert not staff(corporation)[deleted].active
    assert differing(corporation, smarthr) == []


def test_the_declared_limits_keep_every_call_within_smarthrs_own(services: Services) -> None:
    with running_smarthr(SmartHrConfig(token=TOKEN, staff=1100)) as strict:
        tenant = connect(services, SMARTHR, strict.url, {"token": TOKEN}, SETTINGS, limits=None)
        assert take_in(tenant).state == "certified"
        rows = strict.journal()
    assert [row["status"] for row in rows] == [200] * 11
    times = [datetime.fromisoformat(row["at"]) for row in rows]
    assert max(sum(start <= time < start + timedelta(seconds=1) for time in times) for start in times) <= 10
    assert times[-1] - times[0] > timedelta(seconds=1)


# --- One tenant, two partners -----------------------------------------------------------------------------------------


@pytest.fixture
def orca() -> Iterator[RunningOrca]:
    with running_orca(OrcaConfig(user="zest", password="a-word", clients=6, staff=5)) as running:
        yield running


@pytest.fixture
def both(services: Services, smarthr: RunningSmartHr, orca: RunningOrca) -> Tenant:
    """A tenant whose staff are in SmartHR and whose clients are in ORCA, where the visits go; its hand at ORCA."""
    listed = orca.state()["staff"]
    smarthr.put_crews(
        [
            {
                "id": f"crew-{code}",
                "emp_code": code,
                "emp_status": "employed",
                **dict(zip(("last_name", "first_name"), row["name"].split(), strict=True)),
                **dict(zip(("last_name_yomi", "first_name_yomi"), row["kana"].split(), strict=True)),
                "business_last_name": "",
                "business_last_name_yomi": "",
                "updated_at": f"2026-11-0{number}T00:00:00Z",
            }
            for number, (code, row) in enumerate(listed.items(), start=1)
        ]
    )
    take_in(connect(services, SMARTHR, smarthr.url, {"token": TOKEN}, SETTINGS))
    clinic = connect(
        services,
        ORCA,
        orca.url,
        {"user": "zest", "password": "a-word"},
        {"department": "01", "default_doctor": "10001", "patient_numbers": "1-100"},
        creates=[Entity.CLIENT],
        match_on={Entity.STAFF: ["number", "family_kana", "given_kana"]},
    )
    clinic.take_in()
    return clinic


def test_staff_of_one_partner_serve_visits_at_another_and_nothing_waits_for_the_first(
    both: Tenant, orca: RunningOrca, smarthr: RunningSmartHr, zest: Said
) -> None:
    assert both.sql("SELECT count(*) FROM schedule.staff")[0][0] == 5
    owners = both.sql("SELECT DISTINCT partner FROM sync.identity WHERE entity = 'staff' AND is_owner", Login.OPERATOR)
    assert [row.partner for row in owners] == ["smarthr"]
    before = len(smarthr.journal())
    visit = both.add_visit()
    assert push_now(both).delivered == 1
    assert len(orca.writes()) == 1
    badges = both.sql("SELECT partner, badge FROM sync.badge WHERE record_id = :id", id=visit)
    assert [tuple(row) for row in badges] == [("orca", "ok")]
    told = json.loads(zest("explain", "sakura", "visit", str(visit), "--json")[1])
    assert told["badge"] == "ok"
    assert len(smarthr.journal()) == before


def test_status_shows_what_is_only_read_without_a_word_of_sending(both: Tenant, zest: Said) -> None:
    both.add_visit()
    shown = json.loads(zest("status", "--json")[1])["connections"]
    orca, smarthr = sorted(shown, key=lambda each: str(each["partner"]))
    assert (orca["timing"], orca["reads"]) == ("minute", ["client", "staff"])
    assert (smarthr["timing"], smarthr["reads"]) == (None, ["staff"])
    assert smarthr["out"]["oldest_pending_seconds"] is None
    (line,) = [line for line in zest("status")[1].splitlines() if "smarthr" in line]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["sakura", "smarthr", "only read", "-", "5 of 5", "-", "-", "-", "-", ""]


def test_connecting_asks_for_no_timing_and_tells_the_next_step(
    both: Tenant, smarthr: RunningSmartHr, zest: Said
) -> None:
    code, _, said = zest("connect", "sakura", "smarthr", "--base-url", smarthr.url, "--set", "names=legal")
    assert (code, said) == (0, "Tenant sakura is connected to smarthr. Next: zest check sakura smarthr\n")
    code, table, _ = zest("limits", "sakura")
    assert code == 0
    assert {limit for limit in SMARTHR.limits if limit in table} == set(SMARTHR.limits)


def test_a_sync_reads_and_sends_nothing(
    both: Tenant, smarthr: RunningSmartHr, zest: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DagsterInstance.ephemeral() as instance:
        add_tenants(instance, SMARTHR, {"sakura"})
        monkeypatch.setattr(synchronization, "open_instance", lambda *_: contextlib.nullcontext(instance))
        leaver = smarthr.crews()[0]["id"]
        smarthr.put_crew(leaver, emp_status="retired")
        code, told, said = zest("sync", "sakura", "smarthr", "--json")
        assert (said, code) == ("", 0)
        (only,) = json.loads(told)["runs"]
        run = instance.get_run_by_id(only)
        assert run is not None
        assert (run.job_name, run.is_success) == ("smarthr_in", True)
        by_hand = definitions.resolve_job_def("smarthr_sync_now").execute_in_process(
            instance=instance, run_config={"ops": {"smarthr_bring_up_to_date": {"config": {"tenant": "sakura"}}}}
        )
    assert by_hand.success
    assert [each for each, row in staff(both).items() if not row.active] == [leaver]


def edited_then(visit: UUID, at: datetime, server: EmbeddedServer, logins: Logins) -> None:
    """Have the visit, whose edit nobody has accumulated, be edited at that moment."""
    with psycopg.connect(server.admin_url, dbname=logins.database, autocommit=True) as admin:
        admin.execute("SELECT sync.make_months(%s, 1)", [at.date().replace(day=1)])
        admin.execute("ALTER TABLE sync.update_event DISABLE TRIGGER refuse_rewrite")
        admin.execute(
            "UPDATE sync.update_event SET month = date_trunc('month', %(at)s AT TIME ZONE 'UTC'), at = %(at)s "
            "WHERE record_id = %(visit)s",
            {"at": at, "visit": visit},
        )
        admin.execute("ALTER TABLE sync.update_event ENABLE ALWAYS TRIGGER refuse_rewrite")


@pytest.mark.usefixtures("zest")
def test_the_watch_of_a_partner_that_is_only_read_tells_of_readings_alone(
    both: Tenant, server: EmbeddedServer, logins: Logins
) -> None:
    edited_then(both.add_visit(), datetime.now(UTC) - timedelta(hours=2), server, logins)
    both.sql("UPDATE sync.snapshot SET started_at = started_at - interval '9 days'", Login.LAND)
    both.sql("UPDATE sync.connection SET changed_at = changed_at - interval '10 days'", Login.OPERATOR)
    with DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("smarthr_watch").execute_in_process(instance=instance)
        logged = instance.all_logs(result.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
    answers = [each.get_dagster_event().asset_check_evaluation_data for each in logged]
    assert [(each.check_name, each.passed, each.partition) for each in answers] == [("fresh", False, "sakura")]


def test_a_month_is_put_away_though_nobody_reads_its_edits_for_a_partner_that_is_only_read(
    both: Tenant, server: EmbeddedServer, logins: Logins
) -> None:
    visit = both.add_visit(starts_at="2024-08-10T09:00:00+09:00", ends_at="2024-08-10T10:00:00+09:00")
    edited_then(visit, datetime(2024, 8, 10, tzinfo=UTC), server, logins)
    assert push_now(both).delivered_with_warning == 1  # it lies in the past
    believing_all_are_written_to = archive(both.services, date(2024, 8, 1))
    assert "edits of tenant sakura in it have not been accumulated" in (believing_all_are_written_to.waits or "")
    assert archive(both.services, date(2024, 8, 1), ONLY_READ).waits is None
