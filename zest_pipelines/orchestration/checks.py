"""What must hold after a run, tenant by tenant: the checks that the assets declare, and how a report
answers them.

They are evaluated inside the run that made the report and carry the tenant as their partition, so that in a
run of many tenants each has its own answer. WARN while we try again by ourselves, ERROR when a person has to
act. A check holds nothing up: what must not be done after a bad answer is a station's own rule.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    MetadataValue,
    PartitionsDefinition,
    PreviewWarning,
)

from partners.reasons import Owner
from partners.reasons import reason as catalogued
from zest_pipelines.flows.reports import ApplyReport, LandReport, PushReport
from zest_pipelines.orchestration.failures import Fault, explained, is_retried
from zest_pipelines.orchestration.metadata import Metadata, advice, lag_seconds, numbers, problems, reason

WARN_SECONDS = 15 * 60
"""Oldest pending edit: above it, a warning."""
ERROR_SECONDS = 60 * 60
"""Oldest pending edit: above it, an error."""


class CheckName(StrEnum):
    """The checks; each belongs to one kind of asset."""

    SNAPSHOT_CERTIFIED = "snapshot_certified"
    NOTHING_REJECTED = "nothing_rejected"
    EQUALS_LANDED = "equals_landed"
    NOT_STOPPED = "not_stopped"
    OLDEST_PENDING_AGE = "oldest_pending_age"
    NOTHING_PARKED = "nothing_parked"


_ABOUT = {
    CheckName.SNAPSHOT_CERTIFIED: "The last reading surely holds all that the partner has, or all that "
    "changed. Red: nobody is deleted because of it; the description says what to do.",
    CheckName.NOTHING_REJECTED: "Every record of the partner could become one of ours. Red: correct the "
    "listed records at the partner; the next reading takes them.",
    CheckName.EQUALS_LANDED: "Every landed record is applied, but for those that wait for a person or were "
    "rejected. Red: records were left behind; run it again, and tell us if it stays so.",
    CheckName.NOT_STOPPED: "The last push tried all that was due, or waits for its turn. Red: nothing of "
    "this tenant gets through until what the description says is done.",
    CheckName.OLDEST_PENDING_AGE: "No edit has waited more than 15 minutes (warning) or an hour (error) for "
    "the partner, parked ones left out. Red: look at what stopped it.",
    CheckName.NOTHING_PARKED: "The last push had no record refused for good. Red: the listed records need a person.",
}
_WHERE = "`zest explain` says why, and what to do, for each record."


def specs(asset: AssetKey, names: Sequence[CheckName], partitions: PartitionsDefinition[str]) -> list[AssetCheckSpec]:
    """The declarations of an asset's checks, partitioned as the asset is."""
    with warnings.catch_warnings():
        # In preview; without the partitions the UI would show the last tenant's answer as everyone's.
        warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", PreviewWarning)
        return [
            AssetCheckSpec(name.value, asset=asset, description=_ABOUT[name], partitions_def=partitions)
            for name in names
        ]


def snapshot_certified(asset: AssetKey, tenant: str, report: LandReport) -> AssetCheckEvaluation:
    """Whether the reading may be relied on."""
    name, metadata = CheckName.SNAPSHOT_CERTIFIED, numbers(report)
    if report.is_certified:
        words = f"{report.records} records, all accounted for."
        return evaluation(asset, tenant, name, None, words, metadata)
    code = report.reason or "unknown"
    words = " ".join(explained(code, report.params))
    metadata |= reason(code, report.params)
    return evaluation(asset, tenant, name, severity(code), words, metadata)


def nothing_rejected(asset: AssetKey, tenant: str, report: ApplyReport) -> AssetCheckEvaluation:
    """Whether every record could be taken."""
    name, count = CheckName.NOTHING_REJECTED, report.rejected_records
    rejected = [each for each in report.problems if each.outcome == "rejected"]
    metadata = {"rejected_records": MetadataValue.int(count)} | problems(rejected)
    if count == 0:
        return evaluation(asset, tenant, name, None, "No record is rejected.", metadata)
    words = f"{_records(count)} rejected. {advice(rejected) or _WHERE}"
    return evaluation(asset, tenant, name, AssetCheckSeverity.WARN, words, metadata)


def equals_landed(asset: AssetKey, tenant: str, report: ApplyReport) -> AssetCheckEvaluation:
    """Whether what the partner has is what we have."""
    name = CheckName.EQUALS_LANDED
    words = (
        f"{report.landed_records} landed; {report.applied_records} applied, "
        f"{report.rejected_records} rejected, {report.held_records} waiting for a person."
    )
    left = report.landed_records - report.applied_records - report.rejected_records - report.held_records
    metadata = numbers(report) | {"difference": MetadataValue.int(left)}
    if report.equals_landed:
        return evaluation(asset, tenant, name, None, words, metadata)
    words += f" Difference: {left}. Run it again; if it stays, tell us with the run's id."
    return evaluation(asset, tenant, name, AssetCheckSeverity.ERROR, words, metadata)


def not_stopped(asset: AssetKey, tenant: str, report: PushReport) -> AssetCheckEvaluation:
    """Whether the push came to its end, or waits for what comes by itself or what a person decided."""
    name = CheckName.NOT_STOPPED
    if report.stopped is None:
        return evaluation(asset, tenant, name, None, "All that was due was tried.", {})
    words = " ".join(explained(report.stopped, report.params))
    metadata = reason(report.stopped, report.params)
    waits = is_waiting(report.stopped) or report.stopped == "connection_paused"
    return evaluation(asset, tenant, name, None if waits else severity(report.stopped), words, metadata)


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
    failed_as = AssetCheckSeverity.ERROR if lag > ERROR_SECONDS else AssetCheckSeverity.WARN
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
    words = f"{_records(report.pending_parked)} parked. {advice(parked) or _WHERE}"
    return evaluation(asset, tenant, name, AssetCheckSeverity.WARN, words, metadata)


def broken(asset: AssetKey, tenant: str, name: CheckName, fault: Fault) -> AssetCheckEvaluation:
    """The answer where a fault kept the station from giving one."""
    failed_as = AssetCheckSeverity.ERROR if fault.is_permanent else AssetCheckSeverity.WARN
    metadata: Metadata = {"reason": MetadataValue.text(fault.code)}
    return evaluation(asset, tenant, name, failed_as, fault.description, metadata)


def is_waiting(code: str) -> bool:
    """Whether the reason is no fault but a rule of ours that lets it go on later: limits, hours."""
    return is_retried(code) and catalogued(code).owner is Owner.US


def severity(code: str) -> AssetCheckSeverity:
    """A warning while we try again by ourselves, else an error."""
    return AssetCheckSeverity.WARN if is_retried(code) else AssetCheckSeverity.ERROR


def _records(count: int) -> str:
    return "1 record is" if count == 1 else f"{count} records are"


def evaluation(
    asset: AssetKey,
    tenant: str,
    name: CheckName,
    failed_as: AssetCheckSeverity | None,
    description: str,
    metadata: Metadata,
) -> AssetCheckEvaluation:
    """The answer of one check for one partition key. `failed_as` None: it holds."""
    return AssetCheckEvaluation(
        asset_key=asset,
        check_name=name.value,
        passed=failed_as is None,
        severity=failed_as or AssetCheckSeverity.ERROR,
        description=description,
        metadata=metadata,
        partition=tenant,
    )
