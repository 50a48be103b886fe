"""What `zest limits` tells: how far limits are spent, who waits, until when they are closed, when the rest leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from conftest import Tenant
from flow_bench import push_now

from partners.contract import Connection
from partners.limits import parse_limit
from resources.logins import Login
from zest_pipelines.cli.limits import plot
from zest_pipelines.core.turns import Priority
from zest_pipelines.flows.gate import Ledger
from zest_pipelines.flows.limits import outlook
from zest_pipelines.flows.naming import buckets_of
from zest_pipelines.flows.seats import Seats
from zest_pipelines.store import budgets

LIMITS = ["vendor:600/60s", "tenant:100/1d", "endpoint=appointments:50/1d@09:00", "tenant:concurrent=4"]


def set_limits(tenant: Tenant, *limits: str, within: str | None = None) -> None:
    sql = "UPDATE sync.connection SET limits = :limits, deliver_within = CAST(:within AS interval)"
    tenant.sql(sql, Login.OPERATOR, limits=list(limits), within=within)


def test_each_kind_of_limit_tells_what_was_used_of_it(tenant: Tenant) -> None:
    set_limits(tenant, *LIMITS)
    for _ in range(3):
        tenant.add_visit()
    report = push_now(tenant)
    assert report.delivered == 3
    seat = Seats.of(tenant.services, Connection(tenant.name, "fhir", "", {}), list(map(parse_limit, LIMITS)))
    seat.take(timedelta(0))
    found = outlook(tenant.services, tenant.partner, tenant.name)
    told = {each.limit: each for each in found.limits}
    assert [each.allowed for each in found.limits] == [600, 100, 50, 4]
    assert told["tenant:100/1d"].used == sum(told["tenant:100/1d"].last_hour) == report.calls
    assert told["endpoint=appointments:50/1d@09:00"].used == report.calls
    assert 0 < told["vendor:600/60s"].used <= report.calls
    assert told["tenant:concurrent=4"].used == 1
    assert (found.pending, found.is_late) == (0, False)


def test_what_waits_is_foretold_and_a_deadline_that_it_passes_is_said(tenant: Tenant) -> None:
    set_limits(tenant, "tenant:1/60s", within="2 minutes")
    for _ in range(4):
        tenant.add_visit()
    push_now(tenant)
    found = outlook(tenant.services, tenant.partner, tenant.name)
    assert found.pending == 3
    assert found.done_at is not None
    assert timedelta(seconds=150) < found.done_at - datetime.now(UTC) < timedelta(seconds=200)
    assert found.is_late


def test_a_closed_limit_says_until_when_and_is_opened_by_hand(tenant: Tenant) -> None:
    set_limits(tenant, *LIMITS)
    ledger = Ledger(tenant.services, Connection(tenant.name, "fhir", "", {}), list(map(parse_limit, LIMITS)))
    until = datetime.now(UTC) + timedelta(hours=20)
    ledger.stay_away(until, is_refused=True)
    closed = [each.closed_until for each in outlook(tenant.services, tenant.partner, tenant.name).limits]
    assert closed == [None, until, until, None]  # nothing was called yet: the tenant's own, not what all share
    assert ledger.is_closed("appointments")
    with tenant.services.database.transaction(Login.BUDGET, None) as tx:
        assert budgets.reopen(tx, buckets_of("fhir", "another")) == 0
        assert budgets.reopen(tx, buckets_of("fhir", tenant.name)) == 2
    assert not ledger.is_closed("appointments")


def test_who_waits_for_what_all_share_is_counted(tenant: Tenant) -> None:
    shared = ["vendor:1/10s"]
    set_limits(tenant, *shared)
    for name in ("first", "second", "third"):
        others = Ledger(tenant.services, Connection(name, "fhir", "", {}), list(map(parse_limit, shared)))
        others.take("appointments", 1, Priority.BACKGROUND, timedelta(minutes=1))
    (limit,) = outlook(tenant.services, tenant.partner, tenant.name).limits
    assert limit.waiting == 2


def test_the_hour_is_plotted_by_five_minutes() -> None:
    assert plot([0] * 55 + [1, 1, 1, 1, 1]) == " " * 11 + "█"
    assert plot([8] * 5 + [1] * 5 + [0] * 50) == "█▁" + " " * 10
    assert plot([]) == ""
