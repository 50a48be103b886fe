"""What the reports on a week come to in Dagster's terms. Pure.

A run of a week is red when a person has to act, and only then: what waits and goes by itself later is a warning
on a green run, because the request stays and the minute schedule ends what the run began.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

from partners.reasons import sentences
from zest_pipelines.core.outcome import Outcome
from zest_pipelines.core.reference import About, reference
from zest_pipelines.flows.reports import Mismatch, PeriodCounts, PeriodReport, Problem, ReconcileReport
from zest_pipelines.orchestration import checks, metadata
from zest_pipelines.orchestration.checks import CheckName
from zest_pipelines.orchestration.failures import Fault, fault_for, is_retried
from zest_pipelines.orchestration.findings import Finding, Worth

_A_PERSONS = frozenset({Outcome.CONFLICT.value, Outcome.PARKED.value})
"""Outcomes of a record that a person has to release."""
_GO_BY_THEMSELVES = "Nothing to do: they go by themselves, each as soon as what it waits for is there."
_NOT_REQUESTED = "not_requested_yet"
_ASK_ANEW = ("Some of it was edited after this run had asked for it.", "Launch it again once the plan is settled.")
"""What the catalogue says of `_NOT_REQUESTED` to who has the product's button, for who has this one."""
_READ_ANEW = "Launch it again later: nobody else does, and each run takes the records in another order."
_LOOK = "Look at each of them at the partner."
_CORRECT = (
    "What differs: correct it there, and launch this again. Or let ours win: change the record in ZEST SCHEDULE and "
    "save it, launch its week again (the change is held, because the partner's copy is another one), and launch the "
    "job {partner}_release, which overwrites that copy."
)
_RESTORE = (
    "What is missing: no edit makes it anew. Have it restored there, and launch this again. Or cancel the visit in "
    "ZEST SCHEDULE, delete its record, enter both as a new visit, and launch its week again."
)
_MISMATCH_SCHEMA = TableSchema(columns=[TableColumn(name) for name in ("entity", "record", "what differs")])


def pushing_week(asset: AssetKey, key: str, report: PeriodReport) -> Finding:
    """A push of a week is always worth showing, unless it was stopped by what only a person can set right."""
    fault = _fault(report.stopped, report.params, metadata.about(asset, key))
    return Finding(
        asset,
        Worth.NEWS if fault is None else Worth.NOTHING,
        of_period(report, metadata.about(asset, key)),
        (week_settled(asset, key, report),),
        fault,
    )


def reconciling_week(asset: AssetKey, key: str, report: ReconcileReport) -> Finding:
    """A comparison is always worth showing, unless it was stopped by what only a person can set right."""
    fault = _fault(report.stopped, report.params, metadata.about(asset, key))
    return Finding(
        asset,
        Worth.NEWS if fault is None else Worth.NOTHING,
        of_reconciling(report, metadata.about(asset, key)),
        (equals_read_back(asset, key, report),),
        fault,
    )


def week_settled(asset: AssetKey, key: str, report: PeriodReport) -> AssetCheckEvaluation:
    """Whether the partner has everything of the week. An error if a person has to act, else a warning."""
    whose = metadata.about(asset, key)
    failed_as, words = settled(report, whose)
    return checks.evaluation(asset, key, CheckName.WEEK_SETTLED, failed_as, words, of_period(report, whose))


def settled(report: PeriodReport, whose: About) -> tuple[AssetCheckSeverity | None, str]:
    """None if the partner has everything of the period, else a warning or an error; and how it stands, in words."""
    total, waiting, refused = (
        sum(getattr(each, count) for each in (report.visits, report.visit_records))
        for count in ("total", "waiting", "refused")
    )
    if report.is_settled:
        has = "the only record" if total == 1 else f"all {total} records"
        return None, f"The partner has {has}." if total else "There is nothing of these days to send."
    reasons = [each.reason for each in report.problems] + ([report.stopped] if report.stopped else [])
    needs_person = refused > 0 or not all(map(is_retried, reasons))
    words = [*_standing(total, [(waiting, "is waiting", "are waiting"), (refused, "is refused", "are refused")])]
    severity = AssetCheckSeverity.ERROR if needs_person else AssetCheckSeverity.WARN
    return severity, " ".join([*words, _what_to_do(report, whose)])


def equals_read_back(asset: AssetKey, key: str, report: ReconcileReport) -> AssetCheckEvaluation:
    """Whether the partner shows what was pushed. An error if it shows otherwise; a warning if it could not be asked, or
    has not got all of it yet."""
    failed_as: AssetCheckSeverity | None = None
    whose = metadata.about(asset, key)
    words = [_compared(report)]
    if report.open:
        failed_as = AssetCheckSeverity.WARN
        words.append(
            f"Left out: {report.open}, of which the partner has not got the newest version yet. Launch it again once "
            "the week is settled."
        )
    if report.stopped is not None:
        failed_as = checks.severity(report.stopped)
        words.append(f"Not all could be compared: {' '.join(_why_stopped(report.stopped, report.params, whose))}")
    if report.mismatches:
        failed_as = AssetCheckSeverity.ERROR
        words.append(_of_mismatches(asset, report, whose))
    told = of_reconciling(report, whose)
    return checks.evaluation(asset, key, CheckName.EQUALS_READ_BACK, failed_as, " ".join(words), told)


