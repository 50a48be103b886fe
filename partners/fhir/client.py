"""The connector: what the platform may ask of a FHIR server, in the terms of the contract.

How a visit is written:

- Created by a conditional POST on its business identifier, so that a repeat makes no second one. If one is
  there and says something else (an older version of ours whose answer was lost), the reply is Unknown: the
  platform reads back, and updates what it finds.
- Updated and cancelled by reading the partner's copy, putting in what is ours, and a PUT under the version
  read (If-Match). It costs one call more and keeps what the partner's people added. If the copy is not the
  version that the platform knew, nothing is written: Conflict. If it already says what the command says, it
  is delivered.
- Several at once where the server takes batches: one call that reads all copies to be changed, one that writes.
- A cancelled visit whose copy is gone has nothing to cancel. Nothing is ever deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import TypeVar
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
    Refused,
    Reply,
    SourceRecord,
    Unknown,
    Verb,
    unsent,
)
from partners.errors import AuthenticationError, Deferred, PartnerError, RejectedError, RetryableError
from partners.fhir import codes, reading
from partners.fhir.batches import ask_all
from partners.fhir.codes import Act
from partners.fhir.elements import objects
from partners.fhir.search import Hits, hits_in, search
from partners.fhir.server import Ask, Server, id_of, identity_in_headers, path_of, read_in, taken, version_of
from partners.fhir.visits import RESOURCE_TYPES, business_identifier, carries, differing, merged, theirs
from partners.wire import Answered, Cause, Exchange, NotSent

_READ_BY: Mapping[Entity, tuple[str, ...]] = {
    Entity.CLIENT: ("Patient",),
    Entity.STAFF: ("Practitioner", "PractitionerRole"),
    Entity.VISIT: ("Appointment",),
    Entity.VISIT_RECORD: ("Encounter",),
}
_T = TypeVar("_T")
_R4 = ("4.0", "4.3")  # R4B (4.3) left these resources as they are


@dataclass(frozen=True)
class _Write:
    """A write that is ready to be sent."""

    command: Command
    ask: Ask
    partner_id: str | None = None
    """Of the copy that is written over."""


class FhirConnector:
    """A contract.Connector for one connection."""

    def __init__(self, server: Server, settings: Mapping[str, str], batch_size: int = 1) -> None:
        self._server = server
        self._settings = settings
        self.batch_size = batch_size

    def check(self) -> CheckReport:
        """Ask what the server can do, then read one row of each kind with the credential."""
        statement = self._statement()
        access = tuple(
            Access(entity, all(map(self._may_read, kinds)), _may_write(statement, kinds))
            for entity, kinds in _READ_BY.items()
        )
        return CheckReport(_name(statement), access)

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        """As the contract says. ValueError for an entity that is not read here."""
        if entity is Entity.CLIENT:
            return reading.read_clients(self._server, cursor, resume)
        if entity is Entity.STAFF:
            return reading.read_staff(self._server, cursor, resume)
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
        step = self._creation(command) if command.verb is Verb.CREATE else self._change(command, self._copy(command))
        if not isinstance(step, _Write):
            return step
        answer = _taken(partial(self._server.send, RESOURCE_TYPES[command.entity], step.ask))
        if isinstance(answer, PartnerError):  # there is no token
            return unsent(answer)
        return self._ended(step, answer)

    def send_batch(self, commands: Sequence[Command]) -> Sequence[Reply]:
        """As the contract says: one batch that reads the copies to be changed, if any are, and one that writes."""
        kind = RESOURCE_TYPES[commands[0].entity]
        changing = [command for command in commands if command.verb is not Verb.CREATE]
        asks = [self._reading(command) for command in changing]
        read = _taken(partial(ask_all, self._server, kind, asks)) if changing else []
        if isinstance(read, PartnerError):
            return [unsent(read)] * len(commands)
        if not isinstance(read, list):
            return [_of_whole(read, unsent(codes.failure(read, kind)))] * len(commands)
        copies = iter(read)
        steps = [
            self._creation(command)
            if command.verb is Verb.CREATE
            else self._change(command, _taken(partial(self._copy_in, command, next(copies))))
            for command in commands
        ]
        writes = [step for step in steps if isinstance(step, _Write)]
        asks = [write.ask for write in writes]
        answers = _taken(partial(ask_all, self._server, kind, asks)) if writes else []
        replies: Iterator[Reply]
        if isinstance(answers, PartnerError):
            replies = repeat(unsent(answers))
        elif isinstance(answers, list):
            replies = iter([self._ended(write, answer) for write, answer in zip(writes, answers, strict=True)])
        else:
            replies = repeat(_of_whole(answers, codes.denial(Act.CREATE, answers, kind)))
        return [next(replies) if isinstance(step, _Write) else step for step in steps]

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

    def _creation(self, command: Command) -> _Write:
        kind = RESOURCE_TYPES[command.entity]
        condition = {"if-none-exist": f"identifier={self._identifier(command, safe=':|/')}"}
        return _Write(command, Ask("POST", kind, merged({}, command, self._settings), condition))

    def _change(self, command: Command, copy: Json | Gone | PartnerError) -> _Write | Reply:
        """What to write over the partner's `copy`, or the reply where nothing is to be written."""
        if isinstance(copy, PartnerError):
            return unsent(copy)
        if isinstance(copy, Gone):
            return _changed_nothing(command)
        partner_id, version = id_of(copy), version_of(copy)
        if not differing(copy, command, self._settings):
            return Delivered(partner_id, version)
        if command.partner_version and version != command.partner_version:
            return Conflict("changed_at_partner")
        condition = {"if-match": f'W/"{version}"'} if version else {}
        path = f"{RESOURCE_TYPES[command.entity]}/{partner_id}"
        return _Write(command, Ask("PUT", path, merged(copy, command, self._settings), condition), partner_id)

    def _ended(self, write: _Write, answer: Exchange) -> Reply:
        """What the answer to a write says."""
        command, kind = write.command, RESOURCE_TYPES[write.command.entity]
        if command.verb is not Verb.CREATE:
            if not isinstance(answer, Answered) or answer.status not in (200, 201, 204):
                return codes.denial(Act.UPDATE, answer, kind)
            return _delivered(Act.UPDATE, answer, kind, write.partner_id)
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

    def _copy(self, command: Command) -> Json | Gone | PartnerError:
        """The partner's copy to be changed. Without an id it is looked for by its business identifier."""
        if command.partner_id is None:
            return _taken(partial(self._search, command))
        return _taken(partial(self._server.read, RESOURCE_TYPES[command.entity], command.partner_id))

    def _reading(self, command: Command) -> Ask:
        """As an entry of a batch, the call that `_copy` makes."""
        kind = RESOURCE_TYPES[command.entity]
        if command.partner_id is None:
            return Ask("GET", f"{kind}?identifier={self._identifier(command, safe='')}")
        return Ask("GET", path_of(kind, command.partner_id))

    def _copy_in(self, command: Command, answer: Exchange) -> Json | Gone:
        """What the answer to `_reading` tells. Raises PartnerError."""
        kind = RESOURCE_TYPES[command.entity]
        if command.partner_id is None:
            return self._hit(command, hits_in(taken(answer, kind), kind))
        return read_in(answer, kind, command.partner_id)

    def _search(self, command: Command) -> Json | Gone:
        """The one record with the command's identifier. RejectedError if there are several."""
        kind = RESOURCE_TYPES[command.entity]
        return self._hit(command, next(search(self._server, kind, {"identifier": self._identifier(command)})))

    def _hit(self, command: Command, first: Hits) -> Json | Gone:
        """The same, in the first page of the search."""
        wanted = business_identifier(command, self._settings)
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
        names = differing(copy, command, self._settings)
        return Found(id_of(copy), version_of(copy), names, theirs(copy, command, self._settings, names))

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


def _taken(call: Callable[[], _T]) -> _T | PartnerError:
    """What came of a call, or why it could not be had. Raises the gate's Deferred."""
    try:
        return call()
    except Deferred:
        raise
    except PartnerError as error:
        return error


def _of_whole(answer: Exchange, reply: Reply) -> Reply:
    """The reply for every command of a batch that was answered as a whole.

    One bad entry may be why it was refused, or that the server has no batches: smaller ones tell. Not so a credential.
    """
    if not isinstance(answer, Answered) or not isinstance(reply, Refused | Conflict):
        return reply
    return reply if reply.reason == "credential_refused" else Refused("batch_refused")


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
