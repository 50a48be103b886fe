"""From a FHIR request to its interaction, and batches of them.

All of it is synchronous: one interaction, or one whole batch, is one step of the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from partners.fhir.sandbox import reads, writes
from partners.fhir.sandbox.capability import capability_statement
from partners.fhir.sandbox.config import RESOURCE_TYPES, SandboxConfig
from partners.fhir.sandbox.faults import Facts, FaultBook, FaultKind, FaultRule
from partners.fhir.sandbox.instants import format_instant
from partners.fhir.sandbox.message import Answer, Effect, FhirRequest, business_identifier
from partners.fhir.sandbox.outcome import Json, Refusal, operation_outcome, refuse
from partners.fhir.sandbox.paging import PageBook
from partners.fhir.sandbox.store import Store

_TRANSACTION_ORDER = ("DELETE", "POST", "PUT", "GET")  # R4, http, section 3.1.0.11.2


@dataclass(frozen=True)
class EntryDone:
    """What became of one entry of a batch."""

    request: FhirRequest
    answer: Answer
    identifier: str | None
    fault: FaultRule | None = None


class Interactions:
    """Answers FHIR requests out of a store. A refusal is an answer too: nothing is raised for it."""

    def __init__(self, store: Store, pages: PageBook, faults: FaultBook) -> None:
        self._store = store
        self._pages = pages
        self._faults = faults

    def answer(self, config: SandboxConfig, request: FhirRequest) -> Answer:
        """The answer to anything but a batch."""
        try:
            return self._dispatch(config, request)
        except Refusal as refusal:
            return refused(refusal)

    def batch(self, config: SandboxConfig, request: FhirRequest) -> tuple[Answer, list[EntryDone]]:
        """The answer to `POST /` and, in the order of effects, what its entries did.

        A batch handles its entries one by one; a transaction applies all or, if one is refused, none, and answers
        with that refusal. References between new entries (`urn:uuid:`) are not resolved.
        """
        try:
            entries = self._entries(request)
        except Refusal as refusal:
            return refused(refusal), []
        for entry in entries:
            if (done := self._faulty(entry, FaultKind.BATCH_STATUS)) is not None:
                return done.answer, [done]
        bundle = request.resource or {}
        if bundle.get("type") == "transaction":
            return self._transaction(config, entries)
        each_done = [self._entry(config, entry) for entry in entries]
        return _batch_answer("batch-response", each_done), each_done

    def _transaction(self, config: SandboxConfig, entries: list[FhirRequest]) -> tuple[Answer, list[EntryDone]]:
        order = sorted(range(len(entries)), key=lambda place: _order(entries[place]))
        done: dict[int, EntryDone] = {}
        try:
            with self._store.transaction():
                for place in order:
                    done[place] = self._entry(config, entries[place])
                    if done[place].answer.status >= 400:
                        raise Refusal(done[place].answer.status)
        except Refusal as refusal:
            failed = next(entry.answer.body for entry in done.values() if entry.answer.status >= 400)
            return Answer(refusal.status, failed), [_without_effect(entry) for entry in done.values()]
        in_order = [done[place] for place in range(len(entries))]
        return _batch_answer("transaction-response", in_order), [done[place] for place in order]

    def _entry(self, config: SandboxConfig, request: FhirRequest) -> EntryDone:
        if (done := self._faulty(request, FaultKind.ENTRY_STATUS)) is not None:
            return done
        identifier = business_identifier(request, self._store)  # before a delete
        return EntryDone(request, self.answer(config, request), identifier)

    def _faulty(self, request: FhirRequest, kind: FaultKind) -> EntryDone | None:
        """The entry as refused by a fault of this kind; None: none befalls it."""
        identifier = business_identifier(request, self._store)
        facts = Facts(request.method, request.resource_type, request.resource_id, identifier)
        fault = self._faults.entry_fault(facts, kind)
        if fault is None:
            return None
        answer = refused(refuse(fault.status, fault.code, "fault of the sandbox"))
        return EntryDone(request, answer, identifier, fault)

    def _entries(self, request: FhirRequest) -> list[FhirRequest]:
        bundle = request.resource or {}
        if not request.readable or bundle.get("resourceType") != "Bundle":
            raise refuse(400, "structure", "the body is not a Bundle")
        if bundle.get("type") not in ("batch", "transaction"):
            raise refuse(400, "invalid", "the Bundle is neither batch nor transaction", "Bundle.type")
        entries = bundle.get("entry", [])
        if not isinstance(entries, list):
            raise refuse(400, "structure", "expected a list", "Bundle.entry")
        return [_sub_request(request, entry, number) for number, entry in enumerate(entries)]

    def _dispatch(self, config: SandboxConfig, request: FhirRequest) -> Answer:
        store, pages = self._store, self._pages
        if request.segments and request.segments[0] not in (*RESOURCE_TYPES, "metadata"):
            raise refuse(404, "not-supported", "no such resource type")
        match request.method, request.segments:
            case "GET", ("metadata",):
                return Answer(200, capability_statement(config, request.base))
            case "GET", (kind,):
                return reads.search(store, pages, config, request, kind)
            case "POST", (kind,) if kind != "metadata":
                return writes.create(store, config, request, kind)
            case "PUT", (kind,) if kind != "metadata" and request.params:
                return writes.conditional_update(store, config, request, kind)
            case "GET", (kind, "_history"):
                return reads.history(store, pages, config, request, kind, None)
            case "GET", (kind, id):
                return reads.read(store, config, request, kind, id)
            case "PUT", (kind, id):
                return writes.update(store, config, request, kind, id)
            case "DELETE", (kind, id):
                return writes.delete(store, config, request, kind, id)
            case "GET", (kind, id, "_history"):
                return reads.history(store, pages, config, request, kind, id)
            case "GET", (kind, id, "_history", number):
                return reads.read_version(store, config, request, kind, id, number)
        raise refuse(405, "not-supported", "no such interaction")


def refused(refusal: Refusal) -> Answer:
    """The answer that tells a refusal."""
    return Answer(refusal.status, operation_outcome(refusal.issues), refusal.headers)


def _sub_request(outer: FhirRequest, entry: Any, number: int) -> FhirRequest:
    where = f"Bundle.entry[{number}].request"
    asked = entry.get("request") if isinstance(entry, dict) else None
    if not isinstance(asked, dict) or not all(isinstance(asked.get(name), str) for name in ("method", "url")):
        raise refuse(400, "required", "an entry needs a request with method and url", where)
    url = urlsplit(asked["url"])
    headers = {"content-type": "application/fhir+json", "prefer": outer.headers.get("prefer", "return=minimal")}
    for name, header in (("ifMatch", "if-match"), ("ifNoneExist", "if-none-exist")):
        if isinstance(asked.get(name), str):
            headers[header] = asked[name]
    resource = entry.get("resource")
    return FhirRequest(
        method=asked["method"],
        segments=tuple(unquote(part) for part in url.path.split("/") if part),
        params=tuple(parse_qsl(url.query, keep_blank_values=True)),
        headers=headers,
        base=outer.base,
        resource=resource if isinstance(resource, dict) else None,
    )


def _order(request: FhirRequest) -> int:
    method = request.method
    return _TRANSACTION_ORDER.index(method) if method in _TRANSACTION_ORDER else len(_TRANSACTION_ORDER)


def _without_effect(entry: EntryDone) -> EntryDone:
    return replace(entry, answer=replace(entry.answer, effect=Effect.NONE, version=None))


def _batch_answer(kind: str, done: list[EntryDone]) -> Answer:
    entries = [_entry_json(entry.answer) for entry in done]
    page: Json = {"resourceType": "Bundle", "type": kind}
    return Answer(200, page | {"entry": entries} if entries else page)


def _entry_json(answer: Answer) -> Json:
    response: Json = {"status": str(answer.status)}
    headers = dict(answer.headers)
    response |= {name: headers[name] for name in ("etag", "location") if name in headers}
    if answer.version is not None:
        response["lastModified"] = format_instant(answer.version.at)
    if answer.status >= 400:
        return {"response": response | {"outcome": answer.body}}
    return {"response": response} if answer.body is None else {"resource": answer.body, "response": response}
