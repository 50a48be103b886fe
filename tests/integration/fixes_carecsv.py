"""Scenes with a folder of care CSV, and with plans of care managers: of `test_fixes`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncssh
import pytest
from fix_bench import TENANT, Person, fixes

from partners.carecsv import partner as declaration
from partners.carecsv.layouts import INSURED
from partners.carecsv.partner import CARECSV
from partners.carecsv.sandbox.office import RECEIVER, CareOffice, PlanFault, Row, made_up, planned, spoilt
from partners.carecsv.sandbox.sftp_server import PASSWORD, SftpServer
from partners.reasons import Language, sentences
from partners.windows import JAPAN
from resources.logins import Login
from zest_pipelines.flows.reports import PlanReport, Problem

SETTINGS = {"office": RECEIVER, "kind": "13"}
NOW = datetime.now(UTC).replace(second=0, microsecond=0)
NINE = (NOW.astimezone(JAPAN).replace(day=1, hour=9, minute=0) + timedelta(days=31)).replace(day=1)
"""On the first of the next month: months that are over are not compared."""
MONTH = f"{NINE:%Y%m}"


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CareOffice:
    """Who exchanges files with us; three clients are told of."""
    monkeypatch.setattr(declaration, "STILL_SECONDS", 0.0)
    (tmp_path / "care").mkdir()
    made = CareOffice(tmp_path / "care")
    made.send([made_up(1, number) for number in (1, 2, 3)], NOW)
    return made


@pytest.fixture
def sftp(office: CareOffice) -> Iterator[SftpServer]:
    """The same folder behind SFTP."""
    server = SftpServer(office.base.parent)
    with server.running():
        yield server


def connected(new_person: Any, url: str, secret: Mapping[str, str] | None = None, **settings: str) -> Person:
    person: Person = new_person(CARECSV, url, secret, **SETTINGS, **settings)
    person.connects()
    person.minute()
    return person


def by_sftp(new_person: Any, sftp: SftpServer) -> Person:
    url = f"sftp://127.0.0.1:{sftp.port}/care"
    return connected(new_person, url, {"user": "zest", "password": PASSWORD}, host_key=sftp.host_key)


# --- The folder -------------------------------------------------------------------------------------------------------


@fixes("folder_missing", "Connection settings", "Address")
def the_folder_has_moved(new_person: Any, office: CareOffice) -> Person:
    person = connected(new_person, office.base.as_uri())
    moved = shutil.move(office.base, office.base.parent / "moved")
    person.day()
    person.reads("folder_missing")
    person.options = ("--same-records",)
    person.connects("Connection settings", "Address", url=Path(moved).as_uri())
    person.waits()
    person.sees_ok()
    return person


@fixes("folder_missing")
def the_folder_is_on_the_network_again(new_person: Any, office: CareOffice) -> Person:
    person = connected(new_person, office.base.as_uri())
    away = shutil.move(office.base, office.base.parent / "away")
    person.day()
    person.reads("folder_missing")
    shutil.move(away, office.base)
    person.waits()
    person.sees_ok()
    return person


@fixes("folder_forbidden", "Properties")
def we_get_the_right_to_the_folder(new_person: Any, sftp: SftpServer) -> Person:
    person = by_sftp(new_person, sftp)
    sftp.lists_to_nobody = True
    person.day()
    person.reads("folder_forbidden")
    person.goes("Properties")
    sftp.lists_to_nobody = False
    person.waits()
    person.sees_ok()
    return person


@fixes("host_key_differs", "Connection settings", "host_key")
def the_servers_new_key_is_entered(new_person: Any, sftp: SftpServer) -> Person:
    person = by_sftp(new_person, sftp)
    others = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    person.has_stored(settings=person.settings | {"host_key": others})
    person.day()
    person.reads("host_key_differs")
    person.connects("Connection settings", "host_key", host_key=sftp.host_key)
    person.waits()
    person.sees_ok()
    return person


@fixes("file_unreadable", "Care plan data exchange")
def the_file_is_moved_away_and_a_right_one_comes(new_person: Any, office: CareOffice) -> Person:
    person = connected(new_person, office.base.as_uri())
    bad = office.put(b"\x81", NOW + timedelta(minutes=1))
    person.day()
    assert bad in person.reads("file_unreadable")["message"]
    person.goes("Care plan data exchange")
    office.send([made_up(1, 1)], NOW + timedelta(minutes=2))
    (office.folder / bad).unlink()
    person.waits()
    person.sees_ok()
    return person


def without_office(new_person: Any, office: CareOffice) -> tuple[Person, UUID]:
    """A client whose file is gone: nobody tells any more where the actuals go."""
    person = connected(new_person, office.base.as_uri())
    for file in office.folder.iterdir():
        file.unlink()
    visit = person.tenant.add_visit(client_id=person.tenant.ids("client")[0], staff_id=None)
    person.minute()
    person.tenant.sql(
        "INSERT INTO schedule.visit_record (tenant_id, visit_id, started_at, ended_at, status, note) "
        "SELECT tenant_id, visit_id, starts_at, ends_at, 'done', '' FROM schedule.visit WHERE visit_id = :id",
        id=visit,
    )
    person.minute()
    person.reads("care_manager_unknown")
    return person, visit


@fixes("care_manager_unknown", "Care plan data exchange", "Delivery results", "Send again")
def the_clients_file_comes(new_person: Any, office: CareOffice) -> Person:
    person, visit = without_office(new_person, office)
    person.goes("Care plan data exchange")
    office.send([made_up(1, number) for number in (1, 2, 3)], NOW + timedelta(minutes=1))
    person.sends_again()
    person.sees_ok(visit)
    return person


@fixes("care_manager_unknown", "Connection settings", "care_manager")
def the_care_managers_office_is_entered(new_person: Any, office: CareOffice) -> Person:
    person, visit = without_office(new_person, office)
    person.connects("Connection settings", "care_manager", care_manager="1370000008")
    person.minute()
    person.sees_ok(visit)
    return person


@fixes("record_refused", "Visits")
def a_service_code_is_corrected(new_person: Any, office: CareOffice) -> Person:
    person = connected(new_person, office.base.as_uri())
    visit = person.tenant.add_visit(client_id=person.tenant.ids("client")[0], staff_id=None, service_code="訪問")
    person.minute()
    assert "Service code" in person.reads("record_refused", visit)["next_action"]
    person.edits(visit, service_code="131111")
    person.waits()
    person.sees_ok(visit)
    return person


# --- Plans of care managers -------------------------------------------------------------------------------------------


def line(client: int, day: int = 1, hour: int = 9, service: str = "131111") -> Row:
    """An hour of a service, planned for a made-up client in the next month."""
    starts = NINE + timedelta(days=day - 1, hours=hour - 9)
    return planned(made_up(1, client), starts, starts + timedelta(hours=1), service)


def is_planned(person: Person, office: CareOffice, *lines: Row, minute: int = 1) -> PlanReport:
    """A plan comes, and is compared."""
    office.send_plans(lines, MONTH, NOW + timedelta(minutes=minute))
    return person.plans()


def confirms(person: Person, client: int, day: int = 1, hour: int = 9) -> UUID:
    """The visit of a made-up client in the next month is confirmed here."""
    starts = NINE + timedelta(days=day - 1, hours=hour - 9)
    statement = "SELECT record_id FROM sync.identity WHERE number = :number"
    ((ours,),) = person.tenant.sql(statement, Login.OPERATOR, number=made_up(1, client)[INSURED])
    return person.tenant.add_visit(
        client_id=ours, staff_id=uuid4(), starts_at=starts, ends_at=starts + timedelta(hours=1)
    )


def is_told_of(person: Person, told: PlanReport, code: str) -> Problem:
    """What the checks of plans say of the only finding."""
    (found,) = (*told.landing.problems, *told.problems)
    assert found.reason == code
    person.hears(code, {each: sentences(code, found.params, found.record, each) for each in Language})
    return found


def bad_line(new_person: Any, office: CareOffice, fault: PlanFault, code: str) -> Person:
    """A line of a plan is bad; the sender corrects it and sends the plan again."""
    person = connected(new_person, office.base.as_uri())
    confirms(person, 1)
    name = office.put(spoilt([line(1)], fault), NOW + timedelta(minutes=1), kind="UPPLAN", month=MONTH)
    found = is_told_of(person, person.plans(), code)
    assert (found.params["file"], found.params["line"]) == (name, "1")
    person.goes("Care plan data exchange")
    told = is_planned(person, office, line(1), minute=2)
    assert (told.landing.problems, told.agrees, told.agreeing) == ((), True, 1)
    return person


@fixes("plan_line_character", "Care plan data exchange")
def the_senders_character_is_corrected(new_person: Any, office: CareOffice) -> Person:
    return bad_line(new_person, office, PlanFault.BAD_CHARACTER, "plan_line_character")


@fixes("plan_line_invalid", "Care plan data exchange")
def the_senders_field_is_corrected(new_person: Any, office: CareOffice) -> Person:
    return bad_line(new_person, office, PlanFault.WRONG_LENGTH, "plan_line_invalid")


@fixes("plan_line_invalid", "Care plan data exchange")
def the_senders_columns_are_completed(new_person: Any, office: CareOffice) -> Person:
    return bad_line(new_person, office, PlanFault.TOO_FEW_COLUMNS, "plan_line_invalid")


@fixes("plan_line_nameless", "Care plan data exchange")
def the_senders_line_says_whose_it_is(new_person: Any, office: CareOffice) -> Person:
    person = connected(new_person, office.base.as_uri())
    confirms(person, 2)
    bad = spoilt([line(1), line(2)], PlanFault.NAMELESS)
    office.put(bad, NOW + timedelta(minutes=1), kind="UPPLAN", month=MONTH)
    person.plans()
    person.reads("plan_line_nameless")
    person.goes("Care plan data exchange")
    confirms(person, 1)
    told = is_planned(person, office, line(1), line(2), minute=2)
    assert (told.landing.state, told.agrees) == ("certified", True)
    person.sees_waiting()
    return person


@fixes("plan_differs", "Visits")
def the_visit_is_corrected(new_person: Any, office: CareOffice) -> Person:
    person, visit = an_hour_later(new_person, office)
    person.edits(visit, starts_at=NINE, ends_at=NINE + timedelta(hours=1))
    assert person.plans().agrees
    return person


@fixes("plan_differs")
def the_plan_is_corrected(new_person: Any, office: CareOffice) -> Person:
    person, _ = an_hour_later(new_person, office)
    assert is_planned(person, office, line(1, hour=10), minute=2).agrees
    return person


def an_hour_later(new_person: Any, office: CareOffice) -> tuple[Person, UUID]:
    person = connected(new_person, office.base.as_uri())
    visit = confirms(person, 1, hour=10)
    found = is_told_of(person, is_planned(person, office, line(1)), "plan_differs")
    assert found.record == str(visit)
    return person, visit


@fixes("plan_not_confirmed", "Visits")
def it_is_confirmed_here(new_person: Any, office: CareOffice) -> Person:
    person = connected(new_person, office.base.as_uri())
    is_told_of(person, is_planned(person, office, line(1)), "plan_not_confirmed")
    person.goes("Visits")
    confirms(person, 1)
    assert person.plans().agrees
    return person


@fixes("plan_not_confirmed")
def it_is_taken_out_of_the_plan(new_person: Any, office: CareOffice) -> Person:
    person = connected(new_person, office.base.as_uri())
    confirms(person, 1)
    is_told_of(person, is_planned(person, office, line(1), line(1, 2)), "plan_not_confirmed")
    assert is_planned(person, office, line(1), minute=2).agrees
    return person


@fixes("visit_not_planned", "Visits")
def the_visit_is_cancelled(new_person: Any, office: CareOffice) -> Person:
    person, visit = one_too_many(new_person, office)
    person.edits(visit, status="cancelled")
    assert person.plans().agrees
    return person


@fixes("visit_not_planned")
def the_visit_is_put_into_the_plan(new_person: Any, office: CareOffice) -> Person:
    person, _ = one_too_many(new_person, office)
    assert is_planned(person, office, line(1), line(1, 2), minute=2).agrees
    return person


def one_too_many(new_person: Any, office: CareOffice) -> tuple[Person, UUID]:
    person = connected(new_person, office.base.as_uri())
    confirms(person, 1)
    visit = confirms(person, 1, 2)
    is_told_of(person, is_planned(person, office, line(1)), "visit_not_planned")
    return person, visit


@fixes("plan_client_unlinked")
def the_clients_supplementary_file_comes(new_person: Any, office: CareOffice) -> Person:
    person = connected(new_person, office.base.as_uri())
    is_told_of(person, is_planned(person, office, line(9)), "plan_client_unlinked")
    office.send([made_up(1, 9)], NOW + timedelta(minutes=2))
    person.waits()
    confirms(person, 9)
    assert person.plans().agrees
    return person


@fixes("plan_client_unlinked", "Import results")
def somebody_says_who_the_client_is(new_person: Any, office: CareOffice) -> Person:
    person: Person = new_person(CARECSV, office.base.as_uri(), None, **SETTINGS)
    person.options = ("--identity", "match")
    person.connects()
    for file in office.folder.iterdir():
        file.unlink()
    office.send([made_up(1, 1)], NOW)
    person.minute()
    is_told_of(person, is_planned(person, office, line(1)), "plan_client_unlinked")
    person.goes("Import results")
    (told,) = json.loads(person.types("identities", TENANT, "--json"))["waiting"]
    person.types("identities", TENANT, "carecsv", "--settle", told["id"], "--new")
    person.minute()
    confirms(person, 1)
    assert person.plans().agrees
    return person
