"""Limits over HTTP: each dialect tells the truth, callers are counted apart, seats end with the call."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sandbox_caller import Caller, calling, issue_codes, wait_until

from partners.fhir.sandbox import FaultKind, FaultRule, SandboxConfig, SlidingRule
from partners.fhir.sandbox.limit_book import caller_name

WINDOW = 30.0
"""Seconds of the limits here: longer than a test, so that what is told can be compared with a first call's time."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Caller]:
    with calling() as caller:
        yield caller


def limited(caller: Caller, dialect: str, calls: int = 1) -> tuple[float, list[httpx.Response]]:
    """The Unix time just before the first of `calls` + 1 calls to a limit of `calls`, and their answers."""
    caller.sandbox.configure(limits=[])
    caller.sandbox.configure(limits=[{"kind": "sliding", "calls": calls, "seconds": WINDOW}], dialect=dialect)
    return time.time(), [caller.get("Patient") for _ in range(calls + 1)]


def is_about(told: float, expected: float) -> bool:
    """Rounded up to whole seconds at most, and what the calls themselves took."""
    return -0.1 <= told - expected <= 2


@pytest.mark.parametrize("dialect", ["retry_after_date", "retry_after_epoch", "retry_after_iso"])
def test_an_instant_that_is_told_is_when_the_window_has_room(shared: Caller, dialect: str) -> None:
    start, (admitted, refused) = limited(shared, dialect)
    assert (admitted.status_code, refused.status_code) == (200, 429)
    text = refused.headers["retry-after"]
    read = {
        "retry_after_date": lambda: parsedate_to_datetime(text).timestamp(),
        "retry_after_epoch": lambda: int(text),
        "retry_after_iso": lambda: datetime.fromisoformat(text).timestamp(),
    }
    assert is_about(read[dialect](), start + WINDOW)


@pytest.mark.parametrize(("dialect", "status"), [("retry_after_seconds", 429), ("forbidden", 403), ("body", 503)])
def test_seconds_that_are_told_are_those_until_the_window_has_room(shared: Caller, dialect: str, status: int) -> None:
    _, (admitted, refused) = limited(shared, dialect)
    assert (admitted.status_code, refused.status_code) == (200, status)
    assert issue_codes(refused) == ["throttled"]
    assert is_about(int(refused.headers["retry-after"]), WINDOW - 1)
    assert "retry-after" not in admitted.headers


@pytest.mark.parametrize(("dialect", "told"), [("none", None), ("negative", "-5"), ("absurd", "99999999999")])
def test_a_dialect_that_does_not_tell_the_truth_tells_what_it_is_named_for(
    shared: Caller, dialect: str, told: str | None
) -> None:
    _, (_, refused) = limited(shared, dialect)
    assert (refused.status_code, refused.headers.get("retry-after")) == (429, told)


@pytest.mark.parametrize(
    ("dialect", "prefix", "counts_from"),
    [("ratelimit", "ratelimit", 0), ("x_ratelimit_seconds", "x-ratelimit", 0), ("x_ratelimit_epoch", "x-ratelimit", 1)],
)
def test_every_answer_tells_what_is_left_and_when_there_is_more(
    shared: Caller, dialect: str, prefix: str, counts_from: int
) -> None:
    start, answers = limited(shared, dialect, calls=2)
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers[f"{prefix}-limit"] for answer in answers] == ["2"] * 3
    assert [answer.headers[f"{prefix}-remaining"] for answer in answers] == ["1", "0", "0"]
    resets = [int(answer.headers[f"{prefix}-reset"]) for answer in answers]
    assert all(is_about(reset, start * counts_from + WINDOW - (1 - counts_from)) for reset in resets)
    assert "retry-after" not in answers[-1].headers


def test_the_newer_draft_is_told_in_structured_fields(shared: Caller) -> None:
    _, answers = limited(shared, "ratelimit_structured", calls=2)
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"default";q=2;w=30'}
    told = [re.fullmatch(r'"default";r=(\d+);t=(\d+)', answer.headers["ratelimit"]) for answer in answers]
    assert [match and match[1] for match in told] == ["1", "0", "0"]
    assert all(match and is_about(int(match[2]), WINDOW - 1) for match in told)


def test_of_several_limits_the_tightest_is_told(shared: Caller) -> None:
    rules = [{"kind": "sliding", "calls": 9, "seconds": 60}, {"kind": "leaky", "size": 3, "leak": 0.1}]
    shared.sandbox.configure(limits=rules, dialect="ratelimit")
    headers = shared.get("Patient").headers
    assert (headers["ratelimit-limit"], headers["ratelimit-remaining"]) == ("3", "2")
    assert headers["ratelimit-reset"] == "10"


def test_who_comes_back_when_told_is_admitted(shared: Caller) -> None:
    shared.sandbox.configure(limits=[{"kind": "fixed", "calls": 1, "seconds": 0.5}], dialect="retry_after_iso")
    while (answer := shared.get("Patient")).status_code == 200:
        pass
    told = datetime.fromisoformat(answer.headers["retry-after"]).timestamp()
    assert 0 < told - time.time() <= 0.502
    time.sleep(told - time.time())
    assert shared.get("Patient").status_code == 200


