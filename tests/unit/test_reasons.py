"""The catalogue of reasons and the rules that it must keep."""

from __future__ import annotations

import re

import pytest
import yaml

from partners.reasons import (
    CatalogueError,
    Language,
    Owner,
    Reason,
    ReasonScope,
    UnknownReason,
    all_reasons,
    explain,
    load_reasons,
    reason,
    sentences,
)

NEEDED = [
    "credential_refused",
    "permission_missing",
    "address_wrong",
    "partner_unreachable",
    "not_this_protocol",
    "partner_busy",
    "partner_failed",
    "partner_maintenance",
    "timeout_unsure",
    "connection_cut_unsure",
    "answer_unreadable",
    "html_instead_of_data",
    "record_refused",
    "record_gone_at_partner",
    "changed_at_partner",
    "several_at_partner",
    "client_not_yet_at_partner",
    "staff_not_yet_at_partner",
    "visit_not_yet_delivered",
    "budget_deferred",
    "connection_paused",
    "required_field_missing",
    "unknown_code",
    "field_invalid",
    "partner_list_incomplete",
    "mass_change_held",
    "mass_change_grew",
    "identity_unmatched",
    "identity_ambiguous",
    "partner_id_reused",
    "internal_error",
    "schema_unknown",
    "unknown",
    "superseded_by_newer",
    "nothing_to_cancel",
    "secret_missing",
    "settings_missing",
    "secret_unreadable",
    "not_requested_yet",
    "push_under_way",
    "reading_under_way",
    "time_box_ended",
    "not_arrived",
    "connection_changed",
    "fields_unknown",
    "asked_again",
    "edits_not_yet_read",
]

ENTRY = {
    "code": "door_shut",
    "owner": "user",
    "retried": False,
    "scope": "record",
    "message_ja": "扉（{door}）が閉まっています。",
    "action_ja": "「玄関」の扉を開けてください。",
    "message_en": "The door ({door}) is shut.",
    "action_en": 'Open it at the "Entrance".',
}


def catalogue(**changes: object) -> str:
    return yaml.safe_dump([{**ENTRY, **changes}], allow_unicode=True)


@pytest.mark.parametrize("code", NEEDED)
def test_every_code_that_the_platform_speaks_is_there(code: str) -> None:
    assert reason(code).code == code


def test_a_code_that_is_not_there_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(UnknownReason):
        reason("no_such_code")
    with pytest.raises(UnknownReason):
        explain("no_such_code", {})


@pytest.mark.parametrize("each", all_reasons(), ids=lambda each: each.code)
def test_japanese_is_written_in_whole_polite_sentences(each: Reason) -> None:
    for text in each.texts(Language.JAPANESE):
        assert text.endswith("。")
        for sentence in text.removesuffix("。").split("。"):
            assert re.search(r"(です|ます|ません|ました|でした|ください)(（.*）)?$", sentence), sentence


@pytest.mark.parametrize("each", all_reasons(), ids=lambda each: each.code)
def test_texts_are_short_and_each_in_its_own_language(each: Reason) -> None:
    japanese, english = each.texts(Language.JAPANESE), each.texts(Language.ENGLISH)
    assert all(len(text) <= 80 for text in japanese)
    assert all(len(text) <= 130 and text.isascii() and text.endswith(".") for text in english)


@pytest.mark.parametrize("each", all_reasons(), ids=lambda each: each.code)
def test_every_parameter_shows_in_both_languages(each: Reason) -> None:
    params = {name: f"<{name}>" for name in each.parameters()}
    for language in Language:
        shown = "".join(explain(each.code, params, language))
        assert all(value in shown for value in params.values())
        assert "{" not in shown


def test_a_missing_parameter_reads_as_unknown_and_an_extra_one_is_ignored() -> None:
    message, _ = explain("required_field_missing", {"other": "x"})
    assert "（不明）" in message
    message, _ = explain("required_field_missing", {}, Language.ENGLISH)
    assert "(unknown)" in message


def test_braces_in_a_parameter_are_shown_as_they_are() -> None:
    message, _ = explain("required_field_missing", {"field": "{secret}"})
    assert "{secret}" in message


def test_what_we_wait_for_or_retry_ourselves_never_lacks_the_word_that_it_goes_by_itself() -> None:
    for each in all_reasons():
        if each.owner is Owner.PARTNER and each.retried:
            assert re.search("自動で", each.action_ja), each.code


def test_nothing_unclassified_is_blamed_on_the_user() -> None:
    assert reason("unknown").owner is Owner.UNKNOWN
    assert reason("internal_error").owner is Owner.US


def test_a_good_entry_loads() -> None:
    loaded = load_reasons(catalogue())["door_shut"]
    assert loaded.owner is Owner.USER
    assert loaded.scope is ReasonScope.RECORD
    assert loaded.parameters() == {"door"}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"code": "DoorShut"}, "snake_case"),
        ({"owner": "nobody"}, "owner"),
        ({"scope": "world"}, "scope"),
        ({"retried": "no"}, "retried"),
        ({"message_ja": ""}, "message_ja"),
        ({"action_en": "  "}, "action_en"),
        ({"message_en": "The door is shut."}, "same parameters"),
        ({"message_ja": "扉{door.x}", "message_en": "{door.x}"}, "place"),
        ({"message_ja": "扉{door!r}", "message_en": "{door!r}"}, "place"),
        ({"message_ja": "扉{door:>9}", "message_en": "{door:>9}"}, "place"),
        ({"action_ja": "直してください。"}, "names the place"),
        ({"action_en": "Correct it."}, "names the place"),
        ({"extra": 1}, "exactly the fields"),
    ],
)
def test_an_entry_that_breaks_a_rule_is_refused(change: dict[str, object], rule: str) -> None:
    with pytest.raises(CatalogueError, match=rule):
        load_reasons(catalogue(**change))


def test_a_code_that_stands_twice_is_refused() -> None:
    with pytest.raises(CatalogueError, match="twice"):
        load_reasons(yaml.safe_dump([ENTRY, ENTRY]))


def test_a_catalogue_that_is_no_list_is_refused() -> None:
    with pytest.raises(CatalogueError, match="list"):
        load_reasons("door_shut: {}")


def test_a_code_that_the_catalogue_lacks_is_told_as_unknown_and_by_name() -> None:
    message, action = sentences("no_such_code", {"field": "note"})
    assert "no_such_code" in message + action
    assert sentences("field_invalid", {"field": "note"}) == explain(
        "field_invalid", {"field": "note"}, Language.ENGLISH
    )
