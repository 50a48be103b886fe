"""What support may see of a call: its shape, codes, times and ids; of all else the kind and the length."""

from __future__ import annotations

import json

import httpx
import pytest

from partners.fhir.shown import SHOWN
from partners.orca.shown import SHOWN as ORCA_SHOWN
from zest_pipelines.core.masking import masked, masked_path
from zest_pipelines.flows.calls import MOST_CALLS, Calls, told

PATIENT = {
    "resourceType": "Patient",
    "id": "p-1",
    "identifier": [{"system": "urn:oid:1.2.3", "value": "00012345"}],
    "name": [{"family": "蟹工", "given": ["船太"], "text": "蟹工 船太"}],
    "telecom": [{"system": "phone", "value": "090-0000-4711"}],
    "birthDate": "1940-01-01",
    "active": True,
    "nickname": "yamada",
    "multipleBirthInteger": 2,
}


def test_a_resource_keeps_its_shape_and_nobody_can_be_told_by_it() -> None:
    assert masked(PATIENT, SHOWN) == {
        "resourceType": "Patient",
        "id": "p-1",
        "identifier": [{"system": "urn:oid:1.2.3", "value": "‹number 8›"}],
        "name": [{"family": "‹name 2›", "given": ["‹name 2›"], "text": "‹name 5›"}],
        "telecom": [{"system": "phone", "value": "‹phone 13›"}],
        "birthDate": "‹birth date 10›",
        "active": "‹text 4›",
        "nickname": "‹text 6›",
        "multipleBirthInteger": "‹text 1›",
    }


@pytest.mark.parametrize(
    "value",
    [
        "蟹工船太",
        "090-0000-4711",
        "09000004711",
        "tweety-s3cret-t0ken",
        "Yamada Taro",
        "a@b.example",
        "x" * 101,
        "$this",
        "yamadahanako",
        "Yamada-Hanako",
        "YAMADA",
        "Patient.Yamada.Hanako",
        "http://x/Yamada/1931",
    ],
)
@pytest.mark.parametrize("field", ["code", "status", "expression", "url", "system", "start"])
def test_what_does_not_look_like_a_code_is_masked_in_a_field_for_codes_too(field: str, value: str) -> None:
    assert masked({field: value}, SHOWN) == {field: f"‹text {len(value)}›"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("status", "booked"), ("code", "business-rule"), ("code", "01"), ("expression", "Appointment.start")),
        *(("expression", "entry[3]"), ("start", "2026-11-26T09:00:00+09:00"), ("end", "09:30")),
        *(("system", "urn:zest:visit"), ("system", "http://jpfhir.jp/fhir/core/x"), ("system", "phone")),
        *(("url", "Appointment"), ("url", "Appointment/0b1f6e0e-0000-4000-8000-000000000001"), ("etag", "12")),
    ],
)
def test_codes_times_and_vocabularies_are_shown(field: str, value: str) -> None:
    assert masked({field: value}, SHOWN) == {field: value}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *(("Patient/p-1", True), ("0b1f6e0e-0000-4000-8000-000000000001", True), ("00001234", True)),
        *(
            ("090-1234-5678", False),
            ("08091913388", False),
            ("0312345678", False),
            ("81-90-1234-5678", False),
            ("蟹", False),
            ("yamada", False),
        ),
    ],
)
def test_ids_are_shown_unless_they_are_somebodys_number(value: str, shown: bool) -> None:
    assert (masked({"reference": value}, SHOWN)["reference"] == value) is shown


def test_names_of_fields_may_be_data_and_floods_end() -> None:
    told_fields = masked({"蟹工船太": 1, "tel08091913388": 1, **{f"f{n}": n for n in range(40)}}, {})
    assert "蟹" not in json.dumps(told_fields, ensure_ascii=False)
    assert "0809" not in json.dumps(told_fields)
    assert told_fields["‹more›"] == 12
    assert masked(list(range(40)), {})[-1] == "‹10 more›"
    deep: object = "蟹"
    for _ in range(500):
        deep = {"a": deep}
    assert "‹deeper›" in json.dumps(masked(deep, {}), ensure_ascii=False)


