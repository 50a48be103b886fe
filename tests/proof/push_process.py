"""Pushes in processes of their own, each of which may be told to end or to stop itself at a named point of its way.

The program loads the platform once and forks for every process, so one starts within milliseconds. It is given the file
descriptor of a socket: each message on it is what a process is to do (JSON, `Told`) and carries the end of another
socket, on which one hears what becomes of it (JSON: `stopped`, `report`, `ended`) and says which signal it is to get;
hanging up kills it. Time is scaled: the lease and the backoff are as short as it is told.

The points are reached at the seams between the flows and the store and the wire: the product's code knows of none of
them. A `mutant` breaks a rule on purpose, so that one can see that the breach would be noticed.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any
from unittest.mock import patch

from mutants import played
from partner import PROOFS, VAULT_KEY

from partners import wire
from partners.contract import Command, Connector, Reply
from resources.http import Http
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.core import breaker
from zest_pipelines.flows import push as engine
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.services import Services
from zest_pipelines.store import due, leases, results
from zest_pipelines.store.database import Database, Transaction
from zest_pipelines.store.errors import DatabaseUnreachableError

CUT_OFF = 143
"""How a push ends that was asked to (SIGTERM)."""
_MOST_BYTES = 100_000
_POLL_SECONDS = 0.003


class Point(StrEnum):
    """A place on a push's way, in the order in which they come."""

    BEFORE_CLAIM = "before_claim"
    CLAIM_COMMITTED = "claim_committed"
    """The lease is taken."""
    INTENT_COMMITTED = "intent_committed"
    BYTES_SENT = "bytes_sent"
    """The request has left, and nothing of the answer is read."""
    RESPONSE_READ = "response_read"
    RESULT_COMMITTED = "result_committed"
    LEASE_NOT_RELEASED = "lease_not_released"


@dataclass(frozen=True)
class Told:
    """What a process is to do."""

    host: str
    port: int
    database: str
    passwords: dict[str, str] = field(repr=False)
    connections: Sequence[tuple[str, str]]
    """(tenant, name in PROOFS), served in turn."""
    lease_seconds: float = 60.0
    call_seconds: float = 5.0
    """The deadline of one call: less than the lease."""
    box_seconds: float = 45.0
    under_way: float = 0.0
    """Seconds for which a call without an answer may still take effect."""
    backoff: float = 0.0
    """Share of the real backoff."""
    breaker: float = 1.0
    """Share of the breaker's real times."""
    rounds: int | None = 0
    """How often it accumulates and pushes; 0: it pushes once and accumulates nothing; None: until it gets SIGTERM."""
    in_turn: bool = False
    """Whether it serves who has waited longest, as a tick and its runs do; else all, in any order."""
    point: str | None = None
    """Where it gets the signal; None: nowhere."""
    signal: int = signal.SIGKILL
    mutant: str | None = None

    @classmethod
    def of(cls, logins: Logins, *connections: tuple[str, str], **how: Any) -> Told:
        """For connections in the database of `logins`."""
        passwords = {login.value: password for login, password in logins.passwords.items()}
        return cls(logins.host, logins.port, logins.database, passwords, connections, **how)

    @contextmanager
    def services(self) -> Iterator[Services]:
        """What it pushes with. Within the block, the lease and the breaker are as told, and the mutant plays."""
        passwords = {Login(name): password for name, password in self.passwords.items()}
        database = Database(Logins(self.host, self.port, passwords, database=self.database))
        http = Http(total_seconds=self.call_seconds, connect_seconds=self.call_seconds)
        chance, under_way = (lambda: random.random() * self.backoff), timedelta(seconds=self.under_way)
        with (
            patch.object(engine, "LEASE_SECONDS", self.lease_seconds),
            patch.multiple(breaker, BASE=breaker.BASE * self.breaker, CAP=breaker.CAP * self.breaker),
            played(self.mutant),
        ):
            yield Services(database, Vault([VAULT_KEY]), http, random=chance, under_way=under_way)
        database.close()


@dataclass
class Fuse:
    """Gives the process its signal when it first comes to its point."""

    point: str | None
    signal: int
    quiet: threading.RLock = field(default_factory=threading.RLock)
    """Held by a transaction, so that another thread's signal does not leave it open while the process is stopped."""

    def reach(self, point: Point) -> None:
        """Say that the process is there now. Returns if the signal lets it live."""
        with self.quiet:
            if self.point == point:
                self.point = None
                os.kill(os.getpid(), self.signal)


@dataclass
class Watched:
    """A connector that tells when the answer to a write has been read."""

    inner: Connector
    fuse: Fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def send(self, command: Command) -> Reply:
        reply = self.inner.send(command)
        self.fuse.reach(Point.RESPONSE_READ)
        return reply

    def send_batch(self, commands: Sequence[Command]) -> Sequence[Reply]:
        replies = self.inner.send_batch(commands)
        self.fuse.reach(Point.RESPONSE_READ)
        return replies


