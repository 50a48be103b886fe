"""What ORCA's answers mean: one row a call and result code, its source beside it, and a stated default.

ORCA tells its verdict inside HTTP 200, in `Api_Result` alone; its messages differ from its documents and may hold a
patient's data, so no message is read. The same code means different things at different calls (10 is "no such patient"
or "more than fit", 20 is "none" or "already booked"), so there is no row for a code alone but where all calls agree.

For a write the question is whether it was surely not applied. What ORCA refuses while it checks a request says so;
an error while it writes (51 to 54), a code that is not known and an empty answer do not.

A server that cannot read a request closes the line without a word, as one does that is overwhelmed. So an empty answer
may be our fault or theirs: the doubt is looked into, and its reason names both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from partners.contract import CodeRow, Conflict, Refused, Reply, Retry, Unknown
from partners.errors import AuthenticationError, PartnerError, RejectedError, RetryableError
from partners.orca import xml2
from partners.orca.apis import Api
from partners.reasons import Reason
from partners.throttling import told
from partners.wire import Answered, Cause, Exchange, NotSent, is_web_page

PROTOCOL = "日レセAPI"

NO_ROWS: Mapping[Api, str] = {
    Api.PATIENT_NUMBERS: "20",
    Api.SYSTEM: "11",
    Api.EVENTS: "0007",
    Api.APPOINTMENTS: "21",
    Api.ACCEPTANCES: "21",
}
"""The result of a list that is empty, and well."""
TOO_MANY: Mapping[Api, str] = {
    Api.PATIENT_NUMBERS: "10",
    Api.SYSTEM: "10",
    Api.APPOINTMENTS: "20",
    Api.ACCEPTANCES: "20",
}
"""The result of a list that is cut off at the most that ORCA tells at once."""

REMARKS: Mapping[str, str] = {
    **dict.fromkeys(("K1", "K2", "K3"), "filled_in_by_partner"),
    "K4": "more_than_slots",
    "K5": "booked_in_the_past",
}
"""What ORCA says of an entry that it took, by the result; both writing calls agree."""

_SUCCESS = re.compile(r"0+|W00|K[1-5]")
_CODE = re.compile(r"[A-Z]?[0-9]{1,4}")


def is_success(code: str) -> bool:
    """Whether the call did what it was asked for, perhaps with a remark."""
    return _SUCCESS.fullmatch(code) is not None


def is_readable(api: Api, code: str) -> bool:
    """Whether an answer holds the rows that there are, all or the first of them."""
    return is_success(code) or code in (NO_ROWS.get(api), TOO_MANY.get(api))


def result(exchange: Exchange) -> str:
    """The result code of an answer that ORCA wrote; empty of all else."""
    return _text(exchange, "Api_Result") or _text(exchange, "code")  # the second is what the log of events writes


def written(exchange: Exchange) -> str:
    """The same of a writing call, where what anybody may call `code` says nothing."""
    return _text(exchange, "Api_Result")


def _text(exchange: Exchange, name: str) -> str:
    fields = xml2.read(exchange) if isinstance(exchange, Answered) and exchange.status == 200 else None
    return "" if fields is None else xml2.text(fields, name)


Denial = type[Retry] | type[Refused] | type[Conflict] | type[Unknown]


@dataclass(frozen=True)
class Meaning:
    """What an answer without success means."""

    reason: str
    reply: Denial
    """For a write."""
    error: type[PartnerError]
    """For a read."""
    source: str
    params: Mapping[str, str] = field(default_factory=dict)
    """`{code}`, `{api}` and `{status}` in them stand for the answer's."""


def _data(reason: str, source: str, **params: str) -> Meaning:
    """Refused for what the record or the settings say."""
    return Meaning(reason, Refused, RejectedError, source, params)


_OURS = Meaning("request_malformed", Refused, RejectedError, "all pages: class missing; ours to send")
_LOCKED = Meaning("partner_locked", Retry, RetryableError, "all pages: 他端末使用中")
_NOT_WRITTEN = Meaning("partner_failed_unsure", Unknown, RetryableError, "an error while it wrote")
_SHOWN = "ORCA {code}"
DEPARTMENT = "診療科 (department)"
DOCTOR = "ドクター (doctors, default_doctor)"
MEDICAL_CONTENT = "診療内容 (medical_content)"
"""What codes stand for, as a reason's sentences show it, with the settings that say them."""

