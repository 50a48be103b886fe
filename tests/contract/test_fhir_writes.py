"""Every write against every fault, and what the sandbox then holds: the reply never claims more than is sure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from evidence import is_told
from fhir_bench import CONFIG, SETTINGS, NotingGate, connected, stored, visit, visit_record

from partners.contract import (
    Absent,
    Command,
    Conflict,
    Connection,
    Delivered,
    Entity,
    Found,
    Refused,
    Reply,
    Retry,
    Unknown,
    Verb,
)
from partners.errors import AuthenticationError, Deferred, PartnerError, RejectedError
from partners.fhir.partner import FHIR
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from partners.throttling import Told


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(CONFIG) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: RunningSandbox) -> Iterator[RunningSandbox]:
    yield shared_sandbox
    shared_sandbox.clear_faults()
    shared_sandbox.configure(
        token="a-token", read_only=False, stale_status=412, gone_status=410, conditional_create=True
    )


def delivered(sandbox: RunningSandbox, command: Command) -> Command:
    """The command's record delivered, and the command to update it, knowing that."""
    with connected(sandbox.url) as connector:
        reply = connector.send(command)
    assert isinstance(reply, Delivered)
    known = {"partner_id": reply.partner_id, "partner_version": reply.partner_version}
    return replace(command, verb=Verb.UPDATE, version=2, **known)


def moved(command: Command) -> Command:
    starts_at, ends_at = command.fields.starts_at, command.fields.ends_at  # type: ignore[union-attr]
    day = timedelta(days=1)
    return replace(command, fields=replace(command.fields, starts_at=starts_at + day, ends_at=ends_at + day))


def prepared(sandbox: RunningSandbox, verb: Verb) -> Command:
    """A command of that verb that would change something."""
    new = visit(sandbox)
    if verb is Verb.CREATE:
        return new
    return moved(replace(delivered(sandbox, new), verb=verb))


def send(sandbox: RunningSandbox, command: Command, **options: Any) -> Reply:
    with connected(sandbox.url, **options) as connector:
        return connector.send(command)


# --- Without faults ---


@pytest.mark.parametrize("entity", [Entity.VISIT, Entity.VISIT_RECORD])
def test_a_record_is_created_updated_and_cancelled(sandbox: RunningSandbox, entity: Entity) -> None:
    planned = delivered(sandbox, visit(sandbox))
    new = visit(sandbox) if entity is Entity.VISIT else visit_record(sandbox, planned.partner_id or "")
    update = delivered(sandbox, new)
    changed = replace(update, fields=replace(update.fields, note="変更"))
    reply = send(sandbox, changed)
    assert reply == Delivered(update.partner_id or "", "2")
    cancel = replace(changed, verb=Verb.CANCEL, partner_version="2")
    assert send(sandbox, cancel) == Delivered(update.partner_id or "", "3")
    (resource,) = stored(sandbox, new)
    assert resource["status"] == "cancelled"
    with connected(sandbox.url) as connector:
        assert connector.find(cancel) == Found(update.partner_id or "", "3")
        assert connector.find(changed) == Found(update.partner_id or "", "3", ("status",), {"status": "cancelled"})


def test_creating_twice_makes_one_and_says_delivered_both_times(sandbox: RunningSandbox) -> None:
    new = visit(sandbox)
    first = send(sandbox, new)
    assert send(sandbox, new) == first
    assert len(stored(sandbox, new)) == 1


def test_creating_a_newer_version_over_an_older_one_asks_to_read_back(sandbox: RunningSandbox) -> None:
    new = visit(sandbox)
    first = send(sandbox, new)
    assert isinstance(first, Delivered)
    newer = moved(new)
    reply = send(sandbox, newer)
    assert reply == Unknown("found_different")
    is_told("found_different", reply.params)
    with connected(sandbox.url) as connector:
        found = connector.find(newer)
        theirs = {"starts_at": "2026-11-24T09:30:00+09:00", "ends_at": "2026-11-24T10:30:00+09:00"}
        assert found == Found(first.partner_id, "1", ("starts_at", "ends_at"), theirs)
        update = replace(newer, verb=Verb.UPDATE, partner_id=first.partner_id, partner_version="1")
        assert connector.send(update) == Delivered(first.partner_id, "2")
        assert connector.find(update) == Found(first.partner_id, "2")


