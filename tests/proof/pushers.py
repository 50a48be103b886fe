"""The test's hand on pushes in processes of their own (`push_process`): one push each, or pushers that go on."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from partner import Office
from push_process import Told

from resources.logins import Logins

_TESTS = Path(__file__).resolve().parents[1]
_PATH = (_TESTS.parent, _TESTS / "proof")
_MOST_BYTES = 100_000

Order = Any
"""A dataclass that the program reads: Told, of its module."""


@dataclass
class Pusher:
    """One pushing process."""

    _line: socket.socket
    _heard: dict[str, Any] = field(default_factory=dict)

    def wait_for_end(self, seconds: float = 30.0) -> int:
        """Its exit code, negative for a signal. Fails after `seconds`."""
        return int(self._wait_for("ended", seconds))

    def wait_for_stop(self, seconds: float = 30.0) -> None:
        """Return when it has stopped itself."""
        self._wait_for("stopped", seconds)

    def go_on(self) -> None:
        """Let it go on after it has stopped."""
        del self._heard["stopped"]
        self._give(signal.SIGCONT)

    def end(self) -> None:
        """Have it end by itself."""
        self._give(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, if it still runs."""
        if "ended" not in self._heard:
            self._give(signal.SIGKILL)
            self.wait_for_end()

    @property
    def report(self) -> dict[str, Any]:
        """The counts of its last push; it must have ended well."""
        return dict(self._wait_for("report", 0.1))

    def _give(self, sign: int) -> None:
        with suppress(OSError):  # it has ended, which is to be heard yet
            self._line.send(str(int(sign)).encode())

    def _wait_for(self, what: str, seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while what not in self._heard:
            assert "ended" not in self._heard, f"it has ended ({self._heard['ended']}) before it {what}"
            self._line.settimeout(max(deadline - time.monotonic(), 0.001))
            self._heard |= json.loads(self._line.recv(_MOST_BYTES))
        return self._heard[what]


@dataclass(frozen=True)
class Pushers:
    """The program that makes pushing processes."""

    _orders: socket.socket

    @contextmanager
    def pushing(self, told: Order) -> Iterator[Pusher]:
        """A process that does as told; gone when the block ends."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                socket.send_fds(self._orders, [json.dumps(asdict(told)).encode()], [theirs.fileno()])
            pusher = Pusher(ours)
            try:
                yield pusher
            finally:
                pusher.kill()


@contextmanager
def running_pushers(program: str = "push_process.py") -> Iterator[Pushers]:
    """The program, until the block ends; another one that obeys in the same way does other work."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(_TESTS / "proof" / program), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=_TESTS.parent,
            env={"PYTHONPATH": ":".join(map(str, _PATH)), "PATH": ""},
        )
        theirs.close()
        with process:
            try:
                yield Pushers(ours)
            finally:
                ours.close()


@dataclass
class Pool:
    """Pushers that go on, each replaced when it is killed."""

    pushers: Pushers
    told: Told
    _blocks: ExitStack
    _running: list[Pusher] = field(default_factory=list)
    kills: int = 0

    def add(self) -> None:
        """Start another one."""
        self._running.append(self._blocks.enter_context(self.pushers.pushing(self.told)))

    def kill(self, draw: random.Random) -> None:
        """Kill any of them as a power cut does, and start another one in its place."""
        victim = draw.choice(self._running)
        victim.kill()
        assert victim.wait_for_end() == -signal.SIGKILL, "it had ended before"
        self._running.remove(victim)
        self.kills += 1
        self.add()

    def end(self) -> None:
        """End all; each must end well."""
        for pusher in self._running:
            pusher.end()
        codes = [pusher.wait_for_end() for pusher in self._running]
        assert set(codes) == {0}, f"a pusher ended with {codes}"


@contextmanager
def serving(count: int, logins: Logins, *offices: Office, **how: Any) -> Iterator[Pool]:
    """So many pushers that serve the offices until the block ends; `how` as Told's fields."""
    scaled = {"lease_seconds": 3.0, "call_seconds": 1.0, "box_seconds": 2.0, "under_way": 2.0, "backoff": 0.02} | how
    told = Told.of(logins, *((office.name, office.partner.name) for office in offices), rounds=None, **scaled)
    with running_pushers() as pushers, ExitStack() as blocks:
        pool = Pool(pushers, told, blocks)
        for _ in range(count):
            pool.add()
        yield pool
        pool.end()


@contextmanager
def killing(pool: Pool, every: float, seed: int) -> Iterator[None]:
    """Within the block, kill one of them now and then, `every` so many seconds on average."""
    stop, draw = threading.Event(), random.Random(seed)

    def reap() -> None:
        while not stop.wait(every * (0.5 + draw.random())):
            pool.kill(draw)

    reaper = threading.Thread(target=reap)
    reaper.start()
    try:
        yield
    finally:
        stop.set()
        reaper.join()
