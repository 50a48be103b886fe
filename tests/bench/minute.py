"""A minute in which every tenant has something to push: how long until all of it has arrived, and what it costs.

An installation of its own in a temporary folder: embedded PostgreSQL, one sandbox for all tenants, their masters taken
in, and the platform as `zest up` runs it. Three confirmed visits a tenant are then inserted in one go. The bar: all of
them are at the partner before the tick after the next one, with no limit in the way.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stage.installation import Installation, installation, platform, say, wait_for

from partners.fhir.sandbox.testing import RunningSandbox

VISITS = 3
BAR_SECONDS = 120.0


@dataclass(frozen=True)
class Cost:
    """Rows of Dagster's database, so far."""

    runs: int
    events: int
    checks: int
    """Answers of checks, or plans of them."""

    def since(self, before: Cost) -> Cost:
        """What came after `before`."""
        return Cost(self.runs - before.runs, self.events - before.events, self.checks - before.checks)


def cost(made: Installation) -> Cost:
    """Asked of Dagster's own database."""
    counts = made.ask_dagster(
        "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM event_logs), "
        "(SELECT count(*) FROM asset_check_executions)"
    )
    return Cost(*counts)


def first_run_at(made: Installation, after: datetime) -> datetime | None:
    """When the first run after `after` was made."""
    utc = after.astimezone(UTC).replace(tzinfo=None)
    found = made.ask_dagster("SELECT min(create_timestamp) FROM runs WHERE create_timestamp > %s", utc)[0]
    return None if found is None else found.replace(tzinfo=UTC)


def main() -> None:
    """Run it and print the figures as JSON; exit code 1 if the bar was missed."""
    parser = argparse.ArgumentParser(prog="zest bench minute", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tenants", type=int, default=300, help="how many (default 300)")
    chosen = parser.parse_args()
    names = [f"tenant-{number:04}" for number in range(chosen.tenants)]
    with (
        tempfile.TemporaryDirectory(prefix="zest-minute-") as folder,
        installation(Path(folder), names) as made,
        platform(Path(folder), made),
    ):
        figures = _measured(made)
    print(json.dumps(figures, indent=2))
    sys.exit(0 if figures["within_the_bar"] else 1)


def _measured(made: Installation) -> dict[str, Any]:
    wait_for(lambda: made.known_tenants() == len(made.names), "the first tick")
    wait_for(lambda: made.unfinished_runs() == 0, "the runs before it")
    before, load, wanted = cost(made), os.getloadavg()[0], VISITS * len(made.names)
    inserted_at = datetime.now(UTC)
    made.insert_visits(made.names, VISITS, inserted_at.replace(microsecond=0) + timedelta(days=1))
    started = time.monotonic()
    say(f"{wanted} visits inserted; waiting for them at the partner")
    wait_for(lambda: made.arrived() > 0, "the first visit")
    first = time.monotonic() - started
    wait_for(lambda: made.arrived() >= wanted, "the last visit")
    last, arrived_at = time.monotonic() - started, datetime.now(UTC)
    wait_for(lambda: made.unfinished_runs() == 0, "the runs' ends")
    spent = cost(made).since(before)
    requested = first_run_at(made, inserted_at)
    assert requested is not None
    say("all are there; now a minute in which nothing happens")
    quiet = cost(made)
    time.sleep(60)
    idle = cost(made).since(quiet)
    since_request = (arrived_at - requested).total_seconds()
    return {
        "tenants": len(made.names),
        "visits": wanted,
        "created_twice": _doubles(made.sandbox),
        "seconds_to_first": round(first, 1),
        "seconds_to_last": round(last, 1),
        "seconds_from_first_run_requested_to_last": round(since_request, 1),
        "bar_seconds": BAR_SECONDS,
        "within_the_bar": last <= BAR_SECONDS,
        "runs": spent.runs,
        "event_rows": spent.events,
        "check_rows": spent.checks,
        "idle_minute": {"runs": idle.runs, "event_rows": idle.events, "check_rows": idle.checks},
        "load_before": round(load, 1),
        "load_after": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }


def _doubles(sandbox: RunningSandbox) -> int:
    made = [row["identifier"] for row in sandbox.journal() if row["effect"] == "created"]
    return len(made) - len(set(made))


if __name__ == "__main__":
    main()
