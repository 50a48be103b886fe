"""The `.env` that `dagster dev` reads in the clone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values

from resources.logins import Logins
from zest_pipelines.local import dagster_home
from zest_pipelines.local.dagster_home import configure, environment, write_env_file
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
