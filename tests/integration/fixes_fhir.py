"""Scenes at a FHIR partner: of `test_fixes`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import TOKEN
from fhir_bench import scripted_server, searchset
from fix_bench import TENANT, Person, fixes
from flow_bench import copy_of
from issued import PASSWORD, issue
from test_identities import ANOTHER, people
from token_bench import CLIENT_ID, KEY_ID, PRIVATE, SECRET, SMART, made_key, smart

from partners.contract import Entity
from partners.fhir.partner import FHIR
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from resources.logins import Login
from zest_pipelines.store import identities
from zest_pipelines.store.masters import Scope

CONFIG = SandboxConfig(token=TOKEN, clients=12, staff=4)
SYSTEMS = {
    "patient_identifier_system": CONFIG.patient_identifier_system,
    "staff_identifier_system": CONFIG.staff_identifier_system,
}


def connected(new_person: Any, sandbox: RunningSandbox, **secret: str) -> Person:
    """A person of a tenant whose masters are in."""
    person: Person = new_person(FHIR, sandbox.url, secret or {"token": TOKEN}, **SYSTEMS)
    person.connects()
    person.minute()
    return person


def with_visit(new_person: Any, sandbox: RunningSandbox, **secret: str) -> tuple[Person, UUID]:
    """And a visit that was delivered."""
    person = connected(new_person, sandbox, **secret)
    visit = person.tenant.add_visit()
    person.minute()
    person.sees_ok(visit)
    return person, visit


# --- The connection ---------------------------------------------------------------------------------------------------


@fixes("credential_refused", "Connection settings", "Credential")
def the_partner_gave_another_token(new_person: Any, sandbox: RunningSandbox) -> Person:
    person, visit = with_visit(new_person, sandbox)
    sandbox.configure(token="another")
    person.tenant.edit_visit(visit, note="later")
    person.minute()
    person.reads("credential_refused")
    person.connects("Connection settings", "Credential", secret={"token": "another"})
    person.waits()
    person.sees_ok(visit)
    return person


@pytest.fixture
def tokens() -> Iterator[RunningSandbox]:
    """A server that gives tokens."""
    with running_sandbox(SandboxConfig(smart=SMART, clients=3, staff=1)) as running:
        yield running


@fixes("client_refused", "Connection settings", "Credential")
def the_partner_knows_another_key(new_person: Any, tokens: RunningSandbox) -> Person:
    person = connected(new_person, tokens, **SECRET)
    private, public = made_key()
    tokens.configure(smart=smart(keys={KEY_ID: public}))
    tokens.revoke_tokens()
    visit = person.tenant.add_visit()
    person.minute()
    assert CLIENT_ID in person.reads("client_refused")["next_action"]
    person.connects("Connection settings", "Credential", secret={**SECRET, "private_key": private})
    person.waits()
    person.sees_ok(visit)
    return person


def not_allowed(new_person: Any, tokens: RunningSandbox) -> Person:
    tokens.configure(smart=smart(scopes="system/Patient.read system/Practitioner.read"))
    person = connected(new_person, tokens, **SECRET)
    person.reads("scope_refused")
    return person


@fixes("scope_refused")
def the_partner_allows_them(new_person: Any, tokens: RunningSandbox) -> Person:
    person = not_allowed(new_person, tokens)
    tokens.configure(smart=smart())
    person.waits()
    person.sees_ok()
    return person


@fixes("scope_refused", "Connection settings", "scopes")
def fewer_are_asked_for(new_person: Any, tokens: RunningSandbox) -> Person:
    person = not_allowed(new_person, tokens)
    person.connects("Connection settings", "scopes", scopes="system/Patient.read system/Practitioner.read")
    person.waits()
    person.sees_ok()
    return person


@fixes("private_key_unusable", "Connection settings", "Credential")
def the_key_was_cut_short(new_person: Any, tokens: RunningSandbox) -> Person:
    person = connected(new_person, tokens, **SECRET)
    person.has_stored({**SECRET, "private_key": PRIVATE[:60]})
    visit = person.tenant.add_visit()
    person.minute()
    person.reads("private_key_unusable")
    person.connects("Connection settings", "Credential", secret=SECRET)
    person.waits()
    person.sees_ok(visit)
    return person


@fixes("permission_missing", "Permissions", "Delivery results", "Send again")
def the_account_may_only_read(new_person: Any, sandbox: RunningSandbox) -> Person:
    person, visit = with_visit(new_person, sandbox)
    sandbox.configure(read_only=True)
    person.tenant.edit_visit(visit, note="later")
    person.minute()
    assert "Appointment update" in person.reads("permission_missing", visit)["next_action"]
    person.goes("Permissions")
    sandbox.configure(read_only=False)
    person.sends_again()
    person.sees_ok(visit)
    return person


@fixes("settings_missing", "Connection settings")
def a_setting_is_not_in_its_form(new_person: Any, sandbox: RunningSandbox) -> Person:
    person = connected(new_person, sandbox)
    person.has_stored(settings=person.settings | {"batch_size": "many"})
    person.day()
    assert "batch_size" in person.reads("settings_missing")["next_action"]
    person.connects("Connection settings", batch_size="1")
    person.waits()
    person.sees_ok()
    return person


@fixes("settings_missing", "Connection settings")
def half_of_a_credential_is_missing(new_person: Any, tokens: RunningSandbox) -> Person:
    person = connected(new_person, tokens, **SECRET)
    person.has_stored({"client_id": CLIENT_ID})
    person.day()
    assert "private_key" in person.reads("settings_missing")["next_action"]
    person.connects("Connection settings", secret=SECRET)
    person.waits()
    person.sees_ok()
    return person


@fixes("address_wrong", "Connection settings", "Address")
def the_address_is_not_the_servers(new_person: Any, sandbox: RunningSandbox) -> Person:
    person: Person = new_person(FHIR, f"{sandbox.url}/elsewhere", {"token": TOKEN}, **SYSTEMS)
    person.connects()
    person.minute()
    person.reads("address_wrong")
    person.connects("Connection settings", "Address", url=sandbox.url)
    person.waits()
    person.sees_ok()
    return person


@fixes("list_continues_elsewhere", "Connection settings", "Address")
def the_partner_calls_itself_otherwise(new_person: Any, sandbox: RunningSandbox) -> Person:
    def answer(path: str) -> Any:
        return searchset(next=f"{sandbox.url}/Patient?page=2")

    with scripted_server(answer) as alias:
        person: Person = new_person(FHIR, alias.url, {"token": TOKEN}, **SYSTEMS)
        person.connects()
        person.minute()
        person.reads("list_continues_elsewhere")
    person.connects("Connection settings", "Address", url=sandbox.url)
    person.waits()
    person.sees_ok()
    return person


@fixes("list_continues_elsewhere")
def the_partner_corrects_its_name(new_person: Any) -> Person:
    links = {"next": "https://elsewhere.example/Patient?page=2"}
    with scripted_server(lambda path: searchset(**links)) as alias:
        person: Person = new_person(FHIR, alias.url, {"token": TOKEN}, **SYSTEMS)
        person.connects()
        person.minute()
        person.reads("list_continues_elsewhere")
        links.clear()
        person.waits()
        person.sees_ok()
    return person


@fixes("not_this_protocol", "Connection settings", "Address")
def another_service_answers_there(new_person: Any, sandbox: RunningSandbox) -> Person:
    with scripted_server(lambda path: (406, {"content-type": "application/json"}, b"{}")) as other:
        person: Person = new_person(FHIR, other.url, {"token": TOKEN}, **SYSTEMS)
        person.connects()
        person.minute()
        assert "FHIR R4" in person.reads("not_this_protocol")["next_action"]
    person.connects("Connection settings", "Address", url=sandbox.url)
    person.waits()
    person.sees_ok()
    return person


@fixes("connection_paused", "Connection settings", "Resume")
def somebody_paused_it(new_person: Any, sandbox: RunningSandbox) -> Person:
    person, visit = with_visit(new_person, sandbox)
    person.types("pause", "sakura", "fhir", "--reason", "a test")
    person.tenant.edit_visit(visit, note="later")
    person.minute()
    person.reads("connection_paused")
    person.goes("Connection settings", "Resume")
    person.types("resume", "sakura", "fhir")
    person.minute()
    person.sees_ok(visit)
    return person


@fixes("client_certificate_expired", "Connection settings", "Credential")
def the_certificate_ended(new_person: Any, sandbox: RunningSandbox) -> Person:
    person = connected(new_person, sandbox)
    person.has_stored(certified(timedelta(days=-1)))
    visit = person.tenant.add_visit()
    person.minute()
    person.reads("client_certificate_expired")
    person.connects("Connection settings", "Credential", secret=certified(timedelta(days=90)))
    person.waits()
    person.sees_ok(visit)
    return person


@fixes("certificate_unusable", "Connection settings", "Credential")
def the_certificates_password_is_another(new_person: Any, sandbox: RunningSandbox) -> Person:
    person = connected(new_person, sandbox)
    good = certified(timedelta(days=90))
    person.has_stored({**good, "client_certificate_password": "wrong"})
    visit = person.tenant.add_visit()
    person.minute()
    person.reads("certificate_unusable")
    person.connects("Connection settings", "Credential", secret=good)
    person.waits()
    person.sees_ok(visit)
    return person


def certified(lasts: timedelta) -> dict[str, str]:
    """The credential with a new certificate, as an authority issues it."""
    issued = issue(issue(), lasts)
    return {"token": TOKEN, "client_certificate": issued.pkcs12(), "client_certificate_password": PASSWORD}


# --- Visits -----------------------------------------------------------------------------------------------------------

KANA = ("--match-on", "birth_date,family_kana,given_kana")


def known_elsewhere(person: Person, table: str, **columns: Any) -> UUID:
    """A client or member of staff whom another partner's import has made."""
    values = {"tenant_id": TENANT, f"{table}_id": uuid4(), "family_name": "佐藤", "given_name": "花子"}
    values |= {"family_kana": "サトウ", "given_kana": "ハナコ", "active": True, **columns}
    names = ", ".join(values)
    statement = f"INSERT INTO schedule.{table} ({names}) VALUES (:{', :'.join(values)})"
    person.tenant.sql(statement, Login.APPLY, **values)
    return UUID(str(values[f"{table}_id"]))


