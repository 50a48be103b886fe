"""Where a unix socket stands: its path holds some hundred bytes, and a data directory's may be longer."""

from __future__ import annotations

import os
import tempfile
from hashlib import sha256
from pathlib import Path

# The shorter of the limits in use, less its closing zero byte: 104 bytes on macOS, 108 on Linux.
_LONGEST = 103

# libpq reads a comma as a list of hosts, SQLAlchemy a colon as a port, gRPC an address as a URI.
_READ_OTHERWISE = set(b",:%#?")


class SocketPathError(Exception):
    """No folder is fit for the socket; the message names the next step."""


def socket_folder(wanted: Path, socket: str, uid: int) -> Path:
    """`wanted` itself, or a short private folder of the user `uid` where that path cannot name the socket.

    Raises SocketPathError.
    """
    if _can_hold(wanted, socket):
        return wanted
    digest = sha256(os.fsencode(wanted)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"zest-{uid}-{digest}"
    if not _can_hold(short, socket):
        raise SocketPathError(f"{wanted} is too long a path for a socket: choose a shorter --data-dir")
    _make_private_to(short, uid)
    return short


def _can_hold(folder: Path, socket: str) -> bool:
    name = os.fsencode(folder / socket)
    return len(name) <= _LONGEST and not _READ_OTHERWISE & set(name)


def _make_private_to(folder: Path, uid: int) -> None:
    """Anyone may make a folder of this name in a shared place first: only one of our own will do."""
    try:
        folder.mkdir(mode=0o700)
        if uid != os.geteuid():
            os.chown(folder, uid, -1)
    except FileExistsError:
        found = folder.lstat()
        if folder.is_symlink() or found.st_uid != uid or found.st_mode & 0o077:
            raise SocketPathError(
                f"{folder} was made by someone else: remove it, or choose a shorter --data-dir"
            ) from None
