"""Runs the processes of one machine, and leaves none behind.

One owner, no threads: the owner calls `run` (or `tick`), and everything happens in there. Each child is the
head of a session of its own, and signals go to its whole group, since Dagster's processes start others.
When the supervisor is killed outright, the orphan guard beside it ends the groups.

    start -> up -- its head ends --> down (SIGTERM to the rest)
              ^                       |
              +-- restarts, delay over (SIGKILL to the rest) --> cleared, if it does not restart
    stop: SIGTERM, then SIGKILL after the grace period, last started first
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from zest_pipelines.local.orphan_guard import group_lives, signal_group

_log = logging.getLogger(__name__)

_TICK = 0.2  # seconds between looks at the children
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

FIRST_DELAY = 1.0  # seconds before the first restart; doubles
LONGEST_DELAY = 30.0
STABLE_AFTER = 60.0  # a child that lived this long begins anew with FIRST_DELAY


class SupervisorError(Exception):
    """A child cannot do its work; the message names its log."""


class StopRequestedError(Exception):
    """A signal asked for the end while a child was starting: unwind, the children are ended on the way."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process to run."""

    name: str  # also its log's: logs/<name>.log
    argv: Sequence[str]
    # On top of the supervisor's own; may hold passwords.
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready: Callable[[], bool] | None = None  # asked until true before `start` returns
    restarts: bool = True


@dataclass(slots=True)
class _Running:
    child: Child
    process: subprocess.Popen[bytes]
    started_at: float
    failures: int = 0  # in a row, without a stable life between
    clear_at: float | None = None  # set while its head is down and its group may not be
    cleared: bool = False  # nothing of it is left; its number may be another's by now


def restart_delay(failures: int) -> float:
    """Seconds before the restart after this many failures in a row (1 or more): 1, 2, 4 ... at most 30."""
    return float(min(LONGEST_DELAY, FIRST_DELAY * 2 ** (failures - 1)))


