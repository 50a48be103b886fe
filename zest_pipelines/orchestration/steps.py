"""Working through a run's tenants: each station's finding becomes that tenant's own events.

A run has one partition key or many, and the same code serves both. Events are logged one by one with the key as
partition, because an output stands for all keys of the run; and one tenant's fault stops that tenant alone.
Only a run that a person asked for one key yields its outputs and fails with that tenant: outputs let
assets further down go on in the same run, and somebody is there to read the error. A background run stays
green while it did its own work.

A background run of many works for a few of them at a time, each in a thread: a partner that lets one tenant wait holds
up none of the others. It takes them in the order in which they have waited and shares its time out among them, so that
each has had its turn before a large one has a second (docs/delivery.md states the longest wait). What came of it is
logged by the run's own thread, a tenant's events together and in the order of its stations.

A person's run plans all checks of its assets, and answers all of them: a planned check without an answer shows as
skipped. A background run plans none, and logs an answer only where something happened or where it is not what was
recorded last, so that a tenant for whom nothing happens adds nothing to the event log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dagster import (
    AssetCheckEvaluation,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    Failure,
    MaterializeResult,
    OpExecutionContext,
    partition_loading_context,
)

from zest_pipelines.core.boxes import BOX, turn_seconds
from zest_pipelines.orchestration.answers import Answers
from zest_pipelines.orchestration.at_once import at_once
from zest_pipelines.orchestration.checks import CheckName, broken, log
from zest_pipelines.orchestration.failures import Fault, Reach, failure, fault_of
from zest_pipelines.orchestration.findings import Finding, Worth
from zest_pipelines.orchestration.metadata import about
from zest_pipelines.store.errors import StoreError

LANE = "zest/lane"
"""Run tag: the lane in which a run was requested."""
BACKGROUND = "background"
"""The lane of runs that no person waits for."""
BACKGROUND_TAGS = {LANE: BACKGROUND, "dagster/priority": "-1"}
"""Of a run that no person waits for: in the queue it lets a person's run go first, whose priority is 0."""
TENANTS_AT_ONCE = 4
"""So many of a background run of many, each with a database connection of its own, whatever login it is at."""
TAKES_KEYS_FOR = 50.0
"""Seconds for which a background run of many keys takes new ones. While it is unfinished no tenant of its range gets
another run, so what is left after about a tick's time is better asked for again by the next tick: it is first then."""


@dataclass(frozen=True)
class Step:
    """One station still to be run for one partition key."""

    asset: AssetKey
    blamed: tuple[AssetKey, CheckName]
    """The asset and check that fail if the station itself breaks."""
    act: Callable[[], Finding]


Chain = Sequence[Step]
"""Steps each of which needs the one before."""
Chains = Callable[[str, float], Iterable[Chain]]
"""What is to be done for a key, in a turn of so many seconds."""


def work_through(
    context: AssetExecutionContext,
    chains: Chains,
    wanted: Callable[[Sequence[str]], Sequence[str]] = lambda keys: keys,
) -> Iterator[MaterializeResult[None]]:
    """Run what is selected of the chains of every key of the run and log what came of it.

    `wanted` picks of the keys those that there is work for, in the order in which they are taken. Raises Failure as the
    module says.
    """
    keys = _keys(context)
    is_background = context.run.tags.get(LANE) == BACKGROUND
    is_asked = len(keys) == 1 and not is_background
    chosen = _chosen(keys, wanted)
    if not chosen:
        context.log.info(f"None of {len(keys)} is due any more: another run was there first.")
    telling = _Telling(context, Answers(context.instance, chosen), is_asked)
    faults: list[tuple[str, Fault]] = []
    for key, findings in _worked(context, chosen, chains, is_packed=is_background and len(keys) > 1):
        found: list[Finding] = []
        for finding in findings:
            yield from telling.tell(key, finding)
            found.append(finding)
        telling.tell_the_rest(key, found)
        faults += [(key, finding.fault) for finding in found if finding.fault is not None]
    raised = [each for each in faults if is_asked or each[1].reach is not Reach.TENANT]
    if raised:
        raise failure(raised)


def work_for(context: OpExecutionContext, tenant: str, chains: Iterable[Chain]) -> list[Finding]:
    """Run all of one tenant's chains in the op of a job, and log what a person's run of the tenant's key would.

    No output is yielded and no check was planned: each event stands for itself. Raises Failure.
    """
    listed = [list(chain) for chain in chains]
    found: list[Finding] = []
    for finding in _findings(tenant, listed, {step.asset for chain in listed for step in chain}):
        found.append(finding)
        log(context, finding.checks)
        if finding.worth is not Worth.NOTHING:
            context.log_event(AssetMaterialization(finding.asset, metadata=finding.metadata, partition=tenant))
    if faults := [(tenant, finding.fault) for finding in found if finding.fault is not None]:
        raise failure(faults)
    return found


def _keys(context: AssetExecutionContext) -> Sequence[str]:
    if context.has_partition_key:
        return [_known(context, context.partition_key)]
    if not context.has_partition_key_range:
        raise Failure("No tenant was chosen: launch it again with a partition.", allow_retries=False)
    keys: Sequence[str] = context.partition_keys
    return keys


