"""The months of history: partitions that must be there before their first edit. Made by `zest_operator`."""

from __future__ import annotations

from datetime import date

from resources.logins import Login
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.query import query

_MAKE = query(
    "make_months",
    Login.OPERATOR,
    "SELECT sync.make_months(CAST(:first AS date), CAST(:months AS integer))",
)


def make(tx: Transaction, first: date, months: int) -> None:
    """Make the partitions of `months` months, from that of `first` on; those that are there stay."""
    _MAKE.run(tx, first=first, months=months)
