"""The check that no open transaction keeps edits from being read, and the sensor that has it answered.

It concerns all of a partner's tenants at once, so it has no partition. The sensor looks every minute, by one question
to the database, and requests a run only where the answer is not what is recorded: one when edits are held back, one
when they are no more.
"""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from dagster import (
    AssetCheckEvaluation,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetKey,
    AssetSelection,
    DefaultSensorStatus,
    MetadataValue,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    define_asset_job,
    in_process_executor,
    multi_asset_check,
    sensor,
)

from partners.contract import Partner
from resources.configurable import PostgresResource
from zest_pipelines.orchestration import checks
from zest_pipelines.orchestration.answers import Answers
from zest_pipelines.orchestration.checks import CheckName, counted, evaluation, spoken
from zest_pipelines.orchestration.failures import failure, fault_of
from zest_pipelines.orchestration.metadata import Metadata
from zest_pipelines.orchestration.opened import NOT_ANSWERED, asked
from zest_pipelines.orchestration.partitions import UNFINISHED
from zest_pipelines.orchestration.specs import visit_changes
from zest_pipelines.orchestration.steps import BACKGROUND_TAGS
from zest_pipelines.store.stall import Stall, stall

if TYPE_CHECKING:  # the type of what define_asset_job returns has no public name
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

PATIENCE = timedelta(seconds=60)
"""So long edits may be held back: our own logins' transactions are ended by then."""
_LOOKS_EVERY_SECONDS = 60


def held_back_check(partner: Partner) -> AssetChecksDefinition:
    """The check, which a person can execute too."""

    @multi_asset_check(
        name=f"{partner.name}_look_for_open_transactions",
        description="Asks the database which transaction keeps edits from being read, if any does.",
        specs=checks.specs(visit_changes(partner), [CheckName.NOTHING_HELD_BACK], None),
    )
    def look(postgres: PostgresResource) -> Iterator[AssetCheckResult]:
        try:
            found = _stall(partner, postgres)
        except NOT_ANSWERED as error:
            raise failure([("all tenants", fault_of(error))]) from None
        answer = nothing_held_back(visit_changes(partner), found)
        yield AssetCheckResult(
            asset_key=answer.asset_key,
            check_name=answer.check_name,
            passed=answer.passed,
            severity=answer.severity,
            description=answer.description,
            metadata=answer.metadata,
        )

    return look


def held_back_job(partner: Partner) -> "UnresolvedAssetJobDefinition":
    """`<partner>_held_back`: that check alone."""
    return define_asset_job(
        f"{partner.name}_held_back",
        selection=AssetSelection.checks(held_back_check(partner)),
        description=f"Answers the check `{CheckName.NOTHING_HELD_BACK.value}`: who keeps edits from being read.",
        tags=BACKGROUND_TAGS | {"zest/partner": partner.name},
        executor_def=in_process_executor,
    )


def held_back_sensor(partner: Partner) -> SensorDefinition:
    """Looks every minute, running by default."""
    job = f"{partner.name}_held_back"

    @sensor(
        name=f"{partner.name}_edits_held_back",
        description=f"Every minute: whether an open transaction keeps edits from being read. Requests {job} where that "
        "began or ended.",
        job_name=job,
        minimum_interval_seconds=_LOOKS_EVERY_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def evaluate(context: SensorEvaluationContext, postgres: PostgresResource) -> RunRequest | SkipReason:
        try:
            answer = nothing_held_back(visit_changes(partner), _stall(partner, postgres))
        except NOT_ANSWERED as error:
            return SkipReason(f"{str(error).removesuffix('.')}. The next look asks again.")
        if not Answers(context.instance, None).is_news(answer):
            return SkipReason(answer.description)
        if context.instance.get_runs(RunsFilter(job_name=job, statuses=UNFINISHED), limit=1):
            return SkipReason("A run is about to say so.")
        return RunRequest()

    return evaluate


def nothing_held_back(asset: AssetKey, found: Stall | None) -> AssetCheckEvaluation:
    """Whether all that was edited can be read; `found`: what is in the way."""
    name = CheckName.NOTHING_HELD_BACK
    if found is None:
        return evaluation(asset, None, name, None, "No edit is held back.", {})
    if found.pid is None:
        who = f'a prepared transaction in the database "{found.database}"'
    else:
        who = f'a transaction of "{found.application}" in the database "{found.database}" (process {found.pid})'
    words = (
        f"Edits of {counted(found.tenants, 'tenant')} are not read, the oldest for {spoken(found.age)}: {who} has been "
        "open at least as long. Have it ended; docs/runbook.md says how. Nothing is lost: the edits are read by "
        "themselves afterwards."
    )
    metadata: Metadata = {
        "database": MetadataValue.text(found.database),
        "application_name": MetadataValue.text(found.application),
        "age_seconds": MetadataValue.float(found.age.total_seconds()),
        "tenants": MetadataValue.int(found.tenants),
    }
    return evaluation(asset, None, name, AssetCheckSeverity.ERROR, words, metadata)


def _stall(partner: Partner, postgres: PostgresResource) -> Stall | None:
    return asked(postgres, lambda tx: stall(tx, partner.name, PATIENCE))
