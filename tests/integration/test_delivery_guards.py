"""What keeps a sender that went wrong from doing harm: one that stood still past its lease, one with a fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from evidence import is_told

from partners.contract import Command, Connector, Partner, Reply
from resources.logins import Login
from zest_pipelines.flows import delivery
from zest_pipelines.flows import push as push_module
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.store.errors import ConstraintError


@dataclass(frozen=True)
class _Wrapped:
    """A connector that does something before each write."""

    inner: Connector
    before: Callable[[Command], None]

    def send(self, command: Command) -> Reply:
        self.before(command)
        return self.inner.send(command)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def wrapped(partner: Partner, before: Callable[[Command], None]) -> Partner:
    def open_connector(connection: Any, secret: Mapping[str, str], client: Any, gate: Any) -> Any:
        return _Wrapped(partner.open(connection, secret, client, gate), before)

    return replace(partner, open=open_connector)


def test_a_sender_that_stood_still_past_its_lease_sends_nothing(tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    visit_id = tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)
    monkeypatch.setattr(push_module, "LEASE_SECONDS", tenant.services.http.total_seconds + 0.5)
    seen = len(tenant.sandbox.journal())

    push(tenant.services, wrapped(tenant.partner, lambda _: time.sleep(1)), tenant.name)

    assert len(tenant.sandbox.journal()) == seen
    assert tenant.outcomes(visit_id) == [(1, "retry")]
    push(tenant.services, tenant.partner, tenant.name)
    assert tenant.outcomes(visit_id) == [(1, "retry"), (1, "delivered")]


def test_the_same_sender_without_the_stop_does_send(tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    visit_id = tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)
    monkeypatch.setattr(push_module, "LEASE_SECONDS", tenant.services.http.total_seconds + 5)

    push(tenant.services, wrapped(tenant.partner, lambda _: None), tenant.name)

    assert tenant.outcomes(visit_id) == [(1, "delivered")]


def test_a_fault_of_ours_in_one_record_holds_up_no_neighbour_and_is_read_back(tenant: Any) -> None:
    broken, sound = tenant.add_visit(), tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)

    def fail(command: Command) -> None:
        if command.record_id == broken:
            raise ZeroDivisionError

    report = push(tenant.services, wrapped(tenant.partner, fail), tenant.name)

    assert (report.delivered, report.unknown, report.stopped) == (1, 1, None)
    assert tenant.outcomes(sound) == [(1, "delivered")]
    assert [problem.reason for problem in report.problems] == ["internal_error"]
    is_told("internal_error", report.problems[0].params)


def test_a_record_of_which_no_command_can_be_made_is_parked_without_an_intent(
    tenant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, sound = tenant.add_visit(), tenant.add_visit()
    accumulate(tenant.services, tenant.partner, tenant.name)
    build = delivery.command

    def fail(entity: Any, verb: Any, record_id: Any, *rest: Any, **named: Any) -> Any:
        if record_id == odd:
            raise ValueError
        return build(entity, verb, record_id, *rest, **named)

    monkeypatch.setattr(delivery, "command", fail)

    report = push(tenant.services, tenant.partner, tenant.name)

    assert (report.delivered, report.parked, report.stopped) == (1, 1, None)
    assert tenant.outcomes(sound) == [(1, "delivered")]
    assert tenant.sql("SELECT FROM sync.intent WHERE record_id = :id", Login.OPERATOR, id=odd) == []
    # A newer version takes it up again.
    monkeypatch.setattr(delivery, "command", build)
    tenant.edit_visit(odd, note="mended")
    accumulate(tenant.services, tenant.partner, tenant.name)
    push(tenant.services, tenant.partner, tenant.name)
    assert (2, "delivered") in tenant.outcomes(odd)


@pytest.mark.parametrize(
    ("starts_at", "ends_at"),
    [
        ("2026-12-01T09:00+09", "infinity"),
        ("-infinity", "2026-12-01T09:00+09"),
        ("0044-03-15 00:00+00 BC", "2026-12-01T09:00+09"),
        ("2026-12-01T09:00+09", "9999-12-31T20:00+00"),
        ("19999-01-01T00:00+00", "20000-01-01T00:00+00"),
    ],
)
def test_a_visit_at_a_time_that_no_partner_keeps_is_refused_at_the_product(
    tenant: Any, starts_at: str, ends_at: str
) -> None:
    with pytest.raises(ConstraintError):
        tenant.add_visit(starts_at=starts_at, ends_at=ends_at)
