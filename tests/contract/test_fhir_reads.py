"""Reading masters from a real server: pages, cursors, joins, and every way in which a reading can go wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from weakref import WeakSet

import pytest
from evidence import is_told
from fhir_bench import (
    CONFIG,
    SETTINGS,
    Answer,
    NotingGate,
    connected,
    fhir,
    ids,
    scripted_server,
    searchset,
)

from partners.contract import Access, Client, Connector, Entity, Gone, Page, SourceRecord, Staff
from partners.errors import AuthenticationError, PartnerError, RejectedError, RetryableError
from partners.fhir import search
from partners.fhir.partner import FHIR
from partners.fhir.reading import OVERLAP
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(CONFIG) as sandbox:
        sandbox.configure(max_count=10)
        yield sandbox


@pytest.fixture
def connector(sandbox: RunningSandbox) -> Iterator[Connector]:
    with connected(sandbox.url) as connector:
        yield connector


def pages(connector: Connector, entity: Entity, cursor: str | None = None) -> list[Page]:
    return list(connector.read(entity, cursor))


def records(found: list[Page]) -> list[SourceRecord]:
    return [record for page in found for record in page.records]


def cursor_after(connector: Connector, entity: Entity) -> str:
    cursor = pages(connector, entity)[-1].cursor
    assert cursor is not None
    return cursor


def touch(sandbox: RunningSandbox, kind: str, number: int = 0, **elements: Any) -> dict[str, Any]:
    """Change a record as the partner's people would, and return it."""
    (resource,) = [each for each in sandbox.state(kind) if each["id"] == ids(sandbox, kind)[number]]
    return sandbox.put(resource | elements)


def aged(cursor: str) -> str:
    """The cursor as it would be if all that is known were older than the overlap."""
    times = {kind: datetime.fromisoformat(text) for kind, text in json.loads(cursor).items()}
    return json.dumps({kind: (time + 2 * OVERLAP).isoformat() for kind, time in times.items()})


# --- Clients ---


def test_a_full_reading_brings_every_client_once_with_the_total_on_each_page(
    sandbox: RunningSandbox, connector: Connector
) -> None:
    found = pages(connector, Entity.CLIENT)
    assert sorted(record.partner_id for record in records(found)) == sorted(ids(sandbox, "Patient"))
    assert [(page.is_full, page.total, page.is_last) for page in found] == [
        (True, 30, False),
        (True, 30, False),
        (True, 30, True),
    ]
    assert [page.cursor is None for page in found] == [True, True, False]


def test_every_seeded_client_and_member_of_staff_can_be_mapped(connector: Connector) -> None:
    clients = [FHIR.map(Entity.CLIENT, each.content, SETTINGS) for each in records(pages(connector, Entity.CLIENT))]
    staff = [FHIR.map(Entity.STAFF, each.content, SETTINGS) for each in records(pages(connector, Entity.STAFF))]
    assert {type(each) for each in clients} == {Client}
    assert {type(each) for each in staff} == {Staff}
    assert [each.active for each in staff if isinstance(each, Staff)].count(False) == 2


def test_the_content_leaves_out_what_changes_by_itself(sandbox: RunningSandbox, connector: Connector) -> None:
    before = {each.partner_id: each for each in records(pages(connector, Entity.CLIENT))}
    saved = touch(sandbox, "Patient")
    after = {each.partner_id: each for each in records(pages(connector, Entity.CLIENT))}
    assert after[saved["id"]].content == before[saved["id"]].content
    assert (before[saved["id"]].partner_version, after[saved["id"]].partner_version) == ("1", "2")


def test_an_incremental_reading_asks_from_some_minutes_before_the_servers_own_latest_time() -> None:
    with running_sandbox(replace(CONFIG, seeded_before=60.0)) as sandbox, connected(sandbox.url) as connector:
        cursor = cursor_after(connector, Entity.CLIENT)
        latest = max(each["meta"]["lastUpdated"] for each in sandbox.state("Patient"))
        before = len(sandbox.journal())
        pages(connector, Entity.CLIENT, cursor)
        asked = sandbox.journal()[before]["query"]
    since = datetime.fromisoformat(latest) - timedelta(minutes=5)
    assert f"_lastUpdated=ge{since.astimezone(UTC).isoformat(timespec='milliseconds')[:23]}Z" in asked


