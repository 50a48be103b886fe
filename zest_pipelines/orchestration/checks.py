"""What must hold after a run, tenant by tenant: the checks that the assets declare, and how a report
answers them.

They are evaluated inside the run that made the report and carry the tenant as their partition, so that in a
run of many tenants each has its own answer. WARN while we try again by ourselves, ERROR when a person has to
act.

None of a tenant's checks is declared blocking. Blocking acts between the steps of a run alone, and the way in is one
step, which serves many tenants: to stop it for one would stop those beside it. Nor should everything stop: after a
reading that is not certified nobody is deleted, yet what it brought is taken; of a mass change the deletes or the
fields in question are held, yet additions go on, and so does the way out. These are rules of the stations, and hold
where no check is planned as well. The checks of a week do block what follows in its run.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime, timedelta
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

from partners.reasons import reason as catalogued
from zest_pipelines.flows.reports import ApplyReport, Freshness, LandReport, Problem, PushReport
from zest_pipelines.orchestration.failures import Fault, explained, is_retried
from zest_pipelines.orchestration.metadata import Metadata, actions, advice, lag_seconds, numbers, problems, reason

WARN_SECONDS = 15 * 60
"""Oldest pending edit: above it, a warning."""
ERROR_SECONDS = 60 * 60
"""Oldest pending edit: above it, an error."""
LEAST_INTERVAL = timedelta(minutes=10)
"""Of readings, as far as their age is judged: a failed one is tried again after five minutes."""
STALE_AT_MOST = timedelta(hours=24)
"""Age of the last certified reading: above it, an error, however long the interval's multiples are."""


class CheckName(StrEnum):
    """The checks; each belongs to one kind of asset."""

    SNAPSHOT_CERTIFIED = "snapshot_certified"
    SHAPE_KNOWN = "shape_known"
    FRESH = "fresh"
    NO_MASS_CHANGE = "no_mass_change"
    NOTHING_REJECTED = "nothing_rejected"
    EQUALS_LANDED = "equals_landed"
    NOT_STOPPED = "not_stopped"
    OLDEST_PENDING_AGE = "oldest_pending_age"
    NOTHING_PARKED = "nothing_parked"
    WEEK_SETTLED = "week_settled"
    EQUALS_READ_BACK = "equals_read_back"


_ABOUT = {
    CheckName.SNAPSHOT_CERTIFIED: "The last reading surely holds all that the partner has, or all that "
    "changed. Red: nobody is deleted because of it; the description says what to do.",
    CheckName.SHAPE_KNOWN: "What came new or changed in the last reading has the fields that we know, and each record "
    "could become one of ours (drift). Yellow: the description names the fields and reasons; nothing is lost, and what "
    "is well goes on. Told once for each version of a record.",
    CheckName.FRESH: "The last reading to be relied on is no older than twice the interval that is set for the "
    "connection (warning), or six times (error; at most a day, but never below three times). Red: readings fail or "
    "none are started; the description says where to look. A paused connection is not read, and not red.",
    CheckName.NO_MASS_CHANGE: "No more than 10 deletes or 5 % of the records in force, and no field that changes in "
    "more than 30 % of them (and in 10 or more), are about to be applied at once. Red: these are held until a person "
    "has looked, while additions and all other changes go on.",
    CheckName.NOTHING_REJECTED: "Every record of the partner could become one of ours. Yellow: correct the "
    "listed records at the partner; the next reading takes them.",
    CheckName.EQUALS_LANDED: "Every landed record is applied, but for those that wait for a person or were "
    "rejected. Red: records were left behind; materialize changes and applied again, and tell us if it stays so.",
    CheckName.NOT_STOPPED: "The last push tried all that was due, or waits for its turn. Red: nothing of "
    "this tenant gets through until what the description says is done.",
    CheckName.OLDEST_PENDING_AGE: "No edit has waited more than 15 minutes (warning) or an hour (error) for "
    "the partner, parked ones left out. Red: look at what stopped it.",
    CheckName.NOTHING_PARKED: "The last push had no record refused for good. Red: the listed records need a person.",
    CheckName.WEEK_SETTLED: "The partner has everything of the week. Yellow: the rest waits and goes by itself. Red: "
    "a person has to act; the description says where. It blocks: nothing is read back of a week that is red.",
    CheckName.EQUALS_READ_BACK: "What was pushed of the week is what the partner shows when it is read back. Red: the "
    "listed records are missing or differ there. Yellow: not all could be read; launch it again later.",
}
_MOST_NAMED = 5
_WHERE = "`zest explain` says why, and what to do, for each record."


