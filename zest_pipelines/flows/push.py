"""push: send what a connection's partner has to receive, in a time box, under a lease.

The lease keeps two pushes of one connection apart, and the time box keeps a run short: whatever is left is due again
at the next tick, and is found from the tables alone. How one record is sent is `delivery`.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from uuid import UUID

from partners.contract import Entity, Partner
from partners.errors import PartnerError
from partners.reasons import Owner, ReasonScope, all_reasons, reason
from resources.logins import Login
from resources.vault import VaultError
from zest_pipelines.core.outcome import Outcome
from zest_pipelines.core.weeks import Days
from zest_pipelines.flows.delivery import Delivery, LeaseLostError, PausedError
from zest_pipelines.flows.gate import LedgerGate
from zest_pipelines.flows.opening import connection_row, open_line
from zest_pipelines.flows.reports import Problem, PushReport
from zest_pipelines.flows.services import Services
from zest_pipelines.store import deliveries
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.deliveries import Due, Result, Target
from zest_pipelines.store.tenants import ConnectionRow

LEASE_SECONDS = 60.0
"""Longer than a call may last; held anew with every intent."""
PROBE_EVERY = timedelta(minutes=15)
"""How often a connection whose fault is the user's is tried, until somebody changes it."""
_BATCH = 50
_PATIENCE = timedelta(seconds=5)
_MOST_PROBLEMS = 20
_MOST_SENDS = 2
"""Of one record in one push: the second one follows an answer that was lost and a reading back."""
_COUNTED = (
    "delivered",
    "delivered_with_warning",
    "superseded",
    "not_needed",
    "retry",
    "unknown",
    "conflict",
    "parked",
)


@dataclass
class _Tally:
    """What a push has done so far."""

    outcomes: Counter[str] = field(default_factory=Counter)
    recovered: int = 0
    problems: list[Problem] = field(default_factory=list)
    sends: Counter[tuple[Entity, UUID]] = field(default_factory=Counter)
    done: set[tuple[Entity, UUID]] = field(default_factory=set)
    """Records that have had their turn in this push, however they stand."""
    blocked: set[Entity] = field(default_factory=set)
    """Kinds of record that the partner takes none of for now."""
    stopped: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    gate: LedgerGate | None = None
    """None: the line was not opened."""

    def stop(self, reason: str, params: Mapping[str, str] | None = None) -> None:
        """Note why the push ends before everything due was tried."""
        self.stopped, self.params = reason, params or {}

    def add(self, due: Due, result: Result) -> None:
        """Count a record's step, and note whether it was its last one in this push."""
        record, is_unknown = (due.key.entity, due.key.record_id), result.outcome is Outcome.UNKNOWN
        self.outcomes[result.outcome] += 1
        if due.doubt is None:
            self.sends[record] += 1
            has_had_its_turn = not is_unknown or self.sends[record] >= _MOST_SENDS
        else:
            self.recovered += not is_unknown
            has_had_its_turn = is_unknown or self.sends[record] >= _MOST_SENDS
        if has_had_its_turn:
            self.done.add(record)
        if result.reason is not None and len(self.problems) < _MOST_PROBLEMS:
            record_id = str(due.key.record_id)
            problem = Problem(due.key.entity, record_id, result.outcome, result.reason, result.params)
            self.problems.append(problem)


def push(
    services: Services, partner: Partner, tenant: str, box_seconds: float = 45.0, days: Days | None = None
) -> PushReport:
    """Push one connection for about `box_seconds` at most; of these days alone, if any are given.

    The report tells what the partner did; raises StoreError.
    """
    started = time.monotonic()
    row = connection_row(services, partner, tenant, Login.PUSH)
    target, tally = Target(tenant, partner.name), _Tally()
    if row.is_paused:
        tally.stop("connection_paused")
    else:
        with _lease(services, target) as epoch:
            if epoch is None:
                tally.stop("push_under_way")
            else:
                _push(services, partner, row, epoch, started + box_seconds, tally, days)
    with services.database.transaction(Login.PUSH, tenant) as tx:
        backlog = deliveries.backlog(tx, target)
    counts = {name: tally.outcomes[name] for name in _COUNTED}
    return PushReport(
        **counts,
        recovered=tally.recovered,
        pending=backlog.pending,
        pending_parked=backlog.parked,
        oldest_pending=backlog.oldest,
        stopped=tally.stopped,
        params=tally.params,
        blocked=frozenset(tally.blocked),
        problems=tuple(tally.problems),
        calls=0 if tally.gate is None else tally.gate.calls,
        seconds=time.monotonic() - started,
    )


