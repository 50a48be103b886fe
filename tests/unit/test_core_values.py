"""Small rules on single values: identifiers, backoff, fingerprints."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from zest_pipelines.core.backoff import delay
from zest_pipelines.core.fingerprint import UnstorableText, canonical, fingerprint
from zest_pipelines.core.identifiers import TenantIdError, check_tenant_id


@pytest.mark.parametrize("text", ["a", "9", "sakura-care", "t_1", "a" * 63])
def test_a_tenant_id_is_given_back_as_it_is(text: str) -> None:
    assert check_tenant_id(text) == text


@pytest.mark.parametrize("text", ["", "-a", "_a", "A", "a b", "a,b", "a/b", "さくら", "a\n", "a" * 64, "٣"])
def test_what_cannot_be_a_tenant_id_is_refused_with_the_rule_and_without_the_text(text: str) -> None:
    with pytest.raises(TenantIdError, match="small letters") as error:
        check_tenant_id(text)
    assert not text or len(text) < 3 or text not in str(error.value)


def test_the_step_doubles_from_the_base_to_the_cap() -> None:
    steps = [delay(attempt, lambda: 1.0).total_seconds() for attempt in (1, 2, 3, 8, 9, 1_000_000)]
    assert steps == [5, 10, 20, 640, 900, 900]


def test_jitter_reaches_down_to_nothing() -> None:
    assert delay(5, lambda: 0.0) == timedelta(0)


def test_there_is_no_attempt_before_the_first() -> None:
    with pytest.raises(ValueError, match="attempt 1"):
        delay(0, lambda: 0.5)


def test_the_canonical_form_is_sorted_composed_and_without_spaces() -> None:
    content = {"b": [1.0, None, True], "a": "か\u3099"}
    assert canonical(content) == '{"a":"が","b":[1,null,true]}'.encode()


def test_the_fingerprint_does_not_change_from_release_to_release() -> None:
    assert fingerprint(canonical({"name": "テスト", "n": 1}), "1").hex() == (
        "ae0cdc6f7c22c4e158dd8b1bccb5072ef5b975ef5c438fda406c8d3178d83851"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": None}, {}),
        ({"a": True}, {"a": 1}),
        ({"a": "1"}, {"a": 1}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": 2**53}, {"a": 2**53 + 1}),
        ({"a": ""}, {"a": None}),
        ({"a": "ｱ"}, {"a": "ア"}),
        ({"a": "\ufa19"}, {"a": "\u795e"}),  # 神 as two people write it
    ],
)
def test_contents_that_could_mean_something_else_differ(one: dict[str, object], other: dict[str, object]) -> None:
    assert fingerprint(canonical(one), "1") != fingerprint(canonical(other), "1")


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ({"name": [{"family": "山田\0"}]}, "name[0].family"),
        ({"name": {"given": "\ud83d山田"}}, "name.given"),
        ({"weight": float("nan")}, "weight"),
        ({"weight": float("inf")}, "weight"),
        ({"extra": {"山\0田": 1}}, "extra"),
        ({"が": 1, "か\u3099": 2}, ""),
    ],
)
def test_what_cannot_be_stored_is_refused_by_its_path_and_never_by_its_value(
    content: dict[str, object], path: str
) -> None:
    with pytest.raises(UnstorableText) as error:
        canonical(content)
    assert error.value.path == path
    assert "山" not in str(error.value)


def test_a_value_that_json_does_not_know_is_a_fault_of_the_caller() -> None:
    with pytest.raises(TypeError, match="born: JSON has no date"):
        canonical({"born": date(2026, 1, 1)})
