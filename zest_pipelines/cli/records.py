"""Commands that look and change nothing: how the connections stand, and what became of one record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.markup import escape
from rich.table import Table

from partners.contract import MASTERS, Entity
from partners.reasons import sentences
from resources.logins import Login
from zest_pipelines.cli.hindrances import closed_times, hold, print_hold, print_their_changes, their_change
from zest_pipelines.cli.options import (
    DataDirOption,
    JsonOption,
    TenantArgument,
    chosen_data_dir,
    counted,
    out,
    print_json,
)
from zest_pipelines.cli.words import Json, local, utc
from zest_pipelines.core.identifiers import check_tenant_id
from zest_pipelines.core.reference import reference

if TYPE_CHECKING:
    from zest_pipelines.cli.session import Session
    from zest_pipelines.store.badges import RecordBadge
    from zest_pipelines.store.hindrances import Hindrances
    from zest_pipelines.store.reports import CallsOfResult, ConnectionStatus, Step


class Kind(StrEnum):
    """The records that go out."""

    VISIT = "visit"
    VISIT_RECORD = "visit_record"


def status(data_dir: DataDirOption = None, json_: JsonOption = False) -> None:
    """How every connection stands: what came in, what went out, what waits and why."""
    from partners.registry import PARTNERS
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import due

    with open_session(chosen_data_dir(data_dir)) as session:
        with session.transaction(Login.SCHEDULE, None) as tx:
            connected = sorted({tenant for partner in PARTNERS for tenant in due.tenants(tx, partner)})
        found = [each for tenant in connected for each in connection_statuses(session, tenant)]
    if json_:
        print_json({"connections": found})
    elif found:
        print_connections(found)
    else:
        out().print("No tenant is connected yet. Next: zest tenant add ID --name NAME, then zest connect")


_AT_LIMITS = " zest limits shows until when; zest reopen {partner} where that cannot be meant."


def explain(
    tenant: TenantArgument,
    entity: Annotated[Kind, typer.Argument(metavar="visit|visit_record", help="What it is.", show_default=False)],
    record_id: Annotated[UUID, typer.Argument(metavar="ID", help="Its id (visit_id).", show_default=False)],
    values: Annotated[
        bool,
        typer.Option("--values", help="Show both sides' values of changes made there too; noted in the audit log."),
    ] = False,
    calls: Annotated[
        bool,
        typer.Option(
            "--calls", help="Show what was asked and answered, with people's data masked; noted in the audit log."
        ),
    ] = False,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """What became of one record at each partner, from its first edit on, and what to do next."""
    from partners.registry import ONLY_READ
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.core.badge import Badge, worst
    from zest_pipelines.store import badges, hindrances, reports, tenants
    from zest_pipelines.store.errors import UnknownRecordError

    check_tenant_id(tenant)
    kind = Entity(entity)
    with open_session(chosen_data_dir(data_dir)) as session, session.transaction(Login.OPERATOR, tenant) as tx:
        tenants.get(tx, tenant)
        steps = reports.timeline(tx, tenant, kind, record_id)
        if not steps:
            raise UnknownRecordError(tenant, kind, record_id)
        shown_badges = badges.of_record(tx, tenant, kind, record_id)
        unread = [Badge.WAITING] if reports.has_unread_edits(tx, tenant, kind, record_id, ONLY_READ) else []
        changed = hindrances.conflicts(tx, tenant, kind, record_id)
        gone = hindrances.overwritten(tx, tenant, kind, record_id)
        found = hindrances.of_tenant(tx, tenant)
        shown = (*changed, *gone) if values else ()
        for partner in sorted({each.partner for each in shown}):
            names = [each.name for each in shown if each.partner == partner]
            detail = {"entity": kind.value, "record": str(record_id), "fields": names}
            tenants.audit(tx, tenant, "show_values", partner, detail)
        asked = reports.calls(tx, tenant, kind, record_id) if calls else ()
        for partner in sorted({each.partner for each in asked}):
            tenants.audit(tx, tenant, "show_calls", partner, {"entity": kind.value, "record": str(record_id)})
    numbers = {each.partner: reference(tenant, each.partner, kind.value, str(record_id)) for each in shown_badges}
    told = [*(_step(each, numbers) for each in steps), *_waiting(shown_badges, steps, numbers)]
    badge = worst([*(Badge(each.badge) for each in shown_badges), *unread])
    conflicts = [their_change(each, values) for each in changed]
    overwritten = [their_change(each, values) for each in gone]
    concerned = {each.partner for each in shown_badges}
    holds = [held for each in found if each.partner in concerned and (held := hold(tenant, each, datetime.now(UTC)))]
    if json_:
        record = {"tenant": tenant, "entity": kind.value, "record_id": str(record_id), "badge": badge.value}
        lists = {"timeline": told, "conflicts": conflicts, "overwritten": overwritten, "holds": holds}
        lists |= {"calls": [vars(each) | {"at": utc(each.at)} for each in asked]} if calls else {}
        print_json(record | {"references": numbers} | lists)
        return
    _print_timeline(f"{kind} {record_id} of {tenant}: {badge}", told)
    for partner, number in sorted(numbers.items()):
        out().print(f"reference number at {partner}: {number}", highlight=False)
    print_their_changes(conflicts, "changed at the partner")
    print_their_changes(overwritten, "changed at the partner, and overwritten")
    for each in holds:
        print_hold(tenant, each)
    _print_calls(asked)


def connection_statuses(session: Session, tenant: str) -> list[Json]:
    """A tenant's connections as `status --json` shows them. Raises StoreError."""
    from zest_pipelines.store import hindrances, reports

    with session.transaction(Login.OPERATOR, tenant) as tx:
        found = {each.partner: each for each in hindrances.of_tenant(tx, tenant)}
        return [_connection(each, found[each.partner]) for each in reports.connections(tx, tenant)]