def test_an_update_keeps_what_the_partners_people_added(sandbox: RunningSandbox) -> None:
    update = delivered(sandbox, visit(sandbox))
    (before,) = stored(sandbox, update)
    sandbox.put(before | {"priority": 3, "meta": {}})
    reply = send(sandbox, replace(moved(update), partner_version="2"))
    assert reply == Delivered(update.partner_id or "", "3")
    (after,) = stored(sandbox, update)
    assert after["priority"] == 3
    assert after["start"] == "2026-11-25T09:30:00+09:00"


@pytest.mark.parametrize(
    ("entity", "change", "differing", "theirs"),
    [
        (Entity.VISIT, {"comment": "partner's own"}, ("note",), {"note": "partner's own"}),
        (
            Entity.VISIT,
            {"start": "2026-11-24T00:15:00Z"},
            ("starts_at",),
            {"starts_at": "2026-11-24T09:15:00+09:00"},
        ),
        (Entity.VISIT, {"status": "noshow"}, ("status",), {"status": "noshow"}),
        (Entity.VISIT, {"status": "fulfilled", "priority": 3}, (), {}),
        (
            Entity.VISIT,
            {
                "serviceType": [],
                "participant": [{"actor": {"reference": "Patient/p9"}}],
                "identifier": [{"value": "x"}],
            },
            ("record_id", "service_code", "client", "staff"),
            {"service_code": "", "client": "p9", "staff": ""},
        ),
        (Entity.VISIT_RECORD, {"period": {"start": "2026-11-24T09:30:00+09:00"}}, ("ended_at",), {}),
        (
            Entity.VISIT_RECORD,
            {"status": "in-progress", "extension": []},
            ("status", "note"),
            {"status": "in-progress", "note": ""},
        ),
        (
            Entity.VISIT_RECORD,
            {"appointment": [{"reference": "Appointment/a1"}, {"reference": "Appointment/a2"}]},
            ("visit",),
            {"visit": "a1, a2"},
        ),
        (Entity.VISIT_RECORD, {"length": {"value": 55}}, (), {}),
    ],
)
def test_reading_back_tells_what_the_partners_people_changed_and_to_what(
    sandbox: RunningSandbox,
    entity: Entity,
    change: dict[str, Any],
    differing: tuple[str, ...],
    theirs: dict[str, str],
) -> None:
    known = delivered(sandbox, visit(sandbox))
    if entity is Entity.VISIT_RECORD:
        known = delivered(sandbox, visit_record(sandbox, known.partner_id or ""))
    (before,) = stored(sandbox, known)
    sandbox.put(before | change)
    with connected(sandbox.url) as connector:
        found = connector.find(known)
    assert found == Found(known.partner_id or "", "2", differing, theirs)
    assert not any(text in repr(found) for text in theirs.values() if text), "it is a person's data"


@pytest.mark.parametrize("verb", [Verb.UPDATE, Verb.CANCEL])
def test_a_copy_changed_at_the_partner_is_not_overwritten(sandbox: RunningSandbox, verb: Verb) -> None:
    command = prepared(sandbox, verb)
    (before,) = stored(sandbox, command)
    changed = sandbox.put(before | {"comment": "partner's own"})
    reply = send(sandbox, command)
    assert reply == Conflict("changed_at_partner")
    is_told("changed_at_partner", reply.params)
    assert stored(sandbox, command) == [changed]


