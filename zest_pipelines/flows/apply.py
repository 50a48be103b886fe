"""apply: carry master changes into the product's masters, each with exactly one result.

The mass-change guard judges the very set that is about to be written, in the transaction that writes it. A record that
the database refuses is undone by itself and rejected; its neighbours go on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from partners.contract import Entity, Partner
from resources.logins import Login
from zest_pipelines.core.guard import Counts, Held, hold
from zest_pipelines.flows.reports import ApplyReport, Problem
from zest_pipelines.flows.services import Services
from zest_pipelines.store import masters
from zest_pipelines.store.database import Transaction, savepoint
from zest_pipelines.store.errors import ConstraintError
from zest_pipelines.store.masters import MasterResult, OpenChange, Scope, Unsettled

MOST_PROBLEMS = 20


@dataclass(frozen=True)
class _Ended:
    """One change and its result; a held one that was held before for the same reason gets no second row."""

    opened: OpenChange
    result: MasterResult

    @property
    def is_news(self) -> bool:
        return self.result.outcome != "held" or self.opened.held_for != self.result.reason


def apply(services: Services, partner: Partner, tenant: str, entity: Entity) -> ApplyReport:
    """Apply one entity's open master changes. Raises StoreError."""
    started = time.monotonic()
    scope = Scope(tenant, partner.name, entity)
    with services.database.transaction(Login.APPLY, tenant) as tx:
        masters.lock_application(tx, scope)
        changes = masters.open_changes(tx, scope)
        counts, population = _counts(changes), masters.population(tx, scope)
        held = hold(counts, population)
        ended = [_Ended(change, _end(tx, scope, change, held)) for change in changes]
        masters.add_results(tx, scope, [each.result for each in ended if each.is_news])
    with services.database.transaction(Login.DIFF, tenant) as tx:
        standing = masters.standing(tx, scope)
        rejected = masters.unsettled(tx, scope, "rejected", MOST_PROBLEMS) if standing.rejected else ()
        left = masters.unsettled(tx, scope, None, MOST_PROBLEMS) if standing.left else ()
    outcomes = Counter(each.result.outcome for each in ended)
    return ApplyReport(
        entity,
        applied=outcomes["applied"],
        superseded=outcomes["superseded"],
        held=outcomes["held"],
        rejected=outcomes["rejected"],
        population=population,
        deletes=counts.deletes,
        changed=counts.changed,
        held_deletes=held.deletes if held else 0,
        held_fields=held.changed if held else {},
        problems=(*_held(entity, [each.result for each in ended]), *_rejected(entity, rejected)),
        left_behind=tuple(_opaque(each.landed_no) for each in left),
        landed_records=standing.landed,
        applied_records=standing.applied,
        rejected_records=standing.rejected,
        held_records=standing.held,
        seconds=time.monotonic() - started,
    )


def _counts(changes: Sequence[OpenChange]) -> Counts:
    """How much is about to be written: only what would be."""
    live = [each.change for each in changes if each.is_newest]
    fields = Counter(name for change in live if change.kind == "change" for name in change.fields)
    return Counts(deletes=sum(change.kind == "delete" for change in live), changed=dict(fields))


def _end(tx: Transaction, scope: Scope, opened: OpenChange, held: Held | None) -> MasterResult:
    change = opened.change
    if not opened.is_newest:
        return MasterResult(change.partner_id, change.landed_no, "superseded")
    if change.kind == "unmappable":
        assert change.problem is not None  # the table's own rule
        return MasterResult(change.partner_id, change.landed_no, "rejected", change.problem, change.params)
    if held is not None and _is_held(opened, held):
        return MasterResult(change.partner_id, change.landed_no, "held", "mass_change_held", {"why": _words(held)})
    try:
        with savepoint(tx):
            return _write(tx, scope, opened)
    except ConstraintError as error:
        params = {"field": error.constraint or error.sqlstate}
        return MasterResult(change.partner_id, change.landed_no, "rejected", "field_invalid", params)


def _is_held(opened: OpenChange, held: Held) -> bool:
    if opened.change.kind == "delete":
        return held.deletes > 0
    return opened.change.kind == "change" and any(name in held.changed for name in opened.change.fields)


def _words(held: Held) -> str:
    """What is too much: `12 deletes, 90 x address`."""
    deletes = [f"{held.deletes} deletes"] if held.deletes else []
    return ", ".join([*deletes, *(f"{records} x {name}" for name, records in sorted(held.changed.items()))])


def _write(tx: Transaction, scope: Scope, opened: OpenChange) -> MasterResult:
    change, record_id = opened.change, opened.record_id
    if change.after is None:
        if record_id is not None:
            masters.retire_master(tx, scope, record_id)
    else:
        if record_id is None:
            record_id = uuid4()
            masters.identify(tx, scope, change.partner_id, record_id, change.after["number"])
        masters.put_master(tx, scope, record_id, change.after)
    return MasterResult(change.partner_id, change.landed_no, "applied", record_id=record_id)


def _held(entity: Entity, results: Sequence[MasterResult]) -> Sequence[Problem]:
    return [
        Problem(entity, _opaque(result.landed_no), result.outcome, result.reason, result.params)
        for result in results
        if result.outcome == "held" and result.reason is not None
    ][:MOST_PROBLEMS]


def _rejected(entity: Entity, rejected: Sequence[Unsettled]) -> Sequence[Problem]:
    """Those of this run and of earlier ones: each still waits for the partner's correction."""
    return [
        Problem(entity, _opaque(each.landed_no), "rejected", each.reason, each.params)
        for each in rejected
        if each.reason is not None  # the table's own rule
    ]


def _opaque(landed_no: int) -> str:
    """What stands for the partner's own id, which may be the number by which people know the patient."""
    return f"landed:{landed_no}"
