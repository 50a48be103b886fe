"""The units of docs/systemd, as a server runs them: each process by its own ExecStart, on a PostgreSQL that was there.

The paths and the port are the test's, all else is taken from the files.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from debian_cluster import debian_cluster
from dotenv import dotenv_values
from zest_process import ZEST, wait_for

from zest_pipelines.flows.push_period import push_period
from zest_pipelines.local.ports import free_port

pytestmark = pytest.mark.acceptance

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "systemd"
PROCESSES = [FOLDER / f"zest-{name}.service" for name in ("code", "daemon", "webserver", "board", "alerts")]
PROGRAMS, DATA, PORT, BOARD = "/opt/zest-pipelines/.venv/bin", "/var/lib/zest", "3000", "3080"
"""What the files say."""


def hear_interrupts() -> None:
    """SIGINT is heard: Dagster treats SIGTERM alike, and a shell's background jobs start with it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Server:
    """A prepared data directory, and where the units are to find it."""

    data_dir: Path
    port: int
    board: int
    dagster_url: str

    def unit(self, path: Path) -> str:
        """The unit's text for this machine."""
        text = path.read_text().replace(PROGRAMS, str(Path(sys.executable).parent)).replace(DATA, str(self.data_dir))
        return text.replace(f"--port {PORT}", f"--port {self.port}").replace(f"--port {BOARD}", f"--port {self.board}")

    @contextmanager
    def running(self, path: Path) -> Iterator[subprocess.Popen[bytes]]:
        """The unit's process, in its folder and with nothing in its environment but what systemd and the unit give."""
        said = dict(line.split("=", 1) for line in self.unit(path).splitlines() if "=" in line)
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **dotenv_values(said["EnvironmentFile"])}
        with (self.data_dir / "logs" / f"{path.stem}.log").open("wb") as log:
            process = subprocess.Popen(
                shlex.split(said["ExecStart"]),
                cwd=said["WorkingDirectory"],
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=hear_interrupts,  # as under systemd, and never as this test's own parent was told
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                assert process.wait(120) == 0, self.told()
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def ask(self, query: str) -> Any:
        """The webserver's answer, None while it has none."""
        try:
            url = f"http://127.0.0.1:{self.port}/graphql"
            return httpx.post(url, json={"query": query}, timeout=20, trust_env=False).raise_for_status().json()["data"]
        except httpx.HTTPError:
            return None

    def shows_code(self) -> bool:
        told = self.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } } } } }")
        return bool(told) and [each["location"]["name"] for each in told["repositoriesOrError"]["nodes"]] == ["zest"]

    def daemons_are_healthy(self) -> bool:
        told = self.ask("{ instance { daemonHealth { allDaemonStatuses { required healthy } } } }")
        daemons = told["instance"]["daemonHealth"]["allDaemonStatuses"] if told else []
        return bool(daemons) and all(each["healthy"] for each in daemons if each["required"])

    def board_answers(self) -> bool:
        """Whether the board has its database and wants a token."""
        try:
            token = {"authorization": f"Bearer sakura.{'a' * 43}"}
            url = f"http://127.0.0.1:{self.board}/api/overview"
            return httpx.get(url, headers=token, timeout=20, trust_env=False).status_code == 401
        except httpx.HTTPError:
            return False

    def has_ticked(self) -> bool:
        """Whether the code server evaluated a tick, and found nothing to do."""
        with psycopg.connect(self.dagster_url) as tx:
            return bool(tx.execute("SELECT FROM job_ticks WHERE status = 'SKIPPED'").fetchall())

    def told(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-4000:]}" for path in self.data_dir.glob("logs/*.log"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    data_dir = folder / "data"
    with debian_cluster(tmp_path_factory.mktemp("debian")) as cluster:
        bare = {name: value for name, value in os.environ.items() if not name.startswith(("ZEST_", "DAGSTER_"))}

        def zest(*arguments: str, **more: str) -> str:
            env = bare | {"ZEST_DATA_DIR": str(data_dir)} | more
            done = subprocess.run([*ZEST, *arguments], env=env, cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        zest("init", ZEST_DATABASE_URL=cluster.admin_url)
        yield Server(data_dir, free_port(), free_port(), zest("db-url", "--login", "dagster"))


def test_the_units_processes_make_a_platform_whatever_order_they_come_up_in(server: Server) -> None:
    code, daemon, webserver, board, alerts = PROCESSES
    with ExitStack() as stack:
        for path in (
            alerts,
            board,
            webserver,
            daemon,
            code,
        ):  # the code server last: After= is no promise that it answers
            stack.enter_context(server.running(path))
        assert wait_for(server.board_answers, 30, 0.5), server.told()
        assert wait_for(server.shows_code, 90, 0.5), server.told()
        assert wait_for(server.daemons_are_healthy, 90, 0.5), server.told()
        assert wait_for(server.has_ticked, 90, 0.5), server.told()
    assert not (server.data_dir / "pg").exists()


def test_systemd_finds_nothing_wrong_with_the_units(server: Server, tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("no systemd-analyze here: apt-get install systemd")
    units = sorted(FOLDER.iterdir())
    for path in units:
        (tmp_path / path.name).write_text(server.unit(path))
    files = [str(tmp_path / path.name) for path in units]
    done = subprocess.run([verify, "verify", *files], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_code_server_is_renewed_by_the_timer_alone_and_lets_a_push_of_a_week_end() -> None:
    texts = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert not [name for name, text in texts.items() if "RuntimeMaxSec" in text]  # it falls at any hour
    assert "systemctl try-restart zest-code.service\n" in texts["zest-code-renew.service"]
    stop = re.search(r"^TimeoutStopSec=(\d+)min$", texts["zest-code.service"], re.MULTILINE)
    assert stop is not None
    patience = inspect.signature(push_period).parameters["patience"].default
    assert timedelta(minutes=int(stop[1])) > patience


def test_the_code_server_is_renewed_at_night_in_japan() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here: apt-get install systemd")
    when = re.search(r"^OnCalendar=(.+)$", (FOLDER / "zest-code-renew.timer").read_text(), re.MULTILINE)
    assert when is not None
    command = [analyze, "calendar", "--iterations=2", when[1]]
    told = subprocess.run(command, capture_output=True, text=True, env={"TZ": "Asia/Tokyo"}).stdout
    hours = [int(hour) for hour in re.findall(r" (\d\d):\d\d:\d\d JST", told)]
    assert len(hours) == 2, told
    assert set(hours) <= {1, 2, 3, 4}