def wait_until(
    predicate: Callable[[], bool],
    timeout: float,
    interval: float = _TICK,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Ask `predicate` every `interval` seconds, at least once, until it is true; False after `timeout` s."""
    deadline = clock() + timeout
    while not predicate():
        if clock() >= deadline:
            return False
        sleep(interval)
    return True


class Supervisor:
    """Use it in a `with`, in the main thread: it takes SIGTERM, SIGINT and SIGHUP, and ends all on leaving.

    A signal interrupts nothing halfway: `run` returns, and `start` raises StopRequestedError. A second Ctrl-C
    cuts the children's grace period short.
    """

    def __init__(
        self,
        logs: Path,
        *,
        grace: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        beside: Callable[[], None] | None = None,
    ) -> None:
        """`beside` is called at every tick: it looks after what the children need and is no child."""
        self._logs = logs
        self._beside = beside
        self._grace = grace
        self._clock = clock  # decides about restarts alone
        self._running: dict[str, _Running] = {}
        self._signals: list[int] = []
        self._restore: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        self._guard = self._new_guard()
        for number in _SIGNALS:
            former = signal.signal(number, self._note_signal)
            self._restore.append(functools.partial(signal.signal, number, former))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self._dismiss_guard()  # by now it has nothing noted
            while self._restore:
                self._restore.pop()()

    @property
    def stop_requested(self) -> bool:
        """Whether a signal has asked for the end."""
        return bool(self._signals)

    def start(self, child: Child, timeout: float = 60.0) -> None:
        """Run `child` and return when it is ready.

        Raises SupervisorError if it is not ready within `timeout` seconds or, for a child that is not
        restarted, ends before; StopRequestedError after a signal.
        """
        if child.name in self._running:
            raise SupervisorError(f"{child.name} is running already")
        self._running[child.name] = _Running(child, self._spawn(child), self._clock())
        if child.ready is not None and not wait_until(lambda: self._is_ready(child), timeout):
            raise SupervisorError(f"{child.name} was not ready within {timeout:g} s: see {self.log(child.name)}")

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Look after the children until `until` is true or a signal asks for the end."""
        while not self.stop_requested and not (until is not None and until()):
            self.tick()
            time.sleep(_TICK)

    def tick(self) -> None:
        """Note who has ended, and restart who is due, the guard too. Waits for nothing but `beside`."""
        if self._guard.poll() is not None:
            self._replace_guard()
        if self._beside is not None:
            self._beside()
        for entry in self._running.values():
            if entry.clear_at is not None and self._clock() >= entry.clear_at:
                self._clear(entry)
            if entry.clear_at is None and not entry.cleared and entry.process.poll() is not None:
                self._note_end(entry)

    def pid(self, name: str) -> int | None:
        """The child's process, None while it is down."""
        process = self._running[name].process
        return process.pid if process.poll() is None else None

    def exit_code(self, name: str) -> int | None:
        """How the child last ended: its code, minus the signal that killed it, or None while it lives."""
        return self._running[name].process.poll()

    def log(self, name: str) -> Path:
        """Where the child's output goes."""
        return self._logs / f"{name}.log"

    def stop(self) -> None:
        """End all children, last started first, each with its whole group."""
        while self._running:
            _, entry = self._running.popitem()
            self._end(entry)

    def _is_ready(self, child: Child) -> bool:
        assert child.ready is not None
        if self.stop_requested:
            raise StopRequestedError
        self.tick()
        code = self.exit_code(child.name)
        if code is not None and not child.restarts:
            raise SupervisorError(f"{child.name} ended with {code}: see {self.log(child.name)}")
        return code is None and child.ready()

    def _spawn(self, child: Child) -> subprocess.Popen[bytes]:
        with _appending(self.log(child.name)) as output, _as_supervisor_error(child):
            return subprocess.Popen(  # noqa: S603 (the owner's own commands)
                list(child.argv),
                env={**os.environ, **child.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # In the child, before it becomes its program: no moment in which the guard does not know it.
                preexec_fn=self._note_own_group,
            )

    def _new_guard(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 (our own script)
            [sys.executable, "-I", str(Path(__file__).with_name("orphan_guard.py")), str(self._grace)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # out of reach of a signal meant for the supervisor's group
        )

    def _dismiss_guard(self) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()  # its end of input
        self._guard.wait()

    def _replace_guard(self) -> None:
        _log.warning("the orphan guard ended with %s and is started again", self._guard.returncode)
        self._dismiss_guard()
        self._guard = self._new_guard()
        for entry in self._running.values():
            if not entry.cleared:
                self._tell_guard("+", entry.process.pid)

    def _note_own_group(self) -> None:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as in the supervisor: the guard may have died this moment
        self._tell_guard("+", os.getpid())
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    def _tell_guard(self, sign: str, group: int) -> None:
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a dead guard must not keep children from their work
            os.write(self._guard.stdin.fileno(), f"{sign}{group}\n".encode())

    def _note_end(self, entry: _Running) -> None:
        name, code = entry.child.name, entry.process.returncode
        signal_group(entry.process.pid, signal.SIGTERM)
        stable = self._clock() - entry.started_at >= STABLE_AFTER
        entry.failures = 1 if stable else entry.failures + 1
        delay = restart_delay(entry.failures)
        entry.clear_at = self._clock() + delay
        if entry.child.restarts:
            _log.warning("%s ended with %s, restart in %g s: see %s", name, code, delay, self.log(name))

    def _clear(self, entry: _Running) -> None:
        """Nothing of the former life may be left, as it may hold the port that the next one needs."""
        signal_group(entry.process.pid, signal.SIGKILL)
        self._tell_guard("-", entry.process.pid)
        entry.clear_at = None
        if entry.child.restarts:
            entry.process = self._spawn(entry.child)
            entry.started_at = self._clock()
        else:
            entry.cleared = True

    def _end(self, entry: _Running) -> None:
        if entry.cleared:
            return
        group = entry.process.pid
        signal_group(group, signal.SIGTERM)

        def is_gone_or_hurried() -> bool:
            entry.process.poll()  # without /proc, a dead head that nobody waited for counts as a member
            return not group_lives(group) or self._signals.count(signal.SIGINT) > 1

        wait_until(is_gone_or_hurried, self._grace, interval=0.05)
        signal_group(group, signal.SIGKILL)
        entry.process.wait()
        self._tell_guard("-", group)

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)


@contextlib.contextmanager
def _as_supervisor_error(child: Child) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SupervisorError(f"{child.name} cannot be started: {error.strerror} ({child.argv[0]})") from error


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[int]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
