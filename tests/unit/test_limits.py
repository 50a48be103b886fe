"""The grammar of limits."""

from __future__ import annotations

from datetime import time

import pytest

from partners.limits import Concurrency, LimitScope, LimitSyntaxError, Rate, parse_limit


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
    ],
)
def test_what_is_no_limit_is_refused_with_a_right_example(text: str) -> None:
    with pytest.raises(LimitSyntaxError) as error:
        parse_limit(text)
    assert "vendor:600/60s" in str(error.value)
