"""The connector: what the platform may ask of a FHIR server, in the terms of the contract.

How a visit is written:

- Created by a conditional POST on its business identifier, so that a repeat makes no second one. If one is
  there and says something else (an older version of ours whose answer was lost), the reply is Unknown: the
  platform reads back, and updates what it finds.
- Updated and cancelled by reading the partner's copy, putting in what is ours, and a PUT under the version
  read (If-Match). It costs one call more and keeps what the partner's people added. If the copy is not the
  version that the platform knew, nothing is written: Conflict. If it already says what the command says, it
  is delivered.
- A cancelled visit whose copy is gone has nothing to cancel. Nothing is ever deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import quote

from partners.contract import (
    Absent,
    Access,
    CheckReport,
    Command,
    Conflict,
    Delivered,
    Entity,
    Found,
    Gone,
    Json,
    Page,
    ReadBack,
    Reply,
    SourceRecord,
    Unknown,
    Verb,
)
from partners.errors import AuthenticationError, Deferred, PartnerError, RejectedError, RetryableError
from partners.fhir import codes, reading
from partners.fhir.codes import Act
from partners.fhir.elements import objects
from partners.fhir.search import search
from partners.fhir.server import Server, id_of, identity_in_headers, taken, version_of
from partners.fhir.visits import RESOURCE_TYPES, business_identifier, carries, differing, merged
from partners.wire import Answered, Cause, NotSent

_READ_BY: Mapping[Entity, tuple[str, ...]] = {
    Entity.CLIENT: ("Patient",),
    Entity.STAFF: ("Practitioner", "PractitionerRole"),
    Entity.VISIT: ("Appointment",),
    Entity.VISIT_RECORD: ("Encounter",),
}
_R4 = ("4.0", "4.3")  # R4B (4.3) left these resources as they are


class FhirConnector:
    """A contract.Connector for one connection."""

    def __init__(self, server: Server, settings: Mapping[str, str]) -> None:
        self._server = server
        self._settings = settings

    def check(self) -> CheckReport:
        """Ask what the server can do, then read one row of each kind with the credential."""
        statement = self._statement()
        access = tuple(
            Access(entity, all(map(self._may_read, kinds)), _may_write(statement, kinds))
            for entity, kinds in _READ_BY.items()
        )
        return CheckReport(_name(statement), access)

    def read(self, entity: Entity, cursor: str | None) -> Iterator[Page]:
        """As the contract says. ValueError for an entity that is not read here."""
        if entity is Entity.CLIENT:
            return reading.read_clients(self._server, cursor)
        if entity is Entity.STAFF:
            return reading.read_staff(self._server, cursor)
        raise ValueError(f"not read from FHIR: {entity}")

    def fetch(self, entity: Entity, partner_id: str) -> SourceRecord | Gone:
        """As the contract says. Gone only if the FHIR server itself says so."""
        found = self._server.read(_READ_BY[entity][0], partner_id)
        if isinstance(found, Gone):
            return found
        if entity is Entity.CLIENT:
            return reading.client_record(found)
        if entity is Entity.STAFF:
            held = reading.roles_of(self._server, [partner_id])
            return reading.staff_record(found, held.get(partner_id, ()))
        raise ValueError(f"not read from FHIR: {entity}")

    def send(self, command: Command) -> Reply:
        """As the contract says. Raises the gate's Deferred, and that only before the write."""
        return self._create(command) if command.verb is Verb.CREATE else self._change(command)

    def find(self, command: Command) -> ReadBack:
        """By its id if that is known and still there, else by its business identifier."""
        if command.partner_id is not None:
            copy = self._server.read(RESOURCE_TYPES[command.entity], command.partner_id)
            if not isinstance(copy, Gone):
                return self._found(copy, command)
        copy = self._search(command)
        return Absent() if isinstance(copy, Gone) else self._found(copy, command)

    def close(self) -> None:
        """Close the HTTP client."""
        self._server.client.close()

    def _create(self, command: Command) -> Reply:
        kind = RESOURCE_TYPES[command.entity]
        condition = {"if-none-exist": f"identifier={self._identifier(command, safe=':|/')}"}
        resource = merged({}, command, self._settings)
        answer = self._server.write("POST", kind, kind, resource, condition)
        if not isinstance(answer, Answered) or answer.status not in (200, 201):
            return codes.denial(Act.CREATE, answer, kind)
        if answer.status == 200:
            # R4, conditional create: one was there, and this one was ignored.
            copy = codes.resource_in(answer)
            if copy is None:
                return codes.denial(Act.CREATE, answer, kind)
            if differing(copy, command, self._settings):
                return Unknown("found_different")
        return _delivered(Act.CREATE, answer, kind, None)

    def _change(self, command: Command) -> Reply:
        kind = RESOURCE_TYPES[command.entity]
        try:
            copy = self._copy(command)
        except Deferred:
            raise
        except PartnerError as error:
            return codes.unsent(error)
        if isinstance(copy, Gone):
            return _changed_nothing(command)
        partner_id, version = id_of(copy), version_of(copy)
        if not differing(copy, command, self._settings):
            return Delivered(partner_id, version)
        if command.partner_version and version != command.partner_version:
            return Conflict("changed_at_partner")
        condition = {"if-match": f'W/"{version}"'} if version else {}
        resource = merged(copy, command, self._settings)
        answer = self._server.write("PUT", kind, f"{kind}/{partner_id}", resource, condition)
        if not isinstance(answer, Answered) or answer.status not in (200, 201, 204):
            return codes.denial(Act.UPDATE, answer, kind)
        return _delivered(Act.UPDATE, answer, kind, partner_id)

    def _copy(self, command: Command) -> Json | Gone:
        """The partner's copy to be changed. Without an id it is looked for by its business identifier."""
        if command.partner_id is None:
            return self._search(command)
        return self._server.read(RESOURCE_TYPES[command.entity], command.partner_id)

    def _search(self, command: Command) -> Json | Gone:
        """The one record with the command's identifier. RejectedError if there are several."""
        kind = RESOURCE_TYPES[command.entity]
        wanted = business_identifier(command, self._settings)
        first = next(search(self._server, kind, {"identifier": self._identifier(command)}))
        hits = [each for each in first.resources if carries(each, wanted)]
        if len(hits) > 1:
            raise RejectedError("several_at_partner")
        if hits:
            return hits[0]
        if not first.is_last:
            # Other records, and more to come: it was not searched by the identifier. That proves nothing.
            raise RetryableError("partner_list_incomplete", {"why": "identifier_ignored"})
        return Gone()

    def _identifier(self, command: Command, safe: str | None = None) -> str:
        """`system|value` as a search value; `safe`: percent-encoded for a header, but for these letters."""
        text = "|".join(business_identifier(command, self._settings))
        return text if safe is None else quote(text, safe=safe)

    def _found(self, copy: Json, command: Command) -> Found:
        return Found(id_of(copy), version_of(copy), differing(copy, command, self._settings))

    def _statement(self) -> Json:
        answer = self._server.get("metadata", "metadata")
        if isinstance(answer, NotSent) and answer.cause is Cause.DNS:
            raise RejectedError("address_wrong")
        if not isinstance(answer, Answered) or answer.status != 200:
            raise codes.failure(answer, "metadata")
        statement = codes.resource_in(answer) or {}
        if not str(statement.get("fhirVersion")).startswith(_R4):
            raise RejectedError("not_this_protocol", {"protocol": codes.PROTOCOL})
        return statement

    def _may_read(self, kind: str) -> bool:
        """Whether the credential may. AuthenticationError if it is not accepted at all."""
        answer = self._server.get(kind, kind, {"_count": "1"})
        if isinstance(answer, Answered) and codes.says_gone(answer):
            return False  # the server does not have this type
        try:
            taken(answer, kind)
        except AuthenticationError as error:
            if error.reason != "permission_missing":
                raise
            return False
        return True


