"""What an author of a partner meets: mistakes told with file, line and next step; a sandbox to look at.

In a copy of the packages, as a mistake there breaks what all commands import.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
Edit = Callable[[Path], object]
_LINE = "from partners.unwritten.partner import UNWRITTEN\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """With a new partner that nobody has filled yet, and its line in the registry."""
    for name in ("partners", "resources", "zest_pipelines"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    code, _ = zest(tmp_path, "new-partner", "unwritten", "--title", "かがやき")
    assert code == 0
    registry = tmp_path / "partners" / "registry.py"
    text = registry.read_text().replace("SMARTHR, CARECSV)", "SMARTHR, CARECSV, UNWRITTEN)")
    registry.write_text(text.replace("from partners.orca", f"{_LINE}from partners.orca"))
    return tmp_path


def environment(clone: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZEST_", "DAGSTER_"))}
    return kept | {"PYTHONPATH": str(clone), "ZEST_DATA_DIR": str(clone / "data")}


def zest(clone: Path, *arguments: str) -> tuple[int, str]:
    """Exit code, and what stands on standard error."""
    typed = (sys.executable, "-m", "zest_pipelines.cli", *arguments)
    done = subprocess.run(typed, cwd=clone, env=environment(clone), capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def bench(text: str, put: str = "") -> Edit:
    """Put it into the bench in the place of `text`."""

    def edit(folder: Path) -> None:
        file = folder / "sandbox" / "bench.py"
        assert text in file.read_text()
        file.write_text(file.read_text().replace(text, put))

    return edit


def line_of(folder: Path, text: str) -> int:
    lines = (folder / "sandbox" / "bench.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


_YIELD = '    yield UnwrittenBench("http://127.0.0.1:1")'


@pytest.mark.parametrize(
    ("edit", "where", "finding"),
    [
        (bench("def running_bench", "def started_bench"), "", "has no running_bench(): write it there"),
        (bench("from contextlib", "import pandsa\nfrom contextlib"), "import pandsa", "No module named 'pandsa'"),
        (bench("class UnwrittenBench(Bench):", "class UnwrittenBench(Bench:"), "(Bench:", "SyntaxError"),
        (bench(_YIELD, f"    open('/nowhere')\n{_YIELD}"), "/nowhere", "the sandbox does not start: FileNotFoundError"),
        (bench(_YIELD, f"    raise OSError(98, 'in use')\n{_YIELD}"), "in use", "does not start: OSError"),
        (bench(_YIELD, f"    {{}}['port']\n{_YIELD}"), "['port']", "does not start: KeyError"),
        (bench(_YIELD, "    yield 1"), "", "yields no certification.bench.Bench"),
        (bench("from collections.abc", "open('/nowhere')\nfrom collections.abc"), "/nowhere", "FileNotFoundError"),
    ],
)
def test_a_mistake_in_the_bench_is_told_with_its_place(clone: Path, edit: Edit, where: str, finding: str) -> None:
    folder = clone / "partners" / "unwritten"
    edit(folder)
    place = "partners/unwritten/sandbox/bench.py" + (f", line {line_of(folder, where)}: " if where else "")
    code, said = zest(clone, "sandbox" if "start" in finding else "certify", "unwritten")
    assert code == 2
    assert place in said
    assert finding in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("edit", "place", "command"),
    [
        (lambda folder: (folder / "mapping.py").unlink(), "partners/unwritten/partner.py, line ", ("certify", "fhir")),
        (shutil.rmtree, "partners/registry.py, line ", ("status",)),
        (
            lambda folder: (folder / "client.py").write_text("def a(:\n"),
            "partners/unwritten/client.py, line 1: SyntaxError",
            ("check", "sakura", "fhir"),
        ),
    ],
)
def test_a_folder_that_cannot_be_imported_is_told_with_its_place(
    clone: Path, edit: Edit, place: str, command: tuple[str, ...]
) -> None:
    edit(clone / "partners" / "unwritten")
    code, said = zest(clone, *command)
    assert code == 2
    assert place in said
    assert len(said.splitlines()) == 1


def test_a_folder_without_its_line_in_the_registry_is_told(clone: Path) -> None:
    registry = clone / "partners" / "registry.py"
    registry.write_text(registry.read_text().replace(_LINE, "").replace(", UNWRITTEN", ""))
    code, said = zest(clone, "certify", "unwritten")
    assert code == 2
    assert "Its folder is there, its line in partners/registry.py is not: add it" in said


@contextmanager
def sandbox(clone: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    typed = (sys.executable, "-m", "zest_pipelines.cli", "sandbox", name, "--json")
    process = subprocess.Popen(typed, cwd=clone, env=environment(clone), stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_partner_without_a_sandbox_command_of_its_own_is_started_as_its_bench_does(clone: Path) -> None:
    folder = clone / "partners"
    text = (folder / "smarthr" / "sandbox" / "bench.py").read_text()
    (folder / "unwritten" / "sandbox" / "bench.py").write_text(text)
    with sandbox(clone, "unwritten") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        headers = {"authorization": f"Bearer {told['secret']['token']}"}
        crews = httpx.get(f"{told['url']}/api/v1/crews", headers=headers, trust_env=False).json()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert len(crews) == 10
