"""`zest alerts`: what is wrong over all tenants, and where notices of it go."""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from datetime import time, timedelta
from functools import partial
from threading import Event
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from partners.reasons import Owner, sentences
from resources.logins import Login
from zest_pipelines.cli.options import DataDirOption, InputError, JsonOption, chosen_data_dir, out, print_json, tell
from zest_pipelines.cli.runs import instance_of
from zest_pipelines.cli.secret_files import read_text
from zest_pipelines.cli.words import Json, local, utc
from zest_pipelines.core.alarm import IDENTIFYING

_SINCE = timedelta(days=1)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the target.", show_default=False)]


def show(
    fingerprint: Annotated[
        str | None,
        typer.Argument(metavar="FINGERPRINT", help="At which tenants this cause is seen now.", show_default=False),
    ] = None,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Open alerts, those of the last day that are over, and notices that could not be sent or wait for their hour."""
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import alerts

    if fingerprint is not None:
        _show_where(fingerprint.strip().lower(), data_dir, json_)
        return
    with open_session(chosen_data_dir(data_dir)) as session, session.transaction(Login.OPERATOR, None) as tx:
        found = alerts.listed(tx, _SINCE)
    told = [
        vars(each)
        | {"first_at": utc(each.first_at), "seen_at": utc(each.seen_at), "recovered_at": utc(each.recovered_at)}
        | {"message": sentences(each.reason, dict.fromkeys(IDENTIFYING, each.detail), each.fingerprint)[0]}
        for each in found
    ]
    if json_:
        print_json({"alerts": told})
        return
    if not told:
        out().print("Nothing is wrong, and nothing was within a day.")
        return
    table = Table("fingerprint", "partner", "what", "detail", "records", "tenants", "since", "over", "not sent", "held")
    for each in told:
        over = "" if each["recovered_at"] is None else local(each["recovered_at"])
        unsent = f"{each['unsent']} ({each['failed_for']})" if each["failed_for"] else str(each["unsent"] or "")
        cells = (each["fingerprint"], each["partner"] or "platform", each["message"], each["detail"])
        numbers = (str(each["records"]), str(each["tenants"]), local(each["first_at"]), over, unsent)
        table.add_row(*map(escape, (*cells, *numbers, str(each["held"] or ""))))
    out().print(table)


def _show_where(fingerprint: str, data_dir: DataDirOption, json_: bool) -> None:
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows.alerts import where
    from zest_pipelines.store import alerts

    with open_session(chosen_data_dir(data_dir)) as session:
        found = where(session.services(), fingerprint)
        with session.transaction(Login.OPERATOR, None) as tx:
            if not found and alerts.reason_of(tx, fingerprint) is None:
                raise InputError(f"There never was an alert {fingerprint!r}: zest alerts show lists those of late")
    if json_:
        seen = [{"tenant": tenant, "records": each.records, "since": utc(each.since)} for tenant, each in found]
        print_json({"fingerprint": fingerprint, "seen_at": seen})
        return
    if not found:
        out().print(f"{fingerprint} is seen at no tenant now: it is over, or is the platform's own.", highlight=False)
        return
    table = Table("tenant", "records or connections", "since", "look at")
    for tenant, each in found:
        table.add_row(
            *map(escape, (tenant, f"{each.records:,}", local(utc(each.since) or ""), f"zest badges {tenant}"))
        )
    out().print(table)


def add(
    name: NameArgument,
    url_file: Annotated[
        str, typer.Option("--url-file", help="File with one address as apprise has it; - for standard input.")
    ],
    quiet: Annotated[
        str | None,
        typer.Option(metavar="22:00-07:00", help="Hours in Japan whose notices come at their end, together."),
    ] = None,
    digest: Annotated[str | None, typer.Option(metavar="08:30", help="One message a day, at that time.")] = None,
    pierce: Annotated[
        bool, typer.Option("--pierce", help="What is ours to cure, or not explained yet, comes in quiet hours too.")
    ] = False,
    only: Annotated[
        str, typer.Option(metavar="us,unknown,partner,user", help="Whose turn is told there, with commas between.")
    ] = "us,unknown,partner",
    data_dir: DataDirOption = None,
) -> None:
    """Have notices go to an address: Slack, Teams, mail, a webhook. It is kept encrypted."""
    from resources.alerting import AddressError, checked_address
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.core.alarm import Hours
    from zest_pipelines.flows.alerts import sealed
    from zest_pipelines.store import alerts
    from zest_pipelines.store.alerts import Target

    if re.fullmatch("[a-z0-9][a-z0-9_-]{0,39}", name) is None:
        raise InputError("A target's name is up to 40 of a-z, 0-9, - and _, and begins with a letter or a digit")
    first, last = (None, None) if quiet is None else _span(quiet)
    hours = Hours(first, last, None if digest is None else _clock("--digest", digest), pierce)
    try:
        address = checked_address(read_text(url_file))
    except AddressError as error:
        raise InputError(str(error)) from None
    with open_session(chosen_data_dir(data_dir)) as session:
        kept = sealed(session.services().vault, name, address)
        with session.transaction(Login.OPERATOR, None) as tx:
            alerts.add_target(tx, Target(name, kept, hours, _owners(only)))
    tell(f"Notices go to {name} from now on. Next: zest alerts test {name}")


def remove(name: NameArgument, data_dir: DataDirOption = None) -> None:
    """Have no more notices go there; those that were not sent are dropped."""
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import alerts

    with open_session(chosen_data_dir(data_dir)) as session, session.transaction(Login.OPERATOR, None) as tx:
        alerts.remove_target(tx, name)
    tell(f"Nothing goes to {name} any more")


def targets(data_dir: DataDirOption = None, json_: JsonOption = False) -> None:
    """Where notices go, without the addresses."""
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import alerts

    with open_session(chosen_data_dir(data_dir)) as session, session.transaction(Login.ALERT, None) as tx:
        found = alerts.targets(tx)
    told: list[Json] = [
        {
            "name": each.name,
            "quiet_from": _told(each.hours.quiet_from),
            "quiet_to": _told(each.hours.quiet_to),
            "digest_at": _told(each.hours.digest_at),
            "is_pierced": each.hours.is_pierced,
            "only": sorted(each.owners),
        }
        for each in found
    ]
    if json_:
        print_json({"targets": told})
        return
    table = Table("target", "quiet", "digest", "only")
    for each in told:
        quiet = f"{each['quiet_from']}-{each['quiet_to']}" if each["quiet_from"] else ""
        table.add_row(
            each["name"],
            quiet + (" (pierced)" if each["is_pierced"] else ""),
            each["digest_at"] or "",
            ",".join(each["only"]),
        )
    out().print(table)


def bounds(
    partner: Annotated[
        str | None, typer.Option(metavar="30m", help="So long a fault of the partner's has lasted.")
    ] = None,
    edits: Annotated[str | None, typer.Option(metavar="1h", help="So long edits that could go have waited.")] = None,
    users: Annotated[
        str | None,
        typer.Option(metavar="1d", help="So long a tenant's people have had to do something (--only user)."),
    ] = None,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """How long something is wrong before it is told; with an option, that bound anew, from the next look on."""
    from zest_pipelines.cli.connections import checked_interval
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import alerts

    given = {
        f"{name}_after": checked_interval(f"--{name}", text)
        for name, text in (("partner", partner), ("edits", edits), ("users", users))
        if text is not None
    }
    with open_session(chosen_data_dir(data_dir)) as session, session.transaction(Login.OPERATOR, None) as tx:
        held = replace(alerts.bounds(tx), **given)
        if given:
            alerts.set_bounds(tx, held)
    told = {name: f"{each // timedelta(minutes=1)}m" for name, each in vars(held).items()}
    if json_:
        print_json(told)
        return
    table = Table("what", "is told after")
    table.add_row("a fault of the partner's", told["partner_after"])
    table.add_row("edits that could go", told["edits_after"])
    table.add_row("what a tenant's people have to do", told["users_after"])
    out().print(table)


def try_out(name: NameArgument, data_dir: DataDirOption = None) -> None:
    """Send a test notice there now."""
    from resources.alerting import deliver
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows.alerts import address_of
    from zest_pipelines.store import alerts

    with open_session(chosen_data_dir(data_dir)) as session:
        with session.transaction(Login.ALERT, None) as tx:
            found = {each.name: each for each in alerts.targets(tx)}
        if name not in found:
            raise InputError(f"There is no target {name}: zest alerts targets lists them")
        address = address_of(session.services().vault, found[name])
    if not deliver(address, "zest TEST / テスト", "Notices arrive here. / お知らせはここに届きます。"):
        raise InputError(f"{name} did not take the notice: check the address and the service, then add it anew")
    tell(f"{name} took a test notice")


def watch(data_dir: DataDirOption = None) -> None:
    """Look every minute, from outside of Dagster, whether it still works, and send notices where it does not.

    `zest up` runs it by itself; on a server it is a unit of its own.
    """
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.local.lookout import EVERY, Lookout

    is_over = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: is_over.set())
    with open_session(chosen_data_dir(data_dir)) as session:
        look = Lookout(session.services(), partial(instance_of, session))
        look()
        while not is_over.wait(EVERY.total_seconds()):
            look()


def _owners(text: str) -> frozenset[Owner]:
    try:
        return frozenset(Owner(each.strip()) for each in text.split(","))
    except ValueError:
        raise InputError("--only is us, unknown, partner, user or several of these, with commas between") from None


def _span(text: str) -> tuple[time, time]:
    first, dash, last = text.partition("-")
    if not dash:
        raise InputError("--quiet is a span such as 22:00-07:00")
    return _clock("--quiet", first), _clock("--quiet", last)


def _told(at: time | None) -> str | None:
    return None if at is None else f"{at:%H:%M}"


def _clock(option: str, text: str) -> time:
    try:
        found = time.fromisoformat(text.strip())
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None or len(text.strip()) != len("08:30"):
        raise InputError(f"{option} has no time of day such as 08:30: {text!r}")
    return found
