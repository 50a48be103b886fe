"""Limits on calls in flight: an open line has a seat under each of them, and calls one at a time.

A seat is taken for as long as its line is open, so it counts a call more than needed now and then, and never one less.
It is a lease in the ledger, held anew before a call that might outlast it. Who dies leaves it to run out, and a call
that got no answer leaves it behind too: the partner may still be at work on it, and counts it. For a push that a person
waits for, and that finds none free, the next one is kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from partners.contract import Connection
from partners.errors import Deferred
from partners.limits import Concurrency, Limit
from resources.logins import Login
from zest_pipelines.core.seats import with_seat, with_wish, without
from zest_pipelines.core.turns import Priority
from zest_pipelines.flows.naming import bucket_name
from zest_pipelines.flows.services import Services
from zest_pipelines.store import budgets
from zest_pipelines.store.errors import StoreError

_log = logging.getLogger(__name__)

_ASK_EVERY = timedelta(milliseconds=200)
_HELD_LONGER = 10.0
"""Seconds, beyond what a call may take, for which a seat is leased: so often it is held anew."""
_KEPT = 15.0
"""Seconds for which a seat is kept for a person's push; it asks again before they are over."""


@dataclass(frozen=True)
class Seats:
    """The seats of one connection."""

    services: Services
    most: Mapping[str, int]
    """By name of the limit: how many there are. Empty: calls in flight are not limited."""
    asked_by: str | None = None
    """The tenant, if a person waits for its push."""

    @staticmethod
    def of(
        services: Services,
        connection: Connection,
        limits: Sequence[Limit],
        priority: Priority = Priority.BACKGROUND,
    ) -> Seats:
        """Those that the limits speak of."""
        found = {bucket_name(connection, each): each.allowed for each in limits if isinstance(each, Concurrency)}
        asked_by = connection.tenant if priority is Priority.PEOPLE else None
        return Seats(services, dict(sorted(found.items())), asked_by)

    def take(self, patience: timedelta) -> Seat:
        """One more, under every limit. Raises Deferred if none comes free within `patience`.

        Who has no patience leaves no wish either.
        """
        seat = Seat(self, patience)
        seat.hold(patience)
        return seat


class Seat:
    """One line's, under every limit at once or under none."""

    def __init__(self, seats: Seats, patience: timedelta) -> None:
        """`patience`: how long it waits for another one before a call, where the one it had was left behind."""
        self._seats = seats
        self._patience = patience
        self._holder = uuid4().hex
        self._until = 0.0
        """Monotonic."""

    def hold(self, patience: timedelta | None = None) -> None:
        """See to it that it lasts as long as a call that begins now. Raises Deferred if that cannot be had."""
        services = self._seats.services
        call = services.under_way.total_seconds()
        if not self._seats.most or time.monotonic() + call < self._until:
            return
        waits = self._patience if patience is None else patience
        give_up = time.monotonic() + waits.total_seconds()
        while not self._lease(call + _HELD_LONGER, is_wish=bool(waits)):
            if time.monotonic() >= give_up:
                raise Deferred(services.now() + _ASK_EVERY)
            services.sleep(_ASK_EVERY.total_seconds())

    def leave_behind(self) -> None:
        """Give it up without freeing it: a call may still be under way. The next call takes another one."""
        self._holder, self._until = uuid4().hex, 0.0

    def free(self) -> None:
        """Let others have it: no call of its line is under way. If the ledger cannot be told, it runs out by itself."""
        if not self._until:
            return
        try:
            with self._seats.services.database.transaction(Login.BUDGET, None) as tx:
                seats, now = budgets.lock_seats(tx, list(self._seats.most))
                budgets.save_seats(tx, {name: without(each, self._holder, now) for name, each in seats.items()})
        except StoreError as error:
            _log.warning("A seat could not be given back and runs out by itself: %s", error)
        self._until = 0.0

    def _lease(self, seconds: float, *, is_wish: bool) -> bool:
        """Whether there was a seat, which is now taken for so long; `is_wish`: if not, the next one is wished for."""
        before, asked_by = time.monotonic(), self._seats.asked_by
        with self._seats.services.database.transaction(Login.BUDGET, None) as tx:
            seats, now = budgets.lock_seats(tx, list(self._seats.most))
            found = {
                name: with_seat(each, self._holder, self._seats.most[name], now, now + seconds, asked_by)
                for name, each in seats.items()
            }
            granted = {name: each for name, each in found.items() if each is not None}
            if len(granted) < len(found):
                if is_wish and asked_by is not None:
                    full = {name: seats[name] for name in found.keys() - granted.keys()}
                    wishes = {name: with_wish(each, asked_by, now, now + _KEPT) for name, each in full.items()}
                    budgets.save_seats(tx, wishes)
                return False
            budgets.save_seats(tx, granted)
        self._until = before + seconds
        return True
