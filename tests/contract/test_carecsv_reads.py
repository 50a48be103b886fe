"""Care CSV: clients out of the files that offices send, whatever is in the folder."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from carecsv_bench import connected
from evidence import is_told
from fhir_bench import NotingGate

from partners.carecsv import reading
from partners.carecsv.layouts import COLUMNS, DELETION_COLUMNS, INSURED, PLAN_COLUMNS
from partners.carecsv.mapping import map_record
from partners.carecsv.partner import CARECSV
from partners.carecsv.sandbox.office import RECEIVER, CareOffice, made_up
from partners.contract import Client, Connection, Connector, Entity, Gone, Page, Unmappable
from partners.errors import RejectedError
from resources.http import Http

AT = datetime(2026, 11, 26, 0, 30, tzinfo=UTC)
LAYOUTS = Path(__file__).parents[3] / "shared" / "fixtures" / "careplan" / "layouts.json"


@pytest.fixture
def office(tmp_path: Path) -> CareOffice:
    return CareOffice(tmp_path)


def later(minutes: int) -> datetime:
    return AT + timedelta(minutes=minutes)


def read(connector: Connector, cursor: str | None = None) -> list[Page]:
    return list(connector.read(Entity.CLIENT, cursor))


def names(pages: list[Page]) -> dict[str, str]:
    """By the insured's number, as far as the rows could be told apart."""
    return {record.content[INSURED]: record.content.get("利用者氏名", "") for page in pages for record in page.records}


def client(number: int, **said: str) -> dict[str, str]:
    return made_up(1, number) | said


def number(of: int) -> str:
    return made_up(1, of)[INSURED]


def test_the_columns_are_those_of_the_standard() -> None:
    if not LAYOUTS.exists():
        pytest.skip("the standard's tables are not beside the project")
    files = json.loads(LAYOUTS.read_text())["files"]
    for kind, columns in (("UPHOSOKU", COLUMNS), ("UPPLAN", PLAN_COLUMNS), ("DLTPLAN", DELETION_COLUMNS)):
        assert [(each.name, each.most_bytes, each.is_required) for each in columns] == [
            (each["name"], each["max_len"], each["required"]) for each in files[kind]["fields"]
        ]


def test_each_client_comes_once_as_the_newest_file_tells_it(office: CareOffice) -> None:
    office.send([client(1), client(2)], later(0))
    office.send([client(2, 利用者氏名="森　桜"), client(3)], later(5))
    with connected(office) as connector:
        pages = read(connector)
        assert names(pages) == {
            number(1): client(1)["利用者氏名"],
            number(2): "森　桜",
            number(3): client(3)["利用者氏名"],
        }
        assert not any(page.is_full for page in pages)  # who is in no file is not gone
        cursor = pages[-1].cursor
        assert cursor == "20261126093500"
        office.send([client(1, 利用者氏名="林　桜")], later(9))
        assert names(read(connector, cursor)) == {
            number(1): "林　桜",
            number(2): "森　桜",
            number(3): client(3)["利用者氏名"],
        }
        found = connector.fetch(Entity.CLIENT, f"139999-{number(2)}")
        assert not isinstance(found, Gone)
        assert found.content["利用者氏名"] == "森　桜"
        assert connector.fetch(Entity.CLIENT, "139999-9999999999") == Gone()


def test_files_of_one_time_are_a_set_and_one_that_comes_late_is_read_too(office: CareOffice) -> None:
    office.send([client(1)], later(0))
    with connected(office) as connector:
        cursor = read(connector)[-1].cursor
        office.send([client(2)], later(0), part="44")
        assert names(read(connector, cursor)).keys() == {number(1), number(2)}


def test_an_old_file_that_is_copied_again_takes_nothing_back(office: CareOffice) -> None:
    office.send([client(1, 利用者氏名="森　桜")], later(9))
    office.send([client(1)], later(0))
    with connected(office) as connector:
        assert names(read(connector)) == {number(1): "森　桜"}


