"""`zest identities`: the partner's records of which nobody knows who they are, and a person's word on one of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.table import Table

from partners.contract import MASTERS, Entity, Partner
from partners.reasons import sentences
from resources.logins import Login
from zest_pipelines.cli.masters import Master, read_by
from zest_pipelines.cli.options import (
    DataDirOption,
    InputError,
    JsonOption,
    TenantArgument,
    chosen_data_dir,
    counted,
    out,
    print_json,
    tell,
)
from zest_pipelines.cli.words import Json, local, utc
from zest_pipelines.core.identifiers import check_tenant_id, landed_id
from zest_pipelines.core.identity import Act
from zest_pipelines.core.matching import weakness
from zest_pipelines.core.reference import reference

if TYPE_CHECKING:
    from zest_pipelines.flows.services import Services
    from zest_pipelines.store.identities import WaitingRecord
    from zest_pipelines.store.tenants import ConnectionRow


def identities(
    tenant: TenantArgument,
    partner: Annotated[str | None, typer.Argument(help="Of one partner alone.", show_default=False)] = None,
    settle: Annotated[
        str | None, typer.Option(metavar="ID", help="Say who one is, by the id that the list shows (landed:42).")
    ] = None,
    same: Annotated[bool, typer.Option("--same", help="It is the person whom its number meant before.")] = False,
    new: Annotated[bool, typer.Option("--new", help="It is another person, and gets a record of its own.")] = False,
    link: Annotated[UUID | None, typer.Option(metavar="RECORD", help="It is this record of ours.")] = None,
    unlink: Annotated[
        str | None,
        typer.Option(metavar="PARTNER_ID", help="The partner's record is linked to the wrong one of ours (staff=ID)."),
    ] = None,
    own: Annotated[
        Master | None,
        typer.Option(metavar="client|staff", help="From now on this partner owns the masters that are linked at it."),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept, so nothing about a patient.")] = None,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Whose records wait because it is not certain who they are, and what to do; with --settle, say who one is.

    With --unlink, undo a wrong link: the partner's record waits again, and ours stays as it is. With --own, have this
    partner's changes written into the masters that another one owned so far.
    """
    from partners.registry import partner as partner_named
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import settle as words_of_people
    from zest_pipelines.store import identities as stored
    from zest_pipelines.store import tenants

    check_tenant_id(tenant)
    name = None if partner is None else partner_named(partner).name
    number, act = _word(settle, same=same, new=new, link=link)
    revision = _revision(name, unlink, own, reason, is_settled=settle is not None)
    with open_session(chosen_data_dir(data_dir)) as session:
        if revision is not None:
            revision(session.services(), tenant)
        with session.transaction(Login.OPERATOR, tenant) as tx:
            tenants.get(tx, tenant)
            waiting = list(stored.waiting(tx, tenant, name))
            rules = [each for each in tenants.connections(tx, tenant) if name in (None, each.connection.partner)]
        if number is not None and act is not None:
            declared = partner_named(_partner_of(tenant, number, waiting))
            words_of_people.identity(session.services(), declared, tenant, number, act, link, reason)
            waiting = [each for each in waiting if each.landed_no != number]
            _noted(tenant, declared.name)
    if json_:
        print_json(
            {"tenant": tenant, "waiting": [_json(tenant, each) for each in waiting], "rules": list(map(_rule, rules))}
        )
    elif number is None and revision is None:
        _print(tenant, waiting, rules)


def checked_identity(partner: Partner, given: Sequence[str]) -> frozenset[Entity] | None:
    """The kinds of master that the connection makes, from `create`, `match`, `staff=match`; None: nothing is said.

    InputError.
    """
    if not given:
        return None
    kinds = partner.masters
    creates: dict[Entity, bool] = {}
    for text in given:
        entity, _, how = text.rpartition("=")
        named = kinds if not entity else [each for each in kinds if each == entity]
        if how not in ("create", "match") or not named:
            raise InputError(f"--identity {text!r} cannot be used: write create or match, or {kinds[0]}=match")
        creates |= dict.fromkeys(named, how == "create")
    if missing := [each.value for each in kinds if each not in creates]:
        raise InputError(
            f"--identity says nothing of {', '.join(missing)}: add --identity {missing[0]}=create or match"
        )
    return frozenset(each for each in kinds if creates[each])


def checked_keys(given: Sequence[str], creates: frozenset[Entity] | None) -> Mapping[Entity, Sequence[str]] | None:
    """The fields to match on, from `birth_date,family_kana,given_kana` (clients) or `staff=number,...`; None as above.

    InputError for fields that two people can share.
    """
    if not given:
        return None if creates is None else {}
    keys: dict[Entity, Sequence[str]] = {}
    for text in given:
        kind, _, names = text.rpartition("=")
        entity = next((each for each in MASTERS if each == (kind or Entity.CLIENT)), None)
        if entity is None:
            raise InputError(f"--match-on {text!r} is of no kind of master: write client=FIELDS or staff=FIELDS")
        if creates is None or entity in creates:
            raise InputError(f"--match-on is for records that are matched: add --identity {entity}=match")
        keys[entity] = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
        if not keys[entity]:
            raise InputError("--match-on names no field: write birth_date,family_kana,given_kana")
        if (why := weakness(entity, keys[entity])) is not None:
            raise InputError(f"--match-on {text}: {why}")
    return keys


