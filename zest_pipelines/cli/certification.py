"""`zest certify`: what a connector must do, tried with it, and what was earned of what its partner declares."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from zest_pipelines.cli.connections import checked_secret, checked_settings, checked_url
from zest_pipelines.cli.options import InputError, JsonOption, PartnerArgument, out, print_json, tell
from zest_pipelines.cli.secret_files import read_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from partners.certification.bench import Bench
    from partners.certification.certificate import Certificate, Result
    from partners.certification.real import RealBench
    from partners.certification.trial import ClientMaker
    from partners.contract import Partner

_LATER = timedelta(days=28)


def certify(
    partner: PartnerArgument,
    base_url: Annotated[
        str | None, typer.Option(help="A real test system. Default: the partner's sandbox.", show_default=False)
    ] = None,
    secret_file: Annotated[
        str | None,
        typer.Option(help='JSON file with the credential, such as {"token": "..."}; - for standard input.'),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting; repeatable.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Let visits be written at the test system; they are cancelled in the end.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Try all that a connector must do, and say which class of capability the partner earned.

    Exits with 1 if something does not hold, or a class that is declared was not earned.
    """
    from partners.registry import partner as partner_named

    declared = partner_named(partner)
    if base_url is None:
        if secret_file or set_ or write:
            raise InputError("--secret-file, --set and --write are for a real test system: give its --base-url")
        made, left = _at_the_sandbox(declared, as_json=json_), list[str]()
    else:
        real = _real(declared, base_url, secret_file, set_ or [])
        made, left = [_tried(real, _maker(real.secret), may_write=write, as_json=json_)], real.left
    if json_:
        print_json(_as_json(made) | {"base_url": base_url, "left": left})
    else:
        for each in made:
            _print(declared, each)
    if left:
        tell(f"Visits that could not be cancelled are left there: {', '.join(left)}. Cancel them there")
    if not all(each.is_passed for each in made):
        raise typer.Exit(1)


def _at_the_sandbox(declared: Partner, *, as_json: bool) -> list[Certificate]:
    """A certificate for each kind of address."""
    from partners.certification.bench import BenchMissingError, benches_of

    made = []
    try:
        for running in benches_of(declared.name).values():
            with running() as bench:
                made.append(_tried(bench, _maker({}), may_write=True, as_json=as_json))
    except BenchMissingError as error:
        raise InputError(str(error)) from None
    return made


def _tried(bench: Bench, maker: ClientMaker, *, may_write: bool, as_json: bool) -> Certificate:
    from partners.certification.certificate import certificate
    from partners.certification.certificate import certify as run_rows

    return certificate(bench, _told(run_rows(bench, maker, may_write=may_write), as_json=as_json))


def _real(declared: Partner, base_url: str, secret_file: str | None, pairs: list[str]) -> RealBench:
    from partners.certification.real import RealBench

    url = checked_url(base_url, declared.schemes)
    secret = checked_secret(declared, {} if secret_file is None else read_secret(secret_file))
    settings = checked_settings(declared, pairs)
    starts = (datetime.now(UTC) + _LATER).replace(hour=0, minute=0, second=0, microsecond=0)
    return RealBench(declared, (url, secret, settings), _maker(secret), starts)


def _maker(secret: Mapping[str, str]) -> ClientMaker:
    """Clients as the platform makes them, with the certificates of the secret."""
    from resources.http import Http
    from zest_pipelines.flows.opening import tls_of

    tls = tls_of(secret)
    return lambda bounds: Http(**asdict(bounds)).client(tls)


def _told(results: Iterable[Result], *, as_json: bool) -> tuple[Result, ...]:
    """All of them; who waits at a terminal sees which one is at work."""
    if as_json or not out().is_terminal:
        return tuple(results)
    found: list[Result] = []
    with out().status("") as status:
        for each in results:
            found.append(each)
            status.update(f"{len(found)} rows, the last one: {each.row}")
    return tuple(found)


def _as_json(made: Sequence[Certificate]) -> dict[str, object]:
    return {
        "is_passed": all(each.is_passed for each in made),
        "partner": made[0].partner,
        "results": [{"scheme": each.scheme, **asdict(row)} for each in made for row in each.results],
        "classes": [{"scheme": each.scheme, **asdict(row)} for each in made for row in each.classes],
    }


def _print(declared: Partner, made: Certificate) -> None:
    title = f"{declared.title} ({made.scheme})"
    rows = Table("row", "verdict", "what was found, or why it does not apply", title=title, title_justify="left")
    for each in made.results:
        rows.add_row(each.row, each.verdict, each.detail)
    classes = Table("class", "declared", "earned", "why not", title="Capability", title_justify="left")
    for one in made.classes:
        classes.add_row(one.name, one.declared, one.earned, one.detail)
    out().print(rows)
    out().print(classes)
    out().print(f"{title} is certified." if made.is_passed else f"{title} is not certified.")
