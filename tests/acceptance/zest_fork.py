"""Commands that are forked from a process which has `zest` loaded: what a short command takes is mostly its imports.

Each is a process of its own, with the streams, the environment and the directory it was given.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import IO, NoReturn

# All but `zest_pipelines.definitions`, which the environment has a say in.
_PACKAGES = (
    "partners",
    "resources",
    *(f"zest_pipelines.{room}" for room in ("cli", "flows", "orchestration", "store")),
)
_MOST_BYTES = 1 << 20


class Forker:
    """The process that forks. It ends with the one that made it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            typed = (sys.executable, __file__, str(theirs.fileno()))
            self.process = subprocess.Popen(typed, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def run(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        folder: Path,
        streams: tuple[IO[str], IO[str], IO[str]],
        seconds: float,
    ) -> int:
        """The exit code of `zest` with these arguments; negative: the signal that ended it. TimeoutError: killed."""
        asked = json.dumps({"arguments": arguments, "env": dict(env), "folder": str(folder)})
        socket.send_fds(self._socket, [asked.encode()], [each.fileno() for each in streams])
        pid = int(self._socket.recv(_MOST_BYTES))
        self._socket.settimeout(seconds)
        try:
            return int(self._socket.recv(_MOST_BYTES))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._socket.settimeout(None)
            self._socket.recv(_MOST_BYTES)
            raise
        finally:
            self._socket.settimeout(None)


@cache
def forker() -> Forker:
    """This process's own, made when it is first asked for."""
    return Forker()


def _serve(asked_by: socket.socket) -> None:
    for package in _PACKAGES:
        for each in walk_packages(import_module(package).__path__, f"{package}."):
            if "__main__" not in each.name:
                import_module(each.name)
    while True:
        asked, streams, _, _ = socket.recv_fds(asked_by, _MOST_BYTES, 3)
        if not asked:
            return
        pid = os.fork()
        if pid == 0:
            asked_by.close()
            for number, each in enumerate(streams):
                os.dup2(each, number)
                os.close(each)
            _run(**json.loads(asked))
        for each in streams:
            os.close(each)
        asked_by.send(str(pid).encode())
        asked_by.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _run(arguments: Sequence[str], env: Mapping[str, str], folder: str) -> NoReturn:
    from zest_pipelines.cli import run

    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv[1:] = arguments
    code = run(arguments)
    atexit._run_exitfuncs()
    for each in (sys.stdout, sys.stderr):
        each.flush()
    os._exit(code)  # an ordinary end takes all modules down, which takes longer than most commands


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
