"""Fields read as care staff call them, in sentences alone; whatever of ours can stand in one has a name."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from partners import params
from partners.contract import Client, Entity, Staff, Visit, VisitRecord
from partners.fhir.visits import fields_of
from partners.reasons import Language, explain

ROOT = Path(__file__).parents[2]
OUTWARDS = frozenset({"record_refused", "character_refused", "plan_differs"})
"""Reasons whose field is to be corrected in the product. All others' is a place at the partner, by its own name."""
BESIDES = frozenset({"columns"})
"""What we say of a place at the partner in a word of our own."""


def given(text: str) -> set[str]:
    """Each field that a file gives such a reason as a literal, by `{"field": ...}` or `field=...`."""
    found: set[str] = set()
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        if OUTWARDS.isdisjoint(filter(None, map(_text, call.args))):
            continue
        pairs = [(each.arg, each.value) for each in call.keywords]
        for each in (each for each in call.args if isinstance(each, ast.Dict)):
            pairs += [(_text(key), value) for key, value in zip(each.keys, each.values, strict=True)]
        found |= {part for name, value in pairs if name in params.FIELDS for part in (_text(value) or "").split(", ")}
    return found - {""}


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def test_each_field_of_the_product_that_can_stand_in_a_message_has_a_name_in_both_languages() -> None:
    sources = [*ROOT.glob("partners/**/*.py"), *ROOT.glob("zest_pipelines/**/*.py")]
    literals = {field for path in sources for field in given(path.read_text(encoding="utf-8"))}
    assert {"note", "starts_at", "service_code"} <= literals  # it sees them
    owned = {each.name for kind in (Client, Staff, Visit, VisitRecord) for each in fields(kind)}
    linked = {Entity.CLIENT.value, Entity.STAFF.value, Entity.VISIT.value}
    assert literals | owned | linked | BESIDES == params.fields().keys(), "name it in partners/params.yaml"


def test_a_field_without_a_name_would_be_seen() -> None:
    text = """
f("record_refused", {"field": "one, two", "detail": "x"})
_data("character_refused", "a page", field="three")
f("field_invalid", {"field": "birthDate"})
"""
    assert given(text) == {"one", "two", "three"}


def test_a_name_that_lacks_a_language_is_refused() -> None:
    with pytest.raises(ValueError, match="no name"):
        params.load("fields: {note: {ja: 備考}}\nphrases: []\n")


def test_a_field_reads_as_care_staff_call_it_and_the_partners_stays_as_the_partner_does() -> None:
    assert "備考" in explain("character_refused", {"field": "note"})[1]
    assert "Note" in explain("character_refused", {"field": "note"}, Language.ENGLISH)[1]
    assert "項目：開始時刻、終了時刻" in explain("plan_differs", {"fields": "starts_at, ends_at"})[0]
    assert "Patient.birthDate" in explain("field_invalid", {"field": "Patient.birthDate"})[0]
    assert "利用者氏名" in explain("field_invalid", {"field": "利用者氏名"}, Language.ENGLISH)[0]


@pytest.mark.parametrize(
    ("value", "japanese", "english"),
    [
        ("12 deletes", "削除12件", "12 deletions"),
        (
            "12 deletes (3 more within a day, 2 suspect), 90 x birth_date (4 more within an hour)",
            "削除12件 (ほか1日以内に3件、削除の疑い2件)、生年月日の変更90件 (ほか1時間以内に4件)",
            "12 deletions (3 more within a day, 2 that were not shown), "
            "90 changes of Date of birth (4 more within an hour)",
        ),
        ("3", "3行目", "line 3"),
        ("too_long", "大きすぎます", "it is too large"),
        ("identifier_ignored", "identifier_ignored", "identifier_ignored"),
    ],
)
def test_how_much_and_why_read_in_the_persons_language(value: str, japanese: str, english: str) -> None:
    assert (params.shown("why", value, "ja"), params.shown("why", value, "en")) == (japanese, english)


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("Appointment.start", ("starts_at",)),
        ("Appointment.participant[0].actor", ("client", "staff")),
        ("Appointment.serviceType[0].coding[0].code", ("service_code",)),
        ("Encounter.period.end", ("ended_at",)),
        ("Encounter.period", ("started_at", "ended_at")),
        ("Appointment.identifier", ()),
        ("Appointment", ()),
    ],
)
def test_an_element_that_we_fill_is_told_as_the_products_field(path: str, ours: tuple[str, ...]) -> None:
    assert fields_of(path) == ours
    assert set(ours) <= params.fields().keys()
