"""What Dagster's processes read: the `.env` of `dagster dev` in the clone, and the files of an installation."""

from __future__ import annotations

import socket
import stat
import tempfile
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values

from resources.logins import Logins
from zest_pipelines.local import dagster_home
from zest_pipelines.local.dagster_home import (
    LOCATION,
    ROOT,
    code_socket,
    configure,
    environment,
    services,
    write_env_file,
)
from zest_pipelines.local.data_dir import DataDir


def test_env_file_keeps_foreign_lines_and_replaces_its_own(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nOTHER=1\nZEST_DATA_DIR=/old\nexport ZEST_DAGSTER_URL=old\n")
    write_env_file(path, {"ZEST_DATA_DIR": "/new", "ZEST_DAGSTER_URL": "a"})
    write_env_file(path, {"ZEST_DATA_DIR": "/newer", "ZEST_DAGSTER_URL": "b"})
    assert path.read_text().splitlines() == [
        "# mine",
        "OTHER=1",
        "ZEST_DATA_DIR='/newer'",
        "ZEST_DAGSTER_URL='b'",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "value", ["plain", "with space", "it's", 'a"b', "back\\slash", "two\\\\", "ends\\", "a#b", "p%40ss?x=1&y=2"]
)
def test_dagster_reads_back_what_was_written(value: str, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write_env_file(path, {"NAME": value})
    assert dotenv_values(path) == {"NAME": value}


def test_outside_of_the_clone_its_env_file_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "dagster.yaml").write_text("")
    monkeypatch.setattr(dagster_home, "ROOT", clone)
    home = DataDir(tmp_path / "data")
    home.open()
    env = environment(home, Logins.generate("/socket", 5432, environ={}))
    monkeypatch.chdir(tmp_path)
    assert configure(home, env) is None
    assert not (clone / ".env").exists()
    monkeypatch.chdir(clone)
    assert configure(home, env) == clone / ".env"
    assert dotenv_values(clone / ".env")["ZEST_DATA_DIR"] == str(home.path)
    assert (home.dagster / "dagster.yaml").resolve() == clone / "dagster.yaml"


def test_an_installation_says_where_its_code_server_is_and_what_its_processes_need(tmp_path: Path) -> None:
    home = DataDir(tmp_path / "data")
    home.open()
    env = environment(home, Logins.generate("/socket", 5432, environ={}))
    configure(home, env)
    server = {"socket": str(home.dagster / "code.sock"), "location_name": LOCATION}
    assert yaml.safe_load((home.dagster / "workspace.yaml").read_text()) == {"load_from": [{"grpc_server": server}]}
    assert dotenv_values(home.environment_file) == env
    assert stat.S_IMODE(home.environment_file.stat().st_mode) == 0o600


def test_the_code_location_has_one_name_however_it_is_loaded() -> None:
    clone = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    assert [each["python_module"]["location_name"] for each in clone["load_from"]] == [LOCATION]


def test_two_installations_have_two_code_servers_however_long_their_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        homes = [DataDir(Path(short) / name) for name in ("one", "two", "3" * 100, "4" * 100)]
        assert len({code_socket(home) for home in homes}) == len(homes)


def test_the_code_server_comes_first_and_counts_as_ready_once_it_listens() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        home = DataDir(Path(short))
        home.dagster.mkdir()
        code, *others = services(home, 3000, {})
        assert [code.name, *(child.name for child in others)] == ["code", "webserver", "daemon", "lookout"]
        assert code.ready is not None
        assert not code.ready()
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(code_socket(home)))
            server.listen()
            assert code.ready()
        assert code_socket(home).exists()  # as a killed one leaves it
        assert not code.ready()
