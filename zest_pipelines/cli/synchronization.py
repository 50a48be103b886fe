"""`zest sync`: one connection, in and out, now, as runs of the same Dagster jobs that the schedules request.

The runs are executed here, so they need no daemon, and recorded in the instance, so the UI shows them. Against a push
that is under way elsewhere the lease decides, as everywhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from partners.reasons import Language, explain
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
from zest_pipelines.core.identifiers import check_tenant_id

if TYPE_CHECKING:
    from dagster import DagsterInstance, ExecuteInProcessResult

    from partners.contract import Partner
    from zest_pipelines.cli.session import Session
    from zest_pipelines.orchestration.jobs import Direction

_MOST_PUSHES = 100
_OTHERS_TAKE_SECONDS = 120
"""How long another run may be at the same work before ours says so and ends."""
"""Time boxes; what is left then is the schedule's."""


class SyncFailedError(Exception):
    """A run could not do its work; the message says why and what to do."""


@dataclass(frozen=True)
class FailedCheck:
    """A check that a run answered with no."""

    asset: str
    name: str
    description: str


@dataclass(frozen=True)
class Ended:
    """A run that is over."""

    run_id: str
    failures: tuple[str, ...]
    """Why it failed; empty if it did not."""
    failed_checks: tuple[FailedCheck, ...]
    stops: frozenset[str]
    """Reasons for which its stations stopped early."""


def sync(
    tenant: TenantArgument, partner: PartnerArgument, data_dir: DataDirOption = None, json_: JsonOption = False
) -> None:
    """Read, apply and push one connection once, now; ends when what is due has been tried."""
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
        raise SyncFailedError("\n".join(reasons))
    for check in failed:
        tell(f"{check.asset}, {check.name}: {check.description}")
    if failed or status["out"]["parked"]:
        raise typer.Exit(1)


def run_jobs(session: Session, partner: Partner, tenant: str) -> list[Ended]:
    """The way in once, the way out until all that is due was tried. Raises StoreError."""
    from zest_pipelines.definitions import definitions
    from zest_pipelines.orchestration.jobs import CONNECTION, Direction, job_name
    from zest_pipelines.orchestration.partitions import sync_tenants
    from zest_pipelines.orchestration.steps import LANE
    from zest_pipelines.store import due

    def run(direction: Direction) -> Ended:
        result = definitions.resolve_job_def(job_name(partner, direction)).execute_in_process(
            instance=instance,
            partition_key=tenant,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},  # the sync tells it itself
            tags={CONNECTION: f"{tenant}:{partner.name}:{direction}", LANE: "interactive"},
        )
        return _ended(instance, result)

    with session.transaction(Login.SCHEDULE, None) as tx:
        connected = due.tenants(tx, partner.name)
    with _instance(session) as instance:
        sync_tenants(instance, partner, connected)
        runs = [_undisturbed(run, Direction.IN), _undisturbed(run, Direction.OUT)]
        while "time_box_ended" in runs[-1].stops and len(runs) < _MOST_PUSHES:
            runs.append(_undisturbed(run, Direction.OUT))
    return runs


def _undisturbed(run: Callable[[Direction], Ended], direction: Direction) -> Ended:
    """The run, begun again while another one is at the same work, such as the minute's own."""
    give_up = time.monotonic() + _OTHERS_TAKE_SECONDS
    while True:
        ended = run(direction)
        told = " ".join(ended.failures)
        is_disturbed = "push_under_way" in ended.stops or explain("reading_under_way", {}, Language.ENGLISH)[0] in told
        if not is_disturbed or time.monotonic() > give_up:
            return ended
        time.sleep(2)


def _ended(instance: DagsterInstance, result: ExecuteInProcessResult) -> Ended:
    """Read from the instance: what a station logs itself is not among the result's events."""
    from dagster import DagsterEvent, DagsterEventType

    def logged(kind: DagsterEventType) -> list[DagsterEvent]:
        return [each.get_dagster_event() for each in instance.all_logs(result.run_id, of_type=kind)]

    checks = [each.asset_check_evaluation_data for each in logged(DagsterEventType.ASSET_CHECK_EVALUATION)]
    made = [each.step_materialization_data.materialization for each in logged(DagsterEventType.ASSET_MATERIALIZATION)]
    return Ended(
        result.run_id,
        () if result.success else tuple(_failures(result)),
        tuple(
            FailedCheck(check.asset_key.to_user_string(), check.check_name, check.description or "")
            for check in checks
            if not check.passed
        ),
        frozenset(str(each.metadata["reason"].value) for each in made if "reason" in each.metadata),
    )


def _failures(result: ExecuteInProcessResult) -> list[str]:
    """What the run's steps say; where to look, for an error that is none of ours."""
    told = [event.step_failure_data.user_failure_data for event in result.get_step_failure_events()]
    return [ours.description for ours in told if ours and ours.description] or [
        f"The run {result.run_id} broke off: look at it in the UI (`zest up`), or report this id"
    ]


@contextmanager
def _instance(session: Session) -> Iterator[DagsterInstance]:
    """The installation's instance, which Dagster finds by the environment alone."""
    from dagster import DagsterInstance

    from zest_pipelines.local import dagster_home

    dagster_home.link_config(session.data_dir)
    os.environ.update(dagster_home.environment(session.data_dir, session.logins))
    with DagsterInstance.get() as instance:
        yield instance
