"""The interactions that change nothing: read, version read, history, search."""

from __future__ import annotations

from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.instants import parse_span
from partners.fhir.sandbox.message import Answer, FhirRequest
from partners.fhir.sandbox.outcome import refuse
from partners.fhir.sandbox.paging import PAGE_PARAMETER, Cursor, HistoryQuery, PageBook, bundle, version_headers
from partners.fhir.sandbox.search import Params, parse_query
from partners.fhir.sandbox.store import Store, Version


def read(store: Store, config: SandboxConfig, request: FhirRequest, kind: str, id: str) -> Answer:
    """The current version of a record: 404 if never seen, `gone_status` if deleted."""
    return _shown(_existing(store.latest(kind, id), config), request)


def read_version(store: Store, config: SandboxConfig, request: FhirRequest, kind: str, id: str, number: str) -> Answer:
    """One version of a record: 404 if there is none of that number, `gone_status` if that version is a delete."""
    found = next((row for row in store.history(kind, id) if str(row.number) == number), None)
    return _shown(_existing(found, config), request)


def search(store: Store, book: PageBook, config: SandboxConfig, request: FhirRequest, kind: str) -> Answer:
    """The first page of a search, or the page that a `next` link stands for."""
    token = request.param(PAGE_PARAMETER)
    if token is not None:
        cursor = book.get(token, kind, config.page_seconds)
    else:
        cursor = Cursor(parse_query(kind, request.params, config))
    return Answer(200, bundle(store, book, request.base, cursor))


def history(
    store: Store, book: PageBook, config: SandboxConfig, request: FhirRequest, kind: str, id: str | None
) -> Answer:
    """Versions, newest first, of one record or (id None) of the whole type, since `_since` if given."""
    if not config.history:
        raise refuse(404, "not-supported", "this server keeps no history")
    if id is not None and store.latest(kind, id) is None:
        raise refuse(404, "not-found", f"no {kind} with this id")
    return Answer(200, bundle(store, book, request.base, Cursor(_history_query(config, request, kind, id))))


def _history_query(config: SandboxConfig, request: FhirRequest, kind: str, id: str | None) -> HistoryQuery:
    understood: Params = ()
    since, count = None, min(config.default_count, config.max_count)
    for name, value in request.params:
        if name in config.ignored_parameters:
            continue
        if name == "_since":
            since, understood = _since(value), (*understood, (name, value))
        elif name == "_count" and value.isascii() and value.isdigit() and int(value) > 0:
            count = min(int(value), config.max_count)
            understood = (*understood, (name, str(count)))
    return HistoryQuery(kind, id, since, count, understood)


def _since(value: str) -> int:
    try:
        return parse_span(value).start
    except ValueError:
        raise refuse(400, "invalid", "_since is not an instant") from None


def _existing(version: Version | None, config: SandboxConfig) -> Version:
    if version is None:
        raise refuse(404, "not-found", "no record with this id")
    if version.resource is None:
        raise refuse(config.gone_status, "deleted" if config.gone_status == 410 else "not-found", "the record is gone")
    return version


def _shown(version: Version, request: FhirRequest) -> Answer:
    return Answer(200, version.resource, version_headers(version, request.base, location=False), version=version)
