"""The ledger: the partner never counts more calls than it allows, whoever makes them, and nothing goes round it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import psycopg
import pytest
from conftest import NewTenant, Tenant
from flow_bench import (
    accumulate_all,
    broken_promises,
    calls,
    effects,
    expire_lease,
    forget_backoff,
    impatient,
    mark,
    push_now,
)

from partners.contract import Connection, Entity, Gate
from partners.errors import Deferred
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from partners.limits import parse_limit
from partners.throttling import Told
from resources.logins import Login, Logins
from zest_pipelines.core.turns import Priority
from zest_pipelines.core.weeks import Days
from zest_pipelines.flows import gate as gate_module
from zest_pipelines.flows import push as push_module
from zest_pipelines.flows.check import check
from zest_pipelines.flows.gate import Later, Ledger, LedgerGate, UngrantedError
from zest_pipelines.flows.land import land
from zest_pipelines.flows.lanes import Lanes
from zest_pipelines.flows.opening import connection_row, open_line
from zest_pipelines.flows.push import push
from zest_pipelines.flows.reports import PushReport
from zest_pipelines.flows.seats import Seats
from zest_pipelines.flows.services import Services
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import budgets
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import StoreError


def set_limits(tenant: Tenant, *limits: str) -> None:
    tenant.sql("UPDATE sync.connection SET limits = :limits", Login.OPERATOR, limits=list(limits))


@contextmanager
def other_process(services: Services) -> Iterator[Services]:
    """Services as another process has them: nothing is shared but the server."""
    database = Database(services.database._logins)
    try:
        yield replace(services, database=database)
    finally:
        database.close()


def gate(services: Services, limits: list[str], tenant: str = "sakura", patience: float = 0.0) -> LedgerGate:
    parsed = [parse_limit(text) for text in limits]
    ledger = Ledger(services, Connection(tenant, "fhir", "", {}), parsed)
    return LedgerGate(ledger, timedelta(seconds=patience))


def refused(sandbox: RunningSandbox) -> dict[str, Any]:
    counts: dict[str, Any] = sandbox.health()["limit"]
    return counts


def test_a_push_and_a_reading_at_once_stay_within_the_tenants_limit(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox)
    tenant.take_in()
    visits = [tenant.add_visit() for _ in range(14)]
    accumulate_all(tenant)
    set_limits(tenant, "tenant:20/2s")
    sandbox.configure(limit={"calls": 20, "seconds": 2}, max_count=3)
    start = mark(sandbox)
    with other_process(tenant.services) as other, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(land, other, tenant.partner, tenant.name, Entity.CLIENT)
        report = push(tenant.services, tenant.partner, tenant.name)
        assert (report.delivered, reading.result().state) == (14, "certified")
    assert len(calls(sandbox, after=start)) == 24  # fourteen visits, ten pages: more than one window holds
    assert refused(sandbox)["refused"] == 0
    assert [effects(sandbox, visit) for visit in visits] == [["created"]] * 14


def test_two_tenants_share_the_vendors_limit(sandbox: RunningSandbox, new_tenant: NewTenant) -> None:
    tenants = [new_tenant(sandbox, name) for name in ("one", "two")]
    for tenant in tenants:
        tenant.take_in()
        for _ in range(12):
            tenant.add_visit()
        accumulate_all(tenant)
        set_limits(tenant, "vendor:20/2s", "tenant:600/60s")
    sandbox.configure(limit={"calls": 20, "seconds": 2})
    with other_process(tenants[1].services) as other, ThreadPoolExecutor(1) as pool:
        second = pool.submit(push, other, tenants[1].partner, "two")
        reports = [push(tenants[0].services, tenants[0].partner, "one"), second.result()]
    assert [(report.delivered, report.retry, report.stopped) for report in reports] == [(12, 0, None)] * 2
    assert refused(sandbox) == {"admitted": 24, "refused": 0, "peak": refused(sandbox)["peak"]}


def test_the_partner_would_notice_calls_beyond_its_limit(sandbox: RunningSandbox, new_tenant: NewTenant) -> None:
    """The two tests above with the ledger blind: the oracle speaks."""
    tenant = new_tenant(sandbox)
    tenant.take_in()
    for _ in range(24):
        tenant.add_visit()
    sandbox.configure(limit={"calls": 20, "seconds": 2})
    report = push_now(tenant)
    assert (report.delivered, report.stopped) == (20, "partner_busy")
    ended = tenant.sql("SELECT reason FROM sync.result WHERE outcome = 'retry'", Login.OPERATOR)
    reasons = Counter(row.reason for row in ended)
    assert 1 <= reasons["partner_busy"] == refused(sandbox)["refused"] <= tenant.partner.parallel
    # A call that was chosen when the refusal came ends as retry too, and the partner never sees it.
    assert report.retry == reasons["partner_busy"] + reasons["budget_deferred"] == reasons.total()


def test_a_limit_of_one_endpoint_holds_up_no_other(services: Services) -> None:
    narrow = gate(services, ["endpoint=appointments:2/60s", "tenant:60000/60s"])
    narrow.admit("appointments")
    with pytest.raises(Deferred) as deferred:
        narrow.admit("appointments")
    assert timedelta(seconds=25) < deferred.value.until - datetime.now(UTC) < timedelta(seconds=31)
    for _ in range(3):
        narrow.admit("patients")


def test_a_limit_of_one_tenant_holds_up_no_other_and_the_vendors_holds_up_all(services: Services) -> None:
    own, shared = ["tenant:1/60s"], ["vendor:1/60s"]
    gate(services, own, "one").admit("patients")
    gate(services, own, "two").admit("patients")
    with pytest.raises(Deferred):
        gate(services, own, "one").admit("patients")
    gate(services, shared, "three").admit("patients")
    with pytest.raises(Deferred):
        gate(services, shared, "four").admit("patients")


def test_a_slot_that_was_missed_is_not_used(services: Services) -> None:
    late = gate(services, ["tenant:4/2s"], patience=5)
    slots = late.ledger.take("appointments")
    assert not isinstance(slots, Later)
    late.hand(replace(slots[0], not_before=slots[0].not_before - 60, until=slots[0].until - 60))
    late.admit("appointments")
    with services.database.transaction(Login.BUDGET, None) as tx:
        spent = "SELECT (state ->> 'free_at')::float8 - extract(epoch FROM clock_timestamp())::float8 FROM sync.budget"
        (ahead,) = tx.exec_driver_sql(spent).scalars()
    assert ahead > 0.2  # the first slot stays spent: the second one is a whole pace later


def test_a_push_whose_patience_the_limits_exceed_stops_and_loses_nothing(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visits = [tenant.add_visit() for _ in range(3)]
    set_limits(tenant, "endpoint=appointments:1/120s", "tenant:60000/60s")
    report = push_now(tenant)
    assert (report.delivered, report.stopped, report.pending) == (1, "budget_deferred", 2)
    assert sorted(map(tenant.outcomes, visits)) == [[], [], [(1, "delivered")]]  # who was not tried has no result
    set_limits(tenant, "tenant:60000/60s")
    assert push_now(tenant).delivered == 2
    assert broken_promises(tenant) == []


def test_a_push_that_the_limits_stop_says_when_it_may_go_on_if_that_is_within_a_minute(tenant: Tenant) -> None:
    for _ in range(4):
        tenant.add_visit()
    goes_on = []
    for limit in ("tenant:1/50s", "tenant:1/1d"):
        set_limits(tenant, limit)
        assert push_now(tenant).stopped == "budget_deferred"
        goes_on += tenant.sql("SELECT goes_on_at - until FROM sync.lease", Login.OPERATOR)
    (soon,), (late,) = goes_on
    assert timedelta(seconds=35) < soon < timedelta(seconds=60)
    assert late is None


def test_limits_that_run_out_within_one_change_put_it_off_and_close_nothing(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visit = tenant.add_visit(note="1")
    push_now(tenant)
    tenant.edit_visit(visit, note="2")
    set_limits(tenant, "endpoint=appointments:1/120s", "tenant:60000/60s")
    report = push_now(tenant)  # its first call reads the copy, its second one would write
    assert (report.retry, report.stopped, report.pending) == (1, "budget_deferred", 1)
    assert effects(sandbox, visit) == ["created"]
    with tenant.services.database.transaction(Login.BUDGET, None) as tx:
        closed = tx.exec_driver_sql("SELECT count(*) FROM sync.budget WHERE closed_until IS NOT NULL").scalar_one()
    assert closed == 0
    set_limits(tenant, "tenant:60000/60s")
    forget_backoff(tenant)
    assert push_now(tenant).delivered == 1
    assert broken_promises(tenant) == []


def test_a_partner_that_says_that_nothing_is_left_is_not_made_to_refuse(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    one_by_one = replace(tenant, partner=replace(tenant.partner, parallel=1))
    visits = [one_by_one.add_visit() for _ in range(6)]
    sandbox.configure(limits=[{"kind": "sliding", "calls": 3, "seconds": 60}], dialect="ratelimit_structured")
    report = push_now(one_by_one)
    assert (report.delivered, report.retry, report.stopped) == (3, 0, "budget_deferred")
    assert sum(len(effects(sandbox, visit)) for visit in visits) == 3
    assert sandbox.health()["limit"]["refused"] == 0


def test_a_refusal_closes_the_limit_for_others_until_the_named_time_or_for_a_moment(services: Services) -> None:
    now = datetime.now(UTC)
    for number, (told, least, most) in enumerate(
        (
            (Told(True, timedelta(seconds=600)), 590, 601),
            (Told(True), 0, 16),
            (Told(False, timedelta(seconds=60)), 50, 61),
        )
    ):
        tenant = f"tenant{number}"
        gate(services, ["tenant:60000/60s"], tenant).heard("patients", told)
        with pytest.raises(Deferred) as deferred:
            gate(services, ["tenant:60000/60s"], tenant).admit("appointments")
        assert timedelta(seconds=least) < deferred.value.until - now < timedelta(seconds=most)


UPDATE, SELECT = (
    (f"REVOKE {verb} ON sync.budget FROM zest_budget", f"GRANT {verb} ON sync.budget TO zest_budget")
    for verb in ("UPDATE", "SELECT")
)


@contextmanager
def without(server: EmbeddedServer, logins: Logins, revoke: str, grant: str) -> Iterator[None]:
    """Within the block, the ledger may not do all that it does."""
    with psycopg.connect(server.admin_url, dbname=logins.database, autocommit=True) as admin:
        admin.execute(revoke)
        yield
        admin.execute(grant)


def test_a_ledger_that_may_not_be_written_lets_nothing_through(
    server: EmbeddedServer, logins: Logins, tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visit = tenant.add_visit()
    set_limits(tenant, "tenant:60000/60s")
    start = mark(sandbox)
    with without(server, logins, *UPDATE):
        with pytest.raises(StoreError, match="42501"):
            push_now(tenant)
        assert calls(sandbox, after=start) == []
    expire_lease(tenant)
    assert push_now(tenant).delivered == 1
    assert effects(sandbox, visit) == ["created"]
    assert broken_promises(tenant) == []


def test_an_answer_is_settled_though_what_it_says_of_the_limits_cannot_be_noted(
    server: EmbeddedServer, logins: Logins, tenant: Tenant, sandbox: RunningSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    visit = tenant.add_visit()
    set_limits(tenant, "tenant:60000/60s")
    sandbox.configure(limits=[{"kind": "fixed", "calls": 1, "seconds": 60}], dialect="ratelimit_structured")
    revoke, grant = UPDATE
    with without(server, logins, f"{revoke}; GRANT UPDATE (state) ON sync.budget TO zest_budget", grant):
        report = push_now(tenant)
    assert (report.delivered, report.unknown) == (1, 0)
    assert tenant.outcomes(visit) == [(1, "delivered")]
    assert effects(sandbox, visit) == ["created"]
    assert "could not be noted: " in caplog.text
    assert "42501" in caplog.text


def test_where_the_ledger_cannot_be_told_no_other_call_goes_by_the_gate(
    server: EmbeddedServer, logins: Logins, services: Services
) -> None:
    told = gate(services, ["tenant:60000/60s"])
    told.admit("patients")
    with without(server, logins, *UPDATE):
        told.heard("patients", Told(True, timedelta(seconds=60)))
    with pytest.raises(Deferred):
        told.admit("patients")


def test_a_push_tells_what_it_did_though_nothing_can_be_foretold(
    server: EmbeddedServer, logins: Logins, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    tenant.add_visit()
    set_limits(tenant)
    with without(server, logins, *SELECT):
        report = push_now(tenant)
    assert (report.delivered, report.outlook) == (1, None)
    assert "no outlook" in caplog.text


def test_calls_that_take_long_go_side_by_side_as_the_limit_gives_slots(tenant: Tenant, sandbox: RunningSandbox) -> None:
    visits = [tenant.add_visit() for _ in range(6)]
    set_limits(tenant, "tenant:20/10s")
    sandbox.set_faults(FaultRule(FaultKind.DELAY, method="POST", seconds=1.5))
    start = mark(sandbox)
    assert push_now(tenant).delivered == 6
    sent = [row["monotonic"] for row in calls(sandbox, "POST", after=start)]
    assert len(sent) == len(visits)
    assert sent[-1] - sent[1] < 4 * 1.5  # four paces of 0.55 s; one after the other they take four answers


def closed(services: Services) -> set[str]:
    """The names of the buckets that are closed."""
    with services.database.transaction(Login.BUDGET, None) as tx:
        rows = tx.exec_driver_sql("SELECT bucket FROM sync.budget WHERE closed_until > clock_timestamp()")
        return {bucket for (bucket,) in rows}


def test_one_tenants_plan_that_is_used_up_stops_no_other_tenant(services: Services) -> None:
    limits = ["vendor:40/10s", "tenant:5000/1d"]
    busy = gate(services, limits, "busy", patience=2)
    for _ in range(12):
        busy.admit("patients")
    overdue = gate(services, limits, "overdue", patience=2)
    overdue.admit("patients")
    overdue.heard("patients", Told(True, timedelta(hours=6)))
    assert closed(services) == {"fhir/overdue/tenant:counted/1d"}
    busy.admit("patients")
    overdue.heard("patients", Told(True, timedelta(seconds=5)))  # what the vendor's limit may mean
    assert "fhir//vendor:paced/10s" in closed(services)


def test_a_reset_that_is_moved_keeps_what_was_used_of_the_day(services: Services) -> None:
    two, one = (datetime.now(UTC) + timedelta(hours=9 - ago) for ago in (2, 1))  # by Japan's clock
    gate(services, [f"tenant:1/1d@{two:%H:%M}"]).admit("patients")
    with pytest.raises(Deferred):
        gate(services, [f"tenant:1/1d@{one:%H:%M}"]).admit("patients")


def test_a_refusal_at_one_endpoint_closes_no_other_and_always_this_one(services: Services) -> None:
    limits = ["endpoint=appointments:60000/60s", "endpoint=patients:60000/60s"]
    both = gate(services, limits)
    both.admit("appointments")
    both.heard("patients", Told(True, timedelta(seconds=600)))
    both.admit("appointments")
    with pytest.raises(Deferred):
        both.admit("patients")


@pytest.mark.parametrize("limits", [["tenant:concurrent=5"], ["vendor:60000/60s"]])
def test_a_tenant_without_a_limit_of_its_own_is_left_alone_by_itself(services: Services, limits: list[str]) -> None:
    gate(services, limits, "one").heard("patients", Told(True, timedelta(hours=6)))
    with pytest.raises(Deferred):
        gate(services, limits, "one").admit("patients")
    gate(services, limits, "two").admit("patients")


def test_what_is_opened_by_hand_is_believed_again(services: Services) -> None:
    limits = ["tenant:20/10s"]
    hasty = gate(services, limits, patience=2)
    for _ in range(8):
        hasty.admit("patients")
    hasty.heard("patients", Told(True))
    assert believed(services) == [0.5]
    with services.database.transaction(Login.BUDGET, None) as tx:
        assert budgets.reopen(tx, "fhir/sakura/") == 1
    assert believed(services) == [1.0]
    assert closed(services) == set()


def believed(services: Services) -> list[float]:
    with services.database.transaction(Login.BUDGET, None) as tx:
        beliefs = tx.exec_driver_sql("SELECT state -> 'belief' FROM sync.budget").scalars()
        return [1.0 if each is None else each[0] for each in beliefs]


def test_opening_by_hand_and_sending_never_wait_for_each_other_in_a_ring(services: Services) -> None:
    """The vendor's row comes first by its name, and last in the table."""
    names = ["fhir//vendor:paced/60s", "fhir/sakura/tenant:paced/60s"]
    until = datetime.now(UTC) + timedelta(hours=1)
    with services.database.transaction(Login.BUDGET, None) as tx:
        for name in reversed(names):
            budgets.close(tx, [name], until)

    def open_all() -> None:
        with other_process(services) as other:
            for _ in range(150):
                with other.database.transaction(Login.BUDGET, None) as tx:
                    budgets.reopen(tx, "fhir/")

    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_all)
        for _ in range(150):
            with services.database.transaction(Login.BUDGET, None) as tx:
                budgets.lock(tx, names)
                budgets.close(tx, names, until)
        opening.result()


