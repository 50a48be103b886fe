"""Whatever fails, no patient data and no secret gets into what people and machines read about the failure.

Every text that a failure could carry holds a canary: names, numbers, notes, the token, and what the partner echoes.
"""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import NewTenant, Tenant
from cryptography.fernet import Fernet
from evidence import is_told
from flow_bench import accumulate_all, forget_backoff, impatient, push_now

from partners.contract import Client, Entity
from partners.errors import PartnerError
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from resources.logins import Login
from resources.vault import Vault, VaultError
from zest_pipelines.board.bundle import bundle
from zest_pipelines.flows import calls
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.check import check
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.push import push
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store.errors import ConstraintError, StoreError

NAME, KANA, PHONE, PLACE = "蟹工船太", "カナリヤ", "090-0000-4711", "鳥籠町一丁目"
NOTE, TOKEN = "黄色い小鳥", "tweety-s3cret-t0ken"
CANARIES = (NAME, KANA, PHONE, PLACE, NOTE, TOKEN)

PATIENT = {
    "resourceType": "Patient",
    "identifier": [{"system": SandboxConfig().patient_identifier_system, "value": PHONE}],
    "name": [{"text": f"{NAME} {KANA}", "family": NAME, "given": [KANA]}],
    "telecom": [{"system": "phone", "value": PHONE}],
    "address": [{"text": PLACE}],
    "gender": "female",
    "birthDate": "1940-01-01",
}
NOW = datetime(2026, 11, 26, tzinfo=UTC)
CALLS = "SELECT jsonb_array_elements(calls) FROM sync.result WHERE record_id = CAST(:visit AS uuid)"
READ_BY_PEOPLE = (
    "SELECT * FROM sync.result",
    "SELECT * FROM sync.pending",
    "SELECT * FROM sync.intent",
    "SELECT * FROM sync.lease",
    "SELECT * FROM sync.audit",
    "SELECT * FROM sync.snapshot",
    "SELECT * FROM sync.master_result",
    "SELECT kind, fields, problem, params FROM sync.master_change",
    "SELECT problem, params FROM sync.landed_version",
    "SELECT * FROM sync.badge",
    "SELECT * FROM sync.delivery",
    "SELECT * FROM sync.connection_health",
)


def leaks(text: str) -> list[str]:
    """The canaries in a text, as they are and as JSON and bytes spell them."""
    spelled = {each: (each, ascii(each)[1:-1], repr(each.encode())[2:-1]) for each in CANARIES}
    return [each for each, forms in spelled.items() if any(form in text for form in forms)]


def told(error: BaseException) -> str:
    """All that a log or a UI would show of an error."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)


def everything_said(tenant: Tenant, server: EmbeddedServer, caplog: pytest.LogCaptureFixture) -> str:
    """What the tables for people, the server's log and our own logs hold."""
    rows = [repr(tenant.sql(statement, Login.OPERATOR)) for statement in READ_BY_PEOPLE]
    log = (server.pgdata.parent / "logs" / "postgres.log").read_text()
    return "\n".join([*rows, log, caplog.text])


@dataclass
class Echo:
    """A partner that answers every write with what it was sent, token included, in one way or another."""

    url: str = ""
    status: int = 422
    is_html: bool = False
    said: int = 0

    def answer(self, method: str, shown: str) -> tuple[int, str, str]:
        """Status, content type and body."""
        self.said += any(each in shown for each in CANARIES)
        if self.is_html:
            return self.status, "text/html", f"<html><title>{shown}</title></html>"
        issue = {
            "severity": "error",
            "code": "invariant" if self.status == 422 else NAME,
            "diagnostics": shown,
            "details": {"text": shown},
            "expression": [f"Appointment.comment.where($this='{NOTE}')", f"Patient.name[0].{KANA}", PHONE],
        }
        outcome = {"resourceType": "OperationOutcome", "id": NAME, "issue": [issue]}
        return self.status, "application/fhir+json", json.dumps(outcome, ensure_ascii=False)