def test_a_path_shows_words_and_our_own_ids() -> None:
    ours = "0b1f6e0e-0000-4000-8000-000000000001"
    assert masked_path(f"/fhir/Appointment/{ours}") == f"/fhir/Appointment/{ours}"
    assert masked_path("/fhir/蟹工船太") == "/fhir/‹text 4›"


def called(handler: httpx.MockTransport, *requests: httpx.Request) -> Calls:
    calls = Calls()
    with httpx.Client(transport=handler) as client:
        calls.watch(client)
        calls.begin()
        for request in requests:
            try:
                client.send(request)
            except httpx.HTTPError:
                continue
    return calls


def xml(code: str) -> bytes:
    return f"""<?xml version="1.0"?><xmlio2><res type="record"><Api_Result type="string">{code}</Api_Result>
        <Patient_Information type="record"><WholeName>蟹工　船太</WholeName><Patient_ID>00012</Patient_ID>
        </Patient_Information></res></xmlio2>""".encode()


def test_a_call_in_xml_is_told_like_one_in_json() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=xml("K3"), headers={"content-type": "application/xml; charset=utf-8"})

    headers = {"content-type": "application/xml", "authorization": "Basic c2VjcmV0"}
    request = httpx.Request(
        "POST", "http://orca.invalid/orca14/appointmodv2?class=01", headers=headers, content=xml("")
    )
    (call,) = told(called(httpx.MockTransport(answer), request).taken(), ORCA_SHOWN, is_of_one=True)
    assert (call["method"], call["path"], call["status"]) == ("POST", "/orca14/appointmodv2", 200)
    assert call["answer"]["xmlio2"]["res"] == {
        "Api_Result": "K3",
        "Patient_Information": {"WholeName": "‹name 5›", "Patient_ID": "‹number 5›"},
    }
    assert "c2VjcmV0" not in json.dumps(call)


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("text/html", "<title>蟹工船太</title>".encode()),
        ("application/json", "{蟹".encode()),
        ("application/xml", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
        ("application/xml", "<蟹".encode()),
        ("application/x-www-form-urlencoded", b"client_assertion=secret"),
        ("application/json", b"[" * 100_000),
        ("application/json", b'"' + b"a" * 70_000 + b'"'),
        ("", b""),
    ],
)
def test_what_cannot_be_read_is_told_by_its_kind_and_length(media_type: str, body: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(500, content=body, headers={"content-type": media_type}))
    (call,) = told(called(transport, httpx.Request("GET", "http://a.invalid/x")).taken(), {}, is_of_one=True)
    assert call["answer"]["‹bytes›"] == len(body)
    assert set(call["answer"]) == {"‹body›", "‹bytes›"}


def test_a_call_without_an_answer_is_told_and_the_last_ones_are_kept() -> None:
    def cut(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("cut")

    requests = [httpx.Request("GET", f"http://a.invalid/{name}") for name in "abcdefg"]
    calls = called(httpx.MockTransport(cut), *requests)
    shown = told(calls.taken(), {}, is_of_one=True)
    assert [call["path"] for call in shown] == ["/d", "/e", "/f", "/g"]
    assert len(shown) == MOST_CALLS
    assert {(call["status"], call["answer"]) for call in shown} == {(None, None)}
    assert calls.taken() == ()


def test_of_a_batch_and_of_what_is_too_long_only_the_outline_is_told() -> None:
    long = {"issue": [{"code": "invalid", "diagnostics": "x"} for _ in range(30)] * 1, "entry": [PATIENT] * 30}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=long))
    taken = called(transport, httpx.Request("POST", "http://a.invalid/x", json=PATIENT)).taken()
    for is_of_one in (True, False):
        (call,) = told(taken, SHOWN, is_of_one=is_of_one)
        assert set(call["answer"]) == set(call["asked"]) == {"‹body›", "‹bytes›"}
