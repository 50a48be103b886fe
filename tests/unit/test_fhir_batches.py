"""The answer to a batch, read entry by entry."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from partners.fhir.batches import ask_all
from partners.fhir.server import Ask, Server
from partners.throttling import Told
from partners.wire import Answered, Exchange

ASKS = [
    Ask("POST", "Appointment", {"resourceType": "Appointment"}, {"if-none-exist": "identifier=a|b"}),
    Ask("PUT", "Appointment/7", {"resourceType": "Appointment", "id": "7"}, {"if-match": 'W/"3"'}),
    Ask("GET", "Appointment/8"),
]


class OpenGate:
    def __init__(self) -> None:
        self.told: list[Told] = []

    def admit(self, endpoint: str) -> None:
        """Always."""

    def leave(self) -> None:
        """In time."""

    def unheard(self) -> None:
        """Nobody counts what is under way."""

    def heard(self, endpoint: str, told: Told) -> None:
        self.told.append(told)


def answered(
    *entries: Any, kind: str = "batch-response", gate: OpenGate | None = None
) -> tuple[list[Exchange] | Exchange, dict[str, Any]]:
    """What a server's answer to ASKS is read as, and what it was asked."""
    asked = {}

    def handle(request: httpx.Request) -> httpx.Response:
        asked.update(json.loads(request.content))
        return httpx.Response(200, json={"resourceType": "Bundle", "type": kind, "entry": list(entries)})

    with httpx.Client(transport=httpx.MockTransport(handle)) as client:
        return ask_all(Server(client, gate or OpenGate(), "http://partner"), "Appointment", ASKS), asked


def response(status: Any, **more: Any) -> dict[str, Any]:
    return {"response": {"status": status, **more}}


def test_an_entry_asks_what_the_call_alone_would() -> None:
    _, asked = answered()
    assert (asked["resourceType"], asked["type"]) == ("Bundle", "batch")
    assert asked["entry"] == [
        {
            "request": {"method": "POST", "url": "Appointment", "ifNoneExist": "identifier=a|b"},
            "resource": ASKS[0].resource,
        },
        {"request": {"method": "PUT", "url": "Appointment/7", "ifMatch": 'W/"3"'}, "resource": ASKS[1].resource},
        {"request": {"method": "GET", "url": "Appointment/8"}},
    ]


def test_an_entry_is_answered_as_the_call_alone_would_be() -> None:
    outcome = {"resourceType": "OperationOutcome"}
    told, _ = answered(
        response("201 Created", etag='W/"1"', location="Appointment/5/_history/1"),
        {**response("412", outcome=outcome), "resource": {"resourceType": "Appointment"}},
        {**response("200", outcome=outcome), "resource": {"resourceType": "Appointment", "id": "8"}},
    )
    assert isinstance(told, list)
    created, stale, read = told
    assert isinstance(created, Answered)
    assert (created.status, created.body, created.headers["ETag"]) == (201, b"", 'W/"1"')
    assert created.headers["Location"] == "Appointment/5/_history/1"
    assert isinstance(stale, Answered)
    assert (stale.status, json.loads(stale.body)) == (412, outcome)
    assert isinstance(read, Answered)
    assert (read.status, json.loads(read.body)["id"]) == (200, "8")


@pytest.mark.parametrize("status", [None, "", "OK", "20", "2000", "999", {}])
def test_an_entry_without_a_status_is_no_answer_and_its_neighbours_are(status: Any) -> None:
    told, _ = answered(response("201"), response(status), response("200"))
    assert isinstance(told, list)
    assert [isinstance(each, Answered) for each in told] == [True, False, True]


@pytest.mark.parametrize(
    "entries",
    [
        (),
        (response("201"), response("200")),
        (response("201"),) * 4,
        (response("201"), "what", response("200")),
    ],
)
def test_an_answer_with_another_number_of_entries_is_one_answer(entries: tuple[Any, ...]) -> None:
    told, _ = answered(*entries)
    assert isinstance(told, Answered)


def test_another_bundle_is_no_answer_to_a_batch() -> None:
    told, _ = answered(*[response("201")] * 3, kind="searchset")
    assert isinstance(told, Answered)


def test_the_gate_is_told_once_of_entries_that_were_too_many() -> None:
    throttled = {"resourceType": "OperationOutcome", "issue": [{"code": "throttled"}]}
    gate = OpenGate()
    answered(response("201"), response("403", outcome=throttled), response("429"), gate=gate)
    assert gate.told == [Told(True)]
    gate = OpenGate()
    answered(response("201"), response("404"), response("500"), gate=gate)
    assert gate.told == []
