"""What a row is given: connectors to the partner under test, and a record of all that they answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID, uuid4

from partners.certification.bench import Bench, NotOffered
from partners.certification.relay import Relay, relay_to
from partners.contract import (
    Capability,
    Command,
    Connection,
    Connector,
    DeleteEvents,
    Delivered,
    Entity,
    Found,
    Gate,
    NeverGone,
    Page,
    PlanPage,
    ProofOfAbsence,
    Recovery,
    Reply,
    Token,
    Verb,
    Visit,
    VisitRecord,
)
from partners.errors import PartnerError
from partners.throttling import Told

if TYPE_CHECKING:
    import httpx


class Broken(Exception):  # noqa: N818  # it is the row's finding
    """What the row claims does not hold; the message says in what way, without a person's data."""


@dataclass(frozen=True)
class Bounds:
    """Of an HTTP client."""

    total_seconds: float = 10.0
    connect_seconds: float = 5.0
    max_body_bytes: int = 32 * 1024 * 1024


ClientMaker = Callable[[Bounds], "httpx.Client"]
Kinds = tuple[type[Reply], ...]
SLACK = 5.0
"""Seconds beyond the deadline that a busy machine may take: endless is more."""
READ_BACK = (Recovery.CLIENT_ID, Recovery.SEARCH)
"""With these what was written can be found."""


@dataclass
class NotingGate:
    """Admits everything, `pace` seconds after the last one, and remembers for what."""

    pace: float = 0.0
    admitted: list[str] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)

    def admit(self, endpoint: str) -> None:
        """After the pause."""
        time.sleep(self.pace)
        self.admitted.append(endpoint)

    def leave(self) -> None:
        """In time."""

    def unheard(self) -> None:
        """Nobody counts what is under way."""

    def heard(self, endpoint: str, told: Told) -> None:
        """Remembered."""
        self.told.append(told)

    def token(self, ask: Callable[[], Token], refused: str = "") -> str:
        """Asked for each time: nobody keeps it."""
        return ask().value