@contextmanager
def echoing() -> Iterator[Echo]:
    """Serve an Echo on loopback."""
    echo = Echo()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            sent = self.rfile.read(length).decode() + str(self.headers) + self.path + NAME + PHONE
            status, kind, body = echo.answer(self.command, sent)
            content = body.encode()
            self.send_response(status)
            for header, value in (("content-type", kind), ("content-length", str(len(content))), ("x-token", TOKEN)):
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_GET  # noqa: N815  # the names are the library's

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        echo.url = f"http://127.0.0.1:{server.server_port}"
        yield echo
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    """A partner with two clients, one of them a canary, and a staff of one."""
    with running_sandbox(SandboxConfig(token=TOKEN, clients=1, staff=1)) as running:
        running.put(PATIENT | {"id": "canary"})
        yield running


@pytest.fixture
def cage(sandbox: RunningSandbox, new_tenant: NewTenant, caplog: pytest.LogCaptureFixture) -> Tenant:
    """A tenant full of canaries, and every logger at its most talkative."""
    caplog.set_level(logging.DEBUG)
    tenant = new_tenant(sandbox, "cage", secret={"token": TOKEN})
    tenant.take_in()
    assert tenant.sql("SELECT FROM schedule.client WHERE family_name = :name", name=NAME) != []
    return impatient(tenant)


