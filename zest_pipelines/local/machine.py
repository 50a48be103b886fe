"""What the commands do with one machine: prepare a data directory, find its database again, and hold it.

A data directory has one server for life: its embedded one (`pg/` is there), or the one that `zest init` was
given by ZEST_DATABASE_URL. Changing to the other would leave the tenants behind, so it is refused.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg

from resources.logins import Logins
from resources.vault import KEY_VARIABLE, Vault
from zest_pipelines.local import embedded
from zest_pipelines.local.data_dir import DataDir, DataDirError
from zest_pipelines.store import installation
from zest_pipelines.store.errors import StoreError, store_error

ADMIN_VARIABLE = "ZEST_DATABASE_URL"


class MachineError(Exception):
    """This machine is not as the command needs it; the message names the next step."""


@dataclass(frozen=True)
class Prepared:
    """A data directory that every command can use."""

    data_dir: DataDir
    logins: Logins
    is_embedded: bool
    """Whether the database is the directory's own server."""


def prepare(data_dir: DataDir, environ: Mapping[str, str] = os.environ) -> Prepared:
    """Make or renew everything that an installation needs. Safe to repeat.

    The server is that of ZEST_DATABASE_URL if it is set, else the embedded one, which stays up.
    Raises DataDirError, MachineError, EmbeddedServerError, LoginsError, VaultError, StoreError.
    """
    data_dir.open()
    admin_url = environ.get(ADMIN_VARIABLE, "")
    known = Logins.from_file(data_dir.logins_file, environ) if data_dir.logins_file.exists() else None
    _refuse_other_server(data_dir, admin_url, known)
    admin_url = _libpq(admin_url) or embedded.start(data_dir).admin_url
    host, port = _address(admin_url)
    logins = Logins.generate(host, port, known=known.passwords if known else None, environ=environ)
    # Kept before the server learns them: passwords that nobody knows any more would lock everybody out.
    logins.write(data_dir.logins_file)
    if not environ.get(KEY_VARIABLE) and not data_dir.vault_key_file.exists():
        Vault.create_file(data_dir.vault_key_file)
    installation.install(admin_url, logins)
    return Prepared(data_dir, logins, is_embedded=data_dir.pg.exists())


def attach(data_dir: DataDir, environ: Mapping[str, str] = os.environ) -> Logins:
    """The logins of a prepared data directory, its embedded server started if it is not up.

    Raises DataDirError, LoginsError if it was not prepared, EmbeddedServerError.
    """
    require_prepared(data_dir)
    logins = Logins.from_file(data_dir.logins_file, environ)
    if not data_dir.pg.exists():
        return logins
    host = str(embedded.start(data_dir).socket_dir)
    if host != logins.host:  # the directory was moved, and the socket with it
        logins = replace(logins, host=host)
        logins.write(data_dir.logins_file)
    return logins


def require_prepared(data_dir: DataDir) -> None:
    """Raise DataDirError unless `zest init` made the directory, for this version."""
    if not data_dir.version_file.exists():
        raise DataDirError(f"{data_dir.path} is not a data directory of zest: run `zest init` first")
    data_dir.open()


def stop(data_dir: DataDir) -> bool:
    """Stop the embedded server; False if none was up."""
    server = embedded.running(data_dir)
    if server is None:
        return False
    server.stop()
    return True


@contextmanager
def held(data_dir: DataDir) -> Iterator[None]:
    """Hold the data directory for `up` or `demo` (two daemons would do one tick twice); stop its server at the end.

    Raises MachineError if another process holds it. The system lets go when the holder dies.
    """
    with unheld(data_dir):
        try:
            yield
        finally:
            stop(data_dir)


@contextmanager
def unheld(data_dir: DataDir) -> Iterator[None]:
    """Keep `up` and `demo` from starting meanwhile. Raises MachineError if one of them runs."""
    descriptor = os.open(data_dir.path / "up.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        _lock(descriptor, data_dir)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, data_dir: DataDir) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MachineError(
            f"`zest up` or `zest demo` is running with {data_dir.path}: end it there with Ctrl-C, "
            "or choose another folder with --data-dir"
        ) from None


def _refuse_other_server(data_dir: DataDir, admin_url: str, known: Logins | None) -> None:
    if admin_url and data_dir.pg.exists():
        raise MachineError(
            f"{data_dir.path} has a PostgreSQL server of its own: unset {ADMIN_VARIABLE}, "
            "or choose another folder with --data-dir"
        )
    if known and not admin_url and not data_dir.pg.exists():
        raise MachineError(
            f"{data_dir.path} belongs to the server at {known.host}: set {ADMIN_VARIABLE} to its "
            "administrator's URL, or choose another folder with --data-dir"
        )


def _libpq(url: str) -> str:
    """The URL without SQLAlchemy's driver name, which people copy along."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


def _address(admin_url: str) -> tuple[str, int]:
    """Where the server is, as libpq finds it: defaults and PG variables counted in."""
    try:
        with psycopg.connect(admin_url, connect_timeout=10) as admin:
            return admin.info.host, admin.info.port
    except psycopg.ProgrammingError:
        raise MachineError(
            f"{ADMIN_VARIABLE} is not a PostgreSQL URL: write postgresql://user:password@host:5432/postgres"
        ) from None
    except psycopg.Error as error:
        refused = store_error(error)
        if "password" in str(refused):
            refused = StoreError(f"the server refuses the password in {ADMIN_VARIABLE}: correct it")
        raise refused from None
