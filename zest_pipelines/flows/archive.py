"""archive: a settled month of history is put away, while pushes go on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from resources.logins import Login
from zest_pipelines.flows.services import Services
from zest_pipelines.store import archive as archives

_TRIES = 100
_PAUSE_SECONDS = 0.3
"""Between tries. Who uses history waits for one at most as long as the lock is waited for."""
_IN_USE = "its tables are in use all the time; try again when less goes on"


@dataclass(frozen=True)
class ArchiveReport:
    """What became of the month."""

    tables: tuple[str, ...]
    """Those that were put away."""
    waits: str | None
    """Why it stays where it is, in words that follow its name; None: it is away."""


def archive(services: Services, month: date, only_read: Collection[str] = ()) -> ArchiveReport:
    """Put the month away, unless something of it is not settled for some tenant. Raises StoreError.

    `only_read`: the partners to which nothing is written.
    """
    with services.database.transaction(Login.MIGRATOR, None) as tx:
        waits = archives.hindrance(tx, month, only_read=only_read)
    for _ in range(0 if waits else _TRIES):
        with services.database.transaction(Login.MIGRATOR, None) as tx:
            if archives.lock(tx, month):
                waits = archives.hindrance(tx, month, only_read=only_read, is_locked=True)
                return ArchiveReport(() if waits else archives.put_away(tx, month), waits)
        services.sleep(_PAUSE_SECONDS)
    return ArchiveReport((), waits or _IN_USE)
