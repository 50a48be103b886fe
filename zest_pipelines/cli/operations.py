"""What an operator does by hand: pause a connection, let it go on, and a person's word on what is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.table import Table

from partners.contract import Entity
from zest_pipelines.cli.options import (
    DataDirOption,
    InputError,
    JsonOption,
    PartnerArgument,
    TenantArgument,
    YesOption,
    chosen_data_dir,
    counted,
    out,
    print_json,
    says_yes,
    tell,
    written_partner,
)
from zest_pipelines.cli.records import Kind
from zest_pipelines.cli.weeks import written_week
from zest_pipelines.cli.words import Json, paused_words
from zest_pipelines.core.identifiers import check_tenant_id

if TYPE_CHECKING:
    from zest_pipelines.cli.session import Session
    from zest_pipelines.store.requests import StoppedGroup

KindArgument = Annotated[
    Kind | None, typer.Argument(metavar="visit|visit_record", help="Of one kind alone.", show_default=False)
]
RecordArgument = Annotated[
    UUID | None, typer.Argument(metavar="ID", help="One record alone (visit_id).", show_default=False)
]
WhyOption = Annotated[
    str,
    typer.Option("--reason", help="Why; kept and shown on the board, so nothing about a patient.", show_default=False),
]
_CARRIED_OUT = "It is carried out at the next minute, if the platform runs (`zest up`), and needs no call."


def pause(
    tenant: TenantArgument,
    partner: PartnerArgument,
    reason: Annotated[
        str, typer.Option(help="Why, for whoever finds it paused; nothing about a patient.", show_default=False)
    ],
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Stop all calls to the partner for one tenant. Edits wait, and nothing is lost."""
    from partners.registry import partner as partner_named
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import operate

    check_tenant_id(tenant)
    declared = partner_named(partner)
    with open_session(chosen_data_dir(data_dir)) as session:
        operate.pause(session.services(), declared, tenant, reason)
        _tell_standing(session, tenant, declared.name, json_)
    tell(paused_words(tenant, declared.name))


def resume(
    tenant: TenantArgument, partner: PartnerArgument, data_dir: DataDirOption = None, json_: JsonOption = False
) -> None:
    """Let calls to the partner go on after a pause. What is parked stays parked: see `zest release`."""
    from partners.registry import partner as partner_named
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import operate

    check_tenant_id(tenant)
    declared = partner_named(partner)
    with open_session(chosen_data_dir(data_dir)) as session:
        operate.resume(session.services(), declared, tenant)
        _tell_standing(session, tenant, declared.name, json_)
    tell(f"{tenant} at {declared.name} goes on, at the next minute or now: zest sync {tenant} {declared.name}")


