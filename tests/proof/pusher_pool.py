"""The test's hand on pushers that go on (`pusher_loop`): some of them, each replaced when it is killed."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pusher_loop import Told

_TESTS = Path(__file__).resolve().parents[1]
_PATH = (_TESTS.parent, _TESTS / "proof")
_END_WITHIN = 20.0
_KILLED = -9


@dataclass
class Pool:
    """Running pushers."""

    told: Told
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    kills: int = 0

    def add(self) -> None:
        """Start another one, and wait until it is up."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(_TESTS / "proof" / "pusher_loop.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_TESTS.parent,
            env={"PYTHONPATH": ":".join(map(str, _PATH)), "PATH": ""},
        )
        self.processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(self.told.line())
        process.stdin.flush()
        assert process.stdout.readline() == "up\n"

    def kill(self, victim: subprocess.Popen[str]) -> None:
        """Kill one as a power cut does, and start another one in its place."""
        victim.kill()
        assert victim.wait() == _KILLED
        _close(victim)
        self.processes.remove(victim)
        self.kills += 1
        self.add()

    def end(self) -> list[int]:
        """End all; their exit codes. One that does not end is killed."""
        for process in self.processes:
            if process.stdin is not None:
                process.stdin.close()
        codes = []
        for process in self.processes:
            try:
                codes.append(process.wait(_END_WITHIN))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append(process.wait())
            _close(process)
        self.processes.clear()
        return codes


@contextmanager
def pushing(told: Told, count: int) -> Iterator[Pool]:
    """`count` pushers until the block ends; none is left then, and each must have ended well."""
    pool = Pool(told)
    codes: list[int] = []
    try:
        for _ in range(count):
            pool.add()
        yield pool
    finally:
        codes = pool.end()
    assert set(codes) == {0}, f"a pusher ended with {codes}"


@contextmanager
def killing(pool: Pool, every: float, seed: int) -> Iterator[None]:
    """Within the block, kill one of them now and then, `every` so many seconds on average."""
    stop, draw = threading.Event(), random.Random(seed)

    def reap() -> None:
        while not stop.wait(every * (0.5 + draw.random())):
            pool.kill(draw.choice(pool.processes))

    reaper = threading.Thread(target=reap)
    reaper.start()
    try:
        yield
    finally:
        stop.set()
        reaper.join()


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
