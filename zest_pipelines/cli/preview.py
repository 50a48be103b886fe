"""`zest diff --preview`: what the mapping at hand, or another setting, would do to the masters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from partners.contract import Partner
from zest_pipelines.cli.masters import EntityArgument, read_by
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
)
from zest_pipelines.core.identifiers import check_tenant_id

if TYPE_CHECKING:
    from zest_pipelines.flows.preview import PreviewReport

_KINDS = ("added", "changed", "unchanged", "deleted", "unmappable")


def diff(
    tenant: TenantArgument,
    partner: PartnerArgument,
    entity: EntityArgument,
    preview: Annotated[bool, typer.Option("--preview", help="Say what would change; writes nothing.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting to try; repeatable.")
    ] = None,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """What the mapping at hand, or another setting, would do to the masters that landed. Writes nothing."""
    from partners.registry import partner as partner_named
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows.preview import preview as run_preview

    check_tenant_id(tenant)
    declared = partner_named(partner)
    kind, tried = read_by(declared, entity), _tried(declared, set_ or [])
    if not preview:
        raise InputError(f"zest diff only looks: add --preview. To compare and apply: zest sync {tenant} {partner}")
    with open_session(chosen_data_dir(data_dir)) as session:
        report = run_preview(session.services(), declared, tenant, kind, tried)
    if json_:
        asked = {"tenant": tenant, "partner": partner, "set": sorted(tried)}
        print_json(asked | asdict(report) | {"held": report.is_held})
    else:
        _print(report, f"{kind} of {tenant} at {partner}, mapped anew: {counted(report.records, 'record')}")


def _tried(partner: Partner, pairs: Iterable[str]) -> Mapping[str, str]:
    """The settings to try. InputError for one that the partner does not have."""
    known = [setting.key for setting in partner.settings]
    tried = {}
    for key, equals, value in (pair.partition("=") for pair in pairs):
        if not (equals and key in known):
            raise InputError(f"--set {key} is none of this partner's: write KEY=VALUE, of {', '.join(known) or 'none'}")
        tried[key] = value
    return tried


def _print(report: PreviewReport, title: str) -> None:
    table = Table(*_KINDS, title=title, title_justify="left")
    table.add_row(*(f"{getattr(report, name):,}" for name in _KINDS))
    out().print(table)
    for sentence in _sentences(report):
        out().print(sentence, markup=False, soft_wrap=True)


def _sentences(report: PreviewReport) -> list[str]:
    told = [f"{_of(report, name)} would change in {name}." for name in report.fields]
    if report.added and not report.makes_masters:
        told.insert(0, f"This connection makes no masters: the {report.added:,} added are linked to ours, or wait.")
    if report.respelled:
        told.append(f"Of the unchanged, {report.respelled:,} would be spelled otherwise.")
    told += [f"{_of(report, why)} could not be taken any more: {why}." for why in report.newly_unmappable]
    told += [
        f"{counted(records, 'record')} could be taken again, without {why}." for why, records in report.cured.items()
    ]
    return [*told, _verdict(report), "Nothing was written."]


def _of(report: PreviewReport, what: str) -> str:
    """How many records, and the opaque ids of some."""
    number = report.fields.get(what) or report.newly_unmappable[what]
    return f"{counted(number, 'record')} ({', '.join(report.examples[what])}{', ...' if number > 3 else ''})"


def _verdict(report: PreviewReport) -> str:
    of = f"of {counted(report.population, 'record')} in force"
    approved = _much(report.approved_deletes, report.approved_fields)
    if report.is_held:
        held = _much(report.held_deletes, report.held_fields)
        told = f"The mass-change guard would hold it for a person, {of}: {held}."
        return f"{told} What was approved would go through: {approved}." if approved else told
    if approved:
        return f"The mass-change guard would let it through, {of}, since it was approved: {approved}."
    return f"The mass-change guard would let it through, {of}."


def _much(deletes: int, fields: Mapping[str, int]) -> str:
    told = [f"{deletes:,} deletes"] if deletes else []
    return ", ".join([*told, *(f"{name} in {records:,}" for name, records in fields.items())])