def test_callers_are_told_apart_by_their_tokens_and_no_token_is_shown() -> None:
    tokens = tuple(f"t{number}" for number in range(3))
    config = SandboxConfig(token="main", tokens=tokens, limits=(SlidingRule(calls=2, seconds=60, per="caller"),))
    with calling(config) as caller:

        def ask(token: str) -> int:
            return caller.http.get("Patient", headers={"authorization": f"Bearer {token}"}).status_code

        assert [ask(token) for token in ("t0", "t0", "t0", "t1", "main", "t7")] == [200, 200, 429, 200, 200, 401]
        (limit,) = caller.sandbox.health()["limits"]
        assert (limit["kind"], limit["per"], limit["admitted"], limit["refused"]) == ("sliding", "caller", 5, 1)
        assert (limit["callers"], limit["least_admitted"], limit["most_admitted"]) == (4, 1, 2)
        detail = caller.sandbox.limits()
        assert detail["limits"][0]["admitted_by"][caller_name("t0")] == 2
        assert [name for _, name in detail["admitted"]] == [
            caller_name(each) for each in ("t0", "t0", "t1", "main", "t7")
        ]
        assert all(abs(time.monotonic() - at) < 10 for at, _ in detail["admitted"])
        assert not any(f'"{token}"' in str(detail).replace("'", '"') for token in tokens)


def test_a_limit_shrinks_while_running_and_what_it_counted_stays(shared: Caller) -> None:
    wide: dict[str, Any] = {"kind": "sliding", "calls": 4, "seconds": 60}
    shared.sandbox.configure(limits=[])
    shared.sandbox.configure(limits=[wide], dialect="none")
    assert [shared.get("Patient").status_code for _ in range(2)] == [200, 200]
    shared.sandbox.configure(limits=[wide | {"calls": 2}])
    assert shared.get("Patient").status_code == 429
    shared.sandbox.configure(limits=[wide])
    assert [shared.get("Patient").status_code for _ in range(3)] == [200, 200, 429]
    (limit,) = shared.sandbox.health()["limits"]
    counts = {name: limit[name] for name in ("admitted", "refused", "peak", "seen", "over")}
    assert counts == {"admitted": 4, "refused": 2, "peak": 4, "seen": 6, "over": 2}


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "sliding", "calls": 0, "seconds": 1},
        {"kind": "sliding", "calls": 1},
        {"kind": "leaky", "calls": 1, "seconds": 1},
        {"kind": "in_flight", "calls": 1, "seconds": 1},
        {"kind": "calendar", "calls": 1, "seconds": 1},
        {"calls": 1, "seconds": 1},
    ],
)
def test_a_limit_that_makes_no_sense_is_not_taken(shared: Caller, rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="400"):
        shared.sandbox.configure(limits=[rule])


def test_a_seat_is_held_until_the_answer_is_written(shared: Caller) -> None:
    shared.sandbox.configure(limits=[])
    shared.sandbox.configure(limits=[{"kind": "in_flight", "calls": 2}], dialect="retry_after_seconds")
    shared.sandbox.set_faults(FaultRule(FaultKind.DELAY, seconds=0.4))
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(shared.get, "Patient") for _ in range(2)]
        wait_until(lambda: shared.sandbox.health()["limits"][0]["admitted"] == 2)
        refused = shared.get("Patient")
        assert [each.result().status_code for each in slow] == [200, 200]
    shared.sandbox.clear_faults()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert [shared.get("Patient").status_code for _ in range(3)] == [200] * 3
    assert shared.sandbox.health()["limits"][0]["peak"] == 2


def test_a_seat_is_free_when_its_caller_has_hung_up(shared: Caller) -> None:
    shared.sandbox.configure(limits=[])
    shared.sandbox.configure(limits=[{"kind": "in_flight", "calls": 1}])
    shared.sandbox.set_faults(FaultRule(FaultKind.DELAY, seconds=20, id="slow"))
    address = urlsplit(shared.sandbox.url)
    with socket.create_connection((address.hostname, address.port)) as line:
        line.sendall(b"GET /Patient/slow HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: shared.sandbox.health()["limits"][0]["admitted"] == 1)
        assert shared.get("Patient").status_code == 429
    wait_until(lambda: shared.get("Patient").status_code == 200)
    shared.sandbox.clear_faults()


@pytest.mark.parametrize("kind", [FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER, FaultKind.TRUNCATED_BODY])
def test_a_call_that_is_cut_leaves_no_seat_taken(shared: Caller, kind: FaultKind) -> None:
    shared.sandbox.configure(limits=[])
    shared.sandbox.configure(limits=[{"kind": "in_flight", "calls": 1}])
    shared.sandbox.set_faults(FaultRule(kind, times=1))
    with pytest.raises(httpx.RemoteProtocolError):
        shared.get("Patient")
    assert shared.get("Patient").status_code == 200
