"""Batches say for each entry what became of it; transactions do all or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sandbox_caller import FHIR, SYSTEM, Caller, appointment, calling, issue_codes, patient

from partners.fhir.sandbox import FaultKind, FaultRule


@pytest.fixture
def caller() -> Iterator[Caller]:
    with calling() as caller:
        caller.put("Patient", "c1")
        yield caller


def entry(method: str, url: str, resource: Any = None, **conditions: str) -> Any:
    asked = {"method": method, "url": url, **conditions}
    return {"request": asked} if resource is None else {"request": asked, "resource": resource}


def statuses(answer: Any) -> list[str]:
    return [each["response"]["status"] for each in answer.json()["entry"]]


def test_a_batch_answers_200_and_each_entry_for_itself(caller: Caller) -> None:
    answer = caller.bundle(
        "batch",
        entry("POST", "Appointment", appointment("c1", "k1")),
        entry("POST", "Appointment", appointment("nobody", "k2")),
        entry("PUT", "Patient/c1", patient("c1"), ifMatch='W/"9"'),
        entry("GET", "Patient/c1"),
    )
    assert answer.status_code == 200
    assert answer.json()["type"] == "batch-response"
    assert statuses(answer) == ["201", "422", "412", "200"]
    first, second = answer.json()["entry"][:2]
    assert first["response"]["etag"] == 'W/"1"'
    assert "/Appointment/" in first["response"]["location"]
    assert second["response"]["outcome"]["issue"][0]["code"] == "not-found"
    assert len(caller.sandbox.state("Appointment")) == 1


def test_a_batch_heeds_if_none_exist(caller: Caller) -> None:
    make = entry("POST", "Appointment", appointment("c1", "k1"), ifNoneExist=f"identifier={SYSTEM}|k1")
    assert statuses(caller.bundle("batch", make, make)) == ["201", "200"]
    assert len(caller.sandbox.state("Appointment")) == 1


def test_a_fault_can_befall_one_entry_alone(caller: Caller) -> None:
    caller.sandbox.set_faults(FaultRule(FaultKind.ENTRY_STATUS, identifier="k2", status=503, times=1))
    makes = [entry("POST", "Appointment", appointment("c1", key)) for key in ("k1", "k2", "k3")]
    assert statuses(caller.bundle("batch", *makes)) == ["201", "503", "201"]
    kept = {row["identifier"][0]["value"] for row in caller.sandbox.state("Appointment")}
    assert kept == {"k1", "k3"}
    (faulty,) = [row for row in caller.sandbox.journal() if row["fault"]]
    assert (faulty["identifier"], faulty["status"], faulty["effect"]) == ("k2", 503, "none")


def test_a_fault_can_befall_the_batch_that_holds_an_entry(caller: Caller) -> None:
    caller.sandbox.set_faults(FaultRule(FaultKind.BATCH_STATUS, identifier="k2", status=422, code="business-rule"))
    makes = [entry("POST", "Appointment", appointment("c1", key)) for key in ("k1", "k2", "k3")]
    whole = caller.bundle("batch", *makes)
    assert (whole.status_code, issue_codes(whole)) == (422, ["business-rule"])
    assert caller.sandbox.state("Appointment") == []
    (faulty,) = [row for row in caller.sandbox.journal() if row["fault"]]
    assert (faulty["identifier"], faulty["status"], faulty["effect"]) == ("k2", 422, "none")
    assert statuses(caller.bundle("batch", makes[0], makes[2])) == ["201", "201"]
    assert caller.create(appointment("c1", "k2")).status_code == 201, "alone it is no batch"


def test_an_answer_can_lack_its_last_entry(caller: Caller) -> None:
    caller.sandbox.set_faults(FaultRule(FaultKind.SHORT_BATCH, times=1))
    makes = [entry("POST", "Appointment", appointment("c1", key)) for key in ("k1", "k2")]
    assert statuses(caller.bundle("batch", *makes)) == ["201"]
    assert len(caller.sandbox.state("Appointment")) == 2


def test_a_transaction_applies_all(caller: Caller) -> None:
    answer = caller.bundle(
        "transaction",
        entry("PUT", "Patient/c1", patient("c1", active=False)),
        entry("POST", "Appointment", appointment("c1")),
    )
    assert answer.json()["type"] == "transaction-response"
    assert statuses(answer) == ["200", "201"], "answers stand in the order of the questions"


def test_a_transaction_with_one_refused_entry_applies_none(caller: Caller) -> None:
    before = caller.sandbox.state("Patient")
    answer = caller.bundle(
        "transaction",
        entry("DELETE", "Patient/c1"),
        entry("PUT", "Patient/c2", patient("c2")),
        entry("POST", "Appointment", appointment("nobody")),
    )
    assert answer.status_code == 422
    assert issue_codes(answer) == ["not-found"]
    assert caller.sandbox.state("Patient") == before
    assert caller.get("Patient/c2").status_code == 404
    assert caller.get("Patient", _id="c1").json()["total"] == 1
    assert caller.get("Patient/_history").json()["total"] == 1
    assert {row["effect"] for row in caller.sandbox.journal()} == {"none"}


def test_what_a_transaction_undid_leaves_the_order_of_changes_as_it_was(caller: Caller) -> None:
    caller.put("Patient", "c2")
    caller.bundle("transaction", entry("PUT", "Patient/c1", patient("c1")), entry("PUT", "Patient/x", {}))
    assert caller.ids(caller.get("Patient", _sort="_lastUpdated")) == ["c1", "c2"]
    caller.update(patient("c1"))
    assert caller.get("Patient/c1").headers["etag"] == 'W/"2"'


@pytest.mark.parametrize(
    "content",
    [
        patient(),
        {"resourceType": "Bundle", "type": "searchset"},
        {"resourceType": "Bundle", "type": "batch", "entry": [{"resource": patient()}]},
        {"resourceType": "Bundle", "type": "batch", "entry": [7]},
        {"resourceType": "Bundle", "type": "batch", "entry": 7},
    ],
)
def test_what_is_no_batch_is_refused(caller: Caller, content: Any) -> None:
    answer = caller.http.post("/", json=content, headers=FHIR)
    assert answer.status_code == 400
    assert issue_codes(answer)


def test_an_empty_batch_has_an_empty_answer(caller: Caller) -> None:
    answer = caller.bundle("batch")
    assert answer.json() == {"resourceType": "Bundle", "type": "batch-response"}
