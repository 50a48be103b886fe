"""When a lane goes on by itself, and when it waits to be told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from zest_pipelines.flows.lanes import Lanes


def line() -> Any:
    gate = SimpleNamespace(calls=0, shut=lambda: None)
    return SimpleNamespace(gate=gate)


def job(begun: list[str], name: str, go: threading.Event | None = None) -> Callable[[Any], str]:
    def run(_: Any) -> str:
        begun.append(name)
        if go is not None:
            assert go.wait(5)
        return name

    return run


def test_a_lane_goes_on_by_itself_after_a_plain_answer_and_waits_after_any_other() -> None:
    """Also where an older answer is heeded while its next one is on the way."""
    begun: list[str] = []
    go = threading.Event()
    with Lanes[str](lambda answer: answer.startswith("plain")) as lanes:
        lanes.add(line())
        lanes.start(job(begun, "plain 1"))
        lanes.start(job(begun, "refused", go))
        lanes.start(job(begun, "plain 2"))
        heard = lanes.wait(5)
        assert heard == ["plain 1"]
        lanes.go_on()
        go.set()
        assert lanes.wait(5) == ["refused"]
        time.sleep(0.05)
        assert begun == ["plain 1", "refused"]
        lanes.go_on()
        assert lanes.wait(5) == ["plain 2"]


def interrupted(begun: list[str]) -> None:
    """Two jobs for one lane, whose first answer is heard and never heeded."""
    with Lanes[str](lambda _: False) as lanes:
        lanes.add(line())
        lanes.start(job(begun, "one"))
        lanes.start(job(begun, "two"))
        lanes.wait(5)
        raise KeyboardInterrupt


def test_a_block_that_raises_waits_for_every_lane_whether_it_was_heeded_or_not() -> None:
    begun: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(begun)
    assert begun == ["one", "two"]
    assert [each for each in threading.enumerate() if each.name == "lane"] == []


def test_what_a_job_raises_is_raised_by_the_wait_for_it() -> None:
    def fails(_: Any) -> str:
        raise ValueError("it is broken")

    with Lanes[str](lambda _: True) as lanes:
        lanes.add(line())
        lanes.start(fails)
        with pytest.raises(ValueError, match="it is broken"):
            lanes.wait(5)
