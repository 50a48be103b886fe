"""Care CSV behind the platform: clients come in out of the folder, and nobody goes because a file does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from care_office_tenant import connect
from conftest import Said, Tenant
from flow_bench import expire_lease, forget_backoff, push_now

from partners.carecsv import partner as declaration
from partners.carecsv.layouts import INSURED
from partners.carecsv.sandbox.office import RECEIVER, CareOffice, made_up
from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.reports import ApplyReport, LandReport
from zest_pipelines.flows.services import Services

AT = datetime(2026, 11, 26, 0, 30, tzinfo=UTC)


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CareOffice:
    monkeypatch.setattr(declaration, "STILL_SECONDS", 0.0)
    return CareOffice(tmp_path)


@pytest.fixture
def tenant(services: Services, office: CareOffice) -> Tenant:
    return connect(services, office)


def take_in(tenant: Tenant) -> tuple[LandReport, ApplyReport]:
    told = land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    diff(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    return told, apply(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)


def in_force(tenant: Tenant) -> dict[str, str]:
    """Whole names by number."""
    rows = tenant.sql(
        "SELECT i.number, c.family_name, c.given_name FROM schedule.client c JOIN sync.identity i "
        "ON i.record_id = c.client_id AND i.valid_to IS NULL WHERE c.active",
        Login.OPERATOR,
    )
    return {row.number: f"{row.family_name}　{row.given_name}" for row in rows}


def test_clients_come_in_by_files_and_stay_though_no_file_tells_of_them(tenant: Tenant, office: CareOffice) -> None:
    people = [made_up(1, number) for number in range(1, 41)]
    first = office.send(people, AT)
    told, taken = take_in(tenant)
    assert (told.state, told.records, taken.applied) == ("certified", 40, 40)
    assert in_force(tenant) == {each[INSURED]: each["利用者氏名"] for each in people}

    office.send([people[0] | {"利用者氏名": "森　桜", "利用者氏名フリガナ": "モリ サクラ"}], AT + timedelta(minutes=5))
    (office.folder / first).unlink()  # as their program does after a while
    told, taken = take_in(tenant)
    assert (told.state, told.new_versions, taken.applied) == ("certified", 1, 1)
    tenant.sql("UPDATE sync.snapshot SET started_at = started_at - interval '2 days'", Login.LAND)
    told, taken = take_in(tenant)
    assert (told.state, told.suspects, taken.deletes) == ("certified", 0, 0)
    assert in_force(tenant) == {each[INSURED]: each["利用者氏名"] for each in people} | {people[0][INSURED]: "森　桜"}


def test_a_bad_file_is_told_until_it_is_gone_and_the_others_are_taken(tenant: Tenant, office: CareOffice) -> None:
    office.send([made_up(1, 1)], AT)
    bad = office.put(b"\x81", AT + timedelta(minutes=1))
    for _ in range(2):
        told, _ = take_in(tenant)
        assert (told.state, told.reason, told.params["file"]) == ("failed", "file_unreadable", bad)
    assert len(in_force(tenant)) == 1
    (office.folder / bad).unlink()
    assert take_in(tenant)[0].is_certified


def push_all(tenant: Tenant) -> None:
    """As the coming minutes would."""
    for _ in range(5):
        expire_lease(tenant)
        forget_backoff(tenant)
        if push_now(tenant).pending == 0:
            return
    raise AssertionError(tenant.sql("SELECT reason, state FROM sync.pending", Login.OPERATOR))


def test_actuals_go_out_by_months_whoever_comes_and_a_change_replaces_them(tenant: Tenant, office: CareOffice) -> None:
    office.send([made_up(1, number) for number in range(1, 4)], AT)
    take_in(tenant)
    nurse = uuid4()
    tenant.sql(
        "INSERT INTO schedule.staff (tenant_id, staff_id, family_name, given_name, family_kana, given_kana, "
        "qualification, active) VALUES ('sakura', :id, '林', '桜', '', '', '', true)",
        Login.APPLY,
        id=nurse,
    )
    first, second = (
        tenant.add_visit(
            client_id=client,
            staff_id=nurse,
            starts_at=f"2026-12-0{day}T09:00:00+09:00",
            ends_at=f"2026-12-0{day}T10:00:00+09:00",
        )
        for day, client in enumerate(tenant.ids("client")[:2], start=1)
    )
    push_all(tenant)
    assert office.take() == []
    for visit in (first, second):
        tenant.sql(
            "INSERT INTO schedule.visit_record (tenant_id, visit_id, started_at, ended_at, status) "
            "SELECT tenant_id, visit_id, starts_at, ends_at, 'done' FROM schedule.visit WHERE visit_id = :id",
            id=visit,
        )
    push_all(tenant)
    assert len(office.take()) == 1
    days = sorted((row[9], row[11], row[12]) for rows in office.actuals.values() for row in rows)
    assert days == [("20261201", "0900", "1000"), ("20261202", "0900", "1000")]

    tenant.edit_visit(first, status="cancelled")
    tenant.edit_visit(second, service_code="131211")
    push_all(tenant)
    assert sorted(name.split("_")[0] for name in office.take()) == ["DLTJSK", "UPJSK"]
    (row,) = [row for rows in office.actuals.values() for row in rows]
    assert (row[9], row[14]) == ("20261202", "131211")
    push_all(tenant)
    assert office.take() == []
    assert tenant.outcomes(second)[-1] == (2, "delivered")


def test_a_folder_that_is_gone_takes_nobody_with_it(tenant: Tenant, office: CareOffice) -> None:
    sent = office.send([made_up(1, 1)], AT)
    take_in(tenant)
    (office.folder / sent).unlink()
    office.folder.rmdir()
    told, _ = take_in(tenant)
    assert (told.state, told.reason) == ("failed", "folder_missing")
    assert len(in_force(tenant)) == 1


def test_what_cannot_be_opened_is_refused_by_connect_with_no_credential_given_too(zest: Said, tmp_path: Path) -> None:
    anew = ["connect", "sakura", "carecsv", "--base-url", tmp_path.as_uri(), "--timing", "minute", "--set", "kind=13"]
    assert zest("tenant", "add", "sakura", "--name", "Sakura")[0] == 0
    code, _, told = zest(*anew, "--set", "office=1")
    assert code != 0
    assert "office" in told
    code, _, told = zest(*anew, "--set", f"office={RECEIVER}")
    assert code == 0, told
