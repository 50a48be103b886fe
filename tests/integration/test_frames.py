"""Assets as pandas data frames: right rows, fixed columns, one tenant alone, and clear words for what cannot be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pandas as pd
import pytest
from conftest import NewTenant, Tenant
from dagster import (
    AssetIn,
    AssetKey,
    AssetsDefinition,
    AssetSelection,
    DagsterInstance,
    DagsterInvalidInvocationError,
    Definitions,
    ExecuteInProcessResult,
    JobDefinition,
    MaterializeResult,
    asset,
    define_asset_job,
)
from flow_bench import accumulate_all, push_now
from paper_partner import PAPER
from test_dagster_assets import Script

from partners.contract import Entity
from partners.fhir.sandbox.testing import RunningSandbox
from partners.registry import PARTNERS
from resources.logins import Login, Logins, LoginsError
from zest_pipelines.core.weeks import week_of
from zest_pipelines.definitions import STATIONS, define, definitions
from zest_pipelines.local import dagster_home
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.orchestration.frames import FrameError
from zest_pipelines.orchestration.partitions import tenant_partitions, today_in_japan
from zest_pipelines.store import frames, landed, landing, masters
from zest_pipelines.store.errors import UnknownConnectionError, UnknownTenantError
from zest_pipelines.store.keys import Target

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/notebook.md").read_text(encoding="utf-8")
MONDAY = week_of(today_in_japan()).first
BY_WEEK = ("pushed_weeks", "reconciled_weeks")
ASSETS = sorted(each.key.path[-1] for each in definitions.resolve_all_asset_specs() if each.key.path[0] == "fhir")
FHIR = PARTNERS["fhir"]
LANDED_CLIENTS = AssetKey(["fhir", "landed_clients"])

Load = Callable[..., pd.DataFrame]


@pytest.fixture
def instance(data_dir: Path) -> Iterator[DagsterInstance]:
    """A Dagster that knows the tenants of a test, and a few that are none."""
    with DagsterInstance.ephemeral() as made:
        made.add_dynamic_partitions("fhir_tenants", ["sakura", "ume", "nobody"])
        yield made


@pytest.fixture
def load(instance: DagsterInstance) -> Iterator[Load]:
    """Loads a partition of one of fhir's assets."""
    with definitions.get_asset_value_loader(instance) as loader:

        def loaded(name: str, key: str = "sakura", **more: Any) -> pd.DataFrame:
            frame = loader.load_asset_value(["fhir", name], partition_key=key, **more)
            assert isinstance(frame, pd.DataFrame)
            return frame

        yield loaded


def _key(name: str, tenant: str = "sakura") -> str:
    return f"{tenant}|{MONDAY}" if name in BY_WEEK else tenant


def _add_landed(tenant: Tenant, partner_id: str, **version: Any) -> None:
    reading = landing.Reading(uuid4(), tenant.name, tenant.partner.name, Entity.CLIENT)
    with tenant.services.database.transaction(Login.LAND, tenant.name) as tx:
        assert landing.begin(tx, reading, mapping="1", full_before=datetime.now(UTC), shape="")
        landed.add(tx, reading, [landed.NewVersion(partner_id, **version)], None)
        landing.end(tx, reading, landing.Conclusion("certified", None, {}, False, 1, 1, 1, None))


# --- Rows -------------------------------------------------------------------------------------------------------------


def test_landed_is_what_the_partner_has(tenant: Tenant, load: Load) -> None:
    frame = load("landed_clients")

    people = {each["id"]: each for each in tenant.sandbox.state("Patient")}
    assert set(frame["partner_id"]) == set(people)
    for row in frame.itertuples():
        assert str(row.family_name) in json.dumps(people[row.partner_id], ensure_ascii=False)
    assert not frame["is_gone"].any()


