"""From a station's report to metadata and checks: pure, so tested without Dagster running."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dagster import AssetCheckEvaluation, AssetCheckSeverity, AssetKey, FloatMetadataValue, IntMetadataValue

from zest_pipelines.core.reference import reference
from zest_pipelines.flows.reports import (
    AccumulateReport,
    ApplyReport,
    DiffReport,
    Freshness,
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


@pytest.mark.parametrize("reason", ["credential_refused", "partner_unreachable", "connection_paused"])
def test_a_reading_that_failed_or_is_paused_is_a_fault_and_lets_the_others_on(reason: str) -> None:
    finding = landing(ASSET, "sakura", LandReport("client", "s1", "failed", reason))

    assert (finding.worth, finding.lets_on, finding.waits_for) == (Worth.NOTHING, True, None)
    assert finding.fault is not None


@pytest.mark.parametrize(("reason", "lets_on"), [("budget_deferred", True), ("reading_under_way", False)])
def test_a_reading_that_was_put_off_made_nothing_and_is_no_fault(reason: str, lets_on: bool) -> None:
    finding = landing(ASSET, "sakura", LandReport("client", "s1", "failed", reason, last=BEFORE))

    assert (finding.worth, finding.fault, finding.lets_on) == (Worth.NOTHING, None, lets_on)
    assert finding.waits_for is not None
    assert (finding.waits_for.code, finding.waits_for.is_permanent) == (reason, False)


@pytest.mark.parametrize(("new_versions", "is_answered"), [(0, False), (1, True)])
def test_a_reading_that_was_put_off_speaks_of_the_form_only_if_something_came(
    new_versions: int, is_answered: bool
) -> None:
    report = LandReport("client", "s1", "failed", "budget_deferred", new_versions=new_versions)

    finding = landing(ASSET, "sakura", report)

    assert ("shape_known" in {check.check_name for check in finding.checks}) is is_answered


BEFORE = LandReport("client", "s0", "certified", records=7)
REFUSED = LandReport("client", "s0", "failed", "credential_refused")


@pytest.mark.parametrize(
    ("last", "failed", "said"),
    [(BEFORE, {}, "7 changed records"), (REFUSED, ERROR, "credential"), (None, WARN, "Nothing has been read before")],
)
def test_a_reading_put_off_by_the_limits_leaves_the_certificate_as_it_was(
    last: LandReport | None, failed: object, said: str
) -> None:
    finding = landing(ASSET, "sakura", LandReport("client", "", "failed", "budget_deferred", last=last))

    assert _failed(finding) == ({"snapshot_certified": failed} if failed else {})
    assert said in (_check(finding, "snapshot_certified").description or "")


def test_how_fresh_it_is_is_judged_by_the_last_reading_that_counts() -> None:
    old = Freshness("client", timedelta(hours=3), was_read=True, every=timedelta(hours=1))
    failed = LandReport("client", "s1", "failed", "partner_unreachable", freshness=old)

    assert _failed(landing(ASSET, "sakura", failed)) == {"snapshot_certified": WARN, "fresh": WARN}
    assert _failed(landing(ASSET, "sakura", BEFORE)) == {}


def test_unknown_fields_and_unmappable_records_are_a_warning_that_names_them() -> None:
    odd = (
        Problem("client", "landed:4", "unmappable", "required_field_missing", {"field": "Patient.identifier"}),
        Problem("client", "landed:5", "landed", "fields_unknown", {"fields": "Patient.nickname"}),
    )
    report = LandReport(
        "client",
        "s1",
        "certified",
        records=9,
        new_versions=9,
        unmappable=1,
        unmappable_for={"required_field_missing": 1},
        unknown_fields={"Patient.nickname": 8},
        problems=odd,
    )

    finding = landing(ASSET, "sakura", report)

    assert _failed(finding) == {"shape_known": WARN}
    assert (finding.worth, finding.lets_on) == (Worth.NEWS, True)
    assert finding.metadata["unknown_fields"] == IntMetadataValue(1)
    assert (_check(finding, "shape_known").description or "").startswith(
        "Fields that we do not know: Patient.nickname (8 records). 1 record cannot be taken: required_field_missing "
        "(1). Records: landed:4, landed:5. Fill in"
    )


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


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"held_deletes": 12}, "12 would be deleted. Additions"),
        ({"held_fields": {"sex": 90}}, "sex would change in 90. Additions"),
        ({"held_fields": {"sex": 9}, "changed_lately": {"sex": 81}}, "sex would change in 9, after 81 within an hour."),
        ({"held_deletes": 12, "held_fields": {"sex": 90}}, "12 would be deleted, sex would change in 90. Additions"),
    ],
)
def test_a_mass_change_is_an_error_with_its_numbers_and_what_to_do(held: dict[str, Any], said: str) -> None:
    problem = Problem("client", "landed:4", "held", "mass_change_held", {"why": "12 deletes"})

    finding = applying(ASSET, "sakura", ApplyReport("client", population=200, problems=(problem,), **held))

    assert _failed(finding) == {"no_mass_change": ERROR}
    description = _check(finding, "no_mass_change").description or ""
    assert description.startswith(f"Held, of 200 records in force: {said}")
    assert description.endswith(f"tell support the reference number {reference('sakura', ASSET.path[0])}.")


def test_what_was_within_bounds_is_said_too() -> None:
    report = ApplyReport("client", applied=5, population=200, deletes=3, changed={"sex": 2, "phone": 1})

    check = _check(applying(ASSET, "sakura", report), "no_mass_change")

    assert check.passed
    assert check.description == (
        "Nothing is held: 3 of 200 records in force to be deleted, no field to change in more than 2."
    )


def test_where_all_records_stand_is_a_table_with_what_to_do() -> None:
    problem = Problem("client", "landed:4", "rejected", "required_field_missing", {"field": "birthDate"})
    report = ApplyReport(
        "client", problems=(problem,), landed_records=5, applied_records=4, rejected_records=1, held_deletes=0
    )

    table = applying(ASSET, "sakura", report).metadata["standing"].value

    assert str(table).splitlines()[2:] == [
        "| the partner has | 5 |  |",
        "| of these, applied | 4 |  |",
        '| rejected | 1 | Fill in "birthDate" on the partner\'s screen and save. The next import takes it over. |',
    ]


def test_rejected_records_are_named_with_the_next_action() -> None:
    problem = Problem("client", "p-17", "rejected", "required_field_missing", {"field": "birthDate"})
    report = ApplyReport(
        "client", rejected=1, problems=(problem,), landed_records=5, applied_records=4, rejected_records=1
    )

    finding = applying(ASSET, "sakura", report)

    assert _failed(finding) == {"nothing_rejected": ERROR}
    check = _check(finding, "nothing_rejected")
    assert (check.description or "").startswith("1 record rejected: p-17. ")
    assert "birthDate" in (check.description or "")
    assert [row.data["record"] for row in check.metadata["problems"].records] == ["p-17"]


def test_records_of_which_nobody_knows_who_they_are_are_counted_with_what_to_do() -> None:
    problems = (
        Problem("client", "landed:4", "held", "partner_id_reused", {"records": "0e9d"}),
        Problem("client", "landed:5", "held", "mass_change_held", {"why": "12 deletes"}),
    )
    report = ApplyReport("client", held=14, waiting=2, held_deletes=12, problems=problems)

    finding = applying(ASSET, "sakura", report)

    assert _failed(finding) == {"identities_settled": ERROR, "no_mass_change": ERROR}
    check = _check(finding, "identities_settled")
    said = check.description or ""
    assert said.startswith("2 records waiting for a person to say who it is: landed:4, and 1 more. ")
    assert "zest identities sakura paper." in said
    assert "Check the number at the partner" in said
    assert [row.data["record"] for row in check.metadata["problems"].records] == ["landed:4"]
    assert "zest approve sakura paper client." in (_check(finding, "no_mass_change").description or "")


def test_records_left_behind_are_counted_as_the_difference() -> None:
    left = ("landed:4", "landed:5")
    report = ApplyReport("client", applied=3, landed_records=5, applied_records=3, left_behind=left)

    finding = applying(ASSET, "sakura", report)

    assert _failed(finding) == {"equals_landed": ERROR}
    assert "Left behind: 2 (landed:4, landed:5)." in (_check(finding, "equals_landed").description or "")
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
        "repaired",
        "late",
        "abandoned",
    ],
)
def test_whatever_a_push_tried_is_news_and_answers_every_check(outcome: str) -> None:
    finding = _push(**{outcome: 1})

    assert finding.worth is Worth.NEWS
    assert len([*finding.checks, *finding.if_planned]) == 3


def test_a_push_whose_calls_were_not_answered_says_nothing_of_whether_it_is_stopped() -> None:
    assert "not_stopped" not in {each.check_name for each in _push(unknown=2).checks}
    assert "not_stopped" in {each.check_name for each in _push(unknown=2, delivered=1).checks}


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


def test_parked_records_are_an_error_with_what_the_person_must_do() -> None:
    finding = _push(parked=1, pending_parked=1, problems=(A_REFUSAL,))

    assert _failed(finding) == {"nothing_parked": ERROR}
    described = _check(finding, "nothing_parked").description or ""
    assert described.startswith("1 record parked. ")
    assert "app-3" in described


def test_waiting_for_the_limits_is_neither_fault_nor_failed_check() -> None:
    finding = _push(stopped="budget_deferred")

    assert (finding.fault, _failed(finding)) == (None, {})


def test_a_paused_connection_fails_no_check_but_tells_whoever_pushed_it() -> None:
    finding = _push(stopped="connection_paused")

    assert _failed(finding) == {}
    assert finding.fault is not None


@pytest.mark.parametrize(("code", "severity"), [("partner_unreachable", WARN), ("credential_refused", ERROR)])
def test_what_opens_the_breaker_is_an_error_if_a_person_has_to_act(code: str, severity: AssetCheckSeverity) -> None:
    finding = _push(stopped=code, is_held=True, retry=1, parked=2)

    assert (finding.worth, _failed(finding)) == (Worth.NOTHING, {"not_stopped": severity})


def test_a_push_that_was_stopped_midway_still_shows_what_it_did() -> None:
    finding = _push(delivered=2, stopped="partner_unreachable")

    assert finding.worth is Worth.NEWS
    assert finding.fault is not None


def test_a_fault_that_may_pass_is_told_by_no_check_before_it_opens_the_breaker_but_in_the_log() -> None:
    finding = _push(stopped="partner_unreachable", retry=1)

    assert "not_stopped" not in {each.check_name for each in finding.checks}
    assert [(each.check_name, each.passed) for each in finding.if_planned] == [("not_stopped", True)]
    assert finding.fault is not None


@pytest.mark.parametrize("code", ["outside_window", "connection_paused"])
def test_what_waits_while_the_partner_is_closed_or_the_connection_paused_is_not_late(code: str) -> None:
    finding = _push(stopped=code, pending=3, oldest_pending=NOW - timedelta(hours=5))

    assert _failed(finding) == {}
    assert "what waits goes when" in (_check(finding, "oldest_pending_age").description or "")