def known_client(person: Person) -> UUID:
    of_client = {"birth_date": "1940-01-01", "sex": "female", "postal_code": "", "address": "", "phone": ""}
    return known_elsewhere(person, "client", **of_client)


def registers(sandbox: RunningSandbox, id_: str = "newcomer", **said: Any) -> None:
    """The partner's people enter a client."""
    number = [{"system": CONFIG.patient_identifier_system, "value": f"99{id_}"}]
    sandbox.put({"resourceType": "Patient", "id": id_, "active": True, "identifier": number, **people(1)[0], **said})


@pytest.fixture
def empty() -> Iterator[RunningSandbox]:
    """A server in which nobody is yet."""
    with running_sandbox(SandboxConfig(token=TOKEN)) as running:
        yield running


def matching(new_person: Any, empty: RunningSandbox, *how: str) -> Person:
    """A person of a tenant whose people another partner brought, at a partner whose records are matched with them."""
    person: Person = new_person(FHIR, empty.url, {"token": TOKEN}, **SYSTEMS)
    person.options = ("--identity", "match", *how)
    person.connects()
    person.minute()
    return person


@fixes("client_not_yet_at_partner", "Clients")
def the_client_is_registered_there(new_person: Any, empty: RunningSandbox) -> Person:
    person = matching(new_person, empty, *KANA)
    visit = person.tenant.add_visit(client_id=known_client(person), staff_id=None)
    person.minute()
    person.reads("client_not_yet_at_partner", visit)
    person.goes("Clients")
    registers(empty)
    person.waits()
    person.sees_ok(visit)
    return person


