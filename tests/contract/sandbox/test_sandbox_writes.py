"""Creating, updating and deleting at the sandbox: what a connector's care for doubles and conflicts rests on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from sandbox_caller import FHIR, SYSTEM, Caller, appointment, calling, issue_codes, patient

_numbers = count(1)


@pytest.fixture(scope="module")
def shared() -> Iterator[Caller]:
    with calling() as caller:
        yield caller


@pytest.fixture
def caller(shared: Caller) -> Iterator[Caller]:
    """The module's sandbox with its usual options; records of a test have names of their own."""
    yield shared
    shared.sandbox.configure(
        require_if_match=False,
        stale_status=412,
        gone_status=410,
        update_create=True,
        conditional_create=True,
        check_references=True,
    )


@pytest.fixture
def client(caller: Caller) -> str:
    """The id of a client that is there."""
    record_id = f"client-{next(_numbers)}"
    caller.put("Patient", record_id)
    return record_id


def key() -> str:
    return f"key-{next(_numbers)}"


def visits(caller: Caller, key: str) -> list[Any]:
    return [row for row in caller.sandbox.state("Appointment") if row["identifier"][0]["value"] == key]


def test_a_create_answers_201_with_id_version_and_location(caller: Caller, client: str) -> None:
    answer = caller.create(appointment(client, key()))
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["content-type"].startswith("application/fhir+json")
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["location"] == f"{caller.sandbox.url}/Appointment/{made['id']}/_history/1"
    assert made["meta"]["versionId"] == "1"
    assert caller.get(f"Appointment/{made['id']}").json() == made


def test_a_create_takes_no_id_from_the_caller(caller: Caller, client: str) -> None:
    assert caller.create(appointment(client, key(), id="mine")).json()["id"] != "mine"


def test_return_minimal_leaves_the_body_out(caller: Caller, client: str) -> None:
    answer = caller.create(appointment(client, key()), prefer="return=minimal")
    assert (answer.status_code, answer.content) == (201, b"")
    assert "location" in answer.headers


def test_a_conditional_create_makes_one_record_however_often_it_is_sent(caller: Caller, client: str) -> None:
    name = key()
    condition = f"identifier={SYSTEM}|{name}"
    first = caller.create(appointment(client, name), if_none_exist=condition)
    second = caller.create(appointment(client, name, description="changed"), if_none_exist=condition)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()
    assert second.headers["etag"] == 'W/"1"'
    assert len(visits(caller, name)) == 1


def test_a_conditional_create_is_refused_where_several_match(caller: Caller, client: str) -> None:
    name = key()
    for record_id in (f"{name}-a", f"{name}-b"):
        caller.sandbox.put(appointment(client, name, id=record_id))
    answer = caller.create(appointment(client, name), if_none_exist=f"identifier={SYSTEM}|{name}")
    assert answer.status_code == 412
    assert issue_codes(answer) == ["multiple-matches"]
    assert len(visits(caller, name)) == 2


def test_a_conditional_create_does_not_see_a_deleted_record(caller: Caller, client: str) -> None:
    name = key()
    condition = f"identifier={SYSTEM}|{name}"
    made = caller.create(appointment(client, name), if_none_exist=condition).json()
    caller.delete(f"Appointment/{made['id']}")
    assert caller.create(appointment(client, name), if_none_exist=condition).status_code == 201


def test_a_condition_on_anything_but_identifier_and_id_is_refused(caller: Caller, client: str) -> None:
    name = key()
    answer = caller.create(appointment(client, name), if_none_exist="status=booked")
    assert answer.status_code == 400
    assert visits(caller, name) == []


def test_a_server_that_ignores_conditions_makes_doubles(caller: Caller, client: str) -> None:
    caller.sandbox.configure(conditional_create=False)
    name = key()
    for _ in range(2):
        answer = caller.create(appointment(client, name), if_none_exist=f"identifier={SYSTEM}|{name}")
        assert answer.status_code == 201
    assert len(visits(caller, name)) == 2


def test_an_update_makes_the_next_version(caller: Caller, client: str) -> None:
    made = caller.create(appointment(client, key())).json()
    answer = caller.update(made | {"status": "cancelled"}, if_match='W/"1"')
    assert answer.status_code == 200
    assert answer.headers["etag"] == 'W/"2"'
    assert (answer.json()["meta"]["versionId"], answer.json()["status"]) == ("2", "cancelled")
    assert answer.json()["meta"]["lastUpdated"] > made["meta"]["lastUpdated"]


@pytest.mark.parametrize("status", [409, 412])
def test_an_update_of_an_outdated_version_is_refused_and_changes_nothing(
    caller: Caller, client: str, status: int
) -> None:
    caller.sandbox.configure(stale_status=status)
    made = caller.create(appointment(client, key())).json()
    newer = caller.update(made | {"description": "newer"}).json()
    answer = caller.update(made | {"description": "older"}, if_match='W/"1"')
    assert answer.status_code == status
    assert issue_codes(answer) == ["conflict"]
    assert caller.get(f"Appointment/{made['id']}").json() == newer


def test_a_strong_entity_tag_is_taken_too_and_one_without_quotes_is_not(caller: Caller, client: str) -> None:
    made = caller.create(appointment(client, key())).json()
    assert caller.update(made, if_match='"1"').status_code == 200
    assert caller.update(made, if_match="2").status_code == 400


def test_a_server_can_require_if_match_for_a_record_that_exists(caller: Caller, client: str) -> None:
    caller.sandbox.configure(require_if_match=True)
    made = caller.create(appointment(client, key())).json()
    assert caller.update(made).status_code == 412
    assert caller.update(made, if_match='W/"1"').status_code == 200
    assert caller.update(patient(key())).status_code == 201


