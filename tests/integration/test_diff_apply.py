"""Diff and apply: each step of a master once, with one result, and never too many at once."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from conftest import NewTenant, Tenant
from evidence import is_told

from partners.contract import Client, Entity, Master, Unmappable
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from resources.logins import Login
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.reports import ApplyReport, DiffReport
from zest_pipelines.store.database import Database

CLIENT = Entity.CLIENT
CLIENTS = 30


def tomorrow(tenant: Tenant, days: int = 1) -> Tenant:
    moment = timedelta(days=days, hours=days)
    return replace(tenant, services=replace(tenant.services, now=lambda: datetime.now(UTC) + moment))


def compare(tenant: Tenant) -> DiffReport:
    return diff(tenant.services, tenant.partner, tenant.name, CLIENT)


def carry_over(tenant: Tenant) -> ApplyReport:
    return apply(tenant.services, tenant.partner, tenant.name, CLIENT)


def take_in(tenant: Tenant) -> tuple[DiffReport, ApplyReport]:
    report = land(tenant.services, tenant.partner, tenant.name, CLIENT)
    assert report.state == "certified", report
    return compare(tenant), carry_over(tenant)


def clients(tenant: Tenant) -> dict[str, Any]:
    """Our clients by the partner's id."""
    rows = tenant.sql(
        "SELECT i.partner_id, c.* FROM schedule.client c JOIN sync.identity i ON i.record_id = c.client_id",
        Login.OPERATOR,
    )
    return {row.partner_id: row for row in rows}


def results(tenant: Tenant, partner_id: str | None = None) -> list[tuple[str, str | None]]:
    rows = tenant.sql(
        "SELECT outcome, reason FROM sync.master_result WHERE entity = 'client' "
        "AND partner_id = coalesce(:id, partner_id) ORDER BY result_no",
        Login.OPERATOR,
        id=partner_id,
    )
    return [(row.outcome, row.reason) for row in rows]


def test_every_client_of_the_partner_is_ours_once_under_one_identity(tenant: Tenant, sandbox: RunningSandbox) -> None:
    ours = clients(tenant)
    theirs = {each["id"]: each for each in sandbox.state("Patient")}
    assert ours.keys() == theirs.keys()
    assert {key: (row.birth_date, row.sex, row.active) for key, row in ours.items()} == {
        key: (each["birthDate"], each["gender"], each["active"]) for key, each in theirs.items()
    }
    numbers = {row.partner_id: row.number for row in tenant.sql("SELECT * FROM sync.identity", Login.OPERATOR)}
    assert {key: numbers[key] for key in theirs} == {
        key: each["identifier"][0]["value"] for key, each in theirs.items()
    }


def test_a_second_diff_and_a_second_apply_do_nothing(tenant: Tenant) -> None:
    before = clients(tenant), results(tenant)
    again = take_in(tomorrow(tenant))
    assert replace(again[0], seconds=0) == DiffReport("client")
    standing = {"landed_records": CLIENTS, "applied_records": CLIENTS, "population": CLIENTS - 2}  # two are inactive
    assert replace(again[1], seconds=0) == ApplyReport("client", **standing)
    assert (clients(tenant), results(tenant)) == before


def test_a_change_of_one_field_is_one_master_change_of_that_field(tenant: Tenant, sandbox: RunningSandbox) -> None:
    theirs = sandbox.state("Patient")[0]
    sandbox.put(theirs | {"birthDate": "1951-02-03"})
    found, applied = take_in(tenant)
    assert (found.added, found.changed, found.deleted, applied.applied) == (0, 1, 0, 1)
    (change,) = tenant.sql("SELECT * FROM sync.master_change WHERE kind = 'change'", Login.OPERATOR)
    assert (change.partner_id, change.fields) == (theirs["id"], ["birth_date"])
    assert (change.before["birth_date"], change.after["birth_date"]) == (theirs["birthDate"], "1951-02-03")
    changed = clients(tenant)[theirs["id"]]
    assert (changed.birth_date, changed.version) == ("1951-02-03", 2)
    assert all(row.version == 1 for key, row in clients(tenant).items() if key != theirs["id"])


