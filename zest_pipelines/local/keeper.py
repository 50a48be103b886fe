"""Starts the embedded server again when it died under the platform.

The server is nobody's child (see embedded.py), so no exit tells of its end: it is asked now and then. A start that
fails is tried again for ever, since nothing else on the machine can work before it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from zest_pipelines.local import embedded
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.local.embedded import EmbeddedServerError
from zest_pipelines.local.supervisor import restart_delay

_log = logging.getLogger(__name__)

ASK_EVERY = 2.0
"""Seconds."""


class Keeper:
    """Call it often, from one thread."""

    def __init__(self, data_dir: DataDir, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._data_dir = data_dir
        self._clock = clock
        self._ask_at = clock()
        self._failures = 0

    def __call__(self) -> None:
        """Ask if it is time to, and start the server if it is down; waits while it recovers. A server elsewhere, named
        by its URL, is left alone."""
        if self._clock() < self._ask_at or not self._data_dir.pg.exists():
            return
        if embedded.running(self._data_dir) is None:
            self._start()
        self._ask_at = self._clock() + (restart_delay(self._failures) if self._failures else ASK_EVERY)

    def _start(self) -> None:
        _log.warning("PostgreSQL is down: starting it again, see %s", self._data_dir.logs / "postgres.log")
        try:
            embedded.start(self._data_dir)
            self._failures = 0
        except EmbeddedServerError as error:
            self._failures += 1
            _log.error("%s. It is tried again in %g s", error, restart_delay(self._failures))
