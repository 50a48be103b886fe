"""The ten example resources of JP Core, at the partner, become masters of the product."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date

import pytest
from conftest import TOKEN, NewTenant, Tenant
from jp_core_examples import NEEDS_EXAMPLES, SETTINGS, put_examples

from partners.contract import Entity
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from resources.logins import Login
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land

pytestmark = NEEDS_EXAMPLES


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    """A partner that holds the examples and nothing else."""
    with running_sandbox(SandboxConfig(token=TOKEN)) as running:
        put_examples(running)
        yield running


@pytest.fixture
def clinic(sandbox: RunningSandbox, new_tenant: NewTenant) -> Tenant:
    """A tenant connected to it, with the identifier systems that the examples use."""
    tenant = new_tenant(sandbox, "clinic")
    settings = json.dumps(SETTINGS)
    tenant.sql("UPDATE sync.connection SET settings = CAST(:settings AS jsonb)", Login.OPERATOR, settings=settings)
    for entity, records in ((Entity.CLIENT, 1), (Entity.STAFF, 4)):
        landed = land(tenant.services, tenant.partner, tenant.name, entity)
        assert (landed.state, landed.records, landed.unmappable) == ("certified", records, 0)
        assert landed.unknown_fields == {}
        diff(tenant.services, tenant.partner, tenant.name, entity)
        applied = apply(tenant.services, tenant.partner, tenant.name, entity)
        assert (applied.applied, applied.rejected, applied.equals_landed) == (records, 0, True)
    return tenant


def test_the_ten_examples_land_and_are_applied_with_names_dates_and_identifiers(clinic: Tenant) -> None:
    numbers = {
        row.partner_id: (row.record_id, row.number) for row in clinic.sql("SELECT * FROM sync.identity", Login.OPERATOR)
    }
    (client,) = clinic.sql("SELECT * FROM schedule.client")
    assert numbers["jp-patient-example-1"] == (client.client_id, "00000010")
    assert (client.family_name, client.given_name) == ("山田", "太郎")
    assert (client.family_kana, client.given_kana) == ("ヤマダ", "タロウ")
    assert (client.birth_date, client.sex, client.active) == ("1970-01-01", "male", True)
    assert (client.postal_code, client.address, client.phone) == ("1600023", "東京都新宿区", "0312345678")
    staff = {row.staff_id: row for row in clinic.sql("SELECT * FROM schedule.staff")}
    names = {
        partner_id.removeprefix("jp-practitioner-example-"): (
            (staff[ours].family_name, staff[ours].given_name),
            (staff[ours].family_kana, staff[ours].given_kana),
            number,
        )
        for partner_id, (ours, number) in numbers.items()
        if ours in staff
    }
    assert names == {
        "female-1": (("東京", "春子"), ("トウキョウ", "ハルコ"), ""),
        "female-2": (("福岡", "花子"), ("フクオカ", "ハナコ"), ""),
        "male-1": (("大阪", "一郎"), ("オオサカ", "イチロウ"), "23"),
        "male-2": (
            ("愛知", "太郎"),
            ("チバ", "タロウ"),
            "",
        ),  # its kana contradicts its text, and is taken as it stands
    }
    employed = staff[numbers["jp-practitioner-example-male-1"][0]]
    assert (employed.employed_from, employed.employed_until) == (date(2012, 1, 1), date(2012, 3, 31))


def test_reading_them_again_changes_nothing(clinic: Tenant) -> None:
    before = clinic.sql("SELECT * FROM schedule.client, schedule.staff ORDER BY staff_id")
    clinic.take_in()
    assert clinic.sql("SELECT * FROM schedule.client, schedule.staff ORDER BY staff_id") == before
    assert clinic.sql("SELECT count(*) FROM sync.landed_version", Login.OPERATOR)[0][0] == 5
