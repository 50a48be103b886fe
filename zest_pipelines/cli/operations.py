"""What an operator does to a connection by hand: pause it, let it go on, have what is stopped tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from partners.contract import Entity
from zest_pipelines.cli.options import (
    DataDirOption,
    JsonOption,
    PartnerArgument,
    TenantArgument,
    chosen_data_dir,
    print_json,
    tell,
)
from zest_pipelines.cli.records import Json, Kind
from zest_pipelines.core.identifiers import check_tenant_id

if TYPE_CHECKING:
    from zest_pipelines.cli.session import Session


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
    """Let calls to the partner go on after a pause. What is parked stays parked: see `zest retry`."""
    from partners.registry import partner as partner_named
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import operate

    check_tenant_id(tenant)
    declared = partner_named(partner)
    with open_session(chosen_data_dir(data_dir)) as session:
        operate.resume(session.services(), declared, tenant)
        _tell_standing(session, tenant, declared.name, json_)
    tell(f"{tenant} at {declared.name} goes on, at the next minute or now: zest sync {tenant} {declared.name}")


def retry(
    tenant: TenantArgument,
    partner: PartnerArgument,
    entity: Annotated[
        Kind | None, typer.Argument(metavar="visit|visit_record", help="Of one kind alone.", show_default=False)
    ] = None,
    record_id: Annotated[
        UUID | None, typer.Argument(metavar="ID", help="One record alone (visit_id).", show_default=False)
    ] = None,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Have what is stopped tried again by the next push: parked, in conflict, waiting for a retry.

    A record in conflict is overwritten at the partner.
    """
    from partners.registry import partner as partner_named
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import operate

    check_tenant_id(tenant)
    declared = partner_named(partner)
    kind = None if entity is None else Entity(entity)
    with open_session(chosen_data_dir(data_dir)) as session:
        operate.ask_again(session.services(), declared, tenant, kind, record_id)
        status = _tell_standing(session, tenant, declared.name, json_)
    if status["paused"]:
        tell(paused_words(tenant, declared.name))
    else:
        tell(f"It goes again at the next minute, or now: zest sync {tenant} {declared.name}")


def paused_words(tenant: str, partner: str) -> str:
    """When it goes on, where the next minute does nothing."""
    return f"{tenant} at {partner} is paused. What waits goes after: zest resume {tenant} {partner}"


def _tell_standing(session: Session, tenant: str, partner: str, as_json: bool) -> Json:
    """Print the connection as `zest status` does, and return it."""
    from zest_pipelines.cli.records import connection_status, print_connections

    status = connection_status(session, tenant, partner)
    if as_json:
        print_json(status)
    else:
        print_connections([status])
    return status
