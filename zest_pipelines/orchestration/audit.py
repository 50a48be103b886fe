"""The check that what is derived from history is what history says, and the job of the night that answers it for all.

A person may execute it for one tenant by day; it reads all of the tenant's history.
"""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from collections import Counter
from collections.abc import Iterator, Sequence

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetKey,
    DefaultScheduleStatus,
    JobDefinition,
    MetadataValue,
    OpExecutionContext,
    ScheduleDefinition,
    in_process_executor,
    job,
    multi_asset_check,
    op,
)

from partners.contract import Partner
from resources.configurable import HttpResource, PostgresResource, VaultResource
from zest_pipelines.flows.audit import audit
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration import checks
from zest_pipelines.orchestration.answers import Answers
from zest_pipelines.orchestration.checks import CheckName, counted, evaluation
from zest_pipelines.orchestration.failures import Fault, failure, faults_of
from zest_pipelines.orchestration.metadata import Metadata
from zest_pipelines.orchestration.opened import connected_tenants, opened_services
from zest_pipelines.orchestration.partitions import tenant_partitions
from zest_pipelines.orchestration.specs import pushed_visits
from zest_pipelines.orchestration.steps import BACKGROUND_TAGS
from zest_pipelines.store.projection import Difference


def audit_check(partner: Partner) -> AssetChecksDefinition:
    """The check, which a person can execute for one tenant."""

    @multi_asset_check(
        name=f"{partner.name}_hold_against_history",
        description="Makes the derived tables of a tenant anew out of its history, and compares.",
        specs=checks.specs(pushed_visits(partner), [CheckName.PROJECTION_AGREES], tenant_partitions(partner)),
        can_subset=True,  # its answers are logged, one a tenant
    )
    def hold_against_history(
        context: AssetCheckExecutionContext, postgres: PostgresResource, http: HttpResource, vault: VaultResource
    ) -> Iterator[AssetCheckResult]:
        with opened_services(postgres, http, vault) as services:
            told, faults = _answers(services, partner, context.partition_keys)
        checks.log(context.op_execution_context, told)
        if faults:
            raise failure(faults)
        yield from ()

    return hold_against_history


def audit_job(partner: Partner) -> JobDefinition:
    """`<partner>_audit`: one run for all tenants, which says only what is not recorded already."""

    @op(
        name=f"{partner.name}_hold_all_against_history",
        description=f"Answers `{CheckName.PROJECTION_AGREES.value}` of each tenant; only what is not recorded already.",
    )
    def hold_all_against_history(
        context: OpExecutionContext, postgres: PostgresResource, http: HttpResource, vault: VaultResource
    ) -> None:
        with opened_services(postgres, http, vault) as services:
            tenants = connected_tenants(services, partner)
            told, faults = _answers(services, partner, tenants)
        answers = Answers(context.instance, None)
        news = [each for each in told if answers.is_news(each)]
        checks.log(context, news)
        differing = [str(each.partition) for each in told if not each.passed]
        context.add_output_metadata({"tenants": len(tenants), "differing": len(differing), "answers": len(news)})
        if faults:
            raise failure(faults)

    @job(
        name=f"{partner.name}_audit",
        description=f"Once a night: what waits for {partner.title} and what it has, held against history tenant by "
        f"tenant. The check `{CheckName.PROJECTION_AGREES.value}` of `pushed_visits` says what differs.",
        executor_def=in_process_executor,
        tags=BACKGROUND_TAGS | {"zest/partner": partner.name},
    )
    def auditing() -> None:
        hold_all_against_history()

    return auditing


def audit_schedule(partner: Partner) -> ScheduleDefinition:
    """Every day at half past four in Japan, when offices are closed."""
    return ScheduleDefinition(
        name=f"{partner.name}_audit_every_night",
        description=f"Requests {partner.name}_audit when offices are closed.",
        job_name=f"{partner.name}_audit",
        cron_schedule="30 4 * * *",
        execution_timezone="Asia/Tokyo",
        default_status=DefaultScheduleStatus.RUNNING,
    )


def projection_agrees(asset: AssetKey, tenant: str, found: Sequence[Difference]) -> AssetCheckEvaluation:
    """Whether the derived tables are what history says."""
    name = CheckName.PROJECTION_AGREES
    metadata: Metadata = {"differences": MetadataValue.int(len(found))}
    if not found:
        return evaluation(asset, tenant, name, None, "What waits and what was settled is what history says.", metadata)
    counts = Counter((each.table, each.partner, each.entity.value) for each in found)
    where = ", ".join(
        f"{counted(count, entity)} at {partner} in sync.{table}"
        for (table, partner, entity), count in sorted(counts.items())
    )
    parts = ", ".join(sorted({part for each in found for part in each.parts}))
    words = (
        f"Not what history says: {where} ({parts}). No edit is lost: history has all of them; but these may be sent "
        "late, or once more than needed. Tell us with the run's id; docs/runbook.md says how to look and what to do."
    )
    return evaluation(asset, tenant, name, AssetCheckSeverity.ERROR, words, metadata)


def _answers(
    services: Services, partner: Partner, tenants: Sequence[str]
) -> tuple[list[AssetCheckEvaluation], list[tuple[str, Fault]]]:
    """Each tenant's answer, and the faults of those who got none."""
    told: list[AssetCheckEvaluation] = []

    def answer(tenant: str) -> None:
        told.append(projection_agrees(pushed_visits(partner), tenant, audit(services, partner, tenant)))

    return told, faults_of(tenants, answer)