def test_a_file_that_is_still_being_written_waits_with_all_after_it(office: CareOffice) -> None:
    for minutes in (0, 5, 9):
        office.send([client(1 + minutes)], later(minutes))
    long_ago = time.time() - 60
    for name in (office.log[0], office.log[2]):
        os.utime(office.folder / name, (long_ago, long_ago))
    with connected(office, still=30.0) as connector:
        (page,) = read(connector)
        assert (names([page]).keys(), page.cursor) == ({number(1)}, "20261126093000")
        os.utime(office.folder / office.log[1], (long_ago, long_ago))
        assert names(read(connector, page.cursor)).keys() == {number(1), number(6), number(10)}


def test_an_empty_folder_and_files_of_others_are_no_clients(office: CareOffice, tmp_path: Path) -> None:
    CareOffice(tmp_path, receiver="1370000009").send([client(1)], later(0))
    tmp_path = office.folder
    (tmp_path / "UPPLAN_202612_1370000001_43_1370000002_11_20261126093000.CSV").write_bytes(b"1")
    (tmp_path / "readme.txt").write_text("x")
    (tmp_path / "UPHOSOKU").mkdir()
    with connected(office) as connector:
        (page,) = read(connector)
        assert (page.records, page.is_last, page.cursor) == ((), True, None)
        assert connector.check().server == "care CSV"


def test_names_of_before_edition_four_are_read(office: CareOffice) -> None:
    office.send([client(1)], later(0))
    (office.folder / office.log[0]).rename(office.folder / "uphosoku_000000_1370000001_1370000002_20261126093000.csv")
    with connected(office) as connector:
        assert names(read(connector)).keys() == {number(1)}


