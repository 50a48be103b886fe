"""The interactions that change a record: create, update, their conditional forms, delete.

Every write makes a new version, also one that changes nothing. Conditions and effect are one step without a wait
between them, so a conditional create can not race here.
"""

from __future__ import annotations

import re
import uuid
from urllib.parse import parse_qsl

from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.message import Answer, Effect, FhirRequest
from partners.fhir.sandbox.outcome import Json, Refusal, refuse
from partners.fhir.sandbox.paging import version_headers
from partners.fhir.sandbox.search import Params, parse_query, select
from partners.fhir.sandbox.store import Method, Store, Version
from partners.fhir.sandbox.validation import invariant_issues, reference_issues

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_ETAG = re.compile(r'(?:W/)?"([^"]*)"')
_CONTENT_TYPES = frozenset({"application/fhir+json", "application/json", "application/json+fhir"})


def create(store: Store, config: SandboxConfig, request: FhirRequest, kind: str) -> Answer:
    """A new record under an id of the server's: 201. With `If-None-Exist`: 200 if one is there, 412 if several."""
    resource = _body(request, kind)
    condition = request.headers.get("if-none-exist")
    if condition and config.conditional_create:
        found = _matching(store, config, kind, tuple(parse_qsl(condition.rpartition("?")[2], keep_blank_values=True)))
        if found is not None:
            return _answer(request, found, Effect.NONE, 200)
    return _save(store, config, request, resource, str(uuid.uuid4()), "POST")


def update(store: Store, config: SandboxConfig, request: FhirRequest, kind: str, id: str) -> Answer:
    """A new version of the record `id`: 200, or 201 if it was not there."""
    resource = _body(request, kind)
    if resource.get("id") != id:
        raise refuse(400, "invalid", "the id in the body is not the one in the path", f"{kind}.id")
    if not _ID.fullmatch(id):
        raise refuse(400, "invalid", "not a valid id", f"{kind}.id")
    current = store.live(kind, id)
    if current is None and not config.update_create and store.latest(kind, id) is None:
        raise refuse(404, "not-found", f"no {kind} with this id, and this server does not take ids")
    if current is not None and config.require_if_match and "if-match" not in request.headers:
        raise refuse(412, "required", "If-Match is required")
    _check_version(config, request, current)
    return _save(store, config, request, resource, id, "PUT")


def conditional_update(store: Store, config: SandboxConfig, request: FhirRequest, kind: str) -> Answer:
    """`PUT Type?identifier=`: updates the one that is found, creates if none is, refuses (412) if several are."""
    resource = _body(request, kind)
    found = _matching(store, config, kind, request.params)
    given = resource.get("id")
    if found is None:
        _check_version(config, request, None)
        if given is not None and (not _is_id(given) or store.live(kind, given)):
            raise refuse(409, "conflict", "the id in the body is taken or not valid", f"{kind}.id")
        return _save(store, config, request, resource, given or str(uuid.uuid4()), "PUT")
    if given not in (None, found.id):
        raise refuse(400, "invalid", "the id in the body is not that of the record found", f"{kind}.id")
    _check_version(config, request, found)
    return _save(store, config, request, resource, found.id, "PUT")


def delete(store: Store, config: SandboxConfig, request: FhirRequest, kind: str, id: str) -> Answer:
    """204, also if it is deleted already (then without effect); 404 if never seen."""
    if store.latest(kind, id) is None:
        raise refuse(404, "not-found", f"no {kind} with this id")
    current = store.live(kind, id)
    _check_version(config, request, current)
    if current is None:
        return Answer(204)
    gone = store.delete(kind, id)
    return Answer(204, None, (("etag", gone.etag),), Effect.DELETED, gone)


def _body(request: FhirRequest, kind: str) -> Json:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in _CONTENT_TYPES:
        raise refuse(415, "not-supported", "send application/fhir+json")
    if request.resource is None or not request.readable:
        raise refuse(400, "structure", "the body is not a JSON object")
    if request.resource.get("resourceType") != kind:
        raise refuse(400, "invalid", f"the body is not a {kind}", "resourceType")
    return request.resource


def _check_version(config: SandboxConfig, request: FhirRequest, current: Version | None) -> None:
    wanted = request.headers.get("if-match")
    if wanted is None:
        return
    etag = _ETAG.fullmatch(wanted.strip())
    if etag is None:
        raise refuse(400, "invalid", "If-Match is not an entity tag")
    if current is None or etag[1] != str(current.number):
        raise refuse(config.stale_status, "conflict", "If-Match is not the current version")


def _matching(store: Store, config: SandboxConfig, kind: str, params: Params) -> Version | None:
    query = parse_query(kind, params, config)
    if not query.equals or len(query.understood) != len(params):
        raise refuse(400, "not-supported", "a condition can only use identifier and _id")
    found = select(store, query)
    if len(found) > 1:
        raise refuse(412, "multiple-matches", "the condition matches more than one record")
    return found[0] if found else None


def _save(store: Store, config: SandboxConfig, request: FhirRequest, resource: Json, id: str, method: Method) -> Answer:
    issues = invariant_issues(resource)
    if config.check_references:
        issues += reference_issues(store, resource)
    if issues:
        raise Refusal(422, *issues)
    is_new = store.live(resource["resourceType"], id) is None
    saved = store.save(resource, id, method)
    return _answer(request, saved, Effect.CREATED if is_new else Effect.UPDATED, 201 if is_new else 200)


def _answer(request: FhirRequest, version: Version, effect: Effect, status: int) -> Answer:
    body = None if "return=minimal" in request.headers.get("prefer", "") else version.resource
    return Answer(status, body, version_headers(version, request.base, location=True), effect, version)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None
