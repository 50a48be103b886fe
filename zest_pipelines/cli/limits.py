"""`zest limits`: how far each connection's limits are spent, and when what waits will have left."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from partners.reasons import Language
from resources.logins import Login
from zest_pipelines.cli.options import DataDirOption, JsonOption, PartnerArgument, chosen_data_dir, out, print_json
from zest_pipelines.cli.words import Json, local, utc
from zest_pipelines.core.identifiers import check_tenant_id
from zest_pipelines.core.usage import plot

if TYPE_CHECKING:
    from zest_pipelines.cli.session import Session
    from zest_pipelines.flows.limits import LimitStanding


def limits(
    tenant: Annotated[str | None, typer.Argument(help="One tenant alone.", show_default=False)] = None,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """How far each limit is spent, until when it is closed, who waits, and when the last of what waits leaves."""
    from partners.registry import PARTNERS
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import due, tenants

    if tenant is not None:
        check_tenant_id(tenant)
    with open_session(chosen_data_dir(data_dir)) as session:
        if tenant is not None:
            with session.transaction(Login.OPERATOR, tenant) as tx:
                tenants.get(tx, tenant)
        with session.transaction(Login.SCHEDULE, None) as tx:
            pairs = [(each, partner) for partner in PARTNERS for each in due.tenants(tx, partner)]
        found = [_connection(session, *pair) for pair in sorted(pairs) if tenant in (None, pair[0])]
    if json_:
        print_json({"connections": found})
    elif found:
        _print(found)
    else:
        whose = "No tenant is connected yet" if tenant is None else f"{tenant} is not connected to a partner"
        out().print(f"{whose}. Next: zest connect", markup=False)


def reopen(
    partner: PartnerArgument,
    tenant: Annotated[str | None, typer.Argument(help="Its own limits alone.", show_default=False)] = None,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Call a partner again that has asked to be left alone, where the time that it named cannot be meant."""
    from partners.registry import partner as declared
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows.naming import buckets_of
    from zest_pipelines.store import budgets, due, tenants

    if tenant is not None:
        check_tenant_id(tenant)
    name = declared(partner).name
    with open_session(chosen_data_dir(data_dir)) as session:
        with session.transaction(Login.SCHEDULE, None) as tx:
            concerned = [each for each in due.tenants(tx, name) if tenant in (None, each)]
        for each in [tenant] if tenant is not None else concerned:
            with session.transaction(Login.OPERATOR, each) as tx:
                tenants.connection(tx, each, name)
                tenants.audit(tx, each, "reopen", name, {"shared": tenant is None})
        with session.transaction(Login.BUDGET, None) as tx:
            opened = budgets.reopen(tx, buckets_of(name, tenant))
    if json_:
        print_json({"partner": name, "tenant": tenant, "reopened": opened})
    else:
        out().print(f"Reopened: {opened}. What is held by itself goes on with zest release; zest limits shows the rest")


def _connection(session: Session, tenant: str, partner: str) -> Json:
    from partners.registry import partner as declared
    from zest_pipelines.core.forecast import sentence
    from zest_pipelines.flows.limits import outlook

    found, now = outlook(session.services(), declared(partner), tenant), datetime.now(UTC)
    told = None
    if found.pending:
        told = sentence(tenant, found.pending, found.done_at, now, Language.ENGLISH)
    return {
        "tenant": tenant,
        "partner": partner,
        "limits": [_limit(each) for each in found.limits],
        "pending": found.pending,
        "done_at": utc(found.done_at) if found.pending else None,
        "forecast": told,
        "is_late": found.is_late,
    }


def _limit(found: LimitStanding) -> Json:
    return {
        "limit": found.limit,
        "used": found.used,
        "allowed": found.allowed,
        "believed": found.believed,
        "last_hour": list(found.last_hour),
        "closed_until": utc(found.closed_until),
        "waiting": found.waiting,
    }


def _print(connections: list[Json]) -> None:
    table = Table("tenant", "partner", "limit", "used", "allowed", "last hour", "closed until", "others waiting")
    for each in connections:
        for limit in each["limits"]:
            believed = "" if limit["believed"] == 1 else f" (believed: {limit['believed']:.0%})"
            table.add_row(
                each["tenant"],
                each["partner"],
                limit["limit"],
                str(limit["used"]),
                f"{limit['allowed']}{believed}",
                plot(limit["last_hour"]),
                local(limit["closed_until"]) if limit["closed_until"] else "",
                str(limit["waiting"]),
            )
    out().print(table)
    for each in connections:
        if each["forecast"]:
            late = ", past its deadline (zest connect --deliver-within)" if each["is_late"] else ""
            told = f"{each['tenant']}, {each['partner']}: {each['forecast']}{late}"
            out().print(told, soft_wrap=True, markup=False)
