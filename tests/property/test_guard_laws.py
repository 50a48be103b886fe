"""Laws of the guard and of matching, for whatever comes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from zest_pipelines.core.guard import DELETED_PERCENT, FEW, Beside, Counts, Held, hold
from zest_pipelines.core.identity import Linked
from zest_pipelines.core.matching import Candidate, match

KEYS = ("birth_date", "family_kana", "given_kana")
numbers = st.integers(0, 60)
counts = st.builds(Counts, numbers, st.dictionaries(st.sampled_from(["sex", "phone"]), st.integers(1, 60)))
people = st.fixed_dictionaries(
    {
        "birth_date": st.sampled_from(["1940-01-01", "1940-01-02", "1940", ""]),
        "family_kana": st.sampled_from(["サトウ", "ｻﾄｳ", "さとう", "スズキ"]),
        "given_kana": st.sampled_from(["ハナコ", "ハルコ", ""]),
        "sex": st.sampled_from(["male", "female", "unknown"]),
    }
)


def _size(found: Held | None) -> int:
    return 0 if found is None else found.deletes + sum(found.changed.values())


@given(counts, st.integers(0, 200), counts)
def test_what_passes_is_few_or_little_or_within_what_was_approved(about: Counts, population: int, yes: Counts) -> None:
    held = hold(about, population, yes)
    kept = held or Held(0, {})
    if not kept.deletes:
        assert about.deletes <= max(FEW, yes.deletes) or about.deletes * 100 <= 5 * population
    for name, records in about.changed.items():
        if name not in kept.changed:
            assert records < FEW or records <= yes.changed.get(name, 0) or records * 100 <= 30 * population


@given(counts, st.integers(0, 200), counts)
def test_a_yes_never_holds_more_and_a_yes_to_what_was_shown_lets_just_that_through(
    about: Counts, population: int, yes: Counts
) -> None:
    held = hold(about, population)
    assert _size(hold(about, population, yes)) <= _size(held)
    if held is not None:
        assert hold(about, population, Counts(held.deletes, held.changed)) is None


@given(st.lists(numbers, max_size=12), st.integers(1, 400))
def test_in_whatever_instalments_deletes_come_no_more_pass_than_would_at_once(
    parts: list[int], population: int
) -> None:
    gone = 0
    for part in parts:
        if hold(Counts(part), population - gone, None, Beside(lately=gone)) is None:
            gone += min(part, population - gone)
    assert gone <= FEW or gone * 100 <= DELETED_PERCENT * population


@given(st.integers(1, 400), st.integers(0, 400), st.integers(1, 60))
def test_of_many_who_are_not_shown_none_goes_whatever_is_proved_at_a_time_and_however_long_it_takes(
    population: int, missing: int, proved_at_a_time: int
) -> None:
    waiting, gone, missing = 0, 0, min(missing, population)
    for suspects in range(missing, -1, -proved_at_a_time):  # of deletes that went, nobody knows a day later
        waiting += min(proved_at_a_time, suspects)
        left = max(0, suspects - proved_at_a_time)
        if hold(Counts(waiting), population - gone, None, Beside(suspects=left)) is None:
            waiting, gone = 0, gone + waiting
    assert gone == (0 if missing > FEW and missing * 100 > DELETED_PERCENT * population else missing)


@given(st.lists(people, max_size=5), st.lists(people, max_size=5), st.randoms())
def test_matching_gives_each_of_ours_to_one_at_most_in_whatever_order_they_come(
    ours: list[dict[str, Any]], theirs: list[dict[str, Any]], random: Any
) -> None:
    masters = [Candidate(UUID(int=n), fields, is_linked=False) for n, fields in enumerate(ours)]
    newcomers = dict(enumerate(theirs))
    found = match(newcomers, masters, KEYS)
    given_away = [each.record_id for each in found.values() if isinstance(each, Linked)]

    shuffled, mixed = masters[:], list(newcomers.items())
    random.shuffle(shuffled)
    random.shuffle(mixed)
    again = match(dict(mixed), shuffled, KEYS)

    assert len(set(given_away)) == len(given_away)
    assert {n: each for n, each in again.items() if isinstance(each, Linked)} == {
        n: each for n, each in found.items() if isinstance(each, Linked)
    }
