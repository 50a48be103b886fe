"""drift: a field that the partner's format does not have is told once, by the first reading that meets it.

A vendor's new version sends it with every record. Told with each record that changes, it would be told every night for
ever, and nobody would look any more. The names of those that were told before stay in the report, as no problem.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from zest_pipelines.flows.reports import LandReport, Problem
from zest_pipelines.store import drift
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.landing import Reading


def told_once(tx: Transaction, reading: Reading, report: LandReport) -> LandReport:
    """The report with the unknown fields that are news alone, and the records of these."""
    before = drift.told(tx, reading)
    news = drift.note(tx, reading, report.unknown_fields.keys() - set(before))
    return replace(
        report,
        unknown_fields={name: records for name, records in report.unknown_fields.items() if name in news},
        told_fields=before,
        problems=tuple(each for each in report.problems if _is_news(each, news)),
    )


def _is_news(problem: Problem, news: Collection[str]) -> bool:
    names = problem.params.get("fields", "").split(", ")
    return problem.reason != "fields_unknown" or any(name in news for name in names)
