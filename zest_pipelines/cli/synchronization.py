"""`zest sync`: one connection, in and out, now, as runs of the same Dagster jobs that the schedules request.

The runs are executed here, so they need no daemon, and recorded in the instance, so the UI shows them. Against a push
that is under way elsewhere the lease decides, as everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from zest_pipelines.core.identifiers import check_tenant_id

if TYPE_CHECKING:
    from dagster import DagsterInstance, ExecuteInProcessResult

    from partners.contract import Partner
    from zest_pipelines.cli.session import Session

_MOST_PUSHES = 100
"""Time boxes; what is left then is the schedule's."""


class SyncFailedError(Exception):
    """A run could not do its work; the message says why and what to do."""


@dataclass(frozen=True)
class FailedCheck:
    """A check that a run of the sync answered with no."""

    asset: str
    name: str
    description: str


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
        results = run_jobs(session, declared, tenant)
        status = connection_status(session, tenant, declared.name)
    failed = [check for result in results for check in failed_checks(result)]
    if json_:
        checks = [vars(check) for check in failed]
        print_json({"runs": [result.run_id for result in results], "failed_checks": checks, "connection": status})
    else:
        print_connections([status])
        for check in failed:
            tell(f"{check.asset}, {check.name}: {check.description}")
    if broken := [reason for result in results for reason in failures(result)]:
        raise SyncFailedError("\n".join(dict.fromkeys(broken)))
    if failed or status["out"]["parked"]:
        raise typer.Exit(1)


def run_jobs(session: Session, partner: Partner, tenant: str) -> list[ExecuteInProcessResult]:
    """The way in once, the way out until all that is due was tried."""
    from zest_pipelines.definitions import definitions
    from zest_pipelines.jobs import CONNECTION, Direction, job_name
    from zest_pipelines.partitions import sync_tenants
    from zest_pipelines.store import due

    with session.transaction(Login.SCHEDULE, None) as tx:
        connected = due.tenants(tx, partner.name)

    def run(direction: Direction) -> ExecuteInProcessResult:
        return definitions.resolve_job_def(job_name(partner, direction)).execute_in_process(
            instance=instance,
            partition_key=tenant,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},  # the sync tells it itself
            tags={CONNECTION: f"{tenant}:{partner.name}:{direction}", "zest/lane": "interactive"},
        )

    with _instance(session) as instance:
        sync_tenants(instance, partner, connected)
        results = [run(Direction.IN)]
        for _ in range(_MOST_PUSHES):
            results.append(run(Direction.OUT))
            if "time_box_ended" not in _stops(results[-1]):
                break
    return results


def failed_checks(result: ExecuteInProcessResult) -> Iterator[FailedCheck]:
    """The checks of a run that did not pass."""
    for check in result.get_asset_check_evaluations():
        if not check.passed:
            yield FailedCheck(check.asset_key.to_user_string(), check.check_name, check.description or "")


def failures(result: ExecuteInProcessResult) -> Iterator[str]:
    """Why a run's steps failed; for what is no Failure of ours, where to look."""
    if result.success:
        return
    told = False
    for event in result.get_step_failure_events():
        ours = event.step_failure_data.user_failure_data
        if ours is not None and ours.description:
            told = True
            yield ours.description
    if not told:
        yield f"The run {result.run_id} broke off: start `zest up` and look at it in the UI, or report this id"


def _stops(result: ExecuteInProcessResult) -> set[object]:
    """Why the run's stations stopped, by the catalogue's codes."""
    made = [event.materialization for event in result.get_asset_materialization_events()]
    return {each.metadata["reason"].value for each in made if "reason" in each.metadata}


@contextmanager
def _instance(session: Session) -> Iterator[DagsterInstance]:
    """The installation's instance: Dagster finds it by the environment alone."""
    from dagster import DagsterInstance

    from zest_pipelines.local import dagster_home

    env = dagster_home.environment(session.data_dir, session.logins)
    dagster_home.link_config(session.data_dir)
    os.environ.update(env)
    with DagsterInstance.get() as instance:
        yield instance
