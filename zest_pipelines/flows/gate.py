"""The gate that every call to a partner passes: it asks the ledger, waits for the slot, and drops one that it misses.

The ledger runs on the database's clock and the slot is kept on this machine's monotonic one, so the clocks of workers
do not matter: a slot counts from the moment the ledger was asked (at the latest) to the moment it answered (at the
earliest), and a call is sent only where both say yes. A slot that was waited for is asked about once more before the
call goes: the partner may have closed the limit meanwhile, to another process.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from partners.contract import Connection, Gate, Token
from partners.errors import Deferred
from partners.limits import MOST_CALLS, Kind, Limit, LimitScope, Rate
from partners.throttling import Told
from resources.logins import Login
from zest_pipelines.core.budget import Ask, Wait, admit, applies, refused
from zest_pipelines.core.meters import LATENESS, Bucket, State, begun, interval
from zest_pipelines.core.turns import Priority, Who
from zest_pipelines.core.usage import doubtful
from zest_pipelines.flows.naming import bucket_name, place_of_calls
from zest_pipelines.flows.seats import Seat
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.tokens import Tokens
from zest_pipelines.store import budgets
from zest_pipelines.store.budgets import Entry
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.errors import StoreError

_log = logging.getLogger(__name__)

_FRESH_SECONDS = 0.02
"""So old, a slot is asked about again before its call goes."""
_LONG_SECONDS = 0.05
"""For a lock: after that the clock is read again, for slots would be used up by the wait."""
_MOMENT_SECONDS = 15.0
"""How long a limit rests, at most, after a refusal that names no time: a twentieth of its window, a second at least."""


@dataclass(frozen=True)
class Slot:
    """Leave for one call."""

    endpoint: str
    granted_at: float
    """Monotonic seconds, as the others."""
    not_before: float
    """Inclusive."""
    until: float
    """Exclusive."""
    priority: Priority = Priority.BACKGROUND
    """With which it was asked for; what else the same errand calls is asked for alike."""


@dataclass(frozen=True)
class Later:
    """There is no slot yet."""

    until: datetime
    """When to ask again."""
    seconds: float
    """How long that is from now."""


class Ledger:
    """The limits of one connection as the ledger of calls keeps them, for all its gates."""

    def __init__(self, services: Services, connection: Connection, limits: Sequence[Limit], weight: int = 1) -> None:
        """`weight`: of the tenant among those who wait for what all share, 1 to 100."""
        self.services = services
        self._connection = connection
        self._limits = counting(limits)
        self._weight = weight

    @property
    def is_limited(self) -> bool:
        """Whether any call needs a slot of its own."""
        return bool(self._limits)

    def take(
        self,
        endpoint: str,
        calls: int = 1,
        priority: Priority = Priority.BACKGROUND,
        patience: timedelta = timedelta(0),
    ) -> tuple[Slot, ...] | Later:
        """At least one slot for a call to `endpoint`, and at most `calls` of them, in rising order.

        `patience`: for how long the caller will come again when told to; so long it has a place among those who wait.
        """
        named = self._named(endpoint)
        if not named:
            now = time.monotonic()
            return (Slot(endpoint, now, now, float("inf"), priority),) * calls
        who = Who(self._connection.tenant, priority, self._weight)
        with self._locked(named) as found:
            answer = admit(found.buckets, Ask(who, calls, found.now + patience.total_seconds()), found.now)
            found.save(answer.buckets)
        if isinstance(answer, Wait):
            return Later(_moment(answer.until), answer.until - found.now)
        after = time.monotonic()
        before = found.before
        waits = [at - found.now for at in answer.send_at]
        return tuple(Slot(endpoint, after, after + wait, before + wait + LATENESS, priority) for wait in waits)

    def is_closed(self, endpoint: str) -> bool:
        """Whether a limit that a call to `endpoint` falls under is closed now."""
        named = self._named(endpoint)
        if not named:
            return False
        with self.services.database.transaction(Login.BUDGET, None) as tx:
            return budgets.is_closed(tx, list(named))

    @property
    def slowest(self) -> float:
        """Seconds from one call to the next where nobody else calls and nothing is saved up: of the slowest pace."""
        paces = [interval(Bucket(each)) for each in self._limits if each.kind in (Kind.PACED, Kind.LEAKY)]
        return max(paces, default=0.0)

    def stay_away(self, endpoint: str, rest: timedelta | None, *, is_refused: bool) -> None:
        """Let nobody call `endpoint` for so long, as the partner asked; None: it named no time: for a moment.

        Which of the limits it speaks of it rarely says: `_Found.meant`. `is_refused`: for the number of our calls, so
        what allowed them is believed less from now on.
        """
        named, seconds = self._named(endpoint), None if rest is None else rest.total_seconds()
        if not named:
            return
        with self._locked(named) as found:
            if is_refused:
                found.save(refused(found.buckets, found.now, seconds))
            for name, limit in found.meant(seconds):
                moment = min(_MOMENT_SECONDS, max(1.0, limit.seconds / 20))
                budgets.close(found.tx, [name], _moment(found.now + (moment if seconds is None else seconds)))

    def _named(self, endpoint: str) -> dict[str, Rate]:
        """The limits that a call falls under, by the names of their buckets, in the order of these."""
        found: dict[str, Rate] = {}
        for each in self._limits:
            if applies(each, endpoint):
                name = bucket_name(self._connection, each)
                found[name] = min(each, found.get(name, each), key=lambda limit: limit.allowed)  # two of old times
        return dict(sorted(found.items()))

    def _begun(self, tx: Transaction, name: str, limit: Rate, before: State, now: float) -> Entry:
        """A bucket as it begins, stored."""
        entry = beginning(tx, self._connection, limit, before, now)
        budgets.save(tx, {name: entry.state})
        if entry.closed_until > now:
            budgets.close(tx, [name], _moment(entry.closed_until))
        return entry

    @contextmanager
    def _locked(self, named: Mapping[str, Rate]) -> Iterator[_Found]:
        with self.services.database.transaction(Login.BUDGET, None) as tx:
            before = time.monotonic()
            entries, now, begin = budgets.lock(tx, list(named))
            for name in sorted(begin):
                entries[name] = self._begun(tx, name, named[name], entries[name].state, now)
            if time.monotonic() - before > _LONG_SECONDS:
                before, now = time.monotonic(), budgets.clock(tx)
            buckets = [Bucket(limit, entries[name].state, entries[name].closed_until) for name, limit in named.items()]
            yield _Found(tx, dict(zip(named, buckets, strict=True)), now, before)


@dataclass(frozen=True)
class _Found:
    """Buckets that are locked until the transaction ends."""

    tx: Transaction
    named: Mapping[str, Bucket]
    now: float
    """By the ledger's clock."""
    before: float
    """The same moment or an earlier one, monotonic."""

    @property
    def buckets(self) -> list[Bucket]:
        return list(self.named.values())

    def save(self, changed: Sequence[Bucket]) -> None:
        """Store them; each has the limit of one that was found."""
        names = {bucket.limit: name for name, bucket in self.named.items()}
        states: dict[str, State] = {names[bucket.limit]: bucket.state for bucket in changed}
        budgets.save(self.tx, states)

    def meant(self, rest: float | None) -> list[tuple[str, Rate]]:
        """What a wish to be left alone for `rest` seconds speaks of: all that is the tenant's own, and of what it
        shares what is used most, if such a rest can be meant by it. One tenant's plan that is used up stops no other.
        """
        limits = [bucket.limit for bucket in self.buckets]
        own = {limit for limit in limits if limit.scope is not LimitScope.VENDOR}
        meant = (own - {DOOR} or own) | {bucket.limit for bucket in doubtful(self.buckets, self.now, rest)}
        return [(name, bucket.limit) for name, bucket in self.named.items() if bucket.limit in meant]