def test_landed_has_the_newest_version_and_nothing_in_the_place_of_a_master_that_is_not_there(
    tenant: Tenant, load: Load
) -> None:
    before = load("landed_clients")
    gone, odd, moved = before["partner_id"][:3]
    master = {name: before[name][2] for name in before.columns[6:]} | {"active": False, "address": "北区1"}
    _add_landed(tenant, gone, fingerprint=None)
    _add_landed(tenant, odd, fingerprint=b"2", content="{}", problem="master_without_name")
    _add_landed(tenant, moved, fingerprint=b"3", content="{}", master=master, partner_version="W/9")

    frame = load("landed_clients").set_index("partner_id")

    assert len(frame) == len(before)
    assert frame["is_gone"].to_dict() == {each: each == gone for each in before["partner_id"]}
    assert frame.loc[[gone, odd], ["family_name", "active", "birth_date"]].isna().all(axis=None)
    assert frame.loc[odd, "problem"] == "master_without_name"
    assert frame.loc[moved, ["address", "active", "partner_version"]].tolist() == ["北区1", False, "W/9"]


def test_a_change_comes_with_its_newest_result(tenant: Tenant, load: Load) -> None:
    first = load("client_changes")
    scope = masters.Scope("sakura", "fhir", Entity.CLIENT)
    partner_id = first["partner_id"][0]
    _add_landed(tenant, partner_id, fingerprint=None)
    landed_no = load("landed_clients").set_index("partner_id").loc[partner_id, "landed_no"]
    change = masters.MasterChange(partner_id, int(landed_no), "delete", (), first["after"][0], None)
    with tenant.services.database.transaction(Login.DIFF, "sakura") as tx:
        masters.add_changes(tx, scope, [change])
    unanswered = load("client_changes")
    with tenant.services.database.transaction(Login.APPLY, "sakura") as tx:
        for outcome in ("held", "rejected"):
            result = masters.MasterResult(partner_id, change.landed_no, outcome, "mass_delete")
            masters.add_results(tx, scope, [result])

    frame = load("client_changes")

    assert set(first["outcome"]) == {"applied"}
    assert first["kind"].eq("add").all()
    assert first["after"][0]["family_name"]
    assert first["before"].isna().all()
    assert unanswered["outcome"].isna().tolist() == [False] * len(first) + [True]
    assert frame[["outcome", "reason"]].iloc[-1].tolist() == ["rejected", "mass_delete"]
    assert len(frame) == len(first) + 1


def test_applied_is_the_products_with_the_partners_ids(tenant: Tenant, load: Load) -> None:
    frame = load("applied_clients")

    ours = {str(row.client_id): row for row in tenant.sql("SELECT * FROM schedule.client")}
    known = {str(row.record_id): row for row in tenant.sql("SELECT * FROM sync.identity", Login.OPERATOR)}
    assert set(frame["record_id"]) == set(ours)
    for row in frame.itertuples():
        assert (row.address, row.birth_date) == (ours[row.record_id].address, ours[row.record_id].birth_date)
        assert (row.partner_id, row.number) == (known[row.record_id].partner_id, known[row.record_id].number)
    staff = load("applied_staff").set_index("record_id")["employed_from"]
    hired = tenant.sql("SELECT staff_id, employed_from FROM schedule.staff WHERE employed_from IS NOT NULL")
    assert hired
    assert {str(row.staff_id): row.employed_from for row in hired} == staff.dropna().dt.date.to_dict()


def test_applied_is_read_as_of_a_past_moment_too(tenant: Tenant, instance: DagsterInstance, load: Load) -> None:
    now = load("applied_clients")
    (later,) = tenant.sql("SELECT clock_timestamp()")[0]

    then = load("applied_clients", input_definition_metadata={"at": later.isoformat()})
    empty = load("applied_clients", input_definition_metadata={"at": later - timedelta(hours=1)})

    said_by = ["record_id", "partner_id", "landed_no", "snapshot_id", "read_at", "applied_at", "is_gone"]
    assert list(then.columns) == [*said_by, *now.columns[4:]]
    assert list(empty.dtypes.items()) == list(then.dtypes.items())
    assert (then["record_id"].tolist(), len(empty)) == (now["record_id"].tolist(), 0)
    made: dict[str, Any] = {"definitions": definitions}
    lines = _code("input_definition_metadata").replace("loader()", "loader(instance)")
    exec(lines.replace("2026-11-01T09:00", later.isoformat()), made | {"instance": instance}, made)
    pd.testing.assert_frame_equal(made["then"], then)


