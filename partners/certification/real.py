"""A bench at a real test system: nothing is injected, masters are as they are, and what was written is cancelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

from partners.certification.bench import Bench, NotOffered
from partners.certification.trial import Bounds, ClientMaker, NotingGate, following
from partners.contract import (
    Command,
    Connection,
    Connector,
    Delivered,
    Entity,
    Found,
    Partner,
    Recovery,
    Unmappable,
    Verb,
    Visit,
)
from partners.errors import PartnerError
from partners.limits import Rate, parse_limits


class RealBench(Bench):
    """One connection to a test system."""

    is_real = True

    def __init__(
        self,
        partner: Partner,
        address: tuple[str, Mapping[str, str], Mapping[str, str]],
        make_client: ClientMaker,
        first_visit: datetime,
    ) -> None:
        """`address`: address, secret and settings; `first_visit`: the visits that are written begin then and later."""
        self.partner, self._starts = partner, first_visit
        self.url, self.secret, self.settings = address
        self._make_client = make_client
        self._people: Mapping[Entity, str] | None = None
        self._written: dict[object, Command] = {}
        self.left: list[str] = []
        """The partner's ids of visits that could not be cancelled."""
        rates = [each for each in parse_limits(partner.limits, partner.endpoints) if isinstance(each, Rate)]
        self.pace = max((each.seconds / each.allowed for each in rates), default=0.0)

    def visit(self) -> Command:
        """Of the first active client whom a reading tells, and the first member of staff."""
        self._starts += timedelta(hours=1)
        fields = Visit(self._starts, self._starts + timedelta(minutes=30), "112345", "テスト")
        command = Command(Entity.VISIT, Verb.CREATE, uuid4(), 1, str(uuid4()), fields, self._links())
        self._written[command.record_id] = command
        return command

    def copies(self, command: Command) -> Sequence[object]:
        """As a read-back tells them."""
        if self.partner.capability.recovery in (Recovery.KEY, Recovery.NONE):
            raise NotOffered("its copies cannot be read back")
        connector = self._connector()
        try:
            found = connector.find(command)
        finally:
            connector.close()
        if not isinstance(found, Found):
            return []
        is_cancelled = ("status" in found.differing) is (command.verb is not Verb.CANCEL)
        if self.partner.capability.replaces and is_cancelled:
            return []
        return [(found.partner_id, found.partner_version, found.differing)]

    def heal(self) -> None:
        """Cancel what was written and is still there."""
        written, self._written = self._written, {}
        if not written or self.partner.capability.recovery in (Recovery.KEY, Recovery.NONE):
            return
        connector = self._connector()
        try:
            for command in written.values():
                self._cancel(connector, command)
        finally:
            connector.close()

    def _cancel(self, connector: Connector, command: Command) -> None:
        with suppress(PartnerError):
            found = connector.find(replace(command, verb=Verb.CANCEL))
            if not isinstance(found, Found) or found.matches:
                return
            if not isinstance(connector.send(following(command, found, Verb.CANCEL)), Delivered):
                self.left.append(found.partner_id)

    def _links(self) -> Mapping[Entity, str]:
        if self._people is None:
            connector = self._connector()
            try:
                found = {each: self._first(connector, each) for each in self.partner.masters}
            finally:
                connector.close()
            self._people = {entity: partner_id for entity, partner_id in found.items() if partner_id}
        if Entity.CLIENT not in self._people:
            raise NotOffered("it has no active client whom a visit could be written for")
        return self._people

    def _first(self, connector: Connector, entity: Entity) -> str | None:
        for page in connector.read(entity, None):
            for each in page.records:
                master = self.partner.map(entity, each.content, self.settings)
                if not isinstance(master, Unmappable) and master.active:
                    return each.partner_id
        return None

    def _connector(self) -> Connector:
        connection = Connection("certification", self.partner.name, self.url, self.settings)
        client = self._make_client(Bounds())
        return self.partner.open(connection, self.secret, client, NotingGate(self.pace))
