"""Commands about this machine: prepare it, run the platform on it, show it off."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from resources.logins import Login
from zest_pipelines.cli.options import DataDirOption, JsonOption, chosen_data_dir, out, print_json, tell

if TYPE_CHECKING:
    from zest_pipelines.local.machine import Prepared

PortOption = Annotated[int, typer.Option(min=1, max=65535, help="Port of the Dagster UI, on 127.0.0.1.")]


_LOGINS = {login.removeprefix("zest_"): login for login in Login}
"""The logins as people write them: without the prefix that they have in the database."""


def _login(name: str) -> Login:
    try:
        return _LOGINS[name]
    except KeyError:
        raise typer.BadParameter(f"there is no login {name!r}: choose from {', '.join(_LOGINS)}.") from None


def init(data_dir: DataDirOption = None, json_: JsonOption = False) -> None:
    """Prepare the data directory and its database. Safe to repeat.

    The database is the one at ZEST_DATABASE_URL (an administrator's URL, used by this command alone), else an
    embedded PostgreSQL. The logins' passwords are made up, or taken from ZEST_PASSWORD_PRODUCT and the like.
    """
    from zest_pipelines.local import dagster_home, machine

    prepared = machine.prepare(chosen_data_dir(data_dir))
    env = dagster_home.environment(prepared.data_dir, prepared.logins)
    env_file = dagster_home.configure(prepared.data_dir, env)
    if json_:
        database = "embedded" if prepared.is_embedded else "server"
        path = None if env_file is None else str(env_file)
        print_json({"data_dir": str(prepared.data_dir.path), "database": database, "env_file": path})
        return
    _tell_prepared(prepared, env_file)


def up(
    data_dir: DataDirOption = None,
    port: PortOption = 3000,
) -> None:
    """Run the platform on this machine until Ctrl-C: database, Dagster's code server, webserver and daemon, and what
    looks from outside whether they work."""
    from partners.registry import shown_partners
    from zest_pipelines.local import dagster_home, machine
    from zest_pipelines.local.keeper import Keeper
    from zest_pipelines.local.ports import require_free_port
    from zest_pipelines.local.supervisor import Supervisor
    from zest_pipelines.store.installation import check_schema

    home = chosen_data_dir(data_dir)
    machine.require_prepared(home)
    require_free_port(port)
    shown_partners(os.environ.get("ZEST_PARTNERS", ""))  # else the code server would fail over it again and again
    with machine.held(home):
        logins = machine.attach(home)
        check_schema(logins)
        env = dagster_home.environment(home, logins)
        dagster_home.configure(home, env)
        with contextlib.chdir(home.dagster), Supervisor(home.logs, beside=Keeper(home)) as supervisor:
            for child in dagster_home.services(home, port, env):
                supervisor.start(child)
            tell(f"The platform runs at http://127.0.0.1:{port} (Ctrl-C ends it; logs in {home.logs})")
            supervisor.run()


def down(data_dir: DataDirOption = None) -> None:
    """Stop an embedded PostgreSQL that is up. `zest up` and `zest demo` end with Ctrl-C and stop it themselves."""
    from zest_pipelines.local import machine

    home = chosen_data_dir(data_dir)
    machine.require_prepared(home)
    with machine.unheld(home):
        stopped = machine.stop(home)
    tell("PostgreSQL is stopped." if stopped else "No embedded PostgreSQL was up.")


def db_url(
    login: Annotated[
        Login,
        typer.Option(help=f"Who connects: {', '.join(_LOGINS)}.", parser=_login, metavar="NAME", show_default=False),
    ],
    data_dir: DataDirOption = None,
) -> None:
    """Print a login's database URL, for psql and for programs. It holds the login's password."""
    from zest_pipelines.local import machine

    logins = machine.attach(chosen_data_dir(data_dir))
    url = logins.libpq_url(login)
    if login is Login.DAGSTER:
        url = logins.dagster_url().replace("+psycopg2", "", 1)
    sys.stdout.write(url + "\n")


def demo(
    data_dir: DataDirOption = None,
    port: PortOption = 3000,
    once: Annotated[bool, typer.Option("--once", help="End after one full cycle; exit 0 if all is equal.")] = False,
) -> None:
    """Run the whole platform with four made-up tenants and their partners."""
    from zest_pipelines.local.demo import run_demo

    if not run_demo(chosen_data_dir(data_dir), port=port, once=once, console=out()):
        raise typer.Exit(1)


def _tell_prepared(prepared: Prepared, env_file: Path | None) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("data directory", str(prepared.data_dir.path))
    server = f"the server at {prepared.logins.host}"
    table.add_row("database", "embedded PostgreSQL, up now; `zest down` stops it" if prepared.is_embedded else server)
    if env_file is not None:
        table.add_row("dagster dev", f"works in {env_file.parent} ({env_file.name} was written)")
    table.add_row("next", "zest tenant add ID --name NAME, then zest connect, then zest up")
    out().print(table)
