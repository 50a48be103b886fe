"""What background runs are asked for: the questions to the tables that decide who is due.

The clocks and sensors ask them to request runs, and a run asks its question again when it starts. A run of many tenants
covers a range of partition keys, so most of its tenants may not be due at all, and while it waited in the queue others
may have done its work.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from dagster import AssetKey

from partners.contract import Entity, Partner
from partners.windows import WindowSyntaxError
from resources.logins import Login
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration.specs import (
    applied,
    changes,
    landed,
    pushed_visits,
    visit_changes,
)
from zest_pipelines.store import due
from zest_pipelines.store.database import Transaction

DEMAND = "zest/demand"
"""Run tag: what a background run was requested for."""
MAX_RUNS_OUT = 10
"""Runs out that one minute may request."""
MAX_RUNS_IN = 4
"""Fewer in than out: two cores start about seventeen runs a minute, sensors want some of them, and a reading can wait
where an edit cannot."""
MAX_RUNS_AT_ONCE = 3
"""Runs that one evaluation of a sensor may request: four evaluations a minute share what the machine starts."""

_REPEATS = "dagster/parent_run_id"


class Direction(StrEnum):
    """Which way data goes, seen from the product."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True)
class Demand:
    """One question, and what is asked for those whom it names."""

    name: str
    """As the runs' tag says it."""
    partner: Partner
    direction: Direction
    what: str
    """What it looks for, as the end of "no tenant has ..."."""
    who: Callable[[Transaction], Sequence[str]]
    """The tenants that have it, who has waited longest first if data goes out; asked as the scheduler's login."""
    max_runs: int
    assets: Sequence[AssetKey]
    """What to make for them."""
    prepare: Callable[[Transaction], object] = lambda _: None
    """What a tick does before it asks; a run that asks again relies on what the tick did."""


def assets_of(partner: Partner, direction: Direction) -> list[AssetKey]:
    """All that is made on one of the partner's ways."""
    if direction is Direction.OUT:
        return [visit_changes(partner), pushed_visits(partner)]
    taken = [key(partner, entity) for entity in partner.masters for key in (landed, changes, applied)]
    return taken if partner.read_plans is None else [*taken, landed(partner, Entity.PLAN)]


def pushes_due(partner: Partner) -> Demand:
    """Asked every minute for the way out."""
    return Demand(
        "pushes_due",
        partner,
        Direction.OUT,
        "a record or an edit to push now",
        lambda tx: due.outbound(tx, partner.name, partner.mapping_version),
        MAX_RUNS_OUT,
        assets_of(partner, Direction.OUT),
        # What a record waited for may have come by a way that touches no queue: a client taken in, a week asked for.
        prepare=lambda tx: due.recheck_waiting(tx, partner.name),
    )


def readings_due(partner: Partner) -> Demand:
    """Asked every minute for the way in."""
    return Demand(
        "readings_due",
        partner,
        Direction.IN,
        "masters that are due to be read, of a partner that is open",
        lambda tx: _in_open_hours(partner, due.inbound(tx, partner.name, partner.readings)),
        MAX_RUNS_IN,
        assets_of(partner, Direction.IN),
    )


def _in_open_hours(partner: Partner, closed: Mapping[str, Sequence[str] | None]) -> list[str]:
    """Those tenants, of whom each has closed times, in whose hours the partner takes calls now.

    One whose times cannot be read is among them, so that its own reading says so and no other one waits for it.
    """
    now = datetime.now(UTC)

    def is_open(own: Sequence[str] | None) -> bool:
        try:
            return partner.closed_until(own, now) is None
        except WindowSyntaxError:
            return True

    return [tenant for tenant, own in closed.items() if is_open(own)]


def new_edits(partner: Partner) -> Demand:
    """Asked between the minutes for the way out."""
    return Demand(
        "new_edits",
        partner,
        Direction.OUT,
        "a new edit, or what a push left that died or was cut short",
        lambda tx: due.urgent(tx, partner.name),
        MAX_RUNS_AT_ONCE,
        assets_of(partner, Direction.OUT),
    )


def new_master_changes(partner: Partner) -> Demand:
    """Asked between the minutes for what was read and not applied."""
    return Demand(
        "new_master_changes",
        partner,
        Direction.IN,
        "a new master change",
        lambda tx: due.open_master_changes(tx, partner.name),
        MAX_RUNS_AT_ONCE,
        [applied(partner, entity) for entity in partner.masters],
    )


def still_due(services: Services, partner: Partner, tags: Mapping[str, str], tenants: Sequence[str]) -> Sequence[str]:
    """Of a run's tenants, those for whom the demand that its tags name still holds; all, if a person asked for it.

    They come in the order in which they are to be taken.

    A run of one tenant that repeats another works for it in any case: the one before may have died after a reading,
    which makes its tenant due no more, and before what follows from it. After one of many, whoever was cut off there
    waits for the next reading, which takes up all that landed: `land_every` at most. Raises StoreError.
    """
    asked = (pushes_due, readings_due, new_edits, new_master_changes)
    demand = next((each for each in (ask(partner) for ask in asked) if each.name == tags.get(DEMAND)), None)
    if demand is None or (_REPEATS in tags and len(tenants) == 1):
        return tenants
    with services.database.transaction(Login.SCHEDULE, None) as tx:
        wanted = demand.who(tx)
    # Nothing tells which reading has waited longest, so they come in any order: slow ones at the front would else keep
    # those behind them from their turn, run after run.
    in_order = wanted if demand.direction is Direction.OUT else random.sample(wanted, len(wanted))
    among = frozenset(tenants)
    return [tenant for tenant in in_order if tenant in among]
