"""The platform as it runs at night: nobody helps, processes die, and both sides end up equal.

One installation serves all tests of this file, in their order; the last ones look back on everything that happened.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from running_platform import Platform, Tenant, Visit, running_platform
from sandbox_process import TOKEN, notes
from zest_process import LONG, wait_for

pytestmark = pytest.mark.acceptance

ARRIVES = 90.0
"""Seconds from an edit to the partner, in peace."""
RECOVERS = 120.0
"""The same after a process was killed."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("night")) as running:
        yield running


@pytest.fixture(scope="module")
def tenants(platform: Platform) -> list[Tenant]:
    """Both tenants with their masters in."""
    for tenant in platform.tenants:
        assert wait_for(tenant.has_masters, 150, 1), platform.told()
    return platform.tenants


@pytest.fixture(scope="module")
def visits(tenants: list[Tenant]) -> dict[str, Visit]:
    """A visit of each tenant that stands at its partner."""
    made = {tenant.name: tenant.add_visit() for tenant in tenants}
    for tenant in tenants:
        assert _arrives(tenant, made[tenant.name], "1", ARRIVES), tenant.platform.told()
    return made


def _arrives(tenant: Tenant, visit: Visit, note: str, seconds: float) -> bool:
    return wait_for(lambda: tenant.has(visit, note), seconds, 0.5)


def test_the_masters_arrive_by_themselves(tenants: list[Tenant]) -> None:
    assert all(wait_for(tenant.is_equal, 30, 1) for tenant in tenants)


def test_dagster_shows_assets_and_tenants_and_its_clocks_run(platform: Platform, tenants: list[Tenant]) -> None:
    told = platform.ask(
        """{
        assetNodes { groupName assetKey { path } partitionDefinition { name } partitionKeys }
        schedulesOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "zest"}) {
            ... on Schedules { results { name scheduleState { status } } } }
        sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "zest"}) {
            ... on Sensors { results { name sensorState { status } } } }
        }"""
    )
    assets = [node for node in told["assetNodes"] if node["groupName"] == "fhir"]
    assert {"/".join(node["assetKey"]["path"]) for node in assets} == {
        "fhir/landed_clients", "fhir/client_changes", "fhir/applied_clients",
        "fhir/landed_staff", "fhir/staff_changes", "fhir/applied_staff",
        "fhir/visit_changes", "fhir/pushed_visits", "fhir/pushed_weeks", "fhir/reconciled_weeks",
    }  # fmt: skip
    assert all({key.partition("|")[0] for key in node["partitionKeys"]} == {"hinoki", "sakura"} for node in assets)
    schedules, sensors = told["schedulesOrError"]["results"], told["sensorsOrError"]["results"]
    assert {each["name"] for each in schedules} >= {"fhir_in_every_minute", "fhir_out_every_minute"}
    assert {each["name"] for each in sensors} >= {"fhir_new_edits", "fhir_new_master_changes"}
    assert {each["scheduleState"]["status"] for each in schedules} == {"RUNNING"}
    assert {each["sensorState"]["status"] for each in sensors if each["name"].startswith("fhir_")} == {"RUNNING"}


def test_an_edit_a_cancellation_and_a_record_reach_the_partner_with_no_hand_in_between(
    tenants: list[Tenant], visits: dict[str, Visit]
) -> None:
    tenant, other = tenants
    edited, recorded, cancelled = visits[tenant.name], visits[other.name], tenant.add_visit()
    assert _arrives(tenant, cancelled, "1", ARRIVES)

    note = tenant.edit(edited)
    tenant.cancel(cancelled)
    other.record(recorded)

    def is_there() -> bool:
        return (
            tenant.has(edited, note)
            and tenant.appointment(cancelled)["status"] == "cancelled"
            and other.encounter(recorded).get("status") == "finished"
        )

    assert wait_for(is_there, ARRIVES, 0.5), tenant.platform.told()
    assert [row["effect"] for row in tenant.partner.writes() if row["identifier"] == str(cancelled)] == [
        "created",
        "updated",
    ]


