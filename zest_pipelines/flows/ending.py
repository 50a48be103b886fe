"""How each master change ends: written, rejected, or held for a person, with one result.

Whoever may be somebody else is not written, and until a person has spoken nothing goes to the partner under that id
either: the link is not valid meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID, uuid4

from zest_pipelines.core.guard import Counts, Held
from zest_pipelines.core.identity import Known, Linked, New, Question, Waiting
from zest_pipelines.flows.plan import Planned
from zest_pipelines.store import identities, masters
from zest_pipelines.store.database import Transaction, savepoint
from zest_pipelines.store.errors import ConstraintError
from zest_pipelines.store.masters import MasterChange, MasterResult, OpenChange, Scope

HELD, GREW = "mass_change_held", "mass_change_grew"
GUARDED: Collection[str] = (HELD, GREW)
"""Reasons for which the guard holds a change."""
UNTOLD: Collection[str] = tuple(question.value for question in Question)
"""Reasons for which a record waits until a person says who it is."""
_MOST_RECORDS = 5
"""Of ours, named to whoever has to say which of them a partner's record is."""
_FIELDS_RULE = re.compile(r"(?:client|staff)_([a-z_]+)_check")
"""How a constraint is called that is about one field of a master."""
_ONE_ID_A_RECORD = "identity_of_"
"""How the names of the constraints begin that keep a record from having two ids at a partner, or two owners."""


@dataclass(frozen=True)
class Guard:
    """What the guard says of an application, and whether a person had approved something."""

    held: Held | None
    exceeded: Counts | None = None
    """The ceiling of an approval that was used and was not enough."""


@dataclass(frozen=True)
class EndedChange:
    """One change and its result."""

    planned: Planned
    result: MasterResult

    @property
    def is_news(self) -> bool:
        """A held one that was held before for the same reason gets no second row, unless a person has said something
        that ended in nothing."""
        opened, result = self.planned.opened, self.result
        if result.outcome != "held" or opened.held_at is None or opened.held_for != result.reason:
            return True
        is_other = opened.held_params != result.params and result.reason not in GUARDED
        said_at = self.planned.said_at
        return is_other or (said_at is not None and said_at > opened.held_at)


def end(tx: Transaction, scope: Scope, planned: Planned, guard: Guard) -> MasterResult:
    """Carry out one change of a plan, or say why not."""
    opened, change = planned.opened, planned.opened.change
    if not opened.is_newest:
        return MasterResult(change.partner_id, change.landed_no, "superseded")
    if change.kind == "unmappable":
        assert change.problem is not None  # the table's own rule
        return MasterResult(change.partner_id, change.landed_no, "rejected", change.problem, change.params)
    if isinstance(planned.verdict, Waiting):
        return _wait(tx, scope, opened, planned.verdict)
    if guard.held is not None and planned.counted is not None and _is_held(planned.counted, guard.held):
        return _hold(opened, guard.held, guard.exceeded)
    try:
        with savepoint(tx):
            return MasterResult(change.partner_id, change.landed_no, "applied", record_id=_write(tx, scope, planned))
    except ConstraintError as error:
        return _refused(opened, error)


def _wait(tx: Transaction, scope: Scope, opened: OpenChange, found: Waiting) -> MasterResult:
    change = opened.change
    if opened.link is not None and opened.link.is_valid:
        identities.close(tx, scope, change.partner_id)
    records = ", ".join(str(each) for each in found.records[:_MOST_RECORDS])
    params = {"records": records} if records else {}
    return MasterResult(change.partner_id, change.landed_no, "held", found.why.value, params)


def _hold(opened: OpenChange, held: Held, exceeded: Counts | None) -> MasterResult:
    change, why = opened.change, words(held)
    if exceeded is not None:
        params = {"why": why, "approved": words(exceeded)}
        return MasterResult(change.partner_id, change.landed_no, "held", GREW, params)
    if opened.held_for == GREW:  # it goes on being said until somebody has looked
        return MasterResult(change.partner_id, change.landed_no, "held", GREW, opened.held_params)
    return MasterResult(change.partner_id, change.landed_no, "held", HELD, {"why": why})


