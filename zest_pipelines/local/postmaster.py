"""What the server's own files say about a running PostgreSQL, and whether it is true.

`postmaster.pid` outlives a killed server, and its process number may belong to another program by then, or,
in a container whose first process reaps nobody, to a dead one. So a server counts as running when it answers
on its socket, and a pid file whose process is not a server of this very directory is thrown away before
PostgreSQL trips on it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psycopg.pq

PORT = 5432  # part of the socket's name only: nothing listens on TCP
SOCKET = f".s.PGSQL.{PORT}"


@dataclass(frozen=True, slots=True)
class PidFile:
    """The lines of postmaster.pid that matter."""

    pid: int
    pgdata: Path
    socket_dir: Path


def read_pid_file(pgdata: Path) -> PidFile | None:
    """What postmaster.pid says; None where there is none or it is not written to the end."""
    try:
        lines = (pgdata / "postmaster.pid").read_text().splitlines()
        return PidFile(pid=int(lines[0]), pgdata=Path(lines[1]), socket_dir=Path(lines[4]))
    except (FileNotFoundError, IndexError, ValueError):
        return None


def ping(socket_dir: Path) -> psycopg.pq.Ping:
    """Ask for a sign of life: OK, REJECT (starting or stopping), NO_RESPONSE. Needs no login."""
    conninfo = psycopg.conninfo.make_conninfo(host=str(socket_dir), port=PORT, connect_timeout=5)
    return psycopg.pq.Ping(psycopg.pq.PGconn.ping(conninfo.encode()))


def live_socket_dir(pgdata: Path) -> Path | None:
    """Where the server of `pgdata` listens, ready or not; None where none is running."""
    noted = read_pid_file(pgdata)
    if noted is None or noted.pgdata != pgdata:
        return None
    alive = ping(noted.socket_dir) in (psycopg.pq.Ping.OK, psycopg.pq.Ping.REJECT)
    return noted.socket_dir if alive else None


def discard_false_pid_file(pgdata: Path, socket_dir: Path) -> None:
    """Remove postmaster.pid, and the socket's lock that repeats it, if its process is no server of `pgdata`.

    Call it under the start's lock.
    """
    noted = read_pid_file(pgdata)
    if noted is not None and not _serves(noted.pid, pgdata):
        (socket_dir / f"{SOCKET}.lock").unlink(missing_ok=True)
        (pgdata / "postmaster.pid").unlink(missing_ok=True)


def _serves(pid: int, pgdata: Path) -> bool:
    """Whether `pid` is a living server of `pgdata`; where the system has no /proc, whether it lives at all.

    Should this be wrong, PostgreSQL still refuses to start while the old server's memory is attached.
    """
    if not Path("/proc/self").exists():
        return _exists(pid)
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()  # empty for a dead process that nobody reaped
    except (FileNotFoundError, ProcessLookupError):
        return False
    return os.fsencode(pgdata) in command.split(b"\0")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
