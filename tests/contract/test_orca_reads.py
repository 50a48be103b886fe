"""The way in from ORCA: recorded answers become the right records, and its lists are read whole whatever they hide."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree.ElementTree import Element  # read by defusedxml

import pytest
from defusedxml.ElementTree import fromstring
from evidence import is_told
from fhir_bench import NotingGate
from orca_bench import CONFIG, SECRET, connected, patients, recorded

from partners.contract import Client, Connector, Entity, Gone, Page, Staff
from partners.errors import AuthenticationError, PartnerError, RejectedError, RetryableError
from partners.orca.mapping import map_record
from partners.orca.sandbox import FaultKind, Rules
from partners.orca.sandbox.testing import RunningOrca, running_orca


@contextmanager
def replaying(answers: Mapping[str, bytes]) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server that gives these answers, by the last part of the path; its address, and what it was asked."""
    asked: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            asked.append((self.path, body))
            api = self.path.partition("?")[0].rpartition("/")[2]
            answer = answers[api]
            kind = "json" if answer.lstrip()[:1] in (b"{", b"[") else "xml"
            self.send_response(200)
            self.send_header("content-type", f"application/{kind}")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def orca() -> Iterator[RunningOrca]:
    with running_orca(CONFIG) as running:
        yield running


def ids(pages: list[Page]) -> list[str]:
    return [record.partner_id for page in pages for record in page.records]


def read(connector: Connector, cursor: str | None = None) -> list[Page]:
    return list(connector.read(Entity.CLIENT, cursor))


# --- Recorded answers -------------------------------------------------------------------------------------------------


def test_a_recorded_patient_is_the_right_client() -> None:
    told = recorded("api01rv2_patientgetv2.json")
    with replaying({"patientgetv2": told}) as (url, asked), connected(url, format="json") as connector:
        found = connector.fetch(Entity.CLIENT, "1")
    assert [path for path, _ in asked] == ["/api01rv2/patientgetv2?id=1&format=json"]
    assert not isinstance(found, Gone)
    assert found.partner_id == "1"
    assert "HealthInsurance_Information" not in found.content
    client = map_record(Entity.CLIENT, found.content, {})
    assert client == Client(
        number="00001",
        family_name="テスト",
        given_name="カンジャ",
        family_kana="テスト",
        given_kana="カンジャ",
        birth_date="1965-04-04",
        sex="male",
        postal_code="6900051",
        address="島根県松江市横浜町１１５５",
        phone="0852-22-2222",
        active=True,
    )


def test_recorded_doctors_and_users_are_the_right_staff_without_the_padding() -> None:
    doctors, users = recorded("api01rv2_system01lstv2_02.json"), recorded("orca101_manageusersv2_01.json")
    with (
        replaying({"system01lstv2": doctors, "manageusersv2": users}) as (url, _),
        connected(url, format="json", users="yes") as connector,
    ):
        (page,) = connector.read(Entity.STAFF, None)
    assert ids([page]) == ["10001", "10002"]  # the system's own user is nobody
    first, second = (map_record(Entity.STAFF, record.content, {}) for record in page.records)
    assert isinstance(first, Staff)
    assert isinstance(second, Staff)
    assert (first.family_name, first.given_name, first.qualification, first.active) == ("オルカ", "太郎", "医師", True)
    assert (second.number, second.family_name, second.family_kana) == ("10002", "あああ", "アアア")


def test_a_documented_list_of_doctors_in_xml_is_read_like_one_in_json() -> None:
    told = recorded("docs-samples/system01lstv2_02_response.xml")
    with replaying({"system01lstv2": told}) as (url, _), connected(url) as connector:
        (page,) = connector.read(Entity.STAFF, None)
    staff = [map_record(Entity.STAFF, record.content, {}) for record in page.records]
    shown = [(each.number, each.family_name, each.given_kana) for each in staff if isinstance(each, Staff)]
    assert shown == [("10001", "日本", "ハジメ"), ("10002", "日医", "タロウ")]


