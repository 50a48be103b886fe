"""What to do with one record: which errand to send a lane on, or how it ends without one. No table is looked at.

    plan        a claimed record         -> an errand, or how it ends without a call
    end_by_word a person's word          -> how the version ends by it
    judge       an errand and its answer -> a verdict: how it ended, or what has to follow (`verdicts`)

An intent without an end is doubt, and a record in doubt is never simply sent again: a partner that knows our key gets
the very same command once more, one that can be asked is asked, and where neither is possible a person decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import uuid4

from partners.contract import (
    Capability,
    Command,
    Entity,
    Recovery,
    Verb,
)
from partners.errors import PartnerError, RetryableError
from partners.reasons import ReasonScope
from zest_pipelines.core.backoff import delay
from zest_pipelines.core.classification import Classification
from zest_pipelines.core.coalesce import Op, Version, decide
from zest_pipelines.core.commands import command, idempotency_key
from zest_pipelines.core.outcome import Outcome, RepairOutcome
from zest_pipelines.flows.errands import Errand, Look, Repeat, Send
from zest_pipelines.flows.places import place_of
from zest_pipelines.store.claims import OVERWRITING, Doubt, Due, Suspect
from zest_pipelines.store.keys import Key
from zest_pipelines.store.releases import Act, Decision, FoundRight
from zest_pipelines.store.results import Intent, Repair, Result

OVERWRITTEN = "partner_change_overwritten"
"""The warning on a version that went out over somebody's change at the partner, as the connection's policy says."""
BATCH_REFUSED = "batch_refused"
GO_ON = (OVERWRITING, BATCH_REFUSED)
"""The reasons of attempts that are followed by another one at once."""


@dataclass(frozen=True)
class Rules:
    """What decisions depend on beside the record."""

    capability: Capability
    overwrites: bool
    """The connection's policy for copies that were changed at the partner; False: they are held."""
    now: datetime
    under_way: timedelta
    """How long a call whose answer we have not got may still take effect."""
    random: Callable[[], float]
    classified: Classification = field(default_factory=Classification)
    """What unknown errors of the partner are by now."""

    @property
    def compares_content(self) -> bool:
        """Whether only a look at the partner's copy tells that somebody changed it."""
        return not self.capability.has_version_check and self.can_read_back

    @property
    def can_read_back(self) -> bool:
        """Whether the partner can be asked what it has."""
        return self.capability.recovery in (Recovery.CLIENT_ID, Recovery.SEARCH)

    def backoff(self, attempts: int) -> datetime:
        """When to try again after one more failure."""
        return self.now + delay(attempts + 1, self.random)

    def knows_key(self, doubt: Doubt) -> bool:
        """Whether the partner surely still remembers the key of a doubtful call."""
        lasts = self.capability.key_lasts
        is_old = lasts is not None and self.now - doubt.made_at >= lasts
        return self.capability.recovery is Recovery.KEY and not is_old


End = Result | Repair


def may_be_there(rules: Rules, subject: Due | Suspect) -> bool:
    """Whether how it goes on depends on what became of an earlier call, of which nothing is known: to be looked up.

    A creation is not among them where the partner can be asked: it is looked for in any case.
    """
    if not isinstance(subject, Due) or subject.doubt is not None or subject.key.version == 1:
        return False
    if subject.known is None:
        return subject.op == Op.CANCEL or not rules.can_read_back
    return subject.op == Op.CANCEL and subject.known.is_cancelled


def plan(rules: Rules, subject: Due | Suspect, is_unsure: bool = False) -> Errand | tuple[End, ...]:
    """The errand that takes the record a step on, or how it ends without a call.

    `is_unsure`: an earlier call may have put it there, and a newer edit does not tell.
    """
    if subject.doubt is not None:
        return _out_of_doubt(rules, subject, subject.doubt)
    step = _look(rules, subject) if isinstance(subject, Suspect) else _next(rules, subject, is_unsure)
    return (step,) if isinstance(step, Result | Repair) else step


def end_by_word(decision: Decision) -> Result:
    """How a version ends by a person's word."""
    if decision.act is Act.ABANDON:
        return Result(decision.key, Outcome.ABANDONED, "abandoned_by_person", intent_id=decision.doubt)
    if not decision.was_sent:  # what is there is an older version: this one goes over it
        return Result(decision.key, Outcome.RELEASED, "adopted_by_person", partner_id=decision.partner_id)
    return Result(
        decision.key,
        Outcome.DELIVERED_WITH_WARNING if decision.is_overwriting else Outcome.DELIVERED,
        OVERWRITTEN if decision.is_overwriting else "adopted_by_person",
        intent_id=decision.doubt,
        partner_id=decision.partner_id,
        is_cancelled=decision.op == Op.CANCEL,
    )


