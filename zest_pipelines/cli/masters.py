"""`zest as-of`: the masters as they were at a past moment."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from rich.markup import escape
from rich.table import Table

from partners.contract import Client, Entity, Partner, Staff
from resources.logins import Login
from zest_pipelines.cli.options import (
    DataDirOption,
    InputError,
    JsonOption,
    PartnerArgument,
    TenantArgument,
    chosen_data_dir,
    counted,
    out,
    print_json,
    tell,
)
from zest_pipelines.cli.words import Json, local, utc
from zest_pipelines.core.identifiers import check_tenant_id, landed_id
from zest_pipelines.core.moments import moment

if TYPE_CHECKING:
    from zest_pipelines.store.history import MasterThen

_MOST_SHOWN = 50
"""Rows for the eye; all of them are for files and programs."""
_SAID_BY = ("record_id", "partner_id", "landed", "snapshot_id", "read_at", "applied_at", "is_gone")
_FIELDS = {Entity.CLIENT: fields(Client), Entity.STAFF: fields(Staff)}


class Master(StrEnum):
    """The records that come in."""

    CLIENT = "client"
    STAFF = "staff"


EntityArgument = Annotated[Master, typer.Argument(metavar="client|staff", help="Whose masters.", show_default=False)]


def as_of(
    tenant: TenantArgument,
    partner: PartnerArgument,
    entity: EntityArgument,
    at: Annotated[
        str,
        typer.Option(metavar="MOMENT", help="2026-11-01T09:00, in Japan's time or with an offset.", show_default=False),
    ],
    csv_: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write all of them to a new file, for its owner alone."),
    ] = None,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """The masters as the product had them at a past moment, and which reading said so.

    Of a partner that only links: what it had said of them by then. Shows people's data; noted in the audit log.
    """
    from partners.registry import partner as partner_named
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import history, tenants
    from zest_pipelines.store.masters import Scope

    check_tenant_id(tenant)
    kind, then = read_by(partner_named(partner), entity), _past(at)
    with open_session(chosen_data_dir(data_dir)) as session:
        with session.transaction(Login.OPERATOR, tenant) as tx:  # by itself: nothing is shown that is not in the log
            row = tenants.connection(tx, tenant, partner)
            tenants.audit(tx, tenant, "show_masters", partner, {"entity": kind.value, "at": utc(then)})
        with session.transaction(Login.OPERATOR, tenant) as tx:
            found = history.as_of(tx, Scope(tenant, partner, kind), then)
            written = None if csv_ is None else _write(csv_, kind, found)
            told = [_told(each) for each in found]
    if kind not in row.creates:
        tell(f"{partner} only links to {kind} records that are there: this is what it said of them, not what they held")
    if written is not None:
        tell(f"{counted(written, 'record')} in {csv_}: people's data, so keep it as such")
    elif json_:
        asked = {"tenant": tenant, "partner": partner, "entity": kind.value, "at": utc(then)}
        print_json(asked | {"records": told})
    else:
        _print_masters(f"{kind} of {tenant} at {partner}, as of {local(str(utc(then)))}", kind, told)


def read_by(partner: Partner, entity: Master) -> Entity:
    """The entity. InputError if this partner has none such."""
    if Entity(entity) not in partner.reads:
        raise InputError(f"{entity} does not come from {partner.name}: it gives {', '.join(partner.reads) or 'none'}")
    return Entity(entity)


def _past(text: str) -> datetime:
    """The moment, aware. MomentError, and InputError for one that is still to come."""
    found = moment(text)
    if found > datetime.now(UTC):
        raise InputError(f"{text} is still to come: name a past moment, in Japan's time or with an offset")
    return found


def _told(then: MasterThen) -> Json:
    return {
        "record_id": str(then.record_id),
        "partner_id": then.partner_id,
        "landed": landed_id(then.landed_no),
        "snapshot_id": str(then.snapshot_id),
        "read_at": utc(then.read_at),
        "applied_at": utc(then.applied_at),
        "is_gone": then.is_gone,
        "master": dict(then.master),
    }


@contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    """A new file, readable for its owner alone, and gone again if the block fails. InputError if it is there."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError(f"{path} is there already: name a new file") from None
    try:
        with os.fdopen(number, "w", encoding="utf-8-sig", newline="") as file:  # or Excel takes it for something else
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write(path: Path, entity: Entity, found: Iterable[MasterThen]) -> int:
    """Write them as they come; how many."""
    names, rows = [each.name for each in _FIELDS[entity]], 0
    with _new_file(path) as file:
        writer = csv.DictWriter(file, [*_SAID_BY, *names], extrasaction="ignore")
        writer.writeheader()
        for then in found:
            rows += 1
            told = _told(then)
            writer.writerow(told | told["master"])
    return rows


def _print_masters(title: str, entity: Entity, told: Sequence[Json]) -> None:
    if not told:
        out().print(f"{title}: nobody. Nothing had been applied by then.", markup=False)
        return
    names = ["number", "family_name", "given_name", "birth_date" if entity is Entity.CLIENT else "qualification"]
    table = Table(*(name.replace("_", " ") for name in (*names, "active", "applied_at", "snapshot_id")), title=title)
    table.title_justify = table.caption_justify = "left"
    for each in told[:_MOST_SHOWN]:
        values = [escape(str(each["master"].get(name, ""))) for name in names]
        active = "yes" if each["master"].get("active") else "no"
        table.add_row(*values, active, local(each["applied_at"]), each["snapshot_id"])
    more = f"; {len(told) - _MOST_SHOWN:,} more with --csv FILE or --json" if len(told) > _MOST_SHOWN else ""
    table.caption = f"{counted(len(told), 'record')}{more}"
    out().print(table)