@contextmanager
def seams(fuse: Fuse) -> Iterator[None]:
    """Within the block, every point tells the fuse that it is reached."""
    open_transactions = threading.local()
    transaction, heard = Database.transaction, wire._Trail.__call__
    take, give_back = leases.take, leases.give_back
    add_intents, add_results = results.add_intents, results.add_results

    @contextmanager
    def watched_transaction(self: Database, login: Login, tenant: str | None) -> Iterator[Transaction]:
        outer, done = getattr(open_transactions, "done", None), set[Point]()
        open_transactions.done = done
        try:
            with fuse.quiet, transaction(self, login, tenant) as tx:
                yield tx
        finally:
            open_transactions.done = outer
        for point in sorted(done, key=list(Point).index, reverse=True):  # results before the next intents
            fuse.reach(point)

    def watched_take(*given: Any, **named: Any) -> int | None:
        fuse.reach(Point.BEFORE_CLAIM)
        epoch = take(*given, **named)
        if epoch is not None:
            open_transactions.done.add(Point.CLAIM_COMMITTED)
        return epoch

    def watched_give_back(*given: Any, **named: Any) -> None:
        fuse.reach(Point.LEASE_NOT_RELEASED)
        give_back(*given, **named)

    def watched_intents(tx: Transaction, target: Any, epoch: int, intents: Sequence[Any]) -> None:
        add_intents(tx, target, epoch, intents)
        if intents:
            open_transactions.done.add(Point.INTENT_COMMITTED)

    def watched_results(tx: Transaction, target: Any, ends: Sequence[Any]) -> Any:
        late = add_results(tx, target, ends)
        if any(end.intent_id is not None for end in ends):
            open_transactions.done.add(Point.RESULT_COMMITTED)
        return late

    def watched_trail(self: Any, event: str, info: dict[str, Any]) -> None:
        heard(self, event, info)
        if event == "http11.send_request_headers.started":
            self.is_write = info["request"].method != b"GET"
        if event == "http11.send_request_body.complete" and self.is_write:
            fuse.reach(Point.BYTES_SENT)

    with ExitStack() as stack:
        for owner, name, watched in (
            (Database, "transaction", watched_transaction),
            (leases, "take", watched_take),
            (leases, "give_back", watched_give_back),
            (results, "add_intents", watched_intents),
            (results, "add_results", watched_results),
            (wire._Trail, "__call__", watched_trail),
        ):
            stack.enter_context(patch.object(owner, name, watched))
        yield


def run(told: Told, rounds: int) -> dict[str, Any]:
    """Push the only connection as told; the report of the last push."""
    fuse, ((tenant, name),) = Fuse(told.point, told.signal), told.connections
    partner = replace(PROOFS[name], open=lambda *given: Watched(PROOFS[name].open(*given), fuse))
    with told.services() as services, seams(fuse):
        for _ in range(rounds or 1):
            if rounds:
                accumulate(services, partner, tenant)
            report = engine.push(services, partner, tenant, told.box_seconds)
    return {each.name: getattr(report, each.name) for each in fields(report) if each.type in ("int", "str | None")}


def next_to_serve(told: Told, services: Services) -> Sequence[tuple[str, str]]:
    """Of the connections, those to be served before it is asked again."""
    if not told.in_turn:
        return random.sample(told.connections, len(told.connections))
    (name,) = {name for _, name in told.connections}  # who waits is asked of one partner's tenants
    with services.database.transaction(Login.SCHEDULE, None) as tx:
        return [(tenant, name) for tenant in due.outbound(tx, name, "1")[:1]]


def serve(told: Told) -> None:
    """Accumulate and push the connections in turn until SIGTERM. A database that is away is waited for."""
    is_over = False

    def end(*_: Any) -> None:
        nonlocal is_over
        is_over = True

    signal.signal(signal.SIGTERM, end)
    with told.services() as services:
        while not is_over:
            work = 0
            for tenant, name in next_to_serve(told, services):
                try:
                    work += accumulate(services, PROOFS[name], tenant).events
                    work += engine.push(services, PROOFS[name], tenant, told.box_seconds).calls
                except DatabaseUnreachableError:
                    time.sleep(0.2)
            if not work:
                time.sleep(0.05)


def _asked_to_end(*_: Any) -> None:
    raise KeyboardInterrupt  # what a run's worker makes of SIGTERM


def push_and_tell(told: Told, ear: socket.socket) -> int:
    """The pushing process: its exit code."""
    if told.rounds is None:
        serve(told)
        return 0
    signal.signal(signal.SIGTERM, _asked_to_end)
    try:
        report = run(told, told.rounds)
    except KeyboardInterrupt:
        return CUT_OFF
    with suppress(OSError):
        ear.send(json.dumps({"report": report}, default=str).encode())
    return 0


def attend(pid: int, ear: socket.socket) -> None:
    """Tell what becomes of the process, and hand on the signals that it is to get, until it has ended."""
    while True:
        changed, status = os.waitpid(pid, os.WUNTRACED | os.WNOHANG)
        if changed and os.WIFSTOPPED(status):
            _tell(ear, stopped=True)
        elif changed:
            _tell(ear, ended=os.waitstatus_to_exitcode(status))
            return
        if select.select([ear], [], [], _POLL_SECONDS)[0]:
            wanted = ear.recv(_MOST_BYTES)
            os.kill(pid, int(wanted) if wanted else signal.SIGKILL)


def _tell(ear: socket.socket, **what: Any) -> None:
    with suppress(OSError):  # nobody listens any more
        ear.send(json.dumps(what).encode())


def obey(orders: socket.socket, perform: Callable[[dict[str, Any], socket.socket], int]) -> int:
    """Fork for every order until nobody gives any. Returns in each process that performs one too: the exit code.

    `perform` gets the order, and where it may tell how it went.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, ends, _, _ = socket.recv_fds(orders, _MOST_BYTES, 1)
        if not message:
            return 0
        with socket.socket(fileno=ends[0]) as ear:
            if os.fork():
                continue
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            orders.close()
            pid = os.fork()
            if pid == 0:
                return perform(json.loads(message), ear)
            attend(pid, ear)
            os._exit(0)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as given:
        sys.exit(obey(given, lambda order, ear: push_and_tell(Told(**order), ear)))
