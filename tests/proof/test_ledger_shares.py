"""What all share goes by weight and to people first, and a day counts anew at its reset: by the partner's own count.

Two processes call for each tenant, as often as the ledger lets them. Of the time, the later part is judged, when all
have their places.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from caller_process import Told, Work
from callers import calling
from counting_partner import refused, running_counting
from storm import IS_SOAK

from resources.logins import Logins
from zest_pipelines.core.turns import Priority

VENDOR = (600, 60) if IS_SOAK else (60, 3)
SECONDS = 120.0 if IS_SOAK else 6.0
OTHERS = 19
THREADS = 4
"""Of each tenant in each process: more wait than the calls of the next 0.4 s, which are given out without turns."""
PEOPLE = Priority.PEOPLE.value
DAY = 30
CLOCKS_APART = 5
"""Seconds by which the partner's clock may differ from the ledger's."""


@pytest.mark.parametrize(
    ("works", "least", "most"),
    [
        ([{"tenant": "heavy", "weight": 3}, {"tenant": "light"}], 0.675, 0.825),
        (
            [{"tenant": "person", "priority": PEOPLE}, *({"tenant": f"t{n}"} for n in range(OTHERS))],
            0.195 if IS_SOAK else 0.16,  # one call of the short form is a hundredth
            1,
        ),
    ],
    ids=["three to one", "people"],
)
def test_what_all_share_goes_by_weight_and_a_fifth_to_people(
    logins: Logins, works: list[dict[str, object]], least: float, most: float
) -> None:
    calls, seconds = VENDOR
    with running_counting(shared=[VENDOR]) as partner:
        work = [Work(partner.url, "shared", limits=[f"vendor:{calls}/{seconds}s"], **each) for each in works]
        with calling([Told.of(logins, work * THREADS) for _ in range(2)]):
            time.sleep(SECONDS)
            log = partner.log()
    later = [seen for seen in log if seen.at > log[0].at + SECONDS / 3]
    share = sum(seen.caller == works[0]["tenant"] for seen in later) / len(later)
    print(f"{works[0]['tenant']}: {share:.1%} of {len(later)} calls beside {len(works) - 1}")
    assert refused(log) == 0
    assert least <= share <= most


@pytest.mark.skipif(not IS_SOAK, reason="waits for a minute by the clock: a part of make soak")
def test_a_day_counts_anew_at_its_reset_and_whatever_the_partners_clock_never_too_much(logins: Logins) -> None:
    now = datetime.now(ZoneInfo("Asia/Tokyo"))
    reset = (now + timedelta(seconds=40)).replace(second=0, microsecond=0) + timedelta(minutes=1)
    left = (reset - now).total_seconds()
    reset_at = time.monotonic() + left
    with running_counting() as partner:
        work = Work(partner.url, "daily", "t0", [f"tenant:{DAY}/1d@{reset:%H:%M}"], priority=PEOPLE)
        with calling([Told.of(logins, [work] * 2) for _ in range(2)]):
            time.sleep(left + 30)
            log = partner.log()
    for off in range(-CLOCKS_APART, CLOCKS_APART + 1):
        before = sum(seen.at < reset_at + off for seen in log)
        assert before <= DAY
        assert len(log) - before <= DAY
    spread = [round(seen.at - reset_at, 1) for seen in log]
    print(f"{len(log)} calls, seconds from the reset: {spread}")
    assert len(log) >= 2 * DAY - 2