@contextmanager
def _lease(services: Services, target: Target) -> Iterator[int | None]:
    """The epoch of the lease on the connection, or None while another push holds it.

    A block that raises was cut off, perhaps with a call under way: its lease runs out by itself, so that nobody looks
    at the partner before the call has come to its end.
    """
    holder = f"{socket.gethostname()}:{os.getpid()}"
    with services.database.transaction(Login.PUSH, target.tenant) as tx:
        epoch = deliveries.take_lease(tx, target, holder, LEASE_SECONDS)
    yield epoch
    if epoch is not None:
        with services.database.transaction(Login.PUSH, target.tenant) as tx:
            deliveries.release_lease(tx, target, epoch)


def _push(
    services: Services,
    partner: Partner,
    row: ConnectionRow,
    epoch: int,
    end: float,
    tally: _Tally,
    days: Days | None,
) -> None:
    target = Target(row.connection.tenant, row.connection.partner)
    with services.database.transaction(Login.PUSH, target.tenant) as tx:
        _release(tx, target)
        last = deliveries.last_answer(tx, target)
    if last is not None and is_held(last.reason) and last.now - last.at < PROBE_EVERY:
        tally.stop(last.reason)
        return
    try:
        with open_line(services, partner, row, _PATIENCE) as line:
            tally.gate = line.gate
            _send_all(Delivery(services, partner, target, epoch, LEASE_SECONDS, line), tally, end, days)
    except PartnerError as error:  # Deferred too
        tally.stop(error.reason, error.params)
    except VaultError:
        tally.stop("secret_unreadable")
    except PausedError:
        tally.stop("connection_paused")
    except LeaseLostError:
        tally.stop("push_under_way")


def _release(tx: Transaction, target: Target) -> None:
    """Make due what a person wants tried again, and what may have been cured since it was parked."""
    for key in deliveries.asked_again(tx, target):
        deliveries.add_result(tx, target, Result(key, Outcome.RELEASED, reason="asked_again"))
    for key in deliveries.curable(tx, target, _codes(ReasonScope.CONNECTION), _codes(ReasonScope.ENTITY)):
        deliveries.add_result(tx, target, Result(key, Outcome.RELEASED, reason="connection_changed"))


def is_held(code: str) -> bool:
    """Whether calls are pointless until a person has changed the connection."""
    known = reason(code)
    return known.scope is ReasonScope.CONNECTION and known.owner is Owner.USER and not known.retried


@cache
def holding_reasons() -> tuple[str, ...]:
    """Those for which a connection is held."""
    return tuple(each.code for each in all_reasons() if is_held(each.code))


def _send_all(delivery: Delivery, tally: _Tally, end: float, days: Days | None) -> None:
    """Take what is due of `days` (None: all) a step on, until monotonic `end` or something stops the connection."""
    while batch := delivery.due(_BATCH, tally.blocked, tally.done, days):
        for due in batch:
            if time.monotonic() >= end:
                tally.stop("time_box_ended")
                return
            if due.key.entity in tally.blocked:
                continue
            result = delivery.advance(due)
            tally.add(due, result)
            match None if result.reason is None else reason(result.reason).scope:
                case ReasonScope.CONNECTION:
                    tally.stop(str(result.reason), result.params)
                    return
                case ReasonScope.ENTITY:
                    tally.blocked.add(due.key.entity)


@cache
def _codes(scope: ReasonScope) -> tuple[str, ...]:
    """The reasons that concern so much."""
    return tuple(each.code for each in all_reasons() if each.scope is scope)