@pytest.mark.parametrize("stale_status", [409, 412])
def test_a_change_between_our_read_and_our_write_is_a_conflict(sandbox: RunningSandbox, stale_status: int) -> None:
    command = prepared(sandbox, Verb.UPDATE)
    sandbox.configure(stale_status=stale_status)

    class ChangingGate(NotingGate):
        def admit(self, endpoint: str) -> None:
            super().admit(endpoint)
            if len(self.admitted) == 2:
                (before,) = stored(sandbox, command)
                sandbox.put(before | {"comment": "in between"})

    assert send(sandbox, command, gate=ChangingGate()) == Conflict("changed_at_partner")
    assert stored(sandbox, command)[0]["comment"] == "in between"


def test_an_update_that_the_partner_already_has_is_delivered_without_a_write(
    sandbox: RunningSandbox,
) -> None:
    command = prepared(sandbox, Verb.UPDATE)
    sent = send(sandbox, command)
    gate = NotingGate()
    assert send(sandbox, command, gate=gate) == sent
    assert gate.admitted == ["appointments"]


def test_an_update_without_an_id_finds_its_record_by_the_identifier(sandbox: RunningSandbox) -> None:
    command = prepared(sandbox, Verb.UPDATE)
    unknown = replace(command, partner_id=None, partner_version=None)
    assert send(sandbox, unknown) == Delivered(command.partner_id or "", "2")


@pytest.mark.parametrize("gone_status", [404, 410])
def test_a_record_deleted_at_the_partner_is_told_and_need_not_be_cancelled(
    sandbox: RunningSandbox, gone_status: int
) -> None:
    command = prepared(sandbox, Verb.UPDATE)
    sandbox.configure(gone_status=gone_status)
    sandbox.delete("Appointment", command.partner_id or "")
    reply = send(sandbox, command)
    assert reply == Conflict("record_gone_at_partner")
    is_told("record_gone_at_partner", reply.params)
    nothing = Delivered(command.partner_id or "", "", "nothing_to_cancel")
    assert send(sandbox, replace(command, verb=Verb.CANCEL)) == nothing
    is_told("nothing_to_cancel")
    with connected(sandbox.url) as connector:
        assert connector.find(command) == Absent()


def test_a_record_that_is_there_twice_is_neither_created_nor_believed(sandbox: RunningSandbox) -> None:
    command = prepared(sandbox, Verb.UPDATE)
    (first,) = stored(sandbox, command)
    sandbox.put(first | {"id": "second"})
    create = replace(command, verb=Verb.CREATE, partner_id=None, partner_version=None)
    reply = send(sandbox, create)
    assert reply == Refused("several_at_partner")
    is_told("several_at_partner", reply.params)
    unknown = replace(command, partner_id=None, partner_version=None)
    assert send(sandbox, unknown) == Refused("several_at_partner")
    with connected(sandbox.url) as connector, pytest.raises(PartnerError, match="several_at_partner"):
        connector.find(create)
    assert len(stored(sandbox, command)) == 2
    sandbox.delete("Appointment", "second")


def test_a_search_that_passes_over_the_identifier_proves_no_absence(sandbox: RunningSandbox) -> None:
    for _ in range(2):
        delivered(sandbox, visit(sandbox))
    sandbox.configure(ignored_parameters=["identifier"], default_count=1)
    try:
        with connected(sandbox.url) as connector, pytest.raises(PartnerError) as caught:
            connector.find(visit(sandbox))
        assert (caught.value.reason, caught.value.params) == (
            "partner_list_incomplete",
            {"why": "identifier_ignored"},
        )
    finally:
        sandbox.configure(ignored_parameters=[], default_count=50)


def test_a_visit_for_a_client_who_is_not_there_is_refused_by_field(sandbox: RunningSandbox) -> None:
    new = visit(sandbox, links={Entity.CLIENT: "nobody"})
    told = {"field": "client, staff", "detail": "not-found Appointment.participant[0].actor"}
    refused = Refused("record_refused", told)
    reply = send(sandbox, new)
    assert reply == refused
    is_told("record_refused", reply.params)
    assert stored(sandbox, new) == []


