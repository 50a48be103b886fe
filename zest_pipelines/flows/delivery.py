"""What to do with one record: which errand to send a lane on, and how that ended. No call and no table is looked at.

    plan    a claimed record         -> an errand, or how it ends without a call
    judge   an errand and its answer -> a verdict: how it ended, or what has to follow

An intent without an end is doubt, and a record in doubt is never simply sent again: a partner that knows our key gets
the very same command once more, one that can be asked is asked, and where neither is possible a person decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from partners.contract import (
    Absent,
    Capability,
    Command,
    Delivered,
    Entity,
    Found,
    Recovery,
    Refused,
    Retry,
    Unknown,
    Verb,
)
from partners.errors import Deferred, PartnerError, RetryableError
from partners.reasons import ReasonScope, reason
from zest_pipelines.core.backoff import delay
from zest_pipelines.core.coalesce import Op, Version, decide
from zest_pipelines.core.commands import command, idempotency_key, repair_key
from zest_pipelines.core.outcome import Outcome, RepairOutcome
from zest_pipelines.flows.errands import Clash, Errand, Heard, Look, Repeat, Send
from zest_pipelines.flows.places import place_of
from zest_pipelines.store.claims import Doubt, Due, Suspect
from zest_pipelines.store.keys import Key
from zest_pipelines.store.results import Intent, Repair, Result

OVERWRITING = "overwriting_partner_change"
"""The reason of a version that goes out over somebody's change at the partner, as the connection's policy says."""
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


@dataclass(frozen=True)
class Verdict:
    """How an errand ended."""

    ends: tuple[End, ...] = ()
    """Of the record; none: nothing is known that was not known before."""
    then: Send | None = None
    """What has to follow, under an intent of its own."""
    stop: str | None = None
    """Why nothing else of the connection should be tried now: a code of the catalogue."""
    params: Mapping[str, str] = field(default_factory=dict)
    is_failure: bool = False
    """Whether the breaker counts the stop; limits, ours or the partner's, are no failure."""
    blocks: Entity | None = None
    """Records of this kind should not be tried now."""
    is_answer: bool = False
    """Whether the partner said something about the record itself: it is there and takes our calls."""


# --- Before the call --------------------------------------------------------------------------------------------------


def may_be_there(rules: Rules, subject: Due | Suspect) -> bool:
    """Whether an earlier version may have been made there, and only a person can tell: that is to be looked up."""
    is_new = isinstance(subject, Due) and subject.known is None and subject.key.version > 1
    return is_new and subject.doubt is None and not rules.can_read_back


def plan(rules: Rules, subject: Due | Suspect, is_unsure: bool = False) -> Errand | tuple[End, ...]:
    """The errand that takes the record a step on, or how it ends without a call.

    `is_unsure`: a person was asked whether it is there, and a newer edit does not tell.
    """
    if subject.doubt is not None:
        return _out_of_doubt(rules, subject, subject.doubt)
    if is_unsure:
        return (Result(subject.key, Outcome.PARKED, "delivery_unsure"),)
    step = _write(rules, subject) if isinstance(subject, Due) else _look(rules, subject)
    return (step,) if isinstance(step, Result | Repair) else step


