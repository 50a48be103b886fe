"""What a person does to one tenant from Dagster's launchpad: sync now, push some days, pause, resume, and what becomes
of a record that is stopped.

The launchpad is a YAML editor. So each job comes with its whole config filled in, and only the tenant is to be
changed; a config that cannot be meant ends in a sentence that says what to write instead. The work itself is what
the assets do. Such a run carries no tag of its tenant, which stands in its config: the lease decides, as everywhere.
"""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Generic, TypeVar
from uuid import UUID

from dagster import (
    AssetCheckSeverity,
    Config,
    Failure,
    JobDefinition,
    MetadataValue,
    OpExecutionContext,
    in_process_executor,
    job,
    op,
)
from pydantic import Field, ValidationError

from partners.contract import Entity, Partner
from partners.reasons import UnknownReason
from partners.reasons import reason as catalogued
from resources.configurable import HttpResource, PostgresResource, VaultResource
from zest_pipelines.core.identifiers import TenantIdError, check_tenant_id
from zest_pipelines.core.reference import About
from zest_pipelines.core.weeks import MOST_DAYS, Days, DaysError, week_from
from zest_pipelines.flows.reports import PeriodReport, StoppedReport
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration.assets import Stations, inbound_chains, outbound_chains
from zest_pipelines.orchestration.checks import counted
from zest_pipelines.orchestration.failures import failure, fault_of
from zest_pipelines.orchestration.findings import Finding
from zest_pipelines.orchestration.metadata import Metadata, advice, problems
from zest_pipelines.orchestration.opened import opened_services
from zest_pipelines.orchestration.partitions import today_in_japan
from zest_pipelines.orchestration.steps import work_for
from zest_pipelines.orchestration.week_findings import of_period, settled
from zest_pipelines.store.errors import UnknownConnectionError, UnknownTenantError
from zest_pipelines.store.requests import Selection, StoppedGroup

OPERATION = "zest/operation"
"""Run tag: which of the operations it is."""
_TENANT = "TENANT"
"""What stands in the launchpad until a person puts a tenant there; in capitals, so it is nobody's id."""
_RECORD, _PARTNER_ID = "RECORD", "PARTNER_ID"
"""The same for what only one record is, and for the partner's own id of it."""
_TODAY, _ALL = "today", "all"
_CARRIED_OUT = "Nothing to do: it is carried out at the next minute, and needs no call."


@dataclass(frozen=True)
class Acts:
    """The functions that do the work; `flows` has them."""

    find: Callable[[Services, Partner, str], None]
    push_period: Callable[[Services, Partner, str, Days], PeriodReport]
    pause: Callable[[Services, Partner, str, str], None]
    resume: Callable[[Services, Partner, str], None]
    would_release: Callable[[Services, Partner, str, Selection], Sequence[StoppedGroup]]
    release: Callable[[Services, Partner, str, Selection], UUID]
    stopped: Callable[[Services, Partner, str, Selection], StoppedReport]
    abandon: Callable[[Services, Partner, str, Entity, UUID, str], None]
    adopt: Callable[[Services, Partner, str, Entity, UUID, str, str], None]


class TenantConfig(Config):
    """Whom it is for."""

    tenant: str = Field(
        default=_TENANT, description="The tenant's id: a partition of the partner's assets. `zest status` lists them."
    )


class PeriodConfig(TenantConfig):
    """Which days to push."""

    first_day: str = Field(
        default=_TODAY, description="The first day: `today` (in Japan), or a date such as 2026-11-23, in quotes."
    )
    days: int = Field(default=7, ge=1, le=MOST_DAYS, description=f"How many days from then on, 1 to {MOST_DAYS}.")


class ReleaseConfig(TenantConfig):
    """What to try again."""

    entity: str = Field(default=_ALL, description="`all`, or one kind of record: `visit` or `visit_record`.")
    record: str = Field(
        default=_ALL, description="`all`, or the id of one record, as checks and `zest explain` show it."
    )
    because: str = Field(
        default=_ALL, description="`all`, or the reason for which they are stopped, such as `record_refused`."
    )
    week: str = Field(
        default=_ALL, description="`all`, or the Monday of one week of visits, such as 2026-11-23, in quotes."
    )
    only_show: bool = Field(default=False, description="`true`: only say what it would be, and do nothing.")


class PauseConfig(TenantConfig):
    """Why."""

    reason: str = Field(
        default="Paused from Dagster",
        max_length=500,
        description="Shown to everyone who meets the pause, and kept: no person's name.",
    )


