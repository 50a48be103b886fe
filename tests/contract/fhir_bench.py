"""What the tests of the FHIR connector share: a gate that takes notes, connectors, commands, a scripted server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from partners.certification.trial import NotingGate
from partners.contract import Command, Connection, Connector, Entity, Verb, Visit, VisitRecord
from partners.fhir.partner import FHIR
from partners.fhir.sandbox import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox
from resources.http import Http

CONFIG = SandboxConfig(token="a-token", clients=30, staff=16)
SETTINGS = {
    "patient_identifier_system": CONFIG.patient_identifier_system,
    "staff_identifier_system": CONFIG.staff_identifier_system,
}
STARTS = datetime(2026, 11, 24, 0, 30, tzinfo=UTC)


@contextmanager
def connected(
    url: str, *, token: str = "a-token", gate: Any = None, seconds: float = 10.0, **settings: str
) -> Iterator[Connector]:
    """A connector that gives up an exchange after `seconds`."""
    connection = Connection("hidamari", "fhir", url, SETTINGS | settings)
    client = Http(total_seconds=seconds).client()
    connector = FHIR.open(connection, {"token": token}, client, gate or NotingGate())
    try:
        yield connector
    finally:
        connector.close()


def ids(sandbox: RunningSandbox, resource_type: str) -> list[str]:
    """The ids of all live records of a type."""
    return [resource["id"] for resource in sandbox.state(resource_type)]


def visit(sandbox: RunningSandbox, **changes: Any) -> Command:
    """The creation of a visit that the sandbox has not seen."""
    links = {Entity.CLIENT: ids(sandbox, "Patient")[0], Entity.STAFF: ids(sandbox, "Practitioner")[0]}
    fields = Visit(STARTS, STARTS + timedelta(hours=1), "112345", "玄関は開いています")
    command = {"entity": Entity.VISIT, "verb": Verb.CREATE, "record_id": uuid4(), "version": 1, "key": "k"}
    return Command(**(command | {"fields": fields, "links": links} | changes))


def visit_record(sandbox: RunningSandbox, visit_id: str, **changes: Any) -> Command:
    """The creation of the record of a visit that was made."""
    fields = VisitRecord(STARTS, STARTS + timedelta(minutes=55), "done", "変わりなし")
    planned = visit(sandbox)
    links = {**planned.links, Entity.VISIT: visit_id}
    return visit(sandbox, **({"entity": Entity.VISIT_RECORD, "fields": fields, "links": links} | changes))


def stored(sandbox: RunningSandbox, command: Command) -> list[dict[str, Any]]:
    """What the sandbox holds under the command's identifier."""
    kind = "Appointment" if command.entity is Entity.VISIT else "Encounter"
    value = str(command.record_id)
    return [each for each in sandbox.state(kind) if each["identifier"][0]["value"] == value]


Answer = tuple[int, Mapping[str, str], bytes]


@dataclass
class ScriptedServer:
    """A server that answers what the test's function says, and remembers what came."""

    url: str
    seen: list[tuple[str, Mapping[str, str]]]


@contextmanager
def scripted_server(answer: Callable[[str], Answer]) -> Iterator[ScriptedServer]:
    """Serve GET on loopback. `answer` gets path and query; a date among its headers is the only one."""
    seen: list[tuple[str, Mapping[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, dict(self.headers)))
            status, headers, body = answer(self.path)
            (self.send_response_only if "date" in headers else self.send_response)(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield ScriptedServer(f"http://127.0.0.1:{server.server_port}", seen)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fhir(resource: Mapping[str, Any], status: int = 200) -> Answer:
    """A resource as a FHIR server answers it."""
    return status, {"content-type": "application/fhir+json"}, json.dumps(resource).encode()


def searchset(*resources: Mapping[str, Any], **links: str) -> Answer:
    """A page of a search with links by relation."""
    listed = [{"relation": relation, "url": url} for relation, url in links.items()]
    entries = [{"resource": resource} for resource in resources]
    return fhir({"resourceType": "Bundle", "type": "searchset", "link": listed, "entry": entries})
