"""What a FHIR server's answers mean: one row a status, its source beside it, and a stated default.

For a write the question is whether it was surely not applied. A 4xx says so. A 5xx does not, whatever its
number: servers answer 500, and proxies 502 to 504, for what the application has stored; nor does a 503 that
asks to come back later, which may be a proxy's. A web page with a 4xx is not the application's word either.

What a reason's parameters may hold of an answer are issue types of R4's closed list and element paths of the
resources sent; texts (`diagnostics`, `details`) can repeat a patient's data and are not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from partners.contract import CodeRow, Conflict, Json, Refused, Reply, Retry, Unknown
from partners.errors import AuthenticationError, PartnerError, RejectedError, RetryableError
from partners.fhir.elements import objects
from partners.fhir.visits import fields_of
from partners.reasons import Reason
from partners.throttling import told
from partners.wire import Answered, Cause, Exchange, NotSent, is_web_page, read_json

PROTOCOL = "FHIR R4"


class Act(StrEnum):
    """What was asked for, as far as the meaning of a status depends on it."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"


Denial = type[Retry] | type[Refused] | type[Conflict] | type[Unknown]


@dataclass(frozen=True)
class Meaning:
    """What a status means."""

    reason: str
    reply: Denial
    """For a write."""
    error: type[PartnerError]
    """For a read."""
    source: str


def _row(reason: str, reply: Denial, error: type[PartnerError], source: str) -> Meaning:
    return Meaning(reason, reply, error, source)


# Where the meaning depends on what was asked for.
_BY_ACT: Mapping[tuple[Act, int], Meaning] = {
    (Act.CREATE, 404): _row("address_wrong", Refused, RejectedError, "R4 create: no such type, or no FHIR"),
    (Act.CREATE, 410): _row("address_wrong", Refused, RejectedError, "RFC 9110 15.5.11: for good"),
    (Act.CREATE, 412): _row("several_at_partner", Refused, RejectedError, "R4 conditional create"),
    (Act.UPDATE, 404): _row("record_gone_at_partner", Conflict, RejectedError, "R4 update: no such id"),
    (Act.UPDATE, 410): _row("record_gone_at_partner", Conflict, RejectedError, "R4 read: deleted"),
    (Act.UPDATE, 412): _row("changed_at_partner", Conflict, RejectedError, "R4 resource contention"),
}
_BY_STATUS: Mapping[int, Meaning] = {
    301: _row("address_wrong", Unknown, RejectedError, "RFC 9110 15.4.2: some answer it to a POST they took"),
    302: _row("address_wrong", Unknown, RejectedError, "RFC 9110 15.4.3: the same"),
    303: _row("address_wrong", Unknown, RejectedError, "RFC 9110 15.4.4: the POST was taken, look there"),
    307: _row("address_wrong", Refused, RejectedError, "RFC 9110 15.4.8: to be sent again, elsewhere"),
    308: _row("address_wrong", Refused, RejectedError, "RFC 9110 15.4.9: the same, for good"),
    400: _row("request_malformed", Refused, RejectedError, "R4 create: not parsed, or basic rules broken"),
    401: _row("credential_refused", Refused, AuthenticationError, "R4 access denied"),
    403: _row("permission_missing", Refused, AuthenticationError, "R4 access denied"),
    404: _row("address_wrong", Refused, RejectedError, "R4 search: no such type, or no FHIR"),
    405: _row("function_closed", Refused, RejectedError, "R4 update: not allowed by the server"),
    406: _row("not_this_protocol", Refused, RejectedError, "R4 content types: does not speak JSON"),
    408: _row("timeout_unsure", Unknown, RetryableError, "RFC 9110 15.5.9: it gave up on us, perhaps late"),
    409: _row("changed_at_partner", Conflict, RetryableError, "R4 update: some answer it for 412"),
    410: _row("address_wrong", Refused, RejectedError, "RFC 9110 15.5.11: for good"),
    413: _row("record_refused", Refused, RejectedError, "RFC 9110 15.5.14: too large"),
    415: _row("not_this_protocol", Refused, RejectedError, "R4 content types: does not take JSON"),
    422: _row("record_refused", Refused, RejectedError, "R4 create: profile or business rule broken"),
    428: _row("changed_at_partner", Conflict, RejectedError, "RFC 6585 3: wants the version that we lack"),
    429: _row("partner_busy", Retry, RetryableError, "RFC 6585 4: turned away before it was looked at"),
    503: _row("partner_maintenance", Unknown, RetryableError, "RFC 9110 15.6.4: by whom is not known"),
}
_SERVER_FAILED = _row("partner_failed", Unknown, RetryableError, "RFC 9110 15.6: no word on what was done")
_THROTTLED = _row("partner_busy", Retry, RetryableError, "R4 IssueType throttled; a 403 that names a time")
_WEB_PAGE = _row("html_instead_of_data", Unknown, RetryableError, "not the application's word")
_DEFAULT = _row("answer_unreadable", Unknown, RetryableError, "unknown: nothing is said of what was done")

