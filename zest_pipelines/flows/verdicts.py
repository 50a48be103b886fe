"""What an errand's answer means: how its record ends, what has to follow, and what it says of the connection.

Pure: an answer and the rules in, a verdict out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

from partners.contract import (
    Absent,
    Conflict,
    Delivered,
    Entity,
    Found,
    Recovery,
    Refused,
    Retry,
    Unknown,
    Verb,
)
from partners.errors import Deferred, PartnerError, RejectedError, RetryableError
from partners.reasons import ReasonScope
from zest_pipelines.core.classification import UNKNOWN, goes_on
from zest_pipelines.core.commands import repair_key
from zest_pipelines.core.outcome import Outcome, RepairOutcome
from zest_pipelines.flows.delivery import (
    BATCH_REFUSED,
    OVERWRITTEN,
    End,
    Rules,
    command_of,
    doubt_ends,
    end_of,
    is_of_record,
    repair_of,
    still_in_doubt,
)
from zest_pipelines.flows.errands import Clash, Errand, Heard, Look, Repeat, Send
from zest_pipelines.store.claims import OVERWRITING, Doubt, Due, Suspect
from zest_pipelines.store.keys import Key
from zest_pipelines.store.results import Intent, Repair, Result

_LOST_BEFORE = 2
"""So often a version is sent again at once."""
_SILENCE = "timeout_unsure"
_FAULTS = (
    *(_SILENCE, "connection_cut_unsure", "empty_reply_unsure", "partner_failed_unsure", "partner_failed"),
    *("answer_unreadable", UNKNOWN),
)
"""Reasons of one record that may be the whole partner's; what nobody has explained may be too."""


@dataclass(frozen=True)
class Verdict:
    """How an errand ended."""

    ends: tuple[End, ...] = ()
    """Of the record; none: nothing is known that was not known before."""
    then: Send | None = None
    """What has to follow, under an intent of its own."""
    stop: str | None = None
    """Why nothing else of the connection should be tried now: a code of the catalogue, as it was answered."""
    params: Mapping[str, str] = field(default_factory=dict)
    is_failure: bool = False
    """Whether the breaker counts the stop; limits, ours or the partner's, are no failure."""
    until: datetime | None = None
    """When the partner wants to hear of the connection again, if it has named a time."""
    blocks: Entity | None = None
    """Records of this kind should not be tried now."""
    is_answer: bool = False
    """Whether the partner said something about the record itself: it is there and takes our calls."""
    is_silence: bool = False
    """Whether the partner took the call and said nothing for as long as a call may last."""
    is_fault: bool = False
    """Whether the call came to nothing by no fault of the record that could be seen; a silence is one too."""


def judge(rules: Rules, errand: Errand, heard: Heard) -> Verdict:
    """What `heard` means for the errand's record, and for the others of the connection."""
    heard = _as_classified(rules, errand, heard)
    match errand, heard:
        case ((Repeat() | Look()), Deferred()):
            return Verdict(stop=heard.reason)
        case Send(), _:
            sent = _told(errand.subject, _sent(rules, errand, heard))
            return _verdict(rules, errand, heard, (end_of(sent, isinstance(errand.subject, Suspect)),))
        case Repeat(), _:
            repeated = _told(errand.subject, _repeated(rules, errand, heard))
            return _verdict(rules, errand, heard, (end_of(repeated, errand.doubt.is_repair),))
        case Look(subject=Suspect() as suspect), _:
            return _looked_at(rules, errand, suspect, heard)
        case Look(doubt=Doubt() as doubt), _:
            read = _told(errand.subject, _read(rules, errand.subject, doubt, heard))
            ends = doubt_ends(errand.subject, doubt, read)
            return _verdict(rules, errand, heard, ends)
        case Look(subject=Due() as due), _:
            return _verdict(rules, errand, heard, (_searched(rules, due, heard),))
    raise AssertionError("there is no other errand")


def _as_classified(rules: Rules, errand: Errand, heard: Heard) -> Heard:
    """An answer of unknown cause that a person has explained goes on as its reason's own entry says: tried again by
    ourselves or not. Its words stay as they were. What leaves doubt does so whatever it is called: so does a repeat
    that the partner would try again, since no name tells what became of the first call."""
    if not isinstance(heard, Refused | Retry | RejectedError | RetryableError):
        return heard
    given = rules.classified.given(heard.reason, heard.params)
    match heard:
        case Refused(why, params) if given is not None and given.retried:
            return Retry(why, params)
        case Retry(why, params) if given is not None and not given.retried and not isinstance(errand, Repeat):
            return Refused(why, params)
        case RejectedError() if given is not None and given.retried:
            return RetryableError(heard.reason, heard.params)
        case RetryableError() if given is not None and not given.retried:
            return RejectedError(heard.reason, heard.params)
    return heard


