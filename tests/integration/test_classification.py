"""Unknown once, known for ever: an operator's word on an unknown error holds for what came, what comes and what stands
parked, over real HTTP, in every tenant, and becomes a patch for the code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

import psycopg
import pytest
from alert_bench import Receiver, Trouble, add_target, running_receiver
from board_bench import serving, token_of, visitor
from conftest import NewTenant, Said, Tenant
from evidence import is_told
from flow_bench import broken_promises, forget_backoff, forget_hold, push_now
from psycopg.types.json import Jsonb
from test_operate import due_tenants
from test_orca import clinic, orca  # noqa: F401  # fixtures
from test_orca import settle as settle_clinic

from partners.contract import Entity
from partners.fhir import codes as fhir_codes
from partners.fhir.sandbox import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from partners.orca import codes as orca_codes
from partners.orca.apis import Api
from partners.orca.sandbox import FaultKind as OrcaFault
from partners.orca.sandbox.testing import RunningOrca
from partners.reasons import Language, Owner, all_reasons
from partners.smarthr import codes as smarthr_codes
from partners.wire import Answered
from resources.logins import Login, Logins
from zest_pipelines.core.alarm import IDENTIFYING, detail_of, fingerprint_of
from zest_pipelines.core.classification import UNKNOWN, Classification
from zest_pipelines.flows import classify
from zest_pipelines.flows.alerts import CALM, look, send
from zest_pipelines.flows.holding import FAULTS
from zest_pipelines.flows.land import land
from zest_pipelines.flows.services import Services
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import badges, classifications, requests
from zest_pipelines.store.errors import StoreError

ROOT = Path(__file__).parents[2]
TEAPOT = fingerprint_of("fhir", "unknown", "create HTTP 418")


def refuse(sandbox: RunningSandbox, status: int = 418, **whom: object) -> None:
    """Let the partner answer writes with a status that nobody knows."""
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", type="Appointment", status=status, **whom))  # type: ignore[arg-type]


def badge(tenant: Tenant, visit: UUID) -> tuple[str, str | None]:
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        (found,) = badges.of_record(tx, tenant.name, Entity.VISIT, visit)
    return found.badge, found.reason


def last(tenant: Tenant, visit: UUID) -> str:
    return tenant.outcomes(visit)[-1][1]


def stands(tenant: Tenant) -> tuple[str, str, dict[str, str]]:
    """The only open record's state, and the reason and parameters that are kept of its answer."""
    (row,) = tenant.sql("SELECT state, reason, params FROM sync.pending", Login.OPERATOR)
    return row.state, row.reason, row.params


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def pass_minutes(
    services: Services, receiver: Receiver, server: EmbeddedServer, logins: Logins
) -> Iterator[Callable[[int], None]]:
    add_target(services, receiver)
    with psycopg.connect(server.admin_url, dbname=logins.database, autocommit=True) as admin:

        def passes(minutes: int) -> None:
            for _ in range(minutes):
                look(services)
                send(services)
                Trouble(admin).pass_time(1)

        yield passes


