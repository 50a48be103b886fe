"""One vendor: its data, its log, its limits and its faults, and the one step in which a call is answered.

From the interaction to the journal nothing waits, so the journal's order is the order of effects.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlencode

from partners.fhir.sandbox import breakage, gates
from partners.fhir.sandbox.bad_pages import spoiled_page
from partners.fhir.sandbox.config import RESOURCE_TYPES, SandboxConfig, changed
from partners.fhir.sandbox.dialects import announced
from partners.fhir.sandbox.faults import Facts, FaultBook, FaultRule
from partners.fhir.sandbox.interactions import EntryDone, Interactions
from partners.fhir.sandbox.journal import Journal, Row
from partners.fhir.sandbox.limit_book import LimitBook, Verdict, caller_name
from partners.fhir.sandbox.message import Answer, FhirRequest, business_identifier
from partners.fhir.sandbox.paging import PAGE_PARAMETER, PageBook
from partners.fhir.sandbox.persistence import StateFile
from partners.fhir.sandbox.search import known_parameters
from partners.fhir.sandbox.seed import seed
from partners.fhir.sandbox.store import Store
from partners.fhir.sandbox.tokens import TokenDesk, is_for_desk
from partners.fhir.sandbox.wire import Reply, render

_JOURNALED_PARAMETERS = frozenset(
    {"_sort", "_count", "_summary", "_elements", "_total", "_since", "_format", PAGE_PARAMETER}
).union(*(known_parameters(kind) for kind in RESOURCE_TYPES))


@dataclass(frozen=True)
class Call:
    """An HTTP request on its way through the gates."""

    request: FhirRequest
    facts: Facts
    at: str
    monotonic: float


class Vendor:
    """The whole of a sandbox but its sockets. All calls come from one event loop."""

    def __init__(self, config: SandboxConfig) -> None:
        """Opens the files, replays the state, and seeds it if it is new."""
        self.config = config
        self.faults = FaultBook(config.faults)
        self._origin = time.time() - time.monotonic()
        self.limits = LimitBook(config.named_limits, self._origin)
        self.journal = Journal(config.journal_file)
        self._state = StateFile(config.state_file) if config.state_file else None
        self.store = Store(self._state.append if self._state else None)
        self.pages = PageBook()
        self.closing = asyncio.Event()
        self.desk = TokenDesk()
        self._interactions = Interactions(self.store, self.pages, self.faults)
        try:
            self._load(config)
        except BaseException:
            self.close()
            raise

    def _load(self, config: SandboxConfig) -> None:
        for version in self._state.replay() if self._state else ():
            self.store.restore(version)
        if self.store.is_empty():
            seed(
                self.store,
                config.seed,
                config.clients,
                config.staff,
                config.facility,
                before=config.seeded_before,
                patient_system=config.patient_identifier_system,
                staff_system=config.staff_identifier_system,
            )

    def change(self, patch: dict[str, object]) -> None:
        """Change options while running. ValueError if one may not change or is out of bounds."""
        self.config = changed(self.config, patch)
        anew = {"limit"} & patch.keys()
        self.limits.change(self.config.named_limits, time.monotonic(), anew)

    def arrive(self, request: FhirRequest) -> Call:
        """Note when a request came, and what fault rules can see of it."""
        token = request.param(PAGE_PARAMETER)
        cursor = self.pages.peek(token) if token else None
        is_search = request.method == "GET" and len(request.segments) == 1 and request.resource_type is not None
        facts = Facts(
            method=request.method,
            resource_type=request.resource_type,
            resource_id=request.resource_id,
            identifier=business_identifier(request, self.store),
            page=(cursor.number if cursor else 1) if is_search else None,
        )
        return Call(request, facts, datetime.now(UTC).isoformat(timespec="microseconds"), time.monotonic())

    def count(self, call: Call) -> Verdict:
        """What the limits say of a call; it is counted. The seats that it takes are the caller's to free."""
        caller = caller_name(gates.shown_token(call.request))
        return self.limits.pass_or_refuse(call.monotonic, caller, gates.endpoint(call.request))

    def gate(self, call: Call, verdict: Verdict) -> Answer | None:
        """The refusal of a call that may not pass, or None."""
        return gates.refusal_of(call.request, self.config, self.desk, verdict, self._origin + call.monotonic)

    def announce(self, call: Call, verdict: Verdict, reply: Reply) -> Reply:
        """The reply with what the dialect tells of the limits on every answer."""
        headers = announced(self.config.dialect, verdict.tightest, self._origin + call.monotonic)
        return replace(reply, headers=(*reply.headers, *headers))

    def perform(self, call: Call, fault: FaultRule | None) -> Reply:
        """Apply a call that passed the gates, unless its fault keeps that from happening, and log it."""
        request = call.request
        reply = breakage.instead(fault, _url(request)) if fault else None
        if reply is not None:
            self._log(call, Answer(reply.status), fault, reply.status)
            return reply
        done: list[EntryDone] = []
        if is_for_desk(request, self.config):
            answer = self.desk.answer(request, self.config)
        elif request.method == "POST" and not request.segments:
            answer, done = self._interactions.batch(self.config, request)
        else:
            answer = self._interactions.answer(self.config, request)
        answer, page_fault = self._spoil_page(call, answer)
        reply = breakage.spoiled(fault, render(answer)) if fault else render(answer)
        self._log(call, answer, fault, reply.status, page_fault, done)
        return reply

    def turn_away(self, call: Call, answer: Answer) -> Reply:
        """Log a call that a gate refused."""
        self._log(call, answer, None, answer.status)
        return render(answer)

    async def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the server's shutdown."""
        try:
            await asyncio.wait_for(self.closing.wait(), seconds)
        except TimeoutError:
            return

    def close(self) -> None:
        """Close the files."""
        self.journal.close()
        if self._state is not None:
            self._state.close()

    def _spoil_page(self, call: Call, answer: Answer) -> tuple[Answer, FaultRule | None]:
        page = answer.body
        if call.facts.page is None or answer.status != 200 or page is None:
            return answer, None
        has_next = any(link["relation"] == "next" for link in page["link"])
        rule = self.faults.page_fault(call.facts, has_entries="entry" in page, has_next=has_next)
        if rule is not None:
            answer = replace(answer, body=spoiled_page(rule, page, self.pages, self.store))
        return answer, rule

    def _log(
        self,
        call: Call,
        answer: Answer,
        fault: FaultRule | None,
        status: int,
        page_fault: FaultRule | None = None,
        done: list[EntryDone] | None = None,
    ) -> None:
        kinds = [rule.kind.value for rule in (fault, page_fault) if rule]
        sent = None if breakage.is_cut(fault) else status
        first = self.journal.last + 1
        rows = [_row(first, call, call.request, call.facts.identifier, answer, sent, "+".join(kinds) or None)]
        for number, entry in enumerate(done or (), start=1):
            kind = entry.fault.kind.value if entry.fault else None
            row = _row(first + number, call, entry.request, entry.identifier, entry.answer, entry.answer.status, kind)
            rows.append(replace(row, within=first))
        self.journal.append(rows)


def _url(request: FhirRequest) -> str:
    query = urlencode(request.params)
    return f"{request.base}/{'/'.join(request.segments)}" + (f"?{query}" if query else "")


def _row(
    seq: int,
    call: Call,
    request: FhirRequest,
    identifier: str | None,
    answer: Answer,
    status: int | None,
    fault: str | None,
) -> Row:
    version = answer.version
    shown = [(name, value if name in _JOURNALED_PARAMETERS else "...") for name, value in request.params]
    return Row(
        seq=seq,
        at=call.at,
        monotonic=call.monotonic,
        method=request.method,
        path="/" + "/".join(request.segments),
        query=urlencode(shown, safe=":|,/"),
        resource_type=request.resource_type,
        resource_id=version.id if version else request.resource_id,
        identifier=identifier,
        if_match=request.headers.get("if-match"),
        status=status,
        effect=answer.effect.value,
        version=version.number if version else None,
        fault=fault,
    )
