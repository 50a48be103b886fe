"""The checks of the way in, answered from what the landing and the apply report."""

from __future__ import annotations

from datetime import datetime, timedelta

from dagster import AssetCheckEvaluation, AssetCheckSeverity, AssetKey, MetadataValue

from partners.reasons import sentences
from partners.windows import JAPAN
from zest_pipelines.core.reference import About, reference
from zest_pipelines.flows.check import WARNED_BEFORE
from zest_pipelines.flows.ending import GUARDED, UNTOLD
from zest_pipelines.flows.reports import ApplyReport, Freshness, LandReport, PlanReport
from zest_pipelines.orchestration.checks import CheckName, counted, evaluation, is_put_off, named, severity, spoken
from zest_pipelines.orchestration.metadata import Metadata, about, actions, advice, numbers, problems, reason
from zest_pipelines.store.holds import OUTSIDE_WINDOW

LEAST_INTERVAL = timedelta(minutes=10)
"""Of readings, as far as their age is judged: a failed one is tried again after five minutes."""
STALE_AT_MOST = timedelta(hours=24)
"""Age of the last certified reading: above it, an error, however long the interval's multiples are."""
_NOT_NOW = {
    "connection_paused": "The connection is paused, so nothing is read until somebody resumes it.",
    OUTSIDE_WINDOW: "The partner takes no calls at this hour, so nothing is read until it opens.",
}


def snapshot_certified(asset: AssetKey, tenant: str, report: LandReport) -> AssetCheckEvaluation:
    """Whether the reading may be relied on."""
    whose = about(asset, tenant)
    failed_as, words = _verdict(report, whose)
    metadata = numbers(report) | (reason(report.reason, report.params, whose) if report.reason else {})
    return evaluation(asset, tenant, CheckName.SNAPSHOT_CERTIFIED, failed_as, words, metadata)


def _verdict(report: LandReport, whose: About) -> tuple[AssetCheckSeverity | None, str]:
    """How severely the certificate fails, and the words. One that was put off leaves the verdict as it was."""
    if report.is_certified:
        if report.is_full:
            return None, f"{counted(report.records, 'record')}, all accounted for."
        changed = counted(report.records, "changed record")
        return None, f"{changed}, all accounted for. Who is missing shows in the next full reading."
    code = report.reason or "unknown"
    words = " ".join(sentences(code, report.params, reference(*whose)))
    if not is_put_off(code):
        came = f" {counted(report.records, 'record')} came, on {counted(report.pages, 'page')}."
        return severity(code), words + (came if report.records else "")
    if report.last is None:
        return AssetCheckSeverity.WARN, f"{words} Nothing has been read before."
    failed_as, before = _verdict(report.last, whose)
    return failed_as, f"{words} The reading before: {before}"


def shape_known(asset: AssetKey, tenant: str, report: LandReport) -> AssetCheckEvaluation:
    """Whether what came is of the form that our mapping knows, and all that landed can be mapped."""
    name, whose = CheckName.SHAPE_KNOWN, about(asset, tenant)
    metadata: Metadata = {
        "new_versions": MetadataValue.int(report.new_versions),
        "unmappable": MetadataValue.int(report.unmappable),
        "unknown_fields": MetadataValue.int(len(report.unknown_fields)),
    }
    if not report.unmappable and not report.unknown_fields:
        form = "without a field that was not told before" if report.told_fields else "all of a form that we know"
        came = counted(report.new_versions, "new or changed record")
        words = f"{came}, {form}, and no other record that cannot be taken."
        if report.told_fields:
            words += f" Told before: {', '.join(report.told_fields)}."
        return evaluation(asset, tenant, name, None, words, metadata)
    unknown = [f"{field} ({counted(count, 'record')})" for field, count in sorted(report.unknown_fields.items())]
    reasons = [f"{code} ({count})" for code, count in sorted(report.unmappable_for.items())]
    words = " ".join(
        [
            *([f"Fields that we do not know: {', '.join(unknown)}."] if unknown else []),
            *([f"{counted(report.unmappable, 'record')} cannot be taken: {', '.join(reasons)}."] if reasons else []),
            f"Records: {named(report.problems)}.",
            actions(report.problems, whose),
        ]
    )
    told = metadata | problems(report.problems, whose)
    return evaluation(asset, tenant, name, AssetCheckSeverity.WARN, words, told)


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
    last = f"The last reading to be relied on began {spoken(age)} ago"
    if not freshness.was_read:
        last = f"There was no reading to be relied on since it was connected or changed, {spoken(age)} ago"
    words = f"{last}; one is due every {spoken(every)}."
    if freshness.not_now is not None:
        words = f"{_NOT_NOW[freshness.not_now]} {last}."
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


def plan_agrees(asset: AssetKey, tenant: str, report: PlanReport) -> AssetCheckEvaluation:
    """Whether what others have planned is what is confirmed here."""
    whose = about(asset, tenant)
    name, metadata = CheckName.PLAN_AGREES, numbers(report) | problems(report.problems, whose)
    compared = (
        f"{counted(report.plans, 'plan')} from this month on, {counted(report.agreeing, 'service')} as confirmed."
    )
    if report.no_visits:
        compared += (
            f" {counted(report.no_visits, 'line')} without a time that no visit stands for, such as additions (加算)."
        )
    if report.unsure:
        compared += f" {counted(report.unsure, 'visit')} may stand in lines that could not be taken (shape_known)."
    if report.agrees:
        return evaluation(asset, tenant, name, None, compared, metadata)
    told = (
        ("confirmed otherwise", report.differing),
        ("planned and not confirmed", report.missing_here),
        ("confirmed and not planned", report.missing_there),
        ("of clients who are not linked", report.unlinked),
    )
    found = ", ".join(f"{count} {what}" for what, count in told if count)
    total = report.differing + report.missing_here + report.missing_there + report.unlinked
    words = f"{compared} {found}: {named(report.problems, total)}. {advice(report.problems, whose)}"
    return evaluation(asset, tenant, name, AssetCheckSeverity.WARN, words, metadata)


