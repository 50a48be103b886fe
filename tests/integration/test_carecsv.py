"""Care CSV behind the platform: clients come in out of the folder, and nobody goes because a file does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import Tenant

from partners.carecsv import partner as declaration
from partners.carecsv.layouts import INSURED
from partners.carecsv.partner import CARECSV
from partners.carecsv.sandbox.office import RECEIVER, CareOffice, made_up
from partners.contract import Connection, Entity
from resources.logins import Login
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.reports import ApplyReport, LandReport
from zest_pipelines.flows.services import Services
from zest_pipelines.store import tenants

AT = datetime(2026, 11, 26, 0, 30, tzinfo=UTC)


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CareOffice:
    monkeypatch.setattr(declaration, "STILL_SECONDS", 0.0)
    return CareOffice(tmp_path)


@pytest.fixture
def tenant(services: Services, office: CareOffice) -> Tenant:
    with services.database.transaction(Login.OPERATOR, "sakura") as tx:
        tenants.add(tx, "sakura", "Tenant sakura")
        tenants.connect(
            tx,
            Connection("sakura", "carecsv", office.base.as_uri(), {"office": RECEIVER, "kind": "13"}),
            timing="minute",
            limits=None,
            land_every=timedelta(hours=1),
            ciphertext=None,
            reads=CARECSV.reads,
        )
    return Tenant("sakura", services, CARECSV, None)  # type: ignore[arg-type]  # nothing here asks for its sandbox


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


def test_a_folder_that_is_gone_takes_nobody_with_it(tenant: Tenant, office: CareOffice) -> None:
    sent = office.send([made_up(1, 1)], AT)
    take_in(tenant)
    (office.folder / sent).unlink()
    office.folder.rmdir()
    told, _ = take_in(tenant)
    assert (told.state, told.reason) == ("failed", "folder_missing")
    assert len(in_force(tenant)) == 1