def grouped(waiting: deque[Errand], batch_size: int, most: int) -> list[tuple[Errand, ...]]:
    """Take up to `most` calls' worth of errands off `waiting`, in its order: one each, or several that go as a batch.

    A batch halves with each attempt of its records. So one that was refused as a whole comes to the entry that spoils
    it, and to that alone, whatever dies in between.
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


def _write(rules: Rules, due: Due) -> Send | Result:
    decision = decide(Version(due.key.version, Op(due.op)), due.settled_version, _standing(due))
    if isinstance(decision, Outcome):
        return Result(due.key, decision)
    intent = _intent(due, decision)
    try:
        sent = _command(intent, due.image)
        return Send(due, sent, intent, _expected(rules, due, sent))
    except Exception as error:  # noqa: BLE001  # before the intent: what we cannot build must not leave doubt
        return Result(due.key, Outcome.PARKED, "internal_error", {"detail": place_of(error)})


def _expected(rules: Rules, due: Due, sent: Command) -> Command | None:
    """What the partner's copy is compared with before `sent` goes: with what was delivered, to see that nobody has
    changed it; of a creation, with itself, where an earlier version ended and nobody here knows whether it is there.

    Not where the partner has been heard of it since that was delivered: a person, or the policy, has decided then.
    """
    known, base = due.known, due.base
    if verb is Verb.CREATE or not rules.compares_content or known is None or base is None:
        return None
    if known.version != base.key.version:
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
        return _doubt_ends(subject, doubt, unsure)
    try:
        asked = _command(doubt, doubt.image)
    except Exception as error:  # noqa: BLE001  # as in writing
        fault = RetryableError("internal_error", {"detail": place_of(error)})
        return _doubt_ends(subject, doubt, _still_in_doubt(rules, subject, doubt, fault))
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


def _command(intent: Intent | Doubt, image: Mapping[str, object]) -> Command:
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


# --- After the call ---------------------------------------------------------------------------------------------------


def judge(rules: Rules, errand: Errand, heard: Heard) -> Verdict:
    """What `heard` means for the errand's record, and for the others of the connection."""
    match errand, heard:
        case ((Repeat() | Look()), Deferred()):
            return Verdict(stop=heard.reason)
        case Send(), _:
            end = _end(_sent(rules, errand, heard), isinstance(errand.subject, Suspect))
            return _verdict(errand, heard, (end,))
        case Repeat(), _:
            return _verdict(errand, heard, (_end(_repeated(rules, errand, heard), errand.doubt.is_repair),))
        case Look(subject=Suspect() as suspect), _:
            return _looked_at(rules, errand, suspect, heard)
        case Look(doubt=Doubt() as doubt), _:
            ends = _doubt_ends(errand.subject, doubt, _read(rules, errand.subject, doubt, heard))
            return _verdict(errand, heard, ends)
    raise AssertionError("a due record is read back because it is in doubt")


def _verdict(errand: Errand, heard: Heard, ends: tuple[End, ...]) -> Verdict:
    why, params = ends[0].reason, ends[0].params
    scope = None if why is None else reason(why).scope
    if scope is ReasonScope.CONNECTION:
        has_named_time = isinstance(heard, Retry | RetryableError) and heard.not_before is not None
        return Verdict(ends, stop=why, params=params, is_failure=not has_named_time)
    blocks = errand.subject.key.entity if scope is ReasonScope.ENTITY else None
    return Verdict(ends, blocks=blocks, is_answer=not isinstance(heard, Unknown | PartnerError))


def _sent(rules: Rules, errand: Send, heard: Heard) -> Result:
    key, intent_id, attempts = errand.intent.key, errand.intent.intent_id, errand.subject.attempts
    match heard:
        case Delivered():
            is_over = isinstance(errand.subject, Due) and errand.subject.reason == OVERWRITING
            return _delivered(
                key, intent_id, errand.command.verb, heard, "partner_change_overwritten" if is_over else None
            )
        case Deferred():
            return Result(key, Outcome.RETRY, heard.reason, intent_id=intent_id, not_before=heard.until)
        case Refused(reason=code, params=params) if code == BATCH_REFUSED:
            return Result(key, Outcome.RETRY, code, params, intent_id)
        case Retry(why, params, not_before):
            when = not_before or rules.backoff(attempts)
            return Result(key, Outcome.RETRY, why, params, intent_id, not_before=when)
        case Refused(why, params):
            return Result(key, Outcome.PARKED, why, params, intent_id)
        case Clash(copy=Found(matches=False) as found) if errand.base == errand.command:
            return _noting(found, Result(key, Outcome.RETRY, "found_different", intent_id=intent_id))
        case Clash():
            return _clashed(rules, errand.command, key, intent_id, attempts, heard)
        case Unknown(why, params):
            later = _look_at(rules, why, attempts)
            return Result(key, Outcome.UNKNOWN, why, params, intent_id, not_before=later)
        case _:
            raise AssertionError("a write is answered by a reply")


