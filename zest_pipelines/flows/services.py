"""What every station needs from outside, handed in as one value: nothing in the flows reaches for a global."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from resources.http import Http
from resources.vault import Vault
from zest_pipelines.store.database import Database


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Services:
    """Database, secrets, HTTP, and the three things that tests replace."""

    database: Database
    vault: Vault
    http: Http
    now: Callable[[], datetime] = _now
    """Aware; for what is shown and measured. Leases and limits go by the database's clock."""
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random
    under_way: timedelta = timedelta(seconds=30)
    """How long a call whose answer we have not got may still take effect: until then "not there" proves nothing."""