Minutes = Callable[[int], None]
OVER = int(CALM.total_seconds() // 60) + 2


def test_what_is_tried_again_goes_out_when_the_fault_ends_and_its_alert_is_over(
    tenant: Tenant, sandbox: RunningSandbox, receiver: Receiver, pass_minutes: Minutes, zest: Said
) -> None:
    visit = tenant.add_visit()
    refuse(sandbox)
    push_now(tenant)
    assert stands(tenant) == ("parked", "unknown", {"detail": "create HTTP 418"})
    is_told("unknown", stands(tenant)[2])
    assert badge(tenant, visit) == ("check_needed", "unknown")
    pass_minutes(1)
    assert receiver.kinds() == (1, 0)
    (alert,) = json.loads(zest("alerts", "show", "--json")[1])["alerts"]
    (seen,) = json.loads(zest("errors", "list", "--json")[1])["errors"]
    assert alert["fingerprint"] == seen["fingerprint"] == TEAPOT
    assert (seen["occurrences"], seen["tenants"], seen["word"]) == (1, ["sakura"], None)

    code, shown, _ = zest("errors", "classify", TEAPOT, "partner_failed", "--json")
    would = json.loads(shown)
    assert (code, would["classified"], would["requests"], list(would["stopped"])) == (0, False, {}, ["sakura"])
    assert badge(tenant, visit) == ("check_needed", "unknown")
    code, shown, told = zest("errors", "classify", TEAPOT, "partner_failed", "--yes")
    assert code == 0, told
    assert "sakura" in shown
    assert "parked" in shown
    assert "自動で" in shown
    assert due_tenants(tenant) == {("sakura",)}
    assert badge(tenant, visit)[1] == "partner_failed"
    (asked,) = tenant.sql("SELECT request_id FROM sync.retry_request", Login.OPERATOR)

    push_now(tenant)  # the fault goes on
    assert [each for _, each in tenant.outcomes(visit)] == ["unknown", "parked", "released", "unknown", "retry"]
    assert badge(tenant, visit)[0] == "retrying"
    sandbox.clear_faults()
    forget_backoff(tenant)
    push_now(tenant)
    assert last(tenant, visit) == "delivered"
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        status = requests.status(tx, asked.request_id)
    assert (status.total, status.delivered, status.is_done) == (1, 1, True)
    pass_minutes(OVER)
    assert receiver.kinds() == (1, 1)
    assert broken_promises(tenant) == []
    kept = tenant.sql("SELECT reason FROM sync.result WHERE reason IS NOT NULL ORDER BY result_no", Login.OPERATOR)
    assert [row.reason for row in kept] == [
        *("unknown", "unknown", "asked_again", "unknown", "not_arrived"),
    ]  # history is as it was answered


def test_what_is_the_users_stays_parked_with_the_users_action_and_tells_us_nothing_in_any_tenant(
    tenant: Tenant,
    new_tenant: NewTenant,
    sandbox: RunningSandbox,
    receiver: Receiver,
    pass_minutes: Minutes,
    zest: Said,
) -> None:
    visit = tenant.add_visit()
    refuse(sandbox)
    push_now(tenant)
    pass_minutes(1)
    code, shown, told = zest("errors", "classify", TEAPOT, "content_refused", "--yes")
    assert code == 0, told
    assert "stays so" in shown
    assert due_tenants(tenant) == {()}
    assert badge(tenant, visit) == ("action_needed", "content_refused")
    words = is_told("content_refused", {"detail": "create HTTP 418"})
    with serving(tenant.services.database) as address:
        token = token_of(tenant.services.database, tenant.name)
        for language in Language:
            with visitor(address, token, language.value) as person:
                page = person.get(f"/records/visit/{visit}").text
                assert words[language][1].replace('"', "&#34;") in page
        with visitor(address, token, "en") as person:
            assert "content_refused" in person.get("/").text
    code, shown, _ = zest("explain", "sakura", "visit", str(visit), "--json")
    answered = [step for step in json.loads(shown)["timeline"] if step["what"] == "answered"]
    assert [(each["reason"], "Visits" in each["next_action"]) for each in answered] == [("content_refused", True)] * 2
    (status,) = json.loads(zest("status", "--json")[1])["connections"]
    assert status["last_error"]["reason"] == "content_refused"
    groups = json.loads(zest("badges", "sakura", "--json", "--language", "ja")[1])
    assert "content_refused" in json.dumps(groups)

    momiji = new_tenant(sandbox, "momiji")  # who meets it for the first time
    momiji.take_in()
    other = momiji.add_visit()
    assert {each.reason for each in push_now(momiji).problems} == {"content_refused"}
    assert (last(momiji, other), badge(momiji, other)) == ("parked", ("action_needed", "content_refused"))
    pass_minutes(OVER)
    assert receiver.kinds() == (1, 1)  # nothing new, and the old one is over
    (seen,) = json.loads(zest("errors", "list", "--json")[1])["errors"]
    assert (seen["occurrences"], seen["tenants"], seen["word"]["code"]) == (2, ["momiji", "sakura"], "content_refused")


def test_the_later_word_wins_and_taken_back_it_is_unknown_again(
    tenant: Tenant, sandbox: RunningSandbox, receiver: Receiver, pass_minutes: Minutes, zest: Said
) -> None:
    visit = tenant.add_visit()
    refuse(sandbox)
    push_now(tenant)
    _, shown, _ = zest("errors", "classify", TEAPOT, "content_refused", "--yes", "--json", "--note", "a profile")
    assert json.loads(shown)["classified"] is True
    assert zest("errors", "classify", TEAPOT, "partner_busy", "--yes")[0] == 0
    push_now(tenant)
    assert badge(tenant, visit) == ("retrying", "partner_busy")
    assert zest("errors", "unclassify", TEAPOT, "--note", "it was a mistake")[0] == 0
    assert badge(tenant, visit)[1] == "unknown"
    pass_minutes(1)
    assert receiver.kinds() == (1, 0)
    forget_backoff(tenant)
    push_now(tenant)
    assert stands(tenant)[:2] == ("parked", "unknown")
    said = tenant.sql("SELECT code, note FROM sync.classification ORDER BY word_no", Login.OPERATOR)
    assert [tuple(row) for row in said] == [
        ("content_refused", "a profile"),
        ("partner_busy", ""),
        (None, "it was a mistake"),
    ]
    audited = tenant.sql(
        "SELECT detail ->> 'code' AS code FROM sync.audit WHERE act = 'classify' ORDER BY at", Login.OPERATOR
    )
    assert [row.code for row in audited] == ["content_refused", "partner_busy", None]
    assert zest("errors", "unclassify", TEAPOT)[0] == 2


def test_only_what_is_stopped_for_that_error_is_tried_again(
    tenant: Tenant, sandbox: RunningSandbox, zest: Said
) -> None:
    one, other, third = tenant.add_visit(), tenant.add_visit(), tenant.add_visit()
    sandbox.set_faults(
        *(
            FaultRule(FaultKind.STATUS, method="POST", identifier=str(visit), status=status, code="business-rule")
            for visit, status in ((one, 418), (other, 451), (third, 422))
        )
    )
    push_now(tenant)
    fingerprints = {each["fingerprint"] for each in json.loads(zest("errors", "list", "--json")[1])["errors"]}
    assert fingerprints == {TEAPOT, fingerprint_of("fhir", "unknown", "create HTTP 451")}
    sandbox.clear_faults()
    assert zest("errors", "classify", TEAPOT, "partner_failed", "--yes")[0] == 0
    push_now(tenant)
    assert [last(tenant, each) for each in (one, other, third)] == ["delivered", "parked", "parked"]


def test_an_answer_in_doubt_parks_once_it_is_known_not_to_have_arrived_and_goes_again_when_it_is_explained(
    clinic: Tenant,  # noqa: F811
    orca: RunningOrca,  # noqa: F811
    zest: Said,
) -> None:
    """ORCA refuses in an answer that looks like any other: whether it was taken has to be looked up."""
    visit = clinic.add_visit()
    orca.fail(OrcaFault.CODE, api="appointmodv2", code="Q7")
    push_now(clinic)
    assert [each for _, each in clinic.outcomes(visit)] == ["unknown", "parked"]
    assert stands(clinic) == ("parked", "unknown", {"detail": "appointmodv2 Q7"})
    cause = fingerprint_of("orca", "unknown", "appointmodv2 Q7")
    assert zest("errors", "classify", cause, "partner_locked", "--yes")[0] == 0
    for _ in range(3):
        push_now(clinic)
        forget_backoff(clinic)
    assert "parked" not in [each for _, each in clinic.outcomes(visit)][2:]  # the fault goes on
    orca.set_faults()
    settle_clinic(clinic)
    assert last(clinic, visit) == "delivered"
    assert len(orca.state()["appointments"]) == 1


@pytest.mark.parametrize(
    ("sent", "looks", "ends"),
    [
        ((FaultKind.CUT_BEFORE, {}), [403], ["unknown", "retry", "delivered"]),
        ((FaultKind.CUT_BEFORE, {}), [418], ["unknown", "retry", "delivered"]),
        ((FaultKind.STATUS, {"status": 418}), [503], ["unknown", "parked"]),
        ((FaultKind.STATUS, {"status": 418}), [403, 503], ["unknown", "parked"]),
    ],
)
def test_what_its_own_call_was_answered_decides_whatever_the_looks_after_it_met(
    tenant: Tenant,
    sandbox: RunningSandbox,
    sent: tuple[FaultKind, dict[str, int]],
    looks: list[int],
    ends: list[str],
) -> None:
    visit = tenant.add_visit()
    kind, how = sent
    for status in looks:
        sandbox.set_faults(
            FaultRule(kind, method="POST", type="Appointment", **how),  # type: ignore[arg-type]
            FaultRule(FaultKind.STATUS, method="GET", type="Appointment", status=status),
        )
        push_now(tenant)
        forget_backoff(tenant)
        push_now(tenant)
        forget_backoff(tenant)
        forget_hold(tenant)
    sandbox.clear_faults()
    push_now(tenant)
    outcomes = [each for _, each in tenant.outcomes(visit)]
    assert outcomes.count("unknown") > len(looks)  # each of them was stored
    assert list(dict.fromkeys(outcomes)) == ends
    if ends[-1] == "parked":
        assert stands(tenant)[1:] == ("unknown", {"detail": "create HTTP 418"})


def test_a_reading_is_told_by_what_its_error_was_called(
    tenant: Tenant, sandbox: RunningSandbox, receiver: Receiver, pass_minutes: Minutes, zest: Said
) -> None:
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="GET", status=418))
    assert land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT).reason == "unknown"
    pass_minutes(1)
    assert receiver.kinds() == (1, 0)
    cause = fingerprint_of("fhir", "unknown", "read HTTP 418")
    assert zest("errors", "classify", cause, "partner_failed", "--yes")[0] == 0
    (status,) = json.loads(zest("status", "--json")[1])["connections"]
    assert status["last_error"]["reason"] == "partner_failed"
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        (connection,) = badges.of_connections(tx, tenant.name)
    assert (connection.badge, connection.reason) == ("retrying", "partner_failed")
    assert land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT).reason == "partner_failed"
    pass_minutes(OVER)
    assert receiver.kinds() == (1, 1)