def test_credential_and_permission_are_told_apart(sandbox: RunningSandbox) -> None:
    new = visit(sandbox)
    assert send(sandbox, new, token="another") == Refused("credential_refused")
    sandbox.configure(read_only=True)
    assert send(sandbox, new) == Refused("permission_missing", {"permission": "Appointment create"})


def test_an_open_server_gets_no_credential(sandbox: RunningSandbox) -> None:
    sandbox.configure(token=None)
    assert isinstance(send(sandbox, visit(sandbox), token=""), Delivered)


@pytest.mark.parametrize("verb", list(Verb))
def test_when_the_limits_say_later_nothing_is_sent(sandbox: RunningSandbox, verb: Verb) -> None:
    until = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

    class ClosedGate:
        def admit(self, endpoint: str) -> None:
            raise Deferred(until)

        def leave(self) -> None:
            """In time."""

        def unheard(self) -> None:
            """Nobody counts what is under way."""

        def heard(self, endpoint: str, told: Told) -> None:
            raise AssertionError("nothing was sent")

    command = prepared(sandbox, verb)
    before = stored(sandbox, command)
    with pytest.raises(Deferred):
        send(sandbox, command, gate=ClosedGate())
    assert stored(sandbox, command) == before


# --- With faults ---

FAULTS: list[tuple[dict[str, Any], type[Reply]]] = [
    ({"kind": "status", "status": 400, "code": "invalid"}, Refused),
    ({"kind": "status", "status": 401, "code": "login"}, Refused),
    ({"kind": "status", "status": 403, "code": "forbidden"}, Refused),
    ({"kind": "status", "status": 403, "code": "throttled"}, Retry),
    ({"kind": "status", "status": 405, "code": "not-supported"}, Refused),
    ({"kind": "status", "status": 409, "code": "conflict"}, Conflict),
    ({"kind": "status", "status": 415, "code": "not-supported"}, Refused),
    ({"kind": "status", "status": 418}, Unknown),
    ({"kind": "status", "status": 422, "code": "business-rule"}, Refused),
    ({"kind": "status", "status": 429, "code": "throttled", "retry_after": 60}, Retry),
    ({"kind": "status", "status": 500}, Unknown),
    ({"kind": "status", "status": 503, "retry_after": 60}, Unknown),
    ({"kind": "html_status", "status": 403}, Refused),
    ({"kind": "html_status", "status": 404}, Unknown),
    ({"kind": "html_status", "status": 502}, Unknown),
    ({"kind": "html_login"}, Unknown),
    ({"kind": "redirect"}, Refused),
    ({"kind": "cut_before"}, Unknown),
    ({"kind": "cut_before", "reset": True}, Unknown),
    ({"kind": "cut_after"}, Unknown),
    ({"kind": "cut_after", "reset": True}, Unknown),
    ({"kind": "apply_then_status", "status": 500}, Unknown),
    ({"kind": "apply_then_status", "status": 502}, Unknown),
    ({"kind": "apply_then_status", "status": 503, "retry_after": 60}, Unknown),
    ({"kind": "apply_then_status", "status": 504}, Unknown),
    ({"kind": "wrong_content_type"}, Unknown),
    ({"kind": "empty_body"}, Delivered),
    ({"kind": "truncated_body"}, Unknown),
    ({"kind": "truncated_body", "reset": True}, Unknown),
    ({"kind": "delay", "seconds": 0.8}, Unknown),
    ({"kind": "delay_before", "seconds": 0.8}, Unknown),
    ({"kind": "drip", "bytes": 8, "seconds": 0.05}, Unknown),
]
METHODS = {Verb.CREATE: "POST", Verb.UPDATE: "PUT", Verb.CANCEL: "PUT"}


