"""Each kind of fault does on the wire what it says, and the vendor's data tell whether it was applied.

Seen through the shared `wire`, since that is how connectors see it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sandbox_caller import FHIR, Caller, calling, link, patient, wait_until

from partners.fhir.sandbox import FaultKind, FaultRule
from partners.throttling import Told
from partners.wire import Answered, Cause, Exchange, NotJson, Request, Unknown, exchange, read_json
from resources.http import Http

HTTP = Http(total_seconds=0.5)


@pytest.fixture(scope="module")
def shared() -> Iterator[Caller]:
    with calling() as caller:
        yield caller


@pytest.fixture
def caller(shared: Caller) -> Iterator[Caller]:
    yield shared
    shared.sandbox.clear_faults()
    for row in shared.sandbox.state("Patient"):
        shared.sandbox.delete("Patient", row["id"])


class OpenGate:
    def admit(self, endpoint: str) -> None:
        """Admit everything."""

    def leave(self) -> None:
        """In time."""

    def unheard(self) -> None:
        """Nobody counts what is under way."""

    def heard(self, endpoint: str, told: Told) -> None:
        """Nothing to learn."""


def create(caller: Caller, http: Http = HTTP) -> Exchange:
    request = Request(
        "POST", f"{caller.sandbox.url}/Patient", "clients", headers=FHIR, content=json.dumps(patient()).encode()
    )
    with http.client() as client:
        return exchange(client, OpenGate(), request)


def rows(caller: Caller) -> int:
    return len(caller.sandbox.state("Patient"))


def last(caller: Caller) -> dict[str, Any]:
    return caller.sandbox.journal()[-1]


@pytest.mark.parametrize("kind", [FaultKind.STATUS, FaultKind.APPLY_THEN_STATUS])
@pytest.mark.parametrize("status", [500, 503])
def test_a_status_comes_with_an_outcome_and_a_retry_after(caller: Caller, kind: FaultKind, status: int) -> None:
    caller.sandbox.set_faults(FaultRule(kind, status=status, code="transient", retry_after=7))
    answered = create(caller)
    assert isinstance(answered, Answered)
    assert answered.status == status
    assert answered.headers["retry-after"] == "7"
    outcome = read_json(answered)
    assert isinstance(outcome, dict)
    assert outcome["issue"][0]["code"] == "transient"
    is_applied = kind == FaultKind.APPLY_THEN_STATUS
    assert rows(caller) == is_applied
    row = last(caller)
    assert (row["status"], row["fault"]) == (status, kind.value)
    assert row["effect"] == ("created" if is_applied else "none")


@pytest.mark.parametrize(("kind", "status"), [(FaultKind.HTML_STATUS, 502), (FaultKind.HTML_LOGIN, 200)])
def test_an_html_page_comes_in_the_place_of_an_answer(caller: Caller, kind: FaultKind, status: int) -> None:
    caller.sandbox.set_faults(FaultRule(kind, status=502))
    answered = create(caller)
    assert isinstance(answered, Answered)
    assert answered.status == status
    assert answered.headers["content-type"].startswith("text/html")
    assert isinstance(read_json(answered), NotJson)
    assert rows(caller) == 0


def test_a_redirect_leads_back_to_the_same_address_without_end(caller: Caller) -> None:
    caller.sandbox.set_faults(FaultRule(FaultKind.REDIRECT))
    answered = create(caller)
    assert isinstance(answered, Answered)
    assert answered.status == 307
    assert answered.headers["location"] == f"{caller.sandbox.url}/Patient"
    with pytest.raises(httpx.TooManyRedirects):
        caller.http.get("Patient", params={"_count": "1"}, follow_redirects=True)
    assert rows(caller) == 0


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("kind", "applied"), [(FaultKind.CUT_BEFORE, 0), (FaultKind.CUT_AFTER, 1)])
def test_a_cut_is_unknown_whether_it_was_applied_or_not(
    caller: Caller, kind: FaultKind, applied: int, reset: bool
) -> None:
    caller.sandbox.set_faults(FaultRule(kind, reset=reset))
    assert create(caller) == Unknown(Cause.CUT)
    assert rows(caller) == applied
    assert last(caller)["status"] is None
    assert last(caller)["effect"] == ("created" if applied else "none")


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_ends_the_connection_as_it_says(caller: Caller, reset: bool) -> None:
    caller.sandbox.set_faults(FaultRule(FaultKind.CUT_BEFORE, reset=reset))
    with pytest.raises(httpx.ReadError if reset else httpx.RemoteProtocolError):
        caller.get("Patient")


def test_a_wrong_content_type_comes_with_the_right_body(caller: Caller) -> None:
    caller.sandbox.set_faults(FaultRule(FaultKind.WRONG_CONTENT_TYPE))
    answered = create(caller)
    assert isinstance(answered, Answered)
    assert answered.headers["content-type"].startswith("text/plain")
    assert read_json(answered) == caller.sandbox.state("Patient")[0]


def test_an_empty_body_comes_with_the_right_status(caller: Caller) -> None:
    caller.sandbox.set_faults(FaultRule(FaultKind.EMPTY_BODY))
    answered = create(caller)
    assert isinstance(answered, Answered)
    assert (answered.status, answered.body) == (201, b"")
    assert rows(caller) == 1


@pytest.mark.parametrize("reset", [False, True])
def test_a_body_cut_in_half_is_unknown_and_applied(caller: Caller, reset: bool) -> None:
    caller.sandbox.set_faults(FaultRule(FaultKind.TRUNCATED_BODY, reset=reset))
    assert create(caller) == Unknown(Cause.CUT)
    assert rows(caller) == 1


def test_a_delayed_answer_was_applied_at_once(caller: Caller) -> None:
    caller.sandbox.set_faults(FaultRule(FaultKind.DELAY, seconds=0.8))
    assert create(caller) == Unknown(Cause.TIMEOUT)
    assert rows(caller) == 1


def test_a_delayed_effect_comes_though_the_caller_has_gone(caller: Caller) -> None:
    caller.sandbox.set_faults(FaultRule(FaultKind.DELAY_BEFORE, seconds=0.8))
    assert create(caller) == Unknown(Cause.TIMEOUT)
    assert rows(caller) == 0
    wait_until(lambda: rows(caller) == 1)


def test_a_drip_is_whole_for_who_waits_and_unknown_for_who_does_not(caller: Caller) -> None:
    caller.sandbox.set_faults(FaultRule(FaultKind.DRIP, bytes=64, seconds=0.02))
    start = time.monotonic()
    assert isinstance(create(caller, Http(total_seconds=10)), Answered)
    assert time.monotonic() - start > 0.04
    caller.sandbox.set_faults(FaultRule(FaultKind.DRIP, bytes=1, seconds=0.1))
    assert create(caller) == Unknown(Cause.TIMEOUT)
    assert rows(caller) == 2


def test_a_page_can_lack_an_entry_repeat_one_miscount_or_end_early(caller: Caller) -> None:
    for number in range(4):
        caller.put("Patient", f"c{number}")

    def first_page(rule: FaultRule) -> httpx.Response:
        caller.sandbox.set_faults(rule)
        return caller.get("Patient", _count=3)

    page = first_page(FaultRule(FaultKind.DROP_ENTRY))
    assert (caller.ids(page), page.json()["total"]) == (["c1", "c2"], 4)
    page = first_page(FaultRule(FaultKind.REPEAT_ENTRY))
    assert (caller.ids(page), page.json()["total"]) == (["c0", "c0", "c1", "c2"], 4)
    assert first_page(FaultRule(FaultKind.WRONG_TOTAL)).json()["total"] == 5
    assert first_page(FaultRule(FaultKind.WRONG_TOTAL, total=0)).json()["total"] == 0
    page = first_page(FaultRule(FaultKind.MISSING_NEXT))
    assert (len(caller.ids(page)), link(page, "next")) == (3, None)


def test_a_page_fault_befalls_only_pages_that_it_can_spoil(caller: Caller) -> None:
    caller.sandbox.set_faults(FaultRule(FaultKind.DROP_ENTRY, times=1), FaultRule(FaultKind.MISSING_NEXT, times=1))
    assert caller.get("Patient").json()["total"] == 0
    assert [rule["fired"] for rule in caller.sandbox.faults()] == [0, 0]


def test_a_rule_can_name_the_number_of_the_page(caller: Caller) -> None:
    for number in range(4):
        caller.put("Patient", f"c{number}")
    caller.sandbox.set_faults(FaultRule(FaultKind.STATUS, status=500, page=2, times=1))
    page = caller.get("Patient", _count=2)
    address = str(link(page, "next"))
    assert [caller.http.get(address).status_code for _ in range(2)] == [500, 200]


@pytest.mark.parametrize(
    ("matcher", "hits"),
    [
        ({"method": "PUT"}, ["PUT a", "PUT b"]),
        ({"type": "Patient"}, ["PUT a", "PUT b", "GET a"]),
        ({"type": "Appointment"}, []),
        ({"id": "a"}, ["PUT a", "GET a"]),
        ({"identifier": "2"}, ["PUT b"]),
        ({"method": "GET", "id": "b"}, []),
        ({"nth": 2}, ["PUT b"]),
        ({"nth": 2, "times": 2}, ["PUT b", "GET a"]),
        ({"times": 1}, ["PUT a"]),
        ({"probability": 0}, []),
    ],
)
def test_a_rule_befalls_what_all_its_matchers_match(caller: Caller, matcher: dict[str, Any], hits: list[str]) -> None:
    calls: dict[str, Callable[[], httpx.Response]] = {
        "PUT a": lambda: caller.update(patient("a", "1")),
        "PUT b": lambda: caller.update(patient("b", "2")),
        "GET a": lambda: caller.get("Patient/a"),
    }
    caller.sandbox.set_faults({"kind": "apply_then_status", "status": 500, **matcher})
    assert [name for name, call in calls.items() if call().status_code == 500] == hits


def test_draws_of_chance_are_the_same_for_the_same_seed(caller: Caller) -> None:
    def draws(seed: int) -> list[int]:
        caller.sandbox.set_faults(FaultRule(FaultKind.STATUS, probability=0.5, seed=seed))
        return [caller.get("Patient").status_code for _ in range(16)]

    first = draws(1)
    assert draws(1) == first
    assert draws(2) != first
    assert {200, 500} == set(first)


def test_the_first_rule_that_fires_decides(caller: Caller) -> None:
    caller.sandbox.set_faults(
        FaultRule(FaultKind.STATUS, status=500, times=1), FaultRule(FaultKind.STATUS, status=503, times=1)
    )
    assert [caller.get("Patient").status_code for _ in range(3)] == [500, 503, 200]
    assert [(rule["seen"], rule["fired"]) for rule in caller.sandbox.faults()] == [(1, 1), (1, 1)]


def test_every_kind_of_fault_is_tried_here_or_with_the_batches() -> None:
    tried = "".join(path.read_text() for path in Path(__file__).parent.glob("test_sandbox_*.py"))
    assert [kind for kind in FaultKind if f"FaultKind.{kind.name}" not in tried] == []