def _changed_nothing(command: Command) -> Reply:
    """The reply where there is no copy to be changed."""
    if command.verb is Verb.CANCEL and command.partner_id is not None:
        return Delivered(command.partner_id, "", "nothing_to_cancel")
    return Conflict("record_gone_at_partner")


def _delivered(act: Act, answer: Answered, kind: str, partner_id: str | None) -> Reply:
    """Delivered if the answer tells which record it is about, in its body or headers; else Unknown."""
    resource = codes.resource_in(answer)
    told_id, told_version = identity_in_headers(answer, kind)
    if resource is not None and resource.get("resourceType") == kind:
        told_id, told_version = id_of(resource), version_of(resource) or told_version
    elif answer.body.strip():
        return codes.denial(act, answer, kind)
    elif not told_version:
        return Unknown("answer_unreadable")
    known = partner_id or told_id
    if not known or (told_id and told_id != known):
        return Unknown("answer_unreadable")
    return Delivered(known, told_version)


def _may_write(statement: Json, kinds: tuple[str, ...]) -> bool | None:
    """Whether the CapabilityStatement offers create and update; None if it does not speak of the type."""
    offered = _interactions(statement, kinds[0])
    return {"create", "update"} <= offered if offered is not None else None


def _interactions(statement: Json, kind: str) -> set[object] | None:
    for rest in objects(statement.get("rest")):
        for resource in objects(rest.get("resource")):
            if resource.get("type") == kind and "interaction" in resource:
                return {each.get("code") for each in objects(resource["interaction"])}
    return None


def _name(statement: Json) -> str:
    software = statement.get("software")
    name = software.get("name") if isinstance(software, dict) else None
    return "".join(filter(str.isprintable, str(name or "")))[:80] or codes.PROTOCOL
