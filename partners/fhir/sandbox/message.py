"""What goes in and what comes out of one FHIR interaction, apart from sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qsl

from partners.fhir.sandbox.index import first_identifier
from partners.fhir.sandbox.outcome import Json
from partners.fhir.sandbox.search import Params
from partners.fhir.sandbox.store import Store, Version


class Effect(StrEnum):
    """What a request did to the vendor's data."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    NONE = "none"


@dataclass(frozen=True)
class FhirRequest:
    """One interaction asked for: an HTTP request, or an entry of a batch."""

    method: str
    segments: tuple[str, ...]
    """The path's parts, decoded: ("Patient", "7")."""
    params: Params
    headers: Mapping[str, str]
    """By lower-case name."""
    base: str
    """The server's address as the caller knows it, without a slash at its end."""
    resource: Json | None = None
    """The body; None if there is none, or if it is not a JSON object (then `readable` is False)."""
    readable: bool = True
    form: Mapping[str, str] = field(default_factory=dict)
    """The body, if it is a form."""

    @property
    def resource_type(self) -> str | None:
        """The first part of the path, which need not be a type that exists."""
        return self.segments[0] if self.segments and self.segments[0] != "metadata" else None

    @property
    def resource_id(self) -> str | None:
        """The second part of the path, if it is an id."""
        return self.segments[1] if len(self.segments) > 1 and self.segments[1] != "_history" else None

    def param(self, name: str) -> str | None:
        """The first value of a parameter."""
        return next((value for key, value in self.params if key == name), None)


@dataclass(frozen=True)
class Answer:
    """What an interaction came to."""

    status: int
    body: Json | None = None
    """None: no body."""
    headers: tuple[tuple[str, str], ...] = ()
    effect: Effect = Effect.NONE
    version: Version | None = None
    """The version that the interaction read or made."""
    content_type: str = "application/fhir+json; charset=utf-8"


def business_identifier(request: FhirRequest, store: Store) -> str | None:
    """The business key of the record that a request is about: from its body, its condition or the stored record."""
    if found := first_identifier(request.resource):
        return found
    condition = dict(parse_qsl(request.headers.get("if-none-exist", ""))).get("identifier")
    if asked := condition or request.param("identifier"):
        return asked.rpartition("|")[2]
    kind, id = request.resource_type, request.resource_id
    known = store.last_content(kind, id) if kind and id else None
    return first_identifier(known)