class AbandonConfig(TenantConfig):
    """Which record, and why."""

    entity: str = Field(default=Entity.VISIT.value, description="The kind of record: `visit` or `visit_record`.")
    record: str = Field(default=_RECORD, description="The record's id, as checks and `zest explain` show it.")
    reason: str = Field(
        default="Decided in Dagster", max_length=500, description="Kept with the record's story: no person's name."
    )


class AdoptConfig(AbandonConfig):
    """Under which id the partner has it."""

    partner_id: str = Field(
        default=_PARTNER_ID, max_length=200, description="The partner's own id of the record, as its screen shows it."
    )


_Asked = TypeVar("_Asked", bound=TenantConfig)


@dataclass(frozen=True)
class _Operation(Generic[_Asked]):
    """One job of a partner."""

    name: str
    """Of the job, after the partner's."""
    verb: str
    """Of its only op, after the partner's: Dagster refuses an op with its job's name."""
    description: str
    config: type[_Asked]
    act: Callable[[OpExecutionContext, Services, _Asked], Metadata]
    """Does it, and returns what to show. Raises what the flows raise, and Failure."""


def operation_jobs(partner: Partner, stations: Stations, acts: Acts) -> list[JobDefinition]:
    """The partner's operations: seven, or three if it is only read."""
    jobs = [
        _job(partner, _sync_now(partner, stations, acts)),
        _job(partner, _pause(partner, acts)),
        _job(partner, _resume(partner, acts)),
    ]
    if partner.writes:
        jobs += [
            _job(partner, _push_period(partner, acts)),
            _job(partner, _release(partner, stations, acts)),
            _job(partner, _abandon(partner, acts)),
            _job(partner, _adopt(partner, acts)),
        ]
    return jobs


def _job(partner: Partner, operation: _Operation[_Asked]) -> JobDefinition:
    op_name = f"{partner.name}_{operation.verb}"

    @op(name=op_name, description=operation.description, config_schema=operation.config.to_fields_dict())
    def operate(
        context: OpExecutionContext, postgres: PostgresResource, http: HttpResource, vault: VaultResource
    ) -> None:
        asked = _asked(operation.config, context.op_config)
        with opened_services(postgres, http, vault) as services:
            try:
                told = operation.act(context, services, asked)
            except Failure:
                raise
            except (UnknownTenantError, UnknownConnectionError) as error:
                known = (
                    "`zest status`, and the partitions of the partner's assets, list the tenants that are connected."
                )
                raise Failure(
                    f"{fault_of(error, asked.tenant, partner.name).description} {known}", allow_retries=False
                ) from None
            except Exception as error:  # noqa: BLE001  # shown in words of ours, without what a foreign one may quote
                raise failure([(asked.tenant, fault_of(error, asked.tenant, partner.name))]) from None
        context.add_output_metadata(told)

    @job(
        name=f"{partner.name}_{operation.name}",
        description=f"{operation.description} In the launchpad, put the tenant's id in place of {_TENANT}.",
        tags={"zest/partner": partner.name, OPERATION: operation.name},
        config={"ops": {op_name: {"config": operation.config().model_dump()}}},
        executor_def=in_process_executor,
    )
    def operating() -> None:
        operate()

    return operating


def _sync_now(partner: Partner, stations: Stations, acts: Acts) -> _Operation[TenantConfig]:
    def act(context: OpExecutionContext, services: Services, asked: TenantConfig) -> Metadata:
        acts.find(services, partner, asked.tenant)  # first: the stations' answers are logged under the tenant's key
        chains = list(inbound_chains(services, stations, partner, asked.tenant))
        if partner.writes:
            chains += outbound_chains(services, stations, partner, asked.tenant)
        return _told(work_for(context, asked.tenant, chains))

    reads = f"Reads one tenant's masters from {partner.title}, applies what differs"
    pushes = ", and pushes what is due: once, now. What a push leaves after its time box goes with the next minute."
    return _Operation(
        "sync_now",
        "bring_up_to_date",
        reads + pushes if partner.writes else f"{reads}: once, now.",
        TenantConfig,
        act,
    )