def specs(
    asset: AssetKey, names: Sequence[CheckName], partitions: PartitionsDefinition[str], *, blocking: bool = False
) -> list[AssetCheckSpec]:
    """The declarations of an asset's checks, partitioned as the asset is.

    `blocking`: an error fails the run and stops what follows, where the answer is yielded and not only logged.
    """
    with warnings.catch_warnings():
        # In preview; without the partitions the UI would show the last tenant's answer as everyone's.
        warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", PreviewWarning)
        return [
            AssetCheckSpec(
                name.value, asset=asset, description=_ABOUT[name], partitions_def=partitions, blocking=blocking
            )
            for name in names
        ]


def snapshot_certified(asset: AssetKey, tenant: str, report: LandReport) -> AssetCheckEvaluation:
    """Whether the reading may be relied on."""
    failed_as, words = _verdict(report)
    metadata = numbers(report) | (reason(report.reason, report.params) if report.reason else {})
    return evaluation(asset, tenant, CheckName.SNAPSHOT_CERTIFIED, failed_as, words, metadata)


def _verdict(report: LandReport) -> tuple[AssetCheckSeverity | None, str]:
    """How severely the certificate fails, and the words. One that was put off leaves the verdict as it was."""
    if report.is_certified:
        return None, f"{_counted(report.records, 'record')}, all accounted for."
    code = report.reason or "unknown"
    words = " ".join(explained(code, report.params))
    if not _is_put_off(code):
        came = f" {_counted(report.records, 'record')} came, on {_counted(report.pages, 'page')}."
        return severity(code), words + (came if report.records else "")
    if report.last is None:
        return AssetCheckSeverity.WARN, f"{words} Nothing has been read before."
    failed_as, before = _verdict(report.last)
    return failed_as, f"{words} The reading before: {before}"


def shape_known(asset: AssetKey, tenant: str, report: LandReport) -> AssetCheckEvaluation:
    """Whether what came is of the form that our mapping knows."""
    name = CheckName.SHAPE_KNOWN
    metadata: Metadata = {
        "new_versions": MetadataValue.int(report.new_versions),
        "unmappable": MetadataValue.int(report.unmappable),
        "unknown_fields": MetadataValue.int(len(report.unknown_fields)),
    }
    if not report.unmappable and not report.unknown_fields:
        words = f"{_counted(report.new_versions, 'new or changed record')}, all of a form that we know."
        return evaluation(asset, tenant, name, None, words, metadata)
    unknown = [f"{field} ({_counted(count, 'record')})" for field, count in sorted(report.unknown_fields.items())]
    reasons = [f"{code} ({count})" for code, count in sorted(report.unmappable_for.items())]
    words = " ".join(
        [
            *([f"Fields that we do not know: {', '.join(unknown)}."] if unknown else []),
            *([f"{_counted(report.unmappable, 'record')} cannot be taken: {', '.join(reasons)}."] if reasons else []),
            f"Records: {_named(report.problems)}.",
            actions(report.problems),
        ]
    )
    return evaluation(asset, tenant, name, AssetCheckSeverity.WARN, words, metadata | problems(report.problems))


def fresh(asset: AssetKey, tenant: str, freshness: Freshness | None = None) -> AssetCheckEvaluation:
    """Whether the partner has been read lately. None: it was, just now, and the reading may be relied on."""
    name = CheckName.FRESH
    if freshness is None:
        return evaluation(asset, tenant, name, None, "Read just now.", {})
    age, every = freshness.age, max(freshness.every, LEAST_INTERVAL)
    metadata: Metadata = {
        "age_seconds": MetadataValue.float(age.total_seconds()),
        "every_seconds": MetadataValue.float(every.total_seconds()),
    }
    last = f"The last reading to be relied on began {_spoken(age)} ago"
    if not freshness.was_read:
        last = f"There was no reading to be relied on since it was connected or changed, {_spoken(age)} ago"
    words = f"{last}; one is due every {_spoken(every)}."
    if freshness.is_paused:
        words = f"The connection is paused, so nothing is read until somebody resumes it. {last}."
        return evaluation(asset, tenant, name, None, words, metadata)
    if age <= 2 * every:
        return evaluation(asset, tenant, name, None, words, metadata)
    is_error = age > max(3 * every, min(6 * every, STALE_AT_MOST))
    failed_as = AssetCheckSeverity.ERROR if is_error else AssetCheckSeverity.WARN
    words += (
        f" If {CheckName.SNAPSHOT_CERTIFIED} of this tenant failed since, do what it says; if no run tried at all, see "
        "that the partner's schedule is on in Automation and that the daemon runs."
    )
    return evaluation(asset, tenant, name, failed_as, words, metadata)


def nothing_rejected(asset: AssetKey, tenant: str, report: ApplyReport) -> AssetCheckEvaluation:
    """Whether every record could be taken."""
    name, count = CheckName.NOTHING_REJECTED, report.rejected_records
    rejected = [each for each in report.problems if each.outcome == "rejected"]
    metadata = {"rejected_records": MetadataValue.int(count)} | problems(rejected)
    if count == 0:
        return evaluation(asset, tenant, name, None, "No record is rejected.", metadata)
    words = f"{_records(count)} rejected: {_named(rejected, count)}. {advice(rejected)}"
    return evaluation(asset, tenant, name, AssetCheckSeverity.WARN, words, metadata)