def of_period(report: PeriodReport, whose: About) -> metadata.Metadata:
    """Counts under names of their own, which the UI plots, the same as a table, and what did not get through."""
    told: metadata.Metadata = {"summary": MetadataValue.md(_table(report, whose))}
    for kind, counts in (("visits", report.visits), ("visit_records", report.visit_records)):
        told |= {f"{kind}_{each.name}": MetadataValue.int(getattr(counts, each.name)) for each in fields(counts)}
    told |= {"seconds": MetadataValue.float(round(report.seconds, 3)), "days": MetadataValue.text(str(report.days))}
    told |= metadata.reason(report.stopped, report.params, whose) if report.stopped else {}
    return told | metadata.problems(report.problems, whose)


def of_reconciling(report: ReconcileReport, whose: About) -> metadata.Metadata:
    """Counts, and the records that the partner shows otherwise: opaque ids and names of fields."""
    counts = ("compared", "equal", "missing", "differing", "open")
    told: metadata.Metadata = {name: MetadataValue.int(getattr(report, name)) for name in counts}
    told |= {"seconds": MetadataValue.float(round(report.seconds, 3)), "days": MetadataValue.text(str(report.days))}
    if report.stopped is not None:
        told |= metadata.reason(report.stopped, report.params, whose)
        told["next_action"] = MetadataValue.text(_why_stopped(report.stopped, report.params, whose)[1])
    if report.mismatches:
        rows = [
            TableRecord({"entity": str(each.entity), "record": each.record, "what differs": _difference(each, whose)})
            for each in report.mismatches
        ]
        told["mismatches"] = MetadataValue.table(rows, schema=_MISMATCH_SCHEMA)
    return told


def _fault(stopped: str | None, params: Mapping[str, str], whose: About) -> Fault | None:
    """What fails the run: a stop that lasts until a person has acted."""
    return None if stopped is None or is_retried(stopped) else fault_for(stopped, params, *whose)


def _standing(total: int, counts: Iterable[tuple[int, str, str]]) -> Iterable[str]:
    """One sentence on how many of `total` records are what; none if all counts (number, of one, of several) are 0."""
    told = [(number, one if number == 1 else several) for number, one, several in counts if number]
    if told and total == 1:
        yield f"The only record {told[0][1]}."
    elif told:
        yield f"Of {total} records, {' and '.join(f'{number} {what}' for number, what in told)}."


def _compared(report: ReconcileReport) -> str:
    """What was read back, in one sentence."""
    if report.compared == 0:
        return "No record was read back."
    if report.equal == report.compared:
        one, all_ = "The only record read back is as pushed.", f"All {report.compared} records read back are as pushed."
        return one if report.compared == 1 else all_
    counts = [(report.missing, "is missing there", "are missing there"), (report.differing, "differs", "differ")]
    return " ".join(_standing(report.compared, counts))


def _why_stopped(code: str, params: Mapping[str, str], whose: About) -> tuple[str, str]:
    """Why a comparison ended early, and what to do. The catalogue's "we try again" is about pushes and readings."""
    message, action = sentences(code, params, reference(*whose))
    return message, _READ_ANEW if is_retried(code) else action


def _what_to_do(report: PeriodReport, whose: About) -> str:
    """In words, once each: what stops the connection, and what the records wait for."""
    told = [sentences(report.stopped, report.params, reference(*whose))] if report.stopped else []
    told += [_sentences(each, whose) for each in report.problems]
    return " ".join(dict.fromkeys(map(" ".join, told))) or _GO_BY_THEMSELVES


def _table(report: PeriodReport, whose: About) -> str:
    rows = ["| | visits | visit records | next action |", "| --- | ---: | ---: | --- |"]
    for name in (each.name for each in fields(PeriodCounts)):
        visits, records = getattr(report.visits, name), getattr(report.visit_records, name)
        action = _next_action(name, report, whose) if visits + records else ""
        rows.append(f"| {name} | {visits} | {records} | {_cell(action)} |")
    return "\n".join(rows)


def _next_action(row: str, report: PeriodReport, whose: About) -> str:
    """What to do about the records of a row; empty for those that the partner has."""
    if row not in ("waiting", "refused"):
        return ""
    found = [each for each in report.problems if (each.outcome in _A_PERSONS) is (row == "refused")]
    stops = sentences(report.stopped, report.params, reference(*whose))[1] if report.stopped else ""
    told = dict.fromkeys(action for action in (stops, *(_sentences(each, whose)[1] for each in found)) if action)
    return " ".join(told) or (checks.WHERE if row == "refused" else _GO_BY_THEMSELVES)


def _sentences(problem: Problem, whose: About) -> tuple[str, str]:
    """What happened and what to do."""
    if problem.reason == _NOT_REQUESTED:
        return _ASK_ANEW
    return sentences(problem.reason, problem.params, reference(*whose))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _of_mismatches(asset: AssetKey, report: ReconcileReport, whose: About) -> str:
    """Which records, how they differ, and what to do."""
    named = "; ".join(f"{each.entity} {each.record}: {_difference(each, whose)}" for each in report.mismatches)
    more = report.missing + report.differing - len(report.mismatches)
    advice = [_LOOK]
    if any(each.fields for each in report.mismatches):
        advice.append(_CORRECT.format(partner=asset.path[0]))
    if report.missing:
        advice.append(_RESTORE)
    return f"{named}{f'; and {more} more' if more else ''}. {' '.join(advice)}"


def _difference(mismatch: Mismatch, whose: About) -> str:
    if mismatch.reason is not None:
        return " ".join(sentences(mismatch.reason, mismatch.params, reference(*whose)))
    return ", ".join(mismatch.fields) or "the partner does not have it"