_BY_CALL: Mapping[tuple[Api, str], Meaning] = {
    # Appointments (予約)
    (Api.APPOINT, "10"): _data("client_gone_at_partner", "appointmod: no such patient"),
    (Api.APPOINT, "11"): _data("record_refused", "appointmod: no such day", field="starts_at", detail=_SHOWN),
    (Api.APPOINT, "12"): _data("record_refused", "appointmod: no such time", field="starts_at", detail=_SHOWN),
    (Api.APPOINT, "13"): _data("code_unknown_at_partner", "appointmod: no such department", what=DEPARTMENT),
    (Api.APPOINT, "14"): _data("code_unknown_at_partner", "appointmod: no such doctor", what=DOCTOR),
    (Api.APPOINT, "15"): _data("code_unknown_at_partner", "appointmod: no such medical content", what=MEDICAL_CONTENT),
    (Api.APPOINT, "16"): _data(
        "code_unknown_at_partner", "appointmod: no such appointment content", what="予約内容 (content)"
    ),
    (Api.APPOINT, "17"): _data("character_refused", "appointmod: a character of the note", field="note"),
    (Api.APPOINT, "20"): _data("slot_taken", "appointmod: booked for this patient, doctor and time"),
    (Api.APPOINT, "25"): Meaning("record_gone_at_partner", Conflict, RejectedError, "appointmod: none to delete"),
    (Api.APPOINT, "26"): Meaning("changed_at_partner", Conflict, RejectedError, "appointmod: no such appointment id"),
    (Api.APPOINT, "27"): Meaning("changed_at_partner", Conflict, RejectedError, "appointmod: another patient's id"),
    (Api.APPOINT, "50"): _data("day_full_at_partner", "appointmod: 99 ids are used up"),
    # Acceptances (受付)
    (Api.ACCEPT, "10"): _data("client_gone_at_partner", "acceptmod: no such patient"),
    (Api.ACCEPT, "11"): _data("record_refused", "acceptmod: no such day", field="started_at", detail=_SHOWN),
    (Api.ACCEPT, "12"): _data("record_refused", "acceptmod: no such time", field="started_at", detail=_SHOWN),
    (Api.ACCEPT, "13"): _data("code_unknown_at_partner", "acceptmod: no such department", what=DEPARTMENT),
    (Api.ACCEPT, "14"): _data("code_unknown_at_partner", "acceptmod: no such doctor", what=DOCTOR),
    (Api.ACCEPT, "15"): _data("code_unknown_at_partner", "acceptmod: no such medical content", what=MEDICAL_CONTENT),
    (Api.ACCEPT, "16"): _data("acceptance_taken", "acceptmod: accepted already, by department and insurance"),
    (Api.ACCEPT, "17"): Meaning("record_gone_at_partner", Conflict, RejectedError, "acceptmod: none to delete"),
    (Api.ACCEPT, "19"): Meaning("changed_at_partner", Conflict, RejectedError, "acceptmod: no such acceptance id"),
    (Api.ACCEPT, "20"): Meaning("changed_at_partner", Conflict, RejectedError, "acceptmod: another patient's id"),
    (Api.ACCEPT, "21"): _data("insurance_refused", "acceptmod: no such insurance"),
    (Api.ACCEPT, "22"): _data("insurance_refused", "acceptmod: no such public insurance"),
    (Api.ACCEPT, "23"): _data("insurance_refused", "acceptmod: no such combination"),
    (Api.ACCEPT, "50"): _data("day_full_at_partner", "acceptmod: the most acceptances"),
    # What is read
    (Api.APPOINTMENTS, "10"): _data("client_gone_at_partner", "appointlst2: no such patient"),
    **{
        (Api.USERS, code): Meaning(
            "permission_missing", Refused, AuthenticationError, "userkanri: not permitted", {"permission": "{api}"}
        )
        for code in ("8097", "8098", "8099")
    },
    (Api.EVENTS, "0089"): Meaning("partner_failed", Retry, RetryableError, "pusheventget: staff information"),
    (Api.EVENTS, "0097"): _OURS,
    (Api.EVENTS, "0098"): _OURS,
    (Api.EVENTS, "0099"): Meaning("credential_refused", Refused, AuthenticationError, "pusheventget: no such user"),
}
_BY_CODE: Mapping[str, Meaning] = {
    **dict.fromkeys(("51", "52", "53", "54"), _NOT_WRITTEN),
    "89": Meaning("partner_failed", Retry, RetryableError, "all pages: 職員情報, 医療機関情報 cannot be had"),
    **dict.fromkeys(("90", "E90", "E9999"), _LOCKED),
    "91": _OURS,
    "97": _data("content_refused", "all pages: 送信内容に誤りがあります", detail=_SHOWN),
    "98": _data("content_refused", "all pages: 送信内容の読込ができませんでした", detail=_SHOWN),
    "99": Meaning("credential_refused", Refused, AuthenticationError, "all pages: ユーザID未登録"),
}
_MISSING = re.compile(r"0{0,2}0[1-9]")
"""What is missing or wrong in the form of a request, at every call: ours to send."""
_USERS_REFUSE = re.compile(r"89[0-9]{2}")
_UNKNOWN_STATUS = Meaning("unknown", Unknown, RetryableError, "no row", {"detail": "{api} HTTP {status}"})
_UNKNOWN_CODE = Meaning("unknown", Unknown, RetryableError, "no page", {"detail": "{api} {code}"})