@fixes("staff_not_yet_at_partner", "Staff")
def the_member_of_staff_is_registered_there(new_person: Any, empty: RunningSandbox) -> Person:
    person = matching(new_person, empty, *KANA, "--match-on", "staff=number,family_kana,given_kana")
    registers(empty)
    client = known_client(person)
    person.day()
    nurse = known_elsewhere(person, "staff", qualification="")
    with person.services.database.transaction(Login.APPLY, TENANT) as tx:
        identities.identify(tx, Scope(TENANT, "smarthr", Entity.STAFF), "crew", nurse, "77")
    visit = person.tenant.add_visit(client_id=client, staff_id=nurse)
    person.minute()
    person.reads("staff_not_yet_at_partner", visit)
    person.goes("Staff")
    number = [{"system": CONFIG.staff_identifier_system, "value": "77"}]
    empty.put({"resourceType": "Practitioner", "id": "p", "identifier": number, "name": people(1)[0]["name"]})
    person.waits()
    person.sees_ok(visit)
    return person


@fixes("record_refused", "Visits")
def a_field_is_corrected(new_person: Any, sandbox: RunningSandbox) -> Person:
    person = connected(new_person, sandbox)
    client, other = person.tenant.ids("client")[:2]
    gone = theirs(person, client)
    sandbox.delete("Patient", gone)
    visit = person.tenant.add_visit(client_id=client)
    person.minute()
    assert "Client, Member of staff" in person.reads("record_refused", visit)["next_action"]
    person.edits(visit, client_id=other)
    person.waits()
    person.sees_ok(visit)
    return person