def test_of_two_changes_that_nobody_applied_the_newer_one_is(tenant: Tenant, sandbox: RunningSandbox) -> None:
    theirs = sandbox.state("Patient")[0]
    for birth_date in ("1951-02-03", "1951-02-04"):
        sandbox.put(theirs | {"birthDate": birth_date})
        land(tenant.services, tenant.partner, tenant.name, CLIENT)
        compare(tenant)
    applied = carry_over(tenant)
    assert (applied.applied, applied.superseded) == (1, 1)
    assert clients(tenant)[theirs["id"]].birth_date == "1951-02-04"
    assert results(tenant, theirs["id"]) == [("applied", None), ("superseded", None), ("applied", None)]


def test_a_client_deleted_and_back_again_is_the_same_client(tenant: Tenant, sandbox: RunningSandbox) -> None:
    theirs = sandbox.state("Patient")[0]
    before = clients(tenant)[theirs["id"]]
    sandbox.delete("Patient", theirs["id"])
    take_in(tomorrow(tenant))
    gone = clients(tenant)[theirs["id"]]
    assert (gone.client_id, gone.active, gone.family_name) == (before.client_id, False, before.family_name)
    sandbox.put(theirs)
    found, _ = take_in(tomorrow(tenant, 2))
    back = clients(tenant)[theirs["id"]]
    assert (found.added, back.client_id, back.active) == (1, before.client_id, before.active)
    assert len(tenant.sql("SELECT FROM sync.identity WHERE partner_id = :id", Login.OPERATOR, id=theirs["id"])) == 1


def test_deletes_of_many_are_held_once_while_additions_go_on(tenant: Tenant, sandbox: RunningSandbox) -> None:
    theirs = [each for each in sandbox.state("Patient") if each["active"]]
    for each in theirs[:11]:  # more than ten, and more than five percent
        sandbox.delete("Patient", each["id"])
    sandbox.put(theirs[-1] | {"id": "newcomer"})
    found, applied = take_in(tomorrow(tenant))
    assert (found.deleted, found.added) == (11, 1)
    assert (applied.held, applied.applied) == (11, 1)
    assert (applied.deletes, applied.held_deletes, applied.held_fields) == (11, 11, {})
    assert {problem.reason for problem in applied.problems} == {"mass_change_held"}
    is_told("mass_change_held", applied.problems[0].params)
    ours = clients(tenant)
    assert "newcomer" in ours
    assert all(ours[each["id"]].active for each in theirs)
    again = carry_over(tenant)
    assert (again.held, again.applied) == (11, 0)
    assert [outcome for outcome, _ in results(tenant)].count("held") == 11  # no second row for what waits already


def test_ten_deletes_go_through(tenant: Tenant, sandbox: RunningSandbox) -> None:
    theirs = [each for each in sandbox.state("Patient") if each["active"]][:10]
    for each in theirs:
        sandbox.delete("Patient", each["id"])
    _, applied = take_in(tomorrow(tenant))
    assert (applied.applied, applied.held) == (10, 0)
    assert (applied.deletes, applied.held_deletes) == (10, 0)
    assert not any(clients(tenant)[each["id"]].active for each in theirs)


