"""drift: a field that the partner's format does not have is told once, with the reading that meets it first.

It is noted with its page, so that a process that dies before it reports leaves it to the next one. A vendor's new
version sends it with every record. Told with each record that changes, it would be told every night for ever, and
nobody would look any more. The names of those that were told before stay in the report, as no problem.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from zest_pipelines.flows.opening import NOT_NOW
from zest_pipelines.flows.reports import LandReport, Problem
from zest_pipelines.store import drift
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.landing import Reading

NO_READING = (*NOT_NOW, "reading_under_way")
"""Reasons for which none was made."""
MOST_FIELDS = 20
"""Told at once; more of them with the next reading."""


def told_once(tx: Transaction, reading: Reading, report: LandReport) -> LandReport:
    """The report with the unknown fields that are news, and the records of these alone. One of no reading of its own
    tells none: another one may still be counting them."""
    before = drift.told(tx, reading)
    news = {} if report.reason in NO_READING else drift.tell(tx, reading, MOST_FIELDS)
    return replace(
        report,
        unknown_fields=news,
        told_fields=before,
        problems=tuple(each for each in report.problems if _is_news(each, news)),
    )


def _is_news(problem: Problem, news: Collection[str]) -> bool:
    names = problem.params.get("fields", "").split(", ")
    return problem.reason != "fields_unknown" or any(name in news for name in names)
