"""The way out to ORCA: both books are written so that nothing is lost or doubled, whatever answers and whatever dies.

The judge is the sandbox: its own log and what its clinic keeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from xml.etree.ElementTree import Element  # read by defusedxml

import pytest
from defusedxml.ElementTree import fromstring
from evidence import is_told
from fhir_bench import NotingGate
from orca_bench import CONFIG, NURSE, STARTS, connected, patients, recorded, stored, visit, visit_record
from test_orca_reads import replaying

from partners.contract import (
    Absent,
    Command,
    Conflict,
    Delivered,
    Entity,
    Found,
    Refused,
    Reply,
    Retry,
    Unknown,
    Verb,
)
from partners.errors import Deferred, RetryableError
from partners.orca import codes
from partners.orca.appointments import mark_of, plain_note
from partners.orca.sandbox import FaultKind, Rules
from partners.orca.sandbox.testing import RunningOrca, running_orca
from partners.wire import Answered

_NOTES = ["玄関は開いています", "half-width ABC 12:30 (2F)", "二行\nの  メモ", "〜−―", "ｱｲｳ", "  ", "ＺＥＳＴ"]
_CUTS = [FaultKind.LOST, FaultKind.SPEECHLESS, FaultKind.EMPTY, FaultKind.STATUS, FaultKind.DELAY]
WRITES = {Entity.VISIT: "appointmodv2", Entity.VISIT_RECORD: "acceptmodv2"}


@pytest.fixture(scope="module")
def running() -> Iterator[RunningOrca]:
    with running_orca(CONFIG) as orca:
        yield orca


@pytest.fixture
def orca(running: RunningOrca) -> Iterator[RunningOrca]:
    yield running
    running.set_faults()


def send(orca: RunningOrca, command: Command, *, gate: Any = None, **settings: str) -> Reply:
    with connected(orca.url, gate=gate, seconds=2, **settings) as connector:
        return connector.send(command)


def find(orca: RunningOrca, command: Command) -> Any:
    with connected(orca.url) as connector:
        return connector.find(command)


def delivered(orca: RunningOrca, command: Command) -> Command:
    """The next version of a command that was delivered: a change that says the same."""
    reply = send(orca, command)
    assert isinstance(reply, Delivered), reply
    return replace(command, verb=Verb.UPDATE, version=command.version + 1, key="k2", partner_id=reply.partner_id)


def moved(command: Command, **by: float) -> Command:
    """The visit some time later."""
    fields: Any = command.fields
    return replace(command, fields=replace(fields, starts_at=fields.starts_at + timedelta(**by)))


# --- Appointments -----------------------------------------------------------------------------------------------------


def test_a_request_for_an_appointment_has_the_documented_shape_and_its_answer_is_understood() -> None:
    answer = recorded("docs-samples/appointmodv2_K3_response.xml")
    with running_orca(CONFIG) as orca, replaying({"appointmodv2": answer}) as (url, asked):
        command = visit(orca)
        with connected(url) as connector:
            reply = connector.send(command)
    ((path, sent),) = asked
    assert path == "/orca14/appointmodv2?class=01"
    assert _shape(fromstring(sent)) == _shape(fromstring(recorded("docs-samples/appointmodv2_class01_request.xml")))
    assert reply == Delivered(f"{command.links[Entity.CLIENT]}/2026-12-01/1", "", "filled_in_by_partner")
    is_told("filled_in_by_partner")


@pytest.mark.parametrize(("code", "warning"), [("K4", "more_than_slots"), ("K5", "booked_in_the_past")])
def test_a_remark_on_what_was_taken_is_a_warning(code: str, warning: str) -> None:
    answer = recorded("docs-samples/appointmodv2_K3_response.xml").replace(b">K3<", f">{code}<".encode())
    with running_orca(CONFIG) as orca, replaying({"appointmodv2": answer}) as (url, _):
        command = visit(orca)
        with connected(url) as connector:
            reply = connector.send(command)
    assert isinstance(reply, Delivered)
    assert reply.warning == warning
    is_told(warning)


def _shape(element: Element) -> object:
    return element.tag, element.get("type"), [_shape(part) for part in element]


def test_a_recorded_acceptance_is_understood() -> None:
    told = recorded("orca11_acceptmodv2_01.json")
    with running_orca(CONFIG) as orca, replaying({"acceptmodv2": told}) as (url, _):
        command = visit_record(orca)
        with connected(url, format="json") as connector:
            reply = connector.send(command)
    assert isinstance(reply, Delivered)
    assert reply.partner_id.endswith("/6")


def test_a_recorded_lock_means_later() -> None:
    told = recorded("orca22_diseasev3_E90.json")
    with (
        running_orca(CONFIG) as orca,
        replaying({"appointmodv2": told}) as (url, _),
        connected(url, format="json") as connector,
    ):
        assert connector.send(visit(orca)) == Retry("partner_locked")


@pytest.mark.parametrize("form", ["xml", "json"])
def test_a_change_is_a_cancellation_and_a_new_appointment(orca: RunningOrca, form: str) -> None:
    known = delivered(orca, visit(orca))
    start = len(orca.journal())
    mark = mark_of(known.record_id)
    changed = moved(known, hours=3)
    reply = send(orca, changed, format=form)
    assert isinstance(reply, Delivered)
    assert orca.writes(start) == [("cancelled", mark), ("created", mark)]
    assert len(stored(orca, known)) == 1
    assert find(orca, replace(changed, partner_id=reply.partner_id)).matches
    assert isinstance(send(orca, replace(changed, partner_id=reply.partner_id)), Delivered)  # it is there already
    assert len(orca.writes(start)) == 2
    cancel = replace(changed, verb=Verb.CANCEL, partner_id=reply.partner_id)
    assert isinstance(send(orca, cancel), Delivered)
    assert stored(orca, known) == []
    assert send(orca, cancel) == Delivered(reply.partner_id, "", "nothing_to_cancel")


@pytest.mark.parametrize("form", ["xml", "json"])
@pytest.mark.parametrize("note", _NOTES)
def test_a_note_that_comes_back_in_wide_letters_is_the_same_note(orca: RunningOrca, note: str, form: str) -> None:
    command = visit(orca)
    fields: Any = command.fields
    command = replace(command, fields=replace(fields, note=note))
    reply = send(orca, command, format=form)
    assert isinstance(reply, Delivered)
    assert find(orca, command) == Found(reply.partner_id, "")


def test_notes_are_compared_without_their_width_and_not_without_their_words() -> None:
    assert plain_note("Ａ　ｱ ①") == plain_note("A ア 1")
    assert plain_note("二階") != plain_note("三階")


def test_the_mark_is_told_from_the_id_alone_and_of_each_id_another() -> None:
    assert mark_of(UUID(int=1)) == mark_of(UUID(int=1))
    assert len({mark_of(uuid4()) for _ in range(2000)}) == 2000


@pytest.mark.parametrize("act", ["01", "02"])
@pytest.mark.parametrize("kind", _CUTS)
def test_a_change_cut_off_at_either_step_is_in_doubt_and_ends_as_one(
    orca: RunningOrca, act: str, kind: FaultKind
) -> None:
    known = delivered(orca, visit(orca))
    changed = moved(known, hours=4)
    orca.fail(kind, api="appointmodv2", act=act, times=1, seconds=3)
    assert isinstance(send(orca, changed), Unknown)
    orca.set_faults()
    found = find(orca, changed)
    assert isinstance(found, Found)
    if not found.matches:
        assert isinstance(send(orca, changed), Delivered)
    assert len(stored(orca, known)) == 1
    assert find(orca, changed).matches


def test_a_change_whose_second_step_is_refused_is_in_doubt_as_the_first_is_done(orca: RunningOrca) -> None:
    known = delivered(orca, visit(orca))
    orca.fail(FaultKind.CODE, api="appointmodv2", act="01", code="90")
    assert send(orca, moved(known, hours=5)) == Unknown("found_different")
    assert stored(orca, known) == []
    orca.set_faults()
    found = find(orca, moved(known, hours=5))
    assert (found.differing, found.theirs) == (("status",), {"status": "cancelled"})
    assert isinstance(send(orca, moved(known, hours=5)), Delivered)
    assert len(stored(orca, known)) == 1


class ClosingGate(NotingGate):
    """Admits so many calls and no more."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def admit(self, endpoint: str) -> None:
        super().admit(endpoint)
        if len(self.admitted) > self.calls:
            raise Deferred(STARTS)


