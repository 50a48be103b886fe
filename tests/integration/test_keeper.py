"""The keeper: a server that died under the platform comes back, and one that cannot is tried again."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import psycopg
import pytest

from zest_pipelines.local import embedded
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.local.keeper import ASK_EVERY, Keeper
from zest_pipelines.local.postmaster import read_pid_file
from zest_pipelines.local.supervisor import wait_until


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_killed_server_is_started_again_at_the_next_look(tmp_path: Path) -> None:
    data_dir, clock = DataDir(tmp_path / "zest"), Clock()
    data_dir.open()
    server = embedded.start(data_dir)
    try:
        keeper = Keeper(data_dir, clock=clock)
        keeper()
        noted = read_pid_file(data_dir.pg)
        assert noted is not None
        os.kill(noted.pid, signal.SIGKILL)
        assert wait_until(lambda: not server.is_running, 10)

        clock.now = ASK_EVERY / 2
        keeper()
        assert not server.is_running  # it does not ask at every tick
        clock.now = ASK_EVERY
        keeper()
        with psycopg.connect(server.admin_url) as tx:
            assert tx.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.stop("immediate")


def test_a_server_that_cannot_start_is_tried_again_later_and_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data_dir, clock = DataDir(tmp_path / "zest"), Clock()
    data_dir.open()
    data_dir.pg.mkdir()
    (data_dir.pg / "PG_VERSION").write_text("9\n")
    keeper = Keeper(data_dir, clock=clock)
    with caplog.at_level(logging.ERROR):
        for clock.now in (0.0, 0.5, 1.0, 2.9, 3.0):  # due at 0, 1 and 3
            keeper()
    assert len(caplog.records) == 3


def test_a_server_elsewhere_is_left_alone(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path / "zest")
    data_dir.open()
    Keeper(data_dir)()
    assert not data_dir.pg.exists()
