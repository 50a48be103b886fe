"""A server of the operating system's own PostgreSQL, over TCP with passwords, as one that is already there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from zest_pipelines.local.os_user import OsUser, server_user
from zest_pipelines.local.ports import free_port

PASSWORD = "an-administrators"
_VERSIONS = Path("/usr/lib/postgresql")
_SETTINGS = ("fsync=off", "listen_addresses=127.0.0.1", "unix_socket_directories=", "shared_buffers=32MB")


@dataclass(frozen=True)
class Cluster:
    """A server run by the test."""

    pgdata: Path
    programs: Path
    user: OsUser
    port: int

    @property
    def admin_url(self) -> str:
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/postgres?connect_timeout=5"

    def run(self, program: str, *arguments: str) -> None:
        command = self.user.argv([str(self.programs / program), "-D", str(self.pgdata), *arguments])
        # Not captured: the server would hold the pipe open.
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/")


@contextmanager
def debian_cluster(folder: Path) -> Iterator[Cluster]:
    """A server with its files in `folder`, stopped at the end; skips the test where there is no such PostgreSQL."""
    found = sorted(_VERSIONS.glob("*/bin/postgres"), key=lambda path: int(path.parent.parent.name))
    if not found:
        pytest.skip("no PostgreSQL of the operating system's: apt-get install postgresql")
    pgdata, secret = folder / "pg", folder / "secret"
    user = server_user(pgdata)
    secret.write_text(PASSWORD)
    user.own(folder)
    user.own(secret)
    made = Cluster(pgdata, found[-1].parent, user, free_port())
    made.run("initdb", "-U", "postgres", f"--pwfile={secret}", "-A", "scram-sha-256", "-N", "-E", "UTF8", "--locale=C")
    options = " ".join(f"-c {setting}" for setting in (*_SETTINGS, f"port={made.port}"))
    made.run("pg_ctl", "start", "-w", "-s", "-l", str(folder / "log"), "-o", options)
    try:
        yield made
    finally:
        made.run("pg_ctl", "stop", "-s", "-m", "immediate")