def end_of_suspicion(word: FoundRight) -> Repair:
    """How a suspicion ends by a person's word: the partner has the record as it should be."""
    return Repair(
        word.key, RepairOutcome.EQUAL, "adopted_by_person", partner_id=word.partner_id, looked_at=word.decided_at
    )


def grouped(waiting: deque[Errand], batch_size: int, most: int) -> list[tuple[Errand, ...]]:
    """Take up to `most` calls' worth of errands off `waiting`, in its order: one each, or several that go as a batch.

    A batch halves with each attempt of its records. So one that was refused as a whole, or for which the partner never
    answers, comes to the entry that spoils it, and to that alone, whatever dies in between.
    """
    groups: list[tuple[Errand, ...]] = []
    while waiting and len(groups) < most:
        first = waiting.popleft()
        size = max(1, batch_size >> first.subject.attempts) if _is_batchable(first) else 1
        fellows = [each for each in waiting if size > 1 and _is_batchable(each) and _are_fellows(first, each)]
        for each in fellows[: size - 1]:
            waiting.remove(each)
        groups.append((first, *fellows[: size - 1]))
    return groups


def _is_batchable(errand: Errand) -> bool:
    return isinstance(errand, Send) and isinstance(errand.subject, Due) and errand.base is None


def _are_fellows(one: Errand, other: Errand) -> bool:
    return (one.subject.key.entity, one.subject.attempts) == (other.subject.key.entity, other.subject.attempts)


def _next(rules: Rules, due: Due, is_unsure: bool) -> Send | Look | Result:
    if not is_unsure:
        return _write(rules, due, _standing(due))
    return _search(rules, due) if due.known is None else _write(rules, due, Op.UPSERT)


def _search(rules: Rules, due: Due) -> Look | Result:
    """Of a record that may be there under an id that nobody here knows."""
    if not rules.can_read_back:
        return Result(due.key, Outcome.PARKED, "delivery_unsure")
    try:
        return Look(due, command_of(_intent(due, Verb.CANCEL), due.image), None)
    except Exception as error:  # noqa: BLE001  # as in writing
        return Result(due.key, Outcome.PARKED, "internal_error", {"detail": place_of(error)})


def _write(rules: Rules, due: Due, there: Op | None) -> Send | Result:
    """`there`: what the partner was last made to have of it, perhaps."""
    decision = decide(Version(due.key.version, Op(due.op)), due.settled_version, there)
    if isinstance(decision, Outcome):
        return Result(due.key, decision)
    intent = _intent(due, decision)
    try:
        sent = command_of(intent, due.image)
        return Send(due, sent, intent, _expected(rules, due, sent), due.overwriting)
    except Exception as error:  # noqa: BLE001  # before the intent: what we cannot build must not leave doubt
        return Result(due.key, Outcome.PARKED, "internal_error", {"detail": place_of(error)})


def _expected(rules: Rules, due: Due, sent: Command) -> Command | None:
    """What the partner's copy is compared with before `sent` goes: with what was delivered, to see that nobody has
    changed it; of a creation, with itself, where an earlier version ended and nobody here knows whether it is there.
    Where the policy has decided against a change, with itself too: it may differ as it did then, and not otherwise.

    Not where the partner has been heard of it since that was delivered otherwise: a person has decided then.
    """
    if sent.verb is Verb.CREATE:
        return sent if due.settled_version and rules.can_read_back else None
    if due.overwriting is not None:
        return sent if rules.compares_content else None
    known, base = due.known, due.base
    if not rules.compares_content or known is None or base is None or known.version != base.key.version:
        return None
    return _copy(base.key, base.verb, base.image, base.links, known.partner_id)


def _look(rules: Rules, suspect: Suspect) -> Look | Repair:
    if not rules.can_read_back or suspect.image is None:
        return Repair(suspect.key, RepairOutcome.PARKED, "late_answer_unsure")
    try:
        asked = _copy(suspect.key, suspect.verb, suspect.image, suspect.links, suspect.partner_id)
    except Exception as error:  # noqa: BLE001  # as in writing
        return Repair(suspect.key, RepairOutcome.PARKED, "internal_error", {"detail": place_of(error)})
    return Look(suspect, asked, None)


