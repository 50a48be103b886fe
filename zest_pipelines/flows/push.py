"""push: send what a connection's partner has to receive, in a time box, under a lease.

The lease keeps two pushes of one connection apart, and the time box keeps a run short: whatever is left is due again
at the next tick, and is found from the tables alone. A push is one coordinator and some lanes. The coordinator's cycle:

    hear     what the lanes have answered, and judge it
    choose   what goes next: claimed, grouped, with a slot for each call
    commit   in one transaction: the ends, the lease held, the intents of what goes next
    start    the lanes on it, and lay out what they take next

No transaction is open while a call is. The first call of a push goes alone: a partner that is away, or takes our
credential no more, costs one call a push, however many lanes there could be.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from typing import NamedTuple

from partners.contract import Absent, Delivered, Entity, Found, Partner, Recovery
from partners.errors import Deferred, PartnerError
from partners.reasons import ReasonScope, all_reasons
from resources.logins import Login
from resources.vault import VaultError
from zest_pipelines.core.classification import going_on
from zest_pipelines.core.outcome import Outcome, RepairOutcome
from zest_pipelines.core.turns import Priority
from zest_pipelines.core.weeks import Days
from zest_pipelines.flows.calls import Call, kept_calls
from zest_pipelines.flows.delivery import End, Rules, end_by_word, end_of_suspicion, grouped, may_be_there, plan
from zest_pipelines.flows.errands import Errand, Heard, Send, carry_out, record_of
from zest_pipelines.flows.gate import Later, Slot
from zest_pipelines.flows.holding import RUN_OUT, Holding
from zest_pipelines.flows.lanes import Lanes
from zest_pipelines.flows.limits import outlook_of
from zest_pipelines.flows.opening import Line, Lines, connection_row, open_lines
from zest_pipelines.flows.places import place_of
from zest_pipelines.flows.reports import PushReport
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.tally import Tally
from zest_pipelines.flows.verdicts import judge, suspect
from zest_pipelines.store import claims, classifications, leases, releases, results
from zest_pipelines.store.claims import Due, Record, Suspect
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.holds import OUTSIDE_WINDOW
from zest_pipelines.store.keys import Target
from zest_pipelines.store.results import Repair, Result
from zest_pipelines.store.tenants import ConnectionRow

_log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""Longer than a call may last; held anew with every cycle."""
_CLAIM = 60
_CLAIM_SUSPECTS = 10
"""Of settled records that are to be read again: they have their turns however many others are due."""
_PATIENCE = timedelta(seconds=5)
Group = tuple[Errand, ...]
"""What goes in one call: one errand, or a batch."""


class Answer(NamedTuple):
    """What came of a group."""

    heard: Sequence[tuple[Errand, Heard]]
    calls: Sequence[Call] = ()
    """The last ones that were made for it."""


_Others = tuple[tuple[Record, ...], timedelta]
"""Records that are not claimed, and how long the call of one that others claimed may be under way."""


def push(
    services: Services, partner: Partner, tenant: str, box_seconds: float = 45.0, days: Days | None = None
) -> PushReport:
    """Push one connection for about `box_seconds` at most; of these days alone, if any are given.

    The report tells what the partner did; raises StoreError.
    """
    started = time.monotonic()
    row = connection_row(services, partner, tenant, Login.PUSH)
    target, tally = Target(tenant, partner.name), Tally()
    with _lease(services, target, tally) as epoch:
        if epoch is None:
            tally.stop("connection_paused" if row.is_paused else "push_under_way")
        else:
            _Push(services, partner, row, target, epoch, started + box_seconds, days, tally).run()
    with services.database.transaction(Login.PUSH, tenant) as tx:
        backlog = claims.backlog(tx, target)
    report = tally.report(backlog, time.monotonic() - started)
    try:
        return replace(report, outlook=outlook_of(services, partner, row, backlog))
    except Exception as error:  # noqa: BLE001  # what was done is told, whatever comes of foretelling the rest
        _log.warning("%s at %s: no outlook: %s", tenant, partner.name, place_of(error))
        return report


