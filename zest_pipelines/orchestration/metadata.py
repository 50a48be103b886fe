"""What the stations' reports say, as metadata: numbers that the UI plots, opaque ids, and reasons in words.

Pure. Nothing else is added to what a report holds, so what is free of people's data there is free of it here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from dagster import MetadataValue, TableColumn, TableRecord, TableSchema

from zest_pipelines.flows.reports import (
    AccumulateReport,
    ApplyReport,
    DiffReport,
    LandReport,
    Problem,
    PushReport,
)
from zest_pipelines.orchestration.failures import explained

Metadata = dict[str, MetadataValue[Any]]
Report = LandReport | DiffReport | ApplyReport | AccumulateReport | PushReport

_COLUMNS = ("entity", "record", "reason", "message", "next_action")
_SCHEMA = TableSchema(columns=[TableColumn(name) for name in _COLUMNS])


def of_landing(report: LandReport) -> Metadata:
    """Counts, the snapshot's id and state, and why it is not certified."""
    told = numbers(report) | {
        "snapshot": MetadataValue.text(report.snapshot),
        "state": MetadataValue.text(report.state),
        "is_full": MetadataValue.bool(report.is_full),
    }
    return told | (reason(report.reason, report.params) if report.reason else {})


def of_applying(report: ApplyReport) -> Metadata:
    """Counts, and the records that wait or were rejected."""
    return numbers(report) | problems(report.problems)


def of_pushing(report: PushReport, now: datetime) -> Metadata:
    """Counts, `lag_seconds` (age of the oldest edit that has not arrived), and what stopped or failed."""
    told = numbers(report) | {"lag_seconds": MetadataValue.float(lag_seconds(report, now))}
    told |= reason(report.stopped, report.params) if report.stopped else {}
    return told | problems(report.problems)


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
            told[each.name] = MetadataValue.float(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            told[each.name] = MetadataValue.int(value)
    return told


def reason(code: str, params: Mapping[str, str]) -> Metadata:
    """A reason with its sentences."""
    message, action = explained(code, params)
    return {
        "reason": MetadataValue.text(code),
        "message": MetadataValue.text(message),
        "next_action": MetadataValue.text(action),
    }


def problems(found: Sequence[Problem]) -> Metadata:
    """A table of the records that did not get through; nothing if all did."""
    if not found:
        return {}
    return {"problems": MetadataValue.table([_row(problem) for problem in found], schema=_SCHEMA)}


def advice(found: Iterable[Problem]) -> str:
    """What happened and what to do, once for each different sentence."""
    return " ".join(dict.fromkeys(" ".join(explained(each.reason, each.params)) for each in found))


def _row(problem: Problem) -> TableRecord:
    message, action = explained(problem.reason, problem.params)
    values = (problem.entity, problem.record, problem.reason, message, action)
    return TableRecord(dict(zip(_COLUMNS, values, strict=True)))