def connection_status(session: Session, tenant: str, partner: str) -> Json:
    """One of them. Raises StoreError; StopIteration never: the caller knows that it is there."""
    return next(each for each in connection_statuses(session, tenant) if each["partner"] == partner)


def print_connections(connections: Sequence[Json]) -> None:
    """A line for each connection, then what went wrong last."""
    table = Table(
        "tenant", "partner", "timing", "clients", "staff", "delivered", "pending", "parked", "unknown", "oldest"
    )
    for each in connections:
        sent, is_written = each["out"], each["timing"] is not None
        masters = [
            f"{each['applied'][kind]['records']} of {each['landed'][kind]['records']}" if kind in each["reads"] else "-"
            for kind in ("client", "staff")
        ]
        counts = [str(sent[name]) if is_written else "-" for name in ("delivered", "pending", "parked", "unknown")]
        table.add_row(
            each["tenant"], each["partner"], _timing(each), *masters, *counts, _age(sent["oldest_pending_seconds"])
        )
    out().print(table)
    for each in connections:
        if each["hold"]:
            print_hold(each["tenant"], each["hold"])
        if held := each["out"]["conflicts"]:
            told = (
                f"{each['tenant']}, {each['partner']}: held, because changed at the partner: {counted(held, 'record')}"
            )
            out().print(f"{told}. See zest explain, then zest release or zest abandon", soft_wrap=True, markup=False)
        if error := each["last_error"]:
            told = f"{each['tenant']}, {each['partner']}: last error {local(error['at'])}: {error['message']}"
            more = _AT_LIMITS.format(partner=each["partner"]) if error["reason"] == "budget_deferred" else ""
            out().print(f"{told} {error['next_action']}{more}", soft_wrap=True, markup=False)


