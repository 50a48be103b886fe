"""The board has a word in both languages for whatever the tables can say."""

from __future__ import annotations

import pytest

from partners.contract import Entity, Verb
from partners.reasons import Language
from zest_pipelines.board.words import words
from zest_pipelines.core.badge import Badge
from zest_pipelines.core.outcome import Outcome, RepairOutcome


@pytest.mark.parametrize("language", Language)
def test_nothing_that_is_shown_lacks_a_word(language: Language) -> None:
    shown = {each.value for kind in (Badge, Entity, Outcome, RepairOutcome, Verb) for each in kind}
    steps = {"edited", "queued", "sent", "answered_step", "settled", "looked after", "decided"}
    assert shown | steps <= words(language).keys()


def test_each_word_is_in_its_language() -> None:
    japanese, english = words(Language.JAPANESE), words(Language.ENGLISH)
    assert [key for key, text in english.items() if not text.isascii() and key != "other_language"] == []
    assert [key for key, text in japanese.items() if text.isascii()] == ["other_language", "product"]