def _told(subject: Due | Suspect, result: Result) -> Result:
    """The result; of a delivery, with what it went over, however long ago that was noticed."""
    is_delivered = result.outcome in (Outcome.DELIVERED, Outcome.DELIVERED_WITH_WARNING)
    if not is_delivered or not isinstance(subject, Due) or subject.overwriting is None:
        return result
    return replace(result, outcome=Outcome.DELIVERED_WITH_WARNING, reason=OVERWRITTEN)


def _is_for_itself(send: Send) -> bool:
    """Whether it was a creation that was looked for first: an earlier version may have made it."""
    return send.command.verb is Verb.CREATE and send.base is not None


def _verdict(rules: Rules, errand: Errand, heard: Heard, ends: tuple[End, ...]) -> Verdict:
    params = ends[0].params
    told = None if ends[0].reason is None else rules.classified.told(ends[0].reason, params)
    scope = None if told is None else told.scope
    if scope is ReasonScope.CONNECTION:
        named = heard.not_before if isinstance(heard, Retry | Unknown | RetryableError) else None
        until = None if isinstance(heard, Deferred) else named  # our own limits hold nothing back that keeps them
        is_fault = isinstance(heard, Unknown)
        return Verdict(
            ends, stop=ends[0].reason, params=params, is_failure=named is None, until=until, is_fault=is_fault
        )
    blocks = errand.subject.key.entity if scope is ReasonScope.ENTITY else None
    if not isinstance(heard, Unknown | PartnerError):
        return Verdict(ends, blocks=blocks, is_answer=True)
    is_silence = isinstance(heard, Unknown) and heard.reason == _SILENCE
    is_fault = rules.classified.told(heard.reason, heard.params).code in _FAULTS
    return Verdict(ends, blocks=blocks, is_silence=is_silence, is_fault=is_fault)


def _sent(rules: Rules, errand: Send, heard: Heard) -> Result:
    key, intent_id, attempts = errand.intent.key, errand.intent.intent_id, errand.subject.attempts
    match heard:
        case Delivered():
            return _delivered(key, intent_id, errand.command.verb, heard)
        case Deferred():
            return Result(key, Outcome.RETRY, heard.reason, intent_id=intent_id, not_before=heard.until)
        case Refused(reason=code, params=params) if code == BATCH_REFUSED:
            return Result(key, Outcome.RETRY, code, params, intent_id)
        case Retry(why, params, not_before):
            when = not_before or rules.backoff(attempts)
            return Result(key, Outcome.RETRY, why, params, intent_id, not_before=when)
        case Refused(why, params):
            # What is wrong with the connection is not the record's fault: the breaker says when it is tried again.
            is_whole = rules.classified.told(why, params).scope is ReasonScope.CONNECTION
            outcome = Outcome.RETRY if is_whole else Outcome.PARKED
            return Result(key, outcome, why, params, intent_id)
        case Clash(copy=Found(matches=False) as found) if _is_for_itself(errand):
            return _noting(found, Result(key, Outcome.RETRY, "found_different", intent_id=intent_id))
        case Clash():
            return _clashed(rules, errand.command.verb, key, intent_id, attempts, heard)
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
            return _clashed(rules, errand.command.verb, key, intent_id, attempts, heard)
        case Refused(why, params) if rules.classified.told(why, params).scope is ReasonScope.RECORD:
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


def _clashed(rules: Rules, verb: Verb, key: Key, intent_id: UUID, attempts: int, clash: Clash) -> Result:
    """The partner's copy is not the one we knew. It may be as we want it: then an earlier call of ours did that."""
    why, params = clash.conflict.reason, clash.conflict.params
    match clash.copy:
        case Found(matches=True) as found:
            return _delivered(key, intent_id, verb, Delivered(found.partner_id, found.partner_version))
        case Found() as found if rules.overwrites:
            return _noting(found, Result(key, Outcome.RETRY, OVERWRITING, {}, intent_id))
        case Found() as found:
            # Whoever releases it, by a new version or by hand, has decided against this copy.
            return _noting(found, Result(key, Outcome.CONFLICT, why, params, intent_id))
        case None if rules.overwrites:
            return Result(key, Outcome.RETRY, why, params, intent_id, not_before=rules.backoff(attempts))
    return Result(key, Outcome.CONFLICT, why, params, intent_id)


def _searched(rules: Rules, due: Due, heard: Heard) -> Result:
    """What follows for a cancellation of a record that may be there: it goes to what is found."""
    match heard:
        case Found():
            return _noting(heard, Result(due.key, Outcome.RETRY, "found_different"))
        case Absent():
            return Result(due.key, Outcome.NOT_NEEDED)
        case PartnerError() if is_of_record(rules, heard):
            return Result(due.key, Outcome.PARKED, "delivery_unsure")
        case PartnerError():
            named = heard.not_before if isinstance(heard, RetryableError) else None
            when = named or rules.backoff(due.attempts)
            return Result(due.key, Outcome.RETRY, heard.reason, heard.params, not_before=when)
        case _:
            raise AssertionError("a reading back finds something or not")


