"""The operating system user that PostgreSQL's programs run as.

PostgreSQL refuses to run as root, which is what one is in most containers. Root therefore runs them as
the owner of the server's files, or as a user made for it. That user could not reach a private folder of
root's, and opening every folder above it to everyone is no answer: the programs get the one capability that
lets them pass (CAP_DAC_OVERRIDE, through setpriv) and nothing on the disk changes its mode.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ACCOUNT = "zest_pg"


class OsUserError(Exception):
    """The programs cannot run under any permitted user; the message names the next step."""


@dataclass(frozen=True, slots=True)
class OsUser:
    """Who the server runs as."""

    name: str
    uid: int
    gid: int
    by_root: bool  # whether this process is root and has to step down

    def argv(self, command: Sequence[str]) -> list[str]:
        """`command`, stepping down from root where needed."""
        if not self.by_root:
            return list(command)
        capability = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")
        identity = ("--reuid", str(self.uid), "--regid", str(self.gid), "--clear-groups")
        return ["setpriv", *identity, *capability, "--", *command]

    def own(self, path: Path) -> None:
        """Give `path` to this user."""
        if self.by_root:
            os.chown(path, self.uid, self.gid)


def server_user(pgdata: Path) -> OsUser:
    """The user for the server whose files are at `pgdata`, there already or to be made.

    Raises OsUserError where the files belong to somebody else, or root has no way to step down.
    """
    euid = os.geteuid()
    owner = pgdata.stat().st_uid if pgdata.exists() else None
    if euid != 0:
        if owner not in (None, euid):
            raise OsUserError(f"{pgdata} belongs to another user: work as that user, or choose another --data-dir")
        return _as_os_user(_entry(euid), by_root=False)
    if shutil.which("setpriv") is None:
        raise OsUserError(
            "PostgreSQL refuses to run as root, and setpriv (util-linux) is not here to step down: "
            "run zest as an ordinary user, or install util-linux"
        )
    return _as_os_user(_entry(owner) if owner else _account(), by_root=True)


def _as_os_user(entry: pwd.struct_passwd, *, by_root: bool) -> OsUser:
    return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid, by_root)


def _entry(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise OsUserError(
            f"User {uid} has no entry in the system's user list, which PostgreSQL needs: add one"
        ) from None


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        _make_account()
        return pwd.getpwnam(ACCOUNT)


def _make_account() -> None:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", ACCOUNT]
    try:
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 (a fixed command)
    except (OSError, subprocess.CalledProcessError):
        raise OsUserError(
            f"PostgreSQL refuses to run as root, and the user {ACCOUNT} could not be made: "
            f"make it, or run zest as an ordinary user"
        ) from None
