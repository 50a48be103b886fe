"""The masters of a past moment: what the product had then, and which reading said so."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pandas as pd
from conftest import NewTenant, Tenant
from test_diff_apply import tomorrow

from partners.contract import Entity
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.reports import DiffReport
from zest_pipelines.store import frames, history
from zest_pipelines.store.history import MasterThen
from zest_pipelines.store.masters import Scope

DAY = datetime(2026, 11, 1, 9, tzinfo=UTC)
_numbers = itertools.count(1_000_000)
PERSON = {
    "number": "1",
    "family_name": "山田",
    "given_name": "花子",
    "family_kana": "ヤマダ",
    "given_kana": "ハナコ",
    "birth_date": "1940-05-06",
    "sex": "female",
    "postal_code": "",
    "address": "北区1",
    "phone": "",
    "active": True,
}


def as_of(tenant: Tenant, at: datetime) -> dict[UUID, MasterThen]:
    scope = Scope(tenant.name, tenant.partner.name, Entity.CLIENT)
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        return {each.record_id: each for each in history.as_of(tx, scope, at)}


def now(tenant: Tenant) -> datetime:
    moment: datetime = tenant.sql("SELECT clock_timestamp()")[0][0]
    return moment


def ours(tenant: Tenant) -> dict[UUID, dict[str, Any]]:
    """The product's clients as they are now, by our id, without what is ours alone."""
    rows = [dict(row._mapping) for row in tenant.sql("SELECT * FROM schedule.client")]
    return {row["client_id"]: {name: row[name] for name in PERSON if name != "number"} for row in rows}


def told(found: Mapping[UUID, MasterThen]) -> dict[UUID, dict[str, Any]]:
    return {key: {name: each.master[name] for name in PERSON if name != "number"} for key, each in found.items()}


