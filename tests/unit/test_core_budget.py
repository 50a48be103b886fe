"""What the ledger's rule answers in single cases; its laws are in tests/property."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from partners.limits import Rate, parse_limit
from zest_pipelines.core.budget import (
    Bucket,
    Granted,
    Wait,
    admit,
    applies,
    interval,
)

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
AT_ONCE = timedelta(0)
A_MINUTE = timedelta(minutes=1)


def rate(text: str) -> Rate:
    limit = parse_limit(text)
    assert isinstance(limit, Rate)
    return limit


def bucket(text: str, ahead: float | None = None, closed: float | None = None) -> Bucket:
    def moment(seconds: float | None) -> datetime | None:
        return None if seconds is None else NOW + timedelta(seconds=seconds)

    return Bucket(rate(text), moment(ahead), moment(closed))


def test_calls_are_spread_over_a_little_more_than_the_window() -> None:
    assert interval(rate("tenant:60/60s")) == timedelta(microseconds=1_017_294)
    assert interval(rate("tenant:1/10s")) == timedelta(seconds=11)
    assert interval(rate("tenant:5/1s")) == timedelta(seconds=0.4)


def test_a_fresh_bucket_lets_one_call_go_at_once_and_the_next_an_interval_later() -> None:
    fresh = bucket("tenant:1/10s")
    later = NOW + timedelta(seconds=11)
    assert admit([fresh], NOW, 2, AT_ONCE) == Granted((NOW,), (later,))
    assert admit([fresh], NOW, 2, A_MINUTE) == Granted((NOW, later), (later + timedelta(seconds=11),))


def test_a_spent_bucket_says_when_to_ask_again() -> None:
    assert admit([bucket("tenant:1/10s", ahead=4)], NOW, 1, AT_ONCE) == Wait(NOW + timedelta(seconds=4))
    assert admit([bucket("tenant:1/10s", ahead=4)], NOW, 1, timedelta(seconds=1)) == Wait(NOW + timedelta(seconds=3))


def test_an_idle_hour_saves_up_nothing() -> None:
    granted = admit([bucket("tenant:60/60s", ahead=-3600, closed=-60)], NOW, 60, AT_ONCE)
    assert isinstance(granted, Granted)
    assert granted.send_at == (NOW,)


def test_the_tightest_of_several_limits_decides() -> None:
    granted = admit([bucket("tenant:600/60s"), bucket("endpoint=a:5/1s")], NOW, 2, A_MINUTE)
    second = NOW + timedelta(seconds=0.4)
    assert granted == Granted(
        (NOW, second), (second + timedelta(microseconds=101_730), second + timedelta(seconds=0.4))
    )


def test_one_limit_that_says_no_spends_nothing_of_the_others() -> None:
    found = admit([bucket("tenant:600/60s"), bucket("tenant:5000/1d", ahead=9)], NOW, 1, AT_ONCE)
    assert found == Wait(NOW + timedelta(seconds=9))


def test_a_tenant_held_up_by_its_own_limit_does_not_make_the_vendors_idle() -> None:
    vendor, own = bucket("vendor:600/60s"), bucket("tenant:1/10s", ahead=4)
    assert admit([vendor, own], NOW, 1, A_MINUTE) == Wait(NOW + timedelta(seconds=4))
    granted = admit([vendor, bucket("tenant:1/10s")], NOW, 5, A_MINUTE)
    assert isinstance(granted, Granted)
    assert granted.send_at == (NOW,)


def test_a_tenant_held_up_by_the_vendors_limit_takes_its_place_in_the_queue() -> None:
    found = admit([bucket("vendor:60/60s", ahead=3), bucket("tenant:600/60s")], NOW, 1, A_MINUTE)
    assert isinstance(found, Granted)
    assert found.send_at == (NOW + timedelta(seconds=3),)


def test_a_scope_that_the_partner_closed_stays_closed_until_then() -> None:
    closed = bucket("tenant:600/60s", closed=120)
    assert admit([closed], NOW, 1, AT_ONCE) == Wait(NOW + timedelta(seconds=120))
    assert admit([closed], NOW, 1, A_MINUTE) == Wait(NOW + timedelta(seconds=60))


def test_without_limits_every_call_may_leave_now() -> None:
    assert admit([], NOW, 3, AT_ONCE) == Granted((NOW, NOW, NOW), ())


def test_asking_for_no_call_is_a_fault() -> None:
    with pytest.raises(ValueError, match="at least one"):
        admit([], NOW, 0, AT_ONCE)


def test_an_endpoints_limit_applies_to_that_endpoint_alone() -> None:
    assert applies(parse_limit("endpoint=appointments:5/1s"), "appointments")
    assert not applies(parse_limit("endpoint=appointments:5/1s"), "patients")
    assert applies(parse_limit("tenant:5/1s"), "patients")
    assert applies(parse_limit("vendor:concurrent=5"), "patients")
