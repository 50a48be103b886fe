"""The test's hand on pushes in processes of their own (`push_process`)."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from push_process import Told

_TESTS = Path(__file__).resolve().parents[1]
_PATH = (_TESTS.parent, _TESTS, _TESTS / "proof", _TESTS / "integration")
_MOST_BYTES = 100_000


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
        self._line.send(str(int(signal.SIGCONT)).encode())

    def kill(self) -> None:
        """Kill it, if it still runs."""
        if "ended" not in self._heard:
            self._line.send(str(int(signal.SIGKILL)).encode())
            self.wait_for_end()

    @property
    def report(self) -> dict[str, Any]:
        """The counts of its last push; it must have ended well."""
        return dict(self._wait_for("report", 0.1))

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
    def pushing(self, told: Told) -> Iterator[Pusher]:
        """A process that pushes as told; gone when the block ends."""
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
def running_pushers() -> Iterator[Pushers]:
    """The program, until the block ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, str(_TESTS / "proof" / "push_process.py"), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=_TESTS.parent,
            env={"PYTHONPATH": ":".join(map(str, _PATH)), "PATH": ""},
        )
        theirs.close()
        with process:
            yield Pushers(ours)
            ours.close()
