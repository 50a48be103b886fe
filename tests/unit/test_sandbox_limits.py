"""The sandbox's limit oracles: they judge the ledger, so they are held against counting by hand."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partners.fhir.sandbox import FixedRule, InFlightRule, LeakyRule, SlidingRule
from partners.fhir.sandbox.dialects import Dialect, refusal
from partners.fhir.sandbox.gates import in_flight
from partners.fhir.sandbox.levels import InFlight, LeakyBucket
from partners.fhir.sandbox.limit_book import LimitBook, caller_name
from partners.fhir.sandbox.limits import Counts, FixedWindow, Oracle, SlidingLog, Standing, admit

GAPS = st.lists(st.integers(0, 40).map(lambda quarters: quarters / 4), max_size=60)
"""Seconds between calls. Quarters, so that sums are exact and calls fall on the very edges of windows."""
CALLS, SECONDS = st.integers(1, 5), st.integers(1, 20)


def instants(gaps: list[float]) -> list[float]:
    """When the calls come."""
    return [sum(gaps[: place + 1]) for place in range(len(gaps))]


def admitted(oracle: Oracle, at: list[float]) -> list[float]:
    """The instants of `at` at which a call was admitted."""
    return [now for now in at if admit([oracle], now) == 0]


@given(CALLS, SECONDS, GAPS)
def test_a_sliding_log_admits_exactly_when_fewer_than_its_calls_are_in_the_window(
    calls: int, seconds: int, gaps: list[float]
) -> None:
    log, inside_all = SlidingLog(calls, seconds), list[float]()
    for now in instants(gaps):
        inside = [at for at in inside_all if at > now - seconds]
        wait = admit([log], now)
        assert (wait == 0) == (len(inside) < calls)
        if wait == 0:
            inside_all.append(now)
        else:
            then = now + wait
            assert len([at for at in inside_all if at > then - seconds]) < calls, "who waits as told is admitted"
            assert len([at for at in inside_all if at > then - 0.25 - seconds]) >= calls, "and no sooner"
    assert log.counts.admitted == len(inside_all)


@given(CALLS, SECONDS, GAPS)
def test_no_half_open_window_of_a_sliding_log_holds_more_than_its_calls(
    calls: int, seconds: int, gaps: list[float]
) -> None:
    log, at = SlidingLog(calls, seconds), instants(gaps)
    taken = admitted(log, at)
    most = max((sum(start <= each < start + seconds for each in taken) for start in taken), default=0)
    assert most <= calls
    assert log.counts.peak == most
    came = max((sum(start <= each < start + seconds for each in at) for start in at), default=0)
    assert (log.counts.seen, log.counts.over) == (came, max(0, came - calls))


@given(CALLS, SECONDS, st.integers(-100, 100), GAPS)
def test_a_fixed_window_admits_the_first_calls_of_each_window_and_no_other(
    calls: int, seconds: int, offset: int, gaps: list[float]
) -> None:
    window, at = FixedWindow(calls, seconds, offset), instants(gaps)
    by_window: dict[int, list[float]] = {}
    for now in at:
        by_window.setdefault(math.floor((now - offset) / seconds), []).append(now)
    assert admitted(window, at) == [now for group in by_window.values() for now in group[:calls]]
    came = max(map(len, by_window.values()), default=0)
    assert (window.counts.peak, window.counts.seen) == (min(came, calls), came)


def test_a_fixed_window_tells_the_seconds_to_the_next() -> None:
    window = FixedWindow(1, 60, offset=10)
    assert (admit([window], 69), admit([window], 69.5)) == (0, 0.5)
    assert (admit([window], 70), admit([window], 71)) == (0, 59)


@given(st.integers(1, 6), st.sampled_from([0.25, 0.5, 1.0, 2.0]), GAPS)
def test_a_leaky_bucket_never_overflows_and_never_refuses_what_fits(size: int, leak: float, gaps: list[float]) -> None:
    bucket, level, before = LeakyBucket(size, leak), 0.0, 0.0
    for now in instants(gaps):
        level, before = max(0.0, level - (now - before) * leak), now
        wait = admit([bucket], now)
        assert (wait == 0) == (level + 1 <= size)
        if wait == 0:
            level += 1
        else:
            assert level - wait * leak + 1 == size, "the wait is exact"
    assert bucket.counts.peak <= size


def test_a_leaky_bucket_keeps_a_pace_that_no_float_holds_exactly() -> None:
    bucket = LeakyBucket(1, 10)
    assert [admit([bucket], call * 0.1) for call in range(1000)] == [0.0] * 1000


def test_seats_are_taken_from_the_begin_to_the_end_of_a_call() -> None:
    seats = InFlight(2)
    assert [admit([seats], 0) for _ in range(3)] == [0, 0, 1]
    seats.release()
    assert [admit([seats], 0) for _ in range(2)] == [0, 1]
    assert seats.counts == Counts(admitted=3, refused=2, peak=2)


def test_a_call_is_admitted_by_all_or_counted_by_none() -> None:
    wide, narrow = SlidingLog(3, 10), SlidingLog(1, 60)
    assert [admit([wide, narrow], now) for now in (0, 1)] == [0, 59]
    assert wide.counts == Counts(admitted=1, refused=0, peak=1, seen=2)
    assert narrow.counts == Counts(admitted=1, refused=1, peak=1, seen=2, over=1)
    assert [admit([wide], now) for now in (2, 3, 4)] == [0, 0, 6], "the refused call takes no place in the wide one"


@pytest.mark.parametrize(
    ("oracle", "fresh", "later", "used"),
    [
        (SlidingLog(2, 60), Standing(2, 60, 2, 0), 20, Standing(2, 60, 0, 45)),
        (FixedWindow(2, 60), Standing(2, 60, 2, 0), 20, Standing(2, 60, 0, 40)),
        (LeakyBucket(3, 0.5), Standing(3, 6, 3, 0), 11, Standing(3, 6, 2, 1)),
    ],
)
def test_what_is_told_is_what_is_left_and_when_there_is_more(
    oracle: Oracle, fresh: Standing, later: float, used: Standing
) -> None:
    assert oracle.standing(1) == fresh
    assert [admit([oracle], now) for now in (5, 10)] == [0, 0]
    assert oracle.standing(later) == used


def test_a_log_that_shrank_tells_when_a_call_is_admitted_and_not_when_the_oldest_leaves() -> None:
    log = SlidingLog(3, 60)
    assert [admit([log], now) for now in (0, 10, 20)] == [0, 0, 0]
    log.calls = 1
    assert log.standing(30) == Standing(1, 60, 0, 50)
    assert admit([log], 30) == 50


@given(
    st.floats(1.8e9, 1.9e9),
    st.floats(0.001, 90_000),
    st.sampled_from([Dialect.RETRY_AFTER_DATE, Dialect.RETRY_AFTER_EPOCH, Dialect.RETRY_AFTER_ISO]),
)
def test_an_instant_is_never_told_too_early_nor_a_second_too_late(wall: float, wait: float, dialect: Dialect) -> None:
    ((_, text),) = refusal(dialect, wait, wall).headers
    read = {
        Dialect.RETRY_AFTER_DATE: lambda: parsedate_to_datetime(text).timestamp(),
        Dialect.RETRY_AFTER_EPOCH: lambda: float(text),
        Dialect.RETRY_AFTER_ISO: lambda: datetime.fromisoformat(text).timestamp(),
    }
    assert 0 <= read[dialect]() - (wall + wait) <= 1


def test_a_seat_whose_caller_hangs_up_before_the_end_is_freed_once() -> None:
    book = LimitBook({"0": InFlightRule(calls=1)}, origin=0)

    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def hang_up() -> list[float]:
        async with in_flight(book.pass_or_refuse(0, "a", "Patient"), gone):
            await asyncio.sleep(0.01)
        return [book.pass_or_refuse(0, "a", "Patient").wait for _ in range(2)]

    assert asyncio.run(hang_up()) == [0, 1]


def test_each_caller_and_each_endpoint_has_a_count_of_its_own() -> None:
    rules = {
        "own": SlidingRule(calls=1, seconds=60, per="caller"),
        "kind": FixedRule(calls=2, seconds=60, per="endpoint"),
    }
    book = LimitBook(rules, origin=0)
    calls = [("a", "Patient"), ("b", "Patient"), ("c", "Patient"), ("c", "Encounter"), ("a", "Encounter")]
    assert [book.pass_or_refuse(1, *call).wait > 0 for call in calls] == [False, False, True, False, True]
    own, kind = book.detail()["limits"]
    assert (own["admitted_by"], own["refused"]) == ({"a": 1, "b": 1, "c": 1}, 1)
    assert (kind["admitted"], kind["refused"], kind["peak"], kind["callers"]) == (3, 1, 2, 3)
    assert book.detail()["admitted"] == [(1, "a"), (1, "b"), (1, "c")]


def test_a_caller_of_whom_all_was_refused_is_the_least_admitted() -> None:
    book = LimitBook({"all": SlidingRule(calls=2, seconds=60)}, origin=0)
    for caller in ("a", "a", "b"):
        book.pass_or_refuse(1, caller, "Patient")
    (summary,) = book.summary()
    assert (summary["callers"], summary["least_admitted"], summary["most_admitted"]) == (2, 0, 2)


def test_a_limit_of_one_endpoint_counts_no_other() -> None:
    book = LimitBook({"narrow": SlidingRule(calls=1, seconds=60, endpoint="Appointment")}, origin=0)
    endpoints = ["Appointment", "Patient", "Patient", "Appointment"]
    assert [book.pass_or_refuse(1, "a", each).wait for each in endpoints] == [0, 0, 0, 60]


def test_a_fixed_window_lies_on_the_wall_clock() -> None:
    # The clock of `now` was at 0 twenty seconds into a minute of the wall clock, so a window ends at 40.
    book = LimitBook({"minute": FixedRule(calls=1, seconds=60)}, origin=1_800_000_020)
    assert [book.pass_or_refuse(now, "a", "Patient").wait for now in (39, 39.5, 40)] == [0, 0.5, 0]


@pytest.mark.parametrize(
    ("wide", "narrow", "admitted_after"),
    [
        (SlidingRule(calls=4, seconds=10), SlidingRule(calls=2, seconds=10), 0),
        (FixedRule(calls=4, seconds=10), FixedRule(calls=2, seconds=10), 0),
        (LeakyRule(size=4, leak=0.01), LeakyRule(size=2, leak=0.01), 0),
        (InFlightRule(calls=4), InFlightRule(calls=2), 0),
        (SlidingRule(calls=4, seconds=10), SlidingRule(calls=2, seconds=9), 2),
        (SlidingRule(calls=4, seconds=10), FixedRule(calls=2, seconds=10), 2),
        (LeakyRule(size=4, leak=0.01), SlidingRule(calls=2, seconds=10), 2),
    ],
)
def test_a_limit_that_shrinks_counts_on_and_another_kind_of_limit_begins_anew(
    wide: SlidingRule | FixedRule | LeakyRule | InFlightRule,
    narrow: SlidingRule | FixedRule | LeakyRule | InFlightRule,
    admitted_after: int,
) -> None:
    book = LimitBook({"0": wide}, origin=0)
    assert [book.pass_or_refuse(1, "a", "Patient").wait for _ in range(3)] == [0, 0, 0]
    book.change({"0": narrow}, now=2)
    assert sum(book.pass_or_refuse(2, "a", "Patient").wait == 0 for _ in range(3)) == admitted_after


def test_the_name_of_a_caller_does_not_tell_its_token() -> None:
    assert caller_name("t0") != caller_name("t1")
    assert "t0" not in caller_name("t0")
    assert caller_name(None) == "nobody"