# --- Mutants: each way in which a word may fail to hold is noticed ----------------------------------------------------


def past(tenant: Tenant, sandbox: RunningSandbox) -> list[str]:
    """What is wrong with how what came is told."""
    visit = tenant.add_visit()
    refuse(sandbox)
    push_now(tenant)
    say(tenant.services, "content_refused")
    return [] if badge(tenant, visit) == ("action_needed", "content_refused") else ["the badge tells the old reason"]


def future(tenant: Tenant, sandbox: RunningSandbox) -> list[str]:
    """What is wrong with how what comes is treated."""
    refuse(sandbox)
    tenant.add_visit()
    push_now(tenant)
    say(tenant.services, "partner_failed")
    late = tenant.add_visit()
    push_now(tenant)
    return [] if last(tenant, late) == "retry" else ["it was parked"]


def unparked(tenant: Tenant, sandbox: RunningSandbox) -> list[str]:
    """What is wrong with how what stands parked goes on."""
    visit = tenant.add_visit()
    refuse(sandbox)
    push_now(tenant)
    sandbox.clear_faults()
    say(tenant.services, "partner_failed")
    told = [] if due_tenants(tenant) == {("sakura",)} else ["nobody is due"]
    push_now(tenant)
    return told if last(tenant, visit) == "delivered" else [*told, "it is not delivered"]