def fault_name(value: object) -> str:
    return "-".join(str(part) for part in value.values()) if isinstance(value, dict) else ""


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize(("fault", "expected"), FAULTS, ids=fault_name)
def test_no_fault_makes_a_reply_that_claims_too_much(
    sandbox: RunningSandbox, verb: Verb, fault: dict[str, Any], expected: type[Reply]
) -> None:
    command = prepared(sandbox, verb)
    before = stored(sandbox, command)
    sandbox.set_faults({"method": METHODS[verb], **fault})
    reply = send(sandbox, command, seconds=0.4)
    assert [rule["fired"] for rule in sandbox.faults()] == [1]
    sandbox.clear_faults()
    is_applied = stored(sandbox, command) != before
    assert type(reply) is expected
    if isinstance(reply, Retry | Refused | Conflict):
        assert not is_applied
    if isinstance(reply, Delivered):
        (now,) = stored(sandbox, command)
        assert (now["id"], now["meta"]["versionId"]) == (reply.partner_id, reply.partner_version)
    if fault.get("retry_after") and isinstance(reply, Retry):
        assert reply.not_before is not None


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize(
    "fault", [fault for fault, reply in FAULTS if reply is Unknown and fault["kind"] != "delay_before"], ids=fault_name
)
def test_after_a_doubt_reading_back_and_sending_again_ends_with_one_record_as_commanded(
    sandbox: RunningSandbox, verb: Verb, fault: dict[str, Any]
) -> None:
    command = prepared(sandbox, verb)
    before = stored(sandbox, command)
    sandbox.set_faults({"method": METHODS[verb], **fault})
    assert isinstance(send(sandbox, command, seconds=0.4), Unknown)
    sandbox.clear_faults()
    is_applied = stored(sandbox, command) != before
    with connected(sandbox.url) as connector:
        found = connector.find(command)
        assert (isinstance(found, Found) and found.matches) == is_applied
        if not is_applied:
            assert isinstance(connector.send(command), Delivered)
        final = connector.find(command)
    assert isinstance(final, Found)
    assert final.matches
    assert len(stored(sandbox, command)) == 1


@pytest.mark.parametrize("verb", [Verb.UPDATE, Verb.CANCEL])
@pytest.mark.parametrize(
    "fault", [fault for fault, _ in FAULTS if fault["kind"] not in ("empty_body", "delay_before")], ids=fault_name
)
def test_a_fault_in_the_read_before_a_write_is_surely_not_applied(
    sandbox: RunningSandbox, verb: Verb, fault: dict[str, Any]
) -> None:
    command = prepared(sandbox, verb)
    before = stored(sandbox, command)
    sandbox.set_faults({"method": "GET", **fault})
    assert isinstance(send(sandbox, command, seconds=0.4), Retry | Refused)
    assert stored(sandbox, command) == before


def test_nobody_listening_is_surely_not_sent(sandbox: RunningSandbox) -> None:
    new = visit(sandbox)
    with connected("http://127.0.0.1:1") as connector:
        assert connector.send(new) == Retry("partner_unreachable")
        assert connector.send(replace(new, verb=Verb.CANCEL, partner_id="x")) == Retry("partner_unreachable")


def test_a_server_whose_name_nobody_knows_is_told_as_that_and_is_surely_not_sent_to(sandbox: RunningSandbox) -> None:
    with connected("http://nobody.invalid") as connector:
        reply = connector.send(visit(sandbox))
    assert reply == Retry("partner_name_not_found")
    is_told("partner_name_not_found", reply.params)


def test_a_refusal_that_names_no_field_is_told_without_one(sandbox: RunningSandbox) -> None:
    sandbox.set_faults({"method": "POST", "kind": "status", "status": 422, "code": "business-rule"})
    reply = send(sandbox, visit(sandbox))
    assert reply == Refused("content_refused", {"detail": "business-rule"})
    is_told("content_refused", reply.params)
    sandbox.clear_faults()


def test_a_server_that_passes_over_the_condition_is_still_read_back_by_the_identifier(
    sandbox: RunningSandbox,
) -> None:
    sandbox.configure(conditional_create=False)
    new = visit(sandbox)
    sandbox.set_faults({"method": "POST", "kind": "cut_after"})
    assert send(sandbox, new) == Unknown("connection_cut_unsure")
    sandbox.clear_faults()
    with connected(sandbox.url) as connector:
        found = connector.find(new)
    assert isinstance(found, Found)
    assert found.matches