def test_an_update_creates_what_is_not_there_unless_the_server_takes_no_ids(caller: Caller) -> None:
    assert caller.update(patient(key())).status_code == 201
    caller.sandbox.configure(update_create=False)
    assert caller.update(patient(key())).status_code == 404


def test_if_match_on_what_is_not_there_is_outdated(caller: Caller) -> None:
    assert caller.update(patient(key()), if_match='W/"1"').status_code == 412


def test_a_conditional_update_finds_creates_or_refuses(caller: Caller, client: str) -> None:
    name = key()

    def put() -> int:
        address = f"Appointment?identifier={SYSTEM}|{name}"
        return caller.http.put(address, json=appointment(client, name), headers=FHIR).status_code

    assert [put(), put()] == [201, 200]
    caller.sandbox.put(appointment(client, name, id=f"{name}-b"))
    assert put() == 412


@pytest.mark.parametrize("status", [404, 410])
def test_a_deleted_record_reads_as_gone_and_comes_back_as_the_next_version(caller: Caller, status: int) -> None:
    caller.sandbox.configure(gone_status=status)
    name = key()
    caller.update(patient(name))
    assert caller.delete(f"Patient/{name}").status_code == 204
    assert caller.get(f"Patient/{name}").status_code == status
    assert caller.get("Patient", _id=name).json()["total"] == 0
    again = caller.update(patient(name))
    assert (again.status_code, again.headers["etag"]) == (201, 'W/"3"')


def test_a_delete_can_be_repeated_but_not_of_what_never_was(caller: Caller) -> None:
    name = key()
    caller.update(patient(name))
    assert [caller.delete(f"Patient/{name}").status_code for _ in range(2)] == [204, 204]
    assert caller.delete(f"Patient/{key()}").status_code == 404
    assert [row["effect"] for row in caller.sandbox.journal() if row["resource_id"] == name] == [
        "created",
        "deleted",
        "none",
    ]


def test_a_delete_heeds_if_match(caller: Caller) -> None:
    name = key()
    caller.update(patient(name))
    assert caller.delete(f"Patient/{name}", if_match='W/"7"').status_code == 412
    assert caller.delete(f"Patient/{name}", if_match='W/"1"').status_code == 204


def test_a_reference_to_a_client_that_is_not_there_or_no_longer_is_refused(caller: Caller, client: str) -> None:
    name = key()
    answer = caller.create(appointment("nobody", name))
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"] == ["Appointment.participant[0].actor"]
    caller.sandbox.delete("Patient", client)
    assert caller.create(appointment(client, name)).status_code == 422
    caller.sandbox.configure(check_references=False)
    assert caller.create(appointment(client, name)).status_code == 201


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({"status": "planned"}, ["code-invalid"]),
        ({"status": None}, ["required"]),
        ({"participant": []}, ["required"]),
        ({"participant": [{"status": "accepted"}]}, ["invariant"]),
        ({"end": None}, ["invariant"]),
        ({"start": None, "end": None}, ["invariant"]),
        ({"end": "2026-11-24T09:00:00+09:00"}, ["invariant"]),
        ({"end": "2026-11-24"}, ["value"]),
    ],
)
def test_an_appointment_that_breaks_a_rule_of_r4_is_refused(
    caller: Caller, client: str, fields: dict[str, Any], codes: list[str]
) -> None:
    resource = {name: it for name, it in (appointment(client, key()) | fields).items() if it is not None}
    answer = caller.create(resource)
    assert answer.status_code == 422
    assert issue_codes(answer) == codes


def test_a_cancelled_appointment_may_lack_times(caller: Caller, client: str) -> None:
    resource = appointment(client, key(), status="cancelled")
    del resource["start"], resource["end"]
    assert caller.create(resource).status_code == 201


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 201),
        ({"status": "done"}, 422),
        ({"class": None}, 422),
        ({"period": {"start": "2026-11-24T10:00:00Z", "end": "2026-11-24T09:00:00Z"}}, 422),
    ],
)
def test_an_encounter_needs_a_status_a_class_and_times_in_order(
    caller: Caller, client: str, fields: dict[str, Any], status: int
) -> None:
    resource = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"code": "HH"},
        "subject": {"reference": f"Patient/{client}"},
        **fields,
    }
    assert caller.create({name: it for name, it in resource.items() if it is not None}).status_code == status


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"resourceType": "Patient"}', "text/plain", 415),
        (b"{", "application/fhir+json", 400),
        (b"[]", "application/fhir+json", 400),
        (b"", "application/fhir+json", 400),
        (b'{"resourceType": "Practitioner"}', "application/fhir+json", 400),
    ],
)
def test_a_body_that_is_not_the_resource_is_refused(
    caller: Caller, body: bytes, content_type: str, status: int
) -> None:
    answer = caller.http.post("Patient", content=body, headers={"content-type": content_type})
    assert answer.status_code == status
    assert issue_codes(answer)


def test_the_id_in_the_body_must_be_the_one_in_the_path(caller: Caller) -> None:
    assert caller.http.put("Patient/a", json=patient("b"), headers=FHIR).status_code == 400


def test_what_does_not_exist_is_refused_with_an_outcome(caller: Caller) -> None:
    for method, path, status in [
        ("GET", "Medication", 404),
        ("GET", "Patient/never", 404),
        ("PATCH", "Patient/never", 405),
        ("POST", "metadata", 405),
    ]:
        answer = caller.http.request(method, path)
        assert answer.status_code == status, path
        assert issue_codes(answer)