@pytest.mark.parametrize("name", ["髙﨑　①", "〜波ダッシュ", '改\r\n行　と,と"と'])
def test_letters_of_cp932_and_all_that_quotes_hold_come_as_they_are(office: CareOffice, name: str) -> None:
    said = name.replace("〜", "～")
    office.send([client(1, 利用者氏名=said)], later(0))
    with connected(office) as connector:
        assert names(read(connector)) == {number(1): said}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("1,2\r\n3,髙".encode(), "line 2"),  # UTF-8
        (b"\x81", "line 1"),
        (b'1,"2\r\n3', "line 2"),
        (b'1,"2"3\r\n', "line 1"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_keeps_no_other_back(
    office: CareOffice, content: bytes, why: str
) -> None:
    office.send([client(1)], later(0))
    bad = office.put(content, later(5))
    office.send([client(2)], later(9))
    with connected(office) as connector:
        pages: list[Page] = []
        with pytest.raises(RejectedError) as caught:
            pages.extend(connector.read(Entity.CLIENT, None))
        assert (caught.value.reason, caught.value.params) == ("file_unreadable", {"file": bad, "why": why})
        is_told("file_unreadable", caught.value.params)
        assert names(pages).keys() == {number(1), number(2)}
        assert not any(page.is_last for page in pages)
        (office.folder / bad).unlink()
        assert read(connector)[-1].is_last


def test_a_name_that_says_no_time_is_told(office: CareOffice) -> None:
    (office.folder / "UPHOSOKU_december.CSV").write_bytes(b"")
    with connected(office) as connector, pytest.raises(RejectedError, match="file_unreadable"):
        read(connector)


def test_a_row_that_says_not_whose_it_is_is_counted_and_another_length_waits_alone(office: CareOffice) -> None:
    rows = [f"202410,139999,{number(1)},20261101,だれか\r\n", "202410,139999,12,x\r\n", "\r\n", "202410\r\n"]
    rows.append(f"202410,139999,H12345678A{',' * 60}\r\n")
    office.put("".join(rows).encode("cp932"), later(0))
    with connected(office) as connector:
        (page,) = read(connector)
    assert ([each.partner_id for each in page.records], page.nameless) == (
        [f"139999-{number(1)}", "139999-H12345678A"],
        2,
    )
    assert map_record(Entity.CLIENT, page.records[0].content, {}) == Unmappable("field_invalid", {"field": "columns"})


def test_pages_are_short_and_a_client_on_two_of_them_comes_once(
    office: CareOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_RECORDS", 2)
    office.send([client(each) for each in range(1, 4)], later(0))
    office.send([client(each) for each in range(3, 6)], later(5))
    with connected(office) as connector:
        pages = read(connector)
    assert [len(page.records) for page in pages] == [2, 2, 1]
    assert [page.is_last for page in pages] == [False, False, True]
    assert len(names(pages)) == 5


@pytest.mark.parametrize(
    ("url", "settings", "reason"),
    [
        ("file:///nowhere/at/all", {}, "folder_missing"),
        ("https://example.jp/folder", {}, "address_wrong"),
        ("file://elsewhere/folder", {}, "address_wrong"),
        (None, {"office": "12"}, "settings_missing"),
    ],
)
def test_what_is_set_wrong_is_said(tmp_path: Path, url: str | None, settings: Any, reason: str) -> None:
    connection = Connection(
        "hidamari", "carecsv", url or tmp_path.as_uri(), {"office": RECEIVER, "kind": "13"} | settings
    )
    with Http().client() as client, pytest.raises(RejectedError, match=reason) as caught:
        CARECSV.open(connection, {}, client, NotingGate()).check()
    is_told(reason, caught.value.params)


def test_a_file_that_goes_away_while_the_folder_is_read_is_no_fault(
    office: CareOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.send([client(1)], later(0))
    taken = office.send([client(2)], later(5))
    with connected(office) as connector:
        folder = connector.folder  # type: ignore[attr-defined]
        seen = folder.names()
        (office.folder / taken).unlink()
        monkeypatch.setattr(type(folder), "names", lambda _: seen)
        assert names(read(connector)).keys() == {number(1)}


def test_a_file_beyond_all_measure_is_not_read_into_memory(office: CareOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partners.carecsv.folder.MOST_BYTES", 100)
    office.send([client(1)], later(0))
    with connected(office) as connector, pytest.raises(RejectedError) as caught:
        read(connector)
    assert caught.value.params["why"] == "too_long"


# --- Masters ----------------------------------------------------------------------------------------------------------


def mapped(**said: str) -> Any:
    content = {each.name: text for each in COLUMNS[1:12] if (text := client(1, **said).get(each.name))}
    return map_record(Entity.CLIENT, content, {})


def test_a_row_is_the_right_client() -> None:
    said = {
        "利用者氏名": "髙﨑　花子",
        "利用者氏名フリガナ": "ﾀｶｻｷ ﾊﾅｺ",
        "利用者性別": "2",
        "利用者生年月日": "19400229",
        "利用者郵便番号": "000-0001",
        "利用者住所１": "みどり市",
        "利用者住所２": "1-2",
        "利用者電話番号": "00-0000-0001",
    }
    names = "髙﨑", "花子", "ﾀｶｻｷ", "ﾊﾅｺ"
    place = "000-0001", "みどり市1-2", "00-0000-0001"
    assert mapped(**said) == Client(number(1), *names, "1940-02-29", "female", *place, True)
    assert mapped(利用者氏名="髙﨑", 利用者氏名フリガナ="").given_name == ""


@pytest.mark.parametrize(
    ("said", "reason", "field"),
    [
        ({"利用者性別": "3"}, "unknown_code", "利用者性別"),
        ({"利用者生年月日": "19410229"}, "field_invalid", "利用者生年月日"),
        ({"利用者生年月日": "昭和１６年"}, "field_invalid", "利用者生年月日"),
        ({"利用者氏名": "", "利用者氏名フリガナ": " "}, "required_field_missing", "利用者氏名"),
        ({"利用者郵便番号": "000-00011"}, "field_invalid", "利用者郵便番号"),
    ],
)
def test_a_row_that_is_no_client_says_why(said: Any, reason: str, field: str) -> None:
    assert mapped(**said) == Unmappable(reason, {"field": field})
