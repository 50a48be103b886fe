"""What the tests of the flows share: the product's and the partner's truth, and hands to meddle with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
from conftest import TOKEN, Tenant, wait_for

from partners.fhir.sandbox.testing import RunningSandbox
from resources.http import Http
from resources.logins import Login
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.flows.reports import PushReport
from zest_pipelines.store.database import Database

Row = dict[str, Any]

_UNREAD = """
    SELECT count(*) FROM sync.update_event e LEFT JOIN sync.event_cursor c ON c.partner = :partner
    WHERE (e.xid, e.event_id) > (coalesce(c.xid, xid8 '0'), coalesce(c.event_id, 0))
"""


def impatient(tenant: Tenant, seconds: float = 0.7) -> Tenant:
    """The tenant, served with a short deadline for each call and without backoff."""
    http = Http(total_seconds=seconds, connect_seconds=0.5)
    return replace(tenant, services=replace(tenant.services, http=http, random=lambda: 0.0))


def accumulate_all(tenant: Tenant) -> None:
    """Accumulate until every event is read: another database's transaction may hold the newest back for a moment."""

    def is_read() -> bool:
        accumulate(tenant.services, tenant.partner, tenant.name)
        return unread(tenant) == 0

    wait_for(is_read)


def unread(tenant: Tenant) -> int:
    """How many events its partner's connection has not read."""
    return int(tenant.sql(_UNREAD, Login.OPERATOR, partner=tenant.partner.name)[0][0])


def push_now(tenant: Tenant) -> PushReport:
    """Accumulate everything and push once."""
    accumulate_all(tenant)
    return push(tenant.services, tenant.partner, tenant.name)


@contextmanager
def beside(tenant: Tenant, **how: Any) -> Iterator[Future[PushReport]]:
    """All accumulated, and a push beside the test, with connections of its own as another process has them."""
    accumulate_all(tenant)
    database = Database(tenant.services.database._logins)
    try:
        with ThreadPoolExecutor(1) as pool:
            services = replace(tenant.services, database=database)
            yield pool.submit(push, services, tenant.partner, tenant.name, **how)
    finally:
        database.close()


def expire_lease(tenant: Tenant) -> None:
    """What a minute does to the lease of a push that died."""
    tenant.sql("UPDATE sync.lease SET until = clock_timestamp()", Login.PUSH)


def forget_hold(tenant: Tenant) -> None:
    """What time does to a connection that the breaker holds back. As the owner, since the push would lift it later."""
    with tenant.services.database.transaction(Login.MIGRATOR, tenant.name) as tx:
        tx.exec_driver_sql("SET LOCAL ROLE zest_owner")
        tx.exec_driver_sql("UPDATE sync.hold SET until = clock_timestamp()")


def forget_backoff(tenant: Tenant, only: UUID | None = None) -> None:
    """What time does to a record that waits for its next try. As the owner: nobody else may write `pending`.

    `only`: this one alone has its turn; the others wait for an hour.
    """
    with tenant.services.database.transaction(Login.MIGRATOR, tenant.name) as tx:
        tx.exec_driver_sql("SET LOCAL ROLE zest_owner")
        tx.exec_driver_sql("UPDATE sync.pending SET not_before = NULL")
        if only is not None:
            later = "UPDATE sync.pending SET not_before = clock_timestamp() + interval '1 hour' WHERE record_id <> %s"
            tx.exec_driver_sql(later, (only,))
        tx.exec_driver_sql("UPDATE sync.standing SET suspect_not_before = NULL")


def calls(sandbox: RunningSandbox, *methods: str, kind: str | None = None, after: int = 0) -> list[Row]:
    """The partner's log of calls, of these methods (none: all) and of this resource type."""
    return [
        row
        for row in sandbox.journal(after)
        if (not methods or row["method"] in methods) and kind in (None, row["resource_type"])
    ]


def mark(sandbox: RunningSandbox) -> int:
    """Where the partner's log ends now."""
    rows = sandbox.journal()
    return int(rows[-1]["seq"]) if rows else 0


def effects(sandbox: RunningSandbox, record_id: UUID) -> list[str]:
    """What the partner's log says was done to a record of ours, in order."""
    rows = calls(sandbox, "POST", "PUT", "DELETE")
    return [row["effect"] for row in rows if row["identifier"] == str(record_id) and row["effect"] != "none"]


def copy_of(sandbox: RunningSandbox, record_id: UUID, kind: str = "Appointment") -> Row:
    """The partner's only copy of a record."""
    copies = [each for each in sandbox.state(kind) if _number(each) == str(record_id)]
    assert len(copies) == 1
    return copies[0]


def history(sandbox: RunningSandbox, resource: Mapping[str, Any]) -> list[Row]:
    """All versions of a resource at the partner, oldest first."""
    address = f"{sandbox.url}/{resource['resourceType']}/{resource['id']}/_history"
    bundle = httpx.get(address, headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False).json()
    return [entry["resource"] for entry in reversed(bundle["entry"])]


def broken_promises(tenant: Tenant) -> list[str]:
    """Where the partner differs from the product, and what was done twice. Empty after quiet."""
    sandbox = tenant.sandbox
    made = Counter(row["identifier"] for row in calls(sandbox, "POST") if row["effect"] == "created")
    broken = [f"{record} made {times} times" for record, times in made.items() if times > 1]
    copies: dict[str, list[Row]] = {}
    for each in sandbox.state("Appointment"):
        copies.setdefault(_number(each), []).append(each)
    people = {row.record_id: row.partner_id for row in tenant.sql("SELECT * FROM sync.identity", Login.OPERATOR)}
    plans = {str(row.visit_id): row for row in tenant.sql("SELECT * FROM schedule.visit")}
    for visit_id in plans.keys() | copies.keys():
        wanted = _wanted(plans.get(visit_id), people)
        held = {_shown(each) for each in copies.get(visit_id, ())} - {None}
        if held != ({wanted} - {None}):
            broken.append(f"{visit_id} differs: {held} instead of {wanted}")
    return broken


def _number(resource: Mapping[str, Any]) -> str:
    return str(resource["identifier"][0]["value"])


def _wanted(plan: Any, people: Mapping[UUID, str]) -> tuple[Any, ...] | None:
    if plan is None or plan.status != "confirmed":
        return None
    who = {f"Patient/{people[plan.client_id]}"}
    if plan.staff_id is not None:
        who.add(f"Practitioner/{people[plan.staff_id]}")
    return plan.starts_at, plan.ends_at, plan.note, plan.service_code, frozenset(who)


def _shown(appointment: Mapping[str, Any]) -> tuple[Any, ...] | None:
    if appointment["status"] == "cancelled":
        return None
    return (
        datetime.fromisoformat(appointment["start"]),
        datetime.fromisoformat(appointment["end"]),
        appointment.get("comment", ""),
        appointment["serviceType"][0]["coding"][0]["code"],
        frozenset(each["actor"]["reference"] for each in appointment["participant"]),
    )
