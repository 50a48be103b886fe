"""What `zest limits` tells: how far limits are spent, who waits, until when they are closed, when the rest leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from conftest import Said, Tenant
from flow_bench import accumulate_all, calls, push_now

from partners.contract import Connection, Entity
from partners.limits import parse_limit
from resources.logins import Login
from zest_pipelines.core.turns import Priority
from zest_pipelines.core.usage import plot
from zest_pipelines.flows.gate import Later, Ledger
from zest_pipelines.flows.limits import outlook
from zest_pipelines.flows.naming import buckets_of
from zest_pipelines.flows.seats import Seats
from zest_pipelines.orchestration.metadata import of_pushing
from zest_pipelines.store import budgets, claims
from zest_pipelines.store.keys import Target

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
    assert told["tenant:100/1d"].used == len(calls(tenant.sandbox)) > report.calls  # those of the landing count too
    assert sum(told["tenant:100/1d"].last_hour) == report.calls
    assert told["endpoint=appointments:50/1d@09:00"].used == report.calls
    assert told["vendor:600/60s"].used == report.calls
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
    rest, since = timedelta(hours=20), datetime.now(UTC)
    ledger.stay_away("appointments", rest, is_refused=True)
    closed = [each.closed_until for each in outlook(tenant.services, tenant.partner, tenant.name).limits]
    until = closed[1]
    assert until is not None
    assert since + rest < until < datetime.now(UTC) + rest
    assert closed == [None, until, until, None]  # nothing was called yet: the tenant's own, not what all share
    assert ledger.is_closed("appointments")
    with tenant.services.database.transaction(Login.BUDGET, None) as tx:
        assert budgets.reopen(tx, buckets_of("fhir", "another")) == 0
        assert budgets.reopen(tx, buckets_of("fhir", tenant.name)) == 2
    assert not ledger.is_closed("appointments")


def test_limits_that_are_changed_and_changed_back_go_on_with_what_was_used_meanwhile(
    tenant: Tenant, zest: Said
) -> None:
    def spend(limit: str, most: int) -> int:
        """So many calls at the most, as a person's push makes them under the limit; how many went."""
        (row,) = tenant.sql("SELECT base_url, settings FROM sync.connection", Login.OPERATOR)
        settings = [text for pair in row.settings.items() for text in ("--set", "=".join(pair))]
        place = ("connect", tenant.name, "fhir", "--base-url", row.base_url, "--timing", "minute")
        assert zest(*place, *settings, "--limit", limit)[0] == 0
        ledger = Ledger(tenant.services, Connection(tenant.name, "fhir", "", {}), [parse_limit(limit)])
        return sum(not isinstance(ledger.take("staff", 1, Priority.PEOPLE), Later) for _ in range(most))

    kinds = "tenant:20/1d", "tenant:20/1d@00:00", "tenant:20/23h"
    before = len(calls(tenant.sandbox))  # taking them in, under the partner's own limit
    went = [spend(limit, 3) for _ in range(3) for limit in kinds]
    assert sum(went) == 20 - before > 9


def test_a_limit_that_was_not_called_yet_shows_what_it_will_begin_with(tenant: Tenant) -> None:
    before = len(calls(tenant.sandbox))
    set_limits(tenant, "tenant:100/1d", "tenant:2/23h", "endpoint=appointments:50/1h")
    tenant.add_visit()
    accumulate_all(tenant)
    found = outlook(tenant.services, tenant.partner, tenant.name)
    assert [each.used for each in found.limits] == [before, 2, 0]
    assert found.done_at is not None
    assert found.done_at > datetime.now(UTC) + timedelta(hours=22)


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


def test_a_push_tells_how_its_limits_stand_without_anything_of_a_person(tenant: Tenant) -> None:
    set_limits(tenant, "tenant:1/60s", "tenant:100/1d")
    for _ in range(3):
        tenant.add_visit()
    before = sum(outlook(tenant.services, tenant.partner, tenant.name).limits[0].last_hour)  # of the limit that stays
    told = of_pushing(push_now(tenant), datetime.now(UTC), ("sakura", "fhir"))
    assert f"| tenant:100/1d | {before + 1} | 100 |" in told["limits"].value
    assert told["done_at"].value > datetime.now(UTC).timestamp() + 60
    assert told["past_deadline"].value is False


@pytest.mark.parametrize("is_asked_for", [True, False])
def test_what_a_person_has_asked_for_goes_before_background_work(tenant: Tenant, is_asked_for: bool) -> None:
    set_limits(tenant, "vendor:600/60s")
    visit = tenant.add_visit()
    accumulate_all(tenant)
    if is_asked_for:
        sql = "SELECT sync.request_push(:tenant, 'fhir', current_date - 60, current_date + 60)"
        tenant.sql(sql, Login.PRODUCT, tenant=tenant.name)
    with tenant.services.database.transaction(Login.PUSH, tenant.name) as tx:
        (found,) = claims.due(tx, Target(tenant.name, "fhir"), [Entity.VISIT], 10)
    assert (found.key.record_id, found.is_asked_for) == (visit, is_asked_for)
    assert push_now(tenant).delivered == 1
    with tenant.services.database.transaction(Login.BUDGET, None) as tx:
        (times,) = tx.exec_driver_sql(
            "SELECT state -> 'times' FROM sync.budget WHERE starts_with(bucket, 'fhir//')"
        ).scalars()
    assert list(times) == [Priority.PEOPLE if is_asked_for else Priority.BACKGROUND]
