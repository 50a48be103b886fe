"""What a mapping would do, told before it does it: the counts that the next reading will have, and no row written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from conftest import NewTenant, Tenant
from test_diff_apply import carry_over, compare, tomorrow
from test_identities import KEYS, bring_in, second

from partners.contract import Client, Entity, Master, Unmappable
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login
from zest_pipelines.core.guard import Counts
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.preview import PreviewReport, preview
from zest_pipelines.store import approvals, history, tenants
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.masters import Scope

CLIENT = Entity.CLIENT
TABLES = ("snapshot", "landed_version", "master_change", "master_result", "identity", "audit")


def look(tenant: Tenant, **settings: str) -> PreviewReport:
    return preview(tenant.services, tenant.partner, tenant.name, CLIENT, settings)


def settings_of(tenant: Tenant) -> Mapping[str, str]:
    found: Mapping[str, str] = tenant.sql("SELECT settings FROM sync.connection", Login.OPERATOR)[0][0]
    return found


def mapped_by(tenant: Tenant, **replaced: Any) -> Tenant:
    """The tenant with a mapping that says these of every client, or of whom `only` holds."""
    only = replaced.pop("only", lambda content: True)

    def changed(entity: Entity, content: dict[str, Any], settings: Mapping[str, str]) -> Master | Unmappable:
        found = tenant.partner.map(entity, content, settings)
        return replace(found, **replaced) if isinstance(found, Client) and only(content) else found

    partner = replace(tenant.partner, map=changed, mapping_version="next")
    return replace(tenant, partner=partner)


def rows(tenant: Tenant) -> list[int]:
    return [tenant.sql(f"SELECT count(*) FROM sync.{table}", Login.OPERATOR)[0][0] for table in TABLES]


def test_the_mapping_as_it_is_changes_nothing(tenant: Tenant) -> None:
    report = look(tenant)
    assert report == PreviewReport("client", records=30, unchanged=30, population=28)
    assert not report.is_held


def test_what_is_told_is_what_the_next_reading_does_and_nothing_was_written_for_it(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    theirs = sandbox.state("Patient")
    few = {each["id"] for each in theirs[:4]}
    sandbox.put(theirs[10] | {"birthDate": "1951-02-03"})
    sandbox.delete("Patient", theirs[11]["id"])
    sandbox.put(theirs[12] | {"id": "newcomer"})
    land(tomorrow(tenant).services, tenant.partner, tenant.name, CLIENT)  # landed, and nobody has compared it yet
    after = mapped_by(tenant, address="北区", phone="0", only=lambda content: content["id"] in few)
    before = rows(tenant)
    report = look(after)
    assert rows(tenant) == before
    assert (report.records, report.added, report.changed, report.deleted) == (30, 1, 5, 1)
    assert (report.fields, report.unmappable) == ({"address": 4, "phone": 4, "birth_date": 1}, 0)
    assert not report.is_held
    numbers = {f"landed:{row.landed_no}" for row in tenant.sql("SELECT * FROM sync.landed_version", Login.OPERATOR)}
    assert {len(each) for each in report.examples.values()} == {3, 1}
    assert numbers.issuperset(record for each in report.examples.values() for record in each)

    land(tomorrow(after, 2).services, after.partner, after.name, CLIENT)
    found = diff(after.services, after.partner, after.name, CLIENT)
    applied = apply(after.services, after.partner, after.name, CLIENT)
    assert (found.added, found.changed, found.deleted) == (report.added, report.changed, report.deleted)
    assert (applied.changed, applied.deletes) == (report.fields, report.deleted)


def test_a_setting_that_is_tried_tells_what_cannot_be_taken_any_more_and_what_can_again(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    wrong = look(tenant, patient_identifier_system="urn:nobody")
    assert (wrong.unmappable, wrong.newly_unmappable, wrong.deleted) == (30, {"required_field_missing": 30}, 0)
    assert len(wrong.examples["required_field_missing"]) == 3
    theirs = sandbox.state("Patient")
    for each in theirs[:2]:
        moved = [identifier | {"system": "urn:other"} for identifier in each["identifier"]]
        sandbox.put(each | {"identifier": moved})
    sandbox.put(theirs[2] | {"name": [{"family": "山\u0000田"}]})
    land(tenant.services, tenant.partner, tenant.name, CLIENT)
    right = look(tenant, patient_identifier_system="urn:other")
    assert right.cured == {"required_field_missing": 2}
    assert (right.unchanged, right.unmappable, right.newly_unmappable) == (2, 28, {"required_field_missing": 27})
    assert look(tenant).newly_unmappable == {}  # nothing new: these three stand already
    anybody = tenant.partner.map(CLIENT, theirs[3], settings_of(tenant))
    anything = replace(tenant, partner=replace(tenant.partner, map=lambda *_: anybody))
    assert (look(anything).unmappable, look(anything).cured) == (
        1,
        {"required_field_missing": 2},
    )  # its content is lost


def test_what_the_guard_would_hold_is_told_and_what_is_only_spelled_otherwise_is_not(tenant: Tenant) -> None:
    held = look(mapped_by(tenant, address="北区1"))
    assert (held.is_held, held.held_fields, held.changed) == (True, {"address": 30}, 30)

    def spelled(entity: Entity, content: dict[str, Any], settings: Mapping[str, str]) -> Master | Unmappable:
        found = tenant.partner.map(entity, content, settings)
        assert isinstance(found, Client)
        return replace(found, family_kana=f"{found.family_kana}　", postal_code=found.postal_code.replace("-", ""))

    report = look(replace(tenant, partner=replace(tenant.partner, map=spelled)))
    assert (report.changed, report.unchanged, report.respelled, report.is_held) == (0, 30, 30, False)


def test_what_is_approved_is_told_and_would_go_through(tenant: Tenant) -> None:
    held, scope = mapped_by(tenant, address="北区1", phone="0"), Scope(tenant.name, "fhir", CLIENT)

    def approve(**changed: int) -> None:
        with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
            approvals.approve(tx, scope, Counts(changed=changed))

    approve(address=30)
    report = look(held)
    assert (report.held_fields, report.approved_fields, report.is_held) == ({"phone": 30}, {"address": 30}, True)
    approve(address=29, phone=30)  # the newest one counts, and only it: as the next application has it
    report = look(held)
    assert (report.held_fields, report.approved_fields) == ({"address": 30}, {"phone": 30})
    approve(address=30, phone=30)
    report = look(held)
    assert (report.approved_fields, report.is_held) == ({"address": 30, "phone": 30}, False)
    land(tomorrow(held).services, held.partner, held.name, CLIENT)
    diff(held.services, held.partner, held.name, CLIENT)
    assert apply(held.services, held.partner, held.name, CLIENT).held == 0


def test_of_a_partner_that_only_links_nothing_would_be_held(tenant: Tenant, sandbox: RunningSandbox) -> None:
    there = second(tenant, sandbox, creates=(), keys=KEYS)
    linked = bring_in(there).applied
    assert linked > 10
    moved = mapped_by(there, address="北区1")
    report = look(moved)
    assert (report.fields, report.is_held, report.makes_masters) == ({"address": linked}, False, False)
    for each in sandbox.state("Patient"):
        sandbox.delete("Patient", each["id"])
    land(tomorrow(there).services, there.partner, there.name, CLIENT)
    report = look(there)
    assert (report.deleted, report.is_held) == (linked, False)
    compare(there)
    assert carry_over(there).held == 0


def test_a_look_cannot_write(tenant: Tenant) -> None:
    scope = Scope(tenant.name, "fhir", CLIENT)

    def look_and_write() -> None:
        with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
            list(history.newest_contents(tx, scope))
            tenants.pause(tx, tenant.name, "fhir", "a reason")

    with pytest.raises(StoreError, match="25006"):  # a transaction that only reads
        look_and_write()


def test_each_tenant_is_looked_at_alone(tenant: Tenant, sandbox: RunningSandbox, new_tenant: NewTenant) -> None:
    assert look(new_tenant(sandbox, "ume")) == PreviewReport("client")
