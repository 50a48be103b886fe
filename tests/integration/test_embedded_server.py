"""The embedded PostgreSQL: it outlives its starter, survives what kills it, and keeps its log clean.

One server serves the whole file; a test that ends it relies on the next one's `start`.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from resources.logins import Login, Logins
from zest_pipelines.local import embedded
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.local.postmaster import read_pid_file

ROOT = Path(__file__).resolve().parents[2]

START = """
import sys
from pathlib import Path
from zest_pipelines.local import embedded
from zest_pipelines.local.data_dir import DataDir
print(embedded.start(DataDir(Path(sys.argv[1]))).socket_dir)
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDir]:
    made = DataDir(tmp_path_factory.mktemp("pg") / "zest")
    made.open()
    yield made
    if server := embedded.running(made):
        server.stop("immediate")


@pytest.fixture(scope="module")
def started_by_others(data_dir: DataDir) -> list[str]:
    """The answers of two processes that started the server at the same moment and have ended."""
    command = [sys.executable, "-c", START, str(data_dir.path)]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    answers = [starter.communicate(timeout=60)[0].strip() for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0]
    return answers


@pytest.fixture
def server(data_dir: DataDir, started_by_others: list[str]) -> embedded.EmbeddedServer:
    return embedded.start(data_dir)


def postmaster(data_dir: DataDir) -> int:
    noted = read_pid_file(data_dir.pg)
    assert noted is not None
    return noted.pid


def kill_and_wait(server: embedded.EmbeddedServer, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while server.is_running:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ask(server: embedded.EmbeddedServer, query: str, database: str = "postgres") -> str:
    with psycopg.connect(server.admin_url, dbname=database) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return str(row[0])


def test_two_processes_starting_at_once_get_one_server_that_outlives_both(
    data_dir: DataDir, started_by_others: list[str]
) -> None:
    server = embedded.running(data_dir)

    assert server is not None
    assert server.is_running
    assert started_by_others == [str(server.socket_dir)] * 2


def test_starting_again_joins_the_running_server(data_dir: DataDir, server: embedded.EmbeddedServer) -> None:
    before = postmaster(data_dir)

    assert embedded.start(data_dir) == server
    assert postmaster(data_dir) == before


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("listen_addresses", ""),
        ("max_connections", "200"),
        ("idle_in_transaction_session_timeout", "1min"),
        ("log_error_verbosity", "terse"),
        ("log_statement", "none"),
        ("log_min_error_statement", "panic"),
        ("timezone", "UTC"),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
    ],
)
def test_the_server_runs_with_the_setting(server: embedded.EmbeddedServer, setting: str, value: str) -> None:
    assert ask(server, f"show {setting}") == value


def test_nothing_that_a_statement_or_its_error_holds_reaches_the_log(
    data_dir: DataDir, server: embedded.EmbeddedServer
) -> None:
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute("create temporary table person (name text primary key)")
        connection.execute("insert into person values (%s)", ["Hanako-Himitsu"])
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("insert into person values (%s)", ["Hanako-Himitsu"])
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            connection.execute("select %s::uuid", ["Hanako-Himitsu"])
        connection.execute("do $$ begin raise warning 'Hanako-Himitsu'; end $$")

    log = data_dir.logs / "postgres.log"
    assert "Himitsu" not in log.read_text()
    assert "ready to accept connections" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_login_needs_its_own_password(server: embedded.EmbeddedServer) -> None:
    logins = Logins.generate(str(server.socket_dir), server.port, environ={})
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute(f"create role zest_push login password '{logins.password(Login.PUSH)}'")
        connection.execute("create database zest")

    with psycopg.connect(logins.libpq_url(Login.PUSH)) as connection:
        assert connection.execute("select current_user").fetchone() == ("zest_push",)
    wrong = Logins.generate(str(server.socket_dir), server.port, environ={})
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong.libpq_url(Login.PUSH))


def test_a_killed_server_starts_again_with_all_that_was_committed(
    data_dir: DataDir, server: embedded.EmbeddedServer
) -> None:
    with psycopg.connect(server.admin_url) as connection:
        connection.execute("create table kept as select 42 as answer")
    killed = postmaster(data_dir)

    kill_and_wait(server, killed)
    assert (data_dir.pg / "postmaster.pid").exists()
    again = embedded.start(data_dir)

    assert ask(again, "select answer from kept") == "42"
    assert postmaster(data_dir) != killed