def test_a_gate_that_closes_between_the_two_steps_leaves_doubt_and_before_them_none(orca: RunningOrca) -> None:
    known = delivered(orca, visit(orca))

    for calls in (0, 1):
        with pytest.raises(Deferred):
            send(orca, moved(known, hours=6), gate=ClosingGate(calls))
        assert len(stored(orca, known)) == 1
    assert send(orca, moved(known, hours=6), gate=ClosingGate(2)) == Unknown("found_different")
    assert stored(orca, known) == []


@pytest.mark.parametrize("code", ["90", "E90", "E9999"])
@pytest.mark.parametrize("entity", list(WRITES))
def test_a_record_that_somebody_has_open_is_tried_later(orca: RunningOrca, entity: Entity, code: str) -> None:
    orca.fail(FaultKind.CODE, api=WRITES[entity], code=code)
    command = visit(orca) if entity is Entity.VISIT else visit_record(orca)
    start = len(orca.journal())
    reply = send(orca, command)
    assert reply == Retry("partner_locked")
    is_told("partner_locked", reply.params)
    assert orca.writes(start) == []


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        ("01", Refused("request_malformed")),
        ("10", Refused("client_gone_at_partner")),
        ("13", Refused("code_unknown_at_partner", {"what": "診療科 (department)"})),
        ("14", Refused("code_unknown_at_partner", {"what": "ドクター (doctors, default_doctor)"})),
        ("17", Refused("character_refused", {"field": "note"})),
        ("20", Refused("slot_taken")),
        ("25", Conflict("record_gone_at_partner")),
        ("27", Conflict("changed_at_partner")),
        ("50", Refused("day_full_at_partner")),
        *((code, Unknown("partner_failed_unsure")) for code in ("51", "52", "53", "54")),
        ("89", Retry("partner_failed")),
        ("91", Refused("request_malformed")),
        ("97", Refused("content_refused", {"detail": "ORCA 97"})),
        ("99", Refused("credential_refused")),
        ("Q7", Unknown("unknown", {"detail": "appointmodv2 Q7"})),
    ],
)
def test_each_result_of_the_booking_call_means_what_the_documents_say(
    orca: RunningOrca, code: str, reply: Reply
) -> None:
    orca.fail(FaultKind.CODE, api="appointmodv2", code=code)
    found = send(orca, visit(orca))
    assert found == reply
    is_told(reply.reason, found.params)


