"""One client may serve several threads; each exchange has a deadline of its own."""

from __future__ import annotations

import threading

import httpcore
import pytest

from resources.deadline import Deadline


def test_an_exchange_of_one_thread_does_not_move_the_deadline_of_another() -> None:
    deadline = Deadline()
    deadline.begin(1)
    other = threading.Thread(target=deadline.begin, args=(1000,))
    other.start()
    other.join()
    assert 0 < deadline.left(None, httpcore.ReadTimeout) <= 1


def test_the_time_left_is_never_more_than_asked_for_and_never_zero() -> None:
    deadline = Deadline()
    deadline.begin(60)
    assert deadline.left(5, httpcore.ReadTimeout) == 5
    with pytest.raises(httpcore.WriteTimeout):
        deadline.left(0, httpcore.WriteTimeout)
    deadline.begin(0)
    with pytest.raises(httpcore.ReadTimeout):
        deadline.left(None, httpcore.ReadTimeout)
