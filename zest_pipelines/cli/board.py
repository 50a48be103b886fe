"""`zest board`: the board as a process; `zest board-token`: who may look at it."""

from __future__ import annotations

import signal
from typing import Annotated

import typer
from rich.table import Table

from resources.logins import Login
from zest_pipelines.cli.options import (
    DataDirOption,
    JsonOption,
    TenantArgument,
    chosen_data_dir,
    out,
    print_json,
    tell,
)
from zest_pipelines.cli.words import local, utc
from zest_pipelines.core.identifiers import check_tenant_id

_CONNECTIONS = 4
"""Of the database; as many answers at once."""
_MOST_CALLERS = 200
"""Connections of callers at once; more are turned away."""

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="What it is for, such as product.", show_default=False)
]


def board(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 3080,
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than loopback wants TLS before it.")
    ] = "127.0.0.1",
    data_dir: DataDirOption = None,
) -> None:
    """Serve the board until Ctrl-C: how a tenant's records stand and what to do next, for who shows its token."""
    import uvicorn

    from zest_pipelines.board.application import board as application
    from zest_pipelines.board.patience import ImpatientProtocol
    from zest_pipelines.local import machine
    from zest_pipelines.local.ports import require_free_port
    from zest_pipelines.store.database import Database

    logins = machine.attach(chosen_data_dir(data_dir))
    require_free_port(port)
    database = Database(logins, _CONNECTIONS)
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn ends by them, and then hands them on: that is no fault
        signal.signal(number, lambda *_: None)
    try:
        tell(f"The board answers at http://{host}:{port}. Next: zest board-token add TENANT NAME, for who is to see it")
        uvicorn.run(
            application(database),
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_MOST_CALLERS,
            timeout_keep_alive=5,
            http=ImpatientProtocol,
        )
    finally:
        database.close()


def add(tenant: TenantArgument, name: NameArgument, data_dir: DataDirOption = None) -> None:
    """Make a token that opens this tenant's board. It is printed this once; only its digest is kept."""
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import board_tokens, tenants

    check_tenant_id(tenant)
    with open_session(chosen_data_dir(data_dir)) as session, session.transaction(Login.OPERATOR, tenant) as tx:
        tenants.get(tx, tenant)
        token = board_tokens.add(tx, tenant, name)
    out().print(token, markup=False, soft_wrap=True)
    tell(f"Give it to {name} by a safe way. zest board-token revoke {tenant} {name} takes it back")


def revoke(tenant: TenantArgument, name: NameArgument, data_dir: DataDirOption = None) -> None:
    """Take a token back: from the next request on it opens nothing."""
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import board_tokens, tenants

    check_tenant_id(tenant)
    with open_session(chosen_data_dir(data_dir)) as session, session.transaction(Login.OPERATOR, tenant) as tx:
        tenants.get(tx, tenant)
        board_tokens.revoke(tx, tenant, name)
    tell(f"Token {name} of {tenant} opens nothing any more")


def listed(tenant: TenantArgument, data_dir: DataDirOption = None, json_: JsonOption = False) -> None:
    """The tokens that were given out for this tenant's board."""
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import board_tokens, tenants

    check_tenant_id(tenant)
    with open_session(chosen_data_dir(data_dir)) as session, session.transaction(Login.OPERATOR, tenant) as tx:
        tenants.get(tx, tenant)
        tokens = board_tokens.listed(tx, tenant)
    told = [{"name": each.name, "made_at": utc(each.made_at), "revoked_at": utc(each.revoked_at)} for each in tokens]
    if json_:
        print_json({"tenant": tenant, "tokens": told})
        return
    table = Table("token", "made", "revoked")
    for each in told:
        table.add_row(
            each["name"], *("" if moment is None else local(moment) for moment in (each["made_at"], each["revoked_at"]))
        )
    out().print(table)
