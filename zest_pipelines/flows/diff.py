"""diff: what landed against what was last applied, one master change for each record that moved.

A field has changed if it means something else. One that is only spelled otherwise is written as it is spelled now, with
the record's change, and counts as none: neither in the report nor for the guard.
"""

from __future__ import annotations

import time
from collections import Counter

from partners.contract import Entity, Partner
from resources.logins import Login
from zest_pipelines.core.difference import difference
from zest_pipelines.flows.reports import DiffReport
from zest_pipelines.flows.services import Services
from zest_pipelines.store import masters
from zest_pipelines.store.masters import MasterChange, Scope, Step


def diff(services: Services, partner: Partner, tenant: str, entity: Entity) -> DiffReport:
    """Write the master changes of one entity. Raises StoreError."""
    started = time.monotonic()
    scope = Scope(tenant, partner.name, entity)
    with services.database.transaction(Login.DIFF, tenant) as tx:
        masters.lock_application(tx, scope)  # else what is being applied would be taken for new, and pass the guard
        changes = [_change(step) for step in masters.steps(tx, scope)]
        masters.add_changes(tx, scope, changes)
    kinds = Counter(change.kind for change in changes)
    return DiffReport(
        entity,
        added=kinds["add"],
        changed=sum(change.kind == "change" and bool(change.fields) for change in changes),
        deleted=kinds["delete"],
        unmappable=kinds["unmappable"],
        seconds=time.monotonic() - started,
    )


def _change(step: Step) -> MasterChange:
    if step.problem is not None:
        return MasterChange(
            step.partner_id, step.landed_no, "unmappable", (), step.applied, None, step.problem, step.params
        )
    found = difference(step.applied, step.master)
    kind = "delete" if step.master is None else "add" if step.applied is None else "change"
    return MasterChange(step.partner_id, step.landed_no, kind, found.moved, step.applied, step.master)
