"""The badge view: what care staff see, derived from what is pending, what was settled, and the catalogue of reasons."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from partners.contract import Entity
from partners.reasons import Owner, all_reasons
from resources.logins import Login
from zest_pipelines.core.badge import Badge
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.store import deliveries, reports
from zest_pipelines.store.deliveries import Key, Result, Target

REASON_OF = {owner: next(each.code for each in all_reasons() if each.owner is owner) for owner in Owner}


def badge_of(tenant: Any, record_id: UUID, entity: Entity = Entity.VISIT) -> tuple[str, str | None]:
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        (shown,) = reports.badges(tx, tenant.name, entity, record_id)
    return shown.badge, shown.reason


def add_result(tenant: Any, visit_id: UUID, outcome: str, reason: str) -> None:
    (row,) = tenant.sql("SELECT month FROM sync.pending WHERE record_id = :id", Login.OPERATOR, id=visit_id)
    with tenant.services.database.transaction(Login.PUSH, tenant.name) as tx:
        key = Key(row.month, Entity.VISIT, visit_id, 1)
        deliveries.add_result(tx, Target(tenant.name, "fhir"), Result(key, outcome, reason))


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
