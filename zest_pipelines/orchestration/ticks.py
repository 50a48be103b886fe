"""One evaluation of a schedule or sensor: ask the tables who is due, and request runs for those alone.

A tick asks for everything that is due, not for "its" minute, so a missed one needs no catching up. It never
raises for a database that is away: the next tick asks again, and a traceback a minute would bury what
matters.
"""

from __future__ import annotations

from dagster import DagsterInstance, RunRequest, SkipReason

from resources.configurable import PostgresResource
from zest_pipelines.orchestration.demands import Demand
from zest_pipelines.orchestration.jobs import busy_tenants, run_requests
from zest_pipelines.orchestration.opened import NOT_ANSWERED, asked
from zest_pipelines.orchestration.partitions import add_tenants
from zest_pipelines.store import due
from zest_pipelines.store.database import Transaction


def request_runs(
    demand: Demand, instance: DagsterInstance, postgres: PostgresResource, run_key: str | None
) -> list[RunRequest] | SkipReason:
    """The runs to start now, or in plain words why there are none. Adds the partition keys that are missing first."""
    partner, direction = demand.partner, demand.direction
    try:
        asked(postgres, demand.prepare)  # it keeps rows that pushes wait for, and the questions take their time
        connected, wanted = asked(postgres, lambda tx: _ask(demand, tx))
    except NOT_ANSWERED as error:
        return SkipReason(f"{str(error).removesuffix('.')}. Nothing was requested; the next tick asks again.")
    keys = add_tenants(instance, partner, connected)
    if not connected:
        return SkipReason(f"No tenant is connected to {partner.name}: `zest connect` connects one.")
    if not wanted:
        return SkipReason(f"None of {len(connected)} connected tenants has {demand.what}.")
    busy = busy_tenants(instance, partner, direction, keys)
    free = [tenant for tenant in wanted if tenant not in busy]
    if not free:
        return SkipReason(f"{len(wanted)} tenants have {demand.what}; each has a run queued or running already.")
    return run_requests(demand, keys, free, run_key)


def _ask(demand: Demand, tx: Transaction) -> tuple[frozenset[str], list[str]]:
    """All connected tenants, and those of them who are wanted, in the order in which they are."""
    connected = frozenset(due.tenants(tx, demand.partner.name))
    return connected, [tenant for tenant in demand.who(tx) if tenant in connected]