def test_the_same_code_means_another_thing_at_another_call(orca: RunningOrca) -> None:
    orca.fail(FaultKind.CODE, api="acceptmodv2", code="21")
    refused = send(orca, visit_record(orca))
    assert refused == Refused("insurance_refused")
    is_told("insurance_refused", refused.params)
    orca.fail(FaultKind.CODE, api="appointmodv2", code="21")
    assert send(orca, visit(orca)) == Unknown("unknown", {"detail": "appointmodv2 21"})


def test_an_appointment_by_a_nurse_goes_to_the_doctor_that_is_set_or_waits_for_one_to_be_set(orca: RunningOrca) -> None:
    command = visit(orca)
    by_nurse = replace(command, links={**command.links, Entity.STAFF: NURSE})
    start = len(orca.journal())
    refused = send(orca, by_nurse, default_doctor="")
    assert refused == Refused("staff_not_assignable")
    is_told("staff_not_assignable", refused.params)
    assert orca.journal(start) == []
    assert isinstance(send(orca, by_nurse, default_doctor="", doctors=f"{NURSE}=10005/02"), Delivered)
    (copy,) = stored(orca, by_nurse)
    assert (copy["doctor"], copy["department"]) == ("10005", "02")
    other = visit(orca)
    assert isinstance(send(orca, replace(other, links={**other.links, Entity.STAFF: NURSE})), Delivered)
    assert [each["doctor"] for each in stored(orca, other)] == ["10001"]


def test_a_slot_that_another_visit_of_the_client_has_is_refused_and_one_that_is_ours_is_adopted(
    orca: RunningOrca,
) -> None:
    first = visit(orca)
    known = delivered(orca, first)
    assert send(orca, first) == Delivered(known.partner_id or "", "")  # 20, and it is ours
    assert send(orca, replace(first, record_id=uuid4())) == Refused("slot_taken")
    assert len(stored(orca, first)) == 1


