"""The watch: every ten minutes one run looks at every tenant of a partner, and answers the checks of what is too old.

It says only what is not recorded already, so a night in which all is well adds a run a look and nothing else.
"""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from collections.abc import Iterator

from dagster import (
    AssetCheckEvaluation,
    DefaultScheduleStatus,
    JobDefinition,
    OpExecutionContext,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from partners.contract import Entity, Partner
from resources.configurable import HttpResource, PostgresResource, VaultResource
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.watch import Watched, watch
from zest_pipelines.orchestration import checks
from zest_pipelines.orchestration.answers import Answers
from zest_pipelines.orchestration.failures import failure, fault_of
from zest_pipelines.orchestration.opened import opened_services
from zest_pipelines.orchestration.specs import landed, pushed_visits
from zest_pipelines.orchestration.steps import BACKGROUND_TAGS
from zest_pipelines.store.errors import StoreError


def watch_job(partner: Partner) -> JobDefinition:
    """`<partner>_watch`: one run for all tenants."""

    @op(
        name=f"{partner.name}_look_at_the_clock",
        description="Answers the checks `fresh` and `oldest_pending_age` of each tenant where the answer is a new one.",
    )
    def look(context: OpExecutionContext, postgres: PostgresResource, http: HttpResource, vault: VaultResource) -> None:
        with opened_services(postgres, http, vault) as services:
            try:
                watched = tuple(watch(services, partner))
            except StoreError as error:
                raise failure([("all tenants", fault_of(error))]) from None
            answers = Answers(context.instance, [each.tenant for each in watched])
            told = [
                answer for each in watched for answer in _answers(services, partner, each) if answers.is_news(answer)
            ]
        for answer in told:
            context.log_event(answer)  # type: ignore[arg-type]  # it takes checks too, though its type does not say so
        context.add_output_metadata({"tenants": len(watched), "answers": len(told)})

    @job(
        name=f"{partner.name}_watch",
        description=f"Looks at what no run of {partner.title} would notice: a tenant that was not read for too long, "
        "an edit that nobody has tried to push. Red checks of `landed_*` and `pushed_visits` come from here too, and "
        "say what to do. Paused connections are left alone.",
        executor_def=in_process_executor,
        tags=BACKGROUND_TAGS | {"zest/partner": partner.name},
    )
    def watching() -> None:
        look()

    return watching


def watch_schedule(partner: Partner) -> ScheduleDefinition:
    """Every ten minutes, three minutes after the full ones: away from the hour, when much begins."""
    return ScheduleDefinition(
        name=f"{partner.name}_watch_every_ten_minutes",
        description=f"Requests {partner.name}_watch: one run that looks at all tenants of {partner.title}.",
        job_name=f"{partner.name}_watch",
        cron_schedule="3-59/10 * * * *",
        execution_timezone="Asia/Tokyo",
        default_status=DefaultScheduleStatus.RUNNING,
    )


def _answers(services: Services, partner: Partner, watched: Watched) -> Iterator[AssetCheckEvaluation]:
    for each in watched.freshness:
        yield checks.fresh(landed(partner, Entity(each.entity)), watched.tenant, each)
    yield checks.oldest_pending_age(pushed_visits(partner), watched.tenant, watched.backlog, services.now())
