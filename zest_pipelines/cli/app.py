"""The tree of commands."""

from __future__ import annotations

from collections.abc import Callable

import typer

from zest_pipelines.cli import (
    alerts,
    approvals,
    archive,
    badges,
    bench,
    board,
    bundle,
    certification,
    connections,
    errors,
    identities,
    limits,
    machine,
    masters,
    new_partner,
    operations,
    preview,
    records,
    requests,
    sandboxes,
    synchronization,
    weeks,
)
from zest_pipelines.cli.options import DataDirOption, remember_data_dir

app = typer.Typer(
    help="Keeps ZEST SCHEDULE and its partner systems equal, both ways.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
tenant = typer.Typer(help="The customer corporations.", no_args_is_help=True)
alert = typer.Typer(help="What is wrong over all tenants, and where notices of it go.", no_args_is_help=True)
error = typer.Typer(help="What nobody has explained yet, and which reason it is.", no_args_is_help=True)
board_token = typer.Typer(help="Who may look at a tenant's board.", no_args_is_help=True)
sandbox = typer.Typer(help="A partner's stand-in: a real server with made-up people.", no_args_is_help=True)


@app.callback()
def root(data_dir: DataDirOption = None) -> None:
    """What stands before the command holds for it as well."""
    remember_data_dir(data_dir)


app.command()(machine.init)
app.command()(machine.up)
app.command()(machine.down)
app.command()(machine.demo)
app.command("db-url")(machine.db_url)
tenant.command("add")(connections.add_tenant)
app.add_typer(tenant, name="tenant")
app.command()(connections.connect)
app.command()(connections.check)
app.command()(certification.certify)
app.command("new-partner")(new_partner.new_partner)
app.command()(synchronization.sync)
app.command("push-week")(weeks.push_week)
app.command()(operations.pause)
app.command()(operations.resume)
app.command()(operations.release)
app.command()(operations.abandon)
app.command()(operations.adopt)
app.command()(approvals.approve)
app.command()(identities.identities)
app.command()(records.status)
app.command()(badges.badges)
app.command()(limits.limits)
app.command()(limits.reopen)
app.command()(requests.request)
app.command()(records.explain)
app.command()(bundle.bundle)
app.command("as-of")(masters.as_of)
app.command()(preview.diff)
app.command()(archive.archive)
app.command()(board.board)
alert.command("show")(alerts.show)
alert.command("add")(alerts.add)
alert.command("targets")(alerts.targets)
alert.command("test")(alerts.try_out)
alert.command("remove")(alerts.remove)
alert.command("bounds")(alerts.bounds)
alert.command("watch")(alerts.watch)
app.add_typer(alert, name="alerts")
error.command("list")(errors.listed)
error.command()(errors.classify)
error.command()(errors.unclassify)
error.command()(errors.export)
app.add_typer(error, name="errors")
board_token.command("add")(board.add)
board_token.command("revoke")(board.revoke)
board_token.command("list")(board.listed)
app.add_typer(board_token, name="board-token")
app.command(context_settings=bench.CONTEXT)(bench.bench)
_SANDBOXES: dict[str, Callable[..., None]] = {
    "fhir": sandboxes.fhir,
    "orca": sandboxes.orca,
    "smarthr": sandboxes.smarthr,
    "carecsv": sandboxes.carecsv,
}
for _name, _command in _SANDBOXES.items():
    sandbox.command(_name)(_command)
for _name, _help, _command in sandboxes.of_others(_SANDBOXES):
    sandbox.command(_name, help=_help)(_command)
app.add_typer(sandbox, name="sandbox")