def _is_held(counted: MasterChange, held: Held) -> bool:
    if counted.ends and held.deletes:
        return True
    return counted.kind == "change" and any(name in held.changed for name in counted.fields)


def words(much: Held | Counts) -> str:
    """How much it is: `12 deletes, 90 x address`."""
    deletes = [f"{much.deletes} deletes{_beside(much) if isinstance(much, Held) else ''}"] if much.deletes else []
    others = much.beside.changed if isinstance(much, Held) else {}
    more = {name: f" ({records} more within an hour)" for name, records in others.items()}
    changed = [f"{records} x {name}{more.get(name, '')}" for name, records in sorted(much.changed.items())]
    return ", ".join([*deletes, *changed])


def _beside(held: Held) -> str:
    found = {"more within a day": held.beside.lately, "suspect": held.beside.suspects}
    said = ", ".join(f"{records} {what}" for what, records in found.items() if records)
    return f" ({said})" if said else ""


def _refused(opened: OpenChange, error: ConstraintError) -> MasterResult:
    """What the database would not take. A link that somebody else has is a question of who is who."""
    change, broken = opened.change, error.constraint or error.sqlstate
    if broken.startswith(_ONE_ID_A_RECORD):
        return MasterResult(change.partner_id, change.landed_no, "held", Question.AMBIGUOUS.value)
    of_a_field = _FIELDS_RULE.fullmatch(broken)
    field = broken if of_a_field is None else of_a_field[1]
    return MasterResult(change.partner_id, change.landed_no, "rejected", "field_invalid", {"field": field})


def _write(tx: Transaction, scope: Scope, planned: Planned) -> UUID | None:
    """Write what the change says; returns our record, None if it never was one of ours."""
    opened = planned.opened
    match planned.verdict:
        case Known(record_id):
            _keep(tx, scope, opened, record_id)
        case Linked(record_id, owns):
            _leave(tx, scope, planned)
            identities.identify(tx, scope, opened.change.partner_id, record_id, _number(opened), is_owner=owns)
            if owns:
                _put(tx, scope, opened, record_id)
        case New():
            record_id = uuid4()
            _leave(tx, scope, planned)
            identities.identify(tx, scope, opened.change.partner_id, record_id, _number(opened))
            _put(tx, scope, opened, record_id)
        case _:  # it is gone
            if opened.link is None:
                return None
            record_id = opened.link.record_id
            if planned.retires:
                masters.retire_master(tx, scope, record_id)
    return record_id


def _keep(tx: Transaction, scope: Scope, opened: OpenChange, record_id: UUID) -> None:
    partner_id, number, link = opened.change.partner_id, _number(opened), opened.link
    if link is not None and not link.is_valid:
        identities.identify(tx, scope, partner_id, record_id, number, is_owner=opened.is_owner)
    elif link is not None and (link.known is None or link.known["number"] != number):
        identities.renumber(tx, scope, partner_id, number)
    if opened.is_owner:
        _put(tx, scope, opened, record_id)


def _leave(tx: Transaction, scope: Scope, planned: Planned) -> None:
    """The id means somebody else from now on: whom it meant is not the partner's any more, but for another id of it."""
    link = planned.opened.link
    if link is None:
        return
    if link.is_valid:
        identities.close(tx, scope, planned.opened.change.partner_id)
    if planned.retires:
        masters.retire_master(tx, scope, link.record_id)


def _put(tx: Transaction, scope: Scope, opened: OpenChange, record_id: UUID) -> None:
    assert opened.change.after is not None  # of whom it is told, there is something to write
    masters.put_master(tx, scope, record_id, opened.change.after)


def _number(opened: OpenChange) -> str:
    assert opened.change.after is not None  # as above
    return str(opened.change.after["number"])
