"""What a station's report comes to in Dagster's terms: what was made, which checks answer how, whether to
go on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from dagster import AssetCheckEvaluation, AssetKey

from zest_pipelines.flows.reports import AccumulateReport, ApplyReport, DiffReport, LandReport, PlanReport, PushReport
from zest_pipelines.orchestration import inbound_checks, metadata, outbound_checks
from zest_pipelines.orchestration.checks import is_waiting
from zest_pipelines.orchestration.failures import Fault, fault_for


class Worth(StrEnum):
    """Whether it is worth a materialization: a thousand tenants a minute would drown what happened."""

    NEWS = "news"
    """Something happened."""
    ON_REQUEST = "on_request"
    """Nothing happened: only who asked for it is told."""
    NOTHING = "nothing"
    """It did not go well, or not at all: there is nothing to show as made."""


@dataclass(frozen=True)
class Finding:
    """What one station did for one tenant."""

    asset: AssetKey
    worth: Worth
    metadata: metadata.Metadata = field(default_factory=dict)
    checks: tuple[AssetCheckEvaluation, ...] = ()
    fault: Fault | None = None
    waits_for: Fault | None = None
    """What its turn waits for, where that is no fault: for checks that want an answer all the same."""
    if_planned: tuple[AssetCheckEvaluation, ...] = ()
    """Answers for a run that planned them, and for no other: nothing was learned that what is recorded does not say."""
    lets_on: bool = True
    """Whether the stations after it can do anything."""


def landing(asset: AssetKey, tenant: str, report: LandReport) -> Finding:
    """A reading is news even if it changed nothing: when the partner was last read matters.

    However it ended, what landed before lets the stations after it go on, unless another reading is under way: its
    records are still coming, and its own run sees to them. One that was put off is no fault and made nothing; if
    nothing came it is silent about the form of what comes, or it would take back what the reading before it found.
    """
    is_broken = report.state == "failed"
    code = report.reason or "unknown"
    is_put_off = is_broken and is_waiting(code)
    answers = [inbound_checks.snapshot_certified(asset, tenant, report)]
    if report.new_versions or not is_put_off:
        answers.append(inbound_checks.shape_known(asset, tenant, report))
    if report.is_certified or report.freshness is not None:
        answers.append(inbound_checks.fresh(asset, tenant, report.freshness))
    whose = metadata.about(asset, tenant)
    why = fault_for(code, report.params, *whose) if is_broken else None
    return Finding(
        asset,
        Worth.NOTHING if is_broken else Worth.NEWS,
        metadata.of_landing(report, whose),
        tuple(answers),
        fault=None if is_put_off else why,
        waits_for=why if is_put_off else None,
        lets_on=code != "reading_under_way",
    )


def planning(asset: AssetKey, tenant: str, report: PlanReport) -> Finding:
    """As `landing`; what stands is compared however the reading ended."""
    found = landing(asset, tenant, report.landing)
    told = metadata.numbers(report) | found.metadata
    return replace(found, metadata=told, checks=(*found.checks, inbound_checks.plan_agrees(asset, tenant, report)))


def diffing(asset: AssetKey, report: DiffReport) -> Finding:
    """News if anything differs."""
    differs = report.added + report.changed + report.deleted + report.unmappable > 0
    return Finding(asset, _news_if(differs), metadata.numbers(report))


def applying(asset: AssetKey, tenant: str, report: ApplyReport) -> Finding:
    """News if a change came to its end; one that goes on waiting for a person is none."""
    ended = report.applied + report.superseded + report.rejected > 0
    answers = (
        inbound_checks.no_mass_change(asset, tenant, report),
        inbound_checks.nothing_rejected(asset, tenant, report),
        inbound_checks.equals_landed(asset, tenant, report),
        inbound_checks.identities_settled(asset, tenant, report),
    )
    return Finding(asset, _news_if(ended), metadata.of_applying(report, metadata.about(asset, tenant)), answers)


def accumulating(asset: AssetKey, report: AccumulateReport) -> Finding:
    """News if there are changes."""
    return Finding(asset, _news_if(report.changes > 0), metadata.numbers(report))


def pushing(asset: AssetKey, tenant: str, report: PushReport, now: datetime) -> Finding:
    """News if anything was tried or ended; where a fault stopped it, only if something got through before."""
    is_fault = report.stopped is not None and not is_waiting(report.stopped)
    whose = metadata.about(asset, tenant)
    stopped = outbound_checks.not_stopped(asset, tenant, report)
    is_shown = outbound_checks.shows_whether_stopped(report)
    answers = (
        *((stopped,) if is_shown else ()),
        outbound_checks.oldest_pending_age(asset, tenant, report, now),
        outbound_checks.nothing_parked(asset, tenant, report),
    )
    return Finding(
        asset,
        Worth.NOTHING if is_fault and not report.got_through else _news_if(report.got_through + report.held_up > 0),
        metadata.of_pushing(report, now, whose),
        answers,
        fault_for(report.stopped, report.params, *whose) if report.stopped and is_fault else None,
        if_planned=() if is_shown else (stopped,),
    )


def _news_if(happened: bool) -> Worth:
    return Worth.NEWS if happened else Worth.ON_REQUEST
