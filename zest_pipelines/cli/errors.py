"""`zest errors`: what nobody has explained yet, and an operator's word on which reason it is."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from partners.reasons import Language, Reason, ReasonScope, UnknownReason, all_reasons, explain, reason
from resources.logins import Login
from zest_pipelines.cli.options import (
    DataDirOption,
    InputError,
    JsonOption,
    YesOption,
    chosen_data_dir,
    counted,
    out,
    print_json,
    says_yes,
    tell,
)
from zest_pipelines.cli.words import Json, local, utc
from zest_pipelines.core.alarm import detail_of
from zest_pipelines.core.classification import UNKNOWN, goes_on, objection
from zest_pipelines.core.outcome import PendingState

if TYPE_CHECKING:
    from partners.contract import CodeRow
    from zest_pipelines.cli.session import Session
    from zest_pipelines.store.classifications import Seen
    from zest_pipelines.store.requests import StoppedGroup

FingerprintArgument = Annotated[
    str,
    typer.Argument(metavar="FINGERPRINT", help="As zest errors list and alerts show it.", show_default=False),
]
_SCOPES = {
    ReasonScope.ENTITY: "where it is met, the other records of that kind wait with it for the next push.",
    ReasonScope.CONNECTION: "where it is met, nothing else is sent over that tenant's connection until it is cured, "
    "but for a try every few minutes. To take it back: zest errors unclassify.",
}
"""What a reason stops beside the record that met it."""
NoteOption = Annotated[str, typer.Option("--note", help="Why; kept, so nothing about a patient.")]


def listed(data_dir: DataDirOption = None, json_: JsonOption = False) -> None:
    """Every unknown error that was seen, over all tenants, and which reason it is by an operator's word."""
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import classify as classifying

    with open_session(chosen_data_dir(data_dir)) as session:
        found = classifying.unknown_errors(session.services())
    if json_:
        print_json({"errors": [_seen(each) for each in found]})
        return
    if not found:
        out().print("Every error that was seen is known.")
        return
    table = Table("fingerprint", "partner", "detail", "times", "tenants", "first", "last", "is", "said by")
    for each in found:
        said = "" if each.word is None else f"{each.word.said_by}, {local(utc(each.word.said_at) or '')}"
        moments = (local(utc(each.first_at) or ""), local(utc(each.last_at) or ""))
        numbers = (f"{each.occurrences:,}", f"{len(each.tenants):,}")
        cells = (each.fingerprint, each.partner, detail_of(each.params), *numbers, *moments, each.code or "", said)
        table.add_row(*map(escape, cells))
    out().print(table)