@pytest.mark.parametrize("entity", [Entity.CLIENT, Entity.STAFF])
def test_a_cursor_is_not_later_than_the_first_answer_since_pages_already_read_may_have_changed_meanwhile(
    sandbox: RunningSandbox, connector: Connector, entity: Entity
) -> None:
    began = datetime.now(UTC)
    reading = connector.read(entity, None)
    next(reading)
    kind = "Patient" if entity is Entity.CLIENT else "Practitioner"
    last = max(ids(sandbox, kind))
    sandbox.put(next(each for each in sandbox.state(kind) if each["id"] == last))
    (*_, page) = reading
    assert page.cursor is not None
    assert datetime.fromisoformat(json.loads(page.cursor)[kind]) <= began


def test_an_incremental_reading_brings_what_changed_and_is_not_full(
    sandbox: RunningSandbox, connector: Connector
) -> None:
    cursor = aged(cursor_after(connector, Entity.CLIENT))
    quiet = pages(connector, Entity.CLIENT, cursor)
    assert [(page.records, page.is_full, page.total, page.is_last) for page in quiet] == [((), False, 0, True)]
    assert quiet[-1].cursor is not None
    assert json.loads(quiet[-1].cursor)["Patient"].startswith(json.loads(cursor)["Patient"][:19])


def test_the_overlap_brings_again_what_was_written_shortly_before_the_cursor(connector: Connector) -> None:
    cursor = cursor_after(connector, Entity.CLIENT)
    found = pages(connector, Entity.CLIENT, cursor)
    assert len(records(found)) == 30
    assert not any(page.is_full for page in found)


def test_a_server_that_passes_over_the_time_is_noticed_by_its_self_link(
    sandbox: RunningSandbox, connector: Connector
) -> None:
    cursor = aged(cursor_after(connector, Entity.CLIENT))
    sandbox.configure(ignored_parameters=["_lastUpdated"])
    found = pages(connector, Entity.CLIENT, cursor)
    assert all(page.is_full for page in found)
    assert len(records(found)) == 30


@pytest.mark.parametrize("cursor", ["", "{", "[]", "null", '{"Patient": "yesterday"}', '{"Patient": 7}'])
def test_a_cursor_that_is_none_of_ours_reads_all(connector: Connector, cursor: str) -> None:
    assert len(records(pages(connector, Entity.CLIENT, cursor))) == 30


def test_an_entry_that_comes_twice_is_handed_on_twice_since_nothing_is_kept_of_a_page(
    sandbox: RunningSandbox, connector: Connector
) -> None:
    sandbox.set_faults({"kind": "repeat_entry", "type": "Patient", "times": 2})
    found = records(pages(connector, Entity.CLIENT))
    assert (len(found), len({record.partner_id for record in found})) == (32, 30)


@pytest.mark.parametrize("kind", ["drop_entry", "wrong_total", "missing_next"])
def test_an_incomplete_list_shows_in_the_total_that_is_handed_on(
    sandbox: RunningSandbox, connector: Connector, kind: str
) -> None:
    sandbox.set_faults({"kind": kind, "type": "Patient", "times": 1})
    found = pages(connector, Entity.CLIENT)
    assert {page.total for page in found} != {len(records(found))}


def test_a_record_that_changes_while_pages_are_read_pulls_no_other_out_of_sight(
    sandbox: RunningSandbox, connector: Connector
) -> None:
    reading = connector.read(Entity.CLIENT, None)
    found = [next(reading)]
    for number in range(5):
        touch(sandbox, "Patient", number)
    found += reading
    assert {record.partner_id for record in records(found)} == set(ids(sandbox, "Patient"))


@pytest.mark.parametrize("status", [404, 410])
def test_an_expired_next_begins_the_reading_again_once(
    sandbox: RunningSandbox, connector: Connector, status: int
) -> None:
    sandbox.set_faults({"kind": "status", "status": status, "page": 2, "times": 1, "code": "expired"})
    found = pages(connector, Entity.CLIENT)
    assert (len(records(found)), len({record.partner_id for record in records(found)})) == (40, 30)
    assert [page.is_last for page in found] == [False, False, False, True]


