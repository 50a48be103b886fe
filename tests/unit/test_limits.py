"""The grammar of limits."""

from __future__ import annotations

from datetime import time

import pytest

from partners.limits import (
    Concurrency,
    Kind,
    LimitError,
    LimitScope,
    LimitSyntaxError,
    Rate,
    parse_limit,
    parse_limits,
)

ENDPOINTS = ("patients", "appointments")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("vendor:600/60s", Rate(LimitScope.VENDOR, 600, 60)),
        ("tenant:5000/1d", Rate(LimitScope.TENANT, 5000, 86_400)),
        ("tenant:10000/1d@09:00", Rate(LimitScope.TENANT, 10_000, 86_400, reset=time(9))),
        ("endpoint=appointments:5/1s", Rate(LimitScope.ENDPOINT, 5, 1, "appointments")),
        ("tenant:concurrent=5", Concurrency(LimitScope.TENANT, 5)),
        ("endpoint=files:concurrent=2", Concurrency(LimitScope.ENDPOINT, 2, "files")),
        ("vendor:1000000/31d", Rate(LimitScope.VENDOR, 1_000_000, 31 * 86_400)),
        ("tenant:1/2h", Rate(LimitScope.TENANT, 1, 7_200)),
        ("vendor:2/1s+40", Rate(LimitScope.VENDOR, 2, 1, burst=40)),
        ("endpoint=appointments:1/1s+1", Rate(LimitScope.ENDPOINT, 1, 1, "appointments", burst=1)),
        ("tenant:1000000/31d+1000000", Rate(LimitScope.TENANT, 1_000_000, 31 * 86_400, burst=1_000_000)),
        ("tenant:5000/1d-20%", Rate(LimitScope.TENANT, 5000, 86_400, headroom=20)),
        ("tenant:10000/1d@09:00-5%", Rate(LimitScope.TENANT, 10_000, 86_400, reset=time(9), headroom=5)),
        ("vendor:2/1s+40-95%", Rate(LimitScope.VENDOR, 2, 1, burst=40, headroom=95)),
        ("tenant:concurrent=5-20%", Concurrency(LimitScope.TENANT, 5, headroom=20)),
    ],
)
def test_a_limit_is_read_and_printed_as_it_was_written(text: str, limit: Rate | Concurrency) -> None:
    assert parse_limit(text) == limit
    assert str(limit) == text


def test_minutes_are_understood_and_printed_as_seconds() -> None:
    assert parse_limit("tenant:100/10m") == parse_limit("tenant:100/600s")
    assert str(parse_limit("tenant:100/10m")) == "tenant:100/600s"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "600/60s",
        "everyone:600/60s",
        "vendor:600",
        "vendor:600/60",
        "vendor:600/s",
        "vendor:-1/60s",
        "vendor:0/60s",
        "vendor:1000001/1d",
        "vendor:1/0s",
        "vendor:1/32d",
        "tenant:concurrent=0",
        "tenant:concurrent=1001",
        "tenant:concurrent=5/1s",
        "endpoint:5/1s",
        "endpoint=:5/1s",
        "endpoint=a b:5/1s",
        "tenant:5/1h@09:00",
        "tenant:5/2d@09:00",
        "tenant:5/1d@24:00",
        "tenant:5/1d@09:60",
        "tenant:5/1d@9:00",
        "tenant:5/1d\n",
        " tenant:5/1d",
        "tenant:５/1d",
        "vendor:2/1s+0",
        "vendor:2/1s+1000001",
        "vendor:2/1s+",
        "vendor:2/1s+-1",
        "tenant:5/1d+40@09:00",
        "tenant:1/31d+1000000",
        "tenant:1/1d+367",
        "tenant:concurrent=5+2",
        "tenant:5/1d-96%",
        "tenant:5/1d-100%",
        "tenant:5/1d-20",
        "tenant:5/1d--20%",
        "tenant:5/1d-20%@09:00",
    ],
)
def test_what_is_no_limit_is_refused_with_a_right_example(text: str) -> None:
    with pytest.raises(LimitSyntaxError) as error:
        parse_limit(text)
    for example in "vendor:600/60s", "tenant:5000/1d", "1d@09:00", "2/1s+40", "endpoint=appointments:5/1s", "-20%":
        assert example in str(error.value)


