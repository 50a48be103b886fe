"""Tokens that a FHIR server gives for a while: shared by all processes, renewed by one, told to nobody."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import NewTenant, Tenant
from cryptography.fernet import Fernet
from evidence import is_told
from flow_bench import accumulate_all, broken_promises, calls, impatient, mark, push_now
from swaps import swapped
from test_certificates import issue
from test_no_leaks import READ_BY_PEOPLE, told
from token_bench import CLIENT_ID, CONFIG, KEY_ID, PRIVATE, SECRET, crowd_of, hear, made_key, processes, smart, tell
from token_process import WITHOUT_TURNS

from partners.contract import Command, Connection, Connector, Entity, Gone, Reply, Token
from partners.errors import AuthenticationError, PartnerError
from partners.fhir.sandbox.config import ServerTls
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from partners.fhir.server import Server
from partners.reasons import explain
from resources.logins import Login
from resources.tls import Tls, context
from resources.vault import Vault
from zest_pipelines.flows.check import check
from zest_pipelines.flows.land import land
from zest_pipelines.flows.opening import connection_row, open_line
from zest_pipelines.flows.push import push
from zest_pipelines.flows.tokens import Tokens
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import tenants
from zest_pipelines.store.errors import StoreError

CONFIG_SETTINGS = {
    "patient_identifier_system": CONFIG.patient_identifier_system,
    "staff_identifier_system": CONFIG.staff_identifier_system,
}
DELAYED = {"kind": "delay_before", "type": "token", "seconds": 0.3}


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    """A server that gives tokens for five minutes."""
    with running_sandbox(CONFIG) as running:
        yield running


@pytest.fixture
def served(sandbox: RunningSandbox, new_tenant: NewTenant) -> Tenant:
    """A tenant that is known there by its key."""
    return new_tenant(sandbox, secret=SECRET)


def asked(sandbox: RunningSandbox) -> int:
    return int(sandbox.tokens()["asked"])


def read(tenant: Tenant) -> tuple[str, str | None]:
    report = land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    return report.state, report.reason


def is_read(tenant: Tenant) -> bool:
    return land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT).is_certified


def reconnect(tenant: Tenant, **secret: str) -> None:
    """As `zest connect` with another credential."""
    sealed = tenant.services.vault.encrypt({**SECRET, **secret}, tenant=tenant.name, partner="fhir")
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        row = tenants.connection(tx, tenant.name, "fhir")
        tenants.connect(
            tx, row.connection, timing="minute", limits=row.limits, land_every=row.land_every, ciphertext=sealed
        )


def kept(tenant: Tenant) -> dict[str, str]:
    (row,) = tenant.sql("SELECT ciphertext FROM sync.access_token", Login.BUDGET)
    return tenant.services.vault.decrypt(row.ciphertext, tenant=tenant.name, partner="fhir")


# --- One for all --------------------------------------------------------------------------------------------------


def test_a_token_serves_until_shortly_before_its_end(served: Tenant, sandbox: RunningSandbox) -> None:
    assert all(is_read(served) for _ in range(3))
    assert check(served.services, served.partner, served.name).report.access[0].may_read
    assert sandbox.tokens() == {"asked": 1, "given": 1}
    sandbox.configure(smart=smart(seconds=8.0))
    sandbox.revoke_tokens()
    assert is_read(served)
    (row,) = served.sql("SELECT good_until - clock_timestamp() AS left FROM sync.access_token", Login.OPERATOR)
    assert timedelta(seconds=2) < row.left <= timedelta(seconds=6)  # three quarters of its life
    served.sql("UPDATE sync.access_token SET good_until = clock_timestamp()", Login.BUDGET)  # what these seconds do
    given, after = asked(sandbox), mark(sandbox)
    assert is_read(served)
    assert asked(sandbox) == given + 1
    assert [row["status"] for row in calls(sandbox, after=after) if row["status"] != 200] == []


def test_two_processes_with_twenty_threads_ask_for_one(served: Tenant, sandbox: RunningSandbox) -> None:
    key = Fernet.generate_key().decode()
    tenant = replace(served, services=replace(served.services, vault=Vault([key])))
    reconnect(tenant)
    sandbox.set_faults(DELAYED)
    with processes(crowd_of(tenant, key, sandbox.state("Patient")[0]["id"], 10), 2) as started:

        def asked_by_all(how: str) -> int:
            """How many tokens they ask for, all of whose threads need one at the same moment."""
            before = asked(sandbox)
            for each in started:
                tell(each, how)
            assert [hear(each) for each in started] == ["10", "10"]
            return asked(sandbox) - before

        assert asked_by_all("in turns") == 1
        assert asked_by_all("in turns") == 0
        sandbox.revoke_tokens()
        assert asked_by_all("in turns") == 1
        sandbox.revoke_tokens()
        assert asked_by_all(WITHOUT_TURNS) > 1  # so it would be seen


def test_who_waited_for_one_that_is_refused_asks_no_more(served: Tenant) -> None:
    connection = Connection(served.name, "fhir", "http://x", {})
    own = [Tokens(served.services, connection, {}) for _ in range(2)]  # of two runs
    asked_by: list[int] = []

    def ask(number: int) -> Token:
        asked_by.append(number)
        time.sleep(0.3)
        raise AuthenticationError("client_refused")

    def heard(number: int) -> str:
        with pytest.raises(PartnerError) as failed:
            own[number % 2].token(partial(ask, number))
        return failed.value.reason

    with ThreadPoolExecutor(6) as pool:
        reasons = Counter(pool.map(heard, range(6)))
    assert reasons == {"client_refused": 1, "budget_deferred": 5}
    assert len(asked_by) == 1


def test_who_only_waited_for_a_look_asks_itself(served: Tenant) -> None:
    own = Tokens(served.services, Connection(served.name, "fhir", "http://x", {}), {})
    given = (Token(f"t{number}", timedelta(minutes=5)) for number in range(1000))
    assert own.token(lambda: next(given)) == "t0"
    with ThreadPoolExecutor(8) as pool, own._lock:
        looking = [pool.submit(own.token, lambda: next(given)) for _ in range(4)]
        refused = [pool.submit(own.token, lambda: next(given), "t0") for _ in range(4)]
        time.sleep(0.05)
    assert {each.result() for each in looking} <= {"t0", "t1"}
    assert {each.result() for each in refused} == {"t1"}


def test_another_credential_drops_the_token_and_so_does_another_vault_key(
    served: Tenant, sandbox: RunningSandbox
) -> None:
    assert is_read(served)
    before = kept(served)
    private, public = made_key()
    sandbox.configure(smart=smart(keys={"second": public}))
    reconnect(served, private_key=private, key_id="second")
    assert is_read(served)
    assert is_read(served)
    assert asked(sandbox) == 2
    assert kept(served)["access_token"] != before["access_token"]

    keys = Fernet.generate_key().decode()
    other = replace(served, services=replace(served.services, vault=Vault([keys])))
    reconnect(other, private_key=private, key_id="second")
    assert is_read(other)
    assert asked(sandbox) == 3


def test_where_the_token_cannot_be_looked_up_nobody_calls(
    served: Tenant, sandbox: RunningSandbox, server: EmbeddedServer
) -> None:
    assert is_read(served)
    after = mark(sandbox)
    with psycopg.connect(server.admin_url, dbname=served.services.database._logins.database) as admin:
        admin.execute("REVOKE ALL ON sync.access_token FROM zest_budget")
    with pytest.raises(StoreError):
        read(served)
    assert sandbox.journal(after) == []


def test_a_clock_that_is_five_seconds_off_costs_nothing(served: Tenant, sandbox: RunningSandbox) -> None:
    for number, seconds in enumerate((-5.0, 5.0), 1):
        sandbox.configure(smart=smart(clock_ahead=seconds))
        served.sql("UPDATE sync.access_token SET good_until = clock_timestamp()", Login.BUDGET)
        assert is_read(served)
        assert sandbox.tokens() == {"asked": number, "given": number}
    for seconds in (-65.0, 245.0):  # it is looked at
        sandbox.configure(smart=smart(clock_ahead=seconds))
        served.sql("UPDATE sync.access_token SET good_until = clock_timestamp()", Login.BUDGET)
        assert read(served) == ("failed", "client_refused")


def test_asking_for_a_token_is_a_call_like_any_other(new_tenant: NewTenant, sandbox: RunningSandbox) -> None:
    tenant = new_tenant(sandbox, secret=SECRET, limits=("endpoint=token:1/1d",))
    assert read(tenant) == ("failed", "budget_deferred")
    assert [row["path"] for row in sandbox.journal()] == ["/.well-known/smart-configuration"]
    assert asked(sandbox) == 0


# --- Refused ------------------------------------------------------------------------------------------------------


def test_a_token_that_is_refused_is_renewed_once(served: Tenant, sandbox: RunningSandbox) -> None:
    assert is_read(served)
    sandbox.revoke_tokens()
    assert is_read(served)
    assert asked(sandbox) == 2
    sandbox.revoke_tokens()
    with swapped([(Server, "_token", lambda real: lambda server, refused="": real(server))]):  # the mutant
        assert read(served) == ("failed", "credential_refused")


def test_a_token_that_somebody_else_got_and_that_is_revoked_too_is_renewed(
    served: Tenant, sandbox: RunningSandbox
) -> None:
    row = connection_row(served.services, served.partner, served.name, Login.LAND)
    with open_line(served.services, served.partner, row, timedelta(seconds=5)) as line:
        patient = sandbox.state("Patient")[0]["id"]
        line.connector.fetch(Entity.CLIENT, patient)
        sandbox.revoke_tokens()
        assert is_read(served)
        sandbox.revoke_tokens()
        assert line.connector.fetch(Entity.CLIENT, patient) != Gone()
    assert asked(sandbox) == 3


def test_a_server_that_refuses_what_it_has_just_given_is_left_alone(served: Tenant, sandbox: RunningSandbox) -> None:
    served.take_in()
    visits = [served.add_visit() for _ in range(3)]
    sandbox.configure(smart=smart(refuses=True))
    before, after = asked(sandbox), mark(sandbox)
    assert push_now(served).stopped == "credential_refused"
    assert asked(sandbox) == before + 1
    assert [row["status"] for row in calls(sandbox, kind="Appointment", after=after)] == [401, 401]
    assert read(served) == ("failed", "credential_refused")
    sandbox.configure(smart=smart())
    reconnect(served)  # a person looks at it
    assert push_now(served).stopped is None
    assert {outcome for visit in visits for _, outcome in served.outcomes(visit)} >= {"delivered"}
    assert broken_promises(served) == []


@pytest.mark.parametrize(("batch_size", "at"), [("1", 5), ("4", 2)])
def test_a_token_that_is_revoked_midway_loses_and_doubles_nothing(
    served: Tenant, sandbox: RunningSandbox, batch_size: str, at: int
) -> None:
    served.sql(
        "UPDATE sync.connection SET settings = settings || jsonb_build_object('batch_size', CAST(:size AS text))",
        Login.OPERATOR,
        size=batch_size,
    )
    served.take_in()
    for day in range(1, 25):
        served.add_visit(starts_at=f"2026-12-{day:02}T09:00+09:00", ends_at=f"2026-12-{day:02}T10:00+09:00")
    sent = 0

    class Revoking:
        """A connector whose token is revoked before one of its writes, while lanes are under way."""

        def __init__(self, inner: Connector) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def send(self, command: Command) -> Reply:
            self.revoke()
            return self.inner.send(command)

        def send_batch(self, commands: Any) -> Any:
            self.revoke()
            return self.inner.send_batch(commands)

        def revoke(self) -> None:
            nonlocal sent
            sent += 1
            if sent == at:
                sandbox.revoke_tokens()

    partner = replace(served.partner, open=lambda *given: Revoking(served.partner.open(*given)))
    accumulate_all(served)
    before = asked(sandbox)
    report = push(served.services, partner, served.name)
    assert report.stopped is None
    assert asked(sandbox) == before + 1
    assert broken_promises(served) == []
    assert len(sandbox.state("Appointment")) == 24


def test_a_wrong_key_and_a_scope_that_is_not_granted_say_what_to_do(
    new_tenant: NewTenant, sandbox: RunningSandbox
) -> None:
    private, _ = made_key()
    stranger = new_tenant(sandbox, "momiji", secret={**SECRET, "private_key": private})
    assert read(stranger) == ("failed", "client_refused")
    with pytest.raises(AuthenticationError) as failed:
        check(stranger.services, stranger.partner, stranger.name)
    assert CLIENT_ID in explain(failed.value.reason, failed.value.params)[1]
    is_told("client_refused", failed.value.params)
    assert asked(sandbox) == 2
    sandbox.configure(smart=smart(scopes="system/Patient.read"))
    tenant = new_tenant(sandbox, "sakura", secret=SECRET)
    assert read(tenant) == ("failed", "scope_refused")
    with pytest.raises(AuthenticationError) as refused:
        check(tenant.services, tenant.partner, tenant.name)
    is_told("scope_refused", refused.value.params)
    tenant.sql(
        'UPDATE sync.connection SET settings = settings || \'{"scopes": "system/Patient.read"}\'', Login.OPERATOR
    )
    assert is_read(tenant)


def test_a_push_that_gets_no_token_sends_nothing_and_goes_on_when_it_does(
    served: Tenant, sandbox: RunningSandbox
) -> None:
    served.take_in()
    visit = served.add_visit()
    sandbox.configure(smart=smart(keys={}))
    sandbox.revoke_tokens()
    after = mark(sandbox)
    assert push_now(served).stopped == "client_refused"
    assert [row["status"] for row in calls(sandbox, kind="Appointment", after=after)] == [401]
    sandbox.configure(smart=smart())
    reconnect(served)
    assert push_now(served).stopped is None
    assert served.outcomes(visit)[-1] == (1, "delivered")
    assert broken_promises(served) == []


# --- Kept to ourselves --------------------------------------------------------------------------------------------


def test_https_with_an_authority_of_its_own_and_our_certificate(
    new_tenant: NewTenant, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = issue()
    shown, ours = issue(authority), issue(authority)
    (tmp_path / "identity.pem").write_text(shown.pem + shown.key_pem())
    (tmp_path / "authority.pem").write_text(authority.pem)
    tls = ServerTls(tmp_path / "identity.pem", tmp_path / "authority.pem")
    certificates = {"ca_certificate": authority.pem, "client_certificate": ours.pem + ours.key_pem()}
    hand = context(Tls(authority.pem, certificates["client_certificate"]))
    with running_sandbox(replace(CONFIG, tls=tls), verify=hand) as sandbox:
        tenant = new_tenant(sandbox, secret={**SECRET, **certificates})
        assert is_read(tenant)
        assert sandbox.tokens() == {"asked": 1, "given": 1}
        without = new_tenant(sandbox, "momiji", secret={**SECRET, "ca_certificate": authority.pem})
        assert read(impatient(without))[0] == "failed"
        assert asked(sandbox) == 1


def test_no_token_no_key_and_no_assertion_is_told(
    new_tenant: NewTenant, sandbox: RunningSandbox, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tenant = new_tenant(sandbox, secret=SECRET)
    tenant.take_in()
    tenant.add_visit()
    said: list[object] = [push_now(tenant)]
    tokens = [kept(tenant)["access_token"]]
    sandbox.revoke_tokens()
    said.append(read(tenant))
    tokens.append(kept(tenant)["access_token"])
    for refusing in ({"refuses": True}, {"keys": {}}, {"scopes": "none"}):  # which echo the assertion
        sandbox.configure(smart=smart(**refusing))
        sandbox.revoke_tokens()
        tenant.add_visit()
        said += [push_now(tenant), read(tenant)]
        with pytest.raises(PartnerError) as failed:
            check(tenant.services, tenant.partner, tenant.name)
        said.append(told(failed.value))
        reconnect(tenant)
    key = PRIVATE.splitlines()[1]
    line = tenant.partner.open(
        Connection(tenant.name, "fhir", sandbox.url, CONFIG_SETTINGS), SECRET, tenant.services.http.client(), None
    )
    said += [vars(line), line._server]
    rows = [repr(tenant.sql(statement, Login.OPERATOR)) for statement in READ_BY_PEOPLE]
    log = (server.pgdata.parent / "logs" / "postgres.log").read_text()
    everything = "\n".join([repr(said), *rows, log, caplog.text, repr(sandbox.journal())])
    assert [each for each in (*tokens, key, "eyJ") if each in everything] == []
    assert KEY_ID in everything  # the search would find what is there
