"""Limits on calls in flight: a connection that is open has a seat, and calls one at a time.

A seat is taken for as long as the line is open, so it counts a call more than needed now and then, and never one less.
"""

from __future__ import annotations

import time
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

_ASK_EVERY = timedelta(milliseconds=200)


@contextmanager
def seated(services: Services, connection: Connection, limits: Sequence[Limit], patience: timedelta) -> Iterator[None]:
    """A seat under every limit on calls in flight. Raises Deferred if none comes free within `patience`."""
    wanted = [limit for limit in limits if isinstance(limit, Concurrency)]
    if not wanted:
        yield
        return
    with services.database.session(Login.BUDGET) as session:
        give_up = time.monotonic() + patience.total_seconds()
        for limit in wanted:
            while not budgets.take_seat(session, bucket_name(connection, limit), limit.in_flight):
                if time.monotonic() >= give_up:
                    raise Deferred(services.now() + patience)
                services.sleep(_ASK_EVERY.total_seconds())
        yield