def test_a_leaky_bucket_drains_within_a_leap_year() -> None:
    assert parse_limit("tenant:1/1d+366") == Rate(LimitScope.TENANT, 1, 86_400, burst=366)
    with pytest.raises(LimitSyntaxError, match="366 days to drain"):
        parse_limit("tenant:1/1d+367")


def test_a_bucket_that_drains_all_the_time_has_no_reset() -> None:
    with pytest.raises(LimitSyntaxError, match="no time of reset"):
        parse_limit("tenant:5/1d+40@09:00")


def test_no_headroom_is_the_limit_itself() -> None:
    assert str(parse_limit("tenant:5/1s-0%")) == "tenant:5/1s"


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("tenant:5000/1d", 5000),
        ("tenant:5000/1d-20%", 4000),
        ("tenant:7/1s-20%", 5),
        ("tenant:1/1s-95%", 1),
        ("tenant:concurrent=5-20%", 4),
        ("tenant:concurrent=1-50%", 1),
    ],
)
def test_headroom_is_left_to_others_but_for_one_call(text: str, allowed: int) -> None:
    assert parse_limit(text).allowed == allowed


def test_headroom_is_taken_off_what_goes_at_once_and_off_what_drains() -> None:
    limit = parse_limit("vendor:10/1s+40-20%")
    assert isinstance(limit, Rate)
    assert (limit.allowed, limit.allowed_at_once) == (8, 32)
    assert Rate(LimitScope.TENANT, 10, 1).allowed_at_once is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("tenant:600/60s", Kind.PACED),
        ("tenant:600/120s", Kind.PACED),
        ("tenant:600/121s", Kind.COUNTED),
        ("endpoint=appointments:5000/1d", Kind.COUNTED),
        ("tenant:5000/1d@09:00", Kind.FIXED),
        ("vendor:5000/1d", Kind.PACED),
        ("vendor:5000/1d@09:00", Kind.PACED),
        ("vendor:2/1s+40", Kind.LEAKY),
        ("tenant:2/1h+40", Kind.LEAKY),
    ],
)
def test_long_windows_of_one_tenant_may_be_spent_in_bursts_and_what_all_share_never(text: str, kind: Kind) -> None:
    limit = parse_limit(text)
    assert isinstance(limit, Rate)
    assert limit.kind is kind


def test_a_limit_at_an_endpoint_that_the_partner_lacks_names_those_that_it_has() -> None:
    with pytest.raises(LimitError, match=r"endpoint=apointments:5/1s.*patients, appointments"):
        parse_limits(["endpoint=apointments:5/1s"], ENDPOINTS)
    with pytest.raises(LimitError, match="there are none"):
        parse_limits(["endpoint=patients:concurrent=2"], ())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tenant:600/60s", "tenant:600/60s"),
        ("tenant:600/60s", "tenant:300/60s-20%"),
        ("tenant:1/24h", "tenant:2/1d"),
        ("tenant:5/1d@09:00", "tenant:6/1d@10:00"),
        ("vendor:5/1d", "vendor:6/1d@10:00"),
        ("vendor:2/1s+40", "vendor:2/1s+20"),
        ("tenant:concurrent=5", "tenant:concurrent=4"),
    ],
)
def test_two_limits_on_the_same_thing_are_refused(one: str, other: str) -> None:
    with pytest.raises(LimitError, match="leave one of them out"):
        parse_limits([one, "vendor:9/9s", other], ENDPOINTS)


def test_limits_that_differ_in_scope_endpoint_window_or_kind_hold_together() -> None:
    texts = [
        "tenant:600/60s",
        "vendor:600/60s",
        "tenant:600/61s",
        "tenant:60/60s+5",
        "tenant:concurrent=5",
        "endpoint=patients:600/60s",
        "endpoint=appointments:600/60s",
        "tenant:5000/1d",
        "tenant:5000/1d@09:00",
    ]
    assert [str(each) for each in parse_limits(texts, ENDPOINTS)] == texts
