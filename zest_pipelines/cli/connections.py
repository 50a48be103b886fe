"""Commands about tenants and their connections. What can be judged without the partner is judged first."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, cast
from urllib.parse import urlsplit

import typer
from rich.table import Table

from partners.contract import CheckReport, Connection, Partner, Setting
from partners.limits import parse_limits
from partners.windows import parse_windows
from resources.logins import Login
from zest_pipelines.cli.identities import checked_identity, checked_keys
from zest_pipelines.cli.options import (
    DataDirOption,
    InputError,
    JsonOption,
    PartnerArgument,
    TenantArgument,
    chosen_data_dir,
    out,
    print_json,
    tell,
)
from zest_pipelines.cli.secret_files import read_secret
from zest_pipelines.cli.words import local, utc
from zest_pipelines.core.identifiers import check_tenant_id

if TYPE_CHECKING:
    from partners.contract import Gate
    from zest_pipelines.flows.check import Checked
    from zest_pipelines.flows.services import Services

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_SHORTEST, _LONGEST = timedelta(minutes=1), timedelta(days=7)


class Timing(StrEnum):
    """When changes go out: every minute, or when a week is pushed."""

    MINUTE = "minute"
    WEEK = "week"


class OnConflict(StrEnum):
    """What becomes of a record whose copy was changed at the partner itself."""

    HOLD = "hold"
    OVERWRITE = "overwrite"


def add_tenant(
    tenant: Annotated[str, typer.Argument(metavar="ID", help="Its id: a-z, 0-9, - and _.", show_default=False)],
    name: Annotated[str, typer.Option(help="Its name, as people write it.", show_default=False)],
    data_dir: DataDirOption = None,
) -> None:
    """Add a tenant, or change its name."""
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import tenants

    check_tenant_id(tenant)
    if not name.strip():
        raise InputError("The tenant's name is empty: give it with --name")
    with (
        open_session(chosen_data_dir(data_dir)) as session,
        session.transaction(Login.OPERATOR, tenant) as tx,
    ):
        tenants.add(tx, tenant, name.strip())
    tell(f"Tenant {tenant} is there. Next: zest connect {tenant} PARTNER --base-url URL ...")


def connect(
    tenant: TenantArgument,
    partner: PartnerArgument,
    base_url: Annotated[
        str, typer.Option(help="The partner's address: https, http, sftp or file.", show_default=False)
    ],
    timing: Annotated[
        Timing | None,
        typer.Option(help="When changes go out; not for a partner that is only read.", show_default=False),
    ] = None,
    secret_file: Annotated[
        str | None,
        typer.Option(help='JSON file with the credential, such as {"token": "..."}; - for standard input.'),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting; repeatable.")] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="A limit such as tenant:600/60s (docs/limits.md); repeatable. Default: the partner's own.",
            metavar="LIMIT",
        ),
    ] = None,
    land_every: Annotated[str, typer.Option(help="How often masters are read: 60m, 6h, 1d.")] = "60m",
    on_conflict: Annotated[
        OnConflict,
        typer.Option(help="A record that was changed at the partner itself: hold it for a person, or overwrite it."),
    ] = OnConflict.HOLD,
    closed: Annotated[
        list[str] | None,
        typer.Option(
            help="When the partner is closed, so that nothing is sent or read, in Japan's time: 02:00-05:00, sun, "
            "'sat 12:00-24:00', 12-29..01-03, 2026-12-31; repeatable. Default: the partner's own.",
            metavar="TIMES",
        ),
    ] = None,
    weight: Annotated[
        int, typer.Option(min=1, max=100, help="Its share of limits that tenants share, beside the other tenants'.")
    ] = 1,
    deliver_within: Annotated[
        str | None,
        typer.Option(
            help="How old an edit may get before it is delivered: 30m, 6h, 1d. Whoever is later is warned of.",
            metavar="TIME",
        ),
    ] = None,
    identity: Annotated[
        list[str] | None,
        typer.Option(
            help="Whether a new record of the partner makes one of ours, or is looked for among ours: create, match, "
            "or for one kind staff=match; repeatable. Default for a new connection: create what no other one creates.",
            metavar="HOW",
        ),
    ] = None,
    match_on: Annotated[
        list[str] | None,
        typer.Option(
            help="The fields in which it must agree: birth_date,family_kana,given_kana, or staff=number,family_kana,"
            "given_kana; repeatable (docs/inbound.md). Without them each new record waits.",
            metavar="FIELDS",
        ),
    ] = None,
    same_records: Annotated[
        bool, typer.Option("--same-records", help="The new address serves the records of the old one.")
    ] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Connect a tenant to a partner, or change the connection.

    Everything is set anew by each call, but for the credential and the identities: without --secret-file and --identity
    they stay as they are.
    """
    from partners.registry import partner as partner_named
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows.naming import begun_by
    from zest_pipelines.store import budgets, tenants

    check_tenant_id(tenant)
    declared = partner_named(partner)
    place = checked_url(base_url, declared.schemes)
    connection = Connection(tenant, declared.name, place, checked_settings(declared, set_ or []))
    overwriting = on_conflict is OnConflict.OVERWRITE
    when = checked_timing(declared, timing, closed=closed, deliver_within=deliver_within, on_conflict=overwriting)
    limits = [str(each) for each in parse_limits(limit, declared.endpoints)] if limit else None
    windows = [str(window) for window in parse_windows(closed)] if closed else None
    every = checked_interval("--land-every", land_every)
    deadline = None if deliver_within is None else checked_interval("--deliver-within", deliver_within)
    creates = checked_identity(declared, identity or [])
    keys = checked_keys(match_on or [], creates)
    secret = None if secret_file is None else checked_secret(declared, read_secret(secret_file))
    if secret is not None:
        check_opens(declared, connection, secret)
    with open_session(chosen_data_dir(data_dir)) as session:
        if secret is None and (kept := kept_secret(session.services(), declared, tenant)) is not None:
            check_opens(declared, connection, kept)
        sealed = None if secret is None else session.seal(secret, tenant, declared.name)
        with session.transaction(Login.OPERATOR, tenant) as tx:
            rows = [each for each in tenants.connections(tx, tenant) if each.connection.partner == declared.name]
            former = [text for each in rows for text in (declared.limits if each.limits is None else each.limits)]
            if not same_records and tenants.has_identities(tx, tenant, declared.name):
                check_same_place(tenants.connection(tx, tenant, declared.name).connection.base_url, connection.base_url)
            tenants.connect(
                tx,
                connection,
                timing=when,
                limits=limits,
                land_every=every,
                ciphertext=sealed,
                on_conflict=on_conflict,
                closed=windows,
                weight=weight,
                deliver_within=deadline,
                creates=creates,
                match_on=keys,
                reads=declared.reads,
            )
            with session.transaction(Login.BUDGET, None) as ledger:
                budgets.begin_anew(ledger, begun_by(connection, former, limits or declared.limits))
    if not is_private(connection.base_url):
        sent = "the visits" if declared.writes else "people's data"
        tell(f"Note: http is not encrypted, so the credential and {sent} can be read on their way. Prefer https.")
    for each in limits or ():
        if each.startswith("vendor:"):
            tell(
                f"Note: {each} binds the connections that declare it alone: declare it for each tenant of the partner."
            )
    tell(f"Tenant {tenant} is connected to {declared.name}. Next: zest check {tenant} {declared.name}")


