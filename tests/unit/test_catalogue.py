"""The catalogue of reasons is complete: all that the code gives is there, nothing else is, and a test has seen each."""

from __future__ import annotations

import difflib
import re

import errors_page
import pytest
import yaml
from catalogue_use import Given, Source, Use, sources
from evidence import evidence, is_told, told_in

from partners.reasons import CatalogueError, all_reasons, load_reasons

CODES = frozenset(each.code for each in all_reasons())
REASONS_YAML = errors_page.FILE.parents[1] / "partners" / "reasons.yaml"


@pytest.fixture(scope="module")
def read() -> tuple[Source, ...]:
    return sources()


@pytest.fixture(scope="module")
def use(read: tuple[Source, ...]) -> Use:
    return Use(read, CODES)


def test_each_code_that_the_code_gives_is_in_the_catalogue(use: Use) -> None:
    assert [f"{each.where}: {each.text}" for each in use.missing] == [], "add it to partners/reasons.yaml"


def test_a_code_stands_nowhere_that_a_misspelt_one_would_go_unseen(use: Use) -> None:
    assert use.unguarded == (), "give it where a reason is taken, or tell catalogue_use.py of the place"


def test_each_code_of_the_catalogue_is_given_somewhere(use: Use) -> None:
    assert sorted(CODES - use.used) == [], "nothing gives it: take it out of partners/reasons.yaml"


def test_each_code_of_the_catalogue_has_been_seen_told_by_a_test() -> None:
    seen = evidence()
    assert sorted(CODES - seen.keys()) == [], "have a test bring it about and call is_told"
    assert sorted(seen.keys() - CODES) == []


def test_the_page_of_errors_is_up_to_date() -> None:
    kept, now = errors_page.FILE.read_text(encoding="utf-8"), errors_page.page(all_reasons(), evidence()) + "\n"
    if kept != now:
        lines = list(difflib.unified_diff(kept.splitlines(), now.splitlines(), "docs/errors.md", "now", "", "", 0))
        pytest.fail(f"run: {errors_page.COMMAND}\n" + "\n".join(line[:200] for line in lines[:20]), pytrace=False)


@pytest.mark.parametrize("lost", ["owner", "action_ja", "action_en", "message_ja", "message_en", "severity", "retry"])
def test_no_entry_may_lack_an_owner_an_action_or_a_language(lost: str) -> None:
    entries = yaml.safe_load(REASONS_YAML.read_text(encoding="utf-8"))
    del entries[7][lost]
    with pytest.raises(CatalogueError, match=entries[7]["code"]):
        load_reasons(yaml.safe_dump(entries, allow_unicode=True))


# --- That the check sees what is wrong ---


MISSPELT = frozenset(
    [
        ("partners/fhir/codes.py", "partner_busy"),  # in a table
        ("partners/fhir/codes.py", "answer_unreadable"),  # what a table is asked for in vain
        ("partners/carecsv/folder.py", "folder_forbidden"),  # raised
        ("partners/orca/client.py", "nothing_to_cancel"),  # by way of a name
        ("partners/smarthr/mapping.py", "unknown_code"),  # by an exception of its own
        ("partners/errors.py", "budget_deferred"),  # handed to a base
        ("zest_pipelines/core/identity.py", "identity_ambiguous"),  # a member of an enum
        ("zest_pipelines/flows/holding.py", "partner_unreachable"),  # a constant
        ("zest_pipelines/store/claims.py", "overwriting_partner_change"),  # a constant of another file's
        ("zest_pipelines/orchestration/failures.py", "database_unreachable"),
        ("zest_pipelines/migrations/sql/0003_delivery.sql", "not_requested_yet"),  # of a CASE
        ("zest_pipelines/migrations/sql/0026_badges.sql", "connection_paused"),  # AS reason
        ("zest_pipelines/store/landing.py", "reading_broken_off"),  # in SQL inside Python
        ("partners/fhir/codes.py", "content_refused"),  # returned, and given as what it returns
    ]
)
"""Files, and a code that stands in each."""


def test_a_misspelt_code_is_seen_wherever_it_stands(read: tuple[Source, ...]) -> None:
    found = Use([_misspelt(each) for each in read], CODES).missing
    assert {(each.where.partition(":")[0], each.text) for each in found} == {
        (path, f"{code}_misspelt") for path, code in MISSPELT
    }


def _misspelt(source: Source) -> Source:
    text = source.text
    for _, code in (each for each in MISSPELT if each[0] == source.path):
        text = re.sub(rf"(['\"]){code}(['\"])", rf"\1{code}_misspelt\2", text)
    return source if text == source.text else Source(source.path, text)


def test_a_new_place_with_a_word_that_is_no_code_is_seen_if_it_is_called_so() -> None:
    text = 'class NewError(RetryableError):\n    pass\ndef f(x):\n    raise NewError("no_such_word")\n'
    base = "class RetryableError(Exception):\n    def __init__(self, reason, params=None): ...\n"
    found = Use((Source("partners/new.py", text), Source("partners/errors.py", base)), CODES).missing
    assert found == (Given("no_such_word", ("NewError", "reason"), "partners/new.py:4"),)


def test_a_code_that_nothing_gives_is_seen() -> None:
    text = 'def f(reason): ...\nf("partner_busy")\n"""partner_failed"""\n'
    assert Use([Source("partners/new.py", text)], CODES).used == {"partner_busy"}


def test_a_code_at_a_place_that_takes_anything_is_seen() -> None:
    (found,) = Use((Source("partners/new.py", 'print(f"{x}", say("partner_busy"))\n'),), CODES).unguarded
    assert found == "partners/new.py:1: partner_busy"


def test_evidence_is_a_literal_or_what_a_test_is_parametrized_by() -> None:
    text = """
ROWS = [(1, "row_one"), pytest.param(2, "row_two", id="x"), *others]
@pytest.mark.parametrize(("number", "code"), ROWS)
@pytest.mark.parametrize("reply", [Refused("of_reply"), Retry("of_another", {"a": "b"})])
def test_it(number, code, reply):
    is_told("plain", params)
    is_told(code, params)
    is_told(reply.reason, params)
def helper():
    is_told("in_no_test")
"""
    assert {code for code, test in told_in(text) if test == "test_it"} == {
        *("plain", "row_one", "row_two", "of_reply", "of_another"),
    }
    assert "in_no_test" not in dict(told_in(text))
    with pytest.raises(AssertionError, match="cannot be read"):
        list(told_in("def test_it():\n    is_told(made(), {})\n"))


def test_what_is_told_with_a_parameter_missing_or_empty_is_no_evidence() -> None:
    assert is_told("required_field_missing", {"field": "birthDate"})
    for params in ({}, {"field": ""}, {"other": "birthDate"}):
        with pytest.raises(AssertionError, match="required_field_missing"):
            is_told("required_field_missing", params)