def _selected(context: AssetExecutionContext) -> Collection[AssetKey]:
    """The assets of the run, and those of which a person executes a check alone."""
    return {*context.selected_asset_keys, *(check.asset_key for check in context.selected_asset_check_keys)}


def _known(context: AssetExecutionContext, key: str) -> str:
    """The key, if Dagster has it. One that a person added for nobody may be gone by now; Dagster's own words for that
    name no next step."""
    partitions = context.assets_def.partitions_def
    with partition_loading_context(dynamic_partitions_store=context.instance):
        if partitions is None or partitions.has_partition_key(key):
            return key
    raise Failure(
        f"There is no partition {key} here: a partition is a connected tenant's id. `zest connect TENANT PARTNER ...` "
        "connects one, and within a minute its partition is there.",
        allow_retries=False,
    )


def _chosen(keys: Sequence[str], wanted: Callable[[Sequence[str]], Sequence[str]]) -> Sequence[str]:
    try:
        return wanted(keys)
    except StoreError as error:
        raise failure([("all tenants", fault_of(error))]) from None


def _worked(
    context: AssetExecutionContext, keys: Sequence[str], chains: Chains, *, is_packed: bool
) -> Iterator[tuple[str, Iterable[Finding]]]:
    """The keys with what their stations find: one after the other, each station when its finding is asked for; or,
    packed, a few at a time, to their end."""
    selected = _selected(context)
    if not is_packed or not keys:
        return ((key, _findings(key, chains(key, BOX), selected)) for key in keys)
    turn = turn_seconds(len(keys), TENANTS_AT_ONCE)
    return at_once(
        _in_time(context, keys), lambda key: list(_findings(key, chains(key, turn), selected)), TENANTS_AT_ONCE
    )


def _in_time(context: AssetExecutionContext, keys: Sequence[str]) -> Iterator[str]:
    """The keys, but no new one after TAKES_KEYS_FOR: the tables still name the rest as due, and the next tick asks."""
    end = time.monotonic() + TAKES_KEYS_FOR
    for number, key in enumerate(keys):
        if number > 0 and time.monotonic() >= end:
            context.log.info(
                f"{len(keys) - number} of {len(keys)} due tenants are left: this run takes no new one after "
                f"{TAKES_KEYS_FOR:.0f} seconds. The next tick asks for them again."
            )
            return
        yield key


def _findings(key: str, chains: Iterable[Chain], selected: Collection[AssetKey]) -> Iterator[Finding]:
    for chain in chains:
        for step in (step for step in chain if step.asset in selected):
            finding = _act(key, step)
            if finding.fault is not None and finding.fault.reach is Reach.RUN:  # no tenant's check is to blame
                raise failure([(key, finding.fault)])
            yield finding
            if not finding.lets_on:
                break


def _act(key: str, step: Step) -> Finding:
    try:
        return step.act()
    except Exception as error:  # noqa: BLE001  # one tenant's fault, even a bug that it found, must not stop the others
        asset, check = step.blamed
        fault = fault_of(error, *about(asset, key))
        answer = broken(asset, key, check, fault)
        return Finding(step.asset, Worth.NOTHING, checks=(answer,), fault=fault, lets_on=False)


@dataclass(frozen=True)
class _Telling:
    """How a run's findings are told to Dagster."""

    context: AssetExecutionContext
    answers: Answers
    is_asked: bool

    def tell(self, key: str, finding: Finding) -> Iterator[MaterializeResult[None]]:
        """Log a finding's events, or yield its output."""
        for check in finding.checks:
            if finding.worth is Worth.NEWS or self._is_planned(check) or self.answers.is_news(check):
                self.context.log_event(check)
        for check in filter(self._is_planned, finding.if_planned):
            self.context.log_event(check)
        if finding.fault is not None:
            self.context.log.warning(f"{key}: {finding.fault.description}")
        if self.is_asked and finding.worth is not Worth.NOTHING and finding.asset in self.context.selected_asset_keys:
            yield MaterializeResult(asset_key=finding.asset, metadata=finding.metadata)
        elif finding.worth is Worth.NEWS:
            self.context.log_event(AssetMaterialization(finding.asset, metadata=finding.metadata, partition=key))

    def tell_the_rest(self, key: str, found: Sequence[Finding]) -> None:
        """Answer the planned checks of stations that a fault, or another run, kept from their turn."""
        told = {check.asset_check_key for finding in found for check in (*finding.checks, *finding.if_planned)}
        reasons = [*(finding.fault for finding in found), *(finding.waits_for for finding in found)]
        why = next((reason for reason in reasons if reason is not None), None)
        if why is not None:
            for check in sorted(self.context.selected_asset_check_keys - told, key=str):
                self.context.log_event(broken(check.asset_key, key, CheckName(check.name), why))

    def _is_planned(self, check: AssetCheckEvaluation) -> bool:
        return check.asset_check_key in self.context.selected_asset_check_keys
