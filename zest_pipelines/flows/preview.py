"""preview: what the mapping at hand would do to the masters, before it does it. Writes nothing.

The contents that landed last are mapped once more, with the code as it is and the settings that somebody thinks of, and
held against what was last applied, a record at a time: nothing is kept but counts and a few opaque ids. What a content
cannot tell any more stays as it was: one that could not be stored when it came is not mapped anew.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from partners.contract import Entity, Partner, SourceRecord
from resources.logins import Login
from zest_pipelines.core.difference import Difference, Kind, difference
from zest_pipelines.core.guard import Beside, Counts, Held, hold
from zest_pipelines.core.identifiers import landed_id
from zest_pipelines.flows.plan import beside_deletes
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.versions import Hashed, Mapper, Taken, is_stand_in
from zest_pipelines.store import approvals, history, masters, tenants
from zest_pipelines.store.history import NewestContent
from zest_pipelines.store.landed import NewVersion
from zest_pipelines.store.masters import Scope

MOST_EXAMPLES = 3
"""Records named for each field and reason."""


@dataclass(frozen=True)
class PreviewReport:
    """What would come of the next reading, if the partner had changed nothing since the last one."""

    entity: str
    records: int = 0
    """That the partner has, by what landed last."""
    added: int = 0
    """Of a connection that makes no masters: looked for among ours, and linked or kept waiting."""
    makes_masters: bool = True
    changed: int = 0
    unchanged: int = 0
    respelled: int = 0
    """Of the unchanged: written otherwise than before, and meaning the same."""
    deleted: int = 0
    unmappable: int = 0
    fields: Mapping[str, int] = field(default_factory=dict)
    """Records that would change in a field, by its name."""
    newly_unmappable: Mapping[str, int] = field(default_factory=dict)
    """Records that could be mapped when they landed and no more, by the reason's code."""
    cured: Mapping[str, int] = field(default_factory=dict)
    """Records that could not be mapped when they landed and can be now, by the reason that falls away."""
    population: int = 0
    """Records in force, against which the guard measures."""
    held_deletes: int = 0
    """How many deletes the guard would hold, whatever is approved."""
    held_fields: Mapping[str, int] = field(default_factory=dict)
    approved_deletes: int = 0
    """How many deletes it would let through for the approval that stands: it would hold as many without."""
    approved_fields: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Opaque ids of some records, by the field or the new reason."""
    seconds: float = field(default=0.0, compare=False)

    @property
    def is_held(self) -> bool:
        """Whether the mass-change guard would hold any of it."""
        return bool(self.held_deletes or self.held_fields)


@dataclass
class _Counted:
    """What was seen so far: counts, and never a record."""

    kinds: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)
    deletes: int = 0
    """Of those that are deleted or become inactive, what the guard counts."""
    written: Counter[str] = field(default_factory=Counter)
    """Of the records that change in a field, those that the guard counts."""
    newly: Counter[str] = field(default_factory=Counter)
    cured: Counter[str] = field(default_factory=Counter)
    examples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def take(self, newest: NewestContent, version: NewVersion) -> None:
        """Count one record, with the version that it would land as."""
        self.kinds["records"] += newest.content is not None
        if version.problem is not None:
            self.kinds["unmappable"] += 1
            if newest.problem is None:
                self.newly[version.problem] += 1
                self._show(version.problem, newest)
            return
        if newest.problem is not None:
            self.cured[newest.problem] += 1
        self._compare(newest, difference(newest.applied, version.master))

    def _compare(self, newest: NewestContent, found: Difference) -> None:
        kind, moved = found.kind, found.moved
        if kind is Kind.CHANGE and not moved:
            self.kinds["respelled"] += 1
            kind = Kind.NONE
        self.kinds[kind] += newest.content is not None or kind is Kind.DELETE
        ends = kind is Kind.CHANGE and any(
            each.name == "active" and each.before and not each.after for each in found.fields
        )
        was_in_force = newest.applied is not None and bool(newest.applied["active"])
        self.deletes += newest.is_owner and (ends or (kind is Kind.DELETE and was_in_force))
        if kind is Kind.CHANGE:
            self.fields.update(moved)
            if newest.is_owner:
                self.written.update(name for name in moved if not (ends and name == "active"))
            for name in moved:
                self._show(name, newest)

    def _show(self, what: str, newest: NewestContent) -> None:
        if len(self.examples[what]) < MOST_EXAMPLES:
            self.examples[what].append(landed_id(newest.landed_no))


def preview(
    services: Services, partner: Partner, tenant: str, entity: Entity, settings: Mapping[str, str]
) -> PreviewReport:
    """What mapping anew would do, with `settings` over the connection's own. Raises StoreError."""
    started = time.monotonic()
    scope, counted = Scope(tenant, partner.name, entity), _Counted()
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        row = tenants.connection(tx, tenant, partner.name)
        population, beside = masters.population(tx, scope), beside_deletes(tx, scope, partner)
        fresh = [each.ceiling for each in approvals.standing(tx, scope) if each.is_fresh]
        mapper = Mapper(partner, entity, {**row.connection.settings, **settings})
        for newest in history.newest_contents(tx, scope):
            counted.take(newest, _mapped(mapper, newest).version)
    approved = fresh[-1] if fresh else None  # as the next application does
    report = _report(entity, counted, population, beside, approved)
    return replace(report, makes_masters=entity in row.creates, seconds=time.monotonic() - started)


def _mapped(mapper: Mapper, newest: NewestContent) -> Taken:
    """The version as which the content would land, but for its fingerprint."""
    if newest.content is None:
        return Taken(NewVersion("", None))
    if is_stand_in(newest.content):
        return Taken(NewVersion("", b"", problem=newest.problem, params=newest.params))
    return mapper.taken(Hashed(SourceRecord("", "", dict(newest.content)), b"", spelled=""))


def _report(
    entity: Entity, counted: _Counted, population: int, beside: Beside, approved: Counts | None
) -> PreviewReport:
    kinds, nothing = counted.kinds, Held(0, {})
    counts = Counts(deletes=counted.deletes, changed=dict(counted.written))
    held = hold(counts, population, approved, beside) or nothing
    unasked = hold(counts, population, None, beside) or nothing
    return PreviewReport(
        entity,
        records=kinds["records"],
        added=kinds[Kind.ADD],
        changed=kinds[Kind.CHANGE],
        unchanged=kinds[Kind.NONE],
        respelled=kinds["respelled"],
        deleted=kinds[Kind.DELETE],
        unmappable=kinds["unmappable"],
        fields=dict(counted.fields.most_common()),
        newly_unmappable=dict(counted.newly.most_common()),
        cured=dict(counted.cured.most_common()),
        population=population,
        held_deletes=held.deletes,
        held_fields=held.changed,
        approved_deletes=unasked.deletes - held.deletes,
        approved_fields={name: records for name, records in unasked.changed.items() if name not in held.changed},
        examples={what: tuple(records) for what, records in counted.examples.items()},
    )