def say(services: Services, code: str) -> None:
    (seen,) = [each for each in classify.unknown_errors(services) if each.fingerprint == TEAPOT]
    classify.classify(services, seen, code, "")


@pytest.mark.parametrize("scene", [past, future, unparked])
def test_the_scenes_find_nothing_wrong(
    tenant: Tenant, sandbox: RunningSandbox, scene: Callable[..., list[str]]
) -> None:
    assert scene(tenant, sandbox) == []


def test_that_what_came_keeps_its_old_reason_is_noticed(
    tenant: Tenant, sandbox: RunningSandbox, server: EmbeddedServer, logins: Logins
) -> None:
    broken = """
        CREATE OR REPLACE FUNCTION sync.told(partner text, params jsonb) RETURNS text LANGUAGE sql STABLE
        SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT 'unknown' $$
    """
    with psycopg.connect(server.admin_url, dbname=logins.database, autocommit=True) as admin:
        admin.execute(broken)
    assert past(tenant, sandbox) != []


def test_that_what_comes_is_parked_all_the_same_is_noticed(tenant: Tenant, sandbox: RunningSandbox) -> None:
    with patch.object(Classification, "given", lambda *_: None):
        assert future(tenant, sandbox) != []


def test_that_nobody_asks_for_what_is_parked_is_noticed(tenant: Tenant, sandbox: RunningSandbox) -> None:
    with patch.object(requests, "groups", lambda *_: ()):
        assert unparked(tenant, sandbox) != []


