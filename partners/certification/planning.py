"""Rows about plans that others make: what lands of them, and what takes the place of what.

The platform keeps of each client and month what was said last, by `Plan.said_at`. So do these rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date

from partners.certification.bench import NotOffered
from partners.certification.reading import ShutGate
from partners.certification.trial import Trial, broken, require
from partners.contract import Entity, Plan, PlanPage
from partners.errors import Deferred
from partners.reasons import UnknownReason, reason

Whose = tuple[str, date]


def complete(trial: Trial) -> None:
    """Each client's month comes once, with all that is planned in it."""
    _gives_plans(trial)
    bench = trial.bench
    for count in (1, bench.sizes[Entity.PLAN].page + 1):
        expected = bench.hold_plans(count)
        pages = trial.read_plans()
        told = [plan for page in pages for plan in page.plans]
        require(len(told) == len({_whose(plan) for plan in told}), "a client's month came twice")
        require(pages[-1].cursor is not None, "the reading ends without a cursor")
        _stands(expected, _standing(pages))


def same_again(trial: Trial) -> None:
    """What nobody has changed is told the same again, with the same time; a reading of changes ends."""
    _gives_plans(trial)
    if not trial.bench.is_real:
        trial.bench.hold_plans(3)
    pages = trial.read_plans()
    before = {_whose(plan): plan for page in pages for plan in page.plans}
    if not before:
        raise NotOffered("it has no plan")
    for cursor in (None, pages[-1].cursor):
        again = trial.read_plans(cursor)
        require(again[-1].cursor is not None, "a reading ends without a cursor")
        told = {_whose(plan): plan for page in again for plan in page.plans}
        require(cursor is not None or told.keys() == before.keys(), "other plans came the second time")
        changed = sum(before.get(whose) != plan for whose, plan in told.items())
        require(not changed, f"{changed} of {len(told)} plans are not what they were, and nobody changed them")


def replanned(trial: Trial) -> None:
    """A later plan comes among the changes, and in the whole place of the one before; nobody else's is touched."""
    _gives_plans(trial)
    first, *others = trial.bench.hold_plans(3)
    before = trial.read_plans()
    anew = trial.bench.replan(first)
    _stands([anew, *others], _standing(before, trial.read_plans(before[-1].cursor)))
    _stands([anew, *others], _standing(trial.read_plans()))


def taken_back(trial: Trial) -> None:
    """A plan that was taken back is gone, and told as that."""
    _gives_plans(trial)
    first, *others = trial.bench.hold_plans(3)
    before = trial.read_plans()
    trial.bench.take_back(first)
    gone = replace(first, services=None)
    _stands([gone, *others], _standing(before, trial.read_plans(before[-1].cursor)))
    _stands([gone, *others], _standing(before, trial.read_plans()))


def unreadable_line(trial: Trial) -> None:
    """A line that cannot be read is told with its place, and costs nothing but itself."""
    _gives_plans(trial)
    first, *others = trial.bench.hold_plans(3)
    rest, place = trial.bench.spoil_plan(first)
    told = _standing(trial.read_plans())
    _stands([rest, *others], told)
    bad = told[_whose(first)].bad
    require(len(bad) == 1, f"{len(bad)} lines are told as unreadable, not 1")
    missing = [name for name, said in place.items() if bad[0].params.get(name) != said]
    require(not missing, f"the line's {' and '.join(missing)} is not told")
    trial.reasons[bad[0].reason] = bad[0].params
    try:
        reason(bad[0].reason)
    except UnknownReason:
        broken(f"it waits for {bad[0].reason}, which the catalogue does not have")


def out_of_order(trial: Trial) -> None:
    """What was said before never takes the place of what was said after it, whichever comes first."""
    _gives_plans(trial)
    first, *others = trial.bench.hold_plans(3)
    before = trial.read_plans()
    anew = trial.bench.replan(first)
    after = trial.read_plans(before[-1].cursor)
    trial.bench.plan_before(first)
    late = trial.read_plans(after[-1].cursor)
    _stands([anew, *others], _standing(before, after, late, trial.read_plans()))
    _stands([anew, *others], _standing(trial.read_plans(), late, after, before))


def put_off(trial: Trial) -> None:
    """What the gate puts off ends as Deferred."""
    _gives_plans(trial)
    try:
        trial.read_plans(gate=ShutGate())
    except Deferred:
        return
    broken("plans were read although the gate put it off")


def _gives_plans(trial: Trial) -> None:
    if trial.bench.partner.read_plans is None:
        raise NotOffered("it gives no plans")


def _whose(plan: Plan) -> Whose:
    return plan.client, plan.month


def _standing(*readings: Sequence[PlanPage]) -> Mapping[Whose, Plan]:
    """What is said last of each, as the platform would have it."""
    found: dict[Whose, Plan] = {}
    for plan in (plan for pages in readings for page in pages for plan in page.plans):
        standing = found.get(_whose(plan))
        if standing is None or plan.said_at >= standing.said_at:
            found[_whose(plan)] = plan
    return found


def _stands(expected: Iterable[Plan], told: Mapping[Whose, Plan]) -> None:
    """Broken unless exactly these stand, by whose they are and what is planned."""
    wanted = {_whose(plan): plan for plan in expected}
    missing, more = wanted.keys() - told.keys(), told.keys() - wanted.keys()
    require(not missing, f"{len(missing)} of {len(wanted)} plans did not come")
    require(not more, f"{len(more)} plans came that nobody made")
    differing = [whose for whose, plan in wanted.items() if not _is_same(plan, told[whose])]
    require(not differing, f"{len(differing)} of {len(wanted)} plans are otherwise than they were said last")


def _is_same(wanted: Plan, told: Plan) -> bool:
    if wanted.services is None or told.services is None:
        return wanted.services is told.services
    return sorted(wanted.services, key=repr) == sorted(told.services, key=repr)