def classify(
    fingerprint: FingerprintArgument,
    code: Annotated[str, typer.Argument(metavar="CODE", help="The reason that it is.", show_default=False)],
    note: NoteOption = "",
    yes: YesOption = False,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Say which reason an unknown error is: of what came and of what comes, in all tenants.

    Shows first what that does, and asks. What stands parked under it and is tried again by ourselves from now on is
    tried again.
    """
    from partners.code_tables import meant
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import classify as classifying

    with open_session(chosen_data_dir(data_dir)) as session:
        services = session.services()
        seen = _found(session, classifying.unknown_errors(services), fingerprint)
        given = _reason(code, meant(seen.partner))
        if why := objection(given, seen.params, meant(seen.partner), seen.partner):
            raise InputError(f"{why}. {_others(code, meant(seen.partner))}")
        waiting = classifying.stopped(services, seen)
        if not json_:
            _print_meaning(seen, given)
            _print_waiting(waiting, given)
        is_meant = says_yes(f"Is {fingerprint} {given.code}?", yes=yes, as_json=json_)
        done = classifying.classify(services, seen, given.code, note).requests if is_meant else {}
    made = {tenant: str(request) for tenant, request in done.items()}
    if json_:
        stopped = {tenant: [vars(each) for each in groups] for tenant, groups in waiting.items()}
        told = {"fingerprint": fingerprint, "code": given.code, "stopped": stopped}
        print_json(told | {"requests": made, "classified": is_meant})
    if json_ or not is_meant:
        return
    tell(f"{fingerprint} is {given.code} from now on")
    if _row(seen, given) is not None:
        tell(f"For the code to know it too: zest errors export {fingerprint}")
    for tenant, request in made.items():
        tell(f"Tried again at the next minute: zest request {tenant} {request}")


def unclassify(
    fingerprint: FingerprintArgument,
    note: NoteOption = "",
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Take the word on an unknown error back: it is unknown again, parks its records and raises alerts.

    What was tried again by that word goes on; what parks from now on waits for a person.
    """
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import classify as classifying

    with open_session(chosen_data_dir(data_dir)) as session:
        services = session.services()
        seen = _found(session, classifying.unknown_errors(services), fingerprint)
        if seen.code is None:
            raise InputError(f"Nobody has said what {fingerprint} is: there is nothing to take back")
        classifying.classify(services, seen, None, note)
        left = classifying.stopped(services, seen)
    if json_:
        print_json({"fingerprint": fingerprint, "code": None, "was": seen.code})
    tell(f"{fingerprint} was {seen.code} and is unknown again. Connections that it held go on at the next minute")
    for tenant, groups in left.items():
        if records := sum(each.records for each in groups if each.state is not PendingState.RETRY):
            again = f"zest release {tenant} {seen.partner} --because {UNKNOWN}"
            tell(f"{tenant}: {counted(records, 'record')} still stopped for it. Tried again by: {again}")


def export(
    fingerprint: Annotated[
        str | None, typer.Argument(metavar="FINGERPRINT", help="This one alone.", show_default=False)
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Print a patch by which the code knows what was classified: zest errors export > it.patch; git apply it.patch."""
    from partners.code_tables import patch
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows import classify as classifying

    with open_session(chosen_data_dir(data_dir)) as session:
        seen = classifying.unknown_errors(session.services())
        wanted = seen if fingerprint is None else (_found(session, seen, fingerprint),)
    rows = []
    for each in wanted:
        given = None if each.code is None else next((one for one in all_reasons() if one.code == each.code), None)
        if given is None:
            if fingerprint is not None:
                raise InputError(
                    f"Nobody has said what {fingerprint} is. Next: zest errors classify {fingerprint} CODE"
                )
            continue
        row = _row(each, given)
        if row is not None:
            rows.append(row)
            continue
        why = (
            f"{each.fingerprint} ({each.partner}, {detail_of(each.params)}) needs no row, or can have none: the "
            f"partner's table says by now what it is, or has no place for {each.code}. What was classified goes on to "
            "hold here; nothing to do"
        )
        if fingerprint is not None:
            raise InputError(why)
        tell(why)
    if not rows:
        tell("Nothing is classified that the code could learn. Next: zest errors list")
    sys.stdout.write(patch(rows))


def _row(each: Seen, given: Reason) -> CodeRow | None:
    """The row by which the partner's folder would know it; None: it does, or has no place for it."""
    from partners.registry import PARTNERS

    declared = PARTNERS.get(each.partner)
    return None if declared is None or declared.code_row is None else declared.code_row(detail_of(each.params), given)


def _found(session: Session, seen: Sequence[Seen], fingerprint: str) -> Seen:
    """The unknown error of that fingerprint. InputError: there is none, or it is of a known reason."""
    from zest_pipelines.store import alerts

    fingerprint = fingerprint.strip().lower()
    for each in seen:
        if each.fingerprint == fingerprint:
            return each
    with session.transaction(Login.OPERATOR, None) as tx:
        known = alerts.reason_of(tx, fingerprint)
    if known is not None:
        raise InputError(f"{fingerprint} is {known}, which is known: only what is unknown can be classified")
    raise InputError(f"No unknown error {fingerprint!r} was seen: zest errors list shows those that were")


def _reason(code: str, meant: frozenset[str]) -> Reason:
    try:
        return reason(code)
    except UnknownReason:
        raise InputError(f"There is no reason {code!r}. {_others(code, meant)}") from None


def _others(code: str, meant: frozenset[str]) -> str:
    near = get_close_matches(code, sorted(meant - {code}), n=3, cutoff=0.5)
    return f"Near it: {', '.join(near)}" if near else "docs/errors.md has all of them"


def _print_meaning(seen: Seen, given: Reason) -> None:
    times = f"{counted(seen.occurrences, 'time')} in {counted(len(seen.tenants), 'tenant')}"
    was = f", until now {seen.code}" if seen.code else ""
    lines = [
        f"{seen.fingerprint}: {seen.partner}, {detail_of(seen.params)}, seen {times}{was}",
        f"{given.code}: whose turn: {given.owner}, {given.severity}, tried again: {given.retry}",
    ]
    if given.scope is not ReasonScope.RECORD:
        lines.append(f"Mind: {_SCOPES[given.scope]}")
    lines += [" ".join(explain(given.code, {**seen.params, "reference": "-"}, language)) for language in Language]
    for line in lines:
        out().print(line, markup=False, soft_wrap=True)


def _print_waiting(waiting: Mapping[str, Sequence[StoppedGroup]], given: Reason) -> None:
    if not waiting:
        out().print("Nothing is stopped for it now.")
        return
    title = "Stopped for it, to be tried again" if goes_on(given) else "Stopped for it, and stays so"
    table = Table("tenant", "record", "state", "records", title=title, title_justify="left")
    for tenant, groups in waiting.items():
        for each in groups:
            table.add_row(tenant, each.entity, each.state, f"{each.records:,}")
    out().print(table)


def _seen(each: Seen) -> Json:
    word = None if each.word is None else vars(each.word) | {"said_at": utc(each.word.said_at)}
    moments = {"first_at": utc(each.first_at), "last_at": utc(each.last_at)}
    return vars(each) | moments | {"tenants": list(each.tenants), "word": word}
