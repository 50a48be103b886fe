"""Every way in which Dagster starts a run, close together and under edits: no two push one connection at once.

The partner is slow, so that a push takes long enough to meet another; its own log says when each write arrived. One
installation serves all tests of this file, in their order.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import yaml
from running_platform import Platform, Tenant, Visit, running_platform
from sandbox_process import notes
from zest_process import wait_for

from partners.registry import PARTNERS
from zest_pipelines.core.weeks import week_of
from zest_pipelines.orchestration.partitions import today_in_japan

pytestmark = pytest.mark.acceptance

ARRIVES = 90.0
"""Seconds from an edit to the partner, in peace."""
ENDS = 200.0
"""Seconds until everything that was launched is over, on a busy machine with two cores."""
SLOW = 0.5
"""Seconds that the partner takes to answer a write."""
READING_SLOW = 15.0
"""Seconds that it takes to answer each call of a reading; its calls are given twenty."""
MONDAY = week_of(today_in_japan()).first
WEEKS = [(MONDAY + timedelta(weeks=n)).isoformat() for n in range(3)]

LAUNCH = """
mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }
"""
BACKFILL = """
mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
BACKFILL_STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }
"""
LAUNCHPAD = """
query ($job: PipelineSelector!) { pipelineOrError(params: $job) { ... on Pipeline { presets { runConfigYaml } } } }
"""
RUNS = """
{ runsOrError { ... on Runs { results { runId jobName status tags { key value } } } } }
"""


class Dagster:
    """The hand of a person on Dagster's UI: what it sends to the webserver."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        (repository,) = platform.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")[
            "repositoriesOrError"
        ]["nodes"]
        self._repository = {"repositoryLocationName": "zest", "repositoryName": repository["name"]}

    def materialize(self, *assets: str, tags: Mapping[str, str]) -> str:
        """ "Materialize" on assets, with the tags of the partitions that were chosen; the run's id."""
        keys = [{"path": ["fhir", name]} for name in assets]
        return self._launch({"jobName": "__ASSET_JOB", "assetSelection": keys}, {}, tags)

    def launch_job(self, name: str, tenant: str) -> str:
        """A job from its launchpad, with the tenant put in and nothing else changed."""
        job = {"pipelineName": name, **self._repository}
        (preset,) = self._ask(LAUNCHPAD, job=job)["pipelineOrError"]["presets"]
        config = yaml.safe_load(preset["runConfigYaml"].replace("TENANT", tenant))
        return self._launch({"jobName": name}, config, {})

    def backfill(self, *assets: str, keys: Sequence[str]) -> str:
        """Several partitions, a run each."""
        params = {"assetSelection": [{"path": ["fhir", name]} for name in assets], "partitionNames": list(keys)}
        told = self._ask(BACKFILL, params=params)["launchPartitionBackfill"]
        assert told["__typename"] == "LaunchBackfillSuccess", told
        return str(told["backfillId"])

    def runs(self) -> list[dict[str, Any]]:
        """All runs that there are, each with `tags` as a mapping."""
        found = self._ask(RUNS)["runsOrError"]["results"]
        return [run | {"tags": {each["key"]: each["value"] for each in run["tags"]}} for run in found]

    def is_over(self, backfill: str) -> bool:
        status = self._ask(BACKFILL_STATUS, id=backfill)["partitionBackfillOrError"]["status"]
        return status in ("COMPLETED_SUCCESS", "COMPLETED_FAILED")

    def _launch(self, selector: Mapping[str, Any], config: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        params = {
            "selector": {**self._repository, **selector},
            "mode": "default",
            "runConfigData": config,
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        told = self._ask(LAUNCH, params=params)["launchPipelineExecution"]
        assert told["__typename"] == "LaunchRunSuccess", told
        return str(told["run"]["runId"])

    def _ask(self, query: str, **variables: Any) -> Any:
        sent = {"query": query, "variables": variables}
        answer = httpx.post(f"{self._platform.ui}/graphql", json=sent, timeout=60, trust_env=False)
        told = answer.raise_for_status().json()
        assert "errors" not in told, told
        return told["data"]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("launches")) as running:
        yield running


@pytest.fixture(scope="module")
def dagster(platform: Platform) -> Dagster:
    return Dagster(platform)


@pytest.fixture(scope="module")
def sakura(platform: Platform) -> Tenant:
    return _with_masters(platform.tenants[0])


@pytest.fixture(scope="module")
def hinoki(platform: Platform) -> Tenant:
    return _with_masters(platform.tenants[1])


def _with_masters(tenant: Tenant) -> Tenant:
    assert wait_for(tenant.has_masters, 150, 1), tenant.platform.told()
    return tenant


def _week(tenant: str, week: str) -> dict[str, str]:
    return {
        "dagster/partition": f"{tenant}|{week}",
        "dagster/partition/tenant": tenant,
        "dagster/partition/week": week,
    }


def _visits(tenant: Tenant, a_week: int) -> list[Visit]:
    """So many confirmed visits in each of the three weeks."""
    nine = datetime.combine(MONDAY, datetime.min.time(), UTC) + timedelta(days=2)
    return [
        tenant.add_visit(nine + timedelta(weeks=week, hours=number)) for week in range(3) for number in range(a_week)
    ]


class _Editing:
    """A care worker who goes on editing visits, one after the other, until the block ends."""

    def __init__(self, tenant: Tenant, visits: Sequence[Visit]) -> None:
        self._tenant, self._visits, self._stop = tenant, visits, threading.Event()
        self._thread = threading.Thread(target=self._edit)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _edit(self) -> None:
        for visit in itertools.cycle(self._visits):
            if self._stop.wait(0.4):
                return
            self._tenant.edit(visit)


def _pushes(tenant: Tenant) -> int:
    """How often the right to push the connection was given to somebody who then sent something."""
    return int(tenant.rows("SELECT count(DISTINCT epoch) FROM sync.intent", login="operator")[0][0])


def test_launches_of_every_kind_close_together_push_one_connection_one_after_the_other(
    platform: Platform, dagster: Dagster, sakura: Tenant, hinoki: Tenant
) -> None:
    slow = [{"kind": "delay", "method": method, "type": "Appointment", "seconds": SLOW} for method in ("POST", "PUT")]
    sakura.partner.running.set_faults(*slow)
    visits = _visits(sakura, 2)
    both = {"dagster/asset_partition_range_start": "hinoki", "dagster/asset_partition_range_end": "sakura"}

    with _Editing(sakura, visits), platform.zest.running("sync", "sakura", "fhir") as by_command:
        backfill = dagster.backfill("pushed_weeks", keys=[f"sakura|{week}" for week in WEEKS])
        runs = {
            "week": dagster.materialize("pushed_weeks", "reconciled_weeks", tags=_week("sakura", WEEKS[0])),
            "one tenant": dagster.materialize("pushed_visits", tags={"dagster/partition": "sakura"}),
            "single run": dagster.materialize("visit_changes", "pushed_visits", tags=both),
            "job": dagster.launch_job("fhir_sync_now", "sakura"),
            "days": dagster.launch_job("fhir_push_period", "sakura"),
        }
        is_over = wait_for(lambda: _are_over(dagster, runs.values(), backfill), ENDS, 2)
        by_command.wait(ENDS)
    writes = sakura.partner.writes()
    sakura.partner.running.clear_faults()

    at_once = zip(writes, writes[PARTNERS["fhir"].parallel :], strict=False)
    gaps = [after["monotonic"] - before["monotonic"] for before, after in at_once]
    assert min(gaps) >= SLOW, "more writes were under way than one push makes at once"
    assert is_over, platform.told()
    assert by_command.returncode in (0, 1)  # 1: a check of its own run had something to say
    by_id = {run["runId"]: run for run in dagster.runs()}
    assert {name: by_id[run]["status"] for name, run in runs.items()} == dict.fromkeys(runs, "SUCCESS")
    of_backfill = [run["status"] for run in by_id.values() if run["tags"].get("dagster/backfill") == backfill]
    assert of_backfill == ["SUCCESS"] * 3
    assert _by_itself(by_id.values())
    assert _pushes(sakura) >= 5, "they did not meet, so nothing is shown"


def _are_over(dagster: Dagster, runs: Collection[str], backfill: str) -> bool:
    over = {run["runId"] for run in dagster.runs() if run["status"] in ("SUCCESS", "FAILURE", "CANCELED")}
    return over.issuperset(runs) and dagster.is_over(backfill)


def _by_itself(runs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, str]]:
    """The tags of the runs that the minute schedule or the sensor requested for pushes, whichever was first."""
    return [run["tags"] for run in runs if run["tags"].get("zest/demand") in ("pushes_due", "new_edits")]