_BY_STATUS: Mapping[int, Meaning] = {
    400: Meaning("request_malformed", Refused, RejectedError, "RFC 9110 15.5.1"),
    401: Meaning("credential_refused", Refused, AuthenticationError, "RFC 9110 15.5.2"),
    403: Meaning("permission_missing", Refused, AuthenticationError, "RFC 9110 15.5.4", {"permission": "{api}"}),
    404: Meaning("address_wrong", Refused, RejectedError, "RFC 9110 15.5.5: no ORCA there, or another prefix"),
    405: Meaning("function_closed", Refused, RejectedError, "a closed route, seen", {"function": "{api}"}),
    429: Meaning("partner_busy", Retry, RetryableError, "RFC 6585 4: turned away at the door"),
    503: Meaning("partner_maintenance", Unknown, RetryableError, "RFC 9110 15.6.4: by whom is not known"),
}
_SERVER_FAILED = Meaning("partner_failed", Unknown, RetryableError, "RFC 9110 15.6: no word on what was done")
_REDIRECT = Meaning("address_wrong", Unknown, RejectedError, "RFC 9110 15.4: perhaps after it was taken")
_WEB_PAGE = Meaning("html_instead_of_data", Unknown, RetryableError, "not the application's word")
_EMPTY = Meaning("empty_reply", Unknown, RetryableError, "seen where a request cannot be read")
_DEFAULT = Meaning("answer_unreadable", Unknown, RetryableError, "unknown: nothing is said of what was done")
_AT_THE_DOOR = (401, 403, 429)

_UNSURE = {
    "partner_failed": "partner_failed_unsure",
    "partner_maintenance": "partner_maintenance_unsure",
    "empty_reply": "empty_reply_unsure",
}
"""How a reason reads when it is about a write."""
_SURE = {"partner_failed_unsure": "partner_failed"}
"""How it reads when it is not."""
_SURELY_UNSENT = {Cause.TLS: "partner_certificate_invalid", Cause.DNS: "partner_name_not_found"}


def denial(api: Api, exchange: Exchange) -> Reply:
    """What a write's exchange means that did not bring a success. Never Delivered."""
    if isinstance(exchange, Answered):
        meaning = _meaning(api, exchange)
        params = _params(meaning, api, exchange)
        if meaning.reply is Retry:
            return Retry(meaning.reason, params, _not_before(exchange))
        if meaning.reply is Unknown:
            return Unknown(_UNSURE.get(meaning.reason, meaning.reason), params, _not_before(exchange))
        return meaning.reply(meaning.reason, params)
    if isinstance(exchange, NotSent):
        if exchange.cause is Cause.UNSENDABLE:
            return Refused("address_wrong")
        return Retry(_SURELY_UNSENT.get(exchange.cause, "partner_unreachable"))
    unsure = {Cause.TIMEOUT: "timeout_unsure", Cause.CUT: "empty_reply_unsure"}
    return Unknown(unsure.get(exchange.cause, "answer_unreadable"))


