"""A mass change that a person approved is written once, up to the ceiling, whatever grows beside it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from conftest import NewTenant, Tenant
from evidence import is_told
from listed_partner import Listed, connected
from test_diff_apply import CLIENT, carry_over, compare, results, tomorrow

from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login
from zest_pipelines.flows import absence, settle
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.preview import preview
from zest_pipelines.flows.reports import ApplyReport
from zest_pipelines.store import due, masters
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.masters import Scope

PATIENTS: dict[str, list[Any]] = {}
"""The active ones as they were before anything was deleted, by tenant."""


def delete(tenant: Tenant, numbers: slice, day: int) -> None:
    """Have the partner delete so many, and let that come in."""
    for each in PATIENTS[tenant.name][numbers]:
        tenant.sandbox.delete("Patient", each["id"])
    land(tomorrow(tenant, day).services, tenant.partner, tenant.name, CLIENT)
    compare(tenant)


@pytest.fixture
def held(tenant: Tenant, sandbox: RunningSandbox) -> Tenant:
    """A tenant of whose clients eleven are to be deleted, which waits."""
    PATIENTS[tenant.name] = [each for each in sandbox.state("Patient") if each["active"]]
    delete(tenant, slice(0, 11), 1)
    assert carry_over(tenant).held_deletes == 11
    return tenant


def approve(tenant: Tenant) -> None:
    settle.approve(tenant.services, tenant.partner, tenant.name, shown(tenant))


def shown(tenant: Tenant) -> tuple[settle.MassChange, ...]:
    return settle.mass_changes(tenant.services, tenant.partner, tenant.name)


def uses(tenant: Tenant) -> list[tuple[str, int]]:
    rows = tenant.sql("SELECT outcome, deletes FROM sync.approval_use ORDER BY used_at", Login.OPERATOR)
    return [(row.outcome, row.deletes) for row in rows]


def due_tenants(tenant: Tenant) -> tuple[str, ...]:
    with tenant.services.database.transaction(Login.SCHEDULE, None) as tx:
        return due.open_master_changes(tx, tenant.partner.name)


def wait_for_lock(tenant: Tenant, count: int) -> None:
    """Until so many wait for an application's lock."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    until = time.monotonic() + 20
    while tenant.sql(waiting, Login.OPERATOR) != [(count,)]:
        assert time.monotonic() < until
        time.sleep(0.02)


def reasons(report: ApplyReport) -> set[str]:
    return {each.reason for each in report.problems}


def test_what_was_approved_goes_through_once_and_makes_its_tenant_due(held: Tenant) -> None:
    (change,) = shown(held)
    assert (change.entity, change.held.deletes, change.held.changed, change.population) == (CLIENT, 11, {}, 28)
    assert due_tenants(held) == ()

    approve(held)

    assert due_tenants(held) == (held.name,)
    report = carry_over(held)
    assert (report.applied, report.held, report.held_deletes) == (11, 0, 0)
    assert uses(held) == [("let_through", 11)]
    assert (due_tenants(held), shown(held)) == ((), ())
    (audited,) = held.sql("SELECT actor, detail FROM sync.audit WHERE act = 'approve'", Login.OPERATOR)
    assert (audited.actor, audited.detail["deletes"]) == ("zest_operator", 11)


def test_one_more_than_was_approved_holds_them_all_again_and_says_so(held: Tenant) -> None:
    approve(held)
    delete(held, slice(11, 12), 2)

    report = carry_over(held)

    assert (report.applied, report.held_deletes, reasons(report)) == (0, 12, {"mass_change_grew"})
    assert report.problems[0].params == {"why": "12 deletes", "approved": "11 deletes"}
    is_told("mass_change_grew", report.problems[0].params)
    again = carry_over(held)
    assert (again.held_deletes, reasons(again)) == (12, {"mass_change_grew"})  # until somebody has looked
    assert uses(held) == [("exceeded", 12)]
    approve(held)
    assert carry_over(held).applied == 12