def test_a_next_that_always_expires_ends_the_reading(sandbox: RunningSandbox, connector: Connector) -> None:
    sandbox.set_faults({"kind": "status", "status": 410, "page": 2, "code": "expired"})
    with pytest.raises(RetryableError) as caught:
        pages(connector, Entity.CLIENT)
    assert (caught.value.reason, caught.value.params) == ("partner_list_incomplete", {"why": "next_expired"})
    is_told("partner_list_incomplete", caught.value.params)


@pytest.mark.parametrize(
    ("entity", "kind", "after", "is_full"),
    [
        (Entity.CLIENT, "Patient", 1, True),
        (Entity.CLIENT, "Patient", 2, True),
        (Entity.CLIENT, "Patient", 2, False),
        (Entity.STAFF, "Practitioner", 1, True),
    ],
)
def test_a_reading_that_broke_off_is_taken_up_after_any_page(
    sandbox: RunningSandbox, connector: Connector, entity: Entity, kind: str, after: int, is_full: bool
) -> None:
    cursor = None if is_full else cursor_after(connector, entity)
    whole = pages(connector, entity, cursor)
    assert [page.resume is None for page in whole] == [*([False] * (len(whole) - 1)), True]
    begun = len(sandbox.journal())
    with connected(sandbox.url) as another:
        rest = list(another.read(entity, cursor, whole[after - 1].resume))
    assert [replace(page, resume=None) for page in rest] == [replace(page, resume=None) for page in whole[after:]]
    assert {page.is_full for page in rest} == {is_full}
    assert len([row for row in sandbox.journal()[begun:] if row["resource_type"] == kind]) == len(whole) - after


def test_a_reading_whose_place_has_expired_begins_again(sandbox: RunningSandbox, connector: Connector) -> None:
    place = pages(connector, Entity.CLIENT)[0].resume
    sandbox.set_faults({"kind": "status", "status": 410, "page": 2, "times": 1, "code": "expired"})
    assert len(records(list(connector.read(Entity.CLIENT, None, place)))) == 30


@pytest.mark.parametrize(
    "place", ["", "[]", "null", "2", "{", '{"following": 1, "is_full": true, "marks": "{}"}', "{}"]
)
def test_a_place_that_is_none_of_ours_reads_all(connector: Connector, place: str) -> None:
    assert len(records(list(connector.read(Entity.CLIENT, None, place)))) == 30


def test_a_place_at_another_origin_is_refused(connector: Connector) -> None:
    place = json.dumps({"following": "http://other.example/Patient?page=2", "is_full": True, "marks": "{}"})
    with pytest.raises(RejectedError, match="list_continues_elsewhere") as caught:
        list(connector.read(Entity.CLIENT, None, place))
    is_told("list_continues_elsewhere", caught.value.params)


FAULTS: list[tuple[dict[str, Any], type[PartnerError], str]] = [
    ({"kind": "status", "status": 401, "code": "login"}, AuthenticationError, "credential_refused"),
    ({"kind": "status", "status": 403, "code": "forbidden"}, AuthenticationError, "permission_missing"),
    ({"kind": "status", "status": 429, "retry_after": 60}, RetryableError, "partner_busy"),
    ({"kind": "status", "status": 500}, RetryableError, "partner_failed"),
    ({"kind": "html_status", "status": 503, "retry_after": 60}, RetryableError, "partner_maintenance"),
    ({"kind": "html_status", "status": 404}, RetryableError, "html_instead_of_data"),
    ({"kind": "html_login"}, RetryableError, "html_instead_of_data"),
    ({"kind": "redirect"}, RejectedError, "address_wrong"),
    ({"kind": "cut_before"}, RetryableError, "partner_unreachable"),
    ({"kind": "cut_after", "reset": True}, RetryableError, "partner_unreachable"),
    ({"kind": "wrong_content_type"}, RetryableError, "answer_unreadable"),
    ({"kind": "empty_body"}, RetryableError, "answer_unreadable"),
    ({"kind": "truncated_body"}, RetryableError, "partner_unreachable"),
    ({"kind": "delay", "seconds": 0.8}, RetryableError, "partner_unreachable"),
    ({"kind": "drip", "bytes": 16, "seconds": 0.05}, RetryableError, "partner_unreachable"),
]


