"""Where a unix socket may stand."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from zest_pipelines.local.sockets import SocketPathError, socket_folder

UID = os.geteuid()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files whose path leaves room for a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_a_folder_that_can_name_the_socket_is_taken_as_it_is() -> None:
    assert socket_folder(Path("/var/lib/zest"), "s", UID) == Path("/var/lib/zest")


@pytest.mark.parametrize("name", ["x" * 100, "山" * 40, "a,b", "a:b", "a%20b", "a#b", "a?b"])
def test_a_path_too_long_or_read_otherwise_has_a_private_place_that_stays_the_same(name: str, short: Path) -> None:
    chosen = socket_folder(Path("/data") / name, "code.sock", UID)
    assert chosen.parent == short
    assert stat.S_IMODE(chosen.stat().st_mode) == 0o700
    assert socket_folder(Path("/data") / name, "code.sock", UID) == chosen
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(chosen / "code.sock"))


def test_a_place_that_somebody_else_made_first_is_refused(short: Path) -> None:
    wanted = Path("/data") / ("x" * 100)
    socket_folder(wanted, "code.sock", UID).chmod(0o755)
    with pytest.raises(SocketPathError, match="someone else"):
        socket_folder(wanted, "code.sock", UID)


def test_where_no_place_is_short_enough_the_next_step_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("y" * 100)))
    with pytest.raises(SocketPathError, match="--data-dir"):
        socket_folder(Path("/data") / ("x" * 100), "code.sock", UID)
