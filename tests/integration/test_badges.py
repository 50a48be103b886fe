"""The badge view: what care staff see, derived from what is pending, what was settled, and the catalogue of reasons."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from way_out import NOON, WayOut, ended, way_out

from partners.contract import Entity, Verb
from partners.reasons import Owner, all_reasons
from resources.logins import Login
from zest_pipelines.core.badge import Badge
from zest_pipelines.core.outcome import Outcome, RepairOutcome
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import badges, holds, results
from zest_pipelines.store.database import Database
from zest_pipelines.store.holds import Hold
from zest_pipelines.store.keys import Key, Target
from zest_pipelines.store.results import Intent, Repair, Result

REASON_OF = {owner: next(each.code for each in all_reasons() if each.owner is owner) for owner in Owner}


def badge_of(tenant: Any, record_id: UUID, entity: Entity = Entity.VISIT) -> tuple[str, str | None]:
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        (shown,) = badges.of_record(tx, tenant.name, entity, record_id)
    return shown.badge, shown.reason


def add_result(tenant: Any, visit_id: UUID, outcome: str, reason: str) -> None:
    """As push stores it: of a call, but for a release."""
    (row,) = tenant.sql("SELECT month FROM sync.pending WHERE record_id = :id", Login.OPERATOR, id=visit_id)
    with tenant.services.database.transaction(Login.PUSH, tenant.name) as tx:
        key, target = Key(row.month, Entity.VISIT, visit_id, 1), Target(tenant.name, "fhir")
        intent = None if outcome == "released" else Intent(uuid4(), key, Verb.CREATE, "a key", {}, None, None)
        results.add_intents(tx, target, 1, [intent] if intent else [])
        ended = Result(key, Outcome(outcome), reason, intent_id=intent and intent.intent_id)
        assert results.add_results(tx, target, [ended]) == ()


@pytest.mark.parametrize(
    ("outcome", "owner", "badge"),
    [
        ("retry", Owner.PARTNER, Badge.RETRYING),
        ("retry", Owner.USER, Badge.ACTION_NEEDED),
        ("unknown", Owner.PARTNER, Badge.RETRYING),
        ("unknown", Owner.USER, Badge.CHECK_NEEDED),
        ("conflict", Owner.USER, Badge.CHECK_NEEDED),
        ("conflict", Owner.PARTNER, Badge.CHECK_NEEDED),
        ("parked", Owner.USER, Badge.ACTION_NEEDED),
        ("parked", Owner.US, Badge.CHECK_NEEDED),
        ("parked", Owner.UNKNOWN, Badge.CHECK_NEEDED),
    ],
)
def test_the_badge_of_an_open_record_says_whose_turn_it_is(
    tenant: Any, outcome: str, owner: Owner, badge: Badge
) -> None:
    visit_id = tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)

    add_result(tenant, visit_id, outcome, REASON_OF[owner])

    assert badge_of(tenant, visit_id) == (badge, REASON_OF[owner])


def test_a_released_record_waits_its_turn_again(tenant: Any) -> None:
    visit_id = tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)
    add_result(tenant, visit_id, "parked", "record_refused")

    add_result(tenant, visit_id, "released", "connection_changed")

    assert badge_of(tenant, visit_id) == (Badge.WAITING, None)


def test_a_visit_says_for_whom_it_waits(tenant: Any) -> None:
    for_stranger = tenant.add_visit(client_id=uuid4())
    by_stranger = tenant.add_visit(staff_id=uuid4())
    accumulate(tenant.services, tenant.partner, tenant.name)

    assert badge_of(tenant, for_stranger) == (Badge.WAITING, "client_not_yet_at_partner")
    assert badge_of(tenant, by_stranger) == (Badge.WAITING, "staff_not_yet_at_partner")


def test_a_visit_record_waits_for_its_visit(tenant: Any) -> None:
    visit_id = tenant.add_visit(client_id=uuid4())
    tenant.sql(
        "INSERT INTO schedule.visit_record (tenant_id, visit_id, status) VALUES (:tenant, :visit, 'absent')",
        tenant=tenant.name,
        visit=visit_id,
    )
    accumulate(tenant.services, tenant.partner, tenant.name)
    assert badge_of(tenant, visit_id, Entity.VISIT_RECORD) == (Badge.WAITING, "client_not_yet_at_partner")

    tenant.edit_visit(visit_id, client_id=tenant.ids("client")[0])
    accumulate(tenant.services, tenant.partner, tenant.name)
    assert badge_of(tenant, visit_id, Entity.VISIT_RECORD) == (Badge.WAITING, "visit_not_yet_delivered")


def test_a_week_that_nobody_asked_for_is_not_requested_yet(sandbox: Any, new_tenant: Any) -> None:
    tenant = new_tenant(sandbox, timing="week")
    tenant.take_in()
    visit_id = tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)

    assert badge_of(tenant, visit_id) == (Badge.WAITING, "not_requested_yet")

    tenant.sql("SELECT sync.request_push(:tenant, 'fhir', '2026-11-30', '2026-12-06')", tenant=tenant.name)
    assert badge_of(tenant, visit_id) == (Badge.WAITING, None)


def test_a_delivered_visit_is_ok_and_the_product_sees_it(tenant: Any) -> None:
    visit_id = tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)
    push(tenant.services, tenant.partner, tenant.name)

    assert badge_of(tenant, visit_id) == (Badge.OK, None)
    seen = tenant.sql("SELECT record_id, badge FROM sync.badge")
    assert [(row.record_id, row.badge) for row in seen] == [(visit_id, "ok")]


def test_the_product_reads_message_and_next_action_beside_the_badge(tenant: Any) -> None:
    tenant.add_visit(client_id=uuid4())
    accumulate(tenant.services, tenant.partner, tenant.name)

    (row,) = tenant.sql("SELECT r.message_ja, r.action_ja FROM sync.badge b JOIN sync.reason r ON r.code = b.reason")

    assert "利用者" in row.message_ja
    assert row.action_ja


@pytest.fixture
def out(database: Database) -> WayOut:
    return way_out(database)


def shown(out: WayOut, key: Key) -> tuple[str, str | None, datetime | None]:
    """(badge, reason, not before) as the product sees it."""
    rows = out.sql(
        "SELECT badge, reason, not_before FROM sync.badge WHERE record_id = :record AND entity = :entity",
        Login.PRODUCT,
        record=key.record_id,
        entity=key.entity.value,
    )
    (row,) = rows
    return tuple(row)


def hold(out: WayOut, reason: str, until: datetime) -> None:
    with out.transaction() as tx:
        holds.put(tx, out.target, Hold(reason, {"why": "x"}, 0, NOON, until, datetime.now(UTC)))


@pytest.mark.parametrize(
    ("reason", "badge", "badge_after_a_failure"),
    [
        ("outside_window", Badge.WAITING, Badge.RETRYING),
        ("partner_unreachable", Badge.RETRYING, Badge.RETRYING),
        ("credential_refused", Badge.ACTION_NEEDED, Badge.ACTION_NEEDED),
    ],
)
def test_what_could_go_says_why_its_connection_stands_still_and_until_when(
    out: WayOut, reason: str, badge: Badge, badge_after_a_failure: Badge
) -> None:
    due, failed, waiting, parked = out.change(), out.change(), out.change(client=uuid4()), out.change()
    until = datetime.now(UTC) + timedelta(hours=1)
    out.store(Result(failed, Outcome.RETRY, "partner_busy", not_before=until + timedelta(hours=1)))
    out.store(Result(parked, Outcome.PARKED, "record_refused"))
    hold(out, reason, until)

    assert shown(out, due) == (badge, reason, until)
    assert shown(out, failed) == (badge_after_a_failure, reason, until + timedelta(hours=1))
    assert shown(out, waiting)[:2] == (Badge.WAITING, "client_not_yet_at_partner")
    assert shown(out, parked)[1:] == ("record_refused", None)

    hold(out, reason, NOON)  # it is over
    assert shown(out, due) == (Badge.WAITING, None, None)
    assert shown(out, failed)[:2] == (Badge.RETRYING, "partner_busy")


def test_the_badge_looks_for_itself_what_a_record_waits_for(out: WayOut) -> None:
    client = uuid4()
    key = out.change(client=client)
    out.identify(Entity.CLIENT, client, "C2")
    assert out.sql("SELECT waits_for FROM sync.pending")[0].waits_for == "client"  # nobody has looked again
    assert shown(out, key) == (Badge.WAITING, None, None)


def test_a_settled_record_that_a_late_sender_may_have_touched_is_not_ok(out: WayOut) -> None:
    key = out.change()
    out.deliver(key)
    assert shown(out, key)[:2] == (Badge.OK, None)
    out.repair(Repair(key, RepairOutcome.SUSPECTED, "timeout_unsure"))
    assert shown(out, key)[:2] == (Badge.RETRYING, "timeout_unsure")
    out.repair(Repair(key, RepairOutcome.PARKED, "delivery_unsure"))
    assert shown(out, key)[:2] == (Badge.CHECK_NEEDED, "delivery_unsure")
    newer = out.change(replace(key, version=2))
    assert shown(out, newer)[:2] == (Badge.WAITING, None)
    out.deliver(newer)
    assert shown(out, key)[:2] == (Badge.OK, None)


def test_a_settled_record_keeps_its_badge_when_its_month_is_archived(out: WayOut, server: EmbeddedServer) -> None:
    key = out.change()
    intent = out.intend(key)
    warned = Result(key, Outcome.DELIVERED_WITH_WARNING, "filled_in_by_partner", partner_id="p", is_cancelled=False)
    assert out.store(replace(warned, intent_id=intent.intent_id)) == ()
    with psycopg.connect(server.admin_url, dbname=out.database._logins.database, autocommit=True) as admin:
        for table in ("change", "intent", "result"):
            admin.execute(f"ALTER TABLE sync.{table} DETACH PARTITION sync.{table}_{key.month:%Y_%m}")
    assert shown(out, key) == (Badge.DELIVERED_WITH_WARNING, "filled_in_by_partner", None)
    newer = out.change(Key(date(2026, 12, 1), key.entity, key.record_id, 2))
    (due,) = out.due()
    assert (due.key, due.known and due.known.partner_id, due.settled_version) == (newer, "p", 1)


def test_a_conflict_shows_both_values_of_each_field(out: WayOut) -> None:
    key = out.change(image='{"note": "ours", "client_id": "c-1", "starts_at": "2026-11-02T09:00:00+00:00"}')
    intent = out.intend(key, links={"client": "C1", "visit": "V1"})
    theirs = {"note": "theirs", "client": "C9", "visit": "V9", "their_field": "x"}
    assert out.store(ended(intent, Outcome.CONFLICT, "changed_at_partner", theirs=theirs)) == ()
    rows = out.sql("SELECT field, ours, theirs, version FROM sync.conflict ORDER BY field", Login.PRODUCT)
    assert [tuple(row) for row in rows] == [
        ("client", "C1", "C9", 1),
        ("note", "ours", "theirs", 1),
        ("their_field", None, "x", 1),
        ("visit", "V1", "V9", 1),
    ]
    out.change(replace(key, version=2))  # whoever edits it has decided
    assert out.sql("SELECT field FROM sync.conflict", Login.PRODUCT) == []


def connection(out: WayOut) -> tuple[str, str | None]:
    """(badge, reason) of the whole connection, as the product sees it."""
    (row,) = out.sql("SELECT badge, reason FROM sync.connection_badge", Login.PRODUCT)
    return row.badge, row.reason


def reading(out: WayOut, state: str, reason: str | None, entity: str = "client") -> None:
    out.sql(
        """
        INSERT INTO sync.snapshot (snapshot_id, tenant_id, partner, entity, state, reason, finished_at)
        VALUES (gen_random_uuid(), :tenant, :partner, :entity, :state, :reason, clock_timestamp())
        """,
        Login.LAND,
        **out.target.parameters(),
        entity=entity,
        state=state,
        reason=reason,
    )


def test_a_connection_shows_the_worst_of_what_keeps_all_of_it_back(out: WayOut) -> None:
    assert connection(out) == (Badge.OK, None)
    hold(out, "outside_window", datetime.now(UTC) + timedelta(hours=1))
    assert connection(out) == (Badge.WAITING, "outside_window")
    reading(out, "failed", "partner_unreachable")
    assert connection(out) == (Badge.RETRYING, "partner_unreachable")
    reading(out, "failed", "permission_missing", "staff")
    assert connection(out) == (Badge.ACTION_NEEDED, "permission_missing")
    reading(out, "incomplete", "unknown", "staff")
    assert connection(out) == (Badge.CHECK_NEEDED, "unknown")
    reading(out, "certified", None, "staff")
    reading(out, "certified", None)
    assert connection(out) == (Badge.WAITING, "outside_window")
    hold(out, "credential_refused", datetime.now(UTC) + timedelta(hours=1))
    assert connection(out) == (Badge.ACTION_NEEDED, "credential_refused")
    hold(out, "credential_refused", NOON)
    assert connection(out) == (Badge.OK, None)
    pause = "UPDATE sync.connection SET paused_at = clock_timestamp(), pause_reason = 'moving' WHERE partner = :partner"
    out.sql(pause, Login.OPERATOR, partner=out.target.partner)
    assert connection(out) == (Badge.ACTION_NEEDED, "connection_paused")


def test_the_digest_counts_what_each_record_shows_and_nothing_else(out: WayOut) -> None:
    keys = [out.change() for _ in range(5)]
    out.deliver(keys[0])
    out.store(Result(keys[1], Outcome.PARKED, "record_refused", {"detail": "422"}))
    out.store(Result(keys[2], Outcome.PARKED, "record_refused", {"detail": "400"}))
    out.store(Result(keys[3], Outcome.RETRY, "unknown", {"detail": "X1"}))
    with out.transaction(Login.OPERATOR) as tx:
        groups = badges.digest(tx, out.target.tenant)
    told = {(each.entity, each.badge, each.reason): (each.records, dict(each.params)) for each in groups}
    assert told == {
        ("visit", "action_needed", "record_refused"): (2, {}),
        ("visit", "retrying", "unknown"): (1, {"detail": "X1"}),
        ("visit", "waiting", None): (1, {}),
    }
    counted = out.sql("SELECT count(*) AS number FROM sync.badge WHERE badge <> 'ok'", Login.PRODUCT)
    assert sum(each.records for each in groups) == counted[0].number == 4
    assert all(each.oldest is not None for each in groups)


def test_a_master_that_is_not_as_it_last_came_has_a_badge_until_it_is(sandbox: Any, new_tenant: Any) -> None:
    tenant = new_tenant(sandbox)
    tenant.take_in()
    (whole, *_) = tenant.sql("SELECT partner_id, record_id, landed_no FROM sync.master_result", Login.OPERATOR)
    shown = "SELECT record_id, badge, reason FROM sync.master_badge"
    assert tenant.sql(shown) == []

    def add(outcome: str, reason: str | None, later: int) -> None:
        tenant.sql(
            """
            INSERT INTO sync.master_result (tenant_id, partner, entity, partner_id, landed_no, outcome, reason)
            VALUES (:tenant, 'fhir', 'client', :id, :no, :outcome, :reason)
            """,
            Login.APPLY,
            **{"tenant": tenant.name, "id": whole.partner_id, "no": whole.landed_no + later},
            outcome=outcome,
            reason=reason,
        )

    add("rejected", "field_invalid", 1_000_000)
    rows = tenant.sql(shown)
    assert [(row.record_id is not None, row.reason) for row in rows] == [(True, "field_invalid")]
    assert rows[0].badge in (Badge.ACTION_NEEDED, Badge.CHECK_NEEDED)
    (group,) = tenant.sql("SELECT entity, records, reason FROM sync.badge_digest WHERE entity = 'client'")
    assert tuple(group) == ("client", 1, "field_invalid")
    add("applied", None, 1_000_001)
    assert tenant.sql(shown) == []


def test_every_column_that_the_product_reads_of_badges_is_documented(tenant: Any) -> None:
    undocumented = tenant.sql(
        """
        SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relname IN ('badge', 'master_badge', 'connection_badge', 'badge_digest') AND c.relkind = 'v'
          AND a.attname NOT IN ('tenant_id', 'partner', 'entity', 'record_id', 'records', 'params', 'reason', 'badge')
          AND col_description(c.oid, a.attnum) IS NULL
        """
    )
    assert [tuple(row) for row in undocumented] == []