def test_each_kind_of_launch_carries_what_the_run_queue_goes_by_and_some_carry_nothing(dagster: Dagster) -> None:
    marks = ("zest/connection", "dagster/partition/tenant")

    def carried(tags: Mapping[str, str]) -> list[str]:
        return [mark for mark in marks if mark in tags]

    runs = dagster.runs()
    assert all(carried(run["tags"]) == ["dagster/partition/tenant"] for run in runs if _is_week(run))
    assert all(carried(tags) == ["zest/connection"] for tags in _by_itself(runs))
    assert {tags["dagster/priority"] for tags in _by_itself(runs)} == {"-1"}
    by_hand = [run["tags"] for run in runs if "zest/lane" not in run["tags"] and not _is_week(run)]
    assert by_hand
    assert not any(map(carried, by_hand)), "the lease alone decides for these"


def _is_week(run: Mapping[str, Any]) -> bool:
    return "dagster/partition/week" in run["tags"]


def test_after_all_launches_both_sides_are_equal_and_nothing_was_doubled(sakura: Tenant, hinoki: Tenant) -> None:
    for tenant in (sakura, hinoki):
        assert wait_for(tenant.is_equal, ARRIVES, 1), tenant.differences()
        assert set(tenant.partner.created().values()) <= {1}
    for contents in sakura.partner.contents().values():
        told = [int(note) for note in notes(contents)]
        assert told == sorted(set(told))


def test_a_slow_reading_of_a_tenant_does_not_hold_up_its_pushes(dagster: Dagster, hinoki: Tenant) -> None:
    sandbox, after = hinoki.partner.running, hinoki.partner.running.health()["journal"]
    sandbox.set_faults({"kind": "delay", "method": "GET", "seconds": READING_SLOW})
    reading = dagster.materialize("landed_clients", "landed_staff", tags={"dagster/partition": "hinoki"})
    assert wait_for(lambda: sandbox.health()["journal"] > after, ARRIVES, 0.5), hinoki.platform.told()
    visit = hinoki.add_visit()

    assert wait_for(lambda: hinoki.has(visit, "1"), READING_SLOW * 3, 0.5), hinoki.platform.told()

    (run,) = [run for run in dagster.runs() if run["runId"] == reading]
    assert run["status"] == "STARTED", "the reading was over before the push"
    sandbox.clear_faults()
