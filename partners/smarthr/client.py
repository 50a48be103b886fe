"""The connector: what the platform may ask of a SmartHR, in the terms of the contract. It writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

from partners.contract import Access, CheckReport, Command, Entity, Gone, Page, SourceRecord
from partners.errors import AuthenticationError
from partners.smarthr import reading
from partners.smarthr.server import Server

_NOTHING_WRITTEN = "SmartHR is only read"


class SmartHrConnector:
    """A contract.Connector for one connection."""

    batch_size = 1

    def __init__(self, server: Server) -> None:
        self._server = server

    def check(self) -> CheckReport:
        """Read one crew with the token."""
        may_read = True
        try:
            self._server.look()
        except AuthenticationError as error:
            if error.reason != "permission_missing":
                raise
            may_read = False
        return CheckReport("SmartHR", (Access(Entity.STAFF, may_read, None),))

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        """As the contract says. ValueError for an entity that is not read here."""
        _check(entity)
        return reading.read_crews(self._server, cursor, resume)

    def fetch(self, entity: Entity, partner_id: str) -> SourceRecord | Gone:
        """As the contract says. Gone only if SmartHR itself says so."""
        _check(entity)
        return reading.fetch_crew(self._server, partner_id)

    def send(self, command: Command) -> NoReturn:
        """ValueError: nothing is written."""
        raise ValueError(_NOTHING_WRITTEN)

    def send_batch(self, commands: Sequence[Command]) -> NoReturn:
        """ValueError: nothing is written."""
        raise ValueError(_NOTHING_WRITTEN)

    def find(self, command: Command) -> NoReturn:
        """ValueError: nothing is written, so nothing is looked for."""
        raise ValueError(_NOTHING_WRITTEN)

    def close(self) -> None:
        """Close the HTTP client."""
        self._server.client.close()


def _check(entity: Entity) -> None:
    if entity is not Entity.STAFF:
        raise ValueError(f"not read from SmartHR: {entity}")