def certificate_lasts(asset: AssetKey, tenant: str, until: datetime | None, now: datetime) -> AssetCheckEvaluation:
    """Whether there is time to get another certificate. `until` None: there is none."""
    name = CheckName.CERTIFICATE_LASTS
    if until is None:
        return evaluation(asset, tenant, name, None, "The connection shows no client certificate.", {})
    left = until - now
    words = f"The client certificate is valid until {until.astimezone(JAPAN):%Y-%m-%d %H:%M} JST."
    metadata: Metadata = {"days_left": MetadataValue.float(round(left / timedelta(days=1), 1))}
    if left > WARNED_BEFORE:
        return evaluation(asset, tenant, name, None, words, metadata)
    given = f"zest connect {tenant} {asset.path[0]} ... --secret-file FILE"
    words += f" Have the partner issue another one and give it: {given}."
    failed_as = AssetCheckSeverity.WARN if left > timedelta(0) else AssetCheckSeverity.ERROR
    return evaluation(asset, tenant, name, failed_as, words, metadata)


def no_mass_change(asset: AssetKey, tenant: str, report: ApplyReport) -> AssetCheckEvaluation:
    """Whether so little was about to change that nobody has to look at it first."""
    name, of = CheckName.NO_MASS_CHANGE, f"of {counted(report.population, 'record')} in force"
    held = [each for each in report.problems if each.reason in GUARDED]
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
    lately = {field: f", after {count} within an hour" for field, count in report.changed_lately.items()}
    what = [f"{field} would change in {n}{lately.get(field, '')}" for field, n in sorted(report.held_fields.items())]
    if report.held_deletes:
        before = f", after {report.deleted_lately} within a day" if report.deleted_lately else ""
        suspects = f", and {report.suspects} more may be gone" if report.suspects else ""
        what.insert(0, f"{report.held_deletes} would be deleted{before}{suspects}")
    words = f"Held, {of}: {', '.join(what)}. Additions and all other changes go on. "
    words += (
        f"To approve it: zest approve {tenant} {asset.path[0]} {report.entity}. {actions(held, about(asset, tenant))}"
    )
    return evaluation(
        asset, tenant, name, AssetCheckSeverity.ERROR, words, metadata | problems(held, about(asset, tenant))
    )


def nothing_rejected(asset: AssetKey, tenant: str, report: ApplyReport) -> AssetCheckEvaluation:
    """Whether every record could be taken."""
    name, count = CheckName.NOTHING_REJECTED, report.rejected_records
    rejected = [each for each in report.problems if each.outcome == "rejected"]
    metadata = {"rejected_records": MetadataValue.int(count)} | problems(rejected, about(asset, tenant))
    if count == 0:
        return evaluation(asset, tenant, name, None, "No record is rejected.", metadata)
    words = f"{counted(count, 'record')} rejected: {named(rejected, count)}. {advice(rejected, about(asset, tenant))}"
    return evaluation(asset, tenant, name, AssetCheckSeverity.ERROR, words, metadata)


def identities_settled(asset: AssetKey, tenant: str, report: ApplyReport) -> AssetCheckEvaluation:
    """Whether it is known of every record who it is."""
    name, count = CheckName.IDENTITIES_SETTLED, report.waiting
    waiting = [each for each in report.problems if each.reason in UNTOLD]
    whose = about(asset, tenant)
    metadata = {"waiting_records": MetadataValue.int(count)} | problems(waiting, whose)
    if count == 0:
        return evaluation(asset, tenant, name, None, "Of every record it is known who it is.", metadata)
    words = f"{counted(count, 'record')} waiting for a person to say who it is: {named(waiting, count)}. "
    words += f"To see and settle them: zest identities {tenant} {asset.path[0]}. {advice(waiting, whose)}"
    return evaluation(asset, tenant, name, AssetCheckSeverity.ERROR, words, metadata)


def equals_landed(asset: AssetKey, tenant: str, report: ApplyReport) -> AssetCheckEvaluation:
    """Whether what the partner has is what we have."""
    name = CheckName.EQUALS_LANDED
    words = (
        f"{report.landed_records} landed; {report.applied_records} applied, "
        f"{report.rejected_records} rejected, {report.held_records + report.held_deletes} waiting for a person."
    )
    metadata = numbers(report) | {"difference": MetadataValue.int(report.left_records)}
    if report.equals_landed:
        return evaluation(asset, tenant, name, None, words, metadata)
    words += (
        f" Left behind: {report.left_records} ({', '.join(report.left_behind)}). Materialize the changes and this "
        "asset of this tenant again, both in one run; if it stays so, tell us with the run's id."
    )
    return evaluation(asset, tenant, name, AssetCheckSeverity.ERROR, words, metadata)
