"""apply: carry master changes into the product's masters, each with exactly one result.

The mass-change guard judges the very set that is about to be written, in the transaction that writes it, and a person's
approval is used up there. Whoever may be somebody else waits. A record that the database refuses is undone by itself
and rejected; its neighbours go on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence

from partners.contract import Entity, Partner
from resources.logins import Login
from zest_pipelines.core.identifiers import landed_id
from zest_pipelines.flows.ending import GUARDED, UNTOLD, EndedChange, Guard, end
from zest_pipelines.flows.plan import Plan, plan
from zest_pipelines.flows.reports import MOST_PROBLEMS, ApplyReport, Problem
from zest_pipelines.flows.services import Services
from zest_pipelines.store import approvals, identities, masters
from zest_pipelines.store.approvals import Approval
from zest_pipelines.store.masters import MasterResult, Scope, Unsettled


def apply(services: Services, partner: Partner, tenant: str, entity: Entity) -> ApplyReport:
    """Apply one entity's open master changes. Raises StoreError."""
    started = time.monotonic()
    scope = Scope(tenant, partner.name, entity)
    with services.database.transaction(Login.APPLY, tenant) as tx:
        masters.lock_application(tx, scope)
        identities.undo(tx, scope)
        identities.change_owners(tx, scope)
        planned = plan(tx, scope, partner)
        guard, uses = _asked(planned, approvals.standing(tx, scope))
        ended = [EndedChange(each, end(tx, scope, each, guard)) for each in planned.changes]
        masters.add_results(tx, scope, [each.result for each in ended if each.is_news])
        for approval, outcome in uses:  # after the results: what was deleted before a yes was used counts no more
            approvals.use(tx, scope, approval, outcome, planned.counts)
    with services.database.transaction(Login.DIFF, tenant) as tx:
        standing = masters.standing(tx, scope)
        rejected = masters.unsettled(tx, scope, "rejected", MOST_PROBLEMS) if standing.rejected else ()
        left = masters.unsettled(tx, scope, None, MOST_PROBLEMS) if standing.left else ()
    results = [each.result for each in ended]
    outcomes, held = Counter(result.outcome for result in results), guard.held
    return ApplyReport(
        entity,
        applied=outcomes["applied"],
        superseded=outcomes["superseded"],
        held=outcomes["held"],
        rejected=outcomes["rejected"],
        waiting=sum(result.outcome == "held" and result.reason in UNTOLD for result in results),
        population=planned.population,
        deletes=planned.counts.deletes,
        changed=planned.counts.changed,
        held_deletes=held.deletes if held else 0,
        held_fields=held.changed if held else {},
        deleted_lately=held.beside.lately if held else 0,
        suspects=held.beside.suspects if held else 0,
        changed_lately=held.beside.changed if held else {},
        problems=(*_held(entity, results, GUARDED), *_held(entity, results, UNTOLD), *_rejected(entity, rejected)),
        left_behind=tuple(landed_id(each.landed_no) for each in left),
        landed_records=standing.landed,
        applied_records=standing.applied,
        rejected_records=standing.rejected,
        held_records=standing.held,
        seconds=time.monotonic() - started,
    )


def _asked(planned: Plan, standing: Sequence[Approval]) -> tuple[Guard, list[tuple[Approval, str]]]:
    """The guard's answer, by the newest approval that is fresh; and what each one there, all used up now, did."""
    guard, uses = Guard(planned.held()), []
    for approval in reversed(standing):
        outcome = "expired" if not approval.is_fresh else "not_needed"
        if approval.is_fresh and guard.held is not None and guard.exceeded is None:
            guard, outcome = _approved(planned, approval)
        uses.append((approval, outcome))
    return guard, uses


def _approved(planned: Plan, approval: Approval) -> tuple[Guard, str]:
    held = planned.held(approval.ceiling)
    return (Guard(None), "let_through") if held is None else (Guard(held, approval.ceiling), "exceeded")


def _held(entity: Entity, results: Sequence[MasterResult], reasons: Collection[str]) -> Sequence[Problem]:
    """The first of those that are held for one of these reasons."""
    return [
        Problem(entity, landed_id(result.landed_no), result.outcome, result.reason, result.params)
        for result in results
        if result.outcome == "held" and result.reason is not None and result.reason in reasons
    ][:MOST_PROBLEMS]


def _rejected(entity: Entity, rejected: Sequence[Unsettled]) -> Sequence[Problem]:
    """Those of this run and of earlier ones: each still waits for the partner's correction."""
    return [
        Problem(entity, landed_id(each.landed_no), "rejected", each.reason, each.params)
        for each in rejected
        if each.reason is not None  # the table's own rule
    ]