def test_what_a_push_parked_that_had_not_heard_of_the_word_goes_on_with_the_next(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    """The word was said while that push was under way, so its request is older than what it parked."""
    visit = tenant.add_visit()
    refuse(sandbox)
    push_now(tenant)
    say(tenant.services, "partner_failed")
    with patch.object(Classification, "given", lambda *_: None):
        push_now(tenant)
    assert last(tenant, visit) == "parked"
    assert due_tenants(tenant) == {("sakura",), ()}  # no person waits for it
    sandbox.clear_faults()
    push_now(tenant)
    assert last(tenant, visit) == "delivered"
    answered = tenant.sql("SELECT reason FROM sync.delivery WHERE outcome = 'released' ORDER BY step", Login.OPERATOR)
    assert [row.reason for row in answered] == ["asked_again", "error_explained"]
    is_told("error_explained")


def test_what_is_the_whole_connections_goes_on_by_itself_too(tenant: Tenant, sandbox: RunningSandbox) -> None:
    """Its breaker says when."""
    visit = tenant.add_visit()
    refuse(sandbox)
    push_now(tenant)
    say(tenant.services, "credential_refused")
    assert due_tenants(tenant) == {("sakura",)}
    assert push_now(tenant).stopped == "credential_refused"
    assert "parked" not in [each for _, each in tenant.outcomes(visit)][2:]
    (hold,) = tenant.sql("SELECT reason, params FROM sync.hold", Login.OPERATOR)
    assert tuple(hold) == ("unknown", {"detail": "create HTTP 418"})  # as it was answered: a word can be taken back
    assert badge(tenant, visit)[1] == "credential_refused"
    say(tenant.services, "address_wrong")
    assert badge(tenant, visit)[1] == "address_wrong"
    sandbox.clear_faults()
    for _ in range(2):  # a look, and another try
        forget_backoff(tenant)
        forget_hold(tenant)
        push_now(tenant)
    assert last(tenant, visit) == "delivered"


def test_a_connection_that_an_operators_word_has_stopped_goes_on_when_it_is_taken_back(
    tenant: Tenant, sandbox: RunningSandbox, zest: Said
) -> None:
    tenant.add_visit()
    refuse(sandbox)
    push_now(tenant)
    code, shown, told = zest("errors", "classify", TEAPOT, "credential_refused", "--note", "a guess", "--yes")
    assert (code, "nothing else is sent over that tenant's connection" in shown) == (0, True), told
    assert push_now(tenant).stopped == "credential_refused"
    sandbox.clear_faults()
    late = tenant.add_visit()
    assert (push_now(tenant).calls, due_tenants(tenant)) == (0, {()})
    code, _, told = zest("errors", "unclassify", TEAPOT)
    assert (code, "Connections that it held go on" in told) == (0, True)
    assert ("sakura",) in due_tenants(tenant)
    push_now(tenant)
    assert last(tenant, late) == "delivered"


def test_what_is_not_tried_again_by_ourselves_parks_whoever_it_concerns(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    visit = tenant.add_visit()
    refuse(sandbox)
    push_now(tenant)
    say(tenant.services, "request_malformed")
    visit = tenant.add_visit()
    push_now(tenant)
    assert last(tenant, visit) == "parked"


def test_a_partner_that_answers_every_call_as_nobody_knows_is_out_of_order(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    for _ in range(FAULTS + 3):
        tenant.add_visit()
    sandbox.set_faults(FaultRule(FaultKind.STATUS, status=418))
    assert push_now(tenant).stopped == "partner_maintenance"


# --- Who may say what -------------------------------------------------------------------------------------------------


@pytest.fixture
def teapot(tenant: Tenant, sandbox: RunningSandbox) -> Tenant:
    tenant.add_visit()
    refuse(sandbox)
    push_now(tenant)
    return tenant


@pytest.mark.parametrize(
    ("fingerprint", "code", "says"),
    [
        (TEAPOT, "partner_fialed", "partner_failed"),
        (TEAPOT, "xyz", "docs/errors.md"),
        ("00000000", "partner_failed", "zest errors list"),
        (TEAPOT, "unknown", "explains nothing"),
        (TEAPOT, "record_refused", "mention field"),
        (TEAPOT, "permission_missing", "mention permission"),
        (TEAPOT, "insurance_refused", "another protocol's"),
        (TEAPOT, "run_failed", "our own"),
        (TEAPOT, "found_different", "our own"),  # no fault
        (TEAPOT, "nothing_to_cancel", "our own"),
        (TEAPOT, "scope_refused", "our own"),  # of the token that a connection is opened with
        (TEAPOT, "secret_missing", "our own"),
    ],
)
def test_a_word_that_cannot_be_meant_is_refused_with_what_to_write(
    teapot: Tenant, zest: Said, fingerprint: str, code: str, says: str
) -> None:
    ended, shown, told = zest("errors", "classify", fingerprint, code, "--yes")
    assert (ended, shown) == (2, "")
    assert says in told
    assert teapot.sql("SELECT 1 FROM sync.classification", Login.OPERATOR) == []


def test_what_is_known_cannot_be_called_otherwise(
    teapot: Tenant, sandbox: RunningSandbox, pass_minutes: Minutes, zest: Said
) -> None:
    refuse(sandbox, 400, code="structure")
    teapot.add_visit()
    push_now(teapot)
    pass_minutes(1)
    known = fingerprint_of("fhir", "request_malformed", "")
    ended, _, told = zest("errors", "classify", known, "partner_busy", "--yes")
    assert ended == 2
    assert "request_malformed, which is known" in told
    assert [each.code for each in all_reasons() if each.owner is Owner.UNKNOWN] == [UNKNOWN]


def test_the_database_takes_no_word_that_explains_nothing_and_only_an_operators(teapot: Tenant) -> None:
    for code in ("unknown", "not_there"):
        with (
            pytest.raises(StoreError, match="no such reason"),
            teapot.services.database.transaction(Login.OPERATOR, None) as tx,
        ):
            classifications.classify(tx, "fhir", "create HTTP 418", code, "")
    for login in (Login.PRODUCT, Login.PUSH, Login.BOARD):
        with pytest.raises(Exception, match="42501"):
            teapot.sql("SELECT sync.classify('fhir', 'create HTTP 418', 'partner_busy', '')", login)


def test_a_tenant_sees_its_own_alone(teapot: Tenant, new_tenant: NewTenant, sandbox: RunningSandbox) -> None:
    momiji = new_tenant(sandbox, "momiji")
    count = "SELECT tenant_id FROM sync.unexplained"
    assert [row.tenant_id for row in teapot.sql(count, Login.OPERATOR)] == ["sakura"]
    assert momiji.sql(count, Login.OPERATOR) == []


def test_nothing_of_the_record_is_kept_with_an_unknown_error(teapot: Tenant) -> None:
    (row,) = teapot.sql("SELECT partner, params FROM sync.unexplained", Login.OPERATOR)
    assert tuple(row) == ("fhir", {"detail": "create HTTP 418"})


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"detail": ""},
        {"detail": "appointmodv2 Q7"},
        {"detail": "予約 Q7", "record": "42", "field": "note"},
        {name: name.upper() for name in reversed(IDENTIFYING)},
        {"detail": "x" * 300, "code": "y"},
    ],
)
def test_the_database_and_the_platform_give_a_cause_the_same_fingerprint(
    server: EmbeddedServer, logins: Logins, params: dict[str, str]
) -> None:
    with psycopg.connect(server.admin_url, dbname=logins.database) as admin:
        row = admin.execute("SELECT sync.cause('fhir', %s)", [Jsonb(params)]).fetchone()
    assert row == (fingerprint_of("fhir", "unknown", detail_of(params)),)


