"""Who is who: a corpus of collisions in which nobody may be taken for somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from partners.contract import Entity
from zest_pipelines.core.identity import (
    Act,
    Known,
    Link,
    Linked,
    New,
    Newcomer,
    Question,
    Rule,
    Waiting,
    Word,
    judge,
)
from zest_pipelines.core.matching import Candidate, match, weakness

CLIENT, STAFF = Entity.CLIENT, Entity.STAFF
KEYS = ("birth_date", "family_kana", "given_kana")
HANAKO = {
    "number": "0012",
    "family_name": "髙橋",
    "given_name": "花子",
    "family_kana": "タカハシ",
    "given_kana": "ハナコ",
    "birth_date": "1940-03-02",
    "sex": "female",
    "postal_code": "",
    "phone": "",
}
TARO = HANAKO | {
    "family_name": "田中",
    "given_name": "太郎",
    "family_kana": "タナカ",
    "given_kana": "タロウ",
    "birth_date": "1951-10-09",
    "sex": "male",
}
KEIKO = TARO | {"given_name": "恵子", "given_kana": "ケイコ", "sex": "female"}


@dataclass(frozen=True)
class Case:
    """Our masters, the partner's new records, and whom each of these is: a number of ours, or why it waits."""

    ours: tuple[Mapping[str, Any], ...]
    theirs: tuple[Mapping[str, Any], ...]
    wanted: tuple[int | Question, ...]
    keys: tuple[str, ...] = KEYS
    linked: frozenset[int] = field(default_factory=frozenset)


UNMATCHED, AMBIGUOUS = Question.UNMATCHED, Question.AMBIGUOUS
CORPUS = {
    "the same person": Case((HANAKO, TARO), (TARO, HANAKO), (1, 0)),
    "half-width kana": Case((HANAKO,), (HANAKO | {"family_kana": "ﾀｶﾊｼ", "given_kana": "ﾊﾅｺ"},), (0,)),
    "hiragana": Case((HANAKO,), (HANAKO | {"family_kana": "たかはし", "given_kana": "はなこ"},), (0,)),
    "a space in the name": Case((HANAKO,), (HANAKO | {"given_kana": "ハナコ\u3000"},), (0,)),
    "another letter for the same name": Case((HANAKO,), (HANAKO | {"family_name": "高橋"},), (0,)),
    "same name, born another day": Case((HANAKO,), (HANAKO | {"birth_date": "1940-03-03"},), (UNMATCHED,)),
    "same day, another name": Case((HANAKO,), (HANAKO | {"given_kana": "ハルコ"},), (UNMATCHED,)),
    "voiced kana": Case((HANAKO,), (HANAKO | {"given_kana": "バナコ"},), (UNMATCHED,)),
    "two of ours alike": Case((HANAKO, HANAKO), (HANAKO,), (AMBIGUOUS,)),
    "a merged patient, two numbers there": Case((HANAKO,), (HANAKO, HANAKO), (AMBIGUOUS, AMBIGUOUS)),
    "ours has an id there already": Case((HANAKO,), (HANAKO,), (AMBIGUOUS,), linked=frozenset({0})),
    "one of two alike has an id": Case((HANAKO, HANAKO), (HANAKO,), (AMBIGUOUS,), linked=frozenset({0})),
    "twins": Case(
        (HANAKO, HANAKO | {"given_kana": "ハルコ"}),
        (HANAKO | {"given_kana": "ハルコ"}, HANAKO),
        (1, 0),
    ),
    "a twin whom we do not have": Case((HANAKO,), (HANAKO | {"given_kana": "ハルコ"},), (UNMATCHED,)),
    "another sex": Case((HANAKO,), (HANAKO | {"sex": "male"},), (AMBIGUOUS,)),
    "sex not told": Case((HANAKO,), (HANAKO | {"sex": "unknown"},), (0,)),
    "no birth date": Case((HANAKO | {"birth_date": ""},), (HANAKO | {"birth_date": ""},), (UNMATCHED,)),
    "only the year is known": Case(
        (HANAKO | {"birth_date": "1940"},), (HANAKO | {"birth_date": "1940"},), (UNMATCHED,)
    ),
    "no kana": Case((HANAKO | {"given_kana": ""},), (HANAKO | {"given_kana": ""},), (UNMATCHED,)),
    "no fields to match on": Case((HANAKO,), (HANAKO,), (UNMATCHED,), keys=()),
    "a number reused there": Case((HANAKO,), (TARO,), (UNMATCHED,), keys=("number", "birth_date")),
    "a number and a name, born another day": Case(
        (HANAKO,), (HANAKO | {"birth_date": "1962-01-01"},), (AMBIGUOUS,), keys=("number", "family_kana", "given_kana")
    ),
    "written alike, read otherwise": Case(
        (HANAKO,),
        (HANAKO | {"given_kana": "カコ"},),
        (AMBIGUOUS,),
        keys=("birth_date", "family_name", "given_name"),
    ),
}


@pytest.mark.parametrize("case", CORPUS.values(), ids=CORPUS.keys())
def test_of_a_corpus_of_collisions_nobody_is_linked_to_somebody_else(case: Case) -> None:
    ours = [Candidate(UUID(int=n), fields, n in case.linked) for n, fields in enumerate(case.ours)]

    found = match(dict(enumerate(case.theirs)), ours, case.keys)

    told = [each.record_id.int if isinstance(each, Linked) else each.why for _, each in sorted(found.items())]
    assert told == list(case.wanted)


