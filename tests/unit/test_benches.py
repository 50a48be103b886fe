"""The benches' own sums and judgements: what they tell of their figures, and what fails them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import limits
import pending
import push


def test_the_ratio_is_that_of_the_middle_round_each_beside_its_neighbour() -> None:
    engine = [push.Round(100, 1.0, 0.1), push.Round(100, 2.0, 0.1), push.Round(100, 1.25, 0.1)]
    bare = [push.Round(100, 0.5, 0.05)] * 3

    told = push.figures_of(engine, bare)

    assert told["ratios"] == [0.5, 0.25, 0.4]
    assert told["ratio"] == 0.4
    assert not told["within_the_bar"]
    assert told["engine"] == {"calls": 300, "calls_per_second": 80, "cpu_ms_a_call": 1.0}


def test_the_bar_itself_is_within_the_bar() -> None:
    assert push.figures_of([push.Round(60, 1.0, 0.1)], [push.Round(100, 1.0, 0.1)])["within_the_bar"]


def node(kind: str, *below: dict[str, Any], table: str | None = None, pages: int = 1) -> dict[str, Any]:
    named = {} if table is None else {"Relation Name": table}
    return {"Node Type": kind, "Shared Hit Blocks": pages, "Shared Read Blocks": 0, "Plans": list(below)} | named


@pytest.mark.parametrize(
    ("plan", "wrong"),
    [
        (node("Limit", node("Index Scan", table="pending")), []),
        (node("Limit", node("Seq Scan", table="connection")), []),
        (node("Limit", node("Append", node("Seq Scan", table="change_2026_11"))), ["reads change_2026_11 as a whole"]),
        (node("Index Only Scan", table="pending", pages=10**6), ["touches 1000000 pages"]),
    ],
)
def test_a_plan_is_faulty_if_it_reads_a_table_of_rows_as_a_whole_or_too_many_pages(
    plan: dict[str, Any], wrong: list[str]
) -> None:
    assert pending.faults("due_pending", plan) == [f"due_pending {each}" for each in wrong]


def figures(**other: Any) -> dict[str, Any]:
    timed = {"p50_ms": 2.0, "p95_ms": 3.0}
    steps = {"appending_ms_a_change": 0.1, "settling_ms_a_change": 0.1}
    asked = dict.fromkeys(("who_has_due_records", "claiming_60", "all_that_is_due"), timed)
    return asked | {"faults_of_plans": []} | steps | other


def test_what_stays_the_same_is_as_it_must_be() -> None:
    assert pending.verdict([figures(), figures(), figures()])["is_as_it_must_be"]


@pytest.mark.parametrize(
    "large",
    [
        figures(claiming_60={"p50_ms": 3.2, "p95_ms": 3.3}),
        figures(who_has_due_records={"p50_ms": 3.2, "p95_ms": 3.3}),
        figures(all_that_is_due={"p50_ms": 3.2, "p95_ms": 3.3}),
        figures(appending_ms_a_change=0.21),
        figures(settling_ms_a_change=0.21),
        figures(faults_of_plans=["due_records reads pending as a whole"]),
    ],
)
def test_growth_and_a_faulty_plan_fail_the_bench(large: dict[str, Any]) -> None:
    assert not pending.verdict([figures(), figures(), large])["is_as_it_must_be"]


def test_a_time_beyond_the_bar_is_told_and_fails_nothing() -> None:
    slow = {"p50_ms": 6.0, "p95_ms": 9.0}
    told = pending.verdict([figures(), figures(claiming_60=slow), figures(claiming_60=slow)])

    assert not told["within_the_bar"]
    assert told["is_as_it_must_be"]


def test_percentiles_leave_the_warming_runs_out() -> None:
    runs = []

    pending.timed(lambda: runs.append(1), 20)

    assert len(runs) == 30


def test_the_ledger_is_held_against_its_three_bars() -> None:
    good = {"ledger": 60.0, "bare": 100.0, "few": 50.0, "many": 45.0, "alone": 100.0, "crowd": 60.0}
    told = limits.figures_of([good, good, good | {"bare": 1000.0}])
    assert (told["of_bare"], told["of_one_process"], told["within_the_bars"]) == (0.6, 0.6, True)
    for spoilt in ({"ledger": 40.0}, {"many": 30.0}, {"crowd": 40.0}):
        assert not limits.figures_of([good | spoilt])["within_the_bars"]
