"""Several calls in one (R4, http, 3.1.0.11, `batch`): each entry is answered as it would have been alone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import httpx

from partners.contract import Json
from partners.fhir.codes import resource_in
from partners.fhir.elements import objects
from partners.fhir.server import Ask, Server
from partners.wire import Answered, Cause, Exchange, Unknown

_CONDITIONS = {"if-match": "ifMatch", "if-none-exist": "ifNoneExist"}
"""What an entry calls a header."""
_STATUS = re.compile(r"([1-5]\d\d)(?:\s.*)?", re.DOTALL)  # R4: the code, perhaps with its phrase


def ask_all(server: Server, resource_type: str, asks: Sequence[Ask]) -> list[Exchange] | Exchange:
    """The answer to each of `asks`, in order; or the one answer to the call, where that is not what it holds."""
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [_entry(each) for each in asks]}
    answer = server.send(resource_type, Ask("POST", "", bundle))
    if not isinstance(answer, Answered) or answer.status != 200:
        return answer
    told = resource_in(answer) or {}
    entries = objects(told.get("entry"))
    if told.get("type") != "batch-response" or len(entries) != len(asks):
        return answer
    answers = [_answer(entry, answer) for entry in entries]
    server.hear(resource_type, answers)
    return answers


def _entry(ask: Ask) -> Json:
    conditions = {_CONDITIONS[header]: value for header, value in ask.condition.items()}
    request = {"method": ask.method, "url": ask.path, **conditions}
    return {"request": request} if ask.resource is None else {"request": request, "resource": ask.resource}


def _answer(entry: Json, whole: Answered) -> Exchange:
    """An entry's answer in the terms of a call of its own."""
    response = entry.get("response")
    told = response if isinstance(response, dict) else {}
    status = _STATUS.fullmatch(str(told.get("status")))
    if status is None:
        return Unknown(Cause.PROTOCOL)
    headers = {name: told[name] for name in ("etag", "location") if isinstance(told.get(name), str)}
    is_denied = int(status[1]) >= 400
    body = told.get("outcome") if is_denied else entry.get("resource")
    content = b"" if body is None else json.dumps(body).encode()
    kind = {"content-type": "application/fhir+json"} if content else {}
    return Answered(int(status[1]), httpx.Headers(headers | kind), content, whole.received_at)
