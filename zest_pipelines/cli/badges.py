"""`zest badges`: what care staff of a tenant see, in numbers, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from partners.reasons import Language, sentences
from resources.logins import Login
from zest_pipelines.cli.options import DataDirOption, JsonOption, TenantArgument, chosen_data_dir, out, print_json
from zest_pipelines.cli.words import Json, local, utc
from zest_pipelines.core.identifiers import check_tenant_id


def badges(
    tenant: TenantArgument,
    language: Annotated[Language, typer.Option(help="Of messages and next actions.")] = Language.ENGLISH,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """A tenant's badges: of its connections, and how many records have which, with the next action of each."""
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import badges as stored
    from zest_pipelines.store import tenants

    check_tenant_id(tenant)
    with open_session(chosen_data_dir(data_dir)) as session, session.transaction(Login.OPERATOR, tenant) as tx:
        tenants.get(tx, tenant)
        connections = stored.of_connections(tx, tenant)
        digest = stored.digest(tx, tenant)
    whole = [
        {"partner": each.partner, "badge": each.badge, "since": utc(each.since), "next_at": utc(each.next_at)}
        | _words(each.reason, each.params, language)
        for each in connections
    ]
    groups = [
        {"partner": each.partner, "entity": each.entity, "badge": each.badge, "records": each.records}
        | {"oldest": utc(each.oldest), "next_at": utc(each.next_at)}
        | _words(each.reason, each.params, language)
        for each in digest
    ]
    if json_:
        print_json({"tenant": tenant, "connections": whole, "records": groups})
        return
    _print(whole, groups)


def _words(reason: str | None, params: Mapping[str, str], language: Language) -> Json:
    message, action = (None, None) if reason is None else sentences(reason, params, language)
    return {"reason": reason, "message": message, "next_action": action}


def _print(whole: list[Json], groups: list[Json]) -> None:
    table = Table("partner", "what", "badge", "records", "oldest", "reason", "next action")
    for each in whole:
        table.add_row(each["partner"], "connection", each["badge"], "", _when(each["since"]), *_cells(each))
    for each in groups:
        about = (each["entity"], each["badge"], str(each["records"]), _when(each["oldest"]))
        table.add_row(each["partner"], *about, *_cells(each))
    out().print(table)


def _cells(told: Json) -> tuple[str, str]:
    return escape(told["reason"] or ""), escape(told["next_action"] or "")


def _when(text: str | None) -> str:
    return "" if text is None else local(text)