@pytest.mark.parametrize(("fault", "error", "reason"), FAULTS)
@pytest.mark.parametrize(("entity", "kind"), [(Entity.CLIENT, "Patient"), (Entity.STAFF, "PractitionerRole")])
def test_a_fault_on_a_page_ends_the_reading_with_the_right_error(
    sandbox: RunningSandbox,
    fault: dict[str, Any],
    error: type[PartnerError],
    reason: str,
    entity: Entity,
    kind: str,
) -> None:
    sandbox.set_faults({"method": "GET", "type": kind, "page": 1, **fault})
    with connected(sandbox.url, seconds=0.4) as connector, pytest.raises(PartnerError) as caught:
        pages(connector, entity)
    assert (type(caught.value), caught.value.reason) == (error, reason)
    is_told(reason, caught.value.params)
    if isinstance(caught.value, RetryableError):
        assert (caught.value.not_before is not None) == ("retry_after" in fault)


def test_a_page_midway_that_fails_keeps_the_pages_before_it(sandbox: RunningSandbox, connector: Connector) -> None:
    sandbox.set_faults({"kind": "cut_before", "type": "Patient", "page": 3})
    reading = connector.read(Entity.CLIENT, None)
    assert [len(next(reading).records), len(next(reading).records)] == [10, 10]
    with pytest.raises(RetryableError):
        next(reading)


PATIENT = {"resourceType": "Patient", "id": "p1"}


def test_a_date_beyond_all_is_as_good_as_none() -> None:
    def answer(path: str) -> Answer:
        status, headers, body = searchset(PATIENT)
        return status, {**headers, "date": "Mon, 01 Jan 99999999999 00:00:00 GMT"}, body

    with scripted_server(answer) as server, connected(server.url) as connector:
        assert len(records(pages(connector, Entity.CLIENT))) == 1


@pytest.mark.parametrize(
    "away",
    ["http://other.example", "https://127.0.0.1:{port}", "http://u@127.0.0.1:{port}", "http://[127.0.0.1:{port}"],
)
def test_a_next_that_leads_to_another_origin_is_refused_and_the_token_stays(away: str) -> None:
    def answer(path: str) -> Answer:
        port = server.url.rpartition(":")[2]
        return searchset(PATIENT, next=away.format(port=port) + "/Patient?page=2")

    with (
        scripted_server(answer) as server,
        connected(server.url) as connector,
        pytest.raises(RejectedError, match="list_continues_elsewhere"),
    ):
        pages(connector, Entity.CLIENT)
    assert len(server.seen) == 1


def test_a_relative_next_is_followed_and_one_that_repeats_ends_the_reading() -> None:
    with (
        scripted_server(lambda path: searchset(PATIENT, next="Patient?page=2")) as server,
        connected(f"{server.url}/fhir/r4/") as connector,
        pytest.raises(RetryableError) as caught,
    ):
        pages(connector, Entity.CLIENT)
    assert caught.value.params == {"why": "next_repeats"}
    assert [path.partition("?")[0] for path, _ in server.seen] == ["/fhir/r4/Patient"] * 2


def test_what_is_joined_in_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages of roles lead on for ever, each to another address; some servers' pages are empty besides."""
    monkeypatch.setattr(search, "MOST_WHOLE", 20)
    for shown in ({"resourceType": "PractitionerRole", "id": "r1"}, {"resourceType": "OperationOutcome"}):
        addresses = (f"PractitionerRole?page={number}" for number in count(2))
        with (
            scripted_server(lambda path, shown=shown, to=addresses: searchset(shown, next=next(to))) as server,
            connected(server.url) as connector,
            pytest.raises(RetryableError) as caught,
        ):
            pages(connector, Entity.STAFF)
        assert (caught.value.reason, caught.value.params) == ("partner_list_incomplete", {"why": "too_long"})
        assert len(server.seen) == 21


def test_a_record_without_an_id_of_the_format_stops_itself_and_is_counted() -> None:
    listed = [{"resourceType": "Patient", "id": each} for each in ("a", "b_c", "", "d")] + [{"resourceType": "Patient"}]
    with scripted_server(lambda path: searchset(*listed)) as server, connected(server.url) as connector:
        (page,) = pages(connector, Entity.CLIENT)
    assert ([record.partner_id for record in page.records], page.nameless) == (["a", "d"], 3)


