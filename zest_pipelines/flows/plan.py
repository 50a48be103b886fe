"""What an application would do: who each record is, how much would be written, and what the guard says of that.

Made under the application's lock and carried out in the same transaction; or made to be looked at, and forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from partners.contract import Partner, PointRead
from zest_pipelines.core.guard import NOTHING_BESIDE, Beside, Counts, Held, hold
from zest_pipelines.core.identity import (
    Act,
    Judgement,
    Known,
    Linked,
    Master,
    New,
    Newcomer,
    Question,
    Rule,
    Waiting,
    judge,
)
from zest_pipelines.core.matching import match
from zest_pipelines.core.normalise import is_same
from zest_pipelines.store import identities, masters
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.identities import Said
from zest_pipelines.store.masters import MasterChange, OpenChange, Scope


@dataclass(frozen=True)
class Planned:
    """One open change and who it is about."""

    opened: OpenChange
    verdict: Judgement | None
    """None: there is nobody to be told, since it is superseded, cannot be mapped, or says that the record is gone."""
    said_at: datetime | None = None
    """When a person last said something about it."""
    retires: bool = False
    """Whether the linked master loses the partner's last id for it, or is told to be gone."""

    counted: MasterChange | None = None
    """What the guard counts, which would change or retire a master that is in force; None: nothing."""


@dataclass(frozen=True)
class Plan:
    """All of one application."""

    changes: tuple[Planned, ...]
    counts: Counts
    population: int
    """Records in force before, against which the guard measures."""
    beside: Beside
    """What counts with its deletes and changes, if it has any."""

    def held(self, approved: Counts | None = None) -> Held | None:
        """What the guard holds of it."""
        return hold(self.counts, self.population, approved, self.beside)


def plan(tx: Transaction, scope: Scope, partner: Partner) -> Plan:
    """What is to become of the scope's open changes. `partner`: the scope's."""
    opened = masters.open_changes(tx, scope)
    words = identities.words(tx, scope) if opened else {}
    asked = [
        each for each in opened if each.is_newest and each.change.after is not None and each.change.problem is None
    ]
    verdicts = _verdicts(tx, scope, asked, words) if asked else {}
    linked = {verdict.record_id for verdict in verdicts.values() if isinstance(verdict, Linked)}
    asked_for = [*_written_over(opened, verdicts, words), *_told_gone(opened)]
    standing = masters.as_they_stand(tx, scope, asked_for) if asked_for else {}
    changes = tuple(_planned(each, verdicts, words, linked, standing) for each in opened)
    counts = _counts(changes)
    beside = beside_deletes(tx, scope, partner) if counts.deletes else NOTHING_BESIDE
    if counts.changed:
        ids = [each.counted.partner_id for each in changes if each.counted is not None]
        beside = replace(beside, changed=masters.changed_lately(tx, scope, ids))
    return Plan(changes, counts, masters.population(tx, scope), beside)


def beside_deletes(tx: Transaction, scope: Scope, partner: Partner) -> Beside:
    """What the guard counts with deletes, now."""
    return masters.beside(tx, scope, are_asked_for=isinstance(partner.capability.proves_absence, PointRead))


def _planned(
    opened: OpenChange,
    verdicts: Mapping[int, Judgement],
    words: Mapping[str, Said],
    linked: Collection[UUID],
    standing: Mapping[UUID, Master],
) -> Planned:
    said, verdict = words.get(opened.change.partner_id), verdicts.get(opened.change.landed_no)
    retires = _retires(opened, verdict, linked)
    counted = _counted(opened, verdict, standing, retires=retires)
    return Planned(opened, verdict, None if said is None else said.at, retires, counted)