def test_a_field_that_changes_for_too_many_is_held_and_other_changes_go_on(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    theirs = sandbox.state("Patient")
    for each in theirs[:12]:
        sandbox.put(each | {"gender": "other"})
    sandbox.put(theirs[20] | {"birthDate": "1951-02-03"})
    _, applied = take_in(tenant)
    assert (applied.held, applied.applied) == (12, 1)
    assert (applied.changed, applied.held_fields) == ({"sex": 12, "birth_date": 1}, {"sex": 12})
    ours = clients(tenant)
    assert ours[theirs[20]["id"]].birth_date == "1951-02-03"
    assert all(ours[each["id"]].sex == each["gender"] for each in theirs[:12])


def test_a_record_that_the_database_refuses_is_rejected_alone(sandbox: RunningSandbox, new_tenant: NewTenant) -> None:
    tenant = new_tenant(sandbox)
    odd = sandbox.state("Patient")[4]["id"]

    def by_era(entity: Entity, content: Any, settings: Any) -> Master | Unmappable:
        master = tenant.partner.map(entity, content, settings)
        assert isinstance(master, Client)
        return replace(master, birth_date="昭和五年") if content["id"] == odd else master

    careless = replace(tenant, partner=replace(tenant.partner, map=by_era))
    _, applied = take_in(careless)
    assert (applied.applied, applied.rejected, applied.equals_landed) == (CLIENTS - 1, 1, True)
    (problem,) = applied.problems
    assert (problem.reason, problem.params) == ("field_invalid", {"field": "birth_date"})
    (version,) = tenant.sql("SELECT landed_no FROM sync.master_change WHERE partner_id = :id", Login.OPERATOR, id=odd)
    assert problem.record == f"landed:{version.landed_no}"  # the partner's own id may be the patient's number
    assert odd not in clients(tenant)
    assert not tenant.sql("SELECT FROM sync.identity WHERE partner_id = :id", Login.OPERATOR, id=odd)
    careful = replace(tenant, partner=replace(tenant.partner, mapping_version="next"))
    found, applied = take_in(tomorrow(careful))
    assert (found.added, applied.applied) == (1, CLIENTS)
    assert odd in clients(tenant)


def test_two_applications_at_once_apply_everything_once(sandbox: RunningSandbox, new_tenant: NewTenant) -> None:
    tenant = new_tenant(sandbox)
    land(tenant.services, tenant.partner, tenant.name, CLIENT)
    compare(tenant)
    databases = [Database(tenant.services.database._logins) for _ in range(2)]
    reports: list[ApplyReport] = []
    threads = [
        threading.Thread(
            target=lambda one=database: reports.append(
                carry_over(replace(tenant, services=replace(tenant.services, database=one)))
            )
        )
        for database in databases
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in databases:
        database.close()
    assert sorted(report.applied for report in reports) == [0, CLIENTS]
    assert results(tenant) == [("applied", None)] * CLIENTS
    assert len(tenant.ids("client")) == CLIENTS


def test_tenants_with_the_same_partner_ids_do_not_mix(sandbox: RunningSandbox, new_tenant: NewTenant) -> None:
    """Two sandboxes of one seed have the same ids: what differs lands with its own tenant."""
    with running_sandbox(SandboxConfig(token="a-token-for-tests", clients=30, staff=8)) as twin:
        one, two = new_tenant(sandbox, "one"), new_tenant(twin, "two")
        shared = twin.state("Patient")[0]
        twin.put(shared | {"birthDate": "1900-01-01"})
        one.take_in()
        two.take_in()
        assert clients(one)[shared["id"]].birth_date == shared["birthDate"]
        assert clients(two)[shared["id"]].birth_date == "1900-01-01"
        ids: list[set[UUID]] = [set(each.ids("client")) for each in (one, two)]
        assert [len(each) for each in ids] == [CLIENTS, CLIENTS]
        assert ids[0].isdisjoint(ids[1])


@pytest.mark.parametrize("gap", ["before_diff", "before_apply"])
def test_what_a_dead_run_left_is_taken_up_by_the_next(sandbox: RunningSandbox, new_tenant: NewTenant, gap: str) -> None:
    tenant = new_tenant(sandbox)
    land(tenant.services, tenant.partner, tenant.name, CLIENT)
    if gap == "before_apply":
        compare(tenant)
    found, applied = take_in(tenant)
    assert found.added == (CLIENTS if gap == "before_diff" else 0)
    assert applied.applied == CLIENTS
    assert asdict(applied)["landed_records"] == CLIENTS
