"""`zest sync`: one connection, in and out, now, as runs of the same Dagster jobs that the schedules request.

The runs are executed here, so they need no daemon, and recorded in the instance, so the UI shows them. Against a push
that is under way elsewhere the lease decides, as everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from resources.logins import Login
from zest_pipelines.cli.options import (
    DataDirOption,
    JsonOption,
    PartnerArgument,
    TenantArgument,
    chosen_data_dir,
    print_json,
    tell,
)
from zest_pipelines.cli.runs import SILENT, Ended, RunFailedError, ended, open_instance, shown_definitions
from zest_pipelines.core.identifiers import check_tenant_id

if TYPE_CHECKING:
    from partners.contract import Partner
    from zest_pipelines.cli.session import Session
    from zest_pipelines.orchestration.demands import Direction

_MOST_PUSHES = 100
"""Time boxes; what is left then is the schedule's."""
_OTHERS_AT_IT = frozenset({"push_under_way", "reading_under_way"})
_OTHERS_TAKE_SECONDS = 120
"""How long another run may be at the same work before ours says so and ends."""


def sync(
    tenant: TenantArgument, partner: PartnerArgument, data_dir: DataDirOption = None, json_: JsonOption = False
) -> None:
    """Read, apply and push one connection once, now; ends when what is due has been tried.

    What only warns, and goes on by itself, is told and leaves the exit code at 0.
    """
    from partners.registry import partner as partner_named
    from zest_pipelines.cli.records import connection_status, print_connections
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import tenants

    check_tenant_id(tenant)
    declared = partner_named(partner)
    with open_session(chosen_data_dir(data_dir)) as session:
        with session.transaction(Login.OPERATOR, tenant) as tx:
            tenants.connection(tx, tenant, declared.name)
        runs = run_jobs(session, declared, tenant)
        status = connection_status(session, tenant, declared.name)
    failed = [check for run in runs for check in run.failed_checks]
    if json_:
        checks = [vars(check) for check in failed]
        print_json({"runs": [run.run_id for run in runs], "failed_checks": checks, "connection": status})
    else:
        print_connections([status])
    if reasons := dict.fromkeys(reason for run in runs for reason in run.failures):
        raise RunFailedError("\n".join(reasons))
    for check in failed:
        tell(f"{check.asset}, {check.name}: {check.description}")
    if any(check.is_error for check in failed) or status["out"]["parked"]:
        raise typer.Exit(1)


def run_jobs(session: Session, partner: Partner, tenant: str) -> list[Ended]:
    """The way in once, the way out, if there is one, until all that is due was tried. Raises StoreError, InputError."""
    from zest_pipelines.orchestration.demands import Direction
    from zest_pipelines.orchestration.jobs import CONNECTION, job_name
    from zest_pipelines.orchestration.steps import LANE

    def run(direction: Direction) -> Ended:
        result = defined.resolve_job_def(job_name(partner, direction)).execute_in_process(
            instance=instance,
            partition_key=tenant,
            raise_on_error=False,
            run_config=SILENT,
            tags={CONNECTION: f"{tenant}:{partner.name}:{direction}", LANE: "interactive"},
        )
        return ended(instance, result)

    defined = shown_definitions(partner)
    with open_instance(session, partner) as instance:
        runs = [_undisturbed(run, Direction.IN)]
        if partner.writes:
            runs.append(_undisturbed(run, Direction.OUT))
        while "time_box_ended" in runs[-1].stops and len(runs) < _MOST_PUSHES:
            runs.append(_undisturbed(run, Direction.OUT))
    return runs


def _undisturbed(run: Callable[[Direction], Ended], direction: Direction) -> Ended:
    """The run, begun again while another one is at the same work, such as the minute's own."""
    give_up = time.monotonic() + _OTHERS_TAKE_SECONDS
    while True:
        over = run(direction)
        if not over.stops & _OTHERS_AT_IT or time.monotonic() > give_up:
            return over
        time.sleep(2)
