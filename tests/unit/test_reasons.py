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
    "error_explained",
    "edits_not_yet_read",
]

ENTRY = {
    "code": "door_shut",
    "owner": "user",
    "severity": "error",
    "retry": "after_change",
    "scope": "record",
    "message_ja": "扉（{door}）が閉まっています。",
    "action_ja": "「玄関」の扉を開けてください。自動で続けます。",
    "message_en": "The door ({door}) is shut.",
    "action_en": 'Open it at the "Entrance". It then goes on by itself.',
}


WITH_NUMBER = {
    "action_ja": "参照番号{reference}をサポートにお知らせください。",
    "action_en": "Tell support {reference}.",
}
BY_ITSELF = {
    "owner": "partner",
    "retry": "automatic",
    "action_ja": "自動で開けます。手で押しても構いません。",
    "action_en": "We open it by ourselves; pushing it by hand does no harm.",
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
def test_english_is_plain(each: Reason) -> None:
    assert all(text.isascii() for text in each.texts(Language.ENGLISH))


@pytest.mark.parametrize("each", all_reasons(), ids=lambda each: each.code)
def test_every_parameter_shows_in_both_languages(each: Reason) -> None:
    params = {name: f"<{name}>" for name in each.places()}
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
        ({"retry": "no"}, "retry"),
        ({"severity": "loud"}, "severity"),
        ({"message_ja": ""}, "message_ja"),
        ({"action_en": "  "}, "action_en"),
        ({"message_en": "The door is shut."}, "same parameters"),
        ({"message_ja": "扉{door.x}", "message_en": "{door.x}"}, "place"),
        ({"message_ja": "扉{door!r}", "message_en": "{door!r}"}, "place"),
        ({"message_ja": "扉{door:>9}", "message_en": "{door:>9}"}, "place"),
        ({"action_ja": "直してください。"}, "names the place"),
        ({"action_en": "Correct it."}, "names the place"),
        ({"action_ja": "「玄関」の扉を開けてください。"}, "how it goes on"),
        ({"action_en": 'Open it at the "Entrance".'}, "how it goes on"),
        ({"message_ja": "扉（{door}）が閉まっています"}, "ends with 。"),
        ({"message_en": "The door ({door}) is shut"}, "ends with ."),
        ({"message_ja": f"{'扉' * 48}（{{door}}）です。"}, None),
        ({"message_ja": f"{'扉' * 52}（{{door}}）です。"}, "at most 60"),
        ({"message_en": f"{'A door. ' * 17}({{door}})."}, "at most 140"),
        ({"action_ja": f"「{'扉' * 100}」自動で続けます。"}, None),
        ({"action_ja": f"「{'扉' * 101}」自動で続けます。"}, "at most 110"),
        ({"action_en": f'"{"A door. " * 25}".'}, "at most 200"),
        ({"message_en": "The door ({door}) answered with HTTP 500."}, "not told of HTTP"),
        ({"message_en": "The door ({door}) had a time-out."}, "not told of time-out"),
        ({"message_ja": "扉（{door}）がタイムアウトしました。"}, "not told of タイムアウト"),
        ({"action_ja": "「玄関」のJSONを直してください。自動で続けます。"}, "not told of JSON"),
        ({"severity": "information"}, "no mere information"),
        ({"owner": "unknown", "severity": "warning"}, "is an error"),
        ({"owner": "unknown", "retry": "automatic"}, "not retried"),
        ({"owner": "unknown"}, "{reference}"),
        ({"owner": "us"}, "{reference}"),
        ({"owner": "us", "severity": "information"}, None),
        ({"owner": "us", **WITH_NUMBER}, None),
        ({"owner": "us", **WITH_NUMBER, "action_en": "Read {reference} out."}, "{reference}"),
        ({"owner": "partner"}, None),
        ({"owner": "partner", "retry": "automatic", "action_ja": "扉を開けてください。"}, "go on by ourselves"),
        ({**BY_ITSELF, "action_ja": "自動で開けます。"}, "by hand"),
        ({**BY_ITSELF, "action_en": "We open it by ourselves."}, "by hand"),
        (BY_ITSELF, None),
        ({"extra": 1}, "exactly the fields"),
    ],
)
def test_an_entry_that_breaks_a_rule_is_refused(change: dict[str, object], rule: str | None) -> None:
    if rule is None:
        assert load_reasons(catalogue(**change))
    else:
        with pytest.raises(CatalogueError, match=re.escape(rule)):
            load_reasons(catalogue(**change))


def test_a_code_that_stands_twice_is_refused() -> None:
    with pytest.raises(CatalogueError, match="twice"):
        load_reasons(yaml.safe_dump([ENTRY, ENTRY]))


def test_a_catalogue_that_is_no_list_is_refused() -> None:
    with pytest.raises(CatalogueError, match="list"):
        load_reasons("door_shut: {}")


def test_a_code_that_the_catalogue_lacks_is_told_as_unknown_and_by_name() -> None:
    message, action = sentences("no_such_code", {"field": "note"}, "4C7DFGHJ")
    assert "no_such_code" in message + action
    assert "4C7DFGHJ" in action
    assert sentences("field_invalid", {"field": "note"}, "") == explain(
        "field_invalid", {"field": "note"}, Language.ENGLISH
    )