def test_an_approval_that_was_not_needed_is_gone_all_the_same(held: Tenant, sandbox: RunningSandbox) -> None:
    approve(held)
    for each in PATIENTS[held.name][:5]:
        sandbox.put(each)
    land(tomorrow(held, 2).services, held.partner, held.name, CLIENT)
    compare(held)
    assert carry_over(held).held == 0
    assert uses(held) == [("not_needed", 6)]

    delete(held, slice(11, 23), 3)

    assert carry_over(held).held_deletes == 12


def test_an_approval_of_yesterday_is_void(held: Tenant) -> None:
    approve(held)
    with held.services.database.transaction(Login.MIGRATOR, held.name) as tx:
        tx.exec_driver_sql("SET LOCAL ROLE zest_owner")
        tx.exec_driver_sql("ALTER TABLE sync.approval DISABLE TRIGGER refuse_rewrite")
        tx.exec_driver_sql("UPDATE sync.approval SET approved_at = approved_at - interval '25 hours'")
        tx.exec_driver_sql("ALTER TABLE sync.approval ENABLE ALWAYS TRIGGER refuse_rewrite")

    assert carry_over(held).held_deletes == 11
    assert uses(held) == [("expired", 11)]


def test_a_field_that_was_approved_lets_no_other_one_through(tenant: Tenant, sandbox: RunningSandbox) -> None:
    theirs = sandbox.state("Patient")
    for each in theirs[:12]:
        sandbox.put(each | {"gender": "other"})
    land(tenant.services, tenant.partner, tenant.name, CLIENT)
    compare(tenant)
    assert carry_over(tenant).held_fields == {"sex": 12}
    approve(tenant)
    for each in theirs[12:24]:
        sandbox.put(each | {"birthDate": "1951-02-03"})
    land(tenant.services, tenant.partner, tenant.name, CLIENT)
    compare(tenant)

    report = carry_over(tenant)

    assert (report.held_fields, report.applied) == ({"birth_date": 12}, 12)
    assert uses(tenant) == [("exceeded", 0)]


def test_what_grows_while_the_application_is_under_way_is_never_let_through_by_an_older_yes(held: Tenant) -> None:
    """A diff adds a twelfth delete right before the application, which waits at its lock: it judges what it writes."""
    approve(held)
    held.sandbox.delete("Patient", PATIENTS[held.name][11]["id"])
    land(tomorrow(held, 2).services, held.partner, held.name, CLIENT)
    others = [Database(held.services.database._logins) for _ in range(2)]
    compares, applies = ((replace(held.services, database=each), held.partner, held.name, CLIENT) for each in others)
    with ThreadPoolExecutor(2) as pool:
        with held.services.database.transaction(Login.APPLY, held.name) as tx:
            masters.lock_application(tx, Scope(held.name, held.partner.name, CLIENT))
            compared = pool.submit(diff, *compares)
            wait_for_lock(held, 1)
            applied = pool.submit(apply, *applies)
            wait_for_lock(held, 2)
        assert compared.result(20).deleted == 1
        report = applied.result(20)
    for each in others:
        each.close()

    assert (report.applied, report.held_deletes, reasons(report)) == (0, 12, {"mass_change_grew"})
    assert [outcome for outcome, _ in results(held)].count("applied") == 30  # of the first import, and no delete