@pytest.mark.parametrize(
    ("name", "at", "words"),
    [
        ("landed_clients", "2026-11-01T09:00", "applied_clients and applied_staff"),
        ("applied_clients", "yesterday", "write 2026-11-01T09:00"),
        ("applied_clients", datetime(2026, 11, 1, 9), "in no time zone"),  # noqa: DTZ001
    ],
)
def test_a_past_moment_that_cannot_be_read_says_what_can(
    tenant: Tenant, load: Load, name: str, at: Any, words: str
) -> None:
    with pytest.raises(FrameError, match=words):
        load(name, input_definition_metadata={"at": at})


def test_changes_are_all_versions_and_pushed_is_where_the_newest_stands(tenant: Tenant, load: Load) -> None:
    there, moved = tenant.add_visit(), tenant.add_visit(note="1")
    push_now(tenant)
    tenant.edit_visit(moved, note="2")
    accumulate_all(tenant)

    changes = load("visit_changes")
    pushed = load("pushed_visits").set_index("record_id")

    versions = [(str(there), 1), (str(moved), 1), (str(moved), 2)]
    assert sorted(zip(changes["record_id"], changes["version"], strict=True)) == sorted(versions)
    newest = changes[changes["version"] == 2].iloc[0]
    assert (newest["image"]["note"], newest["on_date"]) == ("2", pd.Timestamp("2026-12-01"))
    assert pushed.loc[str(there), ["state", "outcome", "attempts"]].tolist() == ["settled", "delivered", 1]
    assert pushed.loc[str(moved), ["version", "state", "attempts"]].tolist() == [2, "due", 0]
    assert pushed.loc[str(moved), ["outcome", "made_at"]].isna().all()
    copies = {each["id"] for each in tenant.sandbox.state("Appointment")}
    assert set(pushed["partner_id"]) == copies


@pytest.mark.parametrize("name", BY_WEEK)
def test_a_week_has_its_own_days_alone(tenant: Tenant, load: Load, name: str) -> None:
    def visit(days: int, time: str) -> UUID:
        day = date.fromordinal(MONDAY.toordinal() + days)
        return tenant.add_visit(starts_at=f"{day}T{time}:00+09:00", ends_at=f"{day}T{time}:59+09:00")

    visit(-1, "23:30")
    inside = [visit(0, "00:30"), visit(6, "23:30")]
    visit(7, "00:30")
    accumulate_all(tenant)

    frame = load(name, f"sakura|{MONDAY}")

    assert frame["record_id"].tolist() == [str(each) for each in inside]
    assert len(load("pushed_visits")) == 4


@pytest.mark.parametrize("name", BY_WEEK)
@pytest.mark.parametrize("days", [-1, 1])
def test_a_day_that_is_no_monday_loads_no_other_week(tenant: Tenant, load: Load, name: str, days: int) -> None:
    day = date.fromordinal(MONDAY.toordinal() + days)

    with pytest.raises(FrameError, match=f"{day} is no Monday: that week begins on"):
        load(name, f"sakura|{day}")


# --- Shape ------------------------------------------------------------------------------------------------------------


def _columns_in_the_guide() -> dict[str, list[str]]:
    rows = [line.split("|") for line in GUIDE.splitlines() if line.startswith("| `")]
    return {name: cells[3].strip().split(", ") for cells in rows for name in re.findall(r"`(\w+)`", cells[1])}


def _type(column: str) -> str:
    for columns, dtype in {
        ("landed_no", "version", "attempts", "line", "count"): "Int64",
        ("is_gone", "active"): "boolean",
        ("landed_at", "made_at", "ended_at", "edited_at", "identified_at"): "datetime64[us, UTC]",
        ("on_date", "employed_from", "employed_until", "month", "day"): "datetime64[us]",
        ("fields", "before", "after", "image"): "object",
    }.items():
        if column in columns:
            return dtype
    return "string"