def _read(rules: Rules, subject: Due | Suspect, doubt: Doubt, heard: Heard) -> Result:
    """How a doubt ends when the partner was asked."""
    key, intent_id = doubt.key, doubt.intent_id
    match heard:
        case Found(matches=True):
            return _delivered(key, intent_id, doubt.verb, Delivered(heard.partner_id, heard.partner_version))
        case Found() if doubt.verb is Verb.CREATE and not doubt.is_repair:
            # Nothing of the record was there before: it is what this call made, and somebody has changed it since.
            changed = Clash(Conflict("changed_at_partner"), heard)
            return _clashed(rules, doubt.verb, key, intent_id, subject.attempts, changed)
        case Found() if rules.capability.replaces and doubt.verb is Verb.UPDATE and "status" in heard.differing:
            # Our change was cut off when the old copy was gone and the new one not made. Noted, it is gone on with.
            return _noting(heard, Result(key, Outcome.RETRY, "found_different", intent_id=intent_id))
        case Found():
            # Nothing is taken from the copy: if it is not the one we knew, the next write has to notice.
            return _lost(rules, subject, Result(key, Outcome.RETRY, "found_different", intent_id=intent_id))
        case Absent():
            return _not_arrived(rules, subject, doubt)
        case PartnerError():
            return still_in_doubt(rules, subject, doubt, heard)
        case _:
            raise AssertionError("a reading back finds something or not")


def _not_arrived(rules: Rules, subject: Due | Suspect, doubt: Doubt) -> Result:
    """What follows for a call that took no effect, as has been found: it goes again. Not by itself, if its answer is
    nothing that we try again; nor at once, if a person has explained it."""
    again = _lost(rules, subject, Result(doubt.key, Outcome.RETRY, "not_arrived", intent_id=doubt.intent_id))
    if not isinstance(subject, Due) or subject.unsure_for is None or subject.key.version != doubt.key.version:
        return again
    why, params = subject.unsure_for, subject.unsure_params
    told, is_given = rules.classified.told(why, params), rules.classified.given(why, params) is not None
    if not goes_on(told):
        return Result(doubt.key, Outcome.PARKED, why, params, doubt.intent_id)
    return replace(again, not_before=rules.backoff(subject.attempts)) if is_given else again


def _lost(rules: Rules, subject: Due | Suspect, again: Result) -> Result:
    """What is found to have had no effect goes again at once: the call was lost on its way. Not so the third time: a
    partner that fails at it is not to be asked each minute."""
    if not isinstance(subject, Due) or subject.lost < _LOST_BEFORE:
        return again
    return replace(again, not_before=rules.backoff(subject.lost))


def suspect(rules: Rules, late: Result) -> Repair | None:
    """What has to be noted of an end that came when its intent or version had ended: None, if it did no harm.

    A write that took effect, or may have, can have come over a newer one. Under a key it cannot: whoever repeated it
    had the same one. Where the partner cannot be asked, what it said late is all that will be known of its copy.
    """
    is_write = late.outcome in (Outcome.DELIVERED, Outcome.DELIVERED_WITH_WARNING, Outcome.UNKNOWN)
    if not is_write or rules.capability.recovery is Recovery.KEY:
        return None
    noted = Repair(
        late.key, RepairOutcome.SUSPECTED, "late_answer", intent_id=late.intent_id, not_before=late.not_before
    )
    if rules.can_read_back:
        return noted
    return replace(noted, partner_id=late.partner_id, partner_version=late.partner_version)


def _looked_at(rules: Rules, errand: Look, suspect: Suspect, heard: Heard) -> Verdict:
    """How it stands with a settled record that a late sender may have touched."""
    ended = Repair(suspect.key, RepairOutcome.EQUAL, looked_at=suspect.claimed_at)
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
            end = repair_of(still_in_doubt(rules, suspect, errand.doubt, heard))
        case PartnerError() if is_of_record(rules, heard):
            end = Repair(suspect.key, RepairOutcome.PARKED, heard.reason, heard.params)
        case PartnerError():
            named = heard.not_before if isinstance(heard, RetryableError) else None
            when = named or rules.backoff(suspect.attempts)
            end = Repair(suspect.key, RepairOutcome.RETRY, heard.reason, heard.params, not_before=when)
        case _:
            raise AssertionError("a reading back finds something or not")
    return _verdict(rules, errand, heard, (end,))


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
    then = Send(suspect, command_of(intent, suspect.image), intent)
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


def _delivered(key: Key, intent_id: UUID, verb: Verb, reply: Delivered) -> Result:
    return Result(
        key,
        Outcome.DELIVERED if reply.warning is None else Outcome.DELIVERED_WITH_WARNING,
        reply.warning,
        intent_id=intent_id,
        partner_id=reply.partner_id,
        partner_version=reply.partner_version,
        is_cancelled=verb is Verb.CANCEL,
    )


def _noting(copy: Found, result: Result) -> Result:
    """The result, with what the partner has instead; its values where somebody changed them."""
    theirs = copy.theirs if result.outcome is Outcome.CONFLICT or result.reason == OVERWRITING else {}
    return replace(result, partner_id=copy.partner_id, partner_version=copy.partner_version, theirs=theirs)