def _out_of_doubt(rules: Rules, subject: Due | Suspect, doubt: Doubt) -> Errand | tuple[End, ...]:
    if not rules.can_read_back and not rules.knows_key(doubt):
        unsure = Result(doubt.key, Outcome.PARKED, "delivery_unsure", intent_id=doubt.intent_id)
        return doubt_ends(subject, doubt, unsure)
    try:
        asked = command_of(doubt, doubt.image)
    except Exception as error:  # noqa: BLE001  # as in writing
        fault = RetryableError("internal_error", {"detail": place_of(error)})
        return doubt_ends(subject, doubt, still_in_doubt(rules, subject, doubt, fault))
    return Look(subject, asked, doubt) if rules.can_read_back else Repeat(subject, asked, doubt)


def _standing(due: Due) -> Op | None:
    """What the partner was last made to have of the record, as far as we know."""
    if due.known is None:
        return None
    return Op.CANCEL if due.known.is_cancelled else Op.UPSERT


def _intent(due: Due, verb: Verb) -> Intent:
    links = {Entity.CLIENT: due.client, Entity.STAFF: due.staff, Entity.VISIT: due.visit}
    if verb is Verb.CANCEL and due.known is not None:
        # The last edit before a cancellation may name people whom the partner does not know.
        links = {entity: link or due.known.links.get(entity.value) for entity, link in links.items()}
    return Intent(
        uuid4(),
        due.key,
        verb,
        idempotency_key(due.key.entity, due.key.record_id, due.key.version),
        {entity.value: partner_id for entity, partner_id in links.items() if partner_id is not None},
        partner_id=due.known.partner_id if due.known else None,
        partner_version=due.known.partner_version if due.known else None,
    )


def command_of(intent: Intent | Doubt, image: Mapping[str, object]) -> Command:
    return command(
        intent.key.entity,
        intent.verb,
        intent.key.record_id,
        intent.key.version,
        key=intent.idempotency_key,
        image=image,
        links=intent.links,
        partner_id=intent.partner_id,
        partner_version=intent.partner_version,
    )


def _copy(
    key: Key, verb: Verb, image: Mapping[str, object], links: Mapping[str, str], partner_id: str | None
) -> Command:
    """What a delivered version says, to be compared with the partner's copy."""
    return command(
        key.entity,
        verb,
        key.record_id,
        key.version,
        key=idempotency_key(key.entity, key.record_id, key.version),
        image=image,
        links=links,
        partner_id=partner_id,
        partner_version=None,
    )


def is_of_record(rules: Rules, error: PartnerError) -> bool:
    """Whether the fault is the record's own, and stays."""
    told = rules.classified.told(error.reason, error.params)
    return not isinstance(error, RetryableError) and told.scope is ReasonScope.RECORD


def still_in_doubt(rules: Rules, subject: Due | Suspect, doubt: Doubt, error: PartnerError) -> Result:
    """It could not be read back: tried again later, also where the fault is the record's own.

    A person is shown that one. But the doubt stands until the partner has answered: what is newer, or sent again at
    somebody's word, could be made a second time.
    """
    later = (error.not_before if isinstance(error, RetryableError) else None) or rules.backoff(subject.attempts)
    return Result(doubt.key, Outcome.UNKNOWN, error.reason, error.params, doubt.intent_id, not_before=later)


def doubt_ends(subject: Due | Suspect, doubt: Doubt, result: Result) -> tuple[End, ...]:
    """How a doubt ends. What a person has to find out of a creation, or what was found changed of it, holds for what is
    newer too: that could be made a second time, or go unseen over somebody's change.
    """
    end = end_of(result, doubt.is_repair)
    holds_on = result.outcome in (Outcome.PARKED, Outcome.CONFLICT) or result.reason == OVERWRITING
    is_older = isinstance(subject, Due) and subject.key.version != doubt.key.version
    if holds_on and is_older and doubt.verb is Verb.CREATE:
        return end, replace(result, key=subject.key, intent_id=None)
    return (end,)


_REPAIRED = {
    Outcome.DELIVERED: RepairOutcome.REPAIRED,
    Outcome.DELIVERED_WITH_WARNING: RepairOutcome.REPAIRED,
    Outcome.RETRY: RepairOutcome.RETRY,
    Outcome.CONFLICT: RepairOutcome.RETRY,  # it has changed under the repair: read again, and compared anew
    Outcome.UNKNOWN: RepairOutcome.UNKNOWN,
    Outcome.PARKED: RepairOutcome.PARKED,
}


def end_of(result: Result, is_repair: bool) -> End:
    """The end as it is stored: an attempt to repair ends no version."""
    return repair_of(result) if is_repair else result


def repair_of(result: Result) -> Repair:
    """How an attempt to repair ended, told as an attempt to deliver."""
    return Repair(
        result.key,
        _REPAIRED[result.outcome],
        result.reason,
        result.params,
        result.intent_id,
        result.partner_id,
        result.partner_version,
        result.not_before,
    )
