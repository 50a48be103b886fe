"""`zest bench`: the measurements that stand in the clone's tests/bench."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from zest_pipelines.cli.options import InputError

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
"""What follows the name is the bench's own."""


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Which one; none: list them.", show_default=False)] = "",
) -> None:
    """Measure something on this machine; figures as JSON. `zest bench NAME -h` says what a bench takes."""
    folder = _folder()
    known = {path.stem: path for path in sorted(folder.glob("*.py"))}
    if not name:
        for each, path in known.items():
            sys.stdout.write(f"{each}  {_about(path)}\n")
        return
    if name not in known:
        raise InputError(f"There is no bench {name}; there are: {', '.join(known)}")
    code = subprocess.run([sys.executable, str(known[name]), *context.args], check=False).returncode  # noqa: S603 (ours)
    raise typer.Exit(code)


def _folder() -> Path:
    folder = Path(__file__).resolve().parents[2] / "tests" / "bench"
    if not folder.is_dir():
        raise InputError("The benches are not installed with zest: run it from a clone, installed with `make setup`")
    return folder


def _about(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