def test_a_role_without_an_id_ends_the_reading_since_it_may_be_anybodys() -> None:
    role = {"resourceType": "PractitionerRole", "id": "b_c"}
    with (
        scripted_server(lambda path: searchset(role)) as server,
        connected(server.url) as connector,
        pytest.raises(RetryableError) as caught,
    ):
        pages(connector, Entity.STAFF)
    assert caught.value.params == {"why": "record_without_id"}


@pytest.mark.parametrize("told", ["0001-01-01T00:00:00+09:00", "9999-12-31T23:59:59-09:00"])
def test_a_time_at_the_calendars_edge_is_no_mark(told: str) -> None:
    patient = {"resourceType": "Patient", "id": "a", "meta": {"lastUpdated": told}}
    with scripted_server(lambda path: searchset(patient)) as server, connected(server.url) as connector:
        (page,) = pages(connector, Entity.CLIENT)
    assert (len(page.records), page.cursor) == (1, None)


@pytest.mark.parametrize(
    "resource",
    [{"resourceType": "Patient"}, {"resourceType": "Patient", "entry": []}],
    ids=["a record", "no bundle"],
)
def test_an_answer_that_is_no_list_of_records_is_unreadable(resource: dict[str, Any]) -> None:
    with (
        scripted_server(lambda path: fhir(resource)) as server,
        connected(server.url) as connector,
        pytest.raises(RetryableError, match="answer_unreadable"),
    ):
        pages(connector, Entity.CLIENT)


def test_a_server_that_shows_no_self_link_and_counts_nothing_is_not_taken_as_full() -> None:
    outcome = {"resourceType": "OperationOutcome", "id": "o", "issue": []}
    with scripted_server(lambda path: searchset(PATIENT, outcome)) as server, connected(server.url) as connector:
        (page,) = pages(connector, Entity.CLIENT, '{"Patient": "2026-11-24T00:00:00Z"}')
    assert (page.is_full, page.total, len(page.records)) == (False, None, 1)
    assert page.cursor == '{"Patient": "2026-11-24T00:00:00.000Z"}'


# --- Staff ---


def test_a_full_reading_joins_each_practitioner_with_its_roles_and_counts_practitioners(
    sandbox: RunningSandbox, connector: Connector
) -> None:
    found = pages(connector, Entity.STAFF)
    assert {(page.is_full, page.total) for page in found} == {(True, 16)}
    assert sorted(record.partner_id for record in records(found)) == sorted(ids(sandbox, "Practitioner"))
    assert {len(record.content["roles"]) for record in records(found)} == {1}
    joined = records(found)[0].content
    assert joined["roles"][0]["practitioner"]["reference"] == f"Practitioner/{joined['practitioner']['id']}"
    assert "versionId" not in json.dumps(joined)


def test_a_changed_role_brings_its_practitioner_and_nobody_else(sandbox: RunningSandbox, connector: Connector) -> None:
    cursor = cursor_after(connector, Entity.STAFF)
    before = {record.partner_id: record for record in records(pages(connector, Entity.STAFF))}
    future = json.loads(aged(cursor))
    role = touch(sandbox, "PractitionerRole", active=False)
    cursor = json.dumps({"Practitioner": future["Practitioner"], "PractitionerRole": _just_before(role)})
    found = pages(connector, Entity.STAFF, cursor)
    (record,) = records(found)
    assert f"Practitioner/{record.partner_id}" == role["practitioner"]["reference"]
    assert record.content["roles"][0]["active"] is False
    assert record.partner_version != before[record.partner_id].partner_version
    assert [(page.is_full, page.total, page.is_last) for page in found] == [(False, None, True)]


def _just_before(resource: dict[str, Any]) -> str:
    return (datetime.fromisoformat(resource["meta"]["lastUpdated"]) + OVERLAP).isoformat()


def test_a_changed_practitioner_comes_with_its_roles(sandbox: RunningSandbox, connector: Connector) -> None:
    future = json.loads(aged(cursor_after(connector, Entity.STAFF)))
    changed = touch(sandbox, "Practitioner", birthDate="1990-01-01")
    cursor = json.dumps(future | {"Practitioner": _just_before(changed)})
    (record,) = records(pages(connector, Entity.STAFF, cursor))
    assert record.content["practitioner"]["birthDate"] == "1990-01-01"
    assert len(record.content["roles"]) == 1


