"""Runs every mutant and prints who was caught by what. Exits with 1 if one was not."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

_PROMISES = {
    1: "nothing lost",
    2: "nothing doubled",
    3: "rising versions",
    5: "equal after quiet",
    7: "one bad record delays no other",
}


@dataclass
class Verdicts:
    """What pytest says of each mutant."""

    caught: dict[str, bool] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Heed the tests that a mutant plays in."""
        _, is_mutant, rest = report.nodeid.partition("test_the_breach_is_noticed[")
        if is_mutant and (report.when == "call" or report.failed):
            self.caught[rest[:-1]] = report.passed
            self.seconds[rest[:-1]] = report.duration


def main() -> int:
    """0: all are caught; 1: one is not, or a scene could not be played or fails without any mutant."""
    os.environ["ZEST_MUTANTS"] = "all"
    here, verdicts, started = Path(__file__).parent, Verdicts(), time.monotonic()
    tests = [
        str(here / name)
        for name in ("test_mutants.py", "test_scenes.py", "test_ledger_mutants.py", "test_landing_scenes.py")
    ]
    code = pytest.main(["-q", "-p", "no:cacheprovider", *tests], plugins=[verdicts])
    from landing_mutants import LANDING_MUTANTS  # found by the path that pytest has set
    from ledger_mutants import LEDGER_MUTANTS
    from mutants import MUTANTS

    table = Table("mutant", "breaks the rule", "promise", "caught by", "seconds", title="Rules broken on purpose")
    rows = [
        (name, each.breaks, f"{each.invariant} {_PROMISES[each.invariant]}", each.scene)
        for name, each in MUTANTS.items()
    ]
    rows += [(name, each.breaks, "limits kept", each.scene) for name, each in LEDGER_MUTANTS.items()]
    rows += [(name, each.breaks, each.promise, each.scene) for name, each in LANDING_MUTANTS.items()]
    for name, breaks, promise, scene in rows:
        by = f"[green]{scene}" if verdicts.caught.get(name, False) else f"[bold red]NOT CAUGHT[/] ({scene})"
        table.add_row(name, breaks, promise, by, f"{verdicts.seconds.get(name, 0.0):.1f}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(f"{sum(verdicts.caught.values())} of {len(rows)} caught in {time.monotonic() - started:.0f} s")
    return 0 if code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
