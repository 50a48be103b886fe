"""`zest` as people run it, and the processes that it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from zest_fork import forker

ZEST = (sys.executable, "-m", "zest_pipelines.cli")
IS_SOAK = os.environ.get("ZEST_SOAK") == "1"
LONG = pytest.mark.skipif(not IS_SOAK, reason="a minute or more: the long form (ZEST_SOAK=1)")


@dataclass(frozen=True)
class Ended:
    """A command that is over."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Zest:
    """The commands of one data directory, run outside of the clone so that its `.env` is left alone."""

    data_dir: Path

    def __call__(self, *arguments: str, stdin: str = "", timeout: float = 120, **env: str) -> Ended:
        with TemporaryFile("w+") as given, TemporaryFile("w+") as out, TemporaryFile("w+") as err:
            given.write(stdin)
            given.seek(0)
            code = forker().run(arguments, {**self._env(), **env}, self.data_dir.parent, (given, out, err), timeout)
            out.seek(0)
            err.seek(0)
            ended = Ended(code, out.read(), err.read())
        assert "Traceback" not in ended.err, ended.err
        return ended

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The command in the background; killed at the end if it still runs."""
        process = subprocess.Popen(
            [*ZEST, *arguments], env=self._env(), cwd=self.data_dir.parent, stdout=subprocess.PIPE, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def left_behind(self) -> list[str]:
        """Command lines of the living processes that belong to the data directory."""
        return list(_commands(str(self.data_dir)))

    def _env(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZEST_", "DAGSTER_"))}
        return kept | {"ZEST_DATA_DIR": str(self.data_dir)}


def wait_for(condition: Callable[[], bool], seconds: float, interval: float = 0.2) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def _commands(mark: str) -> Iterator[str]:
    """Of the processes that name `mark` in their arguments or environment."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            command = (folder / "cmdline").read_bytes()
            if command and mark.encode() in command + (folder / "environ").read_bytes():
                yield command.replace(b"\0", b" ").decode(errors="replace")