def _connection(found: ConnectionStatus, hindrances: Hindrances) -> Json:
    from partners.registry import ONLY_READ, PARTNERS

    masters = {entity.value: status for entity, status in found.masters.items()}
    reads = PARTNERS[found.partner].reads if found.partner in PARTNERS else MASTERS
    return {
        "tenant": found.tenant,
        "partner": found.partner,
        "reads": [entity.value for entity in reads],
        "timing": None if found.partner in ONLY_READ else found.timing,
        "weight": found.weight,
        "deliver_within_seconds": found.deliver_within_seconds,
        "paused": found.is_paused,
        "pause_reason": found.pause_reason,
        "landed": {
            entity: {"records": each.records, "snapshot": each.snapshot, "at": utc(each.at)}
            for entity, each in masters.items()
        },
        "applied": {
            entity: {"records": each.applied, "rejected": each.rejected, "held": each.held}
            for entity, each in masters.items()
        },
        "on_conflict": hindrances.on_conflict,
        "closed": list(closed_times(hindrances)),
        "hold": hold(found.tenant, hindrances, datetime.now(UTC)),
        "out": vars(found.out) | {"conflicts": hindrances.conflicts, "repairs": hindrances.repairs},
        "last_error": _error(found),
    }


def _timing(connection: Json) -> str:
    """When its changes go out, and what was set about it beyond the usual."""
    told = [connection["timing"] or "only read"]
    if connection["deliver_within_seconds"] is not None:
        told.append(f"within {connection['deliver_within_seconds'] / 60:.0f} min")
    if connection["weight"] != 1:
        told.append(f"weight {connection['weight']}")
    if connection["paused"]:
        told.append(f"paused: {escape(connection['pause_reason'])}")
    return ", ".join(told)


def _error(found: ConnectionStatus) -> Json | None:
    error = found.last_error
    if error is None:
        return None
    message, action = sentences(error.reason, error.params, reference(found.tenant, found.partner))
    return {"at": utc(error.at), "reason": error.reason, "message": message, "next_action": action}


def _step(step: Step, numbers: Mapping[str, str]) -> Json:
    return {
        "at": utc(step.at),
        "partner": step.partner,
        "what": step.what,
        "version": step.version,
        "outcome": step.outcome,
        "reason": step.reason or step.params.get("why"),
        "next_action": sentences(step.reason, step.params, numbers.get(step.partner or "", ""))[1]
        if step.reason
        else None,
    }


def _waiting(badges: Sequence[RecordBadge], steps: Sequence[Step], numbers: Mapping[str, str]) -> list[Json]:
    """What an open record waits for now, where its timeline does not end with saying so."""
    now, told = datetime.now(UTC), []
    for each in badges:
        mine = [step for step in steps if step.partner in (None, each.partner)]
        if each.reason and each.badge not in ("ok", "delivered_with_warning") and mine[-1].reason != each.reason:
            told.append(
                {
                    **_step(mine[-1], numbers),
                    "at": utc(now),
                    "partner": each.partner,
                    "what": "waiting",
                    "outcome": None,
                }
            )
            told[-1] |= {
                "reason": each.reason,
                "next_action": sentences(each.reason, each.params, numbers[each.partner])[1],
            }
    return told


def _print_timeline(title: str, steps: Sequence[Json]) -> None:
    table = Table(
        "at", "partner", "what", "version", "outcome", "reason", "next action", title=title, title_justify="left"
    )
    for step in steps:
        cells = (step["partner"], step["what"], step["version"], step["outcome"], step["reason"], step["next_action"])
        table.add_row(local(step["at"]), *("" if cell is None else str(cell) for cell in cells))
    out().print(table)


def _print_calls(asked: Sequence[CallsOfResult]) -> None:
    for result in asked:
        ended = f"version {result.version}: {result.outcome}, {result.reason}"
        out().print(f"\n{local(result.at.isoformat())}, {result.partner}, {ended}", markup=False)
        for call in result.calls:
            answered = "no answer" if call["status"] is None else f"answered {call['status']}"
            out().print(f"{call['method']} {call['path']}: {answered}", markup=False)
            out().print_json(data={"asked": call["asked"], "answer": call["answer"]}, ensure_ascii=False)


def _age(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