def _repeated(rules: Rules, errand: Repeat, heard: Heard) -> Result:
    """What a repeat says of the first attempt: of that it is known to speak only where it did go by the key."""
    key, intent_id, attempts = errand.doubt.key, errand.doubt.intent_id, errand.subject.attempts
    match heard:
        case Delivered():
            return _delivered(key, intent_id, errand.command.verb, heard)
        case Clash():
            return _clashed(rules, errand.command, key, intent_id, attempts, heard)
        case Refused(why, params) if reason(why).scope is ReasonScope.RECORD:
            return Result(key, Outcome.PARKED, why, params, intent_id)
        case Retry(why, params, datetime() as named):
            return Result(key, Outcome.UNKNOWN, why, params, intent_id, not_before=named)
        case Retry(why, params) | Refused(why, params):
            return Result(key, Outcome.UNKNOWN, why, params, intent_id, not_before=rules.backoff(attempts))
        case Unknown(why, params):
            later = _look_at(rules, why, attempts)
            return Result(key, Outcome.UNKNOWN, why, params, intent_id, not_before=later)
        case _:
            raise AssertionError("a write is answered by a reply")


def _clashed(rules: Rules, sent: Command, key: Key, intent_id: UUID, attempts: int, clash: Clash) -> Result:
    """The partner's copy is not the one we knew. It may be as we want it: then an earlier call of ours did that."""
    why, params = clash.conflict.reason, clash.conflict.params
    match clash.copy:
        case Found(matches=True) as found:
            return _delivered(key, intent_id, sent.verb, Delivered(found.partner_id, found.partner_version))
        case Found() as found if rules.overwrites:
            return _noting(found, Result(key, Outcome.RETRY, OVERWRITING, {}, intent_id))
        case Found() as found:
            # Whoever releases it, by a new version or by hand, has decided against this copy.
            return _noting(found, Result(key, Outcome.CONFLICT, why, params, intent_id))
        case None if rules.overwrites:
            return Result(key, Outcome.RETRY, why, params, intent_id, not_before=rules.backoff(attempts))
    return Result(key, Outcome.CONFLICT, why, params, intent_id)


def _read(rules: Rules, subject: Due | Suspect, doubt: Doubt, heard: Heard) -> Result:
    """How a doubt ends when the partner was asked."""
    key, intent_id = doubt.key, doubt.intent_id
    match heard:
        case Found(matches=True):
            return _delivered(key, intent_id, doubt.verb, Delivered(heard.partner_id, heard.partner_version))
        case Found() if doubt.verb is Verb.CREATE:
            return _noting(heard, Result(key, Outcome.RETRY, "found_different", intent_id=intent_id))
        case Found():
            # Nothing is taken from the copy: if it is not the one we knew, the next write has to notice.
            return Result(key, Outcome.RETRY, "found_different", intent_id=intent_id)
        case Absent():
            return Result(key, Outcome.RETRY, "not_arrived", intent_id=intent_id)
        case PartnerError():
            return _still_in_doubt(rules, subject, doubt, heard)
        case _:
            raise AssertionError("a reading back finds something or not")


def _still_in_doubt(rules: Rules, subject: Due | Suspect, doubt: Doubt, error: PartnerError) -> Result:
    """It could not be read back: tried again later, unless the fault is the record's own."""
    if _is_of_record(error):
        return Result(doubt.key, Outcome.PARKED, error.reason, error.params, doubt.intent_id)
    later = (error.not_before if isinstance(error, RetryableError) else None) or rules.backoff(subject.attempts)
    return Result(doubt.key, Outcome.UNKNOWN, error.reason, error.params, doubt.intent_id, not_before=later)


def _doubt_ends(subject: Due | Suspect, doubt: Doubt, result: Result) -> tuple[End, ...]:
    """How a doubt ends. Where a person has to end it, what is newer waits with it: it could be made a second time."""
    end = _end(result, doubt.is_repair)
    is_for_person = result.outcome is Outcome.PARKED and doubt.verb is Verb.CREATE
    if is_for_person and isinstance(subject, Due) and subject.key.version != doubt.key.version:
        return end, Result(subject.key, Outcome.PARKED, result.reason, result.params)
    return (end,)


def suspect(rules: Rules, late: Result) -> Repair | None:
    """What has to be noted of an end that came when its intent or version had ended: None, if it did no harm.

    A write that took effect, or may have, can have come over a newer one. Under a key it cannot: whoever repeated it
    had the same one.
    """
    is_write = late.outcome in (Outcome.DELIVERED, Outcome.DELIVERED_WITH_WARNING, Outcome.UNKNOWN)
    if not is_write or rules.capability.recovery is Recovery.KEY:
        return None
    return Repair(
        late.key, RepairOutcome.SUSPECTED, "late_answer", intent_id=late.intent_id, not_before=late.not_before
    )