Victims = Callable[[Platform, int], list[int]]


@pytest.mark.parametrize(
    ("who", "victims"),
    [
        pytest.param("daemon", lambda platform, worker: platform.processes("dagster._daemon"), marks=LONG),
        # With the worker: nobody is left who saw it die.
        pytest.param("code server", lambda platform, worker: [*platform.code_servers(), worker], marks=LONG),
        ("run worker", lambda platform, worker: [worker]),
        pytest.param("postgres", lambda platform, worker: [platform.postmaster()], marks=LONG),
    ],
    ids=["daemon", "code_server", "run_worker", "postgres"],
)
def test_a_killed_process_holds_up_nobody_for_long(
    platform: Platform, tenants: list[Tenant], visits: dict[str, Visit], who: str, victims: Victims
) -> None:
    # The two take turns, so that the lease of the one runs out while the other is watched.
    caught, other = tenants if who in ("daemon", "run worker") else tenants[::-1]
    with caught.caught_sending(visits[caught.name]) as worker:
        pids = victims(platform, worker)
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    note = other.edit(visits[other.name])
    assert _arrives(other, visits[other.name], note, RECOVERS), platform.told()


def test_a_record_that_was_caught_by_a_kill_gets_its_next_edit_through(
    tenants: list[Tenant], visits: dict[str, Visit]
) -> None:
    expected = {tenant.name: tenant.edit(visits[tenant.name]) for tenant in tenants}
    for tenant in tenants:
        assert _arrives(tenant, visits[tenant.name], expected[tenant.name], RECOVERS), tenant.platform.told()


def test_a_partner_that_is_down_holds_up_no_other_tenant(tenants: list[Tenant], visits: dict[str, Visit]) -> None:
    down, other = tenants
    down.partner.stop()
    waiting = down.edit(visits[down.name])
    note = other.edit(visits[other.name])
    assert _arrives(other, visits[other.name], note, ARRIVES), other.platform.told()
    down.partner.start()
    assert _arrives(down, visits[down.name], waiting, RECOVERS), down.platform.told()


def test_after_all_that_both_sides_are_equal(platform: Platform, tenants: list[Tenant]) -> None:
    for tenant in tenants:
        assert wait_for(tenant.is_equal, RECOVERS, 1), tenant.differences()
    assert platform.shows_code()
    assert len(platform.code_servers()) == 1


def test_nothing_took_effect_twice_and_versions_rose(tenants: list[Tenant], visits: dict[str, Visit]) -> None:
    for tenant in tenants:
        assert set(tenant.partner.created().values()) == {1}
        for contents in tenant.partner.contents().values():
            told = [int(note) for note in notes(contents) if note != "cancelled"]
            assert told == sorted(set(told))
        assert notes(tenant.partner.contents()[str(visits[tenant.name])])[-1] == str(tenant.notes[visits[tenant.name]])


def test_nothing_of_a_person_and_no_secret_stands_where_people_and_machines_read(
    platform: Platform, tenants: list[Tenant]
) -> None:
    """After faults, kills and a partner that was down: Dagster's tables, runs' output, all logs, PostgreSQL's too."""
    secrets = {TOKEN, *(each for tenant in tenants for each in tenant.personal_data() if len(each) > 1)}
    kept = dict(platform.everything_kept())
    assert {"event_logs", "runs"} <= kept.keys()
    assert any(name.endswith("postgres.log") for name in kept)
    assert any("compute_logs" in name for name in kept)
    found = {(name, each) for name, text in kept.items() for each in secrets if each in text}
    assert found == set()


def test_sigterm_ends_the_platform_and_leaves_no_process(platform: Platform) -> None:
    platform.up.send_signal(signal.SIGTERM)
    assert platform.up.wait(60) == 0
    assert wait_for(lambda: not platform.zest.left_behind(), 15), platform.zest.left_behind()