def test_a_role_that_points_at_no_practitioner_brings_nobody(sandbox: RunningSandbox, connector: Connector) -> None:
    future = json.loads(aged(cursor_after(connector, Entity.STAFF)))
    organization = {"reference": f"Organization/{ids(sandbox, 'Practitioner')[0]}"}
    role = sandbox.put({"resourceType": "PractitionerRole", "id": "vacant", "practitioner": organization})
    sandbox.put({"resourceType": "PractitionerRole", "id": "vacant-too"})
    cursor = json.dumps(future | {"PractitionerRole": _just_before(role)})
    assert records(pages(connector, Entity.STAFF, cursor)) == []


def test_a_quiet_incremental_reading_of_staff_is_one_empty_page(connector: Connector) -> None:
    cursor = aged(cursor_after(connector, Entity.STAFF))
    (page,) = pages(connector, Entity.STAFF, cursor)
    assert (page.records, page.is_full, page.is_last) == ((), False, True)
    assert page.cursor is not None


def test_many_changed_members_of_staff_come_in_groups() -> None:
    with running_sandbox(CONFIG.__class__(staff=95)) as sandbox, connected(sandbox.url) as connector:
        found = pages(connector, Entity.STAFF, cursor_after(connector, Entity.STAFF))
    assert [len(page.records) for page in found] == [40, 40, 15]
    assert [page.is_last for page in found] == [False, False, True]
    assert {len(record.content["roles"]) for record in records(found)} == {1}


def test_of_the_two_lists_of_roles_one_is_in_memory(
    sandbox: RunningSandbox, connector: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Role(dict[str, Any]):
        """One of which it can be told whether anybody has it still."""

        __hash__ = object.__hash__

    real, alive = search.whole, WeakSet[Role]()

    def whole(server: Any, resource_type: str, params: Any) -> search.Hits:
        assert not alive
        hits = real(server, resource_type, params)
        kept = list(map(Role, hits.resources))
        alive.update(kept)
        return replace(hits, resources=kept)

    monkeypatch.setattr(search, "whole", whole)
    assert {len(record.content["roles"]) for record in records(pages(connector, Entity.STAFF))} == {1}


@pytest.mark.parametrize("kind", ["drop_entry", "missing_next", "wrong_total"])
def test_roles_that_are_not_all_there_end_the_reading_since_their_holders_would_seem_to_have_left(
    sandbox: RunningSandbox, connector: Connector, kind: str
) -> None:
    sandbox.set_faults({"kind": kind, "type": "PractitionerRole"})
    with pytest.raises(RetryableError) as caught:
        pages(connector, Entity.STAFF)
    assert caught.value.params == {"why": "count_differs"}


def test_parameters_that_the_server_passes_over_join_nobody_to_anothers_role(
    sandbox: RunningSandbox, connector: Connector
) -> None:
    full = {record.partner_id: record for record in records(pages(connector, Entity.STAFF))}
    sandbox.configure(ignored_parameters=["_lastUpdated", "practitioner", "_id"])
    found = pages(connector, Entity.STAFF, aged(cursor_after(connector, Entity.STAFF)))
    assert {record.partner_id: record for record in records(found)} == full
    assert all(page.is_full for page in found)


# --- One record ---


def test_one_record_is_fetched_as_a_reading_shows_it(sandbox: RunningSandbox, connector: Connector) -> None:
    for entity in (Entity.CLIENT, Entity.STAFF):
        for record in records(pages(connector, entity))[:3]:
            assert connector.fetch(entity, record.partner_id) == record


@pytest.mark.parametrize("gone_status", [404, 410])
def test_a_deleted_record_and_one_never_seen_are_gone(
    sandbox: RunningSandbox, connector: Connector, gone_status: int
) -> None:
    sandbox.configure(gone_status=gone_status)
    patient = ids(sandbox, "Patient")[0]
    sandbox.delete("Patient", patient)
    assert connector.fetch(Entity.CLIENT, patient) == Gone()
    assert connector.fetch(Entity.STAFF, "never-seen") == Gone()


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "html_status", "status": 404},
        {"kind": "status", "status": 404, "code": "not-supported"},
        {"kind": "status", "status": 404, "code": "security"},
        {"kind": "status", "status": 410, "code": "throttled"},
        {"kind": "status", "status": 410, "code": "transient"},
        {"kind": "status", "status": 403, "code": "forbidden"},
        {"kind": "empty_body"},
        {"kind": "cut_before"},
    ],
)
def test_nothing_but_the_servers_own_word_is_proof_of_a_delete(
    sandbox: RunningSandbox, connector: Connector, fault: dict[str, Any]
) -> None:
    patient = ids(sandbox, "Patient")[0]
    sandbox.set_faults({"method": "GET", **fault})
    with pytest.raises(PartnerError):
        connector.fetch(Entity.CLIENT, patient)