def failure(api: Api, exchange: Exchange) -> PartnerError:
    """What a read's exchange means that did not bring rows; the caller raises it."""
    if isinstance(exchange, Answered):
        meaning = _meaning(api, exchange)
        params, reason = _params(meaning, api, exchange), _SURE.get(meaning.reason, meaning.reason)
        if issubclass(meaning.error, RetryableError):
            return meaning.error(reason, params, _not_before(exchange))
        return meaning.error(reason, params)
    if isinstance(exchange, NotSent):
        if exchange.cause is Cause.UNSENDABLE:
            return RejectedError("address_wrong")
        return RetryableError(_SURELY_UNSENT.get(exchange.cause, "partner_unreachable"))
    late = {Cause.TIMEOUT: "partner_unreachable", Cause.CUT: "empty_reply"}
    return RetryableError(late.get(exchange.cause, "answer_unreadable"))


def _meaning(api: Api, answered: Answered) -> Meaning:
    if answered.status != 200:
        return _of_status(api, answered)
    if not answered.body.strip():
        return _EMPTY
    code = result(answered)
    if not code:
        return _WEB_PAGE if is_web_page(answered) else _DEFAULT
    found = _BY_CALL.get((api, code)) or _BY_CODE.get(code)
    if found is not None:
        return found
    if api is Api.USERS and _USERS_REFUSE.fullmatch(code):
        return _BY_CALL[(api, "8099")]
    return _OURS if _MISSING.fullmatch(code) else _UNKNOWN_CODE


def _of_status(api: Api, answered: Answered) -> Meaning:
    status = answered.status
    if 500 <= status <= 599:
        return _BY_STATUS.get(status, _SERVER_FAILED)
    if 300 <= status <= 399:
        return _REDIRECT
    if is_web_page(answered) and status not in (*_AT_THE_DOOR, 404, 405):
        return _WEB_PAGE
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    without = _DEFAULT if 200 <= status <= 299 else _UNKNOWN_STATUS
    return _BY_CALL.get((api, f"HTTP {status}"), without)


_TOLD = re.compile(r"(\w+) (?:HTTP ([1-9][0-9]{2})|([A-Z]?[0-9]{1,4}))")


def code_row(detail: str, given: Reason) -> CodeRow | None:
    """`Partner.code_row`: by the call and its result or status. A result that may hold data is not told, so
    there is no row for it. Whether it was taken nobody has said: it is looked up, whatever the reason."""
    told = _TOLD.fullmatch(detail)
    if told is None or told[1] not in set(Api):
        return None
    api, status, code = Api(told[1]), told[2], told[3]
    error = "RetryableError" if given.retried else "RejectedError"
    more = ', {"detail": _SHOWN}' if given.parameters() else ""
    said = f'{error}, "classified"{more}),'
    if status is not None:
        if int(status) in _BY_STATUS or given.parameters():
            return None
        code = f"HTTP {status}"
    if (api, code) in _BY_CALL or code in _BY_CODE:
        return None
    return CodeRow(_FILE, "_BY_CALL", f'    (Api.{api.name}, "{code}"): Meaning("{given.code}", Unknown, {said}')


_FILE = "partners/orca/codes.py"


def _params(meaning: Meaning, api: Api, answered: Answered) -> dict[str, str]:
    code = result(answered)
    shown = code if _CODE.fullmatch(code) else "?"
    told = {"code": shown, "api": api.value, "status": answered.status}
    return {name: text.format(**told) for name, text in meaning.params.items()}


def _not_before(answered: Answered) -> datetime | None:
    """The time that it names for another try; None: none, or it is no answer that may put us off."""
    said = told(answered.status, answered.headers, answered.received_at)
    if said is None or said.rest is None or answered.status not in (429, 503):
        return None
    return answered.received_at + said.rest
