"""What the parts of the demo share: the processes, and what a person sees while they work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from zest_pipelines.local.supervisor import Child, StopRequestedError, Supervisor
from zest_pipelines.store.errors import DatabaseUnreachableError

_PATIENCE = 180.0  # seconds for one phase
_LOOK_EVERY = 3.0  # seconds; a look reads both sides whole


@dataclass(frozen=True)
class Stage:
    """The demo's supervisor and console."""

    supervisor: Supervisor
    console: Console
    started_at: float
    """By time.monotonic()."""

    def say(self, what: str) -> None:
        """A line of progress. Raises StopRequestedError if a signal came."""
        if self.supervisor.stop_requested:
            raise StopRequestedError
        self.console.print(f"[dim]{time.monotonic() - self.started_at:4.0f} s[/dim]  {what}", soft_wrap=True)

    def start(self, child: Child) -> None:
        """As Supervisor.start, but raises StopRequestedError before it too."""
        if self.supervisor.stop_requested:
            raise StopRequestedError
        self.supervisor.start(child)

    def wait(self, what: str, count_left: Callable[[], int]) -> bool:
        """Look until nothing is left, and say so; False if it takes too long. Raises StopRequestedError."""
        self.say(what)
        columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            watch = _Watch(count_left, progress)
            self.supervisor.run(until=watch.is_over)
        if self.supervisor.stop_requested:
            raise StopRequestedError
        self.say("... done" if watch.left == 0 else f"... not in time: {watch.left} are left")
        return watch.left == 0


class _Watch:
    """Counts now and then what is left, and moves the bar."""

    def __init__(self, count_left: Callable[[], int], progress: Progress) -> None:
        self.left: int | None = None
        self._count_left = count_left
        self._progress = progress
        self._task = progress.add_task("done", total=None)
        self._next_at = 0.0
        self._give_up_at = time.monotonic() + _PATIENCE
        self._most = 0

    def is_over(self) -> bool:
        """Whether nothing is left, or patience."""
        now = time.monotonic()
        if now < self._next_at:
            return False
        # What does not answer is being restarted: look again.
        with contextlib.suppress(httpx.HTTPError, DatabaseUnreachableError):
            self.left = self._count_left()
        self._next_at = time.monotonic() + _LOOK_EVERY
        self._show()
        return self.left == 0 or now > self._give_up_at

    def _show(self) -> None:
        if self.left is not None:
            self._most = max(self._most, self.left)
            self._progress.update(self._task, total=self._most, completed=self._most - self.left)
