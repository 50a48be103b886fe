"""The connector: what the platform may ask of a folder of care CSV files, in the terms of the contract."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import httpx

from partners.carecsv import reading
from partners.carecsv.folder import Folder
from partners.contract import Access, CheckReport, Command, Entity, Gone, Page, SourceRecord

_NOTHING_WRITTEN = "care CSV is only read"


@dataclass(frozen=True)
class CareCsvConnector:
    """A contract.Connector for one connection."""

    folder: Folder
    office: str
    client: httpx.Client
    batch_size: int = 1

    def check(self) -> CheckReport:
        """List the folder."""
        self.folder.names()
        return CheckReport("care CSV", (Access(Entity.CLIENT, True, None),))

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        """As the contract says; never taken up midway. ValueError for an entity that is not read here."""
        _check(entity)
        return reading.read_clients(self.folder, self.office, cursor)

    def fetch(self, entity: Entity, partner_id: str) -> SourceRecord | Gone:
        """As the contract says."""
        _check(entity)
        return reading.fetch_client(self.folder, self.office, partner_id)

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
        """Close the HTTP client, which nothing is done with."""
        self.client.close()


def _check(entity: Entity) -> None:
    if entity is not Entity.CLIENT:
        raise ValueError(f"not read from care CSV: {entity}")
