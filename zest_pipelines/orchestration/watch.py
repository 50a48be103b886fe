"""The watch: every ten minutes one run looks at every tenant of a partner, and answers the checks that no run would.

What is too old shows only by the clock; what failed may have been cured by others than the run that said so.

It says only what is not recorded already, so a night in which all is well adds a run a look and nothing else.
"""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date

from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckSeverity,
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
from zest_pipelines.core.weeks import Days, week_from
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.watch import Watched, look, look_at_days
from zest_pipelines.orchestration import checks, inbound_checks, outbound_checks
from zest_pipelines.orchestration.answers import Answers
from zest_pipelines.orchestration.checks import CheckName
from zest_pipelines.orchestration.failures import failure, faults_of
from zest_pipelines.orchestration.opened import connected_tenants, opened_services
from zest_pipelines.orchestration.partitions import WEEK, remove_others, today_in_japan, week_partitions
from zest_pipelines.orchestration.specs import landed, pushed_visits, pushed_weeks
from zest_pipelines.orchestration.steps import BACKGROUND_TAGS
from zest_pipelines.orchestration.week_findings import week_settled


def watch_job(partner: Partner) -> JobDefinition:
    """`<partner>_watch`: one run for all tenants."""
    answered, missed, assets = _words(partner)

    @op(
        name=f"{partner.name}_look_at_the_clock",
        description=f"Answers {answered}; only what is not recorded already. Takes away partition keys that are no "
        "tenant's.",
    )
    def look_at_all(
        context: OpExecutionContext, postgres: PostgresResource, http: HttpResource, vault: VaultResource
    ) -> None:
        told: list[AssetCheckEvaluation] = []
        with opened_services(postgres, http, vault) as services:
            connected = connected_tenants(services, partner)
            remove_others(context.instance, partner, connected)
            answers = Answers(context.instance, None)
            weeks = _failed_weeks(answers, partner) if partner.writes else {}

            def answer(tenant: str) -> None:
                watched = look(services, partner, tenant)
                told.extend(filter(answers.is_news, _answers(services, partner, watched)))
                told.extend(filter(answers.is_news, _week_answers(services, partner, watched, weeks.get(tenant, ()))))

            faults = faults_of(connected, answer)
        checks.log(context, told)
        context.add_output_metadata({"tenants": len(connected), "answers": len(told)})
        if faults:
            raise failure(faults)

    @job(
        name=f"{partner.name}_watch",
        description=f"Looks at what no run of {partner.title} would notice: {missed}. Red and green checks of {assets} "
        "come from here too, and say what to do. A paused connection is not red.",
        executor_def=in_process_executor,
        tags=BACKGROUND_TAGS | {"zest/partner": partner.name},
    )
    def watching() -> None:
        look_at_all()

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


def _words(partner: Partner) -> tuple[str, str, str]:
    """What it answers, what no run would notice, and of which assets it tells."""
    late = "a tenant that was not read for too long, a certificate about to end"
    if not partner.writes:
        return "`fresh` and `certificate_lasts` of each tenant", late, "`landed_*`"
    return (
        "`fresh`, `certificate_lasts`, `oldest_pending_age`, `nothing_parked` and `not_stopped` of each tenant, and "
        "`week_settled` of the weeks where it failed",
        f"{late}, an edit that nobody has tried to push, a push or a week that failed and was cured since",
        "`landed_*`, `pushed_visits` and `pushed_weeks`",
    )


def _answers(services: Services, partner: Partner, watched: Watched) -> Iterator[AssetCheckEvaluation]:
    asset, tenant, backlog = pushed_visits(partner), watched.tenant, watched.backlog
    for each in watched.freshness:
        yield inbound_checks.fresh(landed(partner, Entity(each.entity)), tenant, each)
    if checks.shows_certificates(partner):
        first = landed(partner, partner.masters[0])
        yield inbound_checks.certificate_lasts(first, tenant, watched.certificate_until, services.now())
    if backlog is None:
        return
    yield outbound_checks.oldest_pending_age(asset, tenant, backlog, services.now())
    yield outbound_checks.nothing_parked(asset, tenant, replace(backlog, problems=watched.parked))
    if outbound_checks.shows_whether_stopped(backlog) and (backlog.stopped or not watched.is_moving):
        # Of what moves and is not held, a push is about to say how it goes.
        yield outbound_checks.not_stopped(asset, tenant, backlog)


def _failed_weeks(answers: Answers, partner: Partner) -> Mapping[str, Sequence[Days]]:
    """Of each tenant the weeks whose last answer failed: what they asked for may have gone by itself since."""
    grid = week_partitions(partner, today_in_japan()).get_partitions_def_for_dimension(WEEK).get_partition_keys()
    found = defaultdict[str, list[Days]](list)
    for key in answers.failed(AssetCheckKey(pushed_weeks(partner), CheckName.WEEK_SETTLED.value)):
        tenant, _, monday = (key or "").partition("|")
        if monday in grid:
            found[tenant].append(week_from(date.fromisoformat(monday)))
    return found


def _week_answers(
    services: Services, partner: Partner, watched: Watched, weeks: Sequence[Days]
) -> Iterator[AssetCheckEvaluation]:
    """How the tenant's weeks stand by now, where that is settled or surely needs a person.

    Not that the rest goes by itself: what stopped a week may have left no trace in the tables.
    """
    for days in weeks:
        report = look_at_days(services, partner, watched, days)
        if report is not None:
            answer = week_settled(pushed_weeks(partner), f"{watched.tenant}|{days.first}", report)
            if answer.passed or answer.severity is AssetCheckSeverity.ERROR:
                yield answer
