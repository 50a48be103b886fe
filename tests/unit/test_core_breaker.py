"""When the breaker opens, and for how long."""

from __future__ import annotations

from datetime import timedelta

import pytest

from partners.reasons import reason
from zest_pipelines.core.breaker import CAP, OPENS_AT, PERSON, stays_away


@pytest.mark.parametrize("code", ["credential_refused", "secret_missing", "address_wrong", "settings_missing"])
def test_what_a_person_has_to_cure_opens_it_at_once_and_never_for_longer(code: str) -> None:
    assert {stays_away(reason(code), failures, lambda: 0.5) for failures in (1, 2, 9)} == {PERSON}


@pytest.mark.parametrize("code", ["partner_unreachable", "partner_busy", "secret_unreadable", "html_instead_of_data"])
def test_what_may_pass_opens_it_at_the_third_failure_and_for_twice_as_long_each_time(code: str) -> None:
    away = [stays_away(reason(code), failures, lambda: 0.999_999) for failures in range(1, 10)]
    assert away[: OPENS_AT - 1] == [timedelta(0)] * 2
    assert [round(each.total_seconds()) for each in away[2:]] == [30, 60, 120, 240, 480, 900, 900]


def test_half_of_a_step_is_chance() -> None:
    why = reason("partner_unreachable")
    assert stays_away(why, 3, lambda: 0.0) == timedelta(seconds=15)
    assert stays_away(why, 10_000, lambda: 0.0) == CAP / 2


def test_there_is_no_failure_before_the_first() -> None:
    with pytest.raises(ValueError, match="number 1"):
        stays_away(reason("partner_busy"), 0, lambda: 0.0)
