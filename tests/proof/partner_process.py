"""The partner for proofs as a process of its own, started, told and asked by a test."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

Row = dict[str, Any]
_PROGRAM = Path(__file__).with_name("partner_server.py")


@dataclass(frozen=True)
class RunningPartner:
    """The handle on a running partner. All goes through its control port, which faults do not touch."""

    url: str
    """Without a slash at its end. A connection's address has two parts more: class and tenant."""
    process: subprocess.Popen[str]
    _control: httpx.Client

    def log(self, after: int = 0) -> list[Row]:
        """Rows with a `seq` above `after`, in the order in which the calls were dealt with.

        seq, at, method, recovery (the class), space (the tenant), kind, partner_id, record_id, version, key, status (0:
        none was sent), effect (created, updated, cancelled, edited, none), in_flight, fault, batch (how many came with
        it in one call), call (a number that they share).
        """
        rows: list[Row] = self._tell("log", after=after)
        return rows

    def state(self) -> list[Row]:
        """All copies: recovery, space, kind, partner_id, record_id, version, revision, content, is_cancelled."""
        rows: list[Row] = self._tell("state")
        return rows

    def configure(self, latency: float) -> None:
        """Answer each call so many seconds after its effect."""
        self._tell("configure", latency=latency)

    def fail(self, kind: str, **how: Any) -> None:
        """Add a fault (kinds: partner_server.FAULTS; how: the fields of Fault). The first that fires decides."""
        self._tell("fail", kind=kind, **how)

    def heal(self) -> None:
        """Drop all faults."""
        self._tell("heal")

    def hold(self, *, is_applied: bool = False, times: int | None = 1, **whose: Any) -> None:
        """Hold the next write until it is released, before or after its effect."""
        self.fail("hold_after" if is_applied else "hold_before", times=times, **whose)

    def wait_held(self, calls: int = 1, seconds: float = 10.0) -> list[str]:
        """Wait until so many calls are held; the ids of their records."""
        deadline = time.monotonic() + seconds
        while len(held := self._tell("held")) < calls:
            assert time.monotonic() < deadline, f"{len(held)} calls are held, not {calls}"
            time.sleep(0.005)
        return list(held)

    def release(self) -> None:
        """Let go of all that is held: it is applied, if it was not yet, even if its caller is gone."""
        self._tell("release")

    def die(self) -> None:
        """Cut every line and refuse new ones, until it is revived. What was applied is kept."""
        self._tell("die")

    def revive(self) -> None:
        """Listen again, at the same address."""
        self._tell("revive")

    def edit(self, recovery: str, space: str, record_id: object, *, kind: str = "visits", **content: Any) -> None:
        """Change a record as the partner's own people do; cancelled=True cancels it."""
        self._tell("edit", place=[recovery, space, kind], record_id=str(record_id), content=content)

    def reset(self) -> None:
        """Forget records, keys and log."""
        self._tell("reset")

    def _tell(self, what: str, **how: Any) -> Any:
        answer = self._control.post(f"/{what}", json=how)
        answer.raise_for_status()
        return answer.json()["answer"]


@contextmanager
def running_partner(latency: float = 0.0) -> Iterator[RunningPartner]:
    """A partner on loopback, gone at the end of the block, or with this process."""
    with subprocess.Popen(
        [sys.executable, "-I", str(_PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            ports = json.loads(process.stdout.readline())
            control = f"http://127.0.0.1:{ports['control']}"
            with httpx.Client(base_url=control, timeout=60, trust_env=False) as client:
                running = RunningPartner(f"http://127.0.0.1:{ports['calls']}", process, client)
                running.configure(latency)
                yield running
        finally:
            process.kill()
