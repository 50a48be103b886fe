"""The checks of the way out, answered from what the push reports."""

from __future__ import annotations

from datetime import datetime

from dagster import AssetCheckEvaluation, AssetCheckSeverity, AssetKey, MetadataValue

from partners.reasons import sentences
from zest_pipelines.core.reference import reference
from zest_pipelines.flows.reports import PushReport
from zest_pipelines.orchestration.checks import WHERE, CheckName, counted, evaluation, is_put_off, severity
from zest_pipelines.orchestration.failures import is_retried
from zest_pipelines.orchestration.metadata import Metadata, about, advice, lag_seconds, problems, reason
from zest_pipelines.store.holds import OUTSIDE_WINDOW

WARN_SECONDS = 15 * 60
"""Oldest pending edit: above it, a warning."""
ERROR_SECONDS = 60 * 60
"""Oldest pending edit: above it, an error."""
_LOOKED_AT = "Until then one call, at least every 15 minutes, looks whether it is over; nothing else is sent."
_NOT_TRIED_YET = {
    "connection_paused": "The connection is paused: what waits goes when somebody resumes it.",
    OUTSIDE_WINDOW: "The partner takes nothing at this hour: what waits goes when it opens.",
}


def not_stopped(asset: AssetKey, tenant: str, report: PushReport) -> AssetCheckEvaluation:
    """Whether pushes get through, or wait for what comes by itself or what a person decided.

    A fault that may pass fails it once the breaker is open, and no sooner: the next minute tries again anyhow.
    """
    name = CheckName.NOT_STOPPED
    if report.stopped is None:
        return evaluation(asset, tenant, name, None, "All that was due was tried.", {})
    failed_as = None if is_put_off(report.stopped) else severity(report.stopped)
    if failed_as is AssetCheckSeverity.WARN and not report.is_held:
        failed_as = None
    whose = about(asset, tenant)
    words = " ".join(sentences(report.stopped, report.params, reference(*whose)))
    if report.is_held:
        words += f" {_LOOKED_AT}"
    return evaluation(asset, tenant, name, failed_as, words, reason(report.stopped, report.params, whose))


def shows_whether_stopped(report: PushReport) -> bool:
    """Whether the push shows that its connection is stopped, or that it is not.

    One that only waited shows neither, nor one whose calls were not answered, until that has opened the breaker.
    """
    if report.is_held or report.got_through:
        return True
    return report.unknown == 0 if report.stopped is None else not is_retried(report.stopped)


def oldest_pending_age(asset: AssetKey, tenant: str, report: PushReport, now: datetime) -> AssetCheckEvaluation:
    """Whether the partner is about up to date."""
    name, lag, whose = CheckName.OLDEST_PENDING_AGE, lag_seconds(report, now), about(asset, tenant)
    metadata: Metadata = {
        "lag_seconds": MetadataValue.float(lag),
        "pending": MetadataValue.int(report.pending),
    }
    words = f"The oldest edit has waited {round(lag / 60)} min." if lag else "No edit waits."
    if lag <= WARN_SECONDS:
        return evaluation(asset, tenant, name, None, words, metadata)
    if report.stopped in _NOT_TRIED_YET:
        words += f" {_NOT_TRIED_YET[report.stopped]}"
        return evaluation(asset, tenant, name, None, words, metadata)
    failed_as = AssetCheckSeverity.ERROR if lag > ERROR_SECONDS else AssetCheckSeverity.WARN
    if not report.stopped and not report.problems:
        words += (
            " No try of it has failed. If there was no run of late, see that the partner's schedules are on in "
            "Automation and that the daemon runs; else tell us with the run's id."
        )
    if report.stopped:
        metadata |= reason(report.stopped, report.params, whose)
        words += f" {' '.join(sentences(report.stopped, report.params, reference(*whose)))}"
    words = f"{words} {advice(report.problems, whose)}".strip()
    return evaluation(asset, tenant, name, failed_as, words, metadata | problems(report.problems, whose))


def nothing_parked(asset: AssetKey, tenant: str, report: PushReport) -> AssetCheckEvaluation:
    """Whether no record waits for a person because the partner refused it."""
    name, whose = CheckName.NOTHING_PARKED, about(asset, tenant)
    parked = [each for each in report.problems if each.outcome == "parked"]
    metadata = {"parked": MetadataValue.int(report.pending_parked)} | problems(parked, whose)
    if report.pending_parked == 0:
        return evaluation(asset, tenant, name, None, "No record is parked.", metadata)
    words = f"{counted(report.pending_parked, 'record')} parked. {advice(parked, whose) or WHERE}"
    return evaluation(asset, tenant, name, AssetCheckSeverity.ERROR, words, metadata)