_UNKNOWN = _row("unknown", Unknown, RetryableError, "no row: nothing is said of what was done")

_UNSURE = {"partner_failed": "partner_failed_unsure", "partner_maintenance": "partner_maintenance_unsure"}
"""How a reason reads when it is about a write."""

_AT_THE_DOOR = (401, 403, 429)
"""Refusals at the door, as sure from a gateway's web page as from the application."""

_DATA_ISSUES = frozenset(
    (
        *("value", "required", "invariant", "code-invalid", "business-rule"),
        *("not-found", "extension", "too-long", "duplicate"),
    )
)
"""R4, IssueType: those that are about what a record says, not about the form of the request."""

ISSUES = _DATA_ISSUES | frozenset(
    (
        *("invalid", "structure", "security", "login", "unknown", "expired", "forbidden", "suppressed"),
        *("processing", "not-supported", "multiple-matches", "deleted", "too-costly", "conflict"),
        *("transient", "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled"),
    )
)
"""R4, IssueType: the closed list."""
ELEMENTS = r"(?:\.[a-z][A-Za-z]{0,40}(?:\[\d{1,3}\])?){1,5}"
"""What follows a resource's type in the path of an element."""
_PATH = re.compile(rf"(?:Appointment|Encounter){ELEMENTS}")
_MOST_ISSUES = 3
_SAYS_GONE = frozenset(("not-found", "deleted", "processing"))
"""`processing` is what the most widespread server, HAPI, says of an id that it does not know."""
_REMARKS = ("warning", "information")
"""Severities of what is said besides."""


_SURELY_UNSENT = {Cause.TLS: "partner_certificate_invalid", Cause.DNS: "partner_name_not_found"}
_UNSURE_CAUSE = {Cause.TIMEOUT: "timeout_unsure", Cause.CUT: "connection_cut_unsure"}


def denial(act: Act, exchange: Exchange, resource_type: str) -> Reply:
    """What a write's exchange means that did not bring a readable success. Never Delivered."""
    if isinstance(exchange, Answered):
        meaning = _meaning(act, exchange)
        params = _params(meaning.reason, act, exchange, resource_type)
        reason = _reason(meaning, params)
        if meaning.reply is Retry:
            return Retry(reason, params, _not_before(exchange))
        if meaning.reply is Unknown:
            return Unknown(_UNSURE.get(reason, reason), params, _not_before(exchange))
        return meaning.reply(reason, params)
    if isinstance(exchange, NotSent):
        if exchange.cause is Cause.UNSENDABLE:
            return Refused("address_wrong")
        return Retry(_SURELY_UNSENT.get(exchange.cause, "partner_unreachable"))
    return Unknown(_UNSURE_CAUSE.get(exchange.cause, "answer_unreadable"))


def failure(exchange: Exchange, resource_type: str) -> PartnerError:
    """What a read's exchange means that did not bring a readable success; the caller raises it."""
    if isinstance(exchange, Answered):
        meaning = _meaning(Act.READ, exchange)
        params = _params(meaning.reason, Act.READ, exchange, resource_type)
        reason = _reason(meaning, params)
        if issubclass(meaning.error, RetryableError):
            return meaning.error(reason, params, _not_before(exchange))
        return meaning.error(reason, params)
    if isinstance(exchange, NotSent):
        if exchange.cause is Cause.UNSENDABLE:
            return RejectedError("address_wrong")
        return RetryableError(_SURELY_UNSENT.get(exchange.cause, "partner_unreachable"))
    # What was cut or late did no harm to a read: the partner was not reached, no more.
    is_out_of_reach = exchange.cause in _UNSURE_CAUSE
    return RetryableError("partner_unreachable" if is_out_of_reach else "answer_unreadable")


def is_throttle(answered: Answered) -> bool:
    """Whether the call was refused for the number of our calls, besides by 429: by the word, or a 403 naming a time."""
    if 500 <= answered.status <= 599:
        return "throttled" in _issue_codes(resource_in(answered) or {})
    return answered.status >= 400 and _meaning(Act.READ, answered) is _THROTTLED


