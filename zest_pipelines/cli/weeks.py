"""`zest push-week`: ask for one tenant's week; with --wait push it here, as the same asset run that the UI launches.

That run needs no daemon, and is recorded in the instance, so the UI shows it under its week.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.table import Table

from resources.logins import Login
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
    written_partner,
)
from zest_pipelines.cli.runs import SILENT, Ended, RunFailedError, ended, open_instance, shown_definitions
from zest_pipelines.cli.words import paused_words
from zest_pipelines.core.identifiers import check_tenant_id
from zest_pipelines.core.weeks import Days, DaysError, week_from, week_of

if TYPE_CHECKING:
    from partners.contract import Partner
    from zest_pipelines.cli.session import Session

_KINDS = ("visits", "visit_records")
_COUNTS = ("delivered", "unchanged", "waiting", "refused")


def push_week(
    tenant: TenantArgument,
    partner: PartnerArgument,
    monday: Annotated[
        str | None,
        typer.Argument(metavar="MONDAY", help="The week's first day: 2026-11-23. Default: this week, in Japan."),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Push it here, and wait until the partner has it or no more goes by itself."),
    ] = False,
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Push one week of a tenant's visits and their records now, before all else that is due.

    The running platform does so at its next minute; with --wait it is done here. Asking twice changes nothing at the
    partner.
    """
    from zest_pipelines.cli.progress import following
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import requests, tenants
    from zest_pipelines.store.keys import Target

    check_tenant_id(tenant)
    declared = written_partner(partner)
    week = checked_week(monday, declared)
    named = {"tenant": tenant, "partner": declared.name, "week": week.first.isoformat()}
    with open_session(chosen_data_dir(data_dir)) as session:
        with session.transaction(Login.OPERATOR, tenant) as tx:
            is_paused = tenants.connection(tx, tenant, declared.name).is_paused
            request = requests.push(tx, Target(tenant, declared.name), week).request_id
        if not wait:
            _tell_request(str(request), named, is_paused, json_)
            return
        settled = partial(_settled, session, tenant, request)
        with contextlib.nullcontext() if json_ else following(f"Week of {week.first}", settled):
            run = run_week(session, declared, tenant, week)
    _tell_run(run, named, json_)


def written_week(monday: str) -> Days:
    """The week that begins on `monday`. InputError if that is no Monday."""
    from zest_pipelines.orchestration.partitions import today_in_japan

    try:
        return week_from(date.fromisoformat(monday))
    except DaysError as error:
        raise InputError(str(error)) from None
    except ValueError:
        like = week_of(today_in_japan()).first
        raise InputError(f"{monday!r} is not a day: write a Monday such as {like}") from None


def checked_week(monday: str | None, partner: Partner) -> Days:
    """The week that begins on `monday`, this week without; InputError unless it is one that Dagster knows."""
    from zest_pipelines.orchestration.partitions import WEEK, today_in_japan, week_partitions

    today = today_in_japan()
    week = week_of(today) if monday is None else written_week(monday)
    known = week_partitions(partner, today).get_partitions_def_for_dimension(WEEK).get_partition_keys()
    if week.first.isoformat() not in known:
        raise InputError(
            f"The week of {week.first} is none of those from {known[0]} to {known[-1]}: choose "
            f"another, or launch the job {partner.name}_push_period, which takes any days"
        )
    return week


def run_week(session: Session, partner: Partner, tenant: str, week: Days) -> Ended:
    """Materialize the week. Raises StoreError, InputError."""
    from dagster import MultiPartitionKey

    from zest_pipelines.orchestration.partitions import TENANT, WEEK
    from zest_pipelines.orchestration.specs import pushed_weeks

    defined = shown_definitions(partner)
    with open_instance(session, partner) as instance:
        result = defined.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[pushed_weeks(partner)],
            partition_key=MultiPartitionKey({TENANT: tenant, WEEK: week.first.isoformat()}),
            raise_on_error=False,
            run_config=SILENT,
        )
        return ended(instance, result)


def _settled(session: Session, tenant: str, request: UUID) -> tuple[int, int]:
    """How many of its records do not go by themselves any more, and how many it has."""
    from zest_pipelines.store import requests

    with session.transaction(Login.OPERATOR, tenant) as tx:
        found = requests.status(tx, request)
    return found.total - found.waiting - found.retrying, found.total


def _tell_request(request: str, named: Mapping[str, str], is_paused: bool, as_json: bool) -> None:
    if as_json:
        print_json({**named, "request": request, "paused": is_paused})
    if is_paused:
        tell(f"It was asked for. {paused_words(named['tenant'], named['partner'])}")
    else:
        tell(
            "It was asked for: the platform sends it at the next minute, if it runs (`zest up`); --wait sends it here."
        )
    tell(f"Follow it: zest request {named['tenant']} {request}")


def _tell_run(run: Ended, named: Mapping[str, str], as_json: bool) -> None:
    """The counts, then what did not get through. Raises RunFailedError, typer.Exit."""
    told: Mapping[str, Any] = next(iter(run.metadata), {})
    counts = {kind: {count: told.get(f"{kind}_{count}", 0) for count in _COUNTS} for kind in _KINDS}
    if as_json:
        checks = [vars(check) for check in run.failed_checks]
        print_json({**named, "run": run.run_id, **counts, "failed_checks": checks})
    elif told:
        _print_counts(counts)
    if run.failures:
        raise RunFailedError("\n".join(run.failures))
    for check in run.failed_checks:
        tell(check.description)
    if run.failed_checks:
        raise typer.Exit(1)


def _print_counts(counts: Mapping[str, Mapping[str, int]]) -> None:
    table = Table("", *_COUNTS)
    for kind in _KINDS:
        table.add_row(kind.replace("_", " "), *(str(counts[kind][count]) for count in _COUNTS))
    out().print(table)
