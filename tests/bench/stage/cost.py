"""What a piece of work costs: processor time here and in PostgreSQL, time by the clock, memory.

PostgreSQL's processor time is that of the postmaster and of all its children, living ones by /proc/PID/stat, ended
ones as the system adds them to their parent: backends, writers and checkpoints alike, whoever caused them. So nothing
else may use the server meanwhile. In ticks of the system, a hundredth of a second a process. Linux only. Standard
library only: it also runs under an interpreter without the project.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
_MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Cost:
    """Of one piece of work in one process."""

    client_cpu: float
    """Seconds of this process, its threads and its ended children."""
    server_cpu: float
    """Seconds of PostgreSQL's processes."""
    seconds: float
    """By the clock."""
    peak_mb: float
    """Most memory (RSS) of this process beyond what it had when the work began."""

    def told(self) -> dict[str, Any]:
        """As JSON has it, for the process that asked for the work."""
        return asdict(self)


def measured(work: Callable[[], None], postmaster: int) -> Cost:
    """Do the work and tell what it cost."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark of memory begins anew (proc(5))
    memory = _memory("VmRSS")
    server, client, started = server_cpu(postmaster), _client_cpu(), time.monotonic()
    work()
    seconds, spent = time.monotonic() - started, _client_cpu() - client
    return Cost(spent, server_cpu(postmaster) - server, seconds, max(0.0, _memory("VmHWM") - memory))


def server_cpu(postmaster: int) -> float:
    """Seconds that the server of this process id has used since it started."""
    own, before = _own_ticks(postmaster), -1
    ticks = 0
    while own != before:  # else a child ended meanwhile, and is counted in neither place or in both
        before = own
        found = (_stat(int(entry.name)) for entry in os.scandir("/proc") if entry.name.isdigit())
        ticks = sum(sum(stat[11:13]) for stat in found if stat and stat[1] == postmaster)
        own = _own_ticks(postmaster)
    return (own + ticks) / _TICKS


def _own_ticks(postmaster: int) -> int:
    """Its own, and its ended children's."""
    own = _stat(postmaster)
    assert own is not None, f"no PostgreSQL runs as process {postmaster}"
    return sum(own[11:15])


def _stat(pid: int) -> list[int] | None:
    """The fields of proc(5)'s stat from the third on, the state as 0; None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return [int(each) if each.lstrip("-").isdigit() else 0 for each in text.rpartition(")")[2].split()]


def _client_cpu() -> float:
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _memory(name: str) -> float:
    """A line of /proc/self/status, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kilobytes) * 1024 / _MEGABYTE
