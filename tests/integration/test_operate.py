"""What an operator does by hand: pause, resume, a word on what is stopped. Seen at the partner, and by the clock."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import Said, Tenant
from evidence import is_told
from flow_bench import calls, copy_of, effects, forget_backoff, mark, push_now

from partners.contract import Entity
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login
from zest_pipelines.core.outcome import RepairOutcome
from zest_pipelines.flows.land import land
from zest_pipelines.flows.operate import abandon, abandon_all, adopt, pause, release, resume
from zest_pipelines.orchestration import demands
from zest_pipelines.store import due, results
from zest_pipelines.store.errors import (
    NotOpenError,
    SettledError,
    StoreError,
    UnknownConnectionError,
    UnknownRecordError,
    UnknownTenantError,
)
from zest_pipelines.store.keys import Key, Target
from zest_pipelines.store.requests import Selection
from zest_pipelines.store.results import Repair

RETRY = "SELECT sync.request_retry(:tenant, 'fhir', CAST(:kind AS text), CAST(:record AS uuid))"


def do(tenant: Tenant, act: Any, *given: Any) -> None:
    act(tenant.services, tenant.partner, tenant.name, *given)


def due_tenants(tenant: Tenant) -> set[tuple[str, ...]]:
    """Who is due, as the clock and as the sensor see it."""
    with tenant.services.database.transaction(Login.SCHEDULE, None) as tx:
        return {
            due.outbound(tx, tenant.partner.name, tenant.partner.mapping_version),
            due.urgent(tx, tenant.partner.name),
        }


def audited(tenant: Tenant, act: str) -> list[Any]:
    rows = tenant.sql(
        "SELECT subject, actor, detail FROM sync.audit WHERE act = :act ORDER BY at", Login.OPERATOR, act=act
    )
    return [(row.subject, row.actor, row.detail) for row in rows]


def row_of(tenant: Tenant) -> Any:
    (row,) = tenant.sql("SELECT paused_at, pause_reason, changed_at FROM sync.connection", Login.OPERATOR)
    return row


def refuse(sandbox: RunningSandbox, *records: UUID) -> None:
    """Let the partner refuse these records."""
    sandbox.set_faults(
        *(FaultRule(FaultKind.STATUS, identifier=str(each), status=422, code="business-rule") for each in records)
    )


def test_a_connection_is_paused_and_resumed_and_what_is_parked_stays_so(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    bad = tenant.add_visit()
    refuse(sandbox, bad)
    assert push_now(tenant).parked == 1
    sandbox.clear_faults()
    visit = tenant.add_visit()
    before = row_of(tenant)

    do(tenant, pause, " moving house ")
    first = row_of(tenant)
    do(tenant, pause, "and painting it")

    paused = row_of(tenant)
    assert (paused.paused_at, paused.pause_reason) == (first.paused_at, "and painting it")
    start = mark(sandbox)
    assert push_now(tenant).stopped == "connection_paused"
    assert due_tenants(tenant) == {()}
    for _ in range(2):
        do(tenant, resume)
    assert (row_of(tenant).paused_at, row_of(tenant).pause_reason) == (None, None)
    assert row_of(tenant).changed_at == before.changed_at
    assert push_now(tenant).delivered == 1
    assert len(calls(sandbox, after=start)) == 1
    assert (effects(sandbox, visit), effects(sandbox, bad)) == (["created"], [])
    assert audited(tenant, "pause") == [
        ("fhir", "zest_operator", {"reason": reason}) for reason in ("moving house", "and painting it")
    ]
    assert audited(tenant, "resume") == [("fhir", "zest_operator", {})]  # the second one changed nothing


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_pause_without_a_reason_is_refused_with_the_next_step(tenant: Tenant, reason: str) -> None:
    with pytest.raises(StoreError, match="say why in one line"):
        do(tenant, pause, reason)
    assert row_of(tenant).paused_at is None


def abandon_one(*given: Any) -> None:
    abandon(*given, Entity.VISIT, uuid4(), "why")


@pytest.mark.parametrize(
    "act",
    [lambda *given: pause(*given, "why"), resume, release, abandon_one, lambda *given: abandon_all(*given, "why")],
)
def test_nobody_operates_on_a_connection_that_is_not_there(tenant: Tenant, act: Any) -> None:
    with pytest.raises(UnknownTenantError):
        act(tenant.services, tenant.partner, "momiji")
    with pytest.raises(UnknownConnectionError):
        act(tenant.services, replace(tenant.partner, name="another"), tenant.name)


def test_what_was_refused_is_tried_again_once_for_each_time_that_it_is_asked_for(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    bad, worse = tenant.add_visit(), tenant.add_visit()
    refuse(sandbox, bad, worse)
    assert push_now(tenant).parked == 2
    assert due_tenants(tenant) == {()}

    do(tenant, release)

    assert due_tenants(tenant) == {("sakura",)}  # no hand is needed from here on
    refuse(sandbox, worse)
    report = push_now(tenant)
    assert (report.delivered, report.parked) == (1, 1)
    assert tenant.outcomes(bad) == [(1, "parked"), (1, "released"), (1, "delivered")]
    assert due_tenants(tenant) == {()}
    start = mark(sandbox)
    push_now(tenant)
    assert calls(sandbox, after=start) == []
    assert audited(tenant, "release") == [("fhir", "zest_operator", {})]
    released = tenant.sql("SELECT DISTINCT reason FROM sync.result WHERE outcome = 'released'", Login.OPERATOR)
    assert [row.reason for row in released] == ["asked_again"]
    is_told("asked_again")


def test_the_products_own_button_does_the_same(tenant: Tenant, sandbox: RunningSandbox) -> None:
    bad = tenant.add_visit()
    refuse(sandbox, bad)
    push_now(tenant)
    sandbox.clear_faults()
    tenant.sql("SELECT sync.request_retry(:tenant, 'fhir')", tenant=tenant.name)
    assert due_tenants(tenant) == {("sakura",)}
    assert push_now(tenant).delivered == 1
    with pytest.raises(StoreError, match="an operator makes one with zest connect"):
        tenant.sql("SELECT sync.request_retry(:tenant, 'another')", tenant=tenant.name)
    with pytest.raises(StoreError, match="not the one set in this transaction"):
        tenant.sql("SELECT sync.request_retry('momiji', 'fhir')")


@pytest.mark.parametrize(
    ("kind", "of", "words"),
    [
        ("client", "the visit", "it is visit or visit_record"),
        ("client", "all", "it is visit or visit_record"),
        ("visit_record", "the visit", "look its kind and id up in sync.badge"),
        ("visit", "nothing", "look its kind and id up in sync.badge"),
        (None, "nothing", "look its kind and id up in sync.badge"),
    ],
)
def test_the_products_button_says_what_is_wrong_with_what_it_was_given(
    tenant: Tenant, kind: str | None, of: str, words: str
) -> None:
    record = {"the visit": tenant.add_visit(), "nothing": uuid4(), "all": None}[of]
    push_now(tenant)
    with pytest.raises(StoreError, match=words):
        tenant.sql(RETRY, tenant=tenant.name, kind=kind, record=record)


def test_the_products_button_takes_one_record_with_or_without_its_kind(tenant: Tenant, sandbox: RunningSandbox) -> None:
    bad, worse = tenant.add_visit(), tenant.add_visit()
    refuse(sandbox, bad, worse)
    push_now(tenant)
    sandbox.clear_faults()
    tenant.sql(RETRY, tenant=tenant.name, kind="visit", record=bad)
    assert push_now(tenant).delivered == 1
    tenant.sql(RETRY, tenant=tenant.name, kind=None, record=worse)
    assert push_now(tenant).delivered == 1


def test_one_record_or_one_kind_can_be_asked_for(tenant: Tenant, sandbox: RunningSandbox) -> None:
    one, other = tenant.add_visit(), tenant.add_visit()
    refuse(sandbox, one, other)
    push_now(tenant)
    do(tenant, release, Selection(Entity.VISIT_RECORD))
    assert due_tenants(tenant) == {()}
    for given in ((None, uuid4()), (Entity.VISIT_RECORD, one)):
        with pytest.raises(UnknownRecordError, match="check the id"):
            do(tenant, release, Selection(*given))
        assert due_tenants(tenant) == {()}, given
    sandbox.clear_faults()
    do(tenant, release, Selection(Entity.VISIT, one))
    assert push_now(tenant).delivered == 1
    assert (effects(sandbox, one), effects(sandbox, other)) == (["created"], [])
    assert audited(tenant, "release")[-1] == ("fhir", "zest_operator", {"entity": "visit", "record": str(one)})
    do(tenant, release, Selection(Entity.VISIT))
    assert push_now(tenant).delivered == 1


def test_where_nobody_can_be_asked_nobody_has_said_yes(tenant: Tenant, sandbox: RunningSandbox, zest: Said) -> None:
    refuse(sandbox, tenant.add_visit())
    push_now(tenant)
    code, _, told = zest("release", tenant.name, "fhir")
    assert (code, "--yes" in told, due_tenants(tenant)) == (2, True, {()})
    assert zest("release", tenant.name, "fhir", "visit_record", "--yes")[0] == 0  # nothing of these is stopped
    assert due_tenants(tenant) == {()}
    assert zest("release", tenant.name, "fhir", "--yes")[0] == 0
    assert due_tenants(tenant) != {()}


def test_a_program_that_asks_for_json_is_shown_what_would_go_again_and_says_yes_by_an_option(
    tenant: Tenant, sandbox: RunningSandbox, zest: Said
) -> None:
    code, shown, _ = zest("release", tenant.name, "fhir", "--json", "--yes")  # nothing is stopped
    nothing = json.loads(shown)
    assert (code, nothing["released"], nothing["request"], nothing["tried_again"]) == (0, False, None, [])
    refuse(sandbox, tenant.add_visit())
    push_now(tenant)
    code, shown, told = zest("release", tenant.name, "fhir", "--json")
    assert (code, "Nothing was done" in told, "--yes" in told) == (0, True, True)
    would = json.loads(shown)
    assert (would["released"], would["request"], len(would["tried_again"])) == (False, None, 1)
    assert due_tenants(tenant) == {()}
    code, shown, _ = zest("release", tenant.name, "fhir", "--json", "--yes")
    done = json.loads(shown)
    assert (code, done["released"], done["tried_again"]) == (0, True, would["tried_again"])
    assert done["request"]
    assert due_tenants(tenant) != {()}


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_one_record_that_is_named_goes_again_at_once(
    tenant: Tenant, sandbox: RunningSandbox, zest: Said, more: tuple[str, ...]
) -> None:
    visit = tenant.add_visit()
    refuse(sandbox, visit)
    push_now(tenant)
    code, _, told = zest("release", tenant.name, "fhir", "visit", str(visit), *more)
    assert (code, "goes again" in told) == (0, True), told
    assert due_tenants(tenant) != {()}


def test_a_conflict_is_decided_for_our_copy_and_a_retry_does_not_wait_for_its_time(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    theirs, slow = tenant.add_visit(), tenant.add_visit()
    push_now(tenant)
    sandbox.put(copy_of(sandbox, theirs) | {"comment": "theirs"})
    for each in (theirs, slow):
        tenant.edit_visit(each, note="ours")
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="PUT", identifier=str(slow), status=429, times=1))
    report = push_now(tenant)
    assert (report.conflict, report.retry) == (1, 1)
    do(tenant, release)
    assert push_now(tenant).delivered == 2
    assert [copy_of(sandbox, each)["comment"] for each in (theirs, slow)] == ["ours"] * 2


def test_a_paused_connection_keeps_the_request_until_it_goes_on(tenant: Tenant, sandbox: RunningSandbox) -> None:
    bad = tenant.add_visit()
    refuse(sandbox, bad)
    push_now(tenant)
    sandbox.clear_faults()
    do(tenant, pause, "moving house")
    do(tenant, release)
    assert due_tenants(tenant) == {()}
    push_now(tenant)
    do(tenant, resume)
    assert due_tenants(tenant) == {("sakura",)}
    assert push_now(tenant).delivered == 1


def test_a_fault_of_the_whole_connection_is_tried_at_once_when_asked_again(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    tenant.add_visit()
    sandbox.set_faults(FaultRule(FaultKind.STATUS, method="POST", status=401, times=1))
    assert push_now(tenant).stopped == "credential_refused"
    assert push_now(tenant).stopped == "credential_refused"
    do(tenant, release)
    assert push_now(tenant).delivered == 1


def wanted_runs(tenant: Tenant) -> set[tuple[str, ...]]:
    """Who gets a run to push, by the clock and by the sensor."""
    asked = (demands.pushes_due(tenant.partner), demands.new_edits(tenant.partner))
    with tenant.services.database.transaction(Login.SCHEDULE, None) as tx:
        return {tuple(each.who(tx)) for each in asked}


def set_token(tenant: Tenant, token: str) -> None:
    sealed = tenant.services.vault.encrypt({"token": token}, tenant=tenant.name, partner=tenant.partner.name)
    update = "UPDATE sync.credential SET ciphertext = :sealed, changed_at = clock_timestamp()"
    tenant.sql(update, Login.OPERATOR, sealed=sealed)


def hold(tenant: Tenant) -> None:
    """Have the partner refuse the credential at one record while another one waits; then an edit comes."""
    for _ in range(2):
        tenant.add_visit()
    set_token(tenant, "an-old-one")
    assert push_now(tenant).stopped == "credential_refused"
    tenant.add_visit()


def test_a_refused_credential_makes_nobody_due_until_the_next_probe_which_takes_up_new_edits(tenant: Tenant) -> None:
    hold(tenant)
    assert wanted_runs(tenant) == {()}

    tenant.sql("UPDATE sync.hold SET until = clock_timestamp()", Login.PUSH)  # what a quarter of an hour does
    assert wanted_runs(tenant) == {(tenant.name,)}
    report = push_now(tenant)
    assert (report.retry, report.pending, report.stopped) == (1, 3, "credential_refused")


@pytest.mark.parametrize("by", ["credential", "connection", "reading", "days asked for", "another try"])
def test_a_held_connection_is_due_at_once_when_something_speaks_for_it(
    tenant: Tenant, sandbox: RunningSandbox, by: str
) -> None:
    hold(tenant)
    match by:
        case "credential":
            set_token(tenant, "a-new-one")
        case "connection":
            tenant.sql("UPDATE sync.connection SET changed_at = clock_timestamp()", Login.OPERATOR)
        case "reading":
            sandbox.configure(token="an-old-one")
            assert land(tenant.services, tenant.partner, tenant.name, Entity.STAFF).is_certified
        case "days asked for":
            tenant.sql("SELECT sync.request_push(:tenant, 'fhir', '2026-12-01', '2026-12-01')", tenant=tenant.name)
        case "another try":
            do(tenant, release)
    assert wanted_runs(tenant) == {(tenant.name,)}
    start = mark(sandbox)
    push_now(tenant)
    assert len(calls(sandbox, after=start)) > 0


def test_a_record_that_is_given_up_ends_without_a_call_and_a_later_edit_is_sent(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    bad, other = tenant.add_visit(), tenant.add_visit()
    refuse(sandbox, bad, other)
    assert push_now(tenant).parked == 2
    sandbox.clear_faults()
    start = mark(sandbox)

    do(tenant, abandon, Entity.VISIT, bad, " it is held elsewhere ")

    assert ("sakura",) in due_tenants(tenant)  # no hand is needed from here on
    report = push_now(tenant)
    assert (report.abandoned, report.pending) == (1, 1)
    assert calls(sandbox, after=start) == []
    assert [tenant.outcomes(each) for each in (bad, other)] == [[(1, "parked"), (1, "abandoned")], [(1, "parked")]]
    assert badge_of(tenant, bad) == "ok"
    detail = {"entity": "visit", "record": str(bad), "version": 1, "reason": "it is held elsewhere"}
    assert audited(tenant, "abandon") == [("fhir", "zest_operator", detail)]
    tenant.edit_visit(bad, note="and yet")
    assert push_now(tenant).delivered == 1
    assert effects(sandbox, bad) == ["created"]


def badge_of(tenant: Tenant, visit: UUID) -> str:
    (row,) = tenant.sql("SELECT badge FROM sync.badge WHERE record_id = :id AND entity = 'visit'", id=visit)
    return str(row.badge)


def test_a_word_stands_for_the_version_that_was_open_and_no_other(tenant: Tenant, sandbox: RunningSandbox) -> None:
    visit = tenant.add_visit(note="1")
    refuse(sandbox, visit)
    push_now(tenant)
    sandbox.clear_faults()
    do(tenant, abandon, Entity.VISIT, visit, "not this one")
    tenant.edit_visit(visit, note="2")
    report = push_now(tenant)
    assert (report.delivered, report.abandoned) == (1, 0)
    assert copy_of(sandbox, visit)["comment"] == "2"


def test_a_record_that_a_person_found_at_the_partner_is_delivered_there_and_edited_there(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    neighbour, visit = tenant.add_visit(note="next to it"), tenant.add_visit(note="ours")
    refuse(sandbox, visit)
    push_now(tenant)
    sandbox.clear_faults()
    start, theirs = mark(sandbox), "as-they-typed-it-in"
    with pytest.raises(StoreError, match="another record of this tenant"):
        do(tenant, adopt, Entity.VISIT, visit, copy_of(sandbox, neighbour)["id"], "the wrong line of their screen")

    do(tenant, adopt, Entity.VISIT, visit, f" {theirs} ", "seen on their screen")

    push_now(tenant)
    assert tenant.outcomes(visit)[-1] == (1, "delivered")
    assert calls(sandbox, "POST", "PUT", after=start) == []
    (known,) = tenant.sql("SELECT partner_id FROM sync.standing WHERE record_id = :id", Login.OPERATOR, id=visit)
    assert known.partner_id == theirs
    (noted,) = audited(tenant, "adopt")
    assert noted[2] == {"entity": "visit", "record": str(visit), "version": 1, "reason": "seen on their screen"}


def test_all_that_is_open_is_given_up_at_once_when_a_tenant_is_gone(tenant: Tenant, sandbox: RunningSandbox) -> None:
    parked, delivered = tenant.add_visit(), tenant.add_visit()
    refuse(sandbox, parked)
    push_now(tenant)
    waiting = tenant.add_visit(client_id=uuid4())
    push_now(tenant)
    start = mark(sandbox)
    do(tenant, abandon_all, "the contract has ended")
    report = push_now(tenant)
    assert (report.abandoned, report.pending) == (2, 0)
    assert calls(sandbox, after=start) == []
    assert [tenant.outcomes(each)[-1][1] for each in (parked, waiting, delivered)] == ["abandoned"] * 2 + ["delivered"]
    detail = {"records": 2, "reason": "the contract has ended"}
    assert audited(tenant, "abandon_all") == [("fhir", "zest_operator", detail)]


def test_a_word_needs_a_record_that_is_open_and_a_reason(tenant: Tenant, sandbox: RunningSandbox) -> None:
    delivered = tenant.add_visit()
    push_now(tenant)
    for act in (lambda *given: abandon(*given, "why"), lambda *given: adopt(*given, "a-1", "why")):
        with pytest.raises(UnknownRecordError, match="check the id"):
            do(tenant, act, Entity.VISIT, uuid4())
        with pytest.raises(NotOpenError, match=f"zest explain sakura visit {delivered}"):
            do(tenant, act, Entity.VISIT, delivered)
    waiting = tenant.add_visit(client_id=uuid4())
    push_now(tenant)
    for act in (lambda *given: abandon(*given, " "), lambda *given: adopt(*given, "a-1", "")):
        with pytest.raises(StoreError, match="say why"):
            do(tenant, act, Entity.VISIT, waiting)
    assert tenant.sql("SELECT FROM sync.decision", Login.OPERATOR) == []
    assert [row.act for row in tenant.sql("SELECT act FROM sync.audit", Login.OPERATOR)] == ["add_tenant", "connect"]


def test_a_settled_record_that_may_not_be_right_can_be_taken_as_right_and_not_given_up(tenant: Tenant) -> None:
    visit = tenant.add_visit()
    push_now(tenant)
    key = Key(date(2026, 12, 1), Entity.VISIT, visit, 1)
    late = [
        Repair(key, RepairOutcome.SUSPECTED, "late_answer"),
        Repair(key, RepairOutcome.PARKED, "late_answer_unsure"),
    ]
    with tenant.services.database.transaction(Login.PUSH, tenant.name) as tx:
        results.add_repairs(tx, Target(tenant.name, tenant.partner.name), late)
    with pytest.raises(SettledError, match=f"zest explain sakura visit {visit}.*zest adopt sakura fhir visit {visit}"):
        do(tenant, abandon, Entity.VISIT, visit, "why")
    do(tenant, adopt, Entity.VISIT, visit, "there", "seen on their screen")
    assert push_now(tenant).calls == 0
    with pytest.raises(NotOpenError, match=f"zest explain sakura visit {visit}"):
        do(tenant, abandon, Entity.VISIT, visit, "why")


def test_what_was_never_for_the_partner_cannot_be_tried_again(tenant: Tenant) -> None:
    visit = tenant.add_visit()  # nobody has looked at the edit so far
    for entity in (Entity.VISIT, None):
        with pytest.raises(NotOpenError, match=f"zest explain sakura visit {visit}"):
            do(tenant, release, Selection(entity, visit))


def test_a_word_needs_no_call_so_a_pause_does_not_hold_it_up(tenant: Tenant, sandbox: RunningSandbox) -> None:
    bad = tenant.add_visit()
    refuse(sandbox, bad)
    push_now(tenant)
    do(tenant, pause, "moving house")
    do(tenant, abandon, Entity.VISIT, bad, "why")
    assert ("sakura",) in due_tenants(tenant)
    start = mark(sandbox)
    push_now(tenant)
    assert tenant.outcomes(bad)[-1] == (1, "abandoned")
    assert calls(sandbox, after=start) == []


def test_words_and_what_became_of_a_suspicion_stand_in_the_records_story(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    bad = tenant.add_visit()
    refuse(sandbox, bad)
    push_now(tenant)
    do(tenant, abandon, Entity.VISIT, bad, "it is held elsewhere")
    push_now(tenant)
    story = "SELECT what, outcome, params ->> 'why' AS why FROM sync.delivery WHERE record_id = :id ORDER BY at, step"
    told = [tuple(row) for row in tenant.sql(story, id=bad)]
    assert told[-3:] == [
        ("answered", "parked", None),
        ("decided", "abandon", "it is held elsewhere"),
        ("settled", "abandoned", None),
    ]


def test_what_was_given_up_in_doubt_is_looked_for_before_a_later_edit_is_sent(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    sandbox.configure(conditional_create=False)
    visit = tenant.add_visit(note="1")
    sandbox.set_faults(
        FaultRule(FaultKind.APPLY_THEN_STATUS, method="POST", times=1), FaultRule(FaultKind.STATUS, status=503)
    )
    push_now(tenant)
    assert tenant.outcomes(visit)[-1] == (1, "unknown")
    do(tenant, abandon, Entity.VISIT, visit, "why")
    push_now(tenant)
    assert tenant.outcomes(visit)[-1] == (1, "abandoned")
    sandbox.clear_faults()
    tenant.edit_visit(visit, note="2")
    push_now(tenant)
    assert tenant.outcomes(visit)[-1] == (2, "retry")  # it is there already, and otherwise
    forget_backoff(tenant)
    push_now(tenant)
    assert copy_of(sandbox, visit)["comment"] == "2"