def test_what_no_table_knows_is_unknown_by_call_and_status_or_code_and_each_another_cause() -> None:
    def answer(status: int, body: bytes = b"") -> Answered:
        return Answered(status, {}, body, datetime.now(UTC))

    found = [
        orca_codes.denial(Api.APPOINT, answer(418)),
        orca_codes.denial(Api.APPOINT, answer(451)),
        orca_codes.denial(Api.ACCEPT, answer(418)),
        orca_codes.failure(Api.APPOINTMENTS, answer(999)),
        smarthr_codes.failure(answer(418)),
        smarthr_codes.failure(answer(418, b'{"code": 418, "type": "x", "message": "y"}')),
        fhir_codes.denial(fhir_codes.Act.CREATE, answer(418), "Appointment"),
        fhir_codes.denial(fhir_codes.Act.UPDATE, answer(418), "Encounter"),
    ]
    assert {each.reason for each in found if hasattr(each, "reason")} == {"unknown"}
    assert [each.params["detail"] for each in found if hasattr(each, "params")] == [
        *("appointmodv2 HTTP 418", "appointmodv2 HTTP 451", "acceptmodv2 HTTP 418", "appointlst2v2 HTTP 999"),
        *("HTTP 418", "SmartHR 418", "create HTTP 418", "update HTTP 418"),
    ]
    assert smarthr_codes.failure(answer(204)).reason == "answer_unreadable"  # a success that says nothing