@pytest.mark.parametrize(
    ("file", "form", "numbers"),
    [
        ("api01rv2_patientlst1v2.json", "json", {"61", "65", "66"}),
        ("docs-samples/patientlst1v2_response.xml", "xml", {"11", "12"}),
    ],
)
def test_of_a_recorded_list_of_changes_each_patient_is_asked_for(file: str, form: str, numbers: set[str]) -> None:
    today = recorded("docs-samples/system01lstv2_02_response.xml")
    gone = b'<xmlio2><patientinfores type="record"><Api_Result type="string">10</Api_Result></patientinfores></xmlio2>'
    answers = {"system01lstv2": today, "patientlst1v2": recorded(file), "patientgetv2": gone}
    with replaying(answers) as (url, asked), connected(url, format=form) as connector:
        pages = read(connector, '{"since": "2013-03-13"}')
    wanted = {path.partition("id=")[2].partition("&")[0] for path, _ in asked if "patientgetv2" in path}
    assert numbers <= wanted
    assert len(wanted) <= 4  # a thousand members of the list are padding
    assert pages[-1].is_last


def test_a_request_for_changes_has_the_documented_shape() -> None:
    today = recorded("docs-samples/system01lstv2_02_response.xml")
    changes = recorded("docs-samples/patientlst1v2_response.xml")
    gone = b'<xmlio2><patientinfores type="record"><Api_Result type="string">10</Api_Result></patientinfores></xmlio2>'
    answers = {"system01lstv2": today, "patientlst1v2": changes, "patientgetv2": gone}
    with replaying(answers) as (url, asked), connected(url) as connector:
        read(connector, '{"since": "2013-03-13"}')
    ((path, sent),) = [each for each in asked if "patientlst1v2" in each[0]]
    assert path == "/api01rv2/patientlst1v2?class=01"
    assert _shape(fromstring(sent)) == _shape(fromstring(recorded("docs-samples/patientlst1v2_request.xml")))


def _shape(element: Element) -> object:
    """Names, types and their order, without what is said."""
    return element.tag, element.get("type"), [_shape(part) for part in element]


# --- Patients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["xml", "json"])
def test_a_full_reading_has_every_patient_once_but_for_those_for_tests(orca: RunningOrca, form: str) -> None:
    with connected(orca.url, format=form) as connector:
        pages = read(connector)
    assert ids(pages) == patients(orca)  # those without a date too
    assert pages[-1].is_last
    assert pages[-1].cursor is not None
    assert all(page.is_full for page in pages)


def test_a_reading_that_broke_off_is_taken_up_where_it_was() -> None:
    with running_orca(replace(CONFIG, clients=80)) as orca, connected(orca.url) as connector:
        pages = read(connector)
        assert len(pages) > 2
        before = len(orca.journal())
        rest = list(connector.read(Entity.CLIENT, None, pages[0].resume))
        assert ids(rest) == ids(pages[1:])
        fetched = {row["patient"] for row in orca.journal(before) if row["api"] == "patientgetv2"}
    assert not fetched & set(ids(pages[:1]))


def test_a_patient_beyond_a_gap_in_the_numbers_is_read_if_a_date_tells_of_it(orca: RunningOrca) -> None:
    orca.put_patient(900_001, WholeName="遠藤　花", WholeName_inKana="エンドウ　ハナ", BirthDate="1940-01-02", Sex="2")
    with connected(orca.url) as connector:
        assert ids(read(connector)) == [*patients(orca)[:-1], "900001"]