def test_a_read_back_with_a_refused_credential_says_so(sandbox: RunningSandbox) -> None:
    with connected(sandbox.url, token="another") as connector, pytest.raises(AuthenticationError):
        connector.find(visit(sandbox))


# --- Batches ---


def send_batch(sandbox: RunningSandbox, *commands: Command, gate: Any = None, seconds: float = 10.0) -> list[Reply]:
    with connected(sandbox.url, gate=gate, seconds=seconds, batch_size="20") as connector:
        return list(connector.send_batch(commands))


def meddled(sandbox: RunningSandbox, command: Command) -> Command:
    """The command after the partner's people changed its record."""
    (before,) = stored(sandbox, command)
    sandbox.put(before | {"comment": "partner's own"})
    return command


def test_a_batch_is_answered_entry_by_entry_and_one_that_is_refused_stops_no_other(sandbox: RunningSandbox) -> None:
    gone = prepared(sandbox, Verb.CANCEL)
    sandbox.delete("Appointment", gone.partner_id or "")
    equal = delivered(sandbox, visit(sandbox))
    commands = [
        new := visit(sandbox),
        visit(sandbox, links={Entity.CLIENT: "nobody"}),
        update := prepared(sandbox, Verb.UPDATE),
        stale := meddled(sandbox, prepared(sandbox, Verb.UPDATE)),
        cancel := prepared(sandbox, Verb.CANCEL),
        gone,
        replace(gone, verb=Verb.UPDATE),
        equal,
        last := visit(sandbox),
    ]
    gate = NotingGate()
    first, refused, updated, *others, final = send_batch(sandbox, *commands, gate=gate)
    assert isinstance(first, Delivered)
    assert isinstance(final, Delivered)
    assert (stored(sandbox, new)[0]["id"], stored(sandbox, last)[0]["id"]) == (first.partner_id, final.partner_id)
    told = {"field": "client, staff", "detail": "not-found Appointment.participant[0].actor"}
    assert refused == Refused("record_refused", told)
    assert updated == Delivered(update.partner_id or "", "2")
    assert others == [
        Conflict("changed_at_partner"),
        Delivered(cancel.partner_id or "", "2"),
        Delivered(gone.partner_id or "", "", "nothing_to_cancel"),
        Conflict("record_gone_at_partner"),
        Delivered(equal.partner_id or "", "1"),
    ]
    assert stored(sandbox, stale)[0]["comment"] == "partner's own"
    assert stored(sandbox, update)[0]["start"] == "2026-11-25T09:30:00+09:00"
    assert stored(sandbox, cancel)[0]["status"] == "cancelled"
    assert gate.admitted == ["appointments"] * 2, "one call for the copies, one for the writes"


def test_creations_alone_are_one_call_and_copies_that_are_as_they_should_be_one_too(sandbox: RunningSandbox) -> None:
    new, gate = [visit(sandbox) for _ in range(3)], NotingGate()
    replies = send_batch(sandbox, *new, gate=gate)
    assert send_batch(sandbox, *new, gate=gate) == replies, "If-None-Exist: a repeat makes no second one"
    assert [len(stored(sandbox, each)) for each in new] == [1, 1, 1]
    updates = [
        replace(each, verb=Verb.UPDATE, partner_id=reply.partner_id)
        for each, reply in zip(new, replies, strict=True)
        if isinstance(reply, Delivered)
    ]
    assert send_batch(sandbox, *updates, gate=gate) == replies
    assert gate.admitted == ["appointments"] * 3


def test_a_batch_of_visit_records_calls_their_endpoint(sandbox: RunningSandbox) -> None:
    planned = [delivered(sandbox, visit(sandbox)) for _ in range(2)]
    records, gate = [visit_record(sandbox, each.partner_id or "") for each in planned], NotingGate()
    assert all(isinstance(reply, Delivered) for reply in send_batch(sandbox, *records, gate=gate))
    assert gate.admitted == ["encounters"]