# --- The patch --------------------------------------------------------------------------------------------------------

_ASKED = """
from datetime import UTC, datetime
from partners.fhir.codes import Act, denial
from partners.wire import Answered
print(denial(Act.CREATE, Answered(418, {{}}, b"", datetime.now(UTC)), "Appointment"))
"""


def test_the_exported_patch_applies_and_the_code_then_knows_the_error(
    teapot: Tenant, zest: Said, tmp_path: Path
) -> None:
    assert zest("errors", "export", TEAPOT)[0] == 2  # nobody has said anything
    assert "Nothing is classified" in zest("errors", "export")[2]
    code, _, told = zest("errors", "classify", TEAPOT, "content_refused", "--yes")
    assert (code, "zest errors export" in told) == (0, False)  # this table has no place for what it says
    code, exported, told = zest("errors", "export", TEAPOT)
    assert (code, exported, "no place for content_refused" in told) == (2, "", True)
    assert zest("errors", "classify", TEAPOT, "partner_failed", "--yes")[0] == 0
    code, exported, told = zest("errors", "export")
    assert code == 0, told
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "partners", copy / "partners")
    shutil.copytree(ROOT / "tests/unit", copy / "tests/unit")
    shutil.copy(ROOT / "pyproject.toml", copy)

    def ran(*command: str, given: str | None = None) -> str:
        ended = subprocess.run(command, cwd=copy, input=given, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    before = ran(sys.executable, "-c", _ASKED.format())
    assert "'unknown'" in before
    ran("patch", "-p1", given=exported)
    assert "Unknown(reason='partner_failed_unsure'" in ran(sys.executable, "-c", _ASKED.format())
    ruff = str(Path(sys.executable).parent / "ruff")
    ran(ruff, "check", "partners")
    ran(ruff, "format", "--check", "partners")
    ran(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", "tests/unit/test_reasons.py")


@pytest.mark.parametrize(
    ("partner", "detail", "code", "line"),
    [
        (
            "orca",
            "appointmodv2 Q7",
            "partner_locked",
            '(Api.APPOINT, "Q7"): Meaning("partner_locked", Unknown, Re',
        ),
        (
            "orca",
            "acceptmodv2 Q7",
            "content_refused",
            'Unknown, RejectedError, "classified", {"detail": _SHOWN})',
        ),
        ("orca", "appointmodv2 HTTP 418", "slot_taken", '(Api.APPOINT, "HTTP 418"): Meaning("slot_taken", Un'),
        ("orca", "appointmodv2 HTTP 999", "partner_busy", '(Api.APPOINT, "HTTP 999"): Meaning("partner_busy", '),
        ("smarthr", "SmartHR 77", "partner_busy", '77: Meaning("partner_busy", RetryableError'),
        ("smarthr", "HTTP 418", "plan_insufficient", '418: Meaning("plan_insufficient", RejectedError'),
        (
            "fhir",
            "update HTTP 418",
            "changed_at_partner",
            '(Act.UPDATE, 418): _row("changed_at_partner", Unknown',
        ),
        ("orca", "appointmodv2 ?", "partner_busy", None),  # a result that may hold data is told to nobody
        ("orca", "appointmodv2 90", "partner_busy", None),  # the table has it by now
        ("smarthr", "SmartHR 7", "partner_busy", None),
        ("fhir", "create HTTP 422", "partner_busy", None),
        ("fhir", "create HTTP 418", "content_refused", None),  # this table has no place for what it says
    ],
)
def test_each_partners_table_says_where_the_row_goes(partner: str, detail: str, code: str, line: str | None) -> None:
    from partners.code_tables import patch as patch_of
    from partners.reasons import reason
    from partners.registry import PARTNERS

    row_of = PARTNERS[partner].code_row
    assert row_of is not None
    row = row_of(detail, reason(code))
    if line is None:
        assert row is None
        return
    assert row is not None
    exported = patch_of([row])
    assert line in exported
    assert exported.startswith(f"--- a/partners/{partner}/codes.py\n+++ b/partners/{partner}/codes.py\n@@ ")
    assert len(row.line) <= 120


def test_a_word_of_another_version_of_the_catalogue_counts_for_nothing() -> None:
    known = Classification("fhir", {TEAPOT: "no_more"})
    assert known.given("unknown", {"detail": "create HTTP 418"}) is None
    assert replace(known, codes={TEAPOT: "partner_busy"}).told("unknown", {"detail": "create HTTP 418"}).retried