def check(
    tenant: TenantArgument,
    partner: PartnerArgument,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Test a connection without writing: the address, the credential, and what it may read and write."""
    from partners.registry import partner as partner_named
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows.check import check as run_check
    from zest_pipelines.store import tenants

    check_tenant_id(tenant)
    declared = partner_named(partner)
    with open_session(chosen_data_dir(data_dir)) as session:
        with session.transaction(Login.OPERATOR, tenant) as tx:
            tenants.connection(tx, tenant, declared.name)  # tells an unknown tenant from an unknown connection
        found = run_check(session.services(), declared, tenant)
    if json_:
        print_json(_check_json(tenant, declared, found))
    else:
        _print_check(declared, found.report)
    if found.certificate_until is not None and found.is_ending:
        until = local(found.certificate_until.isoformat())
        tell(
            f"The client certificate is valid until {until} only: have the partner issue another one and give it with "
            f"zest connect {tenant} {declared.name} --secret-file FILE"
        )


def checked_url(text: str, schemes: Sequence[str] = ("https", "http")) -> str:
    """The address without a slash at its end. InputError if a partner of these schemes cannot be called at it."""
    try:
        parts = urlsplit(text.strip())
        is_place = not parts.netloc and parts.path.startswith("/") if parts.scheme == "file" else bool(parts.hostname)
        is_right = parts.scheme in schemes and is_place and parts.port != 0
        is_right &= text.strip().isprintable() and " " not in text.strip()
    except ValueError:
        is_right = False
    if not is_right:
        how = "file:///path or sftp://host/path" if "file" in schemes else "https://host/path, with http or https"
        raise InputError(f"--base-url is not an address of this partner: write {how}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError("--base-url holds more than an address: leave out user, password, ? and #")
    return parts.geturl().rstrip("/")


def checked_timing(partner: Partner, timing: Timing | None, **of_sending: object) -> Timing:
    """When changes go out. InputError if it is not said; or, where the partner is only read, if it is or another
    option that is about sending (`of_sending`, by their names).
    """
    if partner.writes:
        if timing is None:
            raise InputError("When are changes to go out? Add --timing minute, or --timing week to push weeks by hand")
        return timing
    given = [f"--{name.replace('_', '-')}" for name, value in {"timing": timing, **of_sending}.items() if value]
    if given:
        raise InputError(f"{partner.title} is only read and nothing is sent to it: leave out {', '.join(given)}")
    return Timing.MINUTE  # a connection has one, though nothing goes by it


def check_same_place(before: str, after: str) -> None:
    """InputError if the address moved to another host or path, where ids mean other people; a port may change."""
    old, new = urlsplit(before), urlsplit(after)
    if (old.hostname, old.path) != (new.hostname, new.path):
        raise InputError(
            f"This connection's records are those at {before}, and their ids may mean other people at another address: "
            "if it serves the same records add --same-records, else connect another tenant to it"
        )


def is_private(url: str) -> bool:
    """Whether nobody on the way can read what is sent: https, or this very machine."""
    parts = urlsplit(url)
    return parts.scheme in ("https", "file", "sftp") or parts.hostname in ("localhost", "127.0.0.1", "::1")


def checked_settings(partner: Partner, pairs: Sequence[str]) -> Mapping[str, str]:
    """The partner's settings: those of `pairs` (KEY=VALUE) over the defaults. InputError."""
    split = [pair.partition("=") for pair in pairs]
    if wrong := next((key for key, equals, _ in split if not (key and equals)), None):
        raise InputError(f"--set {wrong} has no value: write --set KEY=VALUE")
    return _complete(partner.settings, {key: value for key, _, value in split}, "setting", "--set KEY=VALUE")


def checked_secret(partner: Partner, given: object) -> Mapping[str, str]:
    """The credential, checked against what the partner declares. InputError, which quotes nothing of it.

    What stands in it as an object, such as a JWK, is kept as its text.
    """
    from resources.tls import TlsError, begins_at, context, expires_at, trusted_until
    from zest_pipelines.flows.opening import tls_of

    if isinstance(given, dict):
        given = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in given.items()}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise InputError('The secret file is not as it should be: write a JSON object of texts, {"token": "..."}')
    secret = _complete(partner.secrets, given, "secret", "the JSON of --secret-file")
    tls = tls_of(secret)
    now = datetime.now(UTC)
    try:
        if not tls.is_plain:
            context(tls)
        until = expires_at(tls)
        begins = begins_at(tls) if tls.certificate else now
        trusted = trusted_until(tls) if tls.ca else None
    except TlsError as error:
        raise InputError(str(error)) from None
    if until is not None and until <= now:
        raise InputError(f"The client certificate has expired ({utc(until)}): have the partner issue another one")
    if begins > now:
        raise InputError(f"The client certificate is not valid before {utc(begins)}: give one that is valid now")
    if trusted is not None and trusted <= now:
        raise InputError(f"The CA certificate has expired ({utc(trusted)}): give the one that the authority has now")
    return secret