def _push_period(partner: Partner, acts: Acts) -> _Operation[PeriodConfig]:
    def act(context: OpExecutionContext, services: Services, asked: PeriodConfig) -> Metadata:
        report = acts.push_period(services, partner, asked.tenant, _days(asked))
        whose = asked.tenant, partner.name
        failed_as, words = settled(report, whose)
        if failed_as is AssetCheckSeverity.ERROR:
            raise Failure(f"{asked.tenant}: {words}", metadata=of_period(report, whose), allow_retries=False)
        context.log.info(words)
        return of_period(report, whose) | {"outcome": MetadataValue.text(words)}

    return _Operation(
        "push_period",
        "push_days",
        f"Pushes some days of one tenant to {partner.title} before all else, and waits until they are there. For a "
        "whole week, materialize pushed_weeks instead: it keeps a history.",
        PeriodConfig,
        act,
    )


def _release(partner: Partner, stations: Stations, acts: Acts) -> _Operation[ReleaseConfig]:
    def act(context: OpExecutionContext, services: Services, asked: ReleaseConfig) -> Metadata:
        selection = Selection(_entity(partner, asked), _record_id(asked), _reason(asked), _week(asked))
        groups = acts.would_release(services, partner, asked.tenant, selection)
        context.log.info(f"To be tried again: {_groups(groups)}.")
        if asked.only_show:
            return {"would_try_again": MetadataValue.text(_groups(groups))}
        acts.release(services, partner, asked.tenant, selection)
        whose = asked.tenant, partner.name
        told = {"tried_again": MetadataValue.text(_groups(groups))} | _told(
            work_for(context, asked.tenant, outbound_chains(services, stations, partner, asked.tenant))
        )
        left = acts.stopped(services, partner, asked.tenant, selection)
        told |= {"stopped_again": MetadataValue.int(left.again), "outcome": MetadataValue.text(_outcome(left, whose))}
        told |= problems(left.problems, whose)
        if left.again and asked.record != _ALL:
            raise Failure(f"{asked.tenant}: {_outcome(left, whose)}", metadata=told, allow_retries=False)
        context.log.info(_outcome(left, whose))
        return told

    return _Operation(
        "release",
        "try_again",
        "Releases what is stopped of one tenant (refused, in conflict, or waiting for its next try): all of it, what "
        "is stopped for one reason, or one week's. Then pushes once, within the limits. The log says first what it is; "
        "`only_show: true` leaves it at that. "
        f"A record that was changed at {partner.title} itself is overwritten there. Red if a record that was named by "
        "its id is stopped once more; of all, the output says how many are.",
        ReleaseConfig,
        act,
    )


def _abandon(partner: Partner, acts: Acts) -> _Operation[AbandonConfig]:
    def act(_context: OpExecutionContext, services: Services, asked: AbandonConfig) -> Metadata:
        acts.abandon(services, partner, asked.tenant, *_one_record(partner, asked), asked.reason)
        return _next_action(_CARRIED_OUT)

    return _Operation(
        "abandon",
        "give_up",
        "Gives up what is open of one record: it ends without being sent, and counts as settled. A later edit of the "
        f"record is sent as ever. What {partner.title} may have of it already stays there.",
        AbandonConfig,
        act,
    )


def _adopt(partner: Partner, acts: Acts) -> _Operation[AdoptConfig]:
    def act(_context: OpExecutionContext, services: Services, asked: AdoptConfig) -> Metadata:
        record = _one_record(partner, asked)
        if asked.partner_id.strip() in (_PARTNER_ID, ""):
            raise _unmeant(f"Put the id that {partner.title} shows in place of {_PARTNER_ID}")
        acts.adopt(services, partner, asked.tenant, *record, asked.partner_id, asked.reason)
        return _next_action(_CARRIED_OUT)

    return _Operation(
        "adopt",
        "take_as_delivered",
        f"Says that {partner.title} has what is open of one record, under an id of its own: it ends as delivered, and "
        "later edits go to that record. For one of which nobody else can tell whether it arrived.",
        AdoptConfig,
        act,
    )


def _pause(partner: Partner, acts: Acts) -> _Operation[PauseConfig]:
    def act(_context: OpExecutionContext, services: Services, asked: PauseConfig) -> Metadata:
        acts.pause(services, partner, asked.tenant, asked.reason)
        return _next_action(f"Nothing of {asked.tenant} is read or sent until {partner.name}_resume. Nothing is lost.")

    piles_up = " Edits go on piling up and are sent after the resume job." if partner.writes else ""
    return _Operation(
        "pause", "stop_calls", f"Stops all calls to {partner.title} for one tenant.{piles_up}", PauseConfig, act
    )


