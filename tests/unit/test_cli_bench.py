"""`zest bench`: what there is, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from zest_pipelines.cli import bench, run


def test_without_a_name_it_lists_the_benches_with_what_each_measures(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench"]) == 0

    assert "minute  A minute in which every tenant has something to push" in capsys.readouterr().out


def test_an_unknown_name_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "fortnight"]) == 2

    assert (
        capsys.readouterr().err
        == "There is no bench fortnight; there are: land, limits, minute, night, pending, push\n"
    )


def test_outside_of_a_clone_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "site-packages" / "zest_pipelines" / "cli" / "bench.py"))

    assert run(["bench", "minute"]) == 2

    assert "run it from a clone" in capsys.readouterr().err


def test_a_bench_gets_what_follows_its_name_and_its_exit_code_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tests" / "bench"
    folder.mkdir(parents=True)
    (folder / "echo.py").write_text("import sys\nprint(sys.argv[1:])\nsys.exit(3)\n")
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "zest_pipelines" / "cli" / "bench.py"))

    assert run(["bench", "echo", "--tenants", "7"]) == 3

    assert capfd.readouterr().out == "['--tenants', '7']\n"
