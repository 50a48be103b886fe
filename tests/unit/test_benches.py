"""The benches' own sums and judgements: what they tell of their figures, and what fails them."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import land
import limits
import night
import pending
import push
from stage import patients
from stage.cost import Cost, measured
from stage.patient_server import served

from partners.contract import Client, Entity
from partners.fhir.mapping import map_record


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
    good = {"ledger": 60.0, "bare": 100.0, "pyrate": 20.0, "few": 50.0, "many": 45.0, "alone": 100.0, "crowd": 60.0}
    told = limits.figures_of([good, good, good | {"bare": 1000.0}])
    assert (told["of_bare"], told["of_pyrate"], told["of_one_process"], told["within_the_bars"]) == (
        0.6,
        3.0,
        0.6,
        True,
    )
    for spoilt in ({"ledger": 40.0}, {"many": 30.0}, {"crowd": 40.0}):
        assert not limits.figures_of([good | spoilt])["within_the_bars"]


def reading(land_cpu: float, floor_cpu: float, dlt_cpu: float | None = None, peak: float = 30.0) -> dict[str, Cost]:
    """What each reader cost, half of it in PostgreSQL."""
    cpu = {"land": land_cpu, "floor": floor_cpu} | ({} if dlt_cpu is None else {"dlt": dlt_cpu})
    return {name: Cost(each / 2, each / 2, each, peak) for name, each in cpu.items()}


def landing(**other: dict[str, Cost]) -> dict[str, dict[str, Cost]]:
    steps = {"first": reading(1.6, 1.0, 1.0), "changed": reading(1.4, 1.0, 7.0), "unchanged": reading(1.4, 1.0, 7.0)}
    return steps | other


def test_landing_at_the_bars_themselves_is_within_them() -> None:
    told = land.figures_of([landing(), landing(), landing(unchanged=reading(9.0, 1.0, 7.0))])

    assert told["of_floor"] == {"first": 1.6, "changed": 1.4, "unchanged": 1.4}
    assert told["dlt_of_land"] == {"first": 0.62, "changed": 5.0, "unchanged": 5.0}
    assert told["missed"] == []
    assert told["within_the_bars"]


@pytest.mark.parametrize(
    ("spoilt", "missed"),
    [
        ({"first": reading(1.7, 1.0, 9.0)}, ["first of floor"]),
        ({"changed": reading(1.5, 1.0, 9.0)}, ["changed of floor"]),
        ({"unchanged": reading(1.0, 1.0, 4.9)}, ["dlt unchanged"]),
        ({"unchanged": reading(1.0, 1.0, 9.0, peak=61.0)}, ["memory"]),
    ],
)
def test_landing_beyond_a_bar_fails_and_says_which(spoilt: dict[str, dict[str, Cost]], missed: list[str]) -> None:
    assert land.figures_of([landing(**spoilt)])["missed"] == missed


def test_without_dlt_the_other_bars_are_judged() -> None:
    told = land.figures_of([dict.fromkeys(("first", "changed", "unchanged"), reading(1.0, 1.0))])

    assert told["dlt_of_land"] is None
    assert told["within_the_bars"]


def test_a_night_is_judged_by_what_a_tenant_costs_as_they_grow() -> None:
    few, many = night.Night(100, 10.0, 8.0, 2.0, 1.0), night.Night(1000, 110.0, 100.0, 25.0, 2.0)

    assert night.figures_of([few, many])["within_the_bar"]
    assert not night.figures_of([few, replace(many, server_cpu=26.0)])["within_the_bar"]
    assert night.sizes(5000) == [250, 500, 1000, 5000]


def test_a_night_has_as_many_processes_as_dagster_runs_readings_at_once() -> None:
    instance = yaml.safe_load((Path(__file__).resolve().parents[2] / "dagster.yaml").read_text())
    limits = instance["concurrency"]["runs"]["tag_concurrency_limits"]

    assert [each["limit"] for each in limits if each.get("value") == "readings_due"] == [night.RUNS_AT_ONCE]


def test_the_benches_clients_have_every_field_of_a_master_and_few_of_them_change() -> None:
    settings = {"patient_identifier_system": patients.SYSTEM}
    listed = [b"".join(patients.pages(300, 100, changed=changed)) for changed in (False, True)]
    one = map_record(Entity.CLIENT, patients.patient(1), settings)

    assert isinstance(one, Client)
    assert all(vars(one).values())
    assert len({patients.patient_id(number) for number in range(1, 301)}) == 300
    assert [page.count(b'"versionId":"2"') for page in listed] == [0, 3]


def test_the_pages_server_shows_one_list_or_the_other_page_by_page() -> None:
    with served(5, 2) as server, httpx.Client(base_url=f"{server.url}/anybody", trust_env=False) as client:
        first = client.get("/Patient?_count=1000").json()
        following = client.get(f"/{first['link'][1]['url']}").json()
        server.show(changed=True)

        assert (first["total"], len(first["entry"]), len(following["entry"])) == (5, 2, 2)
        assert [link["relation"] for link in client.get("/Patient?page=2").json()["link"]] == ["self"]
        assert client.get("/Practitioner").json()["total"] == 0
        assert client.get("/Patient?page=3").status_code == 404


def test_the_cost_of_work_counts_its_processor_time_and_the_memory_that_it_took() -> None:
    kept: list[bytes] = []

    def work() -> None:
        kept.append(b"x" * 60_000_000)  # so much the allocator never takes from what it has
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass

    cost = measured(work, os.getppid())

    assert cost.client_cpu >= 0.05
    assert 55 < cost.peak_mb < 90
