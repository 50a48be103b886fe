"""What the storms share: their length, the wait for quiet, and the judgement when it has come."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from partner import Office, truth
from partner_process import RunningPartner
from product_writers import Ledger, Writer, unsettled

from resources.logins import Login, Logins
from zest_pipelines.store import projection

IS_SOAK = os.environ.get("ZEST_SOAK") == "1"
"""Whether the long forms are asked for."""
WRITERS = 4


def wait_until(is_so: Callable[[], bool], seconds: float, every: float = 0.1) -> bool:
    """Poll until `is_so`, `seconds` at most; whether it came to be."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True


@contextmanager
def looking_at(admin_url: str, logins: Logins) -> Iterator[psycopg.Connection]:
    """A superuser's connection to the database of `logins`, in autocommit."""
    with psycopg.connect(admin_url, dbname=logins.database, autocommit=True) as admin:
        yield admin


def writers(logins: Logins, office: Office, ledger: Ledger, count: int = WRITERS, **how: Any) -> list[Writer]:
    """Writers of the office's plan; `how` as Writer's fields."""
    url = logins.libpq_url(Login.PRODUCT)
    return [
        Writer(url, office.name, office.client, office.staff, ledger, f"{office.name}{number}", **how)
        for number in range(count)
    ]


def drain(admin: psycopg.Connection, office: Office, ledger: Ledger, seconds: float = 60.0) -> list[str]:
    """Wait until all is settled, `seconds` at most; what is not settled then as the product was told it."""
    left: list[str] = []

    def is_settled() -> bool:
        left[:] = unsettled(admin, office.name, office.partner.name, ledger)
        return not left

    wait_until(is_settled, seconds, every=0.3)
    return left


def wait_for_silence(partner: RunningPartner, seconds: float = 1.5) -> None:
    """Wait until nobody has called for so long."""
    calls, since = len(partner.log()), time.monotonic()
    while time.monotonic() < since + seconds:
        time.sleep(0.1)
        if len(partner.log()) != calls:
            calls, since = len(partner.log()), time.monotonic()


def broken(office: Office, partner: RunningPartner) -> list[str]:
    """After quiet: what the partner's log and copies say against us, and what our derived tables do."""
    rows = [row for row in partner.log() if (row["recovery"], row["space"]) == office.space]
    wrong, newest = truth(office, partner).broken, dict[tuple[str, str], int]()
    for row in rows:
        if row["effect"] in ("none", "edited"):
            continue
        record = row["kind"], row["record_id"]
        if row["version"] <= newest.get(record, 0):
            wrong.append(f"{row['kind']} {row['record_id']}: version {row['version']} had an effect after a newer one")
        newest[record] = max(row["version"], newest.get(record, 0))
    with office.services.database.transaction(Login.OPERATOR, office.name) as tx:
        wrong += [f"derived wrongly: {each}" for each in projection.differences(tx)]
    return wrong