def _written_over(
    opened: Sequence[OpenChange], verdicts: Mapping[int, Judgement], words: Mapping[str, Said]
) -> list[UUID]:
    """Our records into which a partner writes what it said while another one owned them, or before they were retired:
    how its own word has changed does not tell what changes in them."""
    found = []
    for each in opened:
        verdict, said = verdicts.get(each.change.landed_no), words.get(each.change.partner_id)
        is_new_owner = said is not None and said.word.act is Act.OWN
        if each.is_owner and isinstance(verdict, Known) and (each.change.kind == "add" or is_new_owner):
            found.append(verdict.record_id)
    return found


def _told_gone(opened: Sequence[OpenChange]) -> list[UUID]:
    """Our records of which their owner says that they are gone: some may be in force no longer."""
    return [
        each.link.record_id
        for each in opened
        if each.link is not None and each.is_owner and each.is_newest and each.change.kind == "delete"
    ]


def _counted(
    opened: OpenChange, verdict: Judgement | None, standing: Mapping[UUID, Master], *, retires: bool
) -> MasterChange | None:
    """`standing`: masters as they stand, of those written over and of those told to be gone."""
    change = opened.change
    if not opened.is_newest or opened.link is None or not opened.is_owner:
        return None
    if change.kind == "delete":
        return change if retires and standing[opened.link.record_id]["active"] else None
    if not isinstance(verdict, Known) or change.after is None:
        return None
    before = standing.get(verdict.record_id)
    if before is None:
        return change if change.kind == "change" else None
    fields = tuple(
        name for name, value in change.after.items() if name in before and not is_same(name, before[name], value)
    )
    return replace(change, kind="change", before=before, fields=fields) if before["active"] and fields else None


def _retires(opened: OpenChange, verdict: Judgement | None, linked: Collection[UUID]) -> bool:
    """`linked`: those of our records that get another id at the partner by this very plan."""
    link = opened.link
    if link is None or not opened.is_owner or not opened.is_newest or link.is_taken or link.record_id in linked:
        return False
    return opened.change.kind == "delete" or isinstance(verdict, New | Linked)


def _counts(changes: Sequence[Planned]) -> Counts:
    counted = [each.counted for each in changes if each.counted is not None]
    named = [(change, name) for change in counted if change.kind == "change" for name in change.fields]
    fields = Counter(name for change, name in named if not (change.ends and name == "active"))
    return Counts(deletes=sum(change.ends for change in counted), changed=dict(fields))


def _verdicts(
    tx: Transaction, scope: Scope, asked: Sequence[OpenChange], words: Mapping[str, Said]
) -> dict[int, Judgement]:
    """Who each is, by the landed version's number."""
    rule = identities.rule(tx, scope)
    linked = [said.word.record_id for said in words.values() if said.word.act is Act.LINK and said.word.record_id]
    free = identities.free(tx, scope, linked) if linked else {}
    found: dict[int, Judgement] = {}
    newcomers: dict[int, Master] = {}
    for each in asked:
        number, after, said = each.change.landed_no, each.change.after, words.get(each.change.partner_id)
        assert after is not None  # the caller has looked
        verdict = judge(scope.entity, after, each.link, rule, None if said is None else said.word)
        if isinstance(verdict, Newcomer):
            newcomers[number] = after
        else:
            found[number] = _still_free(verdict, free)
    taken = {verdict.record_id for verdict in found.values() if isinstance(verdict, Linked)}
    return found | _matched(tx, scope, newcomers, rule, taken)


def _still_free(verdict: Judgement, free: dict[UUID, bool]) -> Judgement:
    """A person's link, unless ours was linked meanwhile; each of ours is given away once. `free`: see `identities`."""
    if not isinstance(verdict, Linked):
        return verdict
    if verdict.record_id not in free:
        return Waiting(Question.AMBIGUOUS, (verdict.record_id,))
    return replace(verdict, is_owner=free.pop(verdict.record_id))


def _matched(
    tx: Transaction, scope: Scope, newcomers: Mapping[int, Master], rule: Rule, taken: set[UUID]
) -> dict[int, Judgement]:
    if not newcomers:
        return {}
    ours = identities.candidates(tx, scope) if rule.match_on else ()
    return {**match(newcomers, ours, rule.match_on, taken)}