def _resume(partner: Partner, acts: Acts) -> _Operation[TenantConfig]:
    def act(_context: OpExecutionContext, services: Services, asked: TenantConfig) -> Metadata:
        acts.resume(services, partner, asked.tenant)
        return _next_action("Nothing to do: what waited goes with the next minute.")

    return _Operation(
        "resume", "let_calls_go_on", f"Lets calls to {partner.title} go on for one tenant.", TenantConfig, act
    )


def _asked(config: type[_Asked], given: object) -> _Asked:
    """The config as it was launched. Raises Failure where it cannot be meant."""
    try:
        asked = config.model_validate(given)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise _unmeant(f"The config cannot be used ({wrong})") from None
    if asked.tenant in (_TENANT, ""):
        raise _unmeant(f"Put a tenant's id in place of {_TENANT}; `zest status` and the partitions list them")
    try:
        check_tenant_id(asked.tenant)
    except TenantIdError as error:
        raise _unmeant(str(error).removesuffix(".")) from None
    return asked


def _days(asked: PeriodConfig) -> Days:
    try:
        first = today_in_japan() if asked.first_day == _TODAY else date.fromisoformat(asked.first_day)
        return Days(first, first + timedelta(days=asked.days - 1))
    except (ValueError, OverflowError):
        raise _unmeant(f"first_day is neither `{_TODAY}` nor a date such as 2026-11-23") from None


def _one_record(partner: Partner, asked: AbandonConfig) -> tuple[Entity, UUID]:
    kinds = {entity.value: entity for entity in partner.writes}
    if asked.entity not in kinds:
        raise _unmeant(f"entity is one of {', '.join(kinds)}")
    try:
        return kinds[asked.entity], UUID(asked.record)
    except ValueError:
        raise _unmeant(f"Put a record's id, as checks and `zest explain` show it, in place of {_RECORD}") from None


def _entity(partner: Partner, asked: ReleaseConfig) -> Entity | None:
    kinds = {entity.value: entity for entity in partner.writes}
    if asked.entity != _ALL and asked.entity not in kinds:
        raise _unmeant(f"entity is one of {', '.join((_ALL, *kinds))}")
    return kinds.get(asked.entity)


def _reason(asked: ReleaseConfig) -> str | None:
    if asked.because == _ALL:
        return None
    try:
        return catalogued(asked.because).code
    except UnknownReason:
        raise _unmeant(f"because is `{_ALL}`, or a code as checks and `zest badges` show it") from None


def _week(asked: ReleaseConfig) -> Days | None:
    try:
        return None if asked.week == _ALL else week_from(date.fromisoformat(asked.week))
    except DaysError as error:
        raise _unmeant(str(error)) from None
    except ValueError:
        raise _unmeant(f"week is `{_ALL}`, or a Monday such as 2026-11-23") from None


def _groups(groups: Sequence[StoppedGroup]) -> str:
    """`3 visits (parked, record_refused)`; of none, that there is nothing."""
    told = [f"{counted(each.records, each.entity)} ({each.state}, {each.reason})" for each in groups]
    return ", ".join(told) or "nothing is stopped"


def _record_id(asked: ReleaseConfig) -> UUID | None:
    try:
        return None if asked.record == _ALL else UUID(asked.record)
    except ValueError:
        raise _unmeant(f"record is `{_ALL}` or a record's id, as checks and `zest explain` show it") from None


def _unmeant(sentence: str) -> Failure:
    return Failure(f'{sentence}. Then launch it again: "Open in launchpad" has the config.', allow_retries=False)


def _told(findings: Iterable[Finding]) -> Metadata:
    """All that the stations say, each under its asset's name."""
    return {f"{each.asset.path[-1]}: {name}": value for each in findings for name, value in each.metadata.items()}


def _outcome(left: StoppedReport, whose: About) -> str:
    """How a release ended, and what to do."""
    parts = []
    if left.again:
        what = "1 record is" if left.again == 1 else f"{left.again} records are"
        parts.append(f"{what} stopped once more. {advice(left.problems, whose)}")
    if left.untried:
        what = "1 record waits" if left.untried == 1 else f"{left.untried} records wait"
        parts.append(f"{what} for the push that is under way, or for the next minute's.")
    return " ".join(parts) or "Nothing of it is stopped any more."


def _next_action(sentence: str) -> Metadata:
    return {"next_action": MetadataValue.text(sentence)}
