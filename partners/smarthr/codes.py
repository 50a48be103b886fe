"""What SmartHR's answers mean: one row an error code, its source beside it, and a stated default.

An error is `{code, type, message, errors}`. The code decides and not the status, which is 403 for a missing permission,
for a plan and for an address that is not let in. `message` and `errors` may hold a person's data and are never read.
What has no such body is not the application's word: of a user's fault only a 401 speaks then, and a 404 or a redirect,
where there is no SmartHR.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from partners.contract import CodeRow, Json
from partners.errors import AuthenticationError, PartnerError, RejectedError, RetryableError
from partners.reasons import Reason
from partners.throttling import told
from partners.wire import Answered, Cause, Exchange, NotSent, is_web_page, read_json

NOT_FOUND, TOO_MANY = 4, 6
_PERMISSION = "従業員 (crews)"


@dataclass(frozen=True)
class Meaning:
    """What an answer without success means."""

    reason: str
    error: type[PartnerError]
    source: str
    params: Mapping[str, str] = field(default_factory=dict)


_BY_CODE: Mapping[int, Meaning] = {
    1: Meaning("request_malformed", RejectedError, "bad_request, 400: ours to send"),
    2: Meaning("credential_refused", AuthenticationError, "unauthorized_token, 401"),
    3: Meaning("permission_missing", AuthenticationError, "forbidden, 403", {"permission": _PERMISSION}),
    NOT_FOUND: Meaning("address_wrong", RejectedError, "not_found, 404: of the list; one crew is gone then"),
    5: Meaning("partner_failed", RetryableError, "internal_server_error, 500"),
    TOO_MANY: Meaning("partner_busy", RetryableError, "too_many_requests, 429"),
    7: Meaning("plan_insufficient", RejectedError, "plan_limit_exceeded, 403"),
    8: Meaning("request_malformed", RejectedError, "non_deletable_resource, 400: nothing is deleted here"),
    9: Meaning("partner_maintenance", RetryableError, "service_maintenance, 503"),
    15: Meaning("origin_not_permitted", RejectedError, "ip_not_permitted, 403"),
}
_BY_STATUS: Mapping[int, Meaning] = {
    401: Meaning("credential_refused", AuthenticationError, "RFC 9110 15.5.2"),
    404: Meaning("address_wrong", RejectedError, "RFC 9110 15.5.5: no SmartHR there"),
    429: Meaning("partner_busy", RetryableError, "RFC 6585 4: turned away at the door"),
    503: Meaning("partner_maintenance", RetryableError, "RFC 9110 15.6.4"),
}
_SERVER_FAILED = Meaning("partner_failed", RetryableError, "RFC 9110 15.6")
_REDIRECT = Meaning("address_wrong", RejectedError, "RFC 9110 15.4")
_WEB_PAGE = Meaning("html_instead_of_data", RetryableError, "not the application's word")
_DEFAULT = Meaning("answer_unreadable", RetryableError, "unknown")

_NO_ANSWER: Mapping[Cause, str] = {
    Cause.TLS: "partner_certificate_invalid",
    Cause.DNS: "partner_name_not_found",
    Cause.PROTOCOL: "answer_unreadable",
    Cause.ENCODING: "answer_unreadable",
    Cause.BODY_TOO_LARGE: "answer_unreadable",
}


def failure(exchange: Exchange) -> PartnerError:
    """What an exchange means that did not bring what was asked for; the caller raises it."""
    if isinstance(exchange, Answered):
        meaning = _meaning(exchange)
        if issubclass(meaning.error, RetryableError):
            return meaning.error(meaning.reason, meaning.params, _not_before(exchange))
        return meaning.error(meaning.reason, meaning.params)
    if isinstance(exchange, NotSent) and exchange.cause is Cause.UNSENDABLE:
        return RejectedError("address_wrong")
    return RetryableError(_NO_ANSWER.get(exchange.cause, "partner_unreachable"))


def is_throttle(answered: Answered) -> bool:
    """Whether SmartHR says that we called too often, whatever the status."""
    return answered.status >= 400 and _code(answered) == TOO_MANY


def says_gone(answered: Answered) -> bool:
    """Whether SmartHR itself says that the crew asked for is not there: a 404 alone may be a proxy's."""
    return answered.status == 404 and _code(answered) == NOT_FOUND


def _meaning(answered: Answered) -> Meaning:
    code = _code(answered)
    if code is not None:
        found = _BY_CODE.get(code)
        return found or Meaning("unknown", RetryableError, "no page", {"detail": f"SmartHR {code}"})
    status = answered.status
    if 300 <= status <= 399:
        return _REDIRECT
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 500 <= status <= 599:
        return _SERVER_FAILED
    if is_web_page(answered):
        return _WEB_PAGE
    if 200 <= status <= 299:
        return _DEFAULT
    return Meaning("unknown", RetryableError, "no row", {"detail": f"HTTP {status}"})


_TOLD = re.compile(r"(SmartHR|HTTP) ([0-9]{1,4})")


def code_row(detail: str, given: Reason) -> CodeRow | None:
    """`Partner.code_row`: by the error's code, or by the status where there was none."""
    told = _TOLD.fullmatch(detail)
    if told is None or given.parameters():
        return None
    number, is_status = int(told[2]), told[1] == "HTTP"
    if number in (_BY_STATUS if is_status else _BY_CODE):
        return None
    error = "RetryableError" if given.retried else "RejectedError"
    line = f'    {number}: Meaning("{given.code}", {error}, "classified"),'
    return CodeRow("partners/smarthr/codes.py", "_BY_STATUS" if is_status else "_BY_CODE", line)


def _code(answered: Answered) -> int | None:
    """The error's code; None: the body is no error of SmartHR's."""
    body: object | Json = read_json(answered)
    code = body.get("code") if isinstance(body, dict) and isinstance(body.get("type"), str) else None
    return code if isinstance(code, int) and not isinstance(code, bool) and 0 <= code <= 9999 else None


def _not_before(answered: Answered) -> datetime | None:
    """The time that it names for another try; None: none."""
    said = told(answered.status, answered.headers, answered.received_at, is_throttle=is_throttle(answered))
    return None if said is None or said.rest is None else answered.received_at + said.rest
