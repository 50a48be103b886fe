"""Lanes: threads that make a push's calls while its coordinator keeps the tables.

A lane has a line of its own and touches nothing else: a job comes in, its answer goes out. The coordinator never waits
for one lane while others have answered, and never leaves before all have ended. A lane decides nothing and stores
nothing, so one that is cut off leaves what any dead process leaves: an intent without an end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Generic, TypeVar

from zest_pipelines.flows.opening import Line

T = TypeVar("T")
Job = Callable[[Line], T]

_FEW = 4
"""Lanes at work up to which each answer is handed on at once."""
_GATHER_SECONDS = 0.003
"""How long the first of many answers waits for others: they share a transaction."""


class Lanes(Generic[T]):
    """The lanes of one push, used by its coordinator alone. All have ended when the block ends."""

    def __init__(self) -> None:
        self._answers: SimpleQueue[_Answer[T]] = SimpleQueue()
        self._lanes: list[_Lane[T]] = []
        self._free: list[_Lane[T]] = []

    def __enter__(self) -> Lanes[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is not None:
            self.shut()  # the calls under way end by their deadlines; none follows
        for lane in self._lanes:
            lane.end()
        for lane in self._lanes:
            lane.join()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._lanes)

    @property
    def free(self) -> int:
        """How many have nothing to do."""
        return len(self._free)

    @property
    def busy(self) -> int:
        """How many are at work, or have answered and were not heard yet."""
        return len(self._lanes) - len(self._free)

    @property
    def calls(self) -> int:
        """How many calls all of them have made."""
        return sum(lane.line.gate.calls for lane in self._lanes)

    def add(self, line: Line) -> None:
        """One more lane."""
        self._lanes.append(_Lane(line, self._answers))
        self._free.append(self._lanes[-1])

    def start(self, job: Job[T]) -> None:
        """Give the job to a lane that is free; there must be one."""
        self._free.pop().start(job)

    def shut(self) -> None:
        """Let no further call begin in any lane."""
        for lane in self._lanes:
            lane.line.gate.shut()

    def wait(self, seconds: float) -> list[T]:
        """The answers that have come, at least one unless none comes in so many seconds.

        Raises what a job raised: a fault that concerns more than its record.
        """
        is_many = self.busy > _FEW
        heard = self._heard(seconds)
        if heard and is_many:
            time.sleep(_GATHER_SECONDS)  # to wake up for each of them would take the lanes' time
        while self.busy and (more := self._heard(0.0)):
            heard += more
        return heard

    def _heard(self, seconds: float) -> list[T]:
        """The next answer, if one comes in so many seconds."""
        try:
            lane, answer = self._answers.get(timeout=seconds)
        except Empty:
            return []
        self._free.append(lane)
        if isinstance(answer, _Fault):
            raise answer.error
        return [answer]


class _Lane(Generic[T]):
    def __init__(self, line: Line, answers: SimpleQueue[_Answer[T]]) -> None:
        self.line = line
        self._answers = answers
        self._jobs: SimpleQueue[Job[T] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="lane", daemon=True)
        self._thread.start()

    def start(self, job: Job[T]) -> None:
        self._jobs.put(job)

    def end(self) -> None:
        self._jobs.put(None)

    def join(self) -> None:
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                answer: T | _Fault = job(self.line)
            except BaseException as error:  # noqa: BLE001  # it is the coordinator's to say what a fault ends
                answer = _Fault(error)
            self._answers.put((self, answer))


@dataclass(frozen=True)
class _Fault:
    error: BaseException


_Answer = tuple[_Lane[T], T | _Fault]
