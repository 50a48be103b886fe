"""Laws of the pure rules, for whatever comes."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from swaps import swapped

from partners.contract import Verb
from partners.limits import Concurrency, Limit, LimitScope, Rate, parse_limit
from zest_pipelines.core.backoff import CAP, delay
from zest_pipelines.core.coalesce import Needless, Op, Version, decide
from zest_pipelines.core.difference import ABSENT, Difference, Kind, difference
from zest_pipelines.core.fingerprint import UnstorableText, canonical, fingerprint, spelled_one_by_one
from zest_pipelines.core.outcome import Outcome
from zest_pipelines.core.packing import pack

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
IDEOGRAPHS = re.compile("([\uf900-\ufaff\U0002f800-\U0002fa1f]+)")
japanese = st.text("がぎぱょ神\ufa19﨑a\u3099\u309a\u0301e", max_size=6)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
names = st.text("abcd", min_size=1, max_size=3)
contents = st.dictionaries(
    names,
    st.recursive(scalars | japanese, lambda some: st.lists(some) | st.dictionaries(names, some)),
    max_size=5,
)


def decomposed(value: Any) -> Any:
    """The same content as another system would send it: keys the other way round, letters taken apart."""
    match value:
        case str():
            parts = IDEOGRAPHS.split(value)  # every second one is of ideographs, which nobody takes apart
            return "".join(
                each if number % 2 else unicodedata.normalize("NFD", each) for number, each in enumerate(parts)
            )
        case dict():
            return {decomposed(key): decomposed(item) for key, item in reversed(value.items())}
        case list():
            return [decomposed(item) for item in value]
        case _:
            return value


@given(contents)
def test_a_fingerprint_ignores_the_order_of_keys_and_the_form_of_letters(content: dict[str, Any]) -> None:
    assert fingerprint(canonical(decomposed(content)), "1") == fingerprint(canonical(content), "1")


@given(contents, texts, texts)
def test_a_fingerprint_differs_exactly_when_the_mappings_version_does(
    content: dict[str, Any], one: str, other: str
) -> None:
    assert (fingerprint(canonical(content), one) == fingerprint(canonical(content), other)) == (one == other)


@given(contents, contents)
def test_contents_with_one_canonical_form_are_equal_but_for_the_form_of_letters(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    if canonical(one) == canonical(other):
        assert decomposed(one) == decomposed(other)


awkward = st.text('\0"\\\n\u3099\u0301\ud83d1.eEn:,[がか', max_size=6)
anything = st.recursive(scalars | japanese | awkward, lambda some: st.lists(some) | st.dictionaries(awkward, some))


@given(st.dictionaries(awkward, anything, max_size=4))
def test_the_short_way_to_a_spelling_ends_where_the_walk_through_all_values_does(content: dict[str, Any]) -> None:
    assert outcome(lambda: canonical(content)) == outcome(lambda: spelled_one_by_one(content))


def outcome(spell: Callable[[], bytes]) -> bytes | str:
    try:
        return spell()
    except UnstorableText as error:
        return error.path


records = st.none() | st.dictionaries(names, st.none() | st.integers(0, 2) | st.text("ab", max_size=1))


def carried_out(found: Difference, before: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """`before` with the difference carried out; None: the record is not there."""
    if found.kind is Kind.DELETE or (found.kind is Kind.NONE and before is None):
        return None
    written = {change.name: change.after for change in found.fields}
    merged = {**(before or {}), **written}
    return {name: value for name, value in merged.items() if value is not ABSENT}


@given(records, records)
def test_applying_a_difference_ends_at_the_newer_state(
    before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    assert carried_out(difference(before, after), before) == after


def _a_field_short(real: Any) -> Any:
    def short(before: Any, after: Any) -> Any:
        found = real(before, after)
        return replace(found, fields=found.fields[1:])

    return short


def _nobody_comes_back(real: Any) -> Any:
    def without(before: Any, after: Any) -> Any:
        found = real(before, after)
        return replace(found, kind=Kind.NONE) if found.kind is Kind.ADD else found

    return without


@pytest.mark.parametrize("broken", [_a_field_short, _nobody_comes_back])
def test_that_law_notices_a_field_left_out_and_a_record_that_does_not_come_back(broken: Any) -> None:
    with swapped([(sys.modules[__name__], "difference", broken)]), pytest.raises(AssertionError):
        test_applying_a_difference_ends_at_the_newer_state()


@given(records, records)
def test_a_difference_is_none_exactly_between_equal_states_and_names_each_field_once(
    before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    found = difference(before, after)
    assert (found.kind is Kind.NONE) == (before == after)
    touched = [change.name for change in found.fields]
    assert touched == sorted(set(touched))
    assert all(change.before != change.after for change in found.fields)


ops = st.lists(st.sampled_from(Op), max_size=6)

Standing = int | None
"""What stands at the partner: the version of a live record, or nothing (never made, or cancelled)."""


def send_all(versions: list[Version], standing: Standing) -> Standing:
    for version in versions:
        standing = version.number if version.op is Op.UPSERT else None
    return standing


def send(newest: Version, there: Op | None, standing: Standing, decision: Verb | Needless) -> Standing:
    """A strict partner: refuses a create of what it has, an update or cancel of what it never had."""
    if isinstance(decision, Outcome):
        return standing
    assert (decision is Verb.CREATE) == (there is None)
    assert (decision is Verb.CANCEL) == (newest.op is Op.CANCEL)
    return None if decision is Verb.CANCEL else newest.number


@given(ops, ops.filter(len))
def test_sending_the_newest_alone_ends_where_sending_all_ends(sent: list[Op], waiting: list[Op]) -> None:
    history = [Version(number, op) for number, op in enumerate(sent + waiting, 1)]
    there = sent[-1] if sent else None
    standing = send_all(history[: len(sent)], None)

    decision = decide(history[-1], len(sent), there)

    assert decision is not Outcome.SUPERSEDED
    assert send(history[-1], there, standing, decision) == send_all(history[len(sent) :], standing)


@given(st.integers(1, 7), st.integers(0, 7), st.sampled_from(Op), st.none() | st.sampled_from(Op))
def test_a_version_is_superseded_exactly_if_one_as_new_is_settled(
    number: int, settled: int, op: Op, there: Op | None
) -> None:
    decision = decide(Version(number, op), settled, there)
    assert (decision is Outcome.SUPERSEDED) == (number <= settled)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_negative_and_at_most_the_cap(attempt: int, chance: float) -> None:
    assert timedelta(0) <= delay(attempt, lambda: chance) <= CAP


names_of_endpoints = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,9}", fullmatch=True)
scopes = st.sampled_from([(LimitScope.VENDOR, None), (LimitScope.TENANT, None)]) | names_of_endpoints.map(
    lambda name: (LimitScope.ENDPOINT, name)
)
headrooms = st.integers(0, 95)
rates = st.builds(
    lambda scope, calls, seconds, headroom: Rate(scope[0], calls, seconds, scope[1], headroom=headroom),
    scopes,
    st.integers(1, 1_000_000),
    st.integers(1, 31 * 86_400),
    headrooms,
)
daily = st.builds(
    lambda scope, calls, reset, headroom: Rate(
        scope[0], calls, 86_400, scope[1], reset.replace(second=0, microsecond=0), headroom=headroom
    ),
    scopes,
    st.integers(1, 1_000_000),
    st.times(),
    headrooms,
)
leaky = st.builds(
    lambda scope, calls, seconds, burst, headroom: Rate(
        scope[0], calls, seconds, scope[1], burst=burst, headroom=headroom
    ),
    scopes,
    st.integers(1, 1_000_000),
    st.integers(1, 60),
    st.integers(1, 500_000),
    headrooms,
)
concurrencies = st.builds(
    lambda scope, calls, headroom: Concurrency(scope[0], calls, scope[1], headroom),
    scopes,
    st.integers(1, 1000),
    headrooms,
)


@given(rates | daily | leaky | concurrencies)
def test_a_limit_that_is_printed_is_read_back_as_it_was(limit: Limit) -> None:
    assert parse_limit(str(limit)) == limit


KEYS = [f"{number:02}" for number in range(14)]


def span(first: str, last: str) -> range:
    return range(KEYS.index(first), KEYS.index(last) + 1)


@given(st.sets(st.sampled_from(KEYS)), st.integers(1, 6))
def test_packing_covers_every_due_key_once_in_few_enough_ranges_in_order(due: set[str], max_runs: int) -> None:
    found = pack(KEYS, due, max_runs)
    assert len(found) == min(max_runs, len(due))
    assert [key for each in found for key in each.due] == sorted(due)
    covered = [at for each in found for at in span(each.first, each.last)]
    assert len(covered) == len(set(covered))
    assert all(each.first == each.due[0] and each.last == each.due[-1] for each in found)


@given(st.sets(st.sampled_from(KEYS), min_size=1), st.integers(1, 5))
def test_no_other_packing_carries_fewer_keys_that_are_not_due(due: set[str], max_runs: int) -> None:
    ordered = sorted(due)
    runs = min(max_runs, len(ordered))
    fewest = min(
        sum(
            len(span(ordered[start], ordered[end - 1]))
            for start, end in zip((0, *cuts), (*cuts, len(ordered)), strict=True)
        )
        for cuts in combinations(range(1, len(ordered)), runs - 1)
    )
    assert sum(len(span(each.first, each.last)) for each in pack(KEYS, due, max_runs)) == fewest
