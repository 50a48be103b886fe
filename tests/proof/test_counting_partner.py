"""The judge is judged: the partner that counts refuses the first call too many, and its log is read rightly."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from counting_partner import CountingPartner, Seen, of_each, refused, running_counting, utilisation, worst


def statuses(partner: CountingPartner, caller: str, calls: int) -> list[int]:
    def call(_: int) -> int:
        try:
            with urlopen(f"{partner.url}/{caller}/appointments", timeout=10) as answer:
                return int(answer.status)
        except HTTPError as error:
            error.close()
            return error.code

    with ThreadPoolExecutor(calls) as pool:
        return sorted(pool.map(call, range(calls)))


def admitted(*times: float) -> list[Seen]:
    return [Seen(at, "a", True, 1) for at in times]


def test_each_caller_has_a_limit_of_its_own_and_all_together_another() -> None:
    with running_counting(per_caller=[(2, 60.0)], shared=[(3, 60.0)]) as partner:
        assert statuses(partner, "a", 3) == [200, 200, 429]
        assert statuses(partner, "b", 2) == [200, 429]
        assert {caller: (len(log), refused(log)) for caller, log in of_each(partner.log()).items()} == {
            "a": (3, 1),
            "b": (2, 1),
        }


def test_a_call_leaves_the_window_after_its_seconds() -> None:
    # The fixed windows turn over within the wait too: a call is refused for no more than one window.
    with running_counting(per_caller=[(1, 0.3)]) as partner:
        assert statuses(partner, "a", 2) == [200, 429]
        time.sleep(0.35)
        assert statuses(partner, "a", 1) == [200]


def test_calls_in_flight_are_counted_until_they_are_answered() -> None:
    with running_counting(in_flight=2, latency=0.2) as partner:
        assert statuses(partner, "a", 3) == [200, 200, 429]
        assert statuses(partner, "a", 2) == [200, 200]


def test_a_limit_can_shrink_while_it_runs() -> None:
    with running_counting(per_caller=[(4, 60.0)]) as partner:
        partner.allow(0.5)
        assert statuses(partner, "a", 3) == [200, 200, 429]


@pytest.mark.parametrize(("times", "most"), [((0.0, 1.0, 2.0), 2), ((0.0, 1.9, 2.1), 2), ((0.0, 0.1, 1.9), 3)])
def test_the_worst_window_is_half_open(times: tuple[float, ...], most: int) -> None:
    assert worst(admitted(*times), 2.0) == most


def test_the_use_is_that_of_the_gaps_between_calls() -> None:
    assert utilisation(admitted(0.0, 0.5, 1.0, 1.5, 2.0), (4, 1.0)) == 0.5
    assert utilisation(admitted(0.0), (4, 1.0)) == 0.0