def test_who_was_saved_since_is_read_alone_and_a_list_cut_short_is_asked_for_in_halves() -> None:
    with running_orca(replace(CONFIG, rules=Rules(most_listed=4))) as orca, connected(orca.url) as connector:
        today = date.fromisoformat(str(json.loads(read(connector)[-1].cursor or "")["since"]))
        known = [number for number, row in orca.state()["patients"].items() if row.get("CreateDate")][:6]
        for distance, number in enumerate(known):
            saved = (today - timedelta(days=distance)).isoformat()
            orca.put_patient(int(number), UpdateDate=saved, CreateDate=saved)
        before = len(orca.journal())
        since = (today - timedelta(days=7)).isoformat()
        pages = read(connector, f'{{"since": "{since}"}}')
        asked = [row["result"] for row in orca.journal(before) if row["api"] == "patientlst1v2"]
        assert set(ids(pages)) == set(known) & set(patients(orca))  # one may be for tests
    assert not any(page.is_full for page in pages)
    assert asked.count("10") >= 1
    assert len(asked) >= 3


def test_more_in_one_day_than_a_list_can_tell_means_all_are_read_in_the_ranges_that_somebody_tells() -> None:
    with running_orca(replace(CONFIG, rules=Rules(most_listed=4))) as orca:
        with connected(orca.url) as connector:
            cursor = read(connector)[-1].cursor
            for number in patients(orca)[:6]:
                orca.put_patient(int(number))
            before = len(orca.journal())
            with pytest.raises(RejectedError, match="patient_numbers_missing") as raised:
                read(connector, cursor)
            is_told("patient_numbers_missing", raised.value.params)
            assert "patientgetv2" not in {row["api"] for row in orca.journal(before)}
        with connected(orca.url, patient_numbers="1-") as connector:
            pages = read(connector, cursor)
            assert all(page.is_full for page in pages)
            assert ids(pages) == patients(orca)


def test_a_delete_is_told_by_the_log_where_there_is_one_and_proved_by_asking(orca: RunningOrca) -> None:
    with connected(orca.url, push_log="yes") as connector:
        cursor = read(connector)[-1].cursor
        first, second = patients(orca)[:2]
        orca.delete_patient(int(first))
        orca.delete_patient(int(second))
        orca.put_patient(int(second), WholeName="森　梅", BirthDate="1950-01-01", Sex="2")  # entered again
        pages = read(connector, cursor)
        assert pages[-1].gone == (first,)
        assert second in ids(pages)
        assert connector.fetch(Entity.CLIENT, first) == Gone()
        assert first not in ids(read(connector))
    with connected(orca.url) as connector:
        assert read(connector, cursor)[-1].gone == ()


def test_a_list_without_rows_is_no_fault(orca: RunningOrca) -> None:
    with connected(orca.url) as connector:
        (page,) = read(connector, read(connector)[-1].cursor)
    assert (page.records, page.is_last) == ((), True)


# --- Staff and the check ----------------------------------------------------------------------------------------------


def test_a_list_without_a_doctor_is_no_list_of_a_clinic() -> None:
    empty = b'{"physicianres": {"Api_Result": "00", "Physician_Information": []}}'
    with replaying({"system01lstv2": empty}) as (url, _), connected(url, format="json") as connector:
        with pytest.raises(RetryableError, match="partner_list_incomplete"):
            list(connector.read(Entity.STAFF, None))
        with pytest.raises(RetryableError, match="partner_list_incomplete"):
            connector.fetch(Entity.STAFF, "10001")


def test_who_has_left_is_told_by_the_users_where_they_may_be_listed(orca: RunningOrca) -> None:
    orca.put_staff("20009", name="林　桜", kana="ハヤシ　サクラ", since="2015-04-01", until="2020-03-31")
    with connected(orca.url, users="yes") as connector:
        (page,) = connector.read(Entity.STAFF, None)
    (left,) = [each for each in page.records if each.partner_id == "20009"]
    staff = map_record(Entity.STAFF, left.content, {})
    assert isinstance(staff, Staff)
    assert (staff.active, staff.employed_until, staff.qualification) == (False, date(2020, 3, 31), "看護師")
    with connected(orca.url) as connector:
        (page,) = connector.read(Entity.STAFF, None)
        assert "20009" not in ids([page])
        assert connector.fetch(Entity.STAFF, "20009") == Gone()


