"""From a station's report to metadata and checks: pure, so tested without Dagster running."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from dagster import AssetCheckEvaluation, AssetCheckSeverity, AssetKey, FloatMetadataValue, IntMetadataValue

from zest_pipelines.flows.reports import (
    AccumulateReport,
    ApplyReport,
    DiffReport,
    LandReport,
    Problem,
    PushReport,
)
from zest_pipelines.orchestration.findings import Finding, Worth, accumulating, applying, diffing, landing, pushing

ASSET = AssetKey(["paper", "asset"])
NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
WARN, ERROR = AssetCheckSeverity.WARN, AssetCheckSeverity.ERROR
A_REFUSAL = Problem("visit", "0e9d", "parked", "record_refused", {"field": "start", "detail": "app-3"})


def _push(**fields: object) -> Finding:
    return pushing(ASSET, "sakura", PushReport(**fields), NOW)  # type: ignore[arg-type]


def _check(finding: Finding, name: str) -> AssetCheckEvaluation:
    return next(check for check in finding.checks if check.check_name == name)


def _failed(finding: Finding) -> dict[str, AssetCheckSeverity]:
    return {check.check_name: check.severity for check in finding.checks if not check.passed}


def test_counts_and_durations_are_numbers_that_the_ui_plots() -> None:
    told = landing(ASSET, "sakura", LandReport("client", "s1", "certified", records=7, seconds=1.5)).metadata

    assert told["records"] == IntMetadataValue(7)
    assert told["seconds"] == FloatMetadataValue(1.5)


def test_a_reading_that_changed_nothing_is_still_news() -> None:
    finding = landing(ASSET, "sakura", LandReport("client", "s1", "certified", records=7))

    assert finding.worth is Worth.NEWS
    assert not _failed(finding)


def test_an_incomplete_reading_is_no_fault_but_not_certified() -> None:
    report = LandReport("client", "s1", "incomplete", "partner_list_incomplete", {"why": "a page"}, records=7)

    finding = landing(ASSET, "sakura", report)

    assert (finding.worth, finding.fault, finding.lets_on) == (Worth.NEWS, None, True)
    assert _failed(finding) == {"snapshot_certified": WARN}
    assert "a page" in (_check(finding, "snapshot_certified").description or "")


@pytest.mark.parametrize(("records", "lets_on"), [(0, False), (3, True)])
def test_a_broken_reading_lets_the_others_on_only_if_something_landed(records: int, lets_on: bool) -> None:
    report = LandReport("client", "s1", "failed", "credential_refused", records=records)

    finding = landing(ASSET, "sakura", report)

    assert (finding.worth, finding.lets_on) == (Worth.NOTHING, lets_on)
    assert finding.fault is not None
    assert _failed(finding) == {"snapshot_certified": ERROR}


def test_a_reading_put_off_by_the_limits_leaves_the_certificate_as_it_was() -> None:
    finding = landing(ASSET, "sakura", LandReport("client", "", "failed", "budget_deferred"))

    assert finding.checks == ()


def test_a_diff_is_news_only_if_something_differs() -> None:
    assert diffing(ASSET, DiffReport("client")).worth is Worth.ON_REQUEST
    assert diffing(ASSET, DiffReport("client", unmappable=1)).worth is Worth.NEWS


def test_an_accumulation_is_news_only_if_there_are_changes() -> None:
    assert accumulating(ASSET, AccumulateReport(events=3)).worth is Worth.ON_REQUEST
    assert accumulating(ASSET, AccumulateReport(events=3, changes=1)).worth is Worth.NEWS


def test_records_that_go_on_waiting_for_a_person_are_no_news_and_no_difference() -> None:
    finding = applying(ASSET, "sakura", ApplyReport("client", held=1, landed_records=1, held_records=1))

    assert finding.worth is Worth.ON_REQUEST
    assert not _failed(finding)


def test_rejected_records_are_named_with_the_next_action() -> None:
    problem = Problem("client", "p-17", "rejected", "required_field_missing", {"field": "birthDate"})
    report = ApplyReport(
        "client", rejected=1, problems=(problem,), landed_records=5, applied_records=4, rejected_records=1
    )

    finding = applying(ASSET, "sakura", report)

    assert _failed(finding) == {"nothing_rejected": WARN}
    check = _check(finding, "nothing_rejected")
    assert "birthDate" in (check.description or "")
    assert [row.data["record"] for row in check.metadata["problems"].records] == ["p-17"]


def test_records_left_behind_are_counted_as_the_difference() -> None:
    finding = applying(ASSET, "sakura", ApplyReport("client", applied=3, landed_records=5, applied_records=3))

    assert _failed(finding) == {"equals_landed": ERROR}
    assert _check(finding, "equals_landed").metadata["difference"] == IntMetadataValue(2)


def test_a_push_that_had_nothing_to_do_is_no_news_but_answers_every_check() -> None:
    finding = _push()

    assert (finding.worth, _failed(finding), finding.fault) == (Worth.ON_REQUEST, {}, None)
    assert len(finding.checks) == 3


@pytest.mark.parametrize(
    "outcome",
    [
        "delivered",
        "delivered_with_warning",
        "superseded",
        "not_needed",
        "retry",
        "unknown",
        "conflict",
        "parked",
        "recovered",
    ],
)
def test_whatever_a_push_tried_is_news_and_answers_every_check(outcome: str) -> None:
    finding = _push(**{outcome: 1})

    assert finding.worth is Worth.NEWS
    assert len(finding.checks) == 3


@pytest.mark.parametrize(
    ("minutes", "failed"),
    [
        (15, {}),
        (16, {"oldest_pending_age": WARN}),
        (60, {"oldest_pending_age": WARN}),
        (61, {"oldest_pending_age": ERROR}),
    ],
)
def test_an_old_edit_warns_after_15_minutes_and_is_an_error_after_an_hour(
    minutes: int, failed: dict[str, AssetCheckSeverity]
) -> None:
    finding = _push(delivered=1, pending=1, oldest_pending=NOW - timedelta(minutes=minutes))

    assert _failed(finding) == failed
    assert finding.metadata["lag_seconds"] == FloatMetadataValue(minutes * 60.0)


def test_an_old_edit_shows_even_if_the_push_had_nothing_to_try() -> None:
    assert _failed(_push(pending=1, oldest_pending=NOW - timedelta(hours=2))) == {"oldest_pending_age": ERROR}


def test_parked_records_warn_with_what_the_person_must_do() -> None:
    finding = _push(parked=1, pending_parked=1, problems=(A_REFUSAL,))

    assert _failed(finding) == {"nothing_parked": WARN}
    assert "app-3" in (_check(finding, "nothing_parked").description or "")


def test_waiting_for_the_limits_is_neither_fault_nor_failed_check() -> None:
    finding = _push(stopped="budget_deferred")

    assert (finding.fault, _failed(finding)) == (None, {})


def test_a_paused_connection_fails_no_check_but_tells_whoever_pushed_it() -> None:
    finding = _push(stopped="connection_paused")

    assert _failed(finding) == {}
    assert finding.fault is not None


@pytest.mark.parametrize(("code", "severity"), [("partner_unreachable", WARN), ("credential_refused", ERROR)])
def test_what_stops_a_push_is_an_error_if_a_person_has_to_act(code: str, severity: AssetCheckSeverity) -> None:
    finding = _push(stopped=code)

    assert (finding.worth, _failed(finding)) == (Worth.NOTHING, {"not_stopped": severity})


def test_a_push_that_was_stopped_midway_still_shows_what_it_did() -> None:
    finding = _push(delivered=2, stopped="partner_unreachable")

    assert finding.worth is Worth.NEWS
    assert finding.fault is not None
