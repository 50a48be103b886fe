"""What the tests of care CSV share: a folder, an office that exchanges with it, connectors, commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from fhir_bench import NotingGate

from partners.carecsv import partner as declaration
from partners.carecsv.actuals import parsed
from partners.carecsv.client import CareCsvConnector
from partners.carecsv.layouts import INSURED, INSURER
from partners.carecsv.partner import CARECSV
from partners.carecsv.sandbox.office import RECEIVER, CareOffice, made_up
from partners.contract import Command, Connection, Connector, Entity, Verb, Visit, VisitRecord
from resources.http import Http

STARTS = datetime(2026, 12, 1, 0, 30, tzinfo=UTC)
SETTINGS = {"office": RECEIVER, "kind": "13"}


@contextmanager
def connected(
    office: CareOffice, gate: Any = None, *, still: float = 0.0, batch_size: str = "500", **settings: str
) -> Iterator[Connector]:
    """A connector to the office's folder; `still`: seconds for which nobody must have touched a file."""
    connection = Connection("hidamari", "carecsv", office.base.as_uri(), SETTINGS | settings)
    with patch.object(declaration, "STILL_SECONDS", still):
        opened = CARECSV.open(connection, {}, Http().client(), gate or NotingGate())
    assert isinstance(opened, CareCsvConnector)
    connector = replace(opened, batch_size=int(batch_size))
    try:
        yield connector
    finally:
        connector.close()


def client_id(number: int) -> str:
    """The partner's id of the made-up client of that number."""
    row = made_up(1, number)
    return f"{row[INSURER]}-{row[INSURED]}"


def visit(client: int = 1, *, minutes: int = 0, note: str = "玄関は開いています") -> Command:
    """The creation of a visit of an hour."""
    starts = STARTS + timedelta(minutes=minutes)
    fields = Visit(starts, starts + timedelta(hours=1), "131111", note)
    return Command(Entity.VISIT, Verb.CREATE, uuid4(), 1, str(uuid4()), fields, {Entity.CLIENT: client_id(client)})


def visit_record(of: Command, *, status: str = "done", late: int = 3) -> Command:
    """The creation of the record of a visit, which began some minutes late."""
    assert isinstance(of.fields, Visit)
    began = of.fields.starts_at + timedelta(minutes=late) if status == "done" else None
    fields = VisitRecord(began, of.fields.ends_at if began else None, status, "変わりなし")
    links = {Entity.VISIT: f"{of.links[Entity.CLIENT]}/{of.record_id}", Entity.CLIENT: of.links[Entity.CLIENT]}
    return Command(Entity.VISIT_RECORD, Verb.CREATE, of.record_id, 1, str(uuid4()), fields, links)


def stored(office: CareOffice, command: Command) -> list[Any]:
    """What is kept of a command's record, read by hand."""
    found = []
    for file in (office.base / "zest-state").glob("*.json"):
        kept = parsed(file.read_bytes())
        told = kept.told(command.entity, str(command.record_id))
        found += [] if told is None else [told]
    return found
