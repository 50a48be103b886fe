"""The test's hand on processes that call through the ledger (`caller_process`), and on what may befall them."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from caller_process import Told

_TESTS = Path(__file__).resolve().parents[1]
_PATH = (_TESTS.parent, _TESTS / "proof")


@dataclass
class Callers:
    """Processes that call, each replaced when it is killed."""

    told: Sequence[Told]
    """One for each process."""
    _running: list[subprocess.Popen[str]] = field(default_factory=list)
    _dead: list[subprocess.Popen[str]] = field(default_factory=list)
    freezes: int = 0

    @property
    def kills(self) -> int:
        """How many were killed."""
        return len(self._dead)

    def start(self) -> None:
        """Start all, and return when all call."""
        self._running = [_started(told) for told in self.told]
        for process in self._running:
            _wait_ready(process)

    def start_in_turn(self) -> None:
        """Start one when the other calls already."""
        for told in self.told:
            self._running.append(_started(told))
            _wait_ready(self._running[-1])

    def freeze(self, draw: random.Random, seconds: float) -> None:
        """Stop any of them for so long, as a suspended machine does."""
        victim = draw.choice(self._running)
        victim.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        victim.send_signal(signal.SIGCONT)
        self.freezes += 1

    def kill(self, draw: random.Random) -> None:
        """Kill any of them as a power cut does; another one with another seed takes its place."""
        number = draw.randrange(len(self._running))
        fresh = _started(replace(self.told[number], seed=draw.randrange(1_000_000)))
        _wait_ready(fresh)
        victim, self._running[number] = self._running[number], fresh
        victim.kill()
        self._dead.append(victim)

    def end(self) -> None:
        """End all. Fails if one had ended by itself: a caller that broke down would look like restraint."""
        codes = [process.poll() for process in self._running]
        for process in self._running + self._dead:
            process.kill()
            process.communicate()
        assert set(codes) == {None}, f"a caller ended with {codes}"


@contextmanager
def calling(told: Sequence[Told], *, in_turn: bool = False) -> Iterator[Callers]:
    """So many processes that call as told, until the block ends; `in_turn`: started one by one, in that order."""
    callers = Callers(told)
    try:
        (callers.start_in_turn if in_turn else callers.start)()
        yield callers
    finally:
        callers.end()


@contextmanager
def now_and_then(act: Callable[[random.Random], None], every: float, seed: int) -> Iterator[None]:
    """Within the block, do it again and again, with `every` so many seconds between on average."""
    stop, draw = threading.Event(), random.Random(seed)

    def go_on() -> None:
        while not stop.wait(every * (0.5 + draw.random())):
            act(draw)

    hand = threading.Thread(target=go_on)
    hand.start()
    with ExitStack() as stack:
        stack.callback(hand.join)
        stack.callback(stop.set)
        yield


def _started(told: Told) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(_TESTS / "proof" / "caller_process.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_TESTS.parent,
        env={"PYTHONPATH": ":".join(map(str, _PATH)), "PATH": ""},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(told)) + "\n")
    process.stdin.flush()
    return process


def _wait_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", "a caller did not start"