def _is_of_record(error: PartnerError) -> bool:
    """Whether the fault is the record's own, and stays."""
    return not isinstance(error, RetryableError) and reason(error.reason).scope is ReasonScope.RECORD


def _looked_at(rules: Rules, errand: Look, suspect: Suspect, heard: Heard) -> Verdict:
    """How it stands with a settled record that a late sender may have touched."""
    ended = Repair(suspect.key, RepairOutcome.EQUAL)
    if errand.doubt is not None:
        ended = Repair(suspect.key, RepairOutcome.REPAIRED, intent_id=errand.doubt.intent_id)
    match heard:
        case Found(matches=True):
            end = replace(ended, partner_id=heard.partner_id, partner_version=heard.partner_version)
        case Absent() if suspect.verb is Verb.CANCEL:
            end = ended
        case Absent():
            end = replace(ended, outcome=RepairOutcome.PARKED, reason="record_gone_at_partner")
        case Found():
            return _repair(errand, suspect, heard)
        case PartnerError() if errand.doubt is not None:
            end = _repair_of(_still_in_doubt(rules, suspect, errand.doubt, heard))
        case PartnerError() if _is_of_record(heard):
            end = Repair(suspect.key, RepairOutcome.PARKED, heard.reason, heard.params)
        case PartnerError():
            named = heard.not_before if isinstance(heard, RetryableError) else None
            when = named or rules.backoff(suspect.attempts)
            end = Repair(suspect.key, RepairOutcome.RETRY, heard.reason, heard.params, not_before=when)
        case _:
            raise AssertionError("a reading back finds something or not")
    return _verdict(errand, heard, (end,))


def _repair(errand: Look, suspect: Suspect, found: Found) -> Verdict:
    """Send what should stand there once more, under a key of its own; an earlier repair that is in doubt ends."""
    assert suspect.image is not None  # it was compared with
    intent_id, key = uuid4(), suspect.key
    intent = Intent(
        intent_id,
        key,
        suspect.verb,
        repair_key(key.entity, key.record_id, key.version, intent_id),
        suspect.links,
        partner_id=found.partner_id,
        partner_version=found.partner_version,
    )
    then = Send(suspect, _command(intent, suspect.image), intent)
    if errand.doubt is None:
        return Verdict(then=then, is_answer=True)
    ended = Repair(key, RepairOutcome.RETRY, "found_different", intent_id=errand.doubt.intent_id)
    return Verdict((ended,), then, is_answer=True)


def _look_at(rules: Rules, why: str, attempts: int) -> datetime | None:
    """The earliest time to look what became of a doubtful call; None: at once, since its answer was whole."""
    match why:
        case "found_different":
            return None
        case "internal_error":
            return rules.backoff(attempts)
    return rules.now + rules.under_way


def _delivered(key: Key, intent_id: UUID, verb: Verb, reply: Delivered, remark: str | None = None) -> Result:
    remark = remark or reply.warning
    return Result(
        key,
        Outcome.DELIVERED if remark is None else Outcome.DELIVERED_WITH_WARNING,
        remark,
        intent_id=intent_id,
        partner_id=reply.partner_id,
        partner_version=reply.partner_version,
        is_cancelled=verb is Verb.CANCEL,
    )


def _noting(copy: Found, result: Result) -> Result:
    """The result, with what the partner has instead; a person sees the values of a conflict alone."""
    theirs = copy.theirs if result.outcome is Outcome.CONFLICT else {}
    return replace(result, partner_id=copy.partner_id, partner_version=copy.partner_version, theirs=theirs)


_REPAIRED = {
    Outcome.DELIVERED: RepairOutcome.REPAIRED,
    Outcome.DELIVERED_WITH_WARNING: RepairOutcome.REPAIRED,
    Outcome.RETRY: RepairOutcome.RETRY,
    Outcome.CONFLICT: RepairOutcome.RETRY,  # it has changed under the repair: read again, and compared anew
    Outcome.UNKNOWN: RepairOutcome.UNKNOWN,
    Outcome.PARKED: RepairOutcome.PARKED,
}


def _end(result: Result, is_repair: bool) -> End:
    """The end as it is stored: an attempt to repair ends no version."""
    return _repair_of(result) if is_repair else result


def _repair_of(result: Result) -> Repair:
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