@dataclass
class Trial:
    """One partner under test."""

    bench: Bench
    make_client: ClientMaker
    reasons: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """Each reason that was given, with the parameters that came with it last."""
    services: dict[UUID, str] = field(default_factory=dict)
    """Of the visits that records were made of, by their ids."""
    _full: dict[Entity, list[Page]] = field(default_factory=dict, repr=False)

    @property
    def capability(self) -> Capability:
        """As declared."""
        return self.bench.partner.capability

    @contextmanager
    def connected(
        self,
        *,
        url: str | None = None,
        gate: Gate | None = None,
        secret: Mapping[str, str] | None = None,
        bounds: Bounds | None = None,
        batches: bool = False,
    ) -> Iterator[Connector]:
        """A connector. What ends the block as a PartnerError is remembered for its reason."""
        bench = self.bench
        settings = {**bench.settings, **((bench.batch_settings or {}) if batches else {})}
        connection = Connection("certification", bench.partner.name, url or bench.url, settings)
        client = self.make_client(bounds or Bounds())
        secret = bench.secret if secret is None else secret
        connector = None
        try:
            connector = bench.partner.open(connection, secret, client, gate or NotingGate(0.0 if url else bench.pace))
            yield connector
        except PartnerError as error:
            self.note(error)
            raise
        finally:
            (connector or client).close()

    @contextmanager
    def relay(self) -> Iterator[Relay]:
        """A relay to the partner. NotOffered without HTTP."""
        if not self.bench.is_http:
            raise NotOffered("it exchanges files, not HTTP")
        with relay_to(self.bench.url) as relay:
            yield relay

    def note(self, said: PartnerError | Reply) -> None:
        """Remember its reason."""
        if not isinstance(said, Delivered):
            self.reasons[said.reason] = said.params

    def send(self, command: Command, **how: object) -> Reply:
        """Written through a connector of its own."""
        with self.connected(**how) as connector:  # type: ignore[arg-type]
            reply = connector.send(command)
        self.note(reply)
        return reply

    def new(self, entity: Entity = Entity.VISIT) -> Command:
        """The creation of what the partner has not seen; that of a record after its visit was delivered."""
        visit = self.bench.visit()
        if entity is Entity.VISIT:
            return visit
        assert isinstance(visit.fields, Visit)
        self.services[visit.record_id] = visit.fields.service_code
        return self.bench.visit_record(self.accepted(visit))

    def accepted(self, command: Command) -> Command:
        """The same with the id and version that it was delivered under."""
        reply = self.send(command)
        if not isinstance(reply, Delivered):
            broken(f"a sound {command.entity} was not delivered: {told(reply)}")
        return replace(command, partner_id=reply.partner_id, partner_version=reply.partner_version)

    def delivered(self, entity: Entity = Entity.VISIT) -> Command:
        """The update of what was delivered, which changes its note; of a record also when it began."""
        there = self.accepted(self.new(entity))
        fields = replace(there.fields, note="another")
        if isinstance(fields, VisitRecord) and fields.started_at is not None:
            fields = replace(fields, started_at=fields.started_at + timedelta(minutes=6))
        return replace(there, verb=Verb.UPDATE, version=2, key=str(uuid4()), fields=fields)

    def cancellation(self, entity: Entity = Entity.VISIT) -> Command:
        """Of what was delivered."""
        return replace(self.delivered(entity), verb=Verb.CANCEL)

    def read(self, entity: Entity, cursor: str | None = None, resume: str | None = None, **how: object) -> list[Page]:
        """All pages of a reading."""
        with self.connected(**how) as connector:  # type: ignore[arg-type]
            return list(connector.read(entity, cursor, resume))

    def read_plans(self, cursor: str | None = None, **how: object) -> list[PlanPage]:
        """All pages of a reading of plans, which the partner must give."""
        read = self.bench.partner.read_plans
        assert read is not None
        with self.connected(**how) as connector:  # type: ignore[arg-type]
            return list(read(connector, cursor))

    def full(self, entity: Entity) -> list[Page]:
        """All pages of a reading of all; a real system is asked for them once."""
        if entity not in self._full:
            self._full[entity] = self.read(entity)
        return self._full[entity] if self.bench.is_real else self._full.pop(entity)

    def counted(self, act: Callable[[str], object]) -> int:
        """How many calls `act` makes, given the relay's address."""
        with self.relay() as relay:
            act(relay.url)
            return relay.calls


def unnamed(command: Command) -> Command:
    """The same record, as one of which only our own id is known."""
    return replace(command, verb=Verb.CREATE, partner_id=None, partner_version=None)


def following(command: Command, known: Delivered | Found, verb: Verb, **changes: object) -> Command:
    """The next version of a record of which the partner said what it has."""
    return replace(
        command,
        verb=verb,
        version=command.version + 1,
        key=str(uuid4()),
        partner_id=known.partner_id,
        partner_version=known.partner_version,
        **changes,  # type: ignore[arg-type]
    )


def broken(finding: str) -> NoReturn:
    """The row does not hold."""
    raise Broken(finding)


def require(holds: bool, finding: str) -> None:
    """The row does not hold unless this does."""
    if not holds:
        raise Broken(finding)


def told(reply: object) -> str:
    """A reply or error in words without data: its class, and its reason."""
    reason = getattr(reply, "reason", "")
    return type(reply).__name__ + (f"({reason})" if reason else "")


def whole(pages: Sequence[Page], ids: Collection[str], proof: ProofOfAbsence) -> None:
    """Broken unless the pages are a reading of exactly these records; full, if what is missing is to be suspect."""
    require(bool(pages) and pages[-1].is_last, "the last page does not say that it is the last")
    require(not any(page.is_last for page in pages[:-1]), "a page before the last says that it is the last")
    is_full = all(page.is_full for page in pages) or isinstance(proof, DeleteEvents | NeverGone)
    require(is_full, "a full reading does not say that it is full")
    seen = [each.partner_id for page in pages for each in page.records]
    missing, more = set(ids) - set(seen), set(seen) - set(ids)
    require(not missing, f"{len(missing)} of {len(ids)} records did not come")
    require(not more, f"{len(more)} records came that are not there")
    require(len(seen) == len(set(seen)), "a record came twice")
    totals = {page.total for page in pages} - {None}
    require(totals <= {len(ids)}, "the total that was told is not how many there are")