def release(
    tenant: TenantArgument,
    partner: PartnerArgument,
    entity: KindArgument = None,
    record_id: RecordArgument = None,
    because: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="What is stopped for this reason alone, such as record_refused."),
    ] = None,
    week: Annotated[
        str | None, typer.Option(metavar="MONDAY", help="Visits of this week alone, such as 2026-11-23.")
    ] = None,
    yes: YesOption = False,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Have what is stopped tried again by the next push: parked, in conflict, waiting for a retry.

    Shows first what that is, and asks, unless it is one record. A record in conflict is overwritten at the partner.
    """
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import operate
    from zest_pipelines.store.requests import Selection

    check_tenant_id(tenant)
    declared = written_partner(partner)
    kind = None if entity is None else Entity(entity)
    days = None if week is None else written_week(week)
    selection = Selection(kind, record_id, None if because is None else checked_reason(because), days)
    with open_session(chosen_data_dir(data_dir)) as session:
        groups = operate.would_release(session.services(), declared, tenant, selection)
        if not json_:
            _print_groups(groups)
            if not groups:
                return
        request = None
        if record_id is not None or (groups and says_yes("Have it tried again?", yes=yes, as_json=json_)):
            request = str(operate.release(session.services(), declared, tenant, selection))
        elif not json_:
            return
        told = {"request": request, "tried_again": [vars(each) for each in groups], "released": request is not None}
        status = _tell_standing(session, tenant, declared.name, json_, **told)
    if request is None:
        return
    if status["paused"]:
        tell(paused_words(tenant, declared.name))
    else:
        tell(f"It goes again at the next minute, or now: zest sync {tenant} {declared.name}")
    tell(f"Follow it: zest request {tenant} {request}")


def checked_reason(code: str) -> str:
    """The code itself. InputError if no reason has it."""
    from partners.reasons import UnknownReason, reason

    try:
        return reason(code).code
    except UnknownReason:
        raise InputError("There is no such reason: zest badges TENANT shows the codes of what is stopped") from None


def _print_groups(groups: Sequence[StoppedGroup]) -> None:
    if not groups:
        out().print("Nothing of it is stopped now, so there is nothing to try again.")
        return
    table = Table("record", "state", "reason", "records", title="To be tried again", title_justify="left")
    for each in groups:
        table.add_row(each.entity, each.state, each.reason, f"{each.records:,}")
    out().print(table)


def abandon(
    tenant: TenantArgument,
    partner: PartnerArgument,
    reason: WhyOption,
    entity: KindArgument = None,
    record_id: RecordArgument = None,
    all_: Annotated[bool, typer.Option("--all", help="All that is open, such as when the tenant is gone.")] = False,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Give up what is open of one record, or with --all of the connection: it ends without being sent.

    A later edit of such a record is sent as ever.
    """
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import operate

    check_tenant_id(tenant)
    declared = written_partner(partner)
    one = _one_record(entity, record_id)
    if all_ == (one is not None):
        raise InputError("Name the record, such as `visit ID`, or give --all instead")
    with open_session(chosen_data_dir(data_dir)) as session:
        if one is None:
            given_up = operate.abandon_all(session.services(), declared, tenant, reason)
        else:
            operate.abandon(session.services(), declared, tenant, *one, reason)
            given_up = 1
        _tell_standing(session, tenant, declared.name, json_, abandoned=given_up)
    tell(f"{counted(given_up, 'record')} given up. {_CARRIED_OUT}")


def adopt(
    tenant: TenantArgument,
    partner: PartnerArgument,
    entity: Annotated[Kind, typer.Argument(metavar="visit|visit_record", help="What it is.", show_default=False)],
    record_id: Annotated[UUID, typer.Argument(metavar="ID", help="Its id (visit_id).", show_default=False)],
    partner_id: Annotated[
        str, typer.Option(help="The partner's own id of the record, as its screen shows it.", show_default=False)
    ],
    reason: WhyOption,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Say that the partner has what is open of one record, under this id: it ends as delivered.

    For a record of which nobody else can tell whether it arrived. Later edits go to that record.
    """
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import operate

    check_tenant_id(tenant)
    declared = written_partner(partner)
    if not partner_id.strip():
        raise InputError("--partner-id is empty: write the id that the partner's screen shows")
    with open_session(chosen_data_dir(data_dir)) as session:
        operate.adopt(session.services(), declared, tenant, Entity(entity), record_id, partner_id, reason)
        _tell_standing(session, tenant, declared.name, json_)
    tell(_CARRIED_OUT)


def _one_record(entity: Kind | None, record_id: UUID | None) -> tuple[Entity, UUID] | None:
    """The record that was named, if one was. InputError if half of one was."""
    if entity is None:
        return None
    if record_id is None:
        raise InputError(f"Which {entity}? Write its id after it; `zest explain` and checks show it")
    return Entity(entity), record_id


def _tell_standing(session: Session, tenant: str, partner: str, as_json: bool, **more: object) -> Json:
    """Print the connection as `zest status` does, with `more` in the JSON, and return it."""
    from zest_pipelines.cli.records import connection_status, print_connections

    status = connection_status(session, tenant, partner)
    if as_json:
        print_json(status | more)
    else:
        print_connections([status])
    return status