def test_a_pid_file_whose_number_is_another_programs_by_now_stops_no_start(
    data_dir: DataDir, server: embedded.EmbeddedServer
) -> None:
    kill_and_wait(server, postmaster(data_dir))
    bystander = subprocess.Popen(["sleep", "60"], user=data_dir.pg.stat().st_uid)
    try:
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            lines = (data_dir.pg / name).read_text().splitlines()
            (data_dir.pg / name).write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")

        assert embedded.start(data_dir).is_running
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_copy_of_a_running_servers_folder_is_a_server_of_its_own(
    data_dir: DataDir, server: embedded.EmbeddedServer, tmp_path: Path
) -> None:
    copy = DataDir(tmp_path / "copy")
    copy.open()
    subprocess.run(["cp", "-a", str(data_dir.pg), str(copy.pg)], check=True, stderr=subprocess.DEVNULL)

    assert embedded.running(copy) is None
    second = embedded.start(copy)
    try:
        assert second.socket_dir != server.socket_dir
        assert server.is_running
    finally:
        second.stop("immediate")


def test_stopping_ends_it_for_everyone_and_stopping_twice_is_no_error(
    data_dir: DataDir, server: embedded.EmbeddedServer
) -> None:
    server.stop()
    server.stop()

    assert not server.is_running
    assert embedded.running(data_dir) is None


def test_data_of_another_postgresql_version_is_left_untouched(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path / "zest")
    data_dir.open()
    data_dir.pg.mkdir()
    (data_dir.pg / "PG_VERSION").write_text("16\n")
    before = sorted(data_dir.path.rglob("*"))

    with pytest.raises(embedded.EmbeddedServerError, match=r"PostgreSQL 16.*--data-dir"):
        embedded.start(data_dir)

    assert sorted(data_dir.path.rglob("*")) == before


def test_a_path_too_long_or_too_odd_for_a_socket_gets_a_short_private_one(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path / ("long, 'odd': " + "x" * 100) / "zest")
    data_dir.open()

    server = embedded.start(data_dir)
    try:
        logins = Logins.generate(str(server.socket_dir), server.port, environ={})
        assert ask(server, "select 1") == "1"
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        assert embedded.running(data_dir) == server
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(logins.libpq_url(Login.PUSH))
    finally:
        server.stop("immediate")
        shutil.rmtree(server.socket_dir, ignore_errors=True)


def test_the_instance_of_dagster_yaml_stores_in_the_embedded_server(
    server: embedded.EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster import DagsterInstance
    from dagster._core.instance.ref import InstanceRef

    logins = Logins.generate(str(server.socket_dir), server.port, environ={})
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute(f"create role zest_dagster login password '{logins.password(Login.DAGSTER)}'")
        connection.execute("create database dagster owner zest_dagster")
    monkeypatch.setenv("ZEST_DAGSTER_URL", logins.dagster_url())

    reference = InstanceRef.from_dir(str(tmp_path), config_dir=str(ROOT))
    with DagsterInstance.from_ref(reference) as instance:
        instance.add_dynamic_partitions("tenants", ["sakura"])
        queue = instance.get_concurrency_config().run_queue_config

        assert instance.get_dynamic_partitions("tenants") == ["sakura"]
        assert queue is not None
        asked = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))["concurrency"]["runs"]
        assert queue.max_concurrent_runs == asked["max_concurrent_runs"]
        assert queue.tag_concurrency_limits == asked["tag_concurrency_limits"]
        assert type(instance.run_launcher).__name__ == "WatchedRunLauncher"
        assert instance.run_coordinator.dequeue_interval_seconds == 2
        assert instance.run_monitoring_enabled
        assert instance.run_retries_max_retries == 1
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert not instance.telemetry_enabled
    assert ask(server, "select partition from dynamic_partitions", database="dagster") == "sakura"


def test_the_workspace_has_one_code_location_named_zest() -> None:
    from dagster._core.workspace.load import location_origins_from_yaml_paths

    (origin,) = location_origins_from_yaml_paths([str(ROOT / "workspace.yaml")])

    assert origin.location_name == "zest"
    assert origin.loadable_target_origin.module_name == "zest_pipelines.definitions"
