"""Laws of the normal forms, for whatever is written."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from zest_pipelines.core.composition import composed
from zest_pipelines.core.normalise import FORMS, normal
from zest_pipelines.core.written_dates import iso_date

anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
japanese = st.text(
    "アｱァヴウーｰ-－—− 　ﾞ゛\u3099゜かがっッ山髙﨑\ufa19々\U000e0100Aa1０+8()元年月日昭S./T:〒", max_size=12
)
fields = st.sampled_from([*FORMS, "address"])
ERAS = {"昭和": (date(1926, 12, 25), date(1989, 1, 7), 1925), "平成": (date(1989, 1, 8), date(2019, 4, 30), 1988)}


@given(fields, anything | japanese)
def test_a_normal_form_is_its_own(field: str, text: str) -> None:
    form = normal(field, text)
    assert normal(field, form) == form


@given(anything | japanese)
def test_a_composition_is_its_own_and_keeps_every_ideograph(text: str) -> None:
    form = composed(text)
    assert composed(form) == form

    def ideographs(of: str) -> list[str]:
        return [each for each in of if "\uf900" <= each <= "\ufaff" or "\U0002f800" <= each <= "\U0002fa1f"]

    assert ideographs(form) == ideographs(text)


@given(st.dates(date(1926, 12, 25), date(2019, 4, 30)))
def test_a_day_has_one_form_however_it_is_written(day: date) -> None:
    era = next(name for name, (first, last, _) in ERAS.items() if first <= day <= last)
    year = day.year - ERAS[era][2]
    written = f"{era}{'元' if year == 1 else year}年{day.month}月{day.day}日"
    letter = {"昭和": "S", "平成": "H"}[era]
    short = [f"{letter}{year}.{day.month}.{day.day}", f"{letter}{year:02}{day.month:02}{day.day:02}"]
    western = [day.isoformat(), f"{day:%Y%m%d}", f"{day.year}/{day.month}/{day.day}"]
    assert {iso_date(each) for each in [written, *short, *western]} == {day.isoformat()}


@given(st.dates(), st.dates())
def test_two_days_have_two_forms(one: date, other: date) -> None:
    assert (iso_date(one.isoformat()) == iso_date(other.isoformat())) == (one == other)


@given(st.from_regex(r"0[0-9]{9,10}", fullmatch=True), st.from_regex(r"0[0-9]{9,10}", fullmatch=True))
def test_two_phone_numbers_have_two_forms(one: str, other: str) -> None:
    spelled = f"+81 {one[1:3]}-{one[3:]}"
    assert normal("phone", spelled) == one or one[1] == "0"  # +81 0x is a trunk's zero, which no number has
    assert (normal("phone", one) == normal("phone", other)) == (one == other)
