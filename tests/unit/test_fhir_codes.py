"""What each answer of a FHIR server means for a write and for a read: the table, row by row."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from partners import wire
from partners.contract import Conflict, Refused, Reply, Retry, Unknown, unsent
from partners.errors import AuthenticationError, PartnerError, RejectedError, RetryableError
from partners.fhir.codes import Act, denial, failure, is_throttle, says_gone
from partners.reasons import reason
from partners.wire import Answered, Cause, NotSent

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
FHIR = "application/fhir+json; charset=utf-8"


def outcome(code: str = "processing", *expression: str, **more: Any) -> bytes:
    issue = {"severity": "error", "code": code, "diagnostics": "佐藤花子", **more}
    issues = [issue | {"expression": list(expression)} if expression else issue]
    return json.dumps({"resourceType": "OperationOutcome", "issue": issues}).encode()


def answer(status: int, body: bytes = b"", kind: str | None = FHIR, **headers: str) -> Answered:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answered(status, httpx.Headers({"content-type": kind, **named} if kind else named), body, NOW)


WRITES = [
    (Act.CREATE, 202, Unknown, "answer_unreadable"),
    (Act.CREATE, 302, Unknown, "address_wrong"),
    (Act.CREATE, 303, Unknown, "address_wrong"),
    (Act.CREATE, 304, Unknown, "unknown"),
    (Act.CREATE, 307, Refused, "address_wrong"),
    (Act.CREATE, 400, Refused, "request_malformed"),
    (Act.CREATE, 401, Refused, "credential_refused"),
    (Act.CREATE, 403, Refused, "permission_missing"),
    (Act.CREATE, 404, Refused, "address_wrong"),
    (Act.CREATE, 405, Refused, "function_closed"),
    (Act.CREATE, 406, Refused, "not_this_protocol"),
    (Act.CREATE, 408, Unknown, "timeout_unsure"),
    (Act.CREATE, 409, Conflict, "changed_at_partner"),
    (Act.CREATE, 410, Refused, "address_wrong"),
    (Act.CREATE, 412, Refused, "several_at_partner"),
    (Act.CREATE, 413, Refused, "content_refused"),
    (Act.CREATE, 415, Refused, "not_this_protocol"),
    (Act.CREATE, 418, Unknown, "unknown"),
    (Act.CREATE, 422, Refused, "content_refused"),
    (Act.CREATE, 429, Retry, "partner_busy"),
    (Act.CREATE, 500, Unknown, "partner_failed_unsure"),
    (Act.CREATE, 501, Unknown, "partner_failed_unsure"),
    (Act.CREATE, 502, Unknown, "partner_failed_unsure"),
    (Act.CREATE, 503, Unknown, "partner_maintenance_unsure"),
    (Act.CREATE, 504, Unknown, "partner_failed_unsure"),
    (Act.CREATE, 599, Unknown, "partner_failed_unsure"),
    (Act.CREATE, 999, Unknown, "unknown"),
    (Act.UPDATE, 404, Conflict, "record_gone_at_partner"),
    (Act.UPDATE, 409, Conflict, "changed_at_partner"),
    (Act.UPDATE, 410, Conflict, "record_gone_at_partner"),
    (Act.UPDATE, 412, Conflict, "changed_at_partner"),
    (Act.UPDATE, 428, Conflict, "changed_at_partner"),
]


@pytest.mark.parametrize(("act", "status", "reply", "code"), WRITES)
def test_a_write_answered_with_a_status(act: Act, status: int, reply: type[Reply], code: str) -> None:
    found = denial(act, answer(status, outcome()), "Appointment")
    assert (type(found), getattr(found, "reason", None)) == (reply, code)


READS = [
    (202, RetryableError, "answer_unreadable"),
    (302, RejectedError, "address_wrong"),
    (307, RejectedError, "address_wrong"),
    (400, RejectedError, "request_malformed"),
    (401, AuthenticationError, "credential_refused"),
    (403, AuthenticationError, "permission_missing"),
    (404, RejectedError, "address_wrong"),
    (405, RejectedError, "function_closed"),
    (409, RetryableError, "changed_at_partner"),
    (418, RetryableError, "unknown"),
    (429, RetryableError, "partner_busy"),
    (500, RetryableError, "partner_failed"),
    (503, RetryableError, "partner_maintenance"),
]


@pytest.mark.parametrize(("status", "error", "code"), READS)
def test_a_read_answered_with_a_status(status: int, error: type[PartnerError], code: str) -> None:
    found = failure(answer(status, outcome()), "Patient")
    assert (type(found), found.reason) == (error, code)


UNANSWERED = [
    (NotSent(Cause.DNS), Retry, "partner_name_not_found", RetryableError, "partner_name_not_found"),
    (NotSent(Cause.REFUSED), Retry, "partner_unreachable", RetryableError, "partner_unreachable"),
    (NotSent(Cause.CONNECT_TIMEOUT), Retry, "partner_unreachable", RetryableError, "partner_unreachable"),
    (NotSent(Cause.TLS), Retry, "partner_certificate_invalid", RetryableError, "partner_certificate_invalid"),
    (NotSent(Cause.UNSENDABLE), Refused, "address_wrong", RejectedError, "address_wrong"),
    (wire.Unknown(Cause.TIMEOUT), Unknown, "timeout_unsure", RetryableError, "partner_unreachable"),
    (wire.Unknown(Cause.CUT), Unknown, "connection_cut_unsure", RetryableError, "partner_unreachable"),
    (wire.Unknown(Cause.PROTOCOL), Unknown, "answer_unreadable", RetryableError, "answer_unreadable"),
    (wire.Unknown(Cause.ENCODING), Unknown, "answer_unreadable", RetryableError, "answer_unreadable"),
    (wire.Unknown(Cause.BODY_TOO_LARGE), Unknown, "answer_unreadable", RetryableError, "answer_unreadable"),
]


@pytest.mark.parametrize(("exchange", "reply", "write_code", "error", "read_code"), UNANSWERED)
def test_an_exchange_without_an_answer(
    exchange: wire.Exchange, reply: type[Reply], write_code: str, error: type[PartnerError], read_code: str
) -> None:
    written = denial(Act.CREATE, exchange, "Appointment")
    assert (type(written), getattr(written, "reason", None)) == (reply, write_code)
    read = failure(exchange, "Patient")
    assert (type(read), read.reason) == (error, read_code)


def test_every_reason_of_the_table_is_in_the_catalogue_and_gets_the_parameters_it_names() -> None:
    for act, status, _, code in WRITES:
        refusal = denial(act, answer(status, outcome("value", "Appointment.start")), "Appointment")
        assert set(refusal.params) >= reason(refusal.reason).parameters()  # type: ignore[union-attr]
        assert reason(code).code == code
    for status, _, _ in READS:
        failed = failure(answer(status, outcome()), "Patient")
        assert set(failed.params) >= reason(failed.reason).parameters()


@pytest.mark.parametrize("status", [200, 201, 400, 404, 409, 412, 422])
def test_a_web_page_is_not_the_applications_word(status: int) -> None:
    page = answer(status, b"<!DOCTYPE html><html><body>welcome</body></html>", "text/html")
    assert denial(Act.UPDATE, page, "Appointment") == Unknown("html_instead_of_data")
    assert failure(page, "Patient").reason == "html_instead_of_data"
    unnamed = answer(status, b"\n<HTML><body></body></HTML>", None)
    assert denial(Act.UPDATE, unnamed, "Appointment") == Unknown("html_instead_of_data")


@pytest.mark.parametrize(
    ("status", "reply"), [(401, Refused), (403, Refused), (429, Retry), (500, Unknown), (307, Refused)]
)
def test_a_gateways_web_page_that_turns_us_away_at_the_door_is_believed(status: int, reply: type[Reply]) -> None:
    page = answer(status, b"<html></html>", "text/html")
    assert type(denial(Act.CREATE, page, "Appointment")) is reply


def test_retry_after_is_handed_on_by_429_and_by_a_refused_read() -> None:
    in_a_minute = NOW + timedelta(seconds=60)
    throttled = answer(429, outcome("throttled"), retry_after="60")
    assert denial(Act.CREATE, throttled, "Appointment") == Retry("partner_busy", {}, in_a_minute)
    failed = failure(answer(503, retry_after="60"), "Patient")
    assert isinstance(failed, RetryableError)
    assert failed.not_before == in_a_minute


@pytest.mark.parametrize(
    "throttled",
    [answer(403, outcome(), retry_after="60"), answer(403, outcome("throttled"))],
    ids=["names a time", "says so"],
)
def test_a_403_that_means_too_many_calls_is_not_blamed_on_permissions(throttled: Answered) -> None:
    assert isinstance(denial(Act.CREATE, throttled, "Appointment"), Retry)
    assert failure(throttled, "Patient").reason == "partner_busy"


@pytest.mark.parametrize(
    ("answered", "wanted"),
    [
        (answer(403, outcome("throttled")), True),
        (answer(403, outcome(), retry_after="60"), True),
        (answer(400, outcome("throttled")), True),
        (answer(503, outcome("throttled")), True),
        (answer(503, outcome("transient"), retry_after="60"), False),
        (answer(403, outcome("forbidden")), False),
        (answer(404, outcome("not-found"), retry_after="60"), False),
        (answer(200, outcome("throttled")), False),
    ],
)
def test_what_means_too_many_calls_besides_a_429(answered: Answered, wanted: bool) -> None:
    assert is_throttle(answered) is wanted


def test_a_time_named_with_a_failure_is_not_believed() -> None:
    failed = failure(answer(500, retry_after="60"), "Patient")
    assert isinstance(failed, RetryableError)
    assert failed.not_before is None


def test_a_refused_record_names_fields_and_issue_types_and_nothing_else() -> None:
    secretive = outcome("value", "Appointment.participant[0].status", details={"text": "佐藤花子"})
    found = denial(Act.CREATE, answer(422, secretive), "Appointment")
    told = {"field": "client, staff", "detail": "value Appointment.participant[0].status"}
    assert found == Refused("record_refused", told)
    unfilled = denial(Act.CREATE, answer(422, outcome("value", "Appointment.basedOn[0]")), "Appointment")
    assert unfilled == Refused("content_refused", {"detail": "value Appointment.basedOn[0]"})


@pytest.mark.parametrize(
    ("code", "expression"),
    [
        ("sato-hanako", "Patient.name.where(family='佐藤')"),
        ("佐藤", "佐藤花子"),
        ("sato", "sato hanako"),
        ("x" * 500, "Appointment." + "x" * 500),
    ],
)
def test_free_text_in_the_place_of_a_code_or_path_is_dropped(code: str, expression: str) -> None:
    found = denial(Act.CREATE, answer(422, outcome(code, expression)), "Appointment")
    assert found == Refused("content_refused", {"detail": "HTTP 422"})


@pytest.mark.parametrize(
    "issue", [{}, {"code": ["value"]}, {"code": "value", "expression": "Appointment.start"}, "text", None]
)
def test_a_misshapen_outcome_is_still_a_refusal(issue: object) -> None:
    body = json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()
    assert isinstance(denial(Act.CREATE, answer(422, body), "Appointment"), Refused)


def test_a_400_about_the_data_is_the_records_fault_and_another_one_ours() -> None:
    about_data = denial(Act.CREATE, answer(400, outcome("required", "Appointment.start")), "Appointment")
    assert about_data == Refused("record_refused", {"field": "starts_at", "detail": "required Appointment.start"})
    about_form = denial(Act.CREATE, answer(400, outcome("structure")), "Appointment")
    assert about_form == Refused("request_malformed")


@pytest.mark.parametrize("status", [404, 410])
def test_only_the_fhir_server_itself_can_say_that_a_record_is_gone(status: int) -> None:
    assert says_gone(answer(status, outcome("not-found")))
    assert says_gone(answer(status, outcome("deleted"), "application/json"))
    assert not says_gone(answer(status))
    assert not says_gone(answer(status, b"<html></html>", "text/html"))
    assert not says_gone(answer(status, b'{"error": "no route"}', "application/json"))
    assert says_gone(answer(status, outcome("processing")))
    assert not says_gone(answer(403, outcome("forbidden")))
    assert not says_gone(answer(status, outcome("deleted"), "text/html"))


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize(
    "code", ["not-supported", "security", "forbidden", "throttled", "transient", "expired", "novel"]
)
def test_a_record_is_not_gone_where_the_server_tells_of_something_else(status: int, code: str) -> None:
    assert not says_gone(answer(status, outcome(code)))
    issues = [{"severity": "error", "code": each} for each in ("not-found", code)]
    both = {"resourceType": "OperationOutcome", "issue": issues}
    assert not says_gone(answer(status, json.dumps(both).encode()))
    issues[1]["severity"] = "information"
    assert says_gone(answer(status, json.dumps(both).encode()))
    assert not says_gone(answer(status, b'{"resourceType": "OperationOutcome", "issue": []}'))


def test_a_write_given_up_after_a_failed_read_keeps_reason_and_time() -> None:
    assert unsent(RetryableError("partner_busy", {}, NOW)) == Retry("partner_busy", {}, NOW)
    assert unsent(AuthenticationError("credential_refused")) == Refused("credential_refused")
