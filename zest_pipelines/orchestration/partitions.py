"""Partition keys: a tenant's id, or a tenant's id and a week. One list of tenants a partner, dynamic.

The tenants are rows of ours, Dagster's keys a copy. Every tick brings the copy up to date before it asks for
runs. A key that a person adds in the UI for nobody is taken away again; a run for it ends in an error that
names the next step.

A week's key is its Monday in Japan. The grid tenant x week is bounded, because Dagster looks at all of it: the
advised 100,000 partitions are 18 weeks for 5,000 tenants. So the weeks begin at a date that is computed when
the code is loaded. Every run loads the code anew, and a run whose grid lacked the week that the UI offered
could not be told apart from a slip of the finger; so that date moves in jumps of four weeks, the same for all
processes in between.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from dagster import (
    BetaWarning,
    DagsterInstance,
    DynamicPartitionsDefinition,
    MultiPartitionsDefinition,
    MultiToSingleDimensionPartitionMapping,
    WeeklyPartitionsDefinition,
)

from partners.contract import Partner
from zest_pipelines.core.weeks import week_of

TENANT, WEEK = "tenant", "week"
"""The dimensions of the grid; Dagster joins their keys in the order of these names: `sakura|2026-11-23`."""
JAPAN = ZoneInfo("Asia/Tokyo")
COMING_WEEKS = 8
PAST_WEEKS = 5
"""At least so many, and up to three more until the first week moves: 14 to 17 in all when the code is loaded. A code
server adds one for each week that it lives, so one that is started again every month stays at 18 or close to it."""
_JUMP = 4


def tenant_partitions(partner: Partner) -> DynamicPartitionsDefinition:
    """The tenants that are connected to the partner."""
    return DynamicPartitionsDefinition(name=f"{partner.name}_tenants")


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


def sync_tenants(instance: DagsterInstance, partner: Partner, connected: Collection[str]) -> Sequence[str]:
    """Make the partner's keys those of `connected`, and return them in Dagster's order."""
    name = f"{partner.name}_tenants"
    known = instance.get_dynamic_partitions(name)
    if missing := sorted(set(connected) - set(known)):
        instance.add_dynamic_partitions(name, missing)
    for left in sorted(set(known) - set(connected)):
        instance.delete_dynamic_partition(name, left)
    return [key for key in known if key in connected] + missing


def _first_week(today: date) -> date:
    """The Monday that the grid begins with: `PAST_WEEKS` ago, or up to three weeks earlier."""
    monday = week_of(today).first - timedelta(weeks=PAST_WEEKS)
    return monday - timedelta(weeks=monday.toordinal() // 7 % _JUMP)
