"""`zest approve`: what the mass-change guard holds, and a person's yes to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from partners.contract import Entity
from zest_pipelines.cli.masters import Master
from zest_pipelines.cli.options import (
    DataDirOption,
    JsonOption,
    PartnerArgument,
    TenantArgument,
    YesOption,
    chosen_data_dir,
    out,
    print_json,
    says_yes,
    tell,
)
from zest_pipelines.cli.words import Json
from zest_pipelines.core.identifiers import check_tenant_id

if TYPE_CHECKING:
    from zest_pipelines.flows.settle import MassChange


def approve(
    tenant: TenantArgument,
    partner: PartnerArgument,
    entity: Annotated[
        Master | None, typer.Argument(metavar="client|staff", help="Of one kind alone.", show_default=False)
    ] = None,
    yes: YesOption = False,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Show what is held because too much would change or be deleted at once, and let it through, once.

    Up to what is shown, and for the next import only: if it has grown by then, it is held again.
    """
    from partners.registry import partner as partner_named
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import settle

    check_tenant_id(tenant)
    declared = partner_named(partner)
    kind = None if entity is None else Entity(entity)
    with open_session(chosen_data_dir(data_dir)) as session:
        services = session.services()
        found = settle.mass_changes(services, declared, tenant, kind)
        if not json_:
            _print(tenant, declared.name, found)
        is_approved = bool(found) and says_yes("Write all of this?", yes=yes, as_json=json_)
        if is_approved:
            settle.approve(services, declared, tenant, found)
    if json_:
        print_json(_json(tenant, declared.name, found, is_approved))
    if is_approved:
        tell(
            "Approved up to this, for the next import only: within a minute if the platform runs (`zest up`), or now: "
            f"zest sync {tenant} {declared.name}"
        )
        tell("Who approved what and when stands in sync.approval and the audit log; every operator can see it.")


def _json(tenant: str, partner: str, found: tuple[MassChange, ...], is_approved: bool) -> Json:
    held = [
        {
            "entity": each.entity.value,
            "population": each.population,
            "deletes": each.held.deletes,
            "deleted_lately": each.held.beside.lately,
            "suspects": each.held.beside.suspects,
            "changed": dict(each.held.changed),
            "changed_lately": dict(each.held.beside.changed),
        }
        for each in found
    ]
    return {"tenant": tenant, "partner": partner, "held": held, "approved": is_approved}


def _print(tenant: str, partner: str, found: tuple[MassChange, ...]) -> None:
    if not found:
        out().print(f"Nothing of {tenant} at {partner} is held for being too much at once.")
        return
    table = Table("entity", "in force", "would happen", "records")
    for each in found:
        if each.held.deletes:
            table.add_row(each.entity, str(each.population), "deleted", str(each.held.deletes))
        if each.held.beside.lately:
            table.add_row(each.entity, str(each.population), "(deleted within a day)", str(each.held.beside.lately))
        if each.held.beside.suspects:
            table.add_row(each.entity, str(each.population), "(may be gone as well)", str(each.held.beside.suspects))
        for name, records in sorted(each.held.changed.items()):
            table.add_row(each.entity, str(each.population), f"{name} changes", str(records))
            if lately := each.held.beside.changed.get(name):
                table.add_row(each.entity, str(each.population), f"({name} changed within an hour)", str(lately))
    out().print(table)
