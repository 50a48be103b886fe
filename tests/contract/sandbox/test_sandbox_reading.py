"""Reading from the sandbox: versions, history, searches, and pages that follow each other by opaque links."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from sandbox_caller import Caller, appointment, calling, issue_codes, link, patient

from partners.fhir.sandbox import SandboxConfig


@pytest.fixture(scope="module")
def seeded() -> Iterator[Caller]:
    """Ten clients, c0 to c9, changed in the order 0 ... 9, and then c0 once more."""
    with calling() as caller:
        for number in range(10):
            caller.put("Patient", f"c{number}", identifier=[{"system": "urn:s", "value": f"{number:04}"}])
        caller.put("Patient", "c0", identifier=[{"system": "urn:s", "value": "0000"}], active=False)
        yield caller


@pytest.fixture
def caller(seeded: Caller) -> Iterator[Caller]:
    yield seeded
    seeded.sandbox.configure(default_count=50, max_count=200, page_seconds=300, ignored_parameters=[], history=True)


def updated(caller: Caller, record_id: str) -> str:
    return str(caller.get(f"Patient/{record_id}").json()["meta"]["lastUpdated"])


def test_each_version_of_a_record_can_be_read(caller: Caller) -> None:
    old, new = caller.get("Patient/c0/_history/1"), caller.get("Patient/c0/_history/2")
    assert "active" not in old.json()
    assert new.json() == caller.get("Patient/c0").json()
    assert old.headers["etag"] == 'W/"1"'
    assert caller.get("Patient/c0/_history/3").status_code == 404


def test_a_search_finds_by_identifier_with_and_without_its_system(caller: Caller) -> None:
    assert caller.ids(caller.get("Patient", identifier="urn:s|0003")) == ["c3"]
    assert caller.ids(caller.get("Patient", identifier="0003")) == ["c3"]
    assert caller.ids(caller.get("Patient", identifier="urn:s|0003,urn:s|0004")) == ["c3", "c4"]
    assert caller.ids(caller.get("Patient", identifier="urn:other|0003")) == []


def test_a_search_finds_by_id_and_all_terms_must_hold(caller: Caller) -> None:
    assert caller.ids(caller.get("Patient", _id="c2,c5,nobody")) == ["c2", "c5"]
    assert caller.ids(caller.get("Patient", _id="c2", identifier="0005")) == []


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("ge", ["c5", "c6"]), ("gt", ["c6"]), ("le", ["c3", "c4", "c5"]), ("lt", ["c3", "c4"]), ("", ["c5"])],
)
def test_last_updated_has_the_bounds_of_the_standard(caller: Caller, prefix: str, expected: list[str]) -> None:
    at = updated(caller, "c5")
    found = caller.ids(caller.get("Patient", _lastUpdated=f"{prefix}{at}", _id="c3,c4,c5,c6"))
    assert sorted(found) == expected
    alone = caller.ids(caller.get("Patient", _lastUpdated=f"{prefix}{at}", _sort="_lastUpdated"))
    assert [found for found in alone if found in ("c3", "c4", "c5", "c6")] == expected


def test_two_bounds_make_a_range(caller: Caller) -> None:
    low, high = updated(caller, "c3"), updated(caller, "c5")
    address = f"Patient?_lastUpdated=ge{low}&_lastUpdated=lt{high}"
    assert caller.ids(caller.http.get(address)) == ["c3", "c4"]


def test_a_date_of_lower_precision_stands_for_all_of_it(caller: Caller) -> None:
    year = updated(caller, "c5")[:4]
    assert caller.get("Patient", _lastUpdated=f"eq{year}").json()["total"] == 10
    assert caller.get("Patient", _lastUpdated=f"gt{year}").json()["total"] == 0


def test_a_search_sorts_by_time_of_change_either_way_or_by_id(caller: Caller) -> None:
    by_time = [f"c{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)]
    assert caller.ids(caller.get("Patient", _sort="_lastUpdated")) == by_time
    assert caller.ids(caller.get("Patient", _sort="-_lastUpdated")) == by_time[::-1]
    assert caller.ids(caller.get("Patient", _sort="_id")) == sorted(by_time)
    assert caller.ids(caller.get("Patient")) == sorted(by_time)


def test_pages_follow_each_other_by_a_link_that_cannot_be_built(caller: Caller) -> None:
    page = caller.get("Patient", _count=4, _sort="_id")
    seen = [caller.ids(page)]
    while address := link(page, "next"):
        assert "_count" not in address
        page = caller.http.get(address)
        seen.append(caller.ids(page))
    assert [len(ids) for ids in seen] == [4, 4, 2]
    assert [found for ids in seen for found in ids] == [f"c{number}" for number in range(10)]
    assert page.json()["total"] == 10


def test_a_page_is_lowered_to_what_the_server_gives_and_the_self_link_tells(caller: Caller) -> None:
    caller.sandbox.configure(max_count=3)
    page = caller.get("Patient", _count=1000)
    assert len(caller.ids(page)) == 3
    assert "_count=3" in str(link(page, "self"))
    caller.sandbox.configure(default_count=2)
    assert len(caller.ids(caller.get("Patient"))) == 2


def test_a_next_link_expires(caller: Caller) -> None:
    caller.sandbox.configure(page_seconds=0.05)
    address = link(caller.get("Patient", _count=4), "next")
    time.sleep(0.1)  # the very thing under test
    answer = caller.http.get(str(address))
    assert answer.status_code == 410
    assert issue_codes(answer) == ["expired"]


def test_a_next_link_of_another_type_or_none_at_all_is_unknown(caller: Caller) -> None:
    address = str(link(caller.get("Patient", _count=4), "next"))
    assert caller.http.get(address.replace("/Patient?", "/Appointment?")).status_code == 410
    assert caller.get("Patient", _page="made-up").status_code == 410


def test_a_record_that_changes_while_one_pages_moves(caller: Caller) -> None:
    """The trap that a certified snapshot has to survive: offset paging over a live result."""
    with calling() as own:
        for number in range(4):
            own.put("Patient", f"c{number}")
        page = own.get("Patient", _count=2, _sort="_lastUpdated")
        own.put("Patient", "c0")
        rest = own.http.get(str(link(page, "next")))
        assert own.ids(page) == ["c0", "c1"]
        assert own.ids(rest) == ["c3", "c0"], "c2 is missed and c0 comes twice"


def test_the_self_link_lacks_what_the_server_ignored(caller: Caller) -> None:
    page = caller.get("Patient", _count=5, favourite="tea", _lastUpdated="ge2000")
    assert link(page, "self") == f"{caller.sandbox.url}/Patient?_count=5&_lastUpdated=ge2000"
    caller.sandbox.configure(ignored_parameters=["_lastUpdated"])
    page = caller.get("Patient", _count=5, _lastUpdated="lt2000")
    assert link(page, "self") == f"{caller.sandbox.url}/Patient?_count=5"
    assert page.json()["total"] == 10


def test_counts_alone_and_elements_alone_can_be_asked_for(caller: Caller) -> None:
    for ask in ({"_summary": "count"}, {"_count": "0"}):
        page = caller.get("Patient", **ask).json()
        assert (page["total"], page.get("entry")) == (10, None)
    (entry,) = caller.get("Patient", _id="c1", _elements="active").json()["entry"]
    assert set(entry["resource"]) == {"resourceType", "id", "meta"}
    assert entry["resource"]["meta"]["tag"][0]["code"] == "SUBSETTED"


def test_the_total_can_be_left_out(caller: Caller) -> None:
    assert "total" not in caller.get("Patient", _total="none").json()


def test_an_empty_result_has_no_entry_list(caller: Caller) -> None:
    page = caller.get("Patient", identifier="nobody").json()
    assert page["total"] == 0
    assert "entry" not in page


@pytest.mark.parametrize(
    "params", [{"_count": "many"}, {"_count": "-1"}, {"_lastUpdated": "yesterday"}, {"_lastUpdated": "ge2026-13"}]
)
def test_a_known_parameter_with_a_senseless_value_is_refused(caller: Caller, params: dict[str, str]) -> None:
    assert caller.get("Patient", **params).status_code == 400


@pytest.mark.parametrize("count", ["0", "-1", "²", "many"])
def test_a_senseless_count_of_versions_is_ignored(caller: Caller, count: str) -> None:
    page = caller.get("Patient/_history", _count=count)
    assert page.status_code == 200
    assert "_count" not in str(link(page, "self"))


def test_appointments_are_found_by_client_staff_and_date() -> None:
    with calling(SandboxConfig(check_references=False)) as caller:
        staff = {"actor": {"reference": "Practitioner/s1"}, "status": "accepted"}
        first = appointment("c1", "k1")
        first["participant"].append(staff)
        one = caller.create(first).json()["id"]
        two = caller.create(appointment("c2", "k2", start="2026-12-01T09:00:00Z", end="2026-12-01T10:00:00Z")).json()[
            "id"
        ]
        for term in ({"patient": "c1"}, {"patient": "Patient/c1"}, {"practitioner": "s1"}, {"date": "2026-11-24"}):
            assert caller.ids(caller.get("Appointment", **term)) == [one], term
        assert caller.ids(caller.get("Appointment", date="ge2026-12")) == [two]
        assert caller.ids(caller.get("Appointment", actor="Patient/c2")) == [two]


def test_history_tells_every_change_newest_first_and_deletes_too() -> None:
    with calling() as caller:
        caller.update(patient("a"))
        second = caller.update(patient("a", active=False)).json()
        caller.update(patient("b"))
        caller.delete("Patient/b")
        entries = caller.get("Patient/_history").json()["entry"]
        told = [(e["request"]["method"], e["fullUrl"][-1], e["response"]["status"]) for e in entries]
        assert told == [("DELETE", "b", "204"), ("PUT", "b", "201"), ("PUT", "a", "200"), ("PUT", "a", "201")]
        assert "resource" not in entries[0]
        since = second["meta"]["lastUpdated"]
        assert caller.get("Patient/_history", _since=since).json()["total"] == 3
        assert caller.get("Patient/a/_history").json()["total"] == 2
        assert caller.get("Patient/never/_history").status_code == 404


def test_history_comes_in_pages() -> None:
    with calling() as caller:
        for _ in range(5):
            caller.update(patient("a"))
        page = caller.get("Patient/_history", _count=2)
        versions = []
        while True:
            versions += [entry["resource"]["meta"]["versionId"] for entry in page.json()["entry"]]
            if (address := link(page, "next")) is None:
                break
            page = caller.http.get(address)
        assert versions == ["5", "4", "3", "2", "1"]


def test_a_server_may_keep_no_history(caller: Caller) -> None:
    caller.sandbox.configure(history=False)
    assert caller.get("Patient/_history").status_code == 404
    assert caller.get("Patient/c0/_history").status_code == 404


def test_the_capability_statement_tells_what_the_options_are() -> None:
    config = SandboxConfig(history=False, update_create=False, ignored_parameters=("_lastUpdated",), read_only=True)
    with calling(config) as caller:
        statement = caller.get("metadata").json()
    assert (statement["resourceType"], statement["fhirVersion"]) == ("CapabilityStatement", "4.0.1")
    (rest,) = statement["rest"]
    by_type = {each["type"]: each for each in rest["resource"]}
    assert set(by_type) >= {"Patient", "Practitioner", "PractitionerRole", "Appointment", "Encounter"}
    codes = {each["code"] for each in by_type["Appointment"]["interaction"]}
    assert codes == {"read", "vread", "search-type"}
    assert by_type["Appointment"]["updateCreate"] is False
    assert "_lastUpdated" not in {each["name"] for each in by_type["Patient"]["searchParam"]}
    assert {"patient", "date"} <= {each["name"] for each in by_type["Appointment"]["searchParam"]}
