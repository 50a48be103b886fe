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
    try:
        from zest_pipelines.cli.app import app

        app(args=list(arguments), prog_name="zest")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except Exception as error:  # noqa: BLE001  # the edge: whatever is left becomes a sentence
        return _reported(error)
    return 0


def _reported(error: Exception) -> int:
    """Tell it; where a partner's module is broken, everything that imports the registry is, the teller too."""
    from zest_pipelines.cli.partner_code import import_fault

    told = import_fault(error)
    if told is None:
        try:
            from zest_pipelines.cli.failures import report
        except Exception as broken:  # the same edge
            told = import_fault(broken)
            if told is None:
                raise
        else:
            return report(error)
    sys.stderr.write(f"{told}\n")
    return 2
