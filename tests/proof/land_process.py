"""Masters on their way in, in processes of their own, each of which may be told to die or to stop itself on the way.

It obeys as `push_process` does. The points are the commits of the station under work, counted from 1: just before one,
with all of it done, and just after it. Between two of them lies every boundary of a page, and whatever a reading does
between its pages and its cursor, in however many transactions that is. Besides, an application can be stopped before it
has the lock under which it takes its set.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from unittest.mock import patch

from landing_mutants import at_work
from partner import VAULT_KEY
from push_process import Fuse, obey

from partners.contract import Entity
from partners.fhir import reading
from partners.registry import PARTNERS
from resources.http import Http
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.land import land
from zest_pipelines.flows.services import Services
from zest_pipelines.store import masters
from zest_pipelines.store.database import Database, Transaction

BEFORE_LOCK = "before the lock"
_STATIONS: dict[str, tuple[Login, Callable[..., Any]]] = {"land": (Login.LAND, land), "apply": (Login.APPLY, apply)}


def before_commit(number: int) -> str:
    """The point just before the station's commit of this number."""
    return f"before commit {number}"


def after_commit(number: int) -> str:
    """The point just after it."""
    return f"after commit {number}"


@dataclass(frozen=True)
class Told:
    """What a process is to do."""

    host: str
    port: int
    database: str
    passwords: dict[str, str] = field(repr=False)
    key: str = field(repr=False)
    """Of the vault."""
    tenant: str
    station: str = "land"
    entity: str = "client"
    point: str | None = None
    """Where it gets the signal; None: nowhere."""
    signal: int = signal.SIGKILL
    overlap: float = 300.0
    """Seconds before the cursor from which a reading of changes begins."""
    days: int = 0
    """How many have passed, by its clock."""
    mutant: str | None = None

    @classmethod
    def of(cls, logins: Logins, tenant: str, **how: Any) -> Told:
        """For a tenant in the database of `logins`."""
        passwords = {login.value: password for login, password in logins.passwords.items()}
        return cls(logins.host, logins.port, logins.database, passwords, VAULT_KEY, tenant, **how)

    @contextmanager
    def services(self) -> Iterator[Services]:
        """What it works with."""
        passwords = {Login(name): password for name, password in self.passwords.items()}
        database = Database(Logins(self.host, self.port, passwords, database=self.database))
        ahead = timedelta(days=self.days)
        http = Http(total_seconds=3, connect_seconds=1)
        yield Services(database, Vault([self.key]), http, now=lambda: datetime.now(UTC) + ahead)
        database.close()


@contextmanager
def seams(fuse: Fuse, login: Login) -> Iterator[list[int]]:
    """Within the block, every point tells the fuse that it is reached. What it gives grows with the commits."""
    transaction, lock, commits, numbers = Database.transaction, masters.lock_application, list[int](), count(1)

    @contextmanager
    def watched(self: Database, whose: Login, tenant: str | None) -> Iterator[Transaction]:
        number = next(numbers) if whose is login else None
        with transaction(self, whose, tenant) as tx:
            yield tx
            if number is not None:
                fuse.reach(before_commit(number))
        if number is not None:
            commits.append(number)
            fuse.reach(after_commit(number))

    def watched_lock(*given: Any) -> None:
        fuse.reach(BEFORE_LOCK)
        lock(*given)

    with patch.object(Database, "transaction", watched), patch.object(masters, "lock_application", watched_lock):
        yield commits


def perform(told: Told, ear: socket.socket) -> int:
    """Do the station's work, and tell how many commits that took and how a reading ended."""
    fuse, (login, station) = Fuse(told.point, told.signal), _STATIONS[told.station]
    with ExitStack() as stack:
        services = stack.enter_context(told.services())
        stack.enter_context(patch.object(reading, "OVERLAP", timedelta(seconds=told.overlap)))
        commits = stack.enter_context(seams(fuse, login))
        stack.enter_context(at_work(told.mutant))  # behind the seams: it is broken before and after the points too
        report = station(services, PARTNERS["fhir"], told.tenant, Entity(told.entity))
    with suppress(OSError):
        ear.send(json.dumps({"report": {"commits": len(commits), "state": getattr(report, "state", "")}}).encode())
    return 0


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as given:
        sys.exit(obey(given, lambda order, ear: perform(Told(**order), ear)))