def test_ours_that_a_person_has_just_given_away_is_not_given_to_another_one() -> None:
    ours = [Candidate(UUID(int=1), HANAKO, is_linked=False)]

    assert match({1: HANAKO}, ours, KEYS, taken=[UUID(int=1)]) == {1: Waiting(AMBIGUOUS, (UUID(int=1),))}


@pytest.mark.parametrize(
    ("after", "is_held"),
    [
        (TARO, True),
        (TARO | {"birth_date": ""}, True),  # by the sex
        (HANAKO | {"sex": "male"}, False),
        (KEIKO, True),
        (HANAKO | {"family_kana": "タナカ"}, False),  # a marriage
        (HANAKO | {"birth_date": "1941-03-02"}, False),  # a correction
        (KEIKO | {"birth_date": "1940"}, False),  # it may be that day
        (KEIKO | {"birth_date": ""}, False),
        (KEIKO | {"birth_date": "1951"}, True),
        (KEIKO | {"family_kana": "", "given_kana": ""}, True),  # by the names as written
        (HANAKO | {"family_kana": "ﾀｶﾊｼ", "birth_date": "1951-10-09"}, False),
        (KEIKO | {"birth_date": "昭和15年3月2日"}, False),  # the same day, by another calendar
    ],
)
def test_an_id_means_another_person_if_name_and_birth_date_both_disagree(
    after: Mapping[str, Any], is_held: bool
) -> None:
    link = Link(UUID(int=1), HANAKO)

    verdict = judge(CLIENT, after, link, Rule(creates=True), None)

    assert verdict == (Waiting(Question.REUSED, (UUID(int=1),)) if is_held else Known(UUID(int=1)))


def test_a_name_and_a_day_of_birth_that_change_one_after_the_other_are_another_person() -> None:
    midway = KEIKO | {"birth_date": HANAKO["birth_date"]}
    link = Link(UUID(int=1), known=midway, first=HANAKO)

    assert judge(CLIENT, KEIKO, link, Rule(creates=True), None) == Waiting(Question.REUSED, (UUID(int=1),))
    assert judge(CLIENT, midway | {"phone": "0312345678"}, link, Rule(creates=True), None) == Known(UUID(int=1))
    assert judge(CLIENT, HANAKO, link, Rule(creates=True), None) == Known(UUID(int=1))


def test_of_staff_the_day_of_entry_stands_for_the_birth_date() -> None:
    link = Link(UUID(int=1), HANAKO | {"employed_from": "2020-04-01"})

    assert judge(STAFF, KEIKO | {"employed_from": "2020-04-01"}, link, Rule(True), None) == Known(UUID(int=1))
    assert isinstance(judge(STAFF, KEIKO | {"employed_from": "2026-04-01"}, link, Rule(True), None), Waiting)


def test_a_link_in_question_is_valid_again_when_the_partner_takes_it_back_unless_ours_has_another_id() -> None:
    shut = Link(UUID(int=1), HANAKO, is_valid=False)
    taken = Link(UUID(int=1), HANAKO, is_valid=False, is_taken=True)

    assert judge(CLIENT, HANAKO, shut, Rule(True), None) == Known(UUID(int=1))
    assert judge(CLIENT, HANAKO, taken, Rule(True), None) == Waiting(AMBIGUOUS, (UUID(int=1),))


def test_a_word_holds_for_the_person_about_whom_it_was_said_and_for_nobody_else() -> None:
    link, other = Link(UUID(int=1), HANAKO), UUID(int=2)
    later = TARO | {"phone": "0312345678"}

    assert judge(CLIENT, later, link, Rule(True), Word(Act.SAME, TARO)) == Known(UUID(int=1))
    assert judge(CLIENT, later, link, Rule(True), Word(Act.NEW, TARO)) == New()
    assert judge(CLIENT, later, None, Rule(False), Word(Act.LINK, TARO, other)) == Linked(other)
    assert judge(CLIENT, later, link, Rule(True), Word(Act.LINK, TARO, UUID(int=1))) == Known(UUID(int=1))
    assert isinstance(judge(CLIENT, later, link, Rule(True), Word(Act.OWN, TARO, UUID(int=1))), Waiting)
    third = TARO | {"given_kana": "ジロウ"}
    assert isinstance(judge(CLIENT, third, link, Rule(True), Word(Act.SAME, TARO)), Waiting)
    assert isinstance(judge(CLIENT, third, None, Rule(False), Word(Act.NEW, TARO)), Newcomer)


def test_a_new_record_makes_a_master_where_the_connection_creates() -> None:
    assert judge(CLIENT, HANAKO, None, Rule(creates=True), None) == New()
    assert judge(CLIENT, HANAKO, None, Rule(creates=False), None) == Newcomer()


@pytest.mark.parametrize(
    ("entity", "keys", "word"),
    [
        (CLIENT, "birth_date,family_kana,given_kana", None),
        (CLIENT, "number,birth_date", None),
        (CLIENT, "number,family_name,given_name", None),
        (STAFF, "employed_from,family_kana,given_kana", None),
        (CLIENT, "family_kana,given_kana", "birth_date or number"),
        (CLIENT, "family_name,given_name,family_kana,given_kana,sex,phone", "birth_date or number"),
        (CLIENT, "number", "one field alone"),
        (CLIENT, "birth_date,family_kana", "one field alone"),
        (STAFF, "birth_date,family_kana,given_kana", "birth_date: a staff cannot"),
    ],
)
def test_fields_that_two_people_can_share_are_refused_with_what_to_add(
    entity: Entity, keys: str, word: str | None
) -> None:
    told = weakness(entity, keys.split(","))

    assert told is None if word is None else word in (told or "")
