"""The data directory: private, of one format, and never somebody else's folder."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from zest_pipelines.local.data_dir import DataDir, DataDirError


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def test_an_option_goes_before_the_environment_and_that_before_the_project_root(tmp_path: Path) -> None:
    environ = {"ZEST_DATA_DIR": str(tmp_path / "env")}

    assert DataDir.resolve(tmp_path / "option", environ).path == tmp_path / "option"
    assert DataDir.resolve(None, environ).path == tmp_path / "env"
    default = DataDir.resolve(None, {}).path
    assert default.name == ".zest"
    assert (default.parent / "pyproject.toml").exists()


def test_an_opened_folder_and_its_parts_are_private_and_opening_again_changes_nothing(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path / "deep" / "zest")

    data_dir.open()
    before = contents(data_dir.path)
    data_dir.open()

    assert contents(data_dir.path) == before
    for folder in (data_dir.path, data_dir.logs, data_dir.dagster, data_dir.sandbox):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_empty_folder_that_others_may_read_is_taken_and_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "zest"
    folder.mkdir(mode=0o755)

    DataDir(folder).open()

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_of_another_format_is_left_untouched(tmp_path: Path) -> None:
    (tmp_path / "VERSION").write_text("99\n")
    tmp_path.chmod(0o755)
    before = contents(tmp_path)

    with pytest.raises(DataDirError, match=r"'99'.*--data-dir"):
        DataDir(tmp_path).open()

    assert contents(tmp_path) == before
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_somebody_elses_folder_is_left_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    before = contents(tmp_path)

    with pytest.raises(DataDirError, match=r"not empty.*--data-dir"):
        DataDir(tmp_path).open()

    assert contents(tmp_path) == before


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zest").write_text("")

    with pytest.raises(DataDirError, match="not a folder"):
        DataDir(tmp_path / "zest").open()


def test_an_opening_that_died_halfway_is_finished_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".VERSION.died").write_text("")

    DataDir(tmp_path).open()

    assert (tmp_path / "VERSION").read_text() == "1\n"
