"""What a command tells of a run that it executed: whose word it is, and what a person reads when it is nobody's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetSpec,
    DagsterInstance,
    Definitions,
    Failure,
    MaterializeResult,
    multi_asset,
)

from partners.errors import Deferred
from partners.fhir.partner import FHIR
from partners.registry import ShownPartnersError
from zest_pipelines.cli.failures import sentence
from zest_pipelines.cli.options import InputError
from zest_pipelines.cli.runs import SILENT, Ended, FailedCheck, ended, shown_definitions

ERROR, WARN = AssetCheckSeverity.ERROR, AssetCheckSeverity.WARN
WORDS = "Of 2 records 0 are waiting and 1 refused. Ask the partner."


def run(severity: AssetCheckSeverity, after: Callable[[], None] = lambda: None) -> Ended:
    """Of an asset that is made, whose blocking check fails so, and that does `after` then."""

    @multi_asset(
        name="push", specs=[AssetSpec("week")], check_specs=[AssetCheckSpec("settled", asset="week", blocking=True)]
    )
    def push() -> Iterator[MaterializeResult[None] | AssetCheckResult]:
        yield MaterializeResult(asset_key="week", metadata={"visits_refused": 1})
        yield AssetCheckResult(check_name="settled", passed=False, severity=severity, description=WORDS)
        after()

    job = Definitions(assets=[push]).resolve_implicit_global_asset_job_def()
    with DagsterInstance.ephemeral() as instance:
        return ended(instance, job.execute_in_process(instance=instance, raise_on_error=False, run_config=SILENT))


@pytest.mark.parametrize("severity", [ERROR, WARN])
def test_a_check_tells_itself_why_a_run_failed(severity: AssetCheckSeverity) -> None:
    over = run(severity)
    assert over.failures == ()
    assert over.failed_checks == (FailedCheck("week", "settled", WORDS, severity.value),)
    assert over.failed_checks[0].is_error is (severity is ERROR)
    assert over.metadata == ({"visits_refused": 1},)


def test_a_failure_of_ours_is_told_in_its_words() -> None:
    def fail() -> None:
        raise Failure("sakura: the partner refuses the credential", allow_retries=False)

    assert run(ERROR, fail).failures == ("sakura: the partner refuses the credential",)


def test_of_an_error_that_nobody_foresaw_the_run_is_named_and_nothing_quoted(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("佐藤")

    with caplog.at_level(logging.CRITICAL):
        over = run(ERROR, fail)
    assert over.failures == (f"The run {over.run_id} broke off: look at it in the UI (`zest up`), or report this id",)


def test_a_partner_that_the_environment_hides_is_told_before_anything_is_run() -> None:
    assert shown_definitions(FHIR).resolve_job_def("fhir_in").name == "fhir_in"
    with pytest.raises(InputError, match="ZEST_PARTNERS hides paper here"):
        shown_definitions(replace(FHIR, name="paper"))
    assert "ZEST_PARTNERS: no partner is called 'fihr'" in (sentence(ShownPartnersError("fihr")) or "")


def test_a_check_that_the_limits_put_off_says_until_when() -> None:
    told = sentence(Deferred(datetime(2026, 12, 1, 3, 4, 5, tzinfo=UTC)))
    assert told == (
        "The limits leave no call before 2026-12-01 12:04:05 JST: try again then. zest limits shows them; "
        "zest reopen opens what a partner has closed for a time that cannot be meant"
    )