def resource_in(answered: Answered) -> Json | None:
    """The JSON object that the answer holds and says it holds; None if there is none."""
    kind = answered.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        return None
    value = read_json(answered)
    return value if isinstance(value, dict) else None


def says_gone(answered: Answered) -> bool:
    """Whether it is the FHIR server itself that says: this record is not there, or no longer (R4, read).

    A 404 without an OperationOutcome may come from anything on the way and proves nothing; nor does one that tells of
    something else besides, such as a missing right, a limit, or a fault that passes.
    """
    outcome = resource_in(answered) if answered.status in (404, 410) else None
    if outcome is None or outcome.get("resourceType") != "OperationOutcome":
        return False
    told = {str(issue.get("code")) for issue in objects(outcome.get("issue")) if issue.get("severity") not in _REMARKS}
    return bool(told) and told <= _SAYS_GONE


def _meaning(act: Act, answered: Answered) -> Meaning:
    status = answered.status
    if 500 <= status <= 599:
        return _BY_STATUS.get(status, _SERVER_FAILED)
    if is_web_page(answered) and not 300 <= status <= 399 and status not in _AT_THE_DOOR:
        return _WEB_PAGE
    codes = _issue_codes(resource_in(answered) or {})
    if 400 <= status <= 499 and ("throttled" in codes or (status == 403 and "retry-after" in answered.headers)):
        return _THROTTLED
    if status == 400 and _DATA_ISSUES.intersection(codes):
        return _BY_STATUS[422]  # many servers answer 400 where R4 says 422
    without = _DEFAULT if 200 <= status <= 299 else _UNKNOWN
    return _BY_ACT.get((act, status)) or _BY_STATUS.get(status, without)


_TOLD = re.compile(r"(create|update|read) HTTP ([1-9][0-9]{2})")


def code_row(detail: str, given: Reason) -> CodeRow | None:
    """`Partner.code_row`: by what was asked for and the status. Nobody has said whether it was applied."""
    told = _TOLD.fullmatch(detail)
    if told is None or given.parameters():
        return None
    act, status = Act(told[1]), int(told[2])
    if (act, status) in _BY_ACT or status in _BY_STATUS:
        return None
    error = "RetryableError" if given.retried else "RejectedError"
    line = f'    (Act.{act.name}, {status}): _row("{given.code}", Unknown, {error}, "classified"),'
    return CodeRow("partners/fhir/codes.py", "_BY_ACT", line)


def _not_before(answered: Answered) -> datetime | None:
    """The time that it names for another try; None: none, or it is no answer that may put us off."""
    said = told(answered.status, answered.headers, answered.received_at, is_throttle=is_throttle(answered))
    if said is None or said.rest is None or not (said.is_refusal or answered.status == 503):
        return None
    return answered.received_at + said.rest


def _reason(meaning: Meaning, params: Mapping[str, str]) -> str:
    """The meaning's; a refusal for what a record says that names no field of it reads otherwise."""
    is_unnamed = meaning.reason == "record_refused" and "field" not in params
    return "content_refused" if is_unnamed else meaning.reason


def _params(reason: str, act: Act, answered: Answered, resource_type: str) -> dict[str, str]:
    what = f"{resource_type} {act}"
    match reason:
        case "permission_missing":
            return {"permission": what}
        case "function_closed":
            return {"function": what}
        case "unknown":
            return {"detail": f"{act} HTTP {answered.status}"}
        case "not_this_protocol":
            return {"protocol": PROTOCOL}
        case "record_refused":
            outcome = resource_in(answered) or {}
            paths = _paths(outcome)
            ours = dict.fromkeys(field for path in paths for field in fields_of(path))
            detail = " ".join([", ".join(_issue_codes(outcome)) or f"HTTP {answered.status}", ", ".join(paths)]).strip()
            return {"field": ", ".join(ours), "detail": detail} if ours else {"detail": detail}
    return {}


def _issue_codes(outcome: Json) -> list[str]:
    """Issue types that R4 knows, each once, the first few."""
    codes = (issue.get("code") for issue in objects(outcome.get("issue")))
    known = dict.fromkeys(code for code in codes if isinstance(code, str) and code in ISSUES)
    return list(known)[:_MOST_ISSUES]


def _paths(outcome: Json) -> list[str]:
    """Element paths in the resources that we send, each once, the first few."""
    found: dict[str, None] = {}
    for issue in objects(outcome.get("issue")):
        expressions = issue.get("expression")
        for path in expressions if isinstance(expressions, list) else []:
            if isinstance(path, str) and _PATH.fullmatch(path):
                found[path] = None
    return list(found)[:_MOST_ISSUES]