def test_a_record_that_cannot_be_taken_over_is_told_by_its_fields_alone(
    cage: Tenant, sandbox: RunningSandbox, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    odd: list[dict[str, Any]] = [
        {"gender": NAME},
        {"identifier": None},
        {"birthDate": PHONE},
        {"name": [{"family": f"{NAME}\u0000", "given": [KANA]}]},
        {"name": NAME},
        {"telecom": [{"system": "phone", "value": PHONE, "rank": NAME}]},
        {"modifierExtension": [{"url": f"urn:{NAME}", "valueString": PHONE}]},
        {"active": NAME},
        {"address": PLACE},
    ]
    for number, changes in enumerate(odd):
        resource = PATIENT | {"id": f"odd-{number}"} | changes
        sandbox.put({name: value for name, value in resource.items() if value is not None})

    def by_name(entity: Entity, content: Any, settings: Any) -> Any:
        master = cage.partner.map(entity, content, settings)
        return replace(master, birth_date=f"{NAME}{PHONE}") if isinstance(master, Client) else master

    sandbox.put(PATIENT | {"id": "refused-by-the-database"})
    careless = replace(cage.partner, map=by_name)
    reports: list[object] = [land(cage.services, careless, cage.name, Entity.CLIENT)]
    assert reports[0].unmappable >= 7  # type: ignore[attr-defined]
    reports += [station(cage.services, careless, cage.name, Entity.CLIENT) for station in (diff, apply)]
    assert reports[2].rejected >= 8  # type: ignore[attr-defined]
    assert leaks(repr(reports)) == []
    assert leaks(everything_said(cage, server, caplog)) == []


@pytest.mark.parametrize("is_html", [False, True])
def test_what_a_partner_echoes_goes_no_further(
    cage: Tenant, server: EmbeddedServer, caplog: pytest.LogCaptureFixture, is_html: bool
) -> None:
    move = "UPDATE sync.connection SET base_url = :url, changed_at = clock_timestamp()"
    for status in (200, 400, 401, 403, 404, 409, 412, 422, 429, 500, 503):
        visit = cage.add_visit(note=NOTE)
        said: list[object] = []
        with echoing() as echo:
            echo.status, echo.is_html = status, is_html
            cage.sql(move, Login.OPERATOR, url=echo.url)
            for _ in range(2):
                accumulate_all(cage)
                forget_backoff(cage, only=visit)
                said.append(push_now(cage))
            said += [land(cage.services, cage.partner, cage.name, entity) for entity in cage.partner.reads]
            with pytest.raises(PartnerError) as failed:
                check(cage.services, cage.partner, cage.name)
            assert echo.said >= 3
        assert cage.outcomes(visit) != [], status
        kept = cage.sql(CALLS, Login.OPERATOR, visit=visit)
        assert any(call["status"] == status and call["asked"] and call["answer"] for (call,) in kept), status
        with cage.services.database.transaction(Login.OPERATOR, cage.name) as tx:
            case = bundle(tx, cage.name, visit, NOW)
        assert leaks(json.dumps(case, ensure_ascii=False)) == [], status
        assert case is not None
        (connection,) = case["connections"]
        assert [call for each in connection["readings"]["client"] for call in each["calls"] or ()], status
        assert leaks(repr(said) + told(failed.value)) == [], status
        cage.edit_visit(visit, status="cancelled")  # the next one has the partner to itself
    assert leaks(everything_said(cage, server, caplog)) == []


def test_a_wrong_token_is_not_named(
    cage: Tenant, sandbox: RunningSandbox, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.configure(token="another one")
    cage.add_visit(note=NOTE)
    report = push_now(cage)
    assert (report.stopped, land(cage.services, cage.partner, cage.name, Entity.CLIENT).reason) == (
        "credential_refused",
        "credential_refused",
    )
    with pytest.raises(PartnerError) as failed:
        check(cage.services, cage.partner, cage.name)
    assert leaks(repr(report) + told(failed.value)) == []
    assert leaks(everything_said(cage, server, caplog)) == []


@pytest.mark.parametrize("token", [f"{TOKEN}\n{TOKEN}", f"{TOKEN}é", f"{TOKEN}\u3042"])
def test_a_token_that_cannot_be_sent_is_not_named(
    sandbox: RunningSandbox, new_tenant: NewTenant, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tenant = new_tenant(sandbox, "cage", secret={"token": token})
    report = land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    assert report.state == "failed"
    with pytest.raises(PartnerError) as failed:
        check(tenant.services, tenant.partner, tenant.name)
    assert leaks(repr(report) + told(failed.value) + caplog.text) == []


def test_a_credential_that_cannot_be_opened_stops_the_stations_and_is_not_shown(
    cage: Tenant, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    cage.add_visit(note=NOTE)
    accumulate_all(cage)
    services = replace(cage.services, vault=Vault([Fernet.generate_key().decode()]))
    pushed = push(services, cage.partner, cage.name)
    landed = land(services, cage.partner, cage.name, Entity.CLIENT)
    assert (pushed.stopped, landed.reason) == ("secret_unreadable", "secret_unreadable")
    is_told("secret_unreadable", landed.params)
    with pytest.raises(VaultError) as failed:
        check(services, cage.partner, cage.name)
    assert leaks(repr((pushed, landed)) + told(failed.value)) == []
    assert leaks(everything_said(cage, server, caplog)) == []


def test_what_the_database_refuses_is_told_without_the_values(
    cage: Tenant, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL itself would quote the whole row, and SQLAlchemy every parameter."""
    visit = cage.add_visit(note=NOTE)
    refused: list[tuple[str, Login, dict[str, Any]]] = [
        ("UPDATE schedule.visit SET note = :n, ends_at = starts_at", Login.PRODUCT, {"n": NOTE}),
        ("UPDATE schedule.visit SET status = :n", Login.PRODUCT, {"n": NAME}),
        ("UPDATE schedule.visit SET starts_at = CAST(:n AS timestamptz)", Login.PRODUCT, {"n": NAME}),
        ("UPDATE schedule.visit SET note = CAST(:n AS integer)::text", Login.PRODUCT, {"n": PHONE}),
        ("UPDATE schedule.client SET family_name = :n", Login.PRODUCT, {"n": NAME}),
        ("UPDATE sync.result SET reason = :n", Login.OPERATOR, {"n": NAME}),
        (f"SELECT {KANA} FROM schedule.visit", Login.PRODUCT, {}),
        (f'SELECT 1 AS "{NAME}" FROM sync."{KANA}"', Login.PRODUCT, {}),
    ]
    said = []
    for statement, login, values in refused:
        with pytest.raises(StoreError) as failed:
            cage.sql(statement, login, **values)
        said.append(told(failed.value).replace(statement, ""))  # the traceback quotes this file
    assert [error for error in said if leaks(error)] == []
    with pytest.raises(ConstraintError, match="sqlstate 23514"):
        cage.edit_visit(visit, status=NAME)
    assert leaks(everything_said(cage, server, caplog)) == []


def test_a_call_kept_as_it_was_would_be_seen(cage: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "masked", lambda content, kinds: content)
    cage.add_visit(note=NOTE)
    with echoing() as echo:
        echo.status = 422
        cage.sql(
            "UPDATE sync.connection SET base_url = :url, changed_at = clock_timestamp()", Login.OPERATOR, url=echo.url
        )
        push_now(cage)
    assert NOTE in leaks(repr(cage.sql("SELECT calls FROM sync.result", Login.OPERATOR)))


def test_the_canaries_would_be_seen() -> None:
    assert leaks(f"a log line with {NAME}") == [NAME]
    assert leaks(json.dumps({"note": NOTE})) == [NOTE]
    assert leaks(repr(PLACE.encode())) == [PLACE]
