"""Dagster's own launcher, a process a run on this machine, with an eye on whether the process still lives.

The code server that starts a run's process reports its end. When both die at once, or the database was away at that
moment, nobody does: the run would count as started for ever, and its tenant as busy. So run monitoring asks here, and
the answer rests on the process alone, not on who started it. `zest sync`, which runs in its own process, is seen too.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from dagster import DagsterEventType, DagsterRun, DefaultRunLauncher
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus  # what a launcher answers has no public name

_PROC = Path("/proc")
_TOLERANCE = 2.0
"""Seconds between two readings of the clocks that are compared."""


class WatchedRunLauncher(DefaultRunLauncher):
    """DefaultRunLauncher whose runs end as failed when their process is gone."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """See RunLauncher."""
        return (_PROC / "self/stat").exists()

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process lives that has noted itself in the run's log. RUNNING where none has yet."""
        worker = self._worker(run.run_id)
        if worker is None or process_lives(*worker):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"The run's process {worker[0]} is gone.")

    def _worker(self, run_id: str) -> tuple[int, float] | None:
        """The newest process of the run, and when it said so."""
        entries = self._instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT)
        for entry in reversed(entries):
            data = entry.get_dagster_event().engine_event_data
            if "pid" in data.metadata:
                return int(str(data.metadata["pid"].value)), entry.timestamp
        return None


def process_lives(pid: int, seen_at: float) -> bool:
    """Whether the process that had the number `pid` at `seen_at` (Unix time) runs; a later one may have it by now."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    fields = stat.rpartition(")")[2].split()  # after the program's name, which may hold anything
    state, started_ticks = fields[0], int(fields[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")
    return state not in ("Z", "X") and time.time() - age <= seen_at + _TOLERANCE