def test_two_applications_at_once_use_one_approval_once(held: Tenant) -> None:
    approve(held)
    databases = [Database(held.services.database._logins) for _ in range(2)]
    reports: list[ApplyReport] = []
    threads = [
        threading.Thread(
            target=lambda one=database: reports.append(
                carry_over(replace(held, services=replace(held.services, database=one)))
            )
        )
        for database in databases
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for database in databases:
        database.close()

    assert sorted(report.applied for report in reports) == [0, 11]
    assert uses(held) == [("let_through", 11)]


def test_an_approval_of_nothing_or_for_nobody_is_refused_in_words(tenant: Tenant) -> None:
    for wrong in ("'fhir', 'client', 0, '{}'", "'fhir', 'visit', 3, '{}'", "'paper', 'client', 3, '{}'"):
        with pytest.raises(StoreError, match=r"approved|no such kind|no connection"):
            tenant.sql(f"SELECT sync.approve('{tenant.name}', {wrong})", Login.OPERATOR)


def rounds(tenant: Tenant, most: int = 40) -> list[ApplyReport]:
    """Readings and what came of them, until one is held or finds nobody gone any more."""
    told = []
    for _ in range(most):
        landed = land(tenant.services, tenant.partner, tenant.name, CLIENT)
        compare(tenant)
        told.append(carry_over(tenant))
        if told[-1].held or not landed.gone:
            return told
    raise AssertionError("it never ended")


def next_day(tenant: Tenant, day: int) -> ApplyReport:
    """What came of a reading of everything."""
    land(tomorrow(tenant, day).services, tenant.partner, tenant.name, CLIENT)
    compare(tenant)
    return carry_over(tenant)


def in_force(tenant: Tenant) -> int:
    count: int = tenant.sql("SELECT count(*) FROM schedule.client WHERE active")[0][0]
    return count


def listed_people(new_tenant: NewTenant, count: int) -> tuple[Listed, Tenant]:
    """A partner with so many, all in force."""
    listed = Listed({f"p{number:03}": "佐藤" for number in range(count)}, size=1000)
    tenant = connected(new_tenant, listed)
    rounds(tenant)
    return listed, tenant


def test_an_emptied_list_that_is_proved_in_instalments_is_held_as_if_it_came_at_once(
    new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, tenant = listed_people(new_tenant, 120)
    monkeypatch.setattr(absence, "MOST_POINT_READS", 4)
    listed.rows = {}

    (held,) = rounds(tenant)
    assert (held.held_deletes, held.deleted_lately, held.suspects) == (4, 0, 116)
    assert held.problems[0].params == {"why": "4 deletes (116 suspect)"}
    (held,) = rounds(tenant)
    assert (held.held_deletes, held.suspects, in_force(tenant)) == (8, 112, 120)

    approve(tenant)
    assert carry_over(tenant).applied == 8
    (held,) = rounds(tenant)  # a yes says nothing of those who were not asked for yet
    assert (held.held_deletes, held.suspects, in_force(tenant)) == (4, 108, 112)


def test_suspects_for_whom_nobody_answers_hold_the_deletes_of_others_until_a_person_has_spoken_once(
    new_tenant: NewTenant,
) -> None:
    listed, tenant = listed_people(new_tenant, 40)
    listed.failing = {f"p{number:03}" for number in range(20)}
    for each in (*listed.failing, "p020"):
        del listed.rows[each]
    held = next(report for day in range(1, 24) if (report := next_day(tenant, day)).held)
    assert (held.held_deletes, held.suspects, in_force(tenant)) == (1, 20, 40)
    approve(tenant)
    assert carry_over(tenant).applied == 1
    del listed.rows["p021"]
    assert not any(next_day(tenant, day).held for day in range(24, 48))
    assert in_force(tenant) == 38


def test_deletes_that_come_one_reading_after_the_other_count_together(new_tenant: NewTenant) -> None:
    listed, tenant = listed_people(new_tenant, 40)
    for first, last in ((0, 8), (8, 16)):
        for number in range(first, last):
            del listed.rows[f"p{number:03}"]
        report = rounds(tenant)[0]
    assert (report.held_deletes, report.deleted_lately, in_force(tenant)) == (8, 8, 32)
    assert report.problems[0].params == {"why": "8 deletes (8 more within a day)"}


def test_what_was_deleted_and_came_back_counts_no_more(new_tenant: NewTenant) -> None:
    listed, tenant = listed_people(new_tenant, 40)
    there = dict(listed.rows)
    for gone in (range(10), range(10, 20)):
        for number in gone:
            del listed.rows[f"p{number:03}"]
        assert rounds(tenant)[0].held == 0
        listed.rows = dict(there)
        rounds(tenant)
    assert in_force(tenant) == 40


def test_what_was_compared_while_an_application_was_under_way_meets_the_guard(
    new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Listed({f"p{number:03}": "佐藤" for number in range(60)}, size=1000)
    tenant = connected(new_tenant, listed)
    land(tenant.services, tenant.partner, tenant.name, CLIENT)
    compare(tenant)
    is_written, may_end = threading.Event(), threading.Event()
    real = masters.add_results

    def slow(*given: Any) -> None:
        real(*given)
        is_written.set()
        may_end.wait(10)

    database = Database(tenant.services.database._logins)
    try:
        with monkeypatch.context() as patched, ThreadPoolExecutor(2) as pool:
            patched.setattr(masters, "add_results", slow)
            first = pool.submit(apply, replace(tenant.services, database=database), tenant.partner, tenant.name, CLIENT)
            assert is_written.wait(20)
            listed.rows = dict.fromkeys(listed.rows, "鈴木")
            land(tenant.services, tenant.partner, tenant.name, CLIENT)
            compared = pool.submit(diff, tenant.services, tenant.partner, tenant.name, CLIENT)
            with pytest.raises(TimeoutError):
                compared.result(0.3)
            may_end.set()
            assert (first.result(20).applied, compared.result(20).changed) == (60, 60)
    finally:
        database.close()
    assert carry_over(tenant).held_fields == {"family_name": 60}


def test_who_becomes_inactive_counts_as_deleted(tenant: Tenant, sandbox: RunningSandbox) -> None:
    theirs = [each for each in sandbox.state("Patient") if each["active"]]
    for each in theirs[:6]:
        sandbox.put(each | {"active": False})
    land(tenant.services, tenant.partner, tenant.name, CLIENT)
    compare(tenant)
    assert (carry_over(tenant).applied, in_force(tenant)) == (6, len(theirs) - 6)
    for each in theirs[6:11]:
        sandbox.put(each | {"active": False, "gender": "other"})
    sandbox.put(theirs[11] | {"birthDate": "1951-02-03"})
    land(tenant.services, tenant.partner, tenant.name, CLIENT)
    compare(tenant)

    report = carry_over(tenant)

    assert (report.held_deletes, report.deleted_lately, report.held_fields) == (5, 6, {})
    assert (report.applied, in_force(tenant)) == (1, len(theirs) - 6)
    approve(tenant)
    assert (carry_over(tenant).applied, in_force(tenant)) == (5, len(theirs) - 11)


def test_who_was_inactive_before_counts_neither_as_deleted_nor_beside_who_is(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    theirs = [each for each in sandbox.state("Patient") if each["active"]]
    for part in (theirs[:6], theirs[6:12]):
        for each in part:
            sandbox.put(each | {"active": False})
        land(tenant.services, tenant.partner, tenant.name, CLIENT)
        compare(tenant)
        if carry_over(tenant).held:
            approve(tenant)
            carry_over(tenant)
    before = in_force(tenant)
    assert before == len(theirs) - 12
    PATIENTS[tenant.name] = theirs
    delete(tenant, slice(0, 12), 1)
    assert preview(tenant.services, tenant.partner, tenant.name, CLIENT, {}).held_deletes == 0

    report = carry_over(tenant)

    assert (report.applied, report.held, report.deletes, in_force(tenant)) == (12, 0, 0, before)
    delete(tenant, slice(12, 13), 2)
    assert (carry_over(tenant).applied, in_force(tenant)) == (1, before - 1)


def test_changes_of_a_field_that_come_in_instalments_are_held_as_if_they_came_at_once(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    theirs = [each for each in sandbox.state("Patient") if each["active"]]

    def become_other(numbers: slice) -> ApplyReport:
        for each in theirs[numbers]:
            sandbox.put(each | {"gender": "other"})
        land(tenant.services, tenant.partner, tenant.name, CLIENT)
        compare(tenant)
        return carry_over(tenant)

    assert become_other(slice(0, 8)).applied == 8
    report = become_other(slice(8, 12))
    assert (report.applied, report.held_fields, report.changed_lately) == (0, {"sex": 4}, {"sex": 8})
    assert report.problems[0].params["why"] == "4 x sex (8 more within an hour)"
    approve(tenant)
    assert carry_over(tenant).applied == 4
    assert become_other(slice(12, 14)).applied == 2  # counted from a person's yes on
