"""What the stations' reports say, as metadata: numbers that the UI plots, opaque ids, and reasons in words.

Pure. Nothing else is added to what a report holds, so what is free of people's data there is free of it here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from dagster import AssetKey, MetadataValue, TableColumn, TableRecord, TableSchema

from partners.reasons import sentences
from zest_pipelines.core.reference import About, reference
from zest_pipelines.core.usage import plot
from zest_pipelines.flows.limits import Outlook
from zest_pipelines.flows.reports import (
    AccumulateReport,
    ApplyReport,
    DiffReport,
    LandReport,
    PlanReport,
    Problem,
    PushReport,
)

Metadata = dict[str, MetadataValue[Any]]
Report = LandReport | PlanReport | DiffReport | ApplyReport | AccumulateReport | PushReport

_COLUMNS = ("entity", "record", "reason", "message", "next_action")
_SCHEMA = TableSchema(columns=[TableColumn(name) for name in _COLUMNS])


def about(asset: AssetKey, key: str) -> About:
    """Whose it is; `key`: the partition's, a tenant or a tenant's week."""
    return key.partition("|")[0], asset.path[0]


def of_landing(report: LandReport, whose: About) -> Metadata:
    """Counts, the snapshot's id and state, and why it is not certified."""
    told = numbers(report) | {
        "unknown_fields": MetadataValue.int(len(report.unknown_fields)),
        "snapshot": MetadataValue.text(report.snapshot),
        "state": MetadataValue.text(report.state),
        "is_full": MetadataValue.bool(report.is_full),
    }
    told |= reason(report.reason, report.params, whose) if report.reason else {}
    return told | problems(report.problems, whose)


def of_applying(report: ApplyReport, whose: About) -> Metadata:
    """Counts, how all records stand, and those that wait or were rejected."""
    return numbers(report) | {"standing": _standing(report, whose)} | problems(report.problems, whose)


def _standing(report: ApplyReport, whose: About) -> MetadataValue[Any]:
    """Where all the partner's records are, line by line, with what to do about those that are not applied."""
    held = actions((each for each in report.problems if each.outcome == "held"), whose)
    rejected = actions((each for each in report.problems if each.outcome == "rejected"), whose)
    lines = [
        ("the partner has", report.landed_records, ""),
        ("of these, applied", report.applied_records, ""),
        ("rejected", report.rejected_records, rejected),
        ("waiting for a person", report.held_records, held),
        ("left behind", report.left_records, "See the check `equals_landed`."),
        ("deletes waiting for a person", report.held_deletes, held),
    ]
    shown = [*lines[:2], *(line for line in lines[2:] if line[1])]
    rows = [f"| {what} | {count} | {action} |" for what, count, action in shown]
    return MetadataValue.md("\n".join(["| records | | next action |", "|---|---:|---|", *rows]))


def of_pushing(report: PushReport, now: datetime, whose: About) -> Metadata:
    """Counts, `lag_seconds` (age of the oldest edit that has not arrived), and what stopped or failed."""
    told = numbers(report) | {"lag_seconds": MetadataValue.float(lag_seconds(report, now))}
    told |= reason(report.stopped, report.params, whose) if report.stopped else {}
    told |= {} if report.outlook is None else limits(report.outlook)
    return told | problems(report.problems, whose)


def limits(found: Outlook) -> Metadata:
    """How far each limit is spent, and when the last of what waits leaves at this rate, if that can be told."""
    head = ["| limit | used | allowed | believed | last hour | closed until | others waiting |"]
    head += ["|---|---:|---:|---:|---|---|---:|"]
    rows = [
        f"| {each.limit} | {each.used} | {each.allowed} | {each.believed:.0%} | {plot(each.last_hour)} "
        f"| {each.closed_until or ''} | {each.waiting} |"
        for each in found.limits
    ]
    told: Metadata = {"limits": MetadataValue.md("\n".join([*head, *rows]))} if rows else {}
    if found.pending and found.done_at is not None:
        told["done_at"] = MetadataValue.timestamp(found.done_at)
    return told | {"past_deadline": MetadataValue.bool(found.is_late)}


def lag_seconds(report: PushReport, now: datetime) -> float:
    """Age of the oldest edit that the partner has not got, parked ones left out; 0 if there is none."""
    if report.oldest_pending is None:
        return 0.0
    return max((now - report.oldest_pending).total_seconds(), 0.0)


def numbers(report: Report) -> Metadata:
    """Every count and duration of a report under its own name."""
    told: Metadata = {}
    for each in fields(report):
        value = getattr(report, each.name)
        if isinstance(value, float):
            told[each.name] = MetadataValue.float(round(value, 3))
        elif isinstance(value, int) and not isinstance(value, bool):
            told[each.name] = MetadataValue.int(value)
    return told


def reason(code: str, params: Mapping[str, str], whose: About) -> Metadata:
    """A reason with its sentences."""
    message, action = sentences(code, params, reference(*whose))
    return {
        "reason": MetadataValue.text(code),
        "message": MetadataValue.text(message),
        "next_action": MetadataValue.text(action),
    }


def problems(found: Sequence[Problem], whose: About) -> Metadata:
    """A table of the records that did not get through; nothing if all did."""
    if not found:
        return {}
    return {"problems": MetadataValue.table([_row(problem, whose) for problem in found], schema=_SCHEMA)}


def advice(found: Iterable[Problem], whose: About) -> str:
    """What happened and what to do, once for each different sentence."""
    return " ".join(dict.fromkeys(" ".join(sentences(each.reason, each.params, reference(*whose))) for each in found))


def actions(found: Iterable[Problem], whose: About) -> str:
    """What to do, once for each different sentence."""
    return " ".join(dict.fromkeys(sentences(each.reason, each.params, reference(*whose))[1] for each in found))


def _row(problem: Problem, whose: About) -> TableRecord:
    message, action = sentences(problem.reason, problem.params, reference(*whose, str(problem.entity), problem.record))
    # str: the event log refuses enums, even those that are strings.
    values = (str(problem.entity), problem.record, problem.reason, message, action)
    return TableRecord(dict(zip(_COLUMNS, values, strict=True)))