def test_an_id_that_was_given_up_and_given_again_is_not_taken_for_ours(orca: RunningOrca) -> None:
    known = delivered(orca, visit(orca))
    rows = orca.state()["appointments"]
    (ours,) = stored(orca, known)
    others = {**ours, "note": "よその予約", "time": "06:00:00"}  # the clinic took ours away and made its own
    orca.put_appointments(*[others if row == ours else row for row in rows])
    unmarked = find(orca, known)
    assert "record_id" in unmarked.differing
    other = visit(orca)
    other = replace(other, fields=replace(other.fields, starts_at=known.fields.starts_at))  # type: ignore[union-attr,arg-type]
    theirs = {**ours, "note": mark_of(other.record_id)}
    orca.put_appointments(*[theirs if row["note"] == "よその予約" else row for row in orca.state()["appointments"]])
    start = len(orca.journal())
    cancel = replace(known, verb=Verb.CANCEL)
    assert send(orca, cancel) == Delivered(known.partner_id or "", "", "nothing_to_cancel")
    assert orca.writes(start) == []


def test_what_the_clinic_changed_in_an_appointment_is_told_with_what_stands_there(orca: RunningOrca) -> None:
    known = delivered(orca, visit(orca))
    (ours,) = stored(orca, known)
    rows = [row for row in orca.state()["appointments"] if row != ours]
    orca.put_appointments(*rows, {**ours, "time": "07:15:00", "doctor": "10005"})
    found = find(orca, known)
    assert found.differing == ("starts_at", "staff")
    assert found.theirs == {"starts_at": f"{ours['day']}T07:15:00+09:00", "staff": "10005"}
    assert "07:15" not in repr(found)


def test_a_list_that_is_cut_short_proves_no_absence() -> None:
    with running_orca(replace(CONFIG, rules=Rules(most_appointments=3))) as orca:
        early = delivered(orca, visit(orca))
        for _ in range(4):
            delivered(orca, moved(visit(orca), days=1))
        assert len(stored(orca, early)) == 1
        with connected(orca.url) as connector, pytest.raises(RetryableError) as raised:
            connector.find(early)
        assert raised.value.reason == "appointments_hidden"
        is_told("appointments_hidden", raised.value.params)
        start = len(orca.journal())
        assert send(orca, moved(early, hours=1)) == Retry("appointments_hidden")
        assert orca.writes(start) == []


def test_a_visit_that_becomes_another_clients_leaves_the_first_ones_book(orca: RunningOrca) -> None:
    known = delivered(orca, visit(orca))
    other = replace(known, links={**known.links, Entity.CLIENT: patients(orca)[1]})
    assert isinstance(send(orca, other), Delivered)
    assert [str(each["patient"]) for each in stored(orca, known)] == [patients(orca)[1]]


def test_a_character_that_xml_cannot_have_is_refused_before_it_is_sent(orca: RunningOrca) -> None:
    command = visit(orca)
    start = len(orca.journal())
    fields: Any = command.fields
    assert send(orca, replace(command, fields=replace(fields, note="a\x01b"))) == Refused(
        "character_refused", {"field": "note"}
    )
    assert orca.journal(start) == []


def test_where_nobody_listens_nothing_was_sent(orca: RunningOrca) -> None:
    with connected("http://127.0.0.1:1") as connector:
        assert connector.send(visit(orca)) == Retry("partner_unreachable")


# --- Acceptances ------------------------------------------------------------------------------------------------------


def test_a_record_of_a_visit_is_accepted_changed_and_taken_back(orca: RunningOrca) -> None:
    known = delivered(orca, visit_record(orca))
    start = len(orca.journal())
    fields: Any = known.fields
    later = replace(known, fields=replace(fields, started_at=fields.started_at + timedelta(minutes=7)))
    reply = send(orca, later)
    assert isinstance(reply, Delivered)
    assert [effect for effect, _ in orca.writes(start)] == ["cancelled", "created"]
    later = replace(later, partner_id=reply.partner_id)
    assert find(orca, later) == Found(reply.partner_id, "")
    absent = replace(later, fields=replace(fields, status="absent"))
    assert isinstance(send(orca, absent), Delivered)
    assert [effect for effect, _ in orca.writes(start)] == ["cancelled", "created", "cancelled"]


def test_an_acceptance_of_the_clinics_own_stays_where_ours_is_gone(orca: RunningOrca) -> None:
    known = delivered(orca, visit_record(orca))
    send(orca, replace(known, verb=Verb.CANCEL))
    first, second = patients(orca)[:2]
    other = replace(visit_record(orca), fields=known.fields, links=known.links | {Entity.CLIENT: second})
    assert known.links[Entity.CLIENT] == first
    delivered(orca, other)  # gets the number that was free again
    theirs = delivered(orca, replace(visit_record(orca), fields=known.fields, links=known.links))
    assert theirs.partner_id != known.partner_id
    cancel = replace(known, verb=Verb.CANCEL)
    assert send(orca, cancel) == Delivered(str(known.partner_id), "", "nothing_to_cancel")
    assert find(orca, theirs).matches