def test_making_a_row_and_sending_never_wait_for_each_other_in_a_ring(services: Services) -> None:
    """The last row is there and locked, the first one is missing, and another one makes it meanwhile."""
    first, last = "fhir//vendor:paced/60s", "fhir/sakura/tenant:paced/60s"

    def lock(names: list[str], seconds: float = 0.0) -> None:
        with other_process(services) as other, other.database.transaction(Login.BUDGET, None) as tx:
            budgets.lock(tx, names)
            time.sleep(seconds)

    lock([last])
    with ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(lock, [last], 1.0)]
        for names in ([first, last], [first], [first, last]):
            time.sleep(0.2)
            senders.append(pool.submit(lock, names))
        for sender in senders:
            sender.result()


def broken_state(driver: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "_json", lambda _: {"free_at": "\0"})  # no text of PostgreSQL's


def killed_session(driver: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    real, pid = gate_module.admit, driver.info.backend_pid

    def admit(*given: Any) -> Any:
        with psycopg.connect(driver.info.dsn, password=driver.info.password) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        return real(*given)

    monkeypatch.setattr(gate_module, "admit", admit)


@pytest.mark.parametrize("fault", [broken_state, killed_session])
def test_what_cannot_be_stored_is_not_granted_and_the_next_one_who_asks_is_served(
    services: Services, fault: Callable[[psycopg.Connection[Any], pytest.MonkeyPatch], None]
) -> None:
    ledger = gate(services, ["tenant:600/60s", "vendor:600/60s"]).ledger
    ledger.take("patients")
    before = states(services)
    with services.database.transaction(Login.BUDGET, None) as tx:
        driver = tx.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    with pytest.MonkeyPatch.context() as patch:
        fault(driver, patch)
        with pytest.raises(StoreError):
            ledger.take("patients")
    assert states(services) == before
    assert not isinstance(ledger.take("patients"), Later)


def states(services: Services) -> list[Any]:
    with other_process(services) as other, other.database.transaction(Login.BUDGET, None) as tx:
        return list(tx.exec_driver_sql("SELECT state FROM sync.budget ORDER BY bucket").scalars())


def test_a_call_that_takes_long_to_connect_is_not_sent_late(services: Services) -> None:
    late = gate(services, ["tenant:60000/60s"])
    late.admit("patients")
    late.leave()
    late._leaves_until = time.monotonic()  # as after a second in which it was connecting
    with pytest.raises(Deferred):
        late.leave()


def test_a_reading_without_an_answer_leaves_its_seat_behind(tenant: Tenant, sandbox: RunningSandbox) -> None:
    set_limits(tenant, "tenant:concurrent=1")
    hasty = impatient(tenant)
    working = replace(hasty.services, under_way=timedelta(seconds=30))
    sandbox.set_faults(FaultRule(FaultKind.DELAY_BEFORE, type="Patient", seconds=2))
    report = land(working, tenant.partner, tenant.name, Entity.CLIENT)
    assert report.state == "failed"
    limits = [parse_limit("tenant:concurrent=1")]
    with pytest.raises(Deferred):
        Seats.of(working, Connection(tenant.name, "fhir", "", {}), limits).take(timedelta(0))


def test_a_reading_that_the_limits_put_off_says_so(tenant: Tenant, sandbox: RunningSandbox) -> None:
    sandbox.configure(max_count=10)
    set_limits(tenant, "endpoint=patients:1/120s")
    start = mark(sandbox)
    report = land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    assert (report.state, report.reason, report.gone) == ("failed", "budget_deferred", 0)
    assert len(calls(sandbox, after=start)) == 1


@dataclass
class Turnstile:
    """A gate that counts who passes."""

    inner: Gate
    passed: Counter[str] = field(default_factory=Counter)

    def admit(self, endpoint: str) -> None:
        self.inner.admit(endpoint)
        self.passed[endpoint] += 1

    def leave(self) -> None:
        """In time."""

    def unheard(self) -> None:
        """Nobody counts what is under way."""

    def heard(self, endpoint: str, told: Told) -> None:
        self.inner.heard(endpoint, told)


def test_no_call_goes_round_the_gate(tenant: Tenant, sandbox: RunningSandbox) -> None:
    """Check, read, fetch, send and find, with faults and without: as many calls as admissions."""
    turnstiles: list[Turnstile] = []

    def counted(connection: Any, secret: Any, client: Any, gate: Gate) -> Any:
        turnstiles.append(Turnstile(gate))
        return tenant.partner.open(connection, secret, client, turnstiles[-1])

    hasty = impatient(replace(tenant, partner=replace(tenant.partner, open=counted)))
    tomorrow = replace(hasty.services, now=lambda: datetime.now(UTC) + timedelta(days=2))
    start = mark(sandbox)

    def passed() -> int:
        return sum(sum(each.passed.values()) for each in turnstiles)

    def assert_equal(after: str) -> None:
        assert passed() == len(calls(sandbox, after=start)), after

    check(hasty.services, hasty.partner, hasty.name)
    assert_equal("check")
    sandbox.configure(max_count=7)
    gone = sandbox.state("Patient")[0]["id"]
    sandbox.delete("Patient", gone)
    for entity in hasty.partner.reads:
        assert land(tomorrow, hasty.partner, hasty.name, entity).state == "certified"
        assert_equal(f"read and fetch {entity}")
    others = "SELECT record_id FROM sync.identity WHERE entity = 'client' AND partner_id <> :gone"
    client_id = hasty.sql(others, Login.OPERATOR, gone=gone)[0].record_id
    visits = [hasty.add_visit(client_id=client_id) for _ in range(3)]
    sandbox.set_faults(FaultRule(FaultKind.CUT_AFTER, method="POST", nth=2))
    assert push_now(hasty).delivered == 3
    assert_equal("send and find")
    hasty.edit_visit(visits[0], note="2")
    hasty.edit_visit(visits[1], status="cancelled")
    sandbox.put(sandbox.state("Appointment")[-1] | {"comment": "theirs"})
    hasty.edit_visit(visits[2], note="2")
    push_now(hasty)
    assert_equal("change, cancel and conflict")
    assert passed() > 20


AT_ONCE = timedelta(0)


def test_as_many_lines_are_open_as_calls_may_be_in_flight(services: Services) -> None:
    connection, limits = Connection("sakura", "fhir", "", {}), [parse_limit("tenant:concurrent=3")]
    with other_process(services) as second, other_process(services) as third:
        ours, theirs, others = (Seats.of(each, connection, limits) for each in (services, second, third))
        ours.take(AT_ONCE)
        ours.take(AT_ONCE)
        seat = theirs.take(AT_ONCE)
        for seats in (ours, theirs, others):
            with pytest.raises(Deferred):
                seats.take(AT_ONCE)
        Seats.of(third, Connection("momiji", "fhir", "", {}), limits).take(AT_ONCE)
        seat.free()
        others.take(AT_ONCE)


def test_a_seat_whose_call_got_no_answer_stays_taken_for_as_long_as_that_may_last(services: Services) -> None:
    connection, limits = Connection("sakura", "fhir", "", {}), [parse_limit("tenant:concurrent=1")]
    hasty = replace(services, under_way=timedelta(seconds=-9.5))
    seats = Seats.of(hasty, connection, limits)
    seat = seats.take(AT_ONCE)
    seat.leave_behind()
    with pytest.raises(Deferred):
        seat.hold(AT_ONCE)
    seat.hold(timedelta(seconds=5))


def test_a_seat_is_had_under_all_limits_or_under_none(services: Services) -> None:
    both = [parse_limit("vendor:concurrent=2"), parse_limit("tenant:concurrent=1")]
    sakura = Seats.of(services, Connection("sakura", "fhir", "", {}), both)
    sakura.take(AT_ONCE)
    with pytest.raises(Deferred):
        sakura.take(AT_ONCE)
    Seats.of(services, Connection("momiji", "fhir", "", {}), both).take(AT_ONCE)  # the vendor's second one was left


def test_a_connector_that_goes_round_its_gate_sends_nothing(tenant: Tenant, sandbox: RunningSandbox) -> None:
    clients: list[httpx.Client] = []

    def opened(connection: Connection, secret: Any, client: httpx.Client, gate: Gate) -> Any:
        clients.append(client)
        return tenant.partner.open(connection, secret, client, gate)

    row = connection_row(tenant.services, tenant.partner, tenant.name, Login.PUSH)
    start, address = mark(sandbox), f"{sandbox.url}/Patient"
    with open_line(tenant.services, replace(tenant.partner, open=opened), row, AT_ONCE) as line:
        with pytest.raises(UngrantedError):
            clients[0].get(address)
        assert calls(sandbox, after=start) == []
        line.gate.admit("patients")
        clients[0].get(address)
        with pytest.raises(UngrantedError):  # one call, one request
            clients[0].get(address)
    assert len(calls(sandbox, after=start)) == 1


@pytest.mark.parametrize("other", ["tenant:6/1d@00:00", "tenant:6/23h", "tenant:6/1d+6", "tenant:6/60s"])
def test_a_limit_that_is_counted_in_another_way_goes_on_with_what_was_used(services: Services, other: str) -> None:
    used = gate(services, ["tenant:6/1d", "endpoint=staff:9/1d"])
    for _ in range(6):
        used.admit("patients")
    with pytest.raises(Deferred):
        gate(services, [other]).admit("patients")
    gate(services, [other], "momiji").admit("patients")
    gate(services, ["endpoint=staff:9/1h"]).admit("staff")


def test_a_limit_beside_one_that_stays_begins_with_what_was_used_of_that(services: Services) -> None:
    used = gate(services, ["tenant:6/1d"])
    for _ in range(6):
        used.admit("patients")
    with pytest.raises(Deferred):
        gate(services, ["tenant:9/1d", "tenant:6/23h"]).admit("patients")


def test_a_limit_that_is_counted_in_another_way_stays_closed(services: Services) -> None:
    closed = gate(services, ["tenant:600/1h"])
    closed.admit("patients")
    closed.heard("patients", Told(True, timedelta(minutes=10)))
    for other in ("tenant:600/60s", "tenant:600/1d@00:00"):
        with pytest.raises(Deferred):
            gate(services, [other]).admit("patients")


def test_the_next_seat_is_kept_for_the_push_that_a_person_waits_for(services: Services) -> None:
    limits, moment = [parse_limit("vendor:concurrent=2")], timedelta(milliseconds=1)
    sakura, momiji, kaede = (
        Seats.of(services, Connection(name, "fhir", "", {}), limits) for name in ("sakura", "momiji", "kaede")
    )
    asked = Seats.of(services, Connection("tsubaki", "fhir", "", {}), limits, Priority.PEOPLE)
    first, second = sakura.take(AT_ONCE), momiji.take(AT_ONCE)
    for _ in range(3):  # one seat is kept, however often it asks
        with pytest.raises(Deferred):
            asked.take(moment)
    first.free()
    with pytest.raises(Deferred):
        kaede.take(AT_ONCE)
    second.hold(AT_ONCE)  # who has one keeps it
    seat = asked.take(AT_ONCE)
    second.free()
    kaede.take(AT_ONCE)  # nothing is kept from others once it has one
    with pytest.raises(Deferred):
        asked.take(AT_ONCE)
    seat.free()
    sakura.take(AT_ONCE)  # who had no patience left no wish


def test_a_push_waits_for_its_seat_before_those_that_nobody_waits_for(
    tenant: Tenant, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_module, "_PATIENCE", timedelta(seconds=0.1))
    tenant.add_visit()
    set_limits(tenant, "vendor:concurrent=1")
    limits = [parse_limit("vendor:concurrent=1")]
    others = Seats.of(tenant.services, Connection("momiji", "fhir", "", {}), limits)
    week = Days(date(2026, 11, 29), date(2026, 12, 5))
    accumulate_all(tenant)
    seat = others.take(AT_ONCE)
    assert push(tenant.services, tenant.partner, tenant.name, days=week).stopped == "budget_deferred"
    seat.free()
    with pytest.raises(Deferred):
        others.take(AT_ONCE)
    assert push(tenant.services, tenant.partner, tenant.name, days=week).delivered == 1
    others.take(AT_ONCE)


def test_a_seat_that_cannot_be_given_back_costs_no_report(
    server: EmbeddedServer,
    logins: Logins,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tenant.add_visit()
    set_limits(tenant, "tenant:concurrent=1")
    with ExitStack() as stack:
        real = Lanes.__exit__

        def ended(lanes: Lanes[Any], *how: Any) -> None:
            real(lanes, *how)
            stack.enter_context(without(server, logins, *UPDATE))

        monkeypatch.setattr(Lanes, "__exit__", ended)
        assert push_now(tenant).delivered == 1
    assert "runs out by itself" in caplog.text


def test_slots_for_several_calls_are_a_pace_apart_and_no_more_than_lie_close_ahead(services: Services) -> None:
    slots = gate(services, ["tenant:8/2s"]).ledger.take("appointments", 10)
    assert not isinstance(slots, Later)
    paces = [later.not_before - slot.not_before for slot, later in pairwise(slots)]
    assert (len(slots), [round(pace, 2) for pace in paces]) == (2, [0.38])
    assert isinstance(gate(services, ["tenant:8/2s"]).ledger.take("appointments"), Later)


def test_a_push_that_finds_no_seat_stops_without_a_call(
    tenant: Tenant, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_module, "_PATIENCE", timedelta(seconds=0.1))
    tenant.add_visit()
    set_limits(tenant, "tenant:concurrent=1")
    start = mark(sandbox)
    limits = [parse_limit("tenant:concurrent=1")]
    with other_process(tenant.services) as other:
        seat = Seats.of(other, Connection(tenant.name, "fhir", "", {}), limits).take(AT_ONCE)
        report: PushReport = push_now(tenant)
        seat.free()
    assert (report.stopped, report.pending) == ("budget_deferred", 1)
    assert calls(sandbox, after=start) == []
    assert push_now(tenant).delivered == 1


def test_a_push_counts_the_calls_that_the_partner_saw(tenant: Tenant, sandbox: RunningSandbox) -> None:
    tenant.add_visit()
    start = mark(sandbox)
    report = push_now(tenant)
    assert report.delivered == 1
    assert report.calls == len(calls(sandbox, after=start)) > 0
    assert push_now(tenant).calls == 0
