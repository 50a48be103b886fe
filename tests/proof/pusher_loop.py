"""A pusher in a process of its own: accumulates and pushes connections in turn until its standard input ends.

What to do comes as one line of JSON. It says "up" when it begins, and ends by itself: with its parent, at its time
limit, or killed. Time is scaled: the lease and the holds of the breaker are as short as it is told.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, TextIO

import mutants
from partner import PROOFS

from resources.http import Http
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.flows import push as push_module
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.flows.services import Services
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import DatabaseUnreachableError


@dataclass(frozen=True)
class Told:
    """What a pusher is told."""

    host: str
    port: int
    database: str
    passwords: Mapping[str, str] = field(repr=False)
    key: str = field(repr=False)
    connections: list[tuple[str, str]]
    """(tenant, partner), served in turn."""
    lease: float = 3.0
    call: float = 1.0
    """Seconds that one exchange may last."""
    under_way: float = 2.0
    backoff: float = 0.02
    """Share of the real backoff."""
    mutant: str | None = None
    limit: float = 900.0
    """Seconds after which it ends whatever happens."""

    @classmethod
    def of(cls, logins: Logins, key: str, connections: list[tuple[str, str]], **how: Any) -> Told:
        """For connections in the database of `logins`, whose secrets `key` opens."""
        passwords = {login.value: password for login, password in logins.passwords.items()}
        return cls(logins.host, logins.port, logins.database, passwords, key, connections, **how)

    def line(self) -> str:
        """As a pusher reads it."""
        return json.dumps(asdict(self)) + "\n"


def serve(told: Told, stop: threading.Event) -> None:
    """Serve until `stop`. A database that is away is waited for."""
    passwords = {Login(name): password for name, password in told.passwords.items()}
    database = Database(Logins(told.host, told.port, passwords, database=told.database))
    http = Http(total_seconds=told.call, connect_seconds=min(0.5, told.call))
    vault, under_way = Vault([told.key]), timedelta(seconds=told.under_way)
    services = Services(database, vault, http, random=lambda: random.random() * told.backoff, under_way=under_way)
    while not stop.is_set():
        work = 0
        for tenant, name in random.sample(told.connections, len(told.connections)):
            try:
                work += accumulate(services, PROOFS[name], tenant).events
                work += push(services, PROOFS[name], tenant, box_seconds=2.0).calls
            except DatabaseUnreachableError:
                stop.wait(0.2)
        if not work:
            stop.wait(0.05)
    database.close()


def main(told: Told, orders: TextIO) -> None:
    """Serve until `orders` ends."""
    stop, end = threading.Event(), time.monotonic() + told.limit

    def listen() -> None:
        orders.read()
        stop.set()

    def watch() -> None:
        time.sleep(max(0.0, end - time.monotonic()))
        os._exit(3)

    for work in (listen, watch):
        threading.Thread(target=work, daemon=True).start()
    push_module.LEASE_SECONDS = told.lease
    with ExitStack() as stack:
        stack.enter_context(mutants.broken(told.mutant))
        print("up", flush=True)
        serve(told, stop)


if __name__ == "__main__":
    main(Told(**json.loads(sys.stdin.readline())), sys.stdin)