class UngrantedError(RuntimeError):
    """A connector sent something without having asked its gate: a fault of its code, and nothing left."""


class LedgerGate(Gate):
    """The gate of one connector; used by one thread, but for `shut`."""

    def __init__(
        self,
        ledger: Ledger,
        patience: timedelta,
        priority: Priority = Priority.BACKGROUND,
        seat: Seat | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        """`patience`: how long a call may wait for its slot before it is deferred to a later push.

        `tokens`: of the connection; None: it is one that needs none.
        """
        self.ledger = ledger
        self._seat = seat
        self._tokens = tokens
        self._patience = patience
        self._priority = priority
        self._slots: deque[Slot] = deque()
        self._closes_at = float("inf")
        self._leaves_until = float("inf")
        """Of the call that was let through last."""
        self._is_shut = False
        self._is_granted = False
        """Whether a call was let through and has not been sent."""
        self.calls = 0
        """How many it has admitted."""
        self.before_call: Callable[[], None] = _nothing
        """Called before each wait for a slot."""

    def hand(self, slot: Slot) -> None:
        """Give it a slot that was taken for the next call."""
        self._slots.append(slot)
        self._priority = slot.priority

    def admit(self, endpoint: str) -> None:
        """See Gate."""
        self.before_call()
        give_up = min(time.monotonic() + self._patience.total_seconds(), self._closes_at)
        while True:
            if self._is_shut:
                raise Deferred(self.ledger.services.now())
            self._hold_seat()
            slot = self._slot(endpoint, give_up)
            if (early := slot.not_before - time.monotonic()) > 0:
                self.ledger.services.sleep(early)
            self._hold_seat()  # anew: it has to last from here on
            if self._is_shut or time.monotonic() >= self._closes_at:
                raise Deferred(self.ledger.services.now())
            is_fresh = time.monotonic() - slot.granted_at < _FRESH_SECONDS
            if not is_fresh and self.ledger.is_closed(endpoint):
                continue  # the ledger says until when
            if time.monotonic() < slot.until:
                self.calls += 1
                self._leaves_until, self._is_granted = slot.until, True
                return
            if time.monotonic() >= give_up:  # the ledger is so slow that its slots are over when they come
                raise Deferred(self.ledger.services.now())

    def spend(self) -> None:
        """Take note that a request is about to be sent. UngrantedError unless it was let through: each one, once.

        Asked by the client itself, so that no code of a partner can go round the limits.
        """
        if not self._is_granted:
            raise UngrantedError
        self._is_granted = False

    def leave(self) -> None:
        """See Gate."""
        if time.monotonic() >= self._leaves_until:
            raise Deferred(self.ledger.services.now())

    def heard(self, endpoint: str, told: Told) -> None:
        """See Gate. Closes for everybody what the partner wants to be left alone, if the ledger can be reached.

        The call has its answer, perhaps of a write, and that is not to be lost. No other goes by this gate.
        """
        try:
            self.ledger.stay_away(endpoint, told.rest, is_refused=told.is_refusal)
        except StoreError as error:
            self.shut()
            _log.warning("What the partner said of its limits could not be noted: %s", error)

    def token(self, ask: Callable[[], Token], refused: str = "") -> str:
        """See Gate."""
        assert self._tokens is not None
        return self._tokens.token(ask, refused)

    def unheard(self) -> None:
        """See Gate. For the limits on calls in flight it may still be under way."""
        if self._seat is not None:
            self._seat.leave_behind()

    def shut(self) -> None:
        """Let nothing through any more: Deferred instead. From any thread."""
        self._is_shut = True

    @contextmanager
    def open_until(self, monotonic: float) -> Iterator[None]:
        """Within the block, let nothing through from `monotonic` seconds on: Deferred instead."""
        self._closes_at = monotonic
        try:
            yield
        finally:
            self._closes_at = float("inf")

    def _hold_seat(self) -> None:
        if self._seat is not None:
            self._seat.hold()

    def _slot(self, endpoint: str, give_up: float) -> Slot:
        """One that was handed in, else one of the ledger's. Raises Deferred if there is none before `give_up`."""
        for slot in self._slots:
            if slot.endpoint == endpoint:
                self._slots.remove(slot)
                return slot
        while True:
            left = max(0.0, give_up - time.monotonic())
            answer = self.ledger.take(endpoint, 1, self._priority, timedelta(seconds=left))
            if not isinstance(answer, Later):
                return answer[0]
            if answer.seconds > left:
                raise Deferred(answer.until)
            self.ledger.services.sleep(max(answer.seconds, 0.001))


def beginning(tx: Transaction, connection: Connection, limit: Rate, before: State, now: float) -> Entry:
    """How a limit begins: with what was used of all on the same calls, be they kept still or no more.

    `before`: of itself, if it begins anew.
    """
    others = budgets.on_same_calls(tx, place_of_calls(connection, limit))
    state = begun(limit, [each.state for each in others], now)
    closed_until = max((each.closed_until for each in others), default=0.0)
    return Entry(state._replace(used=before.used, belief=before.belief, queue=before.queue), closed_until)


DOOR = Rate(LimitScope.TENANT, MOST_CALLS, 1)
"""Holds nobody up; it is what the partner closes for a tenant that has no limit of its own."""


def counting(limits: Sequence[Limit]) -> list[Rate]:
    """The limits that count calls, with DOOR if none of them is of all the tenant's calls; none without any limits."""
    rates = [limit for limit in limits if isinstance(limit, Rate)]
    return rates if any(each.scope is LimitScope.TENANT for each in rates) or not limits else [*rates, DOOR]


def _nothing() -> None:
    pass


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