@contextmanager
def _lease(services: Services, target: Target, tally: Tally) -> Iterator[int | None]:
    """The epoch of the lease on the connection, or None while another push holds it. It is given back with the time, if
    `tally` tells one, at which what is left may go on.

    A block that raises was cut off, perhaps with a call under way: its lease runs out by itself, so that nobody looks
    at the partner before the call has come to its end.
    """
    holder = f"{socket.gethostname()}:{os.getpid()}"
    with services.database.transaction(Login.PUSH, target.tenant) as tx:
        epoch = leases.take(tx, target, holder, LEASE_SECONDS)
    yield epoch
    if epoch is not None:
        with services.database.transaction(Login.PUSH, target.tenant) as tx:
            leases.give_back(tx, target, epoch, tally.goes_on_in)


class _Push:
    """One push under its lease: the coordinator."""

    def __init__(
        self,
        services: Services,
        partner: Partner,
        row: ConnectionRow,
        target: Target,
        epoch: int,
        end: float,
        days: Days | None,
        tally: Tally,
    ) -> None:
        """`end`: of the time box, monotonic."""
        self._services, self._partner, self._row = services, partner, row
        self._target, self._epoch, self._end, self._days = target, epoch, end, days
        self._tally = tally
        self._holding = Holding(services, target, row.read_at, tally)
        self._priority = Priority.BACKGROUND if days is None else Priority.PEOPLE
        self._overwrites = row.on_conflict == "overwrite"
        self._most_lanes = partner.parallel
        self._batch_size = 1
        self._waiting: deque[Errand] = deque()
        """Claimed, and not started."""
        self._busy: set[Record] = set()
        """Claimed, and not stored how they ended."""
        self._ends: list[tuple[Errand | None, End]] = []
        """To be stored with the next cycle, with what they came of; None: no call."""
        self._may_be_more = True
        """Whether a claim may find what the last one did not."""
        self._keep_at = time.monotonic() + LEASE_SECONDS / 3
        """When the lease is to be held anew at the latest, monotonic."""
        self._ask_at: float | None = None
        """When the ledger is to be asked for slots again, monotonic; None: it had them."""
        self._give_up: dict[tuple[str, Priority], float] = {}
        """By endpoint and priority that there was no slot for: until when one is waited for, monotonic."""

    def run(self) -> None:
        """Carry out what persons have decided, then send what is due, unless something stands in the way."""
        if not self._begin():
            return
        try:
            with (
                open_lines(self._services, self._partner, self._row, _PATIENCE, self._priority) as lines,
                Lanes[Answer](_is_plain) as lanes,
            ):
                self._deliver(lines, lanes)
                self._tally.calls = lanes.calls
        except Deferred as error:  # there is no seat
            self._tally.stop(error.reason, error.params, goes_on_in=_PATIENCE.total_seconds())
        except PartnerError as error:
            self._holding.fail(error.reason, error.params)
        except VaultError:
            self._holding.fail("secret_unreadable", {})
        if self._holding.is_unmarked:
            self._commit([])

    def _begin(self) -> bool:
        """Whether anything may be sent."""
        with self._services.database.transaction(Login.PUSH, self._target.tenant) as tx:
            self._carry_out(tx)
            self._tally.classified = classifications.of_partner(tx, self._partner.name)
            standing = self._holding.begin(tx)
            if self._row.is_paused:
                self._tally.stop("connection_paused")
            elif standing is not None and standing.reason != OUTSIDE_WINDOW:
                self._tally.stop(standing.reason, standing.params)
                self._tally.is_held = standing.failures > 0
            elif not self._is_closed():
                self._release(tx)
            self._holding.mark(tx)
        return self._tally.stopped is None

    def _carry_out(self, tx: Transaction) -> None:
        """End what persons have given up, or found at the partner."""
        ends = [end_by_word(each) for each in releases.decided(tx, self._target)]
        late = results.add_results(tx, self._target, ends)
        results.supersede_older(tx, self._target, [end.key for end in ends if end.outcome.is_terminal])
        self._tally.outcomes.update(end.outcome for end in ends if end not in late)
        right = [end_of_suspicion(each) for each in releases.found_right(tx, self._target)]
        results.add_repairs(tx, self._target, right)

    def _release(self, tx: Transaction) -> None:
        """Make due what a person wants tried again, and what may have been cured since it was parked."""
        again = releases.asked_again(tx, self._target)
        mapping = self._partner.mapping_version
        curable = releases.curable(tx, self._target, mapping, _codes(ReasonScope.ENTITY))
        leases.note_mapping(tx, self._target, self._epoch, mapping)
        explained = releases.explained(tx, self._target, going_on())
        released = [Result(key, Outcome.RELEASED, "asked_again") for key in again]
        released += [Result(key, Outcome.RELEASED, "connection_changed") for key in curable if key not in again]
        others = [key for key in explained if key not in again and key not in curable]
        released += [Result(key, Outcome.RELEASED, "error_explained") for key in others]
        results.add_results(tx, self._target, released)
        looked_for = releases.suspects_asked_again(tx, self._target)
        suspects = [key for key in releases.suspects_explained(tx, self._target, going_on()) if key not in looked_for]
        in_question = [Repair(key, RepairOutcome.SUSPECTED, "asked_again") for key in looked_for]
        in_question += [Repair(key, RepairOutcome.SUSPECTED, "error_explained") for key in suspects]
        results.add_repairs(tx, self._target, in_question)

    # --- The cycle ----------------------------------------------------------------------------------------------------

    def _deliver(self, lines: Lines, lanes: Lanes[Answer]) -> None:
        """Send and store until nothing is left, or until the time box or something else has stopped it."""
        answers: list[Answer] = []
        while True:
            self._hear(answers)
            if self._tally.stopped not in (None, *RUN_OUT):
                lanes.shut()
            lanes.go_on()
            going = self._choose(lines, lanes)
            if going or self._ends or time.monotonic() >= self._keep_at:
                last_moment = time.monotonic() + LEASE_SECONDS - self._services.http.total_seconds
                if self._commit([errand for group, _ in going for errand in group]):
                    for group, slot in going:
                        lanes.start(partial(_call, group, slot, last_moment))
                        self._tally.batches += len(group) > 1
            elif not (lanes.busy or self._ask_at):
                return
            answers = self._wait(lanes)

    def _wait(self, lanes: Lanes[Answer]) -> list[Answer]:
        """What the lanes have answered; nothing if a slot can be asked for, or the lease is to be kept, before that."""
        until = self._keep_at if self._ask_at is None else min(self._ask_at, self._keep_at)
        seconds = max(0.0, until - time.monotonic())
        if lanes.busy:
            return lanes.wait(seconds)
        if self._ask_at is not None:
            self._services.sleep(seconds)
        return []

    # --- Hear ---------------------------------------------------------------------------------------------------------

    def _hear(self, answers: Sequence[Answer]) -> None:
        """Judge what the lanes have heard, call by call."""
        rules = self._rules()
        for answer in answers:
            verdicts = [judge(rules, errand, heard) for errand, heard in answer.heard]
            for (errand, _), verdict in zip(answer.heard, verdicts, strict=True):
                self._ends += [(errand, self._with_calls(end, answer)) for end in verdict.ends]
                if verdict.then is not None:
                    self._waiting.appendleft(verdict.then)
                if verdict.blocks is not None:
                    self._tally.blocked.add(verdict.blocks)
                    self._waiting = deque(each for each in self._waiting if each.command.entity is not verdict.blocks)
            self._holding.heed(verdicts)

    def _with_calls(self, end: End, answer: Answer) -> End:
        """The end with what was asked and answered, if there is anything to explain about it."""
        if not isinstance(end, Result) or end.reason is None or not answer.calls:
            return end
        is_of_one = len(answer.heard) == 1
        kept = kept_calls(answer.calls, self._partner, self._target.tenant, is_of_one=is_of_one)
        return replace(end, calls=kept)

    def _is_closed(self) -> bool:
        """Whether the partner takes no calls now; then the push stops, and is not begun before it does again."""
        until = self._partner.closed_until(self._row.closed, self._services.now())
        if until is None:
            return False
        self._tally.stop(OUTSIDE_WINDOW)
        self._holding.close(until)
        return True

    # --- Choose -------------------------------------------------------------------------------------------------------

    def _choose(self, lines: Lines, lanes: Lanes[Answer]) -> list[tuple[Group, Slot]]:
        """What goes next, each with a slot and a lane for it."""
        if self._ask_at is not None and self._tally.stopped is None and time.monotonic() < self._ask_at:
            return []
        self._ask_at = None
        room = self._most(lines) - lanes.busy
        if self._tally.stopped is not None or room < 1:
            return []
        self._fill(room * self._batch_size, is_idle=not (lanes.busy or self._ends))
        if not self._waiting or self._is_over():
            return []
        self._open(lines, lanes)
        return self._slotted(lines, grouped(self._waiting, self._batch_size, self._most(lines) - lanes.busy))

    def _most(self, lines: Lines) -> int:
        """How many calls may be under way, or laid out for the lanes that are free next.

        None is laid out where a slot would run out meanwhile, or where a call that is cut off is a person's to look up.
        """
        if not self._holding.is_proven:
            return 1
        is_cheap = self._partner.capability.recovery is not Recovery.NONE
        return self._most_lanes + (self._most_lanes // 2 if is_cheap and not lines.ledger.is_limited else 0)

    def _fill(self, wanted: int, *, is_idle: bool) -> None:
        """See to it that so many errands wait, if there is something to claim; idle, it looks for that anew."""
        is_empty = is_idle and not self._waiting
        if not is_empty and (not self._may_be_more or len(self._waiting) >= wanted):
            return
        entities = [entity for entity in self._partner.writes if entity not in self._tally.blocked]
        rules = self._rules()
        others = (tuple(self._busy | self._tally.done), self._services.under_way)
        with self._services.database.transaction(Login.PUSH, self._target.tenant) as tx:
            if is_empty:
                claims.recheck(tx, self._target)
            found = self._probe(tx, entities, others) or self._claimed(tx, entities, others)
            doubtful = [subject.key.record for subject in found if may_be_there(rules, subject)]
            unsure = claims.unsure(tx, self._target, doubtful)
        for subject in found:
            step = plan(rules, subject, subject.key.record in unsure)
            self._busy.add(subject.key.record)
            if isinstance(step, tuple):
                self._ends += [(None, end) for end in step]
            else:
                self._waiting.append(step)

    def _probe(self, tx: Transaction, entities: Sequence[Entity], others: _Others) -> tuple[Due, ...]:
        """After a fault, the record by which it is seen whether it is over: of those that nobody has tried the newest.

        Those that were tried may be to blame themselves, and so may the oldest of the others, which were next to them.
        """
        if not self._holding.is_in_question:
            return ()
        found = claims.due(tx, self._target, entities, 1, *others, self._days, newest_untried=True)
        self._may_be_more = self._may_be_more or bool(found)
        return found

    def _claimed(self, tx: Transaction, entities: Sequence[Entity], others: _Others) -> tuple[Due | Suspect, ...]:
        is_for_all = self._days is None
        suspects = claims.suspects(tx, self._target, entities, _CLAIM_SUSPECTS, *others) if is_for_all else ()
        due = claims.due(tx, self._target, entities, _CLAIM, *others, self._days)
        self._may_be_more = len(due) == _CLAIM or len(suspects) == _CLAIM_SUSPECTS
        return (*suspects, *due)

    def _is_over(self) -> bool:
        """Whether nothing more is begun, though there is something."""
        if time.monotonic() >= self._end:
            self._tally.stop("time_box_ended", goes_on_in=0.0)
            return True
        return self._is_closed()

    def _open(self, lines: Lines, lanes: Lanes[Answer]) -> None:
        """Open lanes as they are needed and seats are free."""
        if not lanes.count:
            line = lines.open(_PATIENCE)
            self._batch_size = line.connector.batch_size
            lanes.add(line)
        wanted = lanes.busy + len(self._waiting) if self._holding.is_proven else 1
        while lanes.count < min(wanted, self._most_lanes):
            try:
                lanes.add(lines.open(timedelta(0)))
            except Deferred:
                self._most_lanes = lanes.count

    def _slotted(self, lines: Lines, groups: Sequence[Group]) -> list[tuple[Group, Slot]]:
        """The groups that the ledger has slots for; the others wait on."""
        kinds = [(self._partner.writes[group[0].command.entity], self._priority_of(group)) for group in groups]
        slots = {kind: deque(self._slots(lines, *kind, calls)) for kind, calls in Counter(kinds).items()}
        going: list[tuple[Group, Slot]] = []
        left: list[Errand] = []
        for group, kind in zip(groups, kinds, strict=True):
            if slots[kind]:
                going.append((group, slots[kind].popleft()))
            else:
                left += group
        self._waiting.extendleft(reversed(left))
        return going

    def _priority_of(self, group: Group) -> Priority:
        """People's, if a person waits for one of them: no push of many comes before others by the one asked for."""
        is_asked_for = any(isinstance(each.subject, Due) and each.subject.is_asked_for for each in group)
        return Priority.PEOPLE if is_asked_for else self._priority

    def _slots(self, lines: Lines, endpoint: str, priority: Priority, calls: int) -> tuple[Slot, ...]:
        """Up to so many slots. None for now: it says when to ask again, and stops if that is beyond our patience."""
        now = time.monotonic()
        within_box = min(lines.patience.total_seconds(), max(_PATIENCE.total_seconds(), self._end - now))
        give_up = self._give_up.setdefault((endpoint, priority), now + within_box)
        patience = timedelta(seconds=max(0.0, give_up - time.monotonic()))
        answer = lines.ledger.take(endpoint, calls, priority, patience)
        if not isinstance(answer, Later):
            self._give_up.pop((endpoint, priority), None)
            if len(answer) < calls:
                self._ask_at = now  # the ledger says when there are more; the calls under way may take longer than that
            return answer
        ask_at = time.monotonic() + max(answer.seconds, 0.001)
        if ask_at > give_up:
            self._tally.stop("budget_deferred", goes_on_in=answer.seconds)
        elif self._ask_at is None or ask_at < self._ask_at:
            self._ask_at = ask_at
        return ()

    # --- Commit -------------------------------------------------------------------------------------------------------

    def _commit(self, going: Sequence[Errand]) -> bool:
        """Store how errands ended, and what is about to go. Whether it may."""
        ends, self._ends = self._ends, []
        with self._services.database.transaction(Login.PUSH, self._target.tenant) as tx:
            kept = leases.keep(tx, self._target, self._epoch, LEASE_SECONDS)
            late = self._store(tx, [end for _, end in ends])
            if kept is not None:  # else another push speaks for the connection
                self._holding.mark(tx)
            may_go = kept is not None and not kept.is_paused
            if may_go:
                intents = [errand.intent for errand in going if isinstance(errand, Send)]
                results.add_intents(tx, self._target, self._epoch, intents)
        self._keep_at = time.monotonic() + LEASE_SECONDS / 3
        self._count(ends, late)
        self._busy.update(map(record_of, going))
        if kept is not None:
            self._overwrites = kept.on_conflict == "overwrite"
        if going and not may_go:
            self._tally.stop("push_under_way" if kept is None else "connection_paused")
        return may_go

    def _store(self, tx: Transaction, ends: Sequence[End]) -> Sequence[Result]:
        """Append the ends; those of them that came too late."""
        given = [end for end in ends if isinstance(end, Result)]
        late = results.add_results(tx, self._target, given)
        settled = [end.key for end in given if end.outcome.is_terminal and not _is_among(end, late)]
        results.supersede_older(tx, self._target, settled)
        suspicions = [suspicion for end in late if (suspicion := suspect(self._rules(), end)) is not None]
        results.add_repairs(tx, self._target, [*(end for end in ends if isinstance(end, Repair)), *suspicions])
        return late

    def _count(self, ends: Sequence[tuple[Errand | None, End]], late: Sequence[Result]) -> None:
        """Take the stored ends into the tally, and their records off the busy ones."""
        for errand, end in ends:
            if _is_among(end, late):
                self._tally.late += 1
                self._tally.done.add(end.key.record)
            else:
                self._tally.add(errand, end)
            is_left = not end.outcome.is_terminal and end.key.record not in self._tally.done
            self._may_be_more = self._may_be_more or is_left
            self._busy.discard(end.key.record)
        self._busy.update(map(record_of, self._waiting))  # what follows an end goes on under the same record

    def _rules(self) -> Rules:
        return Rules(
            self._partner.capability,
            self._overwrites,
            self._services.now(),
            self._services.under_way,
            self._services.random,
            self._tally.classified,
        )


def _call(group: Group, slot: Slot, last_moment: float, line: Line) -> Answer:
    """A lane's job."""
    line.gate.hand(slot)
    line.calls.begin()
    return Answer(carry_out(line, group, last_moment), line.calls.taken())


def _is_plain(answer: Answer) -> bool:
    """Whether it says nothing about what other records may do."""
    return all(isinstance(heard, Delivered | Found | Absent) for _, heard in answer.heard)


def _is_among(end: End, some: Sequence[End]) -> bool:
    return any(end is each for each in some)


@cache
def _codes(scope: ReasonScope) -> tuple[str, ...]:
    """The reasons that concern so much."""
    return tuple(each.code for each in all_reasons() if each.scope is scope)
