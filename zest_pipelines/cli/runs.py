"""Dagster runs that a command executes itself: no daemon is needed for them, and the UI shows them as it does all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zest_pipelines.cli.options import InputError

if TYPE_CHECKING:
    from dagster import DagsterEvent, DagsterEventType, DagsterInstance, Definitions, ExecuteInProcessResult

    from partners.contract import Partner
    from zest_pipelines.cli.session import Session

SILENT: Mapping[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run config: the command tells what came of it."""


class RunFailedError(Exception):
    """A run could not do its work; the message says why and what to do."""


@dataclass(frozen=True)
class FailedCheck:
    """A check that a run answered with no."""

    asset: str
    name: str
    description: str
    severity: str
    """ERROR if a person has to act, else WARN."""

    @property
    def is_error(self) -> bool:
        """Whether a person has to act."""
        return self.severity == "ERROR"


@dataclass(frozen=True)
class Ended:
    """A run that is over."""

    run_id: str
    failures: tuple[str, ...]
    """Why it failed; empty if it did not, or because of nothing but a check, which says so itself."""
    failed_checks: tuple[FailedCheck, ...]
    metadata: tuple[Mapping[str, Any], ...]
    """What it told with each materialization, as plain values."""
    stops: frozenset[str]
    """Reasons for which its stations stopped early, or did not begin."""


def shown_definitions(partner: Partner) -> Definitions:
    """All that Dagster runs here. Raises InputError where the environment hides the partner or cannot be meant."""
    from zest_pipelines.orchestration.purge import KeepDaysError

    try:
        from zest_pipelines.definitions import SHOWN, definitions
    except KeepDaysError as error:
        raise InputError(str(error)) from None
    if partner not in SHOWN:
        raise InputError(f"ZEST_PARTNERS hides {partner.name} here: add it to that list, or unset it to show all")
    return definitions


@contextmanager
def open_instance(session: Session, partner: Partner) -> Iterator[DagsterInstance]:
    """The installation's instance, which Dagster finds by the environment alone, with the partner's tenants as keys.

    Raises StoreError, DagsterHomeError.
    """
    from resources.logins import Login
    from zest_pipelines.orchestration.partitions import add_tenants
    from zest_pipelines.store import due

    with session.transaction(Login.SCHEDULE, None) as tx:
        connected = due.tenants(tx, partner.name)
    with instance_of(session) as instance:
        add_tenants(instance, partner, connected)
        yield instance


def instance_of(session: Session) -> DagsterInstance:
    """The installation's instance; it is a context. Raises DagsterHomeError."""
    from dagster import DagsterInstance

    from zest_pipelines.local import dagster_home

    dagster_home.link_config(session.data_dir)
    os.environ.update(dagster_home.environment(session.data_dir, session.logins))
    return DagsterInstance.get()


def ended(instance: DagsterInstance, result: ExecuteInProcessResult) -> Ended:
    """Read from the instance: what a station logs itself is not among the result's events."""
    from dagster import DagsterEventType

    def logged(kind: DagsterEventType) -> list[DagsterEvent]:
        return [each.get_dagster_event() for each in instance.all_logs(result.run_id, of_type=kind)]

    checks = [each.asset_check_evaluation_data for each in logged(DagsterEventType.ASSET_CHECK_EVALUATION)]
    made = [each.step_materialization_data.materialization for each in logged(DagsterEventType.ASSET_MATERIALIZATION)]
    told = [*(each.metadata for each in made), *(each.metadata for each in checks)]
    return Ended(
        result.run_id,
        () if result.success else tuple(_failures(result)),
        tuple(
            FailedCheck(
                check.asset_key.to_user_string(), check.check_name, check.description or "", check.severity.value
            )
            for check in checks
            if not check.passed
        ),
        tuple({name: told.value for name, told in each.metadata.items()} for each in made),
        frozenset(str(each["reason"].value) for each in told if "reason" in each),
    )


def _failures(result: ExecuteInProcessResult) -> list[str]:
    """What the run's steps say; where to look, for an error that is none of ours. Empty if checks alone stopped it."""
    from dagster._core.errors import DagsterAssetCheckFailedError  # nothing public names it

    failed = [event.step_failure_data for event in result.get_step_failure_events()]
    kinds = {each.error.cls_name for each in failed if each.error}
    if kinds == {DagsterAssetCheckFailedError.__name__}:
        return []
    told = [each.user_failure_data.description for each in failed if each.user_failure_data]
    return [sentence for sentence in told if sentence] or [
        f"The run {result.run_id} broke off: look at it in the UI (`zest up`), or report this id"
    ]
