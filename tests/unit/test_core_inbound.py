"""The way in: certificate, guard, difference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zest_pipelines.core.certificate import MOST_PAGES, Gap, Seen
from zest_pipelines.core.difference import ABSENT, Difference, FieldChange, Kind, difference
from zest_pipelines.core.guard import Beside, Counts, Held, hold


def page(reading: Seen, **changes: int | bool | None) -> Seen:
    told = {"rows": 2, "total": 4, "is_full": True, "is_last": False, **changes}
    return reading.with_page(**told)  # type: ignore[arg-type]


def counted(reading: Seen, ids: int = 4, changed_duplicates: int = 0) -> Seen:
    return reading.counted(ids=ids, changed_duplicates=changed_duplicates)


def test_a_reading_that_nothing_speaks_against_is_certified() -> None:
    certificate = counted(page(page(Seen()), is_last=True)).certify()
    assert certificate.is_certified
    assert certificate.casts_suspicion


def test_a_partner_that_tells_no_total_is_believed_when_its_last_page_came() -> None:
    assert page(Seen(), total=None, is_last=True).certify().is_certified


def test_an_empty_list_is_certified_only_if_a_page_said_so() -> None:
    assert counted(page(Seen(), total=0, is_last=True), ids=0).certify().is_certified
    assert Seen().certify().gaps == (Gap.NO_PAGE, Gap.LAST_PAGE_MISSING)


@pytest.mark.parametrize(
    ("reading", "gap"),
    [
        (counted(page(page(Seen()))), Gap.LAST_PAGE_MISSING),
        (counted(page(page(Seen(), is_last=True))), Gap.PAGE_AFTER_LAST),
        (counted(replace(page(Seen(), is_last=True), length=1_000_000)), Gap.ENDLESS),
        (counted(replace(page(Seen(), is_last=True), totals=frozenset(), pages=MOST_PAGES)), Gap.ENDLESS),
        (counted(page(page(page(Seen(), is_last=True)), is_last=True)), Gap.PAGE_AFTER_LAST),
        (counted(page(page(Seen()), total=5, is_last=True)), Gap.TOTAL_MOVED),
        (counted(page(page(Seen()), is_last=True), ids=3), Gap.COUNT_DIFFERS),
        (counted(page(page(Seen()), is_last=True), ids=5), Gap.COUNT_DIFFERS),
        (counted(page(page(Seen(), changed_duplicates=1), is_last=True)), Gap.ID_TWICE),
        (counted(page(page(Seen()), is_last=True), changed_duplicates=1), Gap.ID_TWICE),
    ],
)
def test_each_gap_alone_spoils_the_certificate(reading: Seen, gap: Gap) -> None:
    certificate = reading.certify()
    assert certificate.gaps == (gap,)
    assert not certificate.is_certified
    assert not certificate.casts_suspicion


def endless(pages: int, **told: int | None) -> bool:
    reading = Seen()
    for _ in range(pages):
        assert not reading.is_endless
        reading = page(reading, **told)
    return reading.is_endless


def test_a_list_is_endless_that_is_far_longer_than_its_total() -> None:
    """Of 500 records in pages of 50, 2,500 are still borne: it may have been begun again, or its total be wrong."""
    assert not endless(50, rows=50, total=500)
    assert endless(51, rows=50, total=500)
    assert endless(2501, rows=0, total=500)  # a page without a row leads on as well


def test_a_long_list_that_is_begun_again_on_its_last_page_is_not_endless() -> None:
    assert not endless(2 * 20_000 - 1, rows=5, total=100_000)


def test_a_list_whose_length_nobody_told_may_have_many_pages() -> None:
    assert not Seen(pages=MOST_PAGES - 1, length=10**7).is_endless
    assert page(Seen(pages=MOST_PAGES - 1), total=None).is_endless


def test_a_reading_keeps_no_more_totals_than_tell_that_they_differ() -> None:
    reading = Seen()
    for total in range(100):
        reading = page(reading, total=total)
    assert reading.totals == {0, 1}
    assert counted(page(reading, total=0, is_last=True), ids=0).certify().gaps == (Gap.TOTAL_MOVED,)


def test_a_reading_of_changed_records_says_nothing_about_who_is_missing() -> None:
    certificate = counted(page(page(Seen(), is_full=False), is_last=True)).certify()
    assert certificate.is_certified
    assert not certificate.casts_suspicion


@pytest.mark.parametrize(
    ("deletes", "population", "is_held"),
    [
        (10, 10, False),
        (11, 11, True),
        (11, 220, False),
        (11, 219, True),
        (50, 1000, False),
        (51, 1000, True),
    ],
)
def test_deletes_above_ten_and_above_five_percent_are_held(deletes: int, population: int, is_held: bool) -> None:
    assert hold(Counts(deletes), population) == (Held(deletes, {}) if is_held else None)
    others = deletes - 1  # in two instalments
    lately, suspects = Beside(lately=others), Beside(suspects=others)
    assert hold(Counts(1), population - others, None, lately) == (Held(1, {}, lately) if is_held else None)
    assert hold(Counts(1), population, None, suspects) == (Held(1, {}, suspects) if is_held else None)
    assert hold(Counts(), population, None, Beside(10 * others, 10 * others)) is None


@pytest.mark.parametrize(
    ("changed", "population", "is_held"),
    [(9, 9, False), (10, 33, True), (10, 34, False), (30, 100, False), (31, 100, True)],
)
def test_a_field_that_changes_in_more_than_thirty_percent_of_ten_or_more_is_held(
    changed: int, population: int, is_held: bool
) -> None:
    counts = Counts(changed={"phone": changed, "address": 1})
    assert hold(counts, population) == (Held(0, {"phone": changed}) if is_held else None)


def test_an_approval_is_a_ceiling() -> None:
    approved = Counts(60, {"phone": 40})
    assert hold(Counts(60, {"phone": 40}), 100, approved) is None
    assert hold(Counts(61, {"phone": 41, "address": 40}), 100, approved) == Held(61, {"phone": 41, "address": 40})


def test_a_difference_names_the_fields_and_keeps_none_apart_from_absent() -> None:
    found = difference({"a": 1, "b": None, "c": 3}, {"a": 2, "c": 3, "d": None})
    assert found == Difference(
        Kind.CHANGE,
        (FieldChange("a", 1, 2), FieldChange("b", None, ABSENT), FieldChange("d", ABSENT, None)),
    )


def test_a_record_is_added_or_deleted_with_all_its_fields() -> None:
    assert difference(None, {"a": 1}) == Difference(Kind.ADD, (FieldChange("a", ABSENT, 1),))
    assert difference({"a": 1}, None) == Difference(Kind.DELETE, (FieldChange("a", 1, ABSENT),))
    assert difference(None, {}).kind is Kind.ADD
    assert difference(None, None).kind is Kind.NONE
