"""Work for several keys at once: how many, in which order they are told, and what a fault does."""

from __future__ import annotations

import threading

import pytest

from zest_pipelines.orchestration.at_once import at_once


def test_one_that_waits_holds_up_none_of_those_behind_it() -> None:
    over = threading.Event()

    def work(key: str) -> str:
        if key == "slow":
            assert over.wait(10), "the others were not done meanwhile"
        return key.upper()

    told = []
    for key, done in at_once(["slow", "a", "b", "c"], work, 2):
        told.append((key, done))
        if key == "c":
            over.set()

    assert told == [("a", "A"), ("b", "B"), ("c", "C"), ("slow", "SLOW")]


def test_no_more_are_under_way_than_allowed_and_each_is_told_by_the_callers_thread() -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def work(_key: int) -> str:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        threading.Event().wait(0.005)
        with lock:
            under_way -= 1
        return threading.current_thread().name

    threads = {name for _, name in at_once(range(30), work, 4)}

    assert most == 4
    assert threading.current_thread().name not in threads
    assert len(threads) <= 4


def test_keys_are_taken_only_when_there_is_room_for_them() -> None:
    taken: list[int] = []

    def keys() -> object:
        for key in range(5):
            taken.append(key)
            yield key

    running = at_once(keys(), lambda key: key, 2)
    first, _ = next(running)

    assert len(taken) <= 4
    assert {first, *(key for key, _ in running)} == {0, 1, 2, 3, 4}


def test_what_the_work_raises_is_raised_after_those_under_way_have_ended_and_begins_no_more() -> None:
    begun: list[str] = []
    ended: list[str] = []

    def work(key: str) -> None:
        begun.append(key)
        if key == "bad":
            raise ValueError("of the second")
        threading.Event().wait(0.05)
        ended.append(key)

    with pytest.raises(ValueError, match="of the second"):
        list(at_once(["good", "bad", "later"], work, 2))

    assert (begun, ended) == (["good", "bad"], ["good"])
