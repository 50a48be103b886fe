"""Limits on calls in flight: a line that is open has a seat, and calls one at a time.

A seat is taken for as long as lines of the connection are open here, so it counts a call more than needed now and then,
and never one less.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from partners.contract import Connection
from partners.errors import Deferred
from partners.limits import Concurrency, Limit
from resources.logins import Login
from zest_pipelines.flows.gate import bucket_name
from zest_pipelines.flows.services import Services
from zest_pipelines.store import budgets
from zest_pipelines.store.database import Transaction

_ASK_EVERY = timedelta(milliseconds=200)


class Seats:
    """The seats of one connection in this process."""

    def __init__(self, services: Services, buckets: Sequence[tuple[str, int]], session: Transaction | None) -> None:
        """`buckets`: the name of each limit, and how many seats it has; `session` None: there are no such limits."""
        self._services = services
        self._buckets = buckets
        self._session = session
        self._mine: dict[str, set[int]] = defaultdict(set)

    def take(self, patience: timedelta) -> None:
        """One more seat under every limit. Raises Deferred if none comes free within `patience`."""
        give_up = time.monotonic() + patience.total_seconds()
        for bucket, seats in self._buckets:
            while (seat := self._free(bucket, seats)) is None:
                if time.monotonic() >= give_up:
                    raise Deferred(self._services.now() + patience)
                self._services.sleep(_ASK_EVERY.total_seconds())
            self._mine[bucket].add(seat)

    def _free(self, bucket: str, seats: int) -> int | None:
        assert self._session is not None  # there is a bucket, so there is a session
        return budgets.take_seat(self._session, bucket, seats, self._mine[bucket])


@contextmanager
def seated(services: Services, connection: Connection, limits: Sequence[Limit]) -> Iterator[Seats]:
    """What takes seats under the limits on calls in flight; those taken are free again at the end of the block."""
    buckets = [(bucket_name(connection, each), each.in_flight) for each in limits if isinstance(each, Concurrency)]
    if not buckets:
        yield Seats(services, (), None)
        return
    with services.database.session(Login.BUDGET) as session:
        yield Seats(services, buckets, session)
