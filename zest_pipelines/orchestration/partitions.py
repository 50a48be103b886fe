"""Partition keys: a tenant's id, or a tenant's id and a week. One list of tenants a partner, dynamic.

The tenants are rows of ours, Dagster's keys a copy. Every tick adds what the copy lacks before it asks for runs. A
key of nobody, which a person typed in the UI, is taken away by the watch, some minutes later: Dagster itself fails a
run whose key has gone before our code could say what to do.

A week's key is its Monday in Japan. The grid tenant x week is bounded, because Dagster looks at all of it: the
advised 100,000 partitions are 18 weeks for 5,000 tenants. So the weeks begin at a date that is computed when
the code is loaded: 13 or 14 of them then, and one more for each week that the code server lives, so that one which is
started again within four weeks never offers more than 18. Every run loads the code anew, and a run whose grid lacked
the week that the UI offered could not be told apart from a slip of the finger; so that date moves in jumps of two
weeks, the same for all processes in between.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from dagster import (
    BetaWarning,
    DagsterInstance,
    DagsterRunStatus,
    DynamicPartitionsDefinition,
    MultiPartitionsDefinition,
    MultiToSingleDimensionPartitionMapping,
    RunsFilter,
    WeeklyPartitionsDefinition,
)

from partners.contract import Partner
from zest_pipelines.core.weeks import week_of

PARTITION = "dagster/partition"
"""Run tag: the key that a run is for."""
UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
TENANT, WEEK = "tenant", "week"
"""The dimensions of the grid; Dagster joins their keys in the order of these names: `sakura|2026-11-23`."""
JAPAN = ZoneInfo("Asia/Tokyo")
COMING_WEEKS = 8
PAST_WEEKS = 4
"""At least so many, and one more in every second week, until the first week moves."""
_PARTITION_OF_WEEKS = f"{PARTITION}/{TENANT}"
_JUMP = 2


def tenant_partitions(partner: Partner) -> DynamicPartitionsDefinition:
    """The tenants that are connected to the partner."""
    return DynamicPartitionsDefinition(name=_name(partner))


def week_partitions(partner: Partner, today: date) -> MultiPartitionsDefinition:
    """The tenants that are connected to the partner x the weeks around `today`, the eight to come included."""
    weeks = WeeklyPartitionsDefinition(
        start_date=_first_week(today).isoformat(),
        day_offset=1,  # Monday; Dagster's own week begins on Sunday
        timezone=JAPAN.key,
        end_offset=1 + COMING_WEEKS,  # without it the newest week is the last one that is over
    )
    return MultiPartitionsDefinition({TENANT: tenant_partitions(partner), WEEK: weeks})


def of_tenant() -> MultiToSingleDimensionPartitionMapping:
    """A tenant's partition and all its weeks belong together."""
    with warnings.catch_warnings():
        # In beta. Dagster would guess the same mapping; written down, a change of the grid cannot make it another.
        warnings.filterwarnings("ignore", "Class `MultiToSingleDimensionPartitionMapping`", BetaWarning)
        return MultiToSingleDimensionPartitionMapping(partition_dimension_name=TENANT)


def today_in_japan() -> date:
    """The day that it is where the visits are."""
    return datetime.now(JAPAN).date()


def add_tenants(instance: DagsterInstance, partner: Partner, connected: Collection[str]) -> Sequence[str]:
    """Add the keys that the partner's list lacks, and return the whole list, in Dagster's order."""
    known = instance.get_dynamic_partitions(_name(partner))
    if missing := sorted(set(connected) - set(known)):
        instance.add_dynamic_partitions(_name(partner), missing)
    return [*known, *missing]


def remove_others(instance: DagsterInstance, partner: Partner, connected: Collection[str]) -> None:
    """Take away the keys that are not of `connected`, but for those that an unfinished run was launched for."""
    others = set(instance.get_dynamic_partitions(_name(partner))) - set(connected)
    if others:
        runs = instance.get_runs(RunsFilter(statuses=UNFINISHED))
        for key in sorted(others - {run.tags.get(tag) for run in runs for tag in (PARTITION, _PARTITION_OF_WEEKS)}):
            instance.delete_dynamic_partition(_name(partner), key)


def _name(partner: Partner) -> str:
    return f"{partner.name}_tenants"


def _first_week(today: date) -> date:
    """The Monday that the grid begins with: `PAST_WEEKS` ago, or a week earlier."""
    monday = week_of(today).first - timedelta(weeks=PAST_WEEKS)
    return monday - timedelta(weeks=monday.toordinal() // 7 % _JUMP)
