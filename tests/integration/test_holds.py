"""Why a connection's sending stands still: what is noted, what lifts it, and that it keeps out one tenant alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from conftest import fresh_database
from way_out import WayOut, ended, way_out

from resources.logins import Login, Logins
from zest_pipelines.core.outcome import Outcome
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import due, holds, tenants
from zest_pipelines.store.database import Database
from zest_pipelines.store.holds import OUTSIDE_WINDOW, Hold
from zest_pipelines.store.results import Result

BREAKER, WINDOW = "authentication_failed", OUTSIDE_WINDOW


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, template: Logins) -> Iterator[Database]:
    """The database of all tests here."""
    with fresh_database(server, template) as logins:
        database = Database(logins)
        yield database
        database.close()


@pytest.fixture
def out(shared: Database) -> WayOut:
    return way_out(shared)


def hold(reason: str, ahead: timedelta = timedelta(minutes=15)) -> Hold:
    now = datetime.now(UTC)
    return Hold(reason, {"status": "401"}, 3, since=now - timedelta(hours=1), until=now + ahead, noted_at=now)


def put(out: WayOut, noted: Hold) -> None:
    with out.transaction() as tx:
        holds.put(tx, out.target, noted)


def standing(out: WayOut) -> str | None:
    """The reason of the hold in force."""
    with out.transaction() as tx:
        found = holds.hold_in_force(tx, out.target)
    return None if found is None else found.reason


def test_a_hold_is_read_as_it_was_put_and_replaced_by_the_next(out: WayOut) -> None:
    for noted in (hold(BREAKER), hold(WINDOW)):
        put(out, noted)
        with out.transaction() as tx:
            found = holds.hold_in_force(tx, out.target)
            assert found == holds.last(tx, out.target)
        assert found == noted
    with out.transaction() as tx:
        holds.lift(tx, out.target)
        assert holds.last(tx, out.target) is holds.hold_in_force(tx, out.target) is None
        holds.lift(tx, out.target)


def test_a_hold_that_is_over_is_remembered_and_holds_nothing(out: WayOut) -> None:
    put(out, hold(BREAKER, timedelta(seconds=-1)))
    assert standing(out) is None
    with out.transaction() as tx:
        last = holds.last(tx, out.target)
    assert last is not None
    assert last.failures == 3


def change_connection(out: WayOut) -> None:
    out.connect()


def change_credential(out: WayOut) -> None:
    out.sql("INSERT INTO sync.credential (tenant_id, partner, ciphertext) VALUES (:tenant, :partner, 'x')")


def ask_for_days(out: WayOut) -> None:
    out.sql("SELECT sync.request_push(:tenant, :partner, '2026-12-01', '2026-12-01')")


def ask_again(out: WayOut) -> None:
    out.sql("SELECT sync.request_retry(:tenant, :partner)")


def read_well(out: WayOut, state: str = "certified") -> None:
    out.sql(
        """
        INSERT INTO sync.snapshot (snapshot_id, tenant_id, partner, entity, state, finished_at)
        VALUES (:id, :tenant, :partner, 'client', :state, clock_timestamp())
        """,
        Login.LAND,
        id=uuid4(),
        state=state,
    )


def read_badly(out: WayOut) -> None:
    read_well(out, "failed")


def pause(out: WayOut) -> None:
    with out.transaction(Login.OPERATOR) as tx:
        tenants.pause(tx, out.tenant, out.partner, "a reason")
        tenants.resume(tx, out.tenant, out.partner)


@pytest.mark.parametrize("reason", [BREAKER, WINDOW])
@pytest.mark.parametrize(
    ("act", "lifts"),
    [
        (change_connection, {BREAKER, WINDOW}),
        (change_credential, {BREAKER, WINDOW}),
        (ask_for_days, {BREAKER}),
        (ask_again, {BREAKER}),
        (read_well, {BREAKER}),
        (read_badly, set()),
        (pause, set()),
    ],
)
def test_what_speaks_against_a_hold_lifts_it_until_it_is_put_again(
    out: WayOut, reason: str, act: Callable[[WayOut], None], lifts: set[str]
) -> None:
    out.change()
    act(out)  # before it: nothing that was there already speaks against it
    put(out, hold(reason))
    assert standing(out) == reason
    assert out.outbound() == ()

    way_out(out.database, tenant="momiji", partner=out.partner)  # what another tenant does is nothing to it
    act(replace(out, tenant="momiji"))
    assert standing(out) == reason

    if act is not change_credential:
        act(out)
    else:
        out.sql("UPDATE sync.credential SET changed_at = clock_timestamp() WHERE partner = :partner")
    assert (standing(out) is None) == (out.outbound() == (out.tenant,)) == (reason in lifts)

    put(out, hold(reason))
    assert standing(out) == reason


@pytest.mark.parametrize("is_paused", [True, False])
def test_a_decision_is_carried_out_whatever_holds_the_connection(out: WayOut, is_paused: bool) -> None:
    key = out.change()
    if is_paused:
        with out.transaction(Login.OPERATOR) as tx:
            tenants.pause(tx, out.tenant, out.partner, "a reason")
    put(out, hold(BREAKER))
    assert out.outbound() == ()
    out.sql("SELECT sync.abandon_all(:tenant, :partner, 'the tenant is gone')")
    assert out.outbound() == (out.tenant,)
    out.store(Result(key, Outcome.ABANDONED, "abandoned_by_person"))
    assert out.outbound() == ()


def test_a_hold_keeps_its_own_tenant_out_whatever_it_has_to_push(out: WayOut) -> None:
    other = way_out(out.database, tenant="momiji", partner=out.partner)
    for each in (out, other):
        each.change()
        each.store(ended(each.intend(each.change()), Outcome.PARKED, "record_refused"))
        each.sql("SELECT sync.request_retry(:tenant, :partner)")
    assert out.outbound() == ("momiji", "sakura")

    put(out, hold(WINDOW))
    assert out.outbound() == ("momiji",)
    with out.database.transaction(Login.SCHEDULE, None) as tx:
        assert due.urgent(tx, out.partner) == ("momiji",)
    put(out, hold(WINDOW, timedelta(seconds=-1)))
    assert out.outbound() == ("momiji", "sakura")