def test_each_frame_has_the_columns_of_the_guide_and_their_types_with_rows_and_without(
    tenant: Tenant, new_tenant: NewTenant, sandbox: RunningSandbox, load: Load
) -> None:
    new_tenant(sandbox, "ume")
    tenant.add_visit(starts_at=f"{MONDAY}T09:00:00+09:00", ends_at=f"{MONDAY}T10:00:00+09:00")
    accumulate_all(tenant)

    guide = _columns_in_the_guide()
    plans = guide.pop("landed_plans")  # of partners that give plans; this one does not
    assert frames._PLANS.dtypes == {each: _type(each) for each in plans}
    assert sorted(guide) == ASSETS
    for name, columns in guide.items():
        full, empty = load(name, _key(name)), load(name, _key(name, "ume"))
        assert (len(full) > 0, len(empty)) == (True, 0), name
        assert {column: str(dtype) for column, dtype in full.dtypes.items()} == {each: _type(each) for each in columns}
        assert list(empty.dtypes.items()) == list(full.dtypes.items())


def test_a_frame_is_the_same_however_many_pieces_it_comes_in(
    tenant: Tenant, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load("landed_clients")
    monkeypatch.setattr(frames, "_CHUNK_ROWS", 7)

    pd.testing.assert_frame_equal(load("landed_clients"), whole)


# --- Whose ------------------------------------------------------------------------------------------------------------


def test_a_frame_shows_one_tenant_and_the_database_sees_to_it(
    tenant: Tenant, new_tenant: NewTenant, sandbox: RunningSandbox, load: Load
) -> None:
    other = new_tenant(sandbox, "ume")
    other.take_in()
    for each in (tenant, other):
        each.add_visit()
        accumulate_all(each)

    for name in ("applied_clients", "visit_changes"):
        mine, theirs = load(name), load(name, "ume")
        assert len(mine) == len(theirs) > 0
        assert not set(mine["record_id"]) & set(theirs["record_id"])
    scope, target = masters.Scope("ume", "fhir", Entity.CLIENT), Target("ume", "fhir")
    with tenant.services.database.transaction(Login.OPERATOR, "sakura") as tx:
        read = [frames.landed(tx, scope), frames.master_changes(tx, scope), frames.applied(tx, scope)]
        read += [frames.visit_changes(tx, target), frames.pushed_visits(tx, target)]
    assert [len(each) for each in read] == [0] * 5


# --- What cannot be ---------------------------------------------------------------------------------------------------


def test_a_key_of_no_tenant_says_how_one_is_added(load: Load) -> None:
    with pytest.raises(UnknownTenantError, match="`zest tenant add nobody"):
        load("landed_clients", "nobody")


def test_a_key_that_dagster_does_not_know_is_named(load: Load) -> None:
    with pytest.raises(DagsterInvalidInvocationError, match=r"Nonexistent partition keys:\s+\['nemo'\]"):
        load("landed_clients", "nemo")


def test_a_tenant_of_another_partner_says_how_it_is_connected(tenant: Tenant, instance: DagsterInstance) -> None:
    instance.add_dynamic_partitions("paper_tenants", ["sakura"])
    both = define([tenant.partner, PAPER], STATIONS)

    with pytest.raises(UnknownConnectionError, match="`zest connect sakura paper"):
        both.load_asset_value(["paper", "landed_clients"], partition_key="sakura", instance=instance)


def test_without_a_partition_key_the_call_that_was_meant_is_shown(instance: DagsterInstance) -> None:
    with pytest.raises(FrameError, match=r"load_asset_value\(\['fhir', 'landed_clients'\], partition_key="):
        definitions.load_asset_value(["fhir", "landed_clients"], instance=instance)


def test_another_type_than_a_frame_is_refused(load: Load) -> None:
    with pytest.raises(FrameError, match="comes as a pandas DataFrame, not as <class 'dict'>"):
        load("landed_clients", python_type=dict)


def test_a_missing_data_directory_says_what_makes_one(load: Load, data_dir: Path) -> None:
    (data_dir / "logins.json").unlink()

    with pytest.raises(LoginsError, match="`zest init`"):
        load("landed_clients")


# --- Runs and notebooks -----------------------------------------------------------------------------------------------


def _code(word: str) -> str:
    """The guide's piece of Python that has the word."""
    (found,) = [each for each in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if word in each]
    return str(found)


def _materialized(result: ExecuteInProcessResult, name: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(name)
    return {key: value.value for key, value in event.metadata.items()}


def test_an_asset_of_ones_own_in_a_location_of_its_own_gets_the_frame(
    tenant: Tenant, instance: DagsterInstance
) -> None:
    made: dict[str, Any] = {}
    exec(_code("@asset"), made)  # as the guide has it
    Definitions.validate_loadable(made["mine"])

    job = made["mine"].resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, partition_key="sakura")

    assert _materialized(result, "unreachable_clients")["clients"] == len(tenant.ids("client")) > 0


def _beside_ours(own: AssetsDefinition) -> JobDefinition:
    """One job of `landed_clients`, whose station does nothing here, and an asset after it."""
    job = define_asset_job("both", AssetSelection.assets(LANDED_CLIENTS) | AssetSelection.assets(own))
    ours = define([FHIR], Script().stations())
    return Definitions.merge(ours, Definitions(assets=[own], jobs=[job])).resolve_job_def("both")


def test_an_asset_of_ones_own_can_follow_ours_in_one_run(tenant: Tenant, instance: DagsterInstance) -> None:
    @asset(partitions_def=tenant_partitions(FHIR), ins={"clients": AssetIn(LANDED_CLIENTS)})
    def counted(clients: pd.DataFrame) -> MaterializeResult:
        return MaterializeResult(metadata={"clients": len(clients)})

    result = _beside_ours(counted).execute_in_process(instance=instance, partition_key="sakura")

    assert _materialized(result, "counted") == {"clients": len(tenant.ids("client"))}


def test_a_value_that_an_asset_returns_is_refused_and_nothing_of_it_is_kept(
    tenant: Tenant, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @asset(partitions_def=tenant_partitions(FHIR), ins={"clients": AssetIn(LANDED_CLIENTS)})
    def copied(clients: pd.DataFrame) -> pd.DataFrame:
        return clients

    storage = tmp_path_factory.mktemp("dagster")
    with DagsterInstance.ephemeral(tempdir=str(storage)) as instance:
        instance.add_dynamic_partitions("fhir_tenants", ["sakura"])
        job = _beside_ours(copied)
        result = job.execute_in_process(instance=instance, partition_key="sakura", raise_on_error=False)
        logged = "".join(str(entry) for entry in instance.all_logs(result.run_id))

    assert not result.success
    assert "copied gave a value, and none is kept here" in logged
    assert str(tenant.sql("SELECT address FROM schedule.client LIMIT 1")[0][0]) not in logged
    assert [each for each in storage.rglob("*") if each.is_file() and "copied" in each.name] == []


def _python(code: str, folder: Path, **variables: str) -> str:
    """What it prints in an interpreter of its own, without our variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZEST_", "DAGSTER_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_guides_own_lines_give_a_frame_in_a_fresh_interpreter(
    tenant: Tenant, logins: Logins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = DataDir(tmp_path / ".zest")
    home.open()
    logins.write(home.logins_file)
    monkeypatch.chdir(tmp_path)
    dagster_home.configure(home, dagster_home.environment(home, logins))
    tick = (
        'from dagster import DagsterInstance; DagsterInstance.get().add_dynamic_partitions("fhir_tenants", ["sakura"])'
    )
    lines = _code("load_dotenv").replace("2026-11-23", str(MONDAY))
    lines = lines.replace("\n\nfrom zest", f"\n{tick}\nfrom zest", 1)  # what the first tick does

    printed = _python(f"{lines}\nprint(len(clients), len(week), type(week).__name__)", tmp_path)

    assert printed.splitlines()[-1] == f"{len(tenant.ids('client'))} 0 DataFrame"


def test_a_run_does_not_pay_for_pandas(data_dir: Path) -> None:
    code = """
        import sys
        from dagster import DagsterInstance
        from zest_pipelines.definitions import definitions

        with DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions("fhir_tenants", ["sakura"])
            job = definitions.resolve_job_def("fhir_out")
            run = job.execute_in_process(instance=instance, partition_key="sakura", raise_on_error=False)
        print(run.success, "pandas" in sys.modules, "sqlalchemy" in sys.modules)
    """

    printed = _python(textwrap.dedent(code), data_dir, ZEST_DATA_DIR=str(data_dir))

    assert printed.splitlines()[-1] == "False False True"  # the run got as far as our database: no such tenant
