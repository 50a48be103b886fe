"""Normal forms: two spellings of one thing are equal, and what means something else stays different."""

from __future__ import annotations

import time

import pytest

from zest_pipelines.core.fingerprint import UnstorableText
from zest_pipelines.core.moments import MomentError, moment
from zest_pipelines.core.normalise import FORMS, is_same, normal
from zest_pipelines.core.written_dates import iso_date

SAME = {
    "family_name": [
        ("山田 太郎", "山田　太郎"),
        ("山田太郎", " 山田  太郎 "),
        ("Ｓｍｉｔｈ", "Smith"),
        ("Mary  Ann", "Mary　Ann"),
        ("ｻﾄｳ", "サトウ"),
        ("が", "か\u3099"),
        ("山\u200b田", "山田"),
        ("⼭田", "山田"),  # a radical of Kangxi
    ],
    "family_kana": [
        ("ﾔﾏﾀﾞ", "ヤマダ"),
        ("やまだ", "ヤマダ"),
        ("か\u3099", "ガ"),
        ("カ゛", "ガ"),
        ("ｵｰﾉ", "オーノ"),
        ("オ-ノ", "オーノ"),
        ("オ－ノ", "オーノ"),
        ("オ—ノ", "オーノ"),
        ("オ―ノ", "おーの"),
        ("オ − ノ", "オーノ"),
        ("ゔぁん", "ヴァン"),
        ("ミサ゛ワ", "ミザワ"),
        ("ヤマダ タロウ", "ﾔﾏﾀﾞ　ﾀﾛｳ"),
        ("すゞき", "スヾキ"),
    ],
    "postal_code": [("100-0001", "1000001"), ("〒１００－０００１", "1000001"), ("100 ー 0001", "1000001")],
    "phone": [
        ("03-1234-5678", "0312345678"),
        ("０３（１２３４）５６７８", "03 1234 5678"),
        ("+81 3-1234-5678", "03-1234-5678"),
        ("+81 (0)3-1234-5678", "03.1234.5678"),
        ("＋８１－９０－１２３４－５６７８", "090ー1234ー5678"),
        ("+1 (212) 555-0100", "+12125550100"),
    ],
    "birth_date": [
        ("昭和25年3月1日", "1950-03-01"),
        ("S25.3.1", "1950/3/1"),
        ("s25-03-01", "昭２５／３／１"),
        ("S250301", "19500301"),
        ("㍼25年 3月 1日", "1950年3月1日"),
        ("㍾45年7月30日", "1912-07-30"),
        ("㍽元年7月30日", "1912-07-30"),
        ("㍻元年1月8日", "1989-01-08"),
        ("令和元年5月1日", "R1.5.1"),
        ("㋿元年5月1日", "2019-05-01"),
        ("平成元年1月8日", "1989-01-08"),
        ("大正元年7月30日", "明治45年7月30日"),
        ("昭和元年12月25日", "大正15年12月25日"),
        ("M6.1.1", "1873-01-01"),
        ("昭和25年", "1950"),
        ("S25.3", "1950-03"),
        ("1950-03-01T00:00:00+09:00", "1950-03-01"),
        ("1950-03-01T23:30:00Z", "1950-03-01"),
        ("1950/3/1 0:00", "1950-03-01"),
    ],
}
DIFFERENT = {
    "family_name": [
        ("髙橋", "高橋"),
        ("山﨑", "山崎"),
        ("\ufa19", "\u795e"),
        ("\U0002f80c", "\u349e"),
        ("葛\U000e0100城", "葛城"),
        ("齋藤", "斎藤"),
        ("渡邉", "渡邊"),
        ("さくら", "サクラ"),
        ("ann lee", "annlee"),
        ("①", "1"),
        ("㈱", "(株)"),
        ("", "山田"),
    ],
    "family_kana": [
        ("ハットリ", "ハツトリ"),
        ("キョウコ", "キヨウコ"),
        ("オオノ", "オーノ"),
        ("オノ", "オーノ"),
        ("ヂ", "ジ"),
        ("ヅ", "ズ"),
        ("ヲ", "オ"),
        ("ヴァ", "バ"),
        ("カ", "ガ"),
        ("ハ", "パ"),
        ("-ア", "ーア"),
        ("サト一", "サトー"),  # the kanji of one
    ],
    "postal_code": [("100-0001", "100-0002"), ("100-000", "100-0000"), ("1000001 東京", "1000001")],
    "phone": [
        ("03-1234-5678", "03-1234-5679"),
        ("03-1234-5678 内線12", "03-1234-5678"),
        ("03-1234-5678/090-1234-5678", "0312345678"),
        ("+1 3-1234-5678", "03-1234-5678"),
        ("なし", ""),
        ("-", ""),
    ],
    "birth_date": [
        ("1950", "1950-01-01"),
        ("1950-03", "1950-03-01"),
        ("S25", "1950-01"),
        ("平成元年1月7日", "昭和64年1月7日"),
        ("昭和64年1月8日", "平成元年1月8日"),
        ("S25.3.1", "H25.3.1"),
        ("250301", "S250301"),
        ("1950-02-30", "1950-03-02"),
    ],
    "address": [("１丁目", "1丁目"), ("北区 1", "北区1")],
    "number": [("0012", "12"), ("Ａ1", "A1")],
}
NO_DATES = [
    "",
    "0",
    "元年",
    "25年3月1日",
    "50-03-01",
    "250301",
    "1950-13-01",
    "1950-00-10",
    "1950-2-30",
    "1950-3/1",
    "00000000",
    "0000",
    "昭和0年",
    "昭和64年1月8日",
    "昭和64年2月",
    "昭和65年",
    "平成元年1月7日",
    "平成31年5月1日",
    "令和元年4月30日",
    "令和元年4月",
    "明治5年12月2日",
    "大正元年7月29日",
    "明治45年7月31日",
    "1950 3 1",
    "X25.3.1",
    "1950-03-01 昼",
]