def take_in(tenant: Tenant) -> DiffReport:
    land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    found = diff(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    apply(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    return found


def test_each_moment_shows_what_the_product_had_then_and_the_reading_that_said_so(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox)
    moments = [(now(tenant), ours(tenant))]
    theirs = sandbox.state("Patient")

    def happens(after: Tenant) -> None:
        take_in(after)
        moments.append((now(tenant), ours(tenant)))

    happens(tenant)
    sandbox.put(theirs[0] | {"birthDate": "1951-02-03"})
    sandbox.put(theirs[1] | {"gender": "M"})  # rejected: the product keeps what it had
    happens(tenant)
    sandbox.delete("Patient", theirs[2]["id"])
    happens(tomorrow(tenant))
    sandbox.put(theirs[2])
    sandbox.put(theirs[0] | {"birthDate": "1951-02-04"})
    happens(tomorrow(tenant, 2))

    assert [len(had) for _, had in moments] == [0, 30, 30, 30, 30]
    assert len({str(had) for _, had in moments}) == 5  # each did something
    for moment, had in moments:
        assert told(as_of(tenant, moment)) == had
    last = as_of(tenant, moments[-1][0])
    readings = {row.snapshot_id: row for row in tenant.sql("SELECT * FROM sync.snapshot", Login.OPERATOR)}
    for each in last.values():
        reading = readings[each.snapshot_id]
        assert reading.started_at < each.read_at < each.applied_at
    assert len({each.snapshot_id for each in last.values()}) == 2
    deleted = [each for each in as_of(tenant, moments[3][0]).values() if each.is_gone]
    assert [(each.partner_id, each.master["active"]) for each in deleted] == [(theirs[2]["id"], False)]


READING = """
    INSERT INTO sync.snapshot (snapshot_id, tenant_id, partner, entity, state, finished_at)
    VALUES (:snapshot, :tenant, 'fhir', 'client', 'certified', now())
"""
LANDED = """
    INSERT INTO sync.landed_version (tenant_id, partner, entity, partner_id, landed_no, snapshot_id, fingerprint,
                                     content, master)
    VALUES (:tenant, 'fhir', 'client', :id, :no, :snapshot, CAST(:mark AS bytea), CAST(:master AS jsonb),
            CAST(:master AS jsonb))
"""
CHANGED = """
    INSERT INTO sync.master_change (tenant_id, partner, entity, partner_id, landed_no, kind, fields, after)
    VALUES (:tenant, 'fhir', 'client', :id, :no, :kind, '{}', CAST(:master AS jsonb))
"""
ENDED = """
    INSERT INTO sync.master_result (tenant_id, partner, entity, partner_id, landed_no, outcome, reason, record_id,
                                    made_at)
    VALUES (:tenant, 'fhir', 'client', :id, :no, :outcome, :reason, :record, :at)
"""


def step(
    tenant: Tenant, day: int, partner_id: str, record_id: UUID, address: str | None, reason: str | None = None
) -> None:
    """One step of a master's history, that many days after DAY; no address: it is deleted; a reason: it is held."""
    master = None if address is None else json.dumps(PERSON | {"address": address})
    snapshot = uuid4()
    key = {"tenant": tenant.name, "id": partner_id, "no": next(_numbers)}
    tenant.sql(READING, Login.LAND, tenant=tenant.name, snapshot=snapshot)
    tenant.sql(LANDED, Login.LAND, **key, snapshot=snapshot, master=master, mark=master and b"x")
    tenant.sql(CHANGED, Login.DIFF, **key, master=master, kind="delete" if address is None else "change")
    ended = {"outcome": "held" if reason else "applied", "reason": reason, "at": DAY + timedelta(days=day)}
    tenant.sql(ENDED, Login.APPLY, **key, **ended, record=record_id)


def shown(tenant: Tenant, day: float) -> dict[UUID, tuple[str, bool]]:
    """(address, active) of each client then."""
    found = as_of(tenant, DAY + timedelta(days=day))
    return {key: (each.master["address"], each.master["active"]) for key, each in found.items()}


def test_a_number_that_means_somebody_else_leaves_the_first_one_inactive_as_it_was(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox)
    first, second = uuid4(), uuid4()
    step(tenant, 1, "a", first, "北区1")
    step(tenant, 2, "a", first, "北区2", reason="mass_change_held")
    step(tenant, 3, "a", second, "南区")

    assert shown(tenant, 0.9) == {}
    assert shown(tenant, 1) == shown(tenant, 2) == {first: ("北区1", True)}
    assert shown(tenant, 3) == {first: ("北区1", False), second: ("南区", True)}


def test_who_is_known_by_another_number_now_stands_once_and_who_was_deleted_as_last_applied(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox)
    merged, gone, never = uuid4(), uuid4(), uuid4()
    step(tenant, 1, "old", merged, "北区1")
    step(tenant, 1, "gone", gone, "東区")
    step(tenant, 1, "never", never, "西区", reason="mass_change_held")
    step(tenant, 2, "new", merged, "北区2")
    step(tenant, 2, "gone", gone, None)

    assert shown(tenant, 1.5) == {merged: ("北区1", True), gone: ("東区", True)}
    assert shown(tenant, 2) == {merged: ("北区2", True), gone: ("東区", False)}


def test_a_moments_masters_are_one_tenants(sandbox: RunningSandbox, new_tenant: NewTenant) -> None:
    sakura, ume = new_tenant(sandbox), new_tenant(sandbox, "ume")
    step(sakura, 1, "a", uuid4(), "北区1")

    assert (len(shown(sakura, 2)), shown(ume, 2)) == (1, {})
    scope = Scope("ume", "fhir", Entity.CLIENT)
    with sakura.services.database.transaction(Login.OPERATOR, "sakura") as tx:
        assert list(history.as_of(tx, scope, DAY + timedelta(days=2))) == []
        assert len(frames.masters_as_of(tx, scope, DAY + timedelta(days=2))) == 0


def test_a_spelling_alone_is_written_and_counts_as_no_change(sandbox: RunningSandbox, new_tenant: NewTenant) -> None:
    """30 of 30 records with another spelling of the phone: the guard would hold a change of so many."""
    tenant = new_tenant(sandbox)
    theirs = [each | {"telecom": [{"system": "phone", "value": "03-1234-5678"}]} for each in sandbox.state("Patient")]
    for each in theirs:
        sandbox.put(each)
    take_in(tenant)
    for each in theirs:
        sandbox.put(each | {"telecom": [{"system": "phone", "value": "０３（１２３４）５６７８"}]})
    found = take_in(tenant)

    assert (found.changed, found.added) == (0, 0)
    assert {row.phone for row in tenant.sql("SELECT phone FROM schedule.client")} == {"０３（１２３４）５６７８"}
    assert told(as_of(tenant, now(tenant))) == ours(tenant)


def test_the_frame_of_a_past_moment_is_the_same(tenant: Tenant) -> None:
    scope, at = Scope(tenant.name, "fhir", Entity.STAFF), now(tenant)
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        now_is, then = frames.applied(tx, scope), frames.masters_as_of(tx, scope, at)
        rows = list(history.as_of(tx, scope, at))

    own = [name for name in now_is.columns if name not in ("version", "identified_at")]
    pd.testing.assert_frame_equal(then[own], now_is[own])
    assert then["snapshot_id"].tolist() == [str(each.snapshot_id) for each in rows]
    assert not then["is_gone"].any()
