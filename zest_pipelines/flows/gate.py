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
class _Slot:
    endpoint: str
    not_before: float
    """Monotonic seconds, inclusive."""
    until: float
    """Exclusive."""


class LedgerGate(Gate):
    """The gate of one connection in one process; used by one thread."""

    def __init__(
        self, services: Services, connection: Connection, limits: Sequence[Limit], patience: timedelta
    ) -> None:
        """`patience`: how long a call may wait for its slot before it is deferred to a later push."""
        self._services = services
        self._connection = connection
        self._limits = [limit for limit in limits if isinstance(limit, Rate)]
        self._patience = patience
        self._slots: deque[_Slot] = deque()
        self._closes_at = float("inf")
        self.calls = 0
        """How many it has admitted."""

    def reserve(self, endpoint: str) -> None:
        """Take a slot for the next call to `endpoint`, so that what must precede the call can be done meanwhile.

        Raises Deferred if it is further off than our patience.
        """
        give_up = time.monotonic() + self._patience.total_seconds()
        while (answer := self._ask(endpoint)) is not None:
            until, seconds = answer
            if time.monotonic() + seconds > give_up:
                raise Deferred(until)
            self._services.sleep(max(seconds, 0.001))

    def admit(self, endpoint: str) -> None:
        """See Gate."""
        while True:
            slot = self._taken(endpoint)
            self._services.sleep(max(0.0, slot.not_before - time.monotonic()))
            if time.monotonic() >= self._closes_at:
                raise Deferred(self._services.now())
            if time.monotonic() < slot.until:
                self.calls += 1
                return

    @contextmanager
    def open_until(self, monotonic: float) -> Iterator[None]:
        """Within the block, let nothing through from `monotonic` seconds on: Deferred instead."""
        self._closes_at = monotonic
        try:
            yield
        finally:
            self._closes_at = float("inf")

    def close_until(self, until: datetime) -> None:
        """Let nobody of this connection call before `until`, as the partner asked.

        The vendor's own limits, which other tenants share, are closed only if the connection has no others.
        """
        own = [limit for limit in self._limits if limit.scope is not LimitScope.VENDOR]
        names = [bucket_name(self._connection, limit) for limit in own or self._limits]
        with self._services.database.transaction(Login.BUDGET, None) as tx:
            budgets.close(tx, names, until)

    def _taken(self, endpoint: str) -> _Slot:
        if not any(slot.endpoint == endpoint for slot in self._slots):
            self.reserve(endpoint)
        slot = next(slot for slot in self._slots if slot.endpoint == endpoint)
        self._slots.remove(slot)
        return slot

    def _ask(self, endpoint: str) -> tuple[datetime, float] | None:
        """Take a slot of the ledger; if there is none yet: when to ask again, and in how many seconds that is."""
        limits = [limit for limit in self._limits if applies(limit, endpoint)]
        before = time.monotonic()
        if not limits:
            self._slots.append(_Slot(endpoint, before, float("inf")))
            return None
        names = [bucket_name(self._connection, limit) for limit in limits]
        with self._services.database.transaction(Login.BUDGET, None) as tx:
            states, now = budgets.lock(tx, names)
            buckets = [
                Bucket(limit, states[name].tat, states[name].closed_until)
                for limit, name in zip(limits, names, strict=True)
            ]
            answer = admit(buckets, now, 1, _AHEAD)
            if isinstance(answer, Granted):
                budgets.save(tx, dict(zip(names, answer.tats, strict=True)))
        if not isinstance(answer, Granted):
            return answer.until, (answer.until - now).total_seconds()
        wait = (answer.send_at[0] - now).total_seconds()
        lateness = LATENESS.total_seconds()
        self._slots.append(_Slot(endpoint, time.monotonic() + wait, before + wait + lateness))
        return None


def bucket_name(connection: Connection, limit: Limit) -> str:
    """Who shares the limit, and the limit itself: a changed limit is another bucket."""
    owner = "" if limit.scope is LimitScope.VENDOR else connection.tenant
    return f"{connection.partner}/{owner}/{limit}"
