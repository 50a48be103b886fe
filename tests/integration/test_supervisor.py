"""The supervisor: children come back, and none is ever left behind.

A process proves that it lives by holding a lock on its file: that needs no process number, which may be
another's by the time it is asked for, and no reaping.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from zest_pipelines.local.orphan_guard import group_lives, signal_group
from zest_pipelines.local.ports import PortInUseError, free_port, require_free_port
from zest_pipelines.local.supervisor import (
    Child,
    StopRequestedError,
    Supervisor,
    SupervisorError,
    restart_delay,
    wait_until,
)

ROOT = Path(__file__).resolve().parents[2]

# argv: own file, whether to ignore SIGTERM, the same for a process to start. Writes its end into `order`.
LIVE = """
import fcntl, os, signal, subprocess, sys, time
path, stubborn, *rest = sys.argv[1:]
def end(number, frame):
    with open(os.path.join(os.path.dirname(path), "order"), "a") as order:
        order.write(os.path.basename(path) + " ")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if stubborn == "stubborn" else end)
if rest:
    subprocess.Popen([sys.executable, "-IS", "-c", os.environ["LIVE"], *rest])
file = open(path, "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("alive", flush=True)
file.write(f"{os.getpid()}\\n"); file.flush()
while True:
    time.sleep(60)
"""


def living(path: Path, *grandchild: str, stubborn: bool = False, restarts: bool = True) -> Child:
    manner = "stubborn" if stubborn else "polite"
    argv = [sys.executable, "-IS", "-c", LIVE, str(path), manner, *grandchild]
    return Child(path.name, argv, env={"LIVE": LIVE}, ready=lambda: lives(path), restarts=restarts)


def lives(path: Path) -> bool:
    """Whether the process of this file has begun and not ended."""
    if not path.exists() or not path.read_text():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def eventually(condition: Callable[[], bool]) -> None:
    assert wait_until(condition, timeout=20, interval=0.02)


def last_pid(path: Path) -> int:
    return int(path.read_text().split()[-1])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_started_child_is_ready_in_a_group_of_its_own_and_its_output_is_private(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    with Supervisor(logs) as supervisor:
        supervisor.start(living(tmp_path / "web"))

        pid = supervisor.pid("web")
        assert pid is not None
        assert lives(tmp_path / "web")
        assert os.getpgid(pid) == pid
        assert supervisor.log("web").read_text() == "alive\n"
        assert stat.S_IMODE(supervisor.log("web").stat().st_mode) == 0o600

    assert not lives(tmp_path / "web")


def test_output_is_appended_to_what_an_earlier_run_left(tmp_path: Path) -> None:
    for _ in range(2):
        with Supervisor(tmp_path / "logs") as supervisor:
            supervisor.start(living(tmp_path / "web"))

    assert (tmp_path / "logs" / "web.log").read_text() == "alive\nalive\n"


def test_children_end_in_reverse_order(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "logs") as supervisor:
        for name in ("first", "second", "third"):
            supervisor.start(living(tmp_path / name))

    assert (tmp_path / "order").read_text() == "third second first "


def test_a_child_and_its_own_child_that_ignore_the_request_are_killed_after_the_grace(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "logs", grace=0.3) as supervisor:
        supervisor.start(living(tmp_path / "head", str(tmp_path / "below"), "stubborn", stubborn=True))
        eventually(lambda: lives(tmp_path / "below"))

    eventually(lambda: not lives(tmp_path / "head") and not lives(tmp_path / "below"))


def test_a_polite_child_is_not_waited_for_longer_than_it_takes(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "logs", grace=30) as supervisor:
        supervisor.start(living(tmp_path / "head", str(tmp_path / "below"), "polite"))
        eventually(lambda: lives(tmp_path / "below"))
        before = time.monotonic()

    assert time.monotonic() - before < 10
    assert set((tmp_path / "order").read_text().split()) == {"head", "below"}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc tells the dead from the living")
def test_a_group_of_dead_processes_that_nobody_reaped_counts_as_gone() -> None:
    process = subprocess.Popen([sys.executable, "-IS", "-c", ""], start_new_session=True)

    eventually(lambda: not group_lives(process.pid))

    assert signal_group(process.pid, 0)
    process.wait()
    assert not signal_group(process.pid, 0)


def test_delays_double_up_to_half_a_minute() -> None:
    assert [restart_delay(failures) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_dead_child_comes_back_after_its_delay_and_what_it_had_started_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    head, below = tmp_path / "head", tmp_path / "below"
    with Supervisor(tmp_path / "logs", grace=0.3, clock=clock) as supervisor:
        supervisor.start(living(head, str(below), "stubborn"))
        eventually(lambda: lives(below))
        first_below = last_pid(below)
        kill(supervisor, "head")

        with caplog.at_level(logging.WARNING):
            supervisor.tick()
        clock.now = 0.99
        supervisor.tick()
        assert supervisor.pid("head") is None
        assert lives(below)
        clock.now = 1.0
        supervisor.tick()

        assert supervisor.pid("head") is not None
        eventually(lambda: lives(head) and lives(below) and last_pid(below) != first_below)
    assert "head ended with -9, restart in 1 s" in caplog.text


def test_failures_in_a_row_wait_longer_and_a_minute_of_life_forgives_them(tmp_path: Path) -> None:
    clock = Clock()
    with Supervisor(tmp_path / "logs", clock=clock) as supervisor:
        supervisor.start(living(tmp_path / "web"))

        def delay_after(life: float) -> float:
            clock.now += life
            kill(supervisor, "web")
            ended = clock.now
            while supervisor.pid("web") is None:
                supervisor.tick()
                clock.now += 0.5
            return clock.now - 0.5 - ended

        assert [delay_after(life) for life in (59, 59, 59, 60, 59)] == [1, 2, 4, 1, 2]


def kill(supervisor: Supervisor, name: str) -> None:
    pid = supervisor.pid(name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: supervisor.exit_code(name) is not None)


def test_a_child_that_does_not_restart_stays_ended_and_tells_its_code(tmp_path: Path) -> None:
    clock = Clock()
    with Supervisor(tmp_path / "logs", clock=clock) as supervisor:
        supervisor.start(Child("once", [sys.executable, "-IS", "-c", "raise SystemExit(3)"], restarts=False))
        supervisor.run(until=lambda: supervisor.exit_code("once") is not None)
        for _ in range(3):
            supervisor.tick()
            clock.now += 100

        assert supervisor.exit_code("once") == 3
        assert supervisor.pid("once") is None


def test_a_child_that_ends_before_it_is_ready_names_its_log(tmp_path: Path) -> None:
    argv = [sys.executable, "-IS", "-c", "raise SystemExit(3)"]
    hopeless = Child("web", argv, ready=lambda: False, restarts=False)

    with (
        Supervisor(tmp_path / "logs") as supervisor,
        pytest.raises(SupervisorError, match=r"ended with 3: see .*web\.log"),
    ):
        supervisor.start(hopeless)


def test_a_child_that_is_never_ready_names_its_log_and_is_ended_too(tmp_path: Path) -> None:
    path = tmp_path / "web"
    endless = Child("web", living(path).argv, env={"LIVE": LIVE}, ready=lambda: False)

    with (
        pytest.raises(SupervisorError, match=r"not ready within 1 s: see .*web\.log"),
        Supervisor(tmp_path / "logs") as supervisor,
    ):
        supervisor.start(endless, timeout=1)

    assert not lives(path)


def test_a_program_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with (
        Supervisor(tmp_path / "logs") as supervisor,
        pytest.raises(SupervisorError, match=r"web cannot be started.*no-such-program"),
    ):
        supervisor.start(Child("web", ["no-such-program"]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_run_and_the_children_and_the_former_handlers_are_back(
    tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    with Supervisor(tmp_path / "logs") as supervisor:
        supervisor.start(living(tmp_path / "web"))
        signal.raise_signal(number)
        supervisor.run()
        assert lives(tmp_path / "web")
        with pytest.raises(StopRequestedError):
            supervisor.start(living(tmp_path / "late"))

    assert not lives(tmp_path / "web")
    assert not lives(tmp_path / "late")
    assert signal.getsignal(number) is before


def test_a_second_interrupt_cuts_the_grace_short(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "logs", grace=60) as supervisor:
        supervisor.start(living(tmp_path / "web", stubborn=True))
        signal.raise_signal(signal.SIGINT)
        supervisor.run()
        signal.raise_signal(signal.SIGINT)
        before = time.monotonic()

    assert time.monotonic() - before < 10
    assert not lives(tmp_path / "web")


OWNER = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
from test_supervisor import living
from zest_pipelines.local.supervisor import Supervisor
folder = Path(sys.argv[1])
with Supervisor(folder / "logs", grace=0.3) as supervisor:
    supervisor.start(living(folder / "head", str(folder / "below"), "stubborn", stubborn=True))
    supervisor.start(living(folder / "other"))
    supervisor.run()
"""


def test_nothing_is_left_of_a_supervisor_that_was_killed_outright(tmp_path: Path) -> None:
    script = OWNER.format(tests=str(Path(__file__).parent), root=str(ROOT))
    owner = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    processes = [tmp_path / name for name in ("head", "below", "other")]
    eventually(lambda: all(lives(path) for path in processes))

    owner.kill()
    owner.wait()

    eventually(lambda: not any(lives(path) for path in processes))
    assert "other" in (tmp_path / "order").read_text()


def test_a_killed_guard_is_started_again_and_keeps_no_child_from_coming_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    with Supervisor(tmp_path / "logs", grace=0.3, clock=clock) as supervisor:
        supervisor.start(living(tmp_path / "head"))
        former = supervisor._guard
        former.kill()
        former.wait()
        supervisor.start(
            Child("at once", living(tmp_path / "other").argv, env={"LIVE": LIVE})
        )  # before anybody noticed
        eventually(lambda: lives(tmp_path / "other"))
        kill(supervisor, "head")
        supervisor.tick()
        clock.now = 1.0
        supervisor.tick()
        eventually(lambda: lives(tmp_path / "head"))
        again = supervisor._guard
        assert (again.poll(), again is former) == (None, False)
        assert again.stdin is not None
        again.stdin.close()  # as when the supervisor is killed
        supervisor._guard = supervisor._new_guard()
        eventually(lambda: not lives(tmp_path / "head") and not lives(tmp_path / "other"))
        again.wait(20)
    assert "the orphan guard ended with -9" in caplog.text


def test_a_port_that_somebody_listens_on_is_told_before_a_process_trips_on_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"Port {port} is taken.*--port"):
            require_free_port(port)

    require_free_port(port)
    require_free_port(free_port())
