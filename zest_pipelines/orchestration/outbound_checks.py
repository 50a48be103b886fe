"""The checks of the way out, answered from what the push reports."""

from __future__ import annotations

from datetime import datetime

from dagster import AssetCheckEvaluation, AssetCheckSeverity, AssetKey, MetadataValue

from zest_pipelines.flows.reports import PushReport
from zest_pipelines.orchestration.checks import WHERE, CheckName, counted, evaluation, is_put_off, severity
from zest_pipelines.orchestration.failures import explained
from zest_pipelines.orchestration.metadata import Metadata, advice, lag_seconds, problems, reason

WARN_SECONDS = 15 * 60
"""Oldest pending edit: above it, a warning."""
ERROR_SECONDS = 60 * 60
"""Oldest pending edit: above it, an error."""


def not_stopped(asset: AssetKey, tenant: str, report: PushReport) -> AssetCheckEvaluation:
    """Whether the push came to its end, or waits for what comes by itself or what a person decided."""
    name = CheckName.NOT_STOPPED
    if report.stopped is None:
        return evaluation(asset, tenant, name, None, "All that was due was tried.", {})
    words = " ".join(explained(report.stopped, report.params))
    metadata = reason(report.stopped, report.params)
    return evaluation(
        asset, tenant, name, None if is_put_off(report.stopped) else severity(report.stopped), words, metadata
    )


def oldest_pending_age(asset: AssetKey, tenant: str, report: PushReport, now: datetime) -> AssetCheckEvaluation:
    """Whether the partner is about up to date."""
    name, lag = CheckName.OLDEST_PENDING_AGE, lag_seconds(report, now)
    metadata: Metadata = {
        "lag_seconds": MetadataValue.float(lag),
        "pending": MetadataValue.int(report.pending),
    }
    words = f"The oldest edit has waited {round(lag / 60)} min." if lag else "No edit waits."
    if lag <= WARN_SECONDS:
        return evaluation(asset, tenant, name, None, words, metadata)
    if report.stopped == "connection_paused":
        words += " The connection is paused: what waits goes when somebody resumes it."
        return evaluation(asset, tenant, name, None, words, metadata)
    failed_as = AssetCheckSeverity.ERROR if lag > ERROR_SECONDS else AssetCheckSeverity.WARN
    if not report.stopped and not report.problems:
        words += (
            " No try of it has failed. If there was no run of late, see that the partner's schedules are on in "
            "Automation and that the daemon runs; else tell us with the run's id."
        )
    if report.stopped:
        metadata |= reason(report.stopped, report.params)
        words += f" {' '.join(explained(report.stopped, report.params))}"
    words = f"{words} {advice(report.problems)}".strip()
    return evaluation(asset, tenant, name, failed_as, words, metadata | problems(report.problems))


def nothing_parked(asset: AssetKey, tenant: str, report: PushReport) -> AssetCheckEvaluation:
    """Whether no record waits for a person because the partner refused it."""
    name = CheckName.NOTHING_PARKED
    parked = [each for each in report.problems if each.outcome == "parked"]
    metadata = {"parked": MetadataValue.int(report.pending_parked)} | problems(parked)
    if report.pending_parked == 0:
        return evaluation(asset, tenant, name, None, "No record is parked.", metadata)
    words = f"{counted(report.pending_parked, 'record')} parked. {advice(parked) or WHERE}"
    return evaluation(asset, tenant, name, AssetCheckSeverity.ERROR, words, metadata)