def test_a_change_between_a_batchs_read_and_its_write_is_a_conflict_of_that_record_alone(
    sandbox: RunningSandbox,
) -> None:
    hit, missed = prepared(sandbox, Verb.UPDATE), prepared(sandbox, Verb.UPDATE)

    class ChangingGate(NotingGate):
        def admit(self, endpoint: str) -> None:
            super().admit(endpoint)
            if len(self.admitted) == 2:
                meddled(sandbox, hit)

    replies = send_batch(sandbox, hit, missed, gate=ChangingGate())
    assert replies == [Conflict("changed_at_partner"), Delivered(missed.partner_id or "", "2")]
    assert stored(sandbox, hit)[0]["comment"] == "partner's own"


def test_in_a_batch_too_an_older_version_that_is_there_is_read_back_and_a_missing_id_searched_for(
    sandbox: RunningSandbox,
) -> None:
    new, known = visit(sandbox), prepared(sandbox, Verb.UPDATE)
    delivered(sandbox, new)
    twice = prepared(sandbox, Verb.UPDATE)
    sandbox.put(stored(sandbox, twice)[0] | {"id": "second-of-a-batch"})
    unknown = {"partner_id": None, "partner_version": None}
    replies = send_batch(
        sandbox, moved(new), replace(known, **unknown), replace(twice, **unknown), visit(sandbox, verb=Verb.UPDATE)
    )
    assert replies == [
        Unknown("found_different"),
        Delivered(known.partner_id or "", "2"),
        Refused("several_at_partner"),
        Conflict("record_gone_at_partner"),
    ]
    sandbox.delete("Appointment", "second-of-a-batch")


def test_an_entry_that_fails_at_the_partner_is_in_doubt_alone(sandbox: RunningSandbox) -> None:
    new = [visit(sandbox) for _ in range(3)]
    sandbox.set_faults({"kind": "entry_status", "identifier": str(new[1].record_id), "status": 503})
    first, second, third = send_batch(sandbox, *new)
    assert second == Unknown("partner_maintenance_unsure")
    is_told("partner_maintenance_unsure", second.params)
    assert isinstance(first, Delivered)
    assert isinstance(third, Delivered)


def test_a_copy_that_could_not_be_read_is_no_reason_not_to_write_the_others(sandbox: RunningSandbox) -> None:
    updates = [prepared(sandbox, Verb.UPDATE) for _ in range(2)]
    sandbox.set_faults({"kind": "entry_status", "id": updates[0].partner_id, "status": 503, "times": 1})
    replies = send_batch(sandbox, *updates)
    assert replies == [Retry("partner_maintenance"), Delivered(updates[1].partner_id or "", "2")]


def test_a_batch_that_is_refused_for_one_entry_is_refused_as_a_whole(sandbox: RunningSandbox) -> None:
    new = [visit(sandbox) for _ in range(3)]
    sandbox.set_faults({"kind": "batch_status", "identifier": str(new[1].record_id), "status": 422})
    assert send_batch(sandbox, *new) == [Refused("batch_refused")] * 3
    assert [stored(sandbox, each) for each in new] == [[], [], []]
    assert all(isinstance(reply, Delivered) for reply in send_batch(sandbox, new[0], new[2]))
    assert isinstance(send(sandbox, new[1]), Delivered)


