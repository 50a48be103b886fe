"""`zest request`: how far something that a person asked for has come."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from resources.logins import Login
from zest_pipelines.cli.options import DataDirOption, JsonOption, TenantArgument, chosen_data_dir, out, print_json
from zest_pipelines.cli.words import utc
from zest_pipelines.core.identifiers import check_tenant_id

_COUNTS = ("delivered", "waiting", "retrying", "action_needed", "check_needed", "not_needed", "total")


def request(
    tenant: TenantArgument,
    request_id: Annotated[
        UUID,
        typer.Argument(metavar="REQUEST", help="Its id, as push-week and release tell it.", show_default=False),
    ],
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """How far a request has come: days to be pushed, or what is stopped to be tried again."""
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import requests, tenants

    check_tenant_id(tenant)
    with open_session(chosen_data_dir(data_dir)) as session, session.transaction(Login.OPERATOR, tenant) as tx:
        tenants.get(tx, tenant)
        found = requests.status(tx, request_id)
    if json_:
        print_json({name: _plain(value) for name, value in vars(found).items()})
        return
    of = f"{found.from_date} to {found.to_date}" if found.from_date else "what was stopped"
    title = f"{tenant} at {found.partner}, {of}: {'done' if found.is_done else 'under way'}"
    is_open = found.waiting + found.retrying + found.action_needed + found.check_needed
    left = "What is open was edited after that, or waits for a person: `zest status` tells." if is_open else None
    caption = left if found.is_done else None
    columns = (name.replace("_", " ") for name in _COUNTS)
    table = Table(*columns, title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_row(*(str(getattr(found, name)) for name in _COUNTS))
    out().print(table)


def _plain(value: object) -> object:
    """As JSON has it."""
    if isinstance(value, datetime):
        return utc(value)
    return value if value is None or isinstance(value, bool | int) else str(value)