def _word(settle: str | None, *, same: bool, new: bool, link: UUID | None) -> tuple[int | None, Act | None]:
    """Which record, and what is said of it. InputError if it is not exactly one thing."""
    said = [act for act, is_said in ((Act.SAME, same), (Act.NEW, new), (Act.LINK, link is not None)) if is_said]
    if settle is None:
        if said:
            raise InputError("Of which record? Add --settle ID, with an id of the list")
        return None, None
    found = re.fullmatch(r"(?:landed:)?([0-9]{1,18})", settle)
    if found is None:
        raise InputError("--settle takes an id of the list, such as landed:42")
    if len(said) != 1:
        raise InputError("Say who it is: one of --same, --new and --link RECORD")
    return int(found[1]), said[0]


def _revision(
    partner: str | None, unlink: str | None, own: Master | None, reason: str | None, *, is_settled: bool
) -> Callable[[Services, str], None] | None:
    """What is said of links that are there, to be stored for a tenant; None: nothing. InputError."""
    from partners.registry import partner as partner_named
    from zest_pipelines.flows import settle as words_of_people

    if unlink is None and own is None:
        return None
    if is_settled or (unlink is not None and own is not None):
        raise InputError("One word at a time: --settle, --unlink or --own")
    if partner is None or reason is None:
        raise InputError("A link is changed at one partner and for a reason: name the partner and add --reason")
    declared, why = partner_named(partner), reason

    def revise(services: Services, tenant: str) -> None:
        if own is not None:
            records = words_of_people.own(services, declared, tenant, read_by(declared, own), why)
            tell(f"{counted(records, f'{own.value} record')} linked at {declared.name} had another owner.")
        elif unlink is not None:
            entity, partner_id = _of_kind(unlink)
            words_of_people.unlink(services, declared, tenant, partner_id, why, entity)
        _noted(tenant, declared.name)

    return revise


def _of_kind(text: str) -> tuple[Entity | None, str]:
    """A partner's id, and the kind that stands before it (`staff=ID`) if one does."""
    kind, _, partner_id = text.rpartition("=")
    entity = next((each for each in MASTERS if each == kind), None)
    return (None, text) if entity is None else (entity, partner_id)


def _noted(tenant: str, partner: str) -> None:
    now = f"zest sync {tenant} {partner}"
    tell(f"Noted. It is carried out within a minute if the platform runs (`zest up`), or now: {now}")


def _partner_of(tenant: str, number: int, waiting: Sequence[WaitingRecord]) -> str:
    partner = next((each.partner for each in waiting if each.landed_no == number), None)
    if partner is None:
        raise InputError(f"{landed_id(number)} does not wait: see who does with zest identities {tenant}")
    return partner


def _json(tenant: str, found: WaitingRecord) -> Json:
    record = landed_id(found.landed_no)
    number = reference(tenant, found.partner, found.entity.value, record)
    message, action = sentences(found.reason, found.params, number)
    return {
        "id": record,
        "partner": found.partner,
        "entity": found.entity.value,
        "reason": found.reason,
        "records": found.params["records"].split(", ") if "records" in found.params else [],
        "since": utc(found.since),
        "message": message,
        "next_action": action,
    }


def _rule(row: ConnectionRow) -> Json:
    matches = {entity.value: list(keys) for entity, keys in row.match_on.items()}
    return {"partner": row.connection.partner, "creates": [each.value for each in row.creates], "match_on": matches}


def _print(tenant: str, waiting: Sequence[WaitingRecord], rules: Sequence[ConnectionRow]) -> None:
    for rule in map(_rule, rules):
        keys = [f"{entity} on {', '.join(names)}" for entity, names in rule["match_on"].items()]
        told = f"{rule['partner']}: makes {', '.join(rule['creates']) or 'nobody'}"
        out().print(told + (f"; matches {'; '.join(keys)}" if keys else ""), soft_wrap=True, markup=False)
    if not waiting:
        out().print("Nobody waits: of every record it is known who it is.")
        return
    shown = [_json(tenant, each) for each in waiting]
    table = Table("id", "partner", "entity", "since", "reason", "may be ours")
    for each in shown:
        records = "\n".join(each["records"])
        table.add_row(each["id"], each["partner"], each["entity"], local(each["since"]), each["reason"], records)
    out().print(table)
    for action in dict.fromkeys(each["next_action"] for each in shown):
        out().print(action, soft_wrap=True, markup=False)
    here = f"Or here: zest identities {tenant} --settle ID, with --same (as before), --new or --link RECORD"
    out().print(here, soft_wrap=True, markup=False)