def theirs(person: Person, ours: UUID) -> str:
    """The partner's id of one of ours."""
    statement = "SELECT partner_id FROM sync.identity WHERE record_id = :ours"
    ((id_,),) = person.tenant.sql(statement, Login.OPERATOR, ours=ours)
    return str(id_)


@fixes("content_refused", "Visits")
def the_whole_is_gone_over(new_person: Any, sandbox: RunningSandbox) -> Person:
    person = connected(new_person, sandbox)
    sandbox.set_faults({"method": "POST", "kind": "status", "status": 422, "code": "business-rule", "times": 1})
    visit = person.tenant.add_visit()
    person.minute()
    assert "business-rule" in person.reads("content_refused", visit)["message"]
    person.edits(visit, note="shorter")
    person.waits()
    person.sees_ok(visit)
    return person


def deleted_there(new_person: Any, sandbox: RunningSandbox) -> tuple[Person, UUID, dict[str, Any]]:
    person, visit = with_visit(new_person, sandbox)
    copy = copy_of(sandbox, visit)
    sandbox.delete("Appointment", copy["id"])
    person.tenant.edit_visit(visit, note="later")
    person.minute()
    person.reads("record_gone_at_partner", visit)
    return person, visit, copy


@fixes("record_gone_at_partner", "Delivery results", "Send again")
def it_is_restored_there(new_person: Any, sandbox: RunningSandbox) -> Person:
    person, visit, copy = deleted_there(new_person, sandbox)
    sandbox.put(copy)
    person.sends_again()
    person.sends_again()  # to the partner it is another version than the one that we knew
    person.sees_ok(visit)
    return person


@fixes("record_gone_at_partner", "Visits")
def it_is_cancelled_here(new_person: Any, sandbox: RunningSandbox) -> Person:
    person, visit, _ = deleted_there(new_person, sandbox)
    person.edits(visit, status="cancelled")
    person.minute()
    person.sees_ok(visit, warning="nothing_to_cancel")
    return person


@fixes("changed_at_partner", "Delivery results", "Send again")
def ours_is_right(new_person: Any, sandbox: RunningSandbox) -> Person:
    person, visit = with_visit(new_person, sandbox)
    sandbox.put(copy_of(sandbox, visit) | {"comment": "theirs"})
    person.tenant.edit_visit(visit, note="ours")
    person.minute()
    person.reads("changed_at_partner", visit)
    person.sends_again()
    person.sees_ok(visit)
    assert copy_of(sandbox, visit)["comment"] == "ours"
    return person