WHOLE: list[tuple[dict[str, Any], Reply, bool]] = [
    *(({"kind": "status", "status": status}, Refused("batch_refused"), False) for status in (400, 403, 404, 405, 413)),
    ({"kind": "status", "status": 409}, Refused("batch_refused"), False),
    ({"kind": "status", "status": 401}, Refused("credential_refused"), False),
    ({"kind": "status", "status": 429, "code": "throttled"}, Retry("partner_busy"), False),
    ({"kind": "status", "status": 500}, Unknown("partner_failed_unsure"), False),
    ({"kind": "html_login"}, Unknown("html_instead_of_data"), False),
    ({"kind": "cut_before"}, Unknown("connection_cut_unsure"), False),
    ({"kind": "cut_after"}, Unknown("connection_cut_unsure"), True),
    ({"kind": "apply_then_status"}, Unknown("partner_failed_unsure"), True),
    ({"kind": "truncated_body"}, Unknown("connection_cut_unsure"), True),
    ({"kind": "delay", "seconds": 0.8}, Unknown("timeout_unsure"), True),
    ({"kind": "wrong_content_type"}, Unknown("answer_unreadable"), True),
    ({"kind": "empty_body"}, Unknown("answer_unreadable"), True),
    ({"kind": "short_batch"}, Unknown("answer_unreadable"), True),
]


@pytest.mark.parametrize(("fault", "expected", "is_applied"), WHOLE, ids=fault_name)
def test_what_befalls_a_batch_as_a_whole_is_said_of_each_and_never_too_much(
    sandbox: RunningSandbox, fault: dict[str, Any], expected: Reply, is_applied: bool
) -> None:
    new = [visit(sandbox) for _ in range(3)]
    sandbox.set_faults({"method": "POST", **fault})
    replies = send_batch(sandbox, *new, seconds=0.4)
    assert replies == [expected] * 3
    is_told(expected.reason, replies[0].params)
    sandbox.clear_faults()
    with connected(sandbox.url) as connector:
        found = [connector.find(each) for each in new]
    assert [isinstance(each, Found) and each.matches for each in found] == [is_applied] * 3


@pytest.mark.parametrize(("fault", "expected", "is_applied"), WHOLE, ids=fault_name)
def test_a_fault_in_a_batchs_read_is_surely_not_applied(
    sandbox: RunningSandbox, fault: dict[str, Any], expected: Reply, is_applied: bool
) -> None:
    commands = [prepared(sandbox, Verb.UPDATE), visit(sandbox)]
    before = [stored(sandbox, command) for command in commands]
    sandbox.set_faults({"method": "POST", "times": 1, **fault})
    replies = send_batch(sandbox, *commands, seconds=0.4)
    assert all(isinstance(reply, Retry | Refused) for reply in replies)
    assert len({reply.reason for reply in replies if not isinstance(reply, Delivered)}) == 1
    assert [stored(sandbox, command) for command in commands] == before


@pytest.mark.parametrize("allowed", [0, 1])
def test_when_the_limits_say_later_nothing_of_a_batch_is_sent(sandbox: RunningSandbox, allowed: int) -> None:
    until = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

    class ClosingGate(NotingGate):
        def admit(self, endpoint: str) -> None:
            super().admit(endpoint)
            if len(self.admitted) > allowed:
                raise Deferred(until)

    commands = [prepared(sandbox, Verb.UPDATE), visit(sandbox)]
    before = [stored(sandbox, command) for command in commands]
    with pytest.raises(Deferred):
        send_batch(sandbox, *commands, gate=ClosingGate())
    assert [stored(sandbox, command) for command in commands] == before


def test_a_server_has_no_batches_unless_the_connection_says_so(sandbox: RunningSandbox) -> None:
    with connected(sandbox.url) as connector:
        assert connector.batch_size == 1
    with connected(sandbox.url, batch_size="20") as connector:
        assert connector.batch_size == 20
    for wrong in ("0", "201", "-1", "many", "²"):
        with pytest.raises(RejectedError) as caught, connected(sandbox.url, batch_size=wrong):
            pass
        assert (caught.value.reason, caught.value.params) == ("settings_missing", {"key": "batch_size"})


@pytest.mark.parametrize("location", ["http://[x/Appointment/a1/_history/1", "//[", "x"])
def test_a_location_that_is_no_address_leaves_a_write_unsure(sandbox: RunningSandbox, location: str) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(201, headers={"location": location})

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        connector = FHIR.open(Connection("hidamari", "fhir", "https://x", SETTINGS), {}, client, NotingGate())
        assert isinstance(connector.send(visit(sandbox)), Unknown)