def kept_secret(services: Services, partner: Partner, tenant: str) -> Mapping[str, str] | None:
    """The credential that the connection has; an empty one where it needs none; None: one has still to be given.

    Raises VaultError.
    """
    from zest_pipelines.flows.opening import connection_row
    from zest_pipelines.store.errors import UnknownConnectionError

    try:
        sealed = connection_row(services, partner, tenant, Login.LAND).ciphertext
    except UnknownConnectionError:
        sealed = None
    if sealed is not None:
        return services.vault.decrypt(sealed, tenant=tenant, partner=partner.name)
    return None if any(each.default is None for each in partner.secrets) else {}


def check_opens(partner: Partner, connection: Connection, secret: Mapping[str, str]) -> None:
    """PartnerError if what is given cannot even be used to call: a key that cannot sign, a setting not in its form."""
    import httpx

    gate = cast("Gate", object())  # an opening calls nothing, so it is never asked
    partner.open(connection, secret, httpx.Client(trust_env=False), gate).close()


def checked_interval(option: str, text: str) -> timedelta:
    """`60m`, `6h` or `1d`: 1 minute to 7 days, both allowed. InputError, which names the option."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    every = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
    if every is None or not _SHORTEST <= every <= _LONGEST:
        raise InputError(f"{option} {text!r} is not an interval from 1m to 7d: write 60m, 6h or 1d")
    return every


def _complete(declared: Sequence[Setting], given: Mapping[str, str], kind: str, where: str) -> dict[str, str]:
    known = [setting.key for setting in declared]
    if unknown := sorted(set(given) - set(known)):
        raise InputError(f"This partner has no {kind} {', '.join(unknown)}: it knows {', '.join(known) or 'none'}")
    missing = [s.key for s in declared if not given.get(s.key, "").strip() and s.default is None]
    if missing:
        few = "is missing: give it" if len(missing) == 1 else "are missing: give them"
        raise InputError(f"The {kind} {', '.join(missing)} {few} in {where}")
    return {s.key: given.get(s.key) or s.default or "" for s in declared}


def _check_json(tenant: str, partner: Partner, found: Checked) -> dict[str, Any]:
    until = None if found.certificate_until is None else utc(found.certificate_until)
    told = {"certificate_until": until, "certificate_is_ending": found.is_ending}
    return {"tenant": tenant, "partner": partner.name, **asdict(found.report), **told}


def _print_check(partner: Partner, report: CheckReport) -> None:
    words = {True: "yes", False: "no", None: "cannot be told without trying"}
    table = Table("record", "may read", "may write", title=f"{partner.title}: {report.server}", title_justify="left")
    for access in report.access:
        # What is written is read too: back, when in doubt.
        needs = (access.entity in (*partner.reads, *partner.writes), access.entity in partner.writes)
        cells = [words[a] if need else "-" for a, need in zip((access.may_read, access.may_write), needs, strict=True)]
        table.add_row(access.entity, *cells)
    out().print(table)
