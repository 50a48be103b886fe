"""`zest badges`: what care staff of a tenant see, in numbers, and what is to be done about it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from partners.reasons import Language
from resources.logins import Login
from zest_pipelines.cli.options import DataDirOption, JsonOption, TenantArgument, chosen_data_dir, out, print_json
from zest_pipelines.cli.words import Json, local
from zest_pipelines.core.identifiers import check_tenant_id


def badges(
    tenant: TenantArgument,
    language: Annotated[Language, typer.Option(help="Of messages and next actions.")] = Language.ENGLISH,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """A tenant's badges: of its connections, and how many records have which, with the next action of each."""
    from zest_pipelines.board import answers
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import tenants

    check_tenant_id(tenant)
    with open_session(chosen_data_dir(data_dir)) as session, session.transaction(Login.OPERATOR, tenant) as tx:
        tenants.get(tx, tenant)
        told = answers.overview(tx, tenant, language)
    if json_:
        print_json(told)
    else:
        _print(told["connections"], told["records"])


def _print(whole: list[Json], groups: list[Json]) -> None:
    table = Table("partner", "what", "badge", "records", "oldest", "reason")
    table.add_column("next action", overflow="fold")  # Japanese has no spaces to break a line at
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
