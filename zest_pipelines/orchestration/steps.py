"""Working through a run's tenants: each station's finding becomes that tenant's own events.

A run has one tenant or many, and the same code serves both. Events are logged one by one with the tenant as
partition, because an output stands for all keys of the run; and one tenant's fault stops that tenant alone.
Only a run that a person asked for one tenant yields its outputs and fails with that tenant: outputs let
assets further down go on in the same run, and somebody is there to read the error. A background run stays
green while it did its own work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    Failure,
    MaterializeResult,
)

from zest_pipelines.orchestration.checks import CheckName, broken
from zest_pipelines.orchestration.failures import Fault, Reach, failure, fault_of
from zest_pipelines.orchestration.findings import Finding, Worth

LANE = "zest/lane"
"""Run tag: the lane in which a run was requested."""
BACKGROUND = "background"
"""The lane of runs that no person waits for."""


@dataclass(frozen=True)
class Step:
    """One station still to be run for one tenant."""

    asset: AssetKey
    blamed: tuple[AssetKey, CheckName]
    """The asset and check that fail if the station itself breaks."""
    act: Callable[[], Finding]


Chain = Sequence[Step]
"""Steps each of which needs the one before."""


def work_through(
    context: AssetExecutionContext, chains: Callable[[str], Iterable[Chain]]
) -> Iterator[MaterializeResult[None]]:
    """Run what is selected of every tenant's chains and log what came of it. Raises Failure as the module says."""
    tenants = _tenants(context)
    is_asked = len(tenants) == 1 and context.run.tags.get(LANE) != BACKGROUND
    faults: list[tuple[str, Fault]] = []
    for tenant in tenants:
        for finding in _findings(tenant, chains(tenant), context.selected_asset_keys):
            yield from _tell(context, tenant, finding, is_asked)
            if finding.fault is not None:
                faults.append((tenant, finding.fault))
    raised = [each for each in faults if is_asked or each[1].reach is not Reach.TENANT]
    if raised:
        raise failure(raised)


def _tenants(context: AssetExecutionContext) -> Sequence[str]:
    if not (context.has_partition_key or context.has_partition_key_range):
        raise Failure("No tenant was chosen: launch it again with a partition.", allow_retries=False)
    keys: Sequence[str] = context.partition_keys
    return keys


def _findings(tenant: str, chains: Iterable[Chain], selected: Collection[AssetKey]) -> Iterator[Finding]:
    for chain in chains:
        for step in (step for step in chain if step.asset in selected):
            finding = _act(tenant, step)
            if finding.fault is not None and finding.fault.reach is Reach.RUN:  # no tenant's check is to blame
                raise failure([(tenant, finding.fault)])
            yield finding
            if not finding.lets_on:
                break


def _act(tenant: str, step: Step) -> Finding:
    try:
        return step.act()
    except Exception as error:  # noqa: BLE001  # one tenant's fault, even a bug that it found, must not stop the others
        fault = fault_of(error)
        asset, check = step.blamed
        answer = broken(asset, tenant, check, fault)
        return Finding(step.asset, Worth.NOTHING, checks=(answer,), fault=fault, lets_on=False)


def _tell(
    context: AssetExecutionContext, tenant: str, finding: Finding, is_asked: bool
) -> Iterator[MaterializeResult[None]]:
    for check in finding.checks:  # also where nothing happened: a check that its run planned would show as skipped
        context.log_event(check)
    if finding.fault is not None:
        context.log.warning(f"{tenant}: {finding.fault.description}")
    if is_asked and finding.worth is not Worth.NOTHING:
        yield MaterializeResult(asset_key=finding.asset, metadata=finding.metadata)
    elif finding.worth is Worth.NEWS:
        context.log_event(AssetMaterialization(finding.asset, metadata=finding.metadata, partition=tenant))