@fixes("several_at_partner", "Delivery results", "Send again")
def the_extra_one_is_deleted(new_person: Any, sandbox: RunningSandbox) -> Person:
    person = connected(new_person, sandbox)
    unreadable = {"method": "GET", "type": "Appointment", "kind": "cut_before"}
    sandbox.set_faults({"method": "POST", "type": "Appointment", "kind": "cut_after"}, unreadable)
    visit = person.tenant.add_visit()
    person.minute()
    sandbox.clear_faults()
    sandbox.put(copy_of(sandbox, visit) | {"id": "second"})
    person.day()
    person.reads("several_at_partner", visit)
    sandbox.delete("Appointment", "second")
    person.sends_again()
    person.sees_ok(visit)
    return person


# --- Masters ----------------------------------------------------------------------------------------------------------


def settles(person: Person, code: str, *how: str) -> None:
    """The person says who the one is of whom that is told."""
    person.goes("Import results", "Confirm identity")
    (told,) = json.loads(person.types("identities", TENANT, "--json"))["waiting"]
    assert told["reason"] == code
    person.types("identities", TENANT, "fhir", "--settle", told["id"], *how)
    person.minute()


def namesakes(new_person: Any, empty: RunningSandbox) -> tuple[Person, UUID]:
    """Two of ours could be the partner's one."""
    person = matching(new_person, empty, *KANA)
    ours, _ = known_client(person), known_client(person)
    registers(empty)
    person.day()
    person.reads("identity_ambiguous")
    return person, ours


@fixes("identity_ambiguous", "Import results", "Confirm identity")
def one_of_them_is_chosen(new_person: Any, empty: RunningSandbox) -> Person:
    person, ours = namesakes(new_person, empty)
    settles(person, "identity_ambiguous", "--link", str(ours))
    person.sees_ok()
    return person


@fixes("identity_ambiguous", "Import results", "Confirm identity")
def neither_of_them_it_is(new_person: Any, empty: RunningSandbox) -> Person:
    person, _ = namesakes(new_person, empty)
    settles(person, "identity_ambiguous", "--new")
    person.sees_ok()
    assert len(person.tenant.ids("client")) == 3
    return person


@fixes("identity_unmatched", "Import results", "Confirm identity")
def a_new_one_is_registered(new_person: Any, empty: RunningSandbox) -> Person:
    person = matching(new_person, empty)
    registers(empty)
    person.day()
    person.reads("identity_unmatched")
    settles(person, "identity_unmatched", "--new")
    person.sees_ok()
    return person


@fixes("partner_id_reused", "Import results", "Confirm identity")
def the_number_is_anothers_now(new_person: Any, empty: RunningSandbox) -> Person:
    person = connected(new_person, empty)
    registers(empty)
    person.day()
    registers(empty, **ANOTHER)
    person.day()
    person.reads("partner_id_reused")
    settles(person, "partner_id_reused", "--new")
    person.sees_ok()
    return person


def many_gone(new_person: Any, sandbox: RunningSandbox) -> tuple[Person, list[dict[str, Any]]]:
    person = connected(new_person, sandbox)
    gone = [each for each in sandbox.state("Patient") if each["active"]]
    for each in gone[:11]:
        sandbox.delete("Patient", each["id"])
    person.day()
    person.reads("mass_change_held")
    return person, gone


@fixes("mass_change_held")
def it_was_a_mistake_at_the_partner(new_person: Any, sandbox: RunningSandbox) -> Person:
    person, gone = many_gone(new_person, sandbox)
    for each in gone[:11]:
        sandbox.put(each)
    person.waits()
    person.sees_ok()
    return person


@fixes("mass_change_held", "Import changes")
def it_is_right_and_support_approves(new_person: Any, sandbox: RunningSandbox) -> Person:
    person, _ = many_gone(new_person, sandbox)
    person.goes("Import changes")
    approves(person)
    person.sees_ok()
    return person


def approves(person: Person) -> None:
    """Support does, who was told."""
    person.types("approve", TENANT, "fhir", "--yes")
    person.minute()


@fixes("mass_change_grew", "Import changes")
def it_grew_and_is_right(new_person: Any, sandbox: RunningSandbox) -> Person:
    person, gone = many_gone(new_person, sandbox)
    person.types("approve", TENANT, "fhir", "--yes")
    sandbox.delete("Patient", gone[11]["id"])
    person.day()
    person.reads("mass_change_grew")
    person.goes("Import changes")
    approves(person)
    person.sees_ok()
    return person
