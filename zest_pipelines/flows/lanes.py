"""Lanes: threads that make a push's calls while its coordinator keeps the tables.

A lane has a line of its own and touches nothing else: a job comes in, its answer goes out. There may be more jobs than
lanes: whichever is free next takes the first of them, and need not wait for the coordinator. Only after an answer that
may change what is to be done does a lane wait until that is heeded.

The coordinator never waits for one lane while others have answered, and never leaves before all have ended. A lane
decides nothing and stores nothing: one that is cut off leaves what any dead process leaves, an intent without an end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Thread
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

    def __init__(self, is_plain: Callable[[T], bool]) -> None:
        """`is_plain`: whether a lane may go on after such an answer before it is heeded."""
        self._is_plain = is_plain
        self._jobs: SimpleQueue[Job[T] | None] = SimpleQueue()
        self._answers: SimpleQueue[_Answer[T]] = SimpleQueue()
        self._lanes: list[_Lane[T]] = []
        self._waiting: list[_Lane[T]] = []
        """Who wait until the answers that were handed on are heeded."""
        self._given = 0

    def __enter__(self) -> Lanes[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is not None:
            self.shut()  # the calls under way end by their deadlines; none follows
        for lane in self._lanes:
            self._jobs.put(None)
            lane.end()
        for lane in self._lanes:
            lane.join()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._lanes)

    @property
    def busy(self) -> int:
        """How many jobs they were given whose answers were not handed on yet."""
        return self._given

    @property
    def calls(self) -> int:
        """How many calls all of them have made."""
        return sum(lane.line.gate.calls for lane in self._lanes)

    def add(self, line: Line) -> None:
        """One more lane."""
        self._lanes.append(_Lane(line, self._jobs, self._answers, self._is_plain))

    def start(self, job: Job[T]) -> None:
        """Give the job to a lane that is free, or to the one that is so next; there must be a lane."""
        self._given += 1
        self._jobs.put(job)

    def go_on(self) -> None:
        """All answers that were handed on are heeded: the lanes that wait for that may take further jobs."""
        for lane in self._waiting:
            lane.go_on()
        self._waiting.clear()

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
        self._given -= 1
        if isinstance(answer, _Fault):
            raise answer.error
        if not self._is_plain(answer):
            self._waiting.append(lane)
        return [answer]


class _Lane(Generic[T]):
    def __init__(
        self,
        line: Line,
        jobs: SimpleQueue[Job[T] | None],
        answers: SimpleQueue[_Answer[T]],
        is_plain: Callable[[T], bool],
    ) -> None:
        self.line = line
        self._jobs, self._answers, self._is_plain = jobs, answers, is_plain
        self._may_go_on = Event()
        self._is_ending = False
        self._thread = Thread(target=self._work, name="lane", daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        self._may_go_on.set()

    def end(self) -> None:
        """Wait for nobody any more."""
        self._is_ending = True
        self._may_go_on.set()

    def join(self) -> None:
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._may_go_on.clear()
            try:
                answer: T | _Fault = job(self.line)
            except BaseException as error:  # noqa: BLE001  # it is the coordinator's to say what a fault ends
                answer = _Fault(error)
            self._answers.put((self, answer))
            is_plain = not isinstance(answer, _Fault) and self._is_plain(answer)
            if not is_plain and not self._is_ending:
                self._may_go_on.wait()


@dataclass(frozen=True)
class _Fault:
    error: BaseException


_Answer = tuple[_Lane[T], T | _Fault]
