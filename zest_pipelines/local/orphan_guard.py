"""Ends the supervisor's children when the supervisor could not: started beside it, run as a script.

A killed supervisor (SIGKILL, out of memory) runs no clean-up, and a process left behind holds its port and
goes on sending to partners. The system closes a dead process's pipes whatever killed it: this script reads
one whose only writer is the supervisor, is told each group of processes (`+4711`, `-4711`), and at the end
of the stream ends those still noted. PR_SET_PDEATHSIG would end the direct children only, on Linux only, and
when the thread that started them ends rather than the process.

Imports the standard library alone, so that it stays small.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time


def guard(grace: float) -> None:
    """Read standard input to its end, then end every group still noted: SIGTERM, SIGKILL after `grace` s."""
    # Ctrl-C and a closing terminal are the supervisor's to handle.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    end_groups(groups, grace)


def end_groups(groups: set[int], grace: float) -> None:
    """SIGTERM to each group, then SIGKILL to those that still have a process after `grace` seconds."""
    alive = {group for group in groups if signal_group(group, signal.SIGTERM)}
    deadline = time.monotonic() + grace
    while alive and time.monotonic() < deadline:
        time.sleep(0.1)
        alive = {group for group in alive if group_lives(group)}
    for group in alive:
        signal_group(group, signal.SIGKILL)


def signal_group(group: int, number: int) -> bool:
    """Whether the group had a process, dead or alive, to send `number` to."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


def group_lives(group: int) -> bool:
    """Whether a process of the group runs. Where /proc tells, the dead that nobody has reaped do not count.

    In a container whose first process reaps nobody, such a dead one stays for ever.
    """
    if not signal_group(group, 0):
        return False
    if not os.path.exists("/proc/self/stat"):
        return True
    return any(_is_running_member(name, group) for name in os.listdir("/proc") if name.isdecimal())


def _is_running_member(name: str, group: int) -> bool:
    try:
        with open(f"/proc/{name}/stat", "rb") as file:
            # After the program's name, which may hold anything: state, parent, group.
            state, _, its_group = file.read().rpartition(b")")[2].split()[:3]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(its_group) == group and state not in (b"Z", b"X")


if __name__ == "__main__":
    guard(float(sys.argv[1]))
