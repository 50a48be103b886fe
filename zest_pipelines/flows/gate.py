"""The gate that every call to a partner passes: it asks the ledger, waits for the slot, and drops one that it misses.

The ledger runs on the database's clock and the slot is kept on this machine's monotonic one, so the clocks of workers
do not matter: a slot counts from the moment the ledger was asked (at the latest) to the moment it answered (at the
earliest), and a call is sent only where both say yes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from partners.contract import Connection, Gate
from partners.errors import Deferred
from partners.limits import Limit, LimitScope, Rate
from resources.logins import Login
from zest_pipelines.core.budget import LATENESS, Bucket, Granted, admit, applies
from zest_pipelines.flows.services import Services
from zest_pipelines.store import budgets

_AHEAD = timedelta(seconds=1)
"""Slots are taken no further ahead: what lies further is taken by who comes first then."""


@dataclass(frozen=True)
class Slot:
    """Leave for one call."""

    endpoint: str
    not_before: float
    """Monotonic seconds, inclusive."""
    until: float
    """Exclusive."""


@dataclass(frozen=True)
class Later:
    """There is no slot yet."""

    until: datetime
    """When to ask again."""
    seconds: float
    """How long that is from now."""


class Ledger:
    """The limits of one connection as the ledger of calls keeps them, for all its gates."""

    def __init__(self, services: Services, connection: Connection, limits: Sequence[Limit]) -> None:
        self.services = services
        self._connection = connection
        self._limits = [limit for limit in limits if isinstance(limit, Rate)]

    @property
    def is_limited(self) -> bool:
        """Whether any call needs a slot of its own."""
        return bool(self._limits)

    def take(self, endpoint: str, calls: int = 1) -> tuple[Slot, ...] | Later:
        """At least one slot for a call to `endpoint`, and at most `calls` of them, in rising order."""
        limits = [limit for limit in self._limits if applies(limit, endpoint)]
        before = time.monotonic()
        if not limits:
            return (Slot(endpoint, before, float("inf")),) * calls
        names = [bucket_name(self._connection, limit) for limit in limits]
        with self.services.database.transaction(Login.BUDGET, None) as tx:
            states, now = budgets.lock(tx, names)
            buckets = [
                Bucket(limit, states[name].tat, states[name].closed_until)
                for limit, name in zip(limits, names, strict=True)
            ]
            answer = admit(buckets, now, calls, _AHEAD)
            if isinstance(answer, Granted):
                budgets.save(tx, dict(zip(names, answer.tats, strict=True)))
        if not isinstance(answer, Granted):
            return Later(answer.until, (answer.until - now).total_seconds())
        after, lateness = time.monotonic(), LATENESS.total_seconds()
        waits = [(send_at - now).total_seconds() for send_at in answer.send_at]
        return tuple(Slot(endpoint, after + wait, before + wait + lateness) for wait in waits)

    def close_until(self, until: datetime) -> None:
        """Let nobody of this connection call before `until`, as the partner asked.

        The vendor's own limits, which other tenants share, are closed only if the connection has no others.
        """
        own = [limit for limit in self._limits if limit.scope is not LimitScope.VENDOR]
        names = [bucket_name(self._connection, limit) for limit in own or self._limits]
        with self.services.database.transaction(Login.BUDGET, None) as tx:
            budgets.close(tx, names, until)


class LedgerGate(Gate):
    """The gate of one connector; used by one thread, but for `shut`."""

    def __init__(self, ledger: Ledger, patience: timedelta) -> None:
        """`patience`: how long a call may wait for its slot before it is deferred to a later push."""
        self.ledger = ledger
        self._patience = patience
        self._slots: deque[Slot] = deque()
        self._closes_at = float("inf")
        self._is_shut = False
        self.calls = 0
        """How many it has admitted."""

    def hand(self, slot: Slot) -> None:
        """Give it a slot that was taken for the next call."""
        self._slots.append(slot)

    def admit(self, endpoint: str) -> None:
        """See Gate."""
        while True:
            slot = self._slot(endpoint)
            if (early := slot.not_before - time.monotonic()) > 0:
                self.ledger.services.sleep(early)
            if self._is_shut or time.monotonic() >= self._closes_at:
                raise Deferred(self.ledger.services.now())
            if time.monotonic() < slot.until:
                self.calls += 1
                return

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

    def _slot(self, endpoint: str) -> Slot:
        """One that was handed in, else one of the ledger's. Raises Deferred if it is further off than our patience."""
        for slot in self._slots:
            if slot.endpoint == endpoint:
                self._slots.remove(slot)
                return slot
        give_up = time.monotonic() + self._patience.total_seconds()
        while isinstance(answer := self.ledger.take(endpoint), Later):
            if time.monotonic() + answer.seconds > give_up:
                raise Deferred(answer.until)
            self.ledger.services.sleep(max(answer.seconds, 0.001))
        return answer[0]


def bucket_name(connection: Connection, limit: Limit) -> str:
    """Who shares the limit, and the limit itself: a changed limit is another bucket."""
    owner = "" if limit.scope is LimitScope.VENDOR else connection.tenant
    return f"{connection.partner}/{owner}/{limit}"
