"""A process that calls counting partners without rest, each call through the real gate of the ledger.

It is told what to do on its standard input (JSON, `Told`) and goes on until it ends there. Every piece of work has a
thread of its own. What goes wrong in a thread ends the process with 1: a caller that stopped would look like restraint.

Its wall clock may be wrong (`clock_offset`): both what the platform is handed as `now` and what `time.time` says. The
monotonic clock stays, as on a real machine. `jitter` is the time that a line takes to be there: it comes after the gate
has let the call go, and before it is asked the last time.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any
from unittest.mock import patch

from cryptography.fernet import Fernet
from ledger_mutants import played

from partners.contract import Connection
from partners.errors import Deferred
from partners.limits import parse_limit
from partners.throttling import told
from resources.http import Http
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.core.turns import Priority
from zest_pipelines.flows.gate import Ledger, LedgerGate
from zest_pipelines.flows.seats import Seats
from zest_pipelines.flows.services import Services
from zest_pipelines.store.database import Database

PATIENCE = timedelta(seconds=10)
_MOST_REST = 0.5
"""Seconds for which a caller believes a Deferred: its own clock may be wrong."""


@dataclass(frozen=True)
class Work:
    """One tenant's calls at one partner."""

    url: str
    partner: str
    tenant: str
    limits: Sequence[str]
    endpoint: str = "appointments"
    weight: int = 1
    priority: str = Priority.BACKGROUND.value


@dataclass(frozen=True)
class Told:
    """What a process is to do."""

    host: str
    port: int
    database: str
    passwords: dict[str, str] = field(repr=False)
    work: Sequence[Work]
    seed: int = 0
    jitter: float = 0.0
    """Most seconds between the gate's leave and the call, which asks the gate once more when its line is there."""
    clock_offset: float = 0.0
    """Seconds by which its wall clock is ahead."""
    mutant: str | None = None
    """A name in LEDGER_MUTANTS; None: all rules hold."""

    @classmethod
    def of(cls, logins: Logins, work: Sequence[Work], **how: Any) -> Told:
        """For the ledger in the database of `logins`."""
        passwords = {login.value: password for login, password in logins.passwords.items()}
        return cls(logins.host, logins.port, logins.database, passwords, work, **how)

    @classmethod
    def read(cls, line: str) -> Told:
        """What `asdict` and JSON made of one."""
        told = json.loads(line)
        return cls(**told | {"work": [Work(**each) for each in told["work"]]})

    def services(self, **pool: int) -> Services:
        """What its gates work with; `pool`: as a Database has it."""
        passwords = {Login(name): password for name, password in self.passwords.items()}
        database = Database(Logins(self.host, self.port, passwords, database=self.database), **pool)
        ahead = timedelta(seconds=self.clock_offset)
        http = Http(total_seconds=5, connect_seconds=5)
        real = Services(database, Vault([Fernet.generate_key().decode()]), http)
        return replace(real, now=lambda: datetime.now(UTC) + ahead)

    def mistaken(self) -> AbstractContextManager[Any]:
        """Within the block, `time.time` is as far off as `now` is."""
        real, offset = time.time, self.clock_offset
        return patch.object(time, "time", lambda: real() + offset) if offset else nullcontext()


def go_on(services: Services, work: Work, jitter: float, chance: random.Random) -> None:
    """Take a seat, if calls in flight are limited, and call as often as the gate lets it, for ever."""
    connection, limits = Connection(work.tenant, work.partner, "", {}), [parse_limit(text) for text in work.limits]
    seats = Seats.of(services, connection, limits)
    while True:
        with suppress(Deferred):
            seat = seats.take(PATIENCE)
            break
    ledger = Ledger(services, connection, limits, work.weight)
    gate = LedgerGate(ledger, PATIENCE, Priority(work.priority), seat)
    call(services, work, gate, jitter, chance)


def call(services: Services, work: Work, gate: LedgerGate, jitter: float, chance: random.Random) -> None:
    """Call as often as the gate lets it, for ever, and tell the gate what the partner says of its limits."""
    line = HTTPConnection(work.url.removeprefix("http://"), timeout=10)
    while True:
        try:
            gate.admit(work.endpoint)
            if jitter:
                time.sleep(chance.random() * jitter)
            gate.leave()
        except Deferred as deferred:
            rest = (deferred.until - services.now()).total_seconds()
            time.sleep(min(max(rest, 0.01), _MOST_REST))
            continue
        line.request("GET", f"/{work.tenant}/{work.endpoint}")
        answer = line.getresponse()
        answer.read()
        said = told(answer.status, {name.lower(): value for name, value in answer.getheaders()}, services.now())
        if said is not None:
            gate.heard(work.endpoint, said)


def _guarded(*given: Any) -> None:
    try:
        go_on(*given)
    except BaseException:  # noqa: BLE001 - whatever it is, it is told and ends the process
        traceback.print_exc()
        os._exit(1)


def main() -> None:
    """Start the threads, say so, and wait for the end of the standard input."""
    told = Told.read(sys.stdin.readline())
    services = told.services()
    with told.mistaken(), played(told.mutant):
        for number, work in enumerate(told.work):
            chance = random.Random(f"{told.seed}/{number}")
            threading.Thread(target=_guarded, args=(services, work, told.jitter, chance), daemon=True).start()
        print("ready", flush=True)
        sys.stdin.read()
        os._exit(0)


if __name__ == "__main__":
    main()