def test_the_check_reads_and_tells_and_writes_nothing(orca: RunningOrca) -> None:
    with connected(orca.url, users="yes", push_log="yes") as connector:
        report = connector.check()
    assert report.server == "医療法人　ひだまり"
    assert [access.may_read for access in report.access] == [True, True, None, None]
    assert orca.writes() == []


@pytest.mark.parametrize(
    ("settings", "secret", "error", "reason"),
    [
        ({}, {"user": "zest", "password": "other"}, AuthenticationError, "credential_refused"),
        ({"api_prefix": "/api"}, SECRET, RejectedError, "address_wrong"),
        ({"department": "77"}, SECRET, RejectedError, "code_unknown_at_partner"),
        ({"default_doctor": "10099"}, SECRET, RejectedError, "code_unknown_at_partner"),
        ({"doctors": "20002=20002"}, SECRET, RejectedError, "code_unknown_at_partner"),
    ],
)
def test_the_check_says_what_is_set_wrong(
    orca: RunningOrca, settings: dict[str, str], secret: dict[str, str], error: type[PartnerError], reason: str
) -> None:
    with connected(orca.url, secret=secret, **settings) as connector, pytest.raises(error) as raised:
        connector.check()
    assert raised.value.reason == reason


@pytest.mark.parametrize("key", ["format", "doctors", "patient_numbers", "push_log", "users"])
def test_a_setting_that_cannot_be_read_is_named(key: str) -> None:
    with pytest.raises(RejectedError) as raised, connected("http://127.0.0.1:1", **{key: "=?"}):
        pass
    assert (raised.value.reason, raised.value.params) == ("settings_missing", {"key": key})


@pytest.mark.parametrize("code", ["8097", "8098", "8099"])
def test_a_user_who_may_not_list_users_is_told_so(orca: RunningOrca, code: str) -> None:
    orca.fail(FaultKind.CODE, api="manageusersv2", code=code)
    with connected(orca.url, users="yes") as connector, pytest.raises(AuthenticationError) as raised:
        list(connector.read(Entity.STAFF, None))
    assert (raised.value.reason, raised.value.params) == ("permission_missing", {"permission": "manageusersv2"})


def test_a_prefix_and_one_call_after_another_past_the_gate() -> None:
    gate = NotingGate()
    with running_orca(replace(CONFIG, prefix="/api")) as orca:
        with connected(orca.url, gate=gate, api_prefix="/api") as connector:
            pages = read(connector)
        assert len(gate.admitted) == len(orca.journal())
        assert set(gate.admitted) == {"patients", "staff"}
        assert orca.health()["most_under_way"] == 1
        assert ids(pages) == patients(orca)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"kind": "code", "code": "90"}, "partner_locked"),
        ({"kind": "code", "code": "E90"}, "partner_locked"),
        ({"kind": "code", "code": "89"}, "partner_failed"),
        ({"kind": "code", "code": "Q7"}, "unknown"),
        ({"kind": "empty"}, "empty_reply"),
        ({"kind": "speechless"}, "empty_reply"),
        ({"kind": "status", "status": 503}, "partner_maintenance"),
        ({"kind": "delay", "seconds": 3}, "partner_unreachable"),
    ],
)
def test_what_goes_wrong_while_patients_are_read_is_tried_again(
    orca: RunningOrca, fault: dict[str, object], reason: str
) -> None:
    orca.set_faults({"api": "patientgetv2", **fault})
    with connected(orca.url, seconds=0.5) as connector, pytest.raises(RetryableError) as raised:
        read(connector)
    assert raised.value.reason == reason
    is_told(reason, raised.value.params)


def test_a_closed_route_is_a_persons_to_open() -> None:
    closed = replace(CONFIG, closed=("patientlst2v2",))
    with running_orca(closed) as orca, connected(orca.url) as connector, pytest.raises(RejectedError) as raised:
        read(connector)
    assert (raised.value.reason, raised.value.params) == ("function_closed", {"function": "patientlst2v2"})
    is_told("function_closed", raised.value.params)
