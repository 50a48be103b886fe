"""The number that people tell support."""

from __future__ import annotations

from zest_pipelines.core.reference import ALPHABET, LENGTH, reference

A_RECORD = ("sakura", "fhir", "visit", "0b6f3c1e-58d2-4d7a-9a51-6b7de1f3a001")


def test_it_is_short_and_holds_nothing_that_is_misread() -> None:
    made = {reference("sakura", "fhir", "visit", str(number)) for number in range(2000)}
    assert len(made) == 2000
    assert all(len(each) == LENGTH == 8 for each in made)
    assert {letter for each in made for letter in each} == set(ALPHABET)
    assert not set("0O1IL2Z5S8BUV") & set(ALPHABET)


def test_it_is_the_same_for_the_same_and_another_for_any_other() -> None:
    changed = [(*A_RECORD[:place], "x", *A_RECORD[place + 1 :]) for place in range(4)]
    assert len({reference(*A_RECORD), *(reference(*each) for each in changed), reference(*A_RECORD[:2])}) == 6
    assert reference(*A_RECORD) == reference(*A_RECORD)


def test_it_stays_what_it_is_because_it_is_told_by_telephone_and_written_down() -> None:
    assert (reference("sakura", "fhir"), reference(*A_RECORD)) == ("PYYJK4XJ", "X9RGQ4Y9")
