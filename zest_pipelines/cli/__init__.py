"""`zest`: the commands. An error ends in one sentence on standard error, never in a traceback.

Exit codes: 0 done; 1 done, but something is not equal or needs a person; 2 not done, the sentence says why.
Commands import what they need when they run, so that `zest --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main() -> None:
    """Run the process's command and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command, its arguments without the program's name; the exit code."""
    from zest_pipelines.cli.app import app

    try:
        app(args=list(arguments), prog_name="zest")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except Exception as error:  # noqa: BLE001  # the edge: whatever is left becomes a sentence
        from zest_pipelines.cli.failures import report

        return report(error)
    return 0
