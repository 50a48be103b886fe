"""What a push has done so far: its counts, and which records have had their turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from partners.contract import Entity
from zest_pipelines.core.classification import Classification
from zest_pipelines.core.outcome import Outcome, RepairOutcome
from zest_pipelines.flows.delivery import BATCH_REFUSED, GO_ON, End
from zest_pipelines.flows.errands import Errand, Look, Repeat, Send
from zest_pipelines.flows.reports import Problem, PushReport
from zest_pipelines.store.claims import Backlog, Record
from zest_pipelines.store.results import Result

_MOST_PROBLEMS = 20
_SOON = 60.0
"""Seconds: what may go on later than that is asked for by the minute's tick, and by nobody before."""
_MOST_SENDS = 2
"""Of one record in one push: the second one follows an answer that was lost, or is of a newer edit. Who goes on editing
keeps nobody else waiting."""


@dataclass
class Tally:
    """What a push has done so far."""

    outcomes: Counter[str] = field(default_factory=Counter)
    recovered: int = 0
    repaired: int = 0
    late: int = 0
    batches: int = 0
    calls: int = 0
    problems: list[Problem] = field(default_factory=list)
    sends: Counter[Record] = field(default_factory=Counter)
    done: set[Record] = field(default_factory=set)
    """Records that have had their turn in this push."""
    blocked: set[Entity] = field(default_factory=set)
    """Kinds of record that the partner takes none of for now."""
    stopped: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    goes_on_in: float | None = None
    """Seconds from the end of the push to when what is left may go on, if that is too soon for the minute's tick."""
    classified: Classification = field(default_factory=Classification)
    """What unknown errors are told as."""
    is_held: bool = False
    """Whether that has opened the breaker, or it was open."""

    def stop(self, reason: str, params: Mapping[str, str] | None = None, *, goes_on_in: float | None = None) -> None:
        """Note why the push ends before everything due was tried, and in how many seconds it may go on, if known."""
        self.stopped, self.params = reason, params or {}
        self.goes_on_in = goes_on_in if goes_on_in is not None and goes_on_in < _SOON else None

    def add(self, errand: Errand | None, end: End) -> None:
        """Count an end that is stored, and note whether the record has had its turn. None: it took no call."""
        record, is_unknown = end.key.record, end.outcome in (Outcome.UNKNOWN, RepairOutcome.UNKNOWN)
        if isinstance(errand, Send) and end.reason != BATCH_REFUSED:
            self.sends[record] += 1
        if isinstance(end, Result):
            self.outcomes[end.outcome] += 1
            self.recovered += isinstance(errand, Repeat | Look) and errand.doubt is not None and not is_unknown
        else:
            self.repaired += end.outcome is RepairOutcome.REPAIRED
        if self.sends[record] >= _MOST_SENDS or not (end.outcome.is_terminal or self._goes_on(errand, end, is_unknown)):
            self.done.add(record)
        if end.reason is not None and len(self.problems) < _MOST_PROBLEMS:
            told = self.classified.told(end.reason, end.params).code
            self.problems.append(Problem(end.key.entity, str(end.key.record_id), end.outcome, told, end.params))

    def _goes_on(self, errand: Errand | None, end: End, is_unknown: bool) -> bool:
        """Whether an open record has another turn in this push."""
        if isinstance(errand, Repeat | Look):
            return isinstance(end, Result) and not is_unknown and end.not_before is None
        return isinstance(errand, Send) and (is_unknown or end.reason in GO_ON)

    def report(self, backlog: Backlog, seconds: float) -> PushReport:
        """All of it, beside what is left."""
        count = self.outcomes
        return PushReport(
            delivered=count[Outcome.DELIVERED],
            delivered_with_warning=count[Outcome.DELIVERED_WITH_WARNING],
            superseded=count[Outcome.SUPERSEDED],
            not_needed=count[Outcome.NOT_NEEDED],
            abandoned=count[Outcome.ABANDONED],
            retry=count[Outcome.RETRY],
            unknown=count[Outcome.UNKNOWN],
            conflict=count[Outcome.CONFLICT],
            parked=count[Outcome.PARKED],
            recovered=self.recovered,
            repaired=self.repaired,
            late=self.late,
            batches=self.batches,
            pending=backlog.pending,
            pending_parked=backlog.parked,
            oldest_pending=backlog.oldest,
            stopped=self.stopped,
            params=self.params,
            is_held=self.is_held,
            blocked=frozenset(self.blocked),
            problems=tuple(self.problems),
            calls=self.calls,
            seconds=seconds,
        )
