"""What the tests of the ORCA connector share: an ORCA with made-up people, connectors, commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fhir_bench import NotingGate

from partners.contract import Command, Connection, Connector, Entity, Verb, Visit, VisitRecord
from partners.orca.appointments import mark_of
from partners.orca.partner import ORCA
from partners.orca.sandbox import OrcaConfig
from partners.orca.sandbox.testing import RunningOrca
from resources.http import Http

CONFIG = OrcaConfig(user="zest", password="a-word", clients=30, staff=8)
SECRET = {"user": "zest", "password": "a-word"}
SETTINGS = {"department": "01", "default_doctor": "10001"}
STARTS = datetime(2026, 12, 1, 0, 30, tzinfo=UTC)
NURSE = "20002"
RECORDED = Path(__file__).parents[3] / "shared" / "fixtures" / "orca"


def recorded(name: str) -> bytes:
    """A recorded answer of a real ORCA, or a sample of its documents; the test is skipped without."""
    file = RECORDED / name
    if not file.exists():
        pytest.skip(f"{name} is not beside the project: recorded answers are not part of it")
    return file.read_bytes()


@contextmanager
def connected(
    url: str, *, gate: Any = None, seconds: float = 10.0, secret: Any = None, **settings: str
) -> Iterator[Connector]:
    """A connector that gives up an exchange after `seconds`."""
    connection = Connection("hidamari", "orca", url, SETTINGS | settings)
    client = Http(total_seconds=seconds).client()
    connector = ORCA.open(connection, SECRET if secret is None else secret, client, gate or NotingGate())
    try:
        yield connector
    finally:
        connector.close()


def patients(orca: RunningOrca) -> list[str]:
    """The numbers of all patients who are nobody's test."""
    found = orca.state()["patients"]
    return [number for number, row in found.items() if row.get("TestPatient_Flag") != "1"]


def visit(orca: RunningOrca, **changes: Any) -> Command:
    """The creation of a visit that the sandbox has not seen, by a doctor, at a time that nobody has."""
    starts = STARTS + timedelta(minutes=next(_minutes))
    links = {Entity.CLIENT: patients(orca)[0], Entity.STAFF: "10001"}
    fields = Visit(starts, starts + timedelta(hours=1), "112345", "玄関は開いています")
    command = {"entity": Entity.VISIT, "verb": Verb.CREATE, "record_id": uuid4(), "version": 1, "key": "k"}
    return Command(**(command | {"fields": fields, "links": links} | changes))


def visit_record(orca: RunningOrca, **changes: Any) -> Command:
    """The creation of the record of a visit, of a day on which nobody was accepted."""
    starts = STARTS + timedelta(days=next(_minutes))
    fields = VisitRecord(starts, starts + timedelta(minutes=55), "done", "変わりなし")
    return visit(orca, **({"entity": Entity.VISIT_RECORD, "fields": fields} | changes))


def stored(orca: RunningOrca, command: Command) -> list[dict[str, Any]]:
    """The appointments that carry the command's mark, with the note as it was sent but for its width."""
    mark = mark_of(command.record_id).translate(_WIDE)
    return [each for each in orca.state()["appointments"] if mark in each["note"]]


_WIDE = {code: code + 0xFEE0 for code in range(ord("!"), ord("~") + 1)}
_minutes = iter(range(1, 10_000))
