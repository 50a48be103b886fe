"""What a push left makes its tenant urgent if it died, once its lease has run out, or if it may go on soon: not before,
and not for ever."""

from __future__ import annotations

from conftest import Tenant
from evidence import is_told
from flow_bench import accumulate_all, expire_lease, push_now

from resources.logins import Login
from zest_pipelines.flows.push import push
from zest_pipelines.store import due, leases
from zest_pipelines.store.keys import Target


def _urgent(tenant: Tenant) -> tuple[str, ...]:
    with tenant.services.database.transaction(Login.SCHEDULE, None) as tx:
        return due.urgent(tx, tenant.partner.name)


def _take_lease(tenant: Tenant) -> int | None:
    with tenant.services.database.transaction(Login.PUSH, tenant.name) as tx:
        return leases.take(tx, Target(tenant.name, tenant.partner.name), "a-machine:4711", 60.0)


def test_a_lease_that_ran_out_makes_its_tenant_urgent_until_the_next_push(tenant: Tenant) -> None:
    tenant.add_visit()
    accumulate_all(tenant)
    assert _urgent(tenant) == ()  # the minute's schedule will do

    assert _take_lease(tenant) is not None
    assert _urgent(tenant) == ()
    expire_lease(tenant)
    assert _urgent(tenant) == (tenant.name,)

    assert push_now(tenant).delivered == 1
    assert _urgent(tenant) == ()


def test_a_push_that_left_nothing_behind_makes_nobody_urgent(tenant: Tenant) -> None:
    _take_lease(tenant)
    expire_lease(tenant)
    assert _urgent(tenant) == ()


def test_what_waits_after_a_push_that_gave_its_lease_back_is_not_urgent(tenant: Tenant) -> None:
    epoch = _take_lease(tenant)
    assert epoch is not None
    with tenant.services.database.transaction(Login.PUSH, tenant.name) as tx:
        leases.give_back(tx, Target(tenant.name, tenant.partner.name), epoch)
    tenant.add_visit()
    accumulate_all(tenant)
    assert _urgent(tenant) == ()


def test_what_a_push_left_that_may_go_on_soon_is_urgent_from_then_on_until_the_next_push(tenant: Tenant) -> None:
    tenant.add_visit()
    accumulate_all(tenant)
    for goes_on_in, named in ((60.0, ()), (0.0, (tenant.name,))):
        epoch = _take_lease(tenant)
        assert epoch is not None
        with tenant.services.database.transaction(Login.PUSH, tenant.name) as tx:
            leases.give_back(tx, Target(tenant.name, tenant.partner.name), epoch, goes_on_in)
        assert _urgent(tenant) == named

    assert push_now(tenant).delivered == 1
    assert _urgent(tenant) == ()


def test_a_push_cut_short_by_its_time_is_asked_for_again_at_once(tenant: Tenant) -> None:
    tenant.add_visit()
    accumulate_all(tenant)
    report = push(tenant.services, tenant.partner, tenant.name, box_seconds=0)
    assert report.stopped == "time_box_ended"
    is_told("time_box_ended", report.params)
    assert _urgent(tenant) == (tenant.name,)