def no_mass_change(asset: AssetKey, tenant: str, report: ApplyReport) -> AssetCheckEvaluation:
    """Whether so little was about to change that nobody has to look at it first."""
    name, of = CheckName.NO_MASS_CHANGE, f"of {_counted(report.population, 'record')} in force"
    held = [each for each in report.problems if each.outcome == "held"]
    most = max(report.changed.values(), default=0)
    metadata: Metadata = {
        "population": MetadataValue.int(report.population),
        "deletes": MetadataValue.int(report.deletes),
        "most_changes_of_a_field": MetadataValue.int(most),
        "held_deletes": MetadataValue.int(report.held_deletes),
        "held_fields": MetadataValue.json(dict(report.held_fields)),
    }
    if not report.held_deletes and not report.held_fields:
        words = f"Nothing is held: {report.deletes} {of} to be deleted, no field to change in more than {most}."
        return evaluation(asset, tenant, name, None, words, metadata)
    what = [f"{field} would change in {count}" for field, count in sorted(report.held_fields.items())]
    if report.held_deletes:
        what.insert(0, f"{report.held_deletes} would be deleted")
    words = f"Held, {of}: {', '.join(what)}. Additions and all other changes go on. {actions(held)}"
    return evaluation(asset, tenant, name, AssetCheckSeverity.ERROR, words, metadata | problems(held))


def equals_landed(asset: AssetKey, tenant: str, report: ApplyReport) -> AssetCheckEvaluation:
    """Whether what the partner has is what we have."""
    name = CheckName.EQUALS_LANDED
    words = (
        f"{report.landed_records} landed; {report.applied_records} applied, "
        f"{report.rejected_records} rejected, {report.held_records} waiting for a person."
    )
    metadata = numbers(report) | {"difference": MetadataValue.int(report.left_records)}
    if report.equals_landed:
        return evaluation(asset, tenant, name, None, words, metadata)
    words += (
        f" Left behind: {report.left_records} ({', '.join(report.left_behind)}). Materialize the changes and this "
        "asset of this tenant again, both in one run; if it stays so, tell us with the run's id."
    )
    return evaluation(asset, tenant, name, AssetCheckSeverity.ERROR, words, metadata)


def not_stopped(asset: AssetKey, tenant: str, report: PushReport) -> AssetCheckEvaluation:
    """Whether the push came to its end, or waits for what comes by itself or what a person decided."""
    name = CheckName.NOT_STOPPED
    if report.stopped is None:
        return evaluation(asset, tenant, name, None, "All that was due was tried.", {})
    words = " ".join(explained(report.stopped, report.params))
    metadata = reason(report.stopped, report.params)
    return evaluation(
        asset, tenant, name, None if _is_put_off(report.stopped) else severity(report.stopped), words, metadata
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
    words = f"{_records(report.pending_parked)} parked. {advice(parked) or _WHERE}"
    return evaluation(asset, tenant, name, AssetCheckSeverity.WARN, words, metadata)


def broken(asset: AssetKey, tenant: str, name: CheckName, fault: Fault) -> AssetCheckEvaluation:
    """The answer where a fault kept the station from giving one."""
    failed_as = AssetCheckSeverity.ERROR if fault.is_permanent else AssetCheckSeverity.WARN
    metadata: Metadata = {"reason": MetadataValue.text(fault.code)}
    return evaluation(asset, tenant, name, failed_as, fault.description, metadata)


def is_waiting(code: str) -> bool:
    """Whether the reason is no fault but a rule of ours that lets it go on later: limits, hours."""
    return is_retried(code) and catalogued(code).is_wait


def _is_put_off(code: str) -> bool:
    """Whether nothing is wrong: it waits for its turn, or until the person who paused it resumes it."""
    return is_waiting(code) or code == "connection_paused"


def severity(code: str) -> AssetCheckSeverity:
    """A warning while we try again by ourselves, else an error."""
    return AssetCheckSeverity.WARN if is_retried(code) else AssetCheckSeverity.ERROR


def _spoken(span: timedelta) -> str:
    """`40 min`, `5 h`, `3 days`: two of a unit before the next is used."""
    minutes = round(span.total_seconds() / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


def _records(count: int) -> str:
    return "1 record is" if count == 1 else f"{count} records are"


def _counted(count: int, what: str) -> str:
    """`1 page`, `2 pages`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _named(found: Sequence[Problem], count: int | None = None) -> str:
    """The first few opaque ids of `count` records (None: of those that are listed)."""
    names = [each.record for each in found[:_MOST_NAMED]]
    more = (len(found) if count is None else count) - len(names)
    return ", ".join([*names, *([f"and {more} more"] if more > 0 else [])])


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