# --- The connection ---


def test_a_check_tells_the_server_and_what_the_credential_may_do(sandbox: RunningSandbox) -> None:
    gate = NotingGate()
    before = len(sandbox.journal())
    with connected(sandbox.url, gate=gate) as connector:
        report = connector.check()
    assert report.server == "zest-pipelines FHIR sandbox"
    assert report.access == tuple(Access(each, may_read=True, may_write=True) for each in (*FHIR.reads, *FHIR.writes))
    assert gate.admitted == ["metadata", "patients", "staff", "staff", "appointments", "encounters"]
    assert {row["effect"] for row in sandbox.journal()[before:]} == {"none"}


def test_a_check_with_a_credential_that_may_not_write_says_so(sandbox: RunningSandbox, connector: Connector) -> None:
    sandbox.configure(read_only=True)
    assert {access.may_write for access in connector.check().access} == {False}


def test_a_check_tells_apart_the_kinds_that_may_be_read(sandbox: RunningSandbox, connector: Connector) -> None:
    sandbox.set_faults({"kind": "status", "status": 403, "code": "forbidden", "type": "PractitionerRole"})
    may_read = {access.entity: access.may_read for access in connector.check().access}
    assert may_read == {entity: entity is not Entity.STAFF for entity in (*FHIR.reads, *FHIR.writes)}


def test_a_check_with_a_refused_credential_is_an_authentication_error(sandbox: RunningSandbox) -> None:
    with connected(sandbox.url, token="another") as connector, pytest.raises(AuthenticationError) as caught:
        connector.check()
    assert caught.value.reason == "credential_refused"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (fhir({"resourceType": "CapabilityStatement", "fhirVersion": "3.0.2"}), "not_this_protocol"),
        (fhir({"hello": "world"}), "not_this_protocol"),
        ((200, {"content-type": "text/html"}, b"<html></html>"), "not_this_protocol"),
        ((404, {"content-type": "application/json"}, b"{}"), "address_wrong"),
    ],
)
def test_a_check_of_an_address_that_is_no_fhir_r4_server_is_rejected(answer: Any, reason: str) -> None:
    with (
        scripted_server(lambda path: answer) as server,
        connected(server.url) as connector,
        pytest.raises(RejectedError) as caught,
    ):
        connector.check()
    assert caught.value.reason == reason
    is_told(reason, caught.value.params)


def test_what_the_capability_statement_does_not_speak_of_cannot_be_told() -> None:
    def answer(path: str) -> Answer:
        if path.startswith("/metadata"):
            return fhir({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})
        return searchset()

    with scripted_server(answer) as server, connected(server.url) as connector:
        report = connector.check()
    assert {(access.may_read, access.may_write) for access in report.access} == {(True, None)}
    assert report.server == "FHIR R4"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "partner.example",
        "ftp://partner.example",
        "http://user:pass@partner.example",
        "http://x/?a=b",
        "http://x:99999",
    ],
)
def test_an_address_that_is_not_plain_http_is_refused_before_anything_is_called(address: str) -> None:
    with pytest.raises(RejectedError, match="address_wrong"), connected(address):
        pass


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(RejectedError) as caught, connected("http://x", staff_identifier_system=""):
        pass
    assert (caught.value.reason, caught.value.params) == ("settings_missing", {"key": "staff_identifier_system"})
    is_told("settings_missing", caught.value.params)