@pytest.mark.parametrize("body", [b'{"x": {"code": "0"}}', b'{"x": {"code": "00"}}'])
def test_what_is_called_code_by_anybody_is_no_success_of_a_write(body: bytes) -> None:
    answer = Answered(200, {"content-type": "application/json"}, body, datetime.now(UTC))
    assert codes.written(answer) == ""
    assert not codes.is_success(codes.written(answer))


def test_a_record_that_does_not_say_when_it_began_takes_no_acceptance_of_the_clinics_own(orca: RunningOrca) -> None:
    clinics = visit_record(orca)
    delivered(orca, clinics)
    fields: Any = clinics.fields
    appointment = f"{patients(orca)[0]}/{fields.started_at:%Y-%m-%d}/7"
    timeless = replace(
        clinics,
        record_id=uuid4(),
        fields=replace(fields, started_at=None, ended_at=None),
        links=clinics.links | {Entity.VISIT: appointment},
    )
    assert find(orca, timeless) == Absent()
    assert send(orca, timeless) == Refused("acceptance_taken")
    absent = replace(timeless, verb=Verb.UPDATE, partner_id=None, fields=replace(timeless.fields, status="absent"))
    assert isinstance(send(orca, absent), Delivered)
    assert find(orca, clinics).matches


def test_a_second_acceptance_of_the_day_is_a_persons_to_judge_and_a_lost_one_is_ours(orca: RunningOrca) -> None:
    first = visit_record(orca)
    orca.fail(FaultKind.LOST, api="acceptmodv2")
    lost = send(orca, first)
    assert lost == Unknown("empty_reply_unsure")
    is_told("empty_reply_unsure", lost.params)
    orca.set_faults()
    assert isinstance(find(orca, first), Found)
    assert isinstance(send(orca, first), Delivered)  # 16, and it says what we say
    fields: Any = first.fields
    second = replace(
        first, record_id=uuid4(), fields=replace(fields, started_at=fields.started_at + timedelta(hours=2))
    )
    refused = send(orca, second)
    assert refused == Refused("acceptance_taken")
    is_told("acceptance_taken", refused.params)
    assert find(orca, second) == Absent()
    accepted = [each for each in orca.state()["acceptances"] if each["day"] == f"{fields.started_at:%Y-%m-%d}"]
    assert len(accepted) == 1


def test_a_record_of_a_visit_whose_change_was_cut_in_half_is_gone_on_with(orca: RunningOrca) -> None:
    known = delivered(orca, visit_record(orca))
    fields: Any = known.fields
    later = replace(known, fields=replace(fields, started_at=fields.started_at + timedelta(minutes=9)))
    orca.fail(FaultKind.SPEECHLESS, api="acceptmodv2", act="01")
    assert isinstance(send(orca, later), Unknown)
    orca.set_faults()
    found = find(orca, later)
    assert found.theirs == {"status": "cancelled"}
    assert isinstance(send(orca, later), Delivered)
    assert find(orca, later).matches


@pytest.mark.parametrize(("entity", "name"), [(Entity.VISIT, "Appointment_Id"), (Entity.VISIT_RECORD, "Acceptance_Id")])
def test_an_id_that_no_entry_has_leaves_a_write_unsure(orca: RunningOrca, entity: Entity, name: str) -> None:
    command = visit(orca) if entity is Entity.VISIT else visit_record(orca)
    for told in ("9" * 5000, "9" * 21, "٣", "", "x"):
        answer = json.dumps({"res": {"Api_Result": "00", name: told}}).encode()
        with replaying({WRITES[entity]: answer}) as (url, _), connected(url, format="json") as connector:
            assert connector.send(command) == Unknown("answer_unreadable")


def test_an_endless_number_is_no_patients_and_stops_no_reading_back(orca: RunningOrca) -> None:
    row = {"Acceptance_Id": "9" * 5000, "Patient_Information": {"Patient_ID": "9" * 5000}, "Physician_Code": "9" * 5000}
    answer = json.dumps({"res": {"Api_Result": "00", "Acceptlst_Information": [row]}}).encode()
    with replaying({"acceptlstv2": answer}) as (url, _), connected(url, format="json") as connector:
        assert connector.find(visit_record(orca)) == Absent()
