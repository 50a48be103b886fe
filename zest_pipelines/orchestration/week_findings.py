"""What the reports on a week come to in Dagster's terms. Pure.

A run of a week is red when a person has to act, and only then: what waits and goes by itself later is a warning
on a green run, because the request stays and the minute schedule ends what the run began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    MetadataValue,
    TableColumn,
    TableRecord,
    TableSchema,
)

from zest_pipelines.core.outcome import Outcome
from zest_pipelines.flows.reports import Mismatch, PeriodCounts, PeriodReport, Problem, ReconcileReport
from zest_pipelines.orchestration import checks, metadata
from zest_pipelines.orchestration.checks import CheckName
from zest_pipelines.orchestration.failures import Fault, explained, fault_for, is_retried
from zest_pipelines.orchestration.findings import Finding, Worth

_A_PERSONS = frozenset({Outcome.CONFLICT.value, Outcome.PARKED.value})
"""Outcomes of a record that a person has to release."""
_GO_BY_THEMSELVES = "Nothing to do: they go by themselves, each as soon as what it waits for is there."
_WHERE = "`zest explain` says why, and what to do, for each record."
_SEND_ANEW = (
    "Look at each of them at the partner. To send ours again, save the visit once more in ZEST SCHEDULE; "
    "its badge says how to go on."
)
_MISMATCH_SCHEMA = TableSchema(columns=[TableColumn(name) for name in ("entity", "record", "what differs")])


def pushing_week(asset: AssetKey, key: str, report: PeriodReport) -> Finding:
    """A push of a week is always worth showing, unless it was stopped by what only a person can set right."""
    fault = _fault(report.stopped, report.params)
    return Finding(
        asset,
        Worth.NEWS if fault is None else Worth.NOTHING,
        of_period(report),
        (week_settled(asset, key, report),),
        fault,
    )


def reconciling_week(asset: AssetKey, key: str, report: ReconcileReport) -> Finding:
    """A comparison is always worth showing, unless it was stopped by what only a person can set right."""
    fault = _fault(report.stopped, report.params)
    return Finding(
        asset,
        Worth.NEWS if fault is None else Worth.NOTHING,
        of_reconciling(report),
        (equals_read_back(asset, key, report),),
        fault,
    )


def week_settled(asset: AssetKey, key: str, report: PeriodReport) -> AssetCheckEvaluation:
    """Whether the partner has everything of the week. An error if a person has to act, else a warning."""
    failed_as, words = settled(report)
    return checks.evaluation(asset, key, CheckName.WEEK_SETTLED, failed_as, words, of_period(report))


def settled(report: PeriodReport) -> tuple[AssetCheckSeverity | None, str]:
    """None if the partner has everything of the period, else a warning or an error; and how it stands, in words."""
    total, waiting, refused = (
        sum(getattr(each, count) for each in (report.visits, report.visit_records))
        for count in ("total", "waiting", "refused")
    )
    if report.is_settled:
        return None, f"The partner has all {total} records." if total else "There is nothing of these days to send."
    needs_person = refused > 0 or (report.stopped is not None and not is_retried(report.stopped))
    words = f"Of {total} records {waiting} are waiting and {refused} refused. {_what_to_do(report)}"
    return AssetCheckSeverity.ERROR if needs_person else AssetCheckSeverity.WARN, words


def equals_read_back(asset: AssetKey, key: str, report: ReconcileReport) -> AssetCheckEvaluation:
    """Whether the partner shows what was pushed. An error if it shows otherwise; a warning if it could not be asked."""
    name, told = CheckName.EQUALS_READ_BACK, of_reconciling(report)
    words = f"Of {report.compared} records read back, {report.equal} are equal."
    if report.open:
        words += f" Left out: {report.open} whose newest version the partner has not got yet."
    if report.is_equal:
        return checks.evaluation(asset, key, name, None, words, told)
    if report.mismatches:
        words += f" {report.missing} are missing and {report.differing} differ. {_of_mismatches(report.mismatches)}"
    if report.stopped is not None:
        words += f" Not all could be compared: {' '.join(explained(report.stopped, report.params))}"
    severity = AssetCheckSeverity.ERROR if report.mismatches else checks.severity(report.stopped or "unknown")
    return checks.evaluation(asset, key, name, severity, words, told)


def of_period(report: PeriodReport) -> metadata.Metadata:
    """Counts under names of their own, which the UI plots, the same as a table, and what did not get through."""
    told: metadata.Metadata = {"summary": MetadataValue.md(_table(report))}
    for kind, counts in (("visits", report.visits), ("visit_records", report.visit_records)):
        told |= {f"{kind}_{each.name}": MetadataValue.int(getattr(counts, each.name)) for each in fields(counts)}
    told |= {"seconds": MetadataValue.float(report.seconds), "days": MetadataValue.text(str(report.days))}
    told |= metadata.reason(report.stopped, report.params) if report.stopped else {}
    return told | metadata.problems(report.problems)


def of_reconciling(report: ReconcileReport) -> metadata.Metadata:
    """Counts, and the records that the partner shows otherwise: opaque ids and names of fields."""
    counts = ("compared", "equal", "missing", "differing", "open")
    told: metadata.Metadata = {name: MetadataValue.int(getattr(report, name)) for name in counts}
    told |= {"seconds": MetadataValue.float(report.seconds), "days": MetadataValue.text(str(report.days))}
    told |= metadata.reason(report.stopped, report.params) if report.stopped else {}
    if report.mismatches:
        rows = [
            TableRecord({"entity": str(each.entity), "record": each.record, "what differs": _difference(each)})
            for each in report.mismatches
        ]
        told["mismatches"] = MetadataValue.table(rows, schema=_MISMATCH_SCHEMA)
    return told


def _fault(stopped: str | None, params: Mapping[str, str]) -> Fault | None:
    """What fails the run: a stop that lasts until a person has acted."""
    return None if stopped is None or is_retried(stopped) else fault_for(stopped, params)


def _what_to_do(report: PeriodReport) -> str:
    """In words, once each: what stops the connection, and what the records wait for."""
    stops = " ".join(explained(report.stopped, report.params)) if report.stopped else ""
    return " ".join(part for part in (stops, metadata.advice(report.problems)) if part) or _GO_BY_THEMSELVES


def _table(report: PeriodReport) -> str:
    rows = ["| | visits | visit records | next action |", "| --- | ---: | ---: | --- |"]
    for name in (each.name for each in fields(PeriodCounts)):
        visits, records = getattr(report.visits, name), getattr(report.visit_records, name)
        action = _next_action(name, report) if visits + records else ""
        rows.append(f"| {name} | {visits} | {records} | {_cell(action)} |")
    return "\n".join(rows)


def _next_action(row: str, report: PeriodReport) -> str:
    """What to do about the records of a row; empty for those that the partner has."""
    if row not in ("waiting", "refused"):
        return ""
    found = [each for each in report.problems if (each.outcome in _A_PERSONS) is (row == "refused")]
    stops = explained(report.stopped, report.params)[1] if report.stopped else ""
    told = dict.fromkeys(action for action in (stops, *map(_action, found)) if action)
    return " ".join(told) or (_WHERE if row == "refused" else _GO_BY_THEMSELVES)


def _action(problem: Problem) -> str:
    return explained(problem.reason, problem.params)[1]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _of_mismatches(mismatches: Sequence[Mismatch]) -> str:
    """Which records, how they differ, and what to do."""
    named = "; ".join(f"{each.entity} {each.record}: {_difference(each)}" for each in mismatches)
    return f"{named}. {_SEND_ANEW}"


def _difference(mismatch: Mismatch) -> str:
    if mismatch.reason is not None:
        return " ".join(explained(mismatch.reason, {}))
    return ", ".join(mismatch.fields) or "the partner does not have it"