def pairs(corpus: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str, str]]:
    return [(field, one, other) for field, found in corpus.items() for one, other in found]


@pytest.mark.parametrize(("field", "one", "other"), pairs(SAME))
def test_two_spellings_of_one_thing_are_the_same(field: str, one: str, other: str) -> None:
    assert normal(field, one) == normal(field, other)
    assert is_same(field, one, other)


@pytest.mark.parametrize(("field", "one", "other"), pairs(DIFFERENT))
def test_what_means_something_else_stays_different(field: str, one: str, other: str) -> None:
    assert normal(field, one) != normal(field, other)
    assert not is_same(field, one, other)


@pytest.mark.parametrize("text", NO_DATES)
def test_what_is_no_date_is_none_and_stays_as_it_is_written(text: str) -> None:
    assert iso_date(text) is None
    assert normal("birth_date", text) == text


def test_a_date_is_the_one_that_was_written_in_whatever_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    for zone in ("Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert iso_date("1950-03-01T23:59:59+09:00") == iso_date("昭和25年3月1日") == "1950-03-01"
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("field", [*FORMS, "address"])
@pytest.mark.parametrize("odd", ["\0", chr(0xD83D), chr(0xDC00)])
def test_what_no_database_takes_is_refused_without_being_quoted(field: str, odd: str) -> None:
    with pytest.raises(UnstorableText) as error:
        normal(field, f"山{odd}田")
    assert "山" not in str(error.value)


def test_values_that_are_no_text_are_compared_as_they_are() -> None:
    assert is_same("active", True, True)
    assert not is_same("active", True, False)
    assert not is_same("employed_until", None, "2026-03-31")


def test_a_moment_without_an_offset_is_japans() -> None:
    assert moment("2026-11-01T09:00") == moment("2026-11-01T00:00:00Z") == moment(" 2026-11-01 09:00+09:00 ")
    assert moment("2026-11-01").isoformat() == "2026-11-01T00:00:00+09:00"
    with pytest.raises(MomentError, match="write 2026-11-01T09:00"):
        moment("yesterday")
