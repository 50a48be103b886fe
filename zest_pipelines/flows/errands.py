"""Errands: the calls that a push makes for one record, as values, and their making.

A lane carries them out and gives back what it heard, whatever the partner or the network does. What that means is
`verdicts`' to say.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from partners.contract import (
    Absent,
    Command,
    Conflict,
    Delivered,
    Found,
    ReadBack,
    Refused,
    Reply,
    Retry,
    Unknown,
    Verb,
)
from partners.errors import Deferred, PartnerError, RetryableError
from partners.reasons import reason
from zest_pipelines.flows.opening import Line
from zest_pipelines.flows.places import place_of
from zest_pipelines.store.claims import Doubt, Due, Record, Suspect
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.results import Intent

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Send:
    """A new attempt to write: its intent is to be committed first."""

    subject: Due | Suspect
    """Suspect: it is a repair."""
    command: Command
    intent: Intent
    base: Command | None = None
    """What is compared with the partner's copy before the write goes; of a creation, or over a change, itself. None: it
    goes unseen."""
    expected: Mapping[str, str] | None = field(default=None, repr=False)
    """In what the copy may differ from `base`: a change that is known and gone over. None: in nothing."""


@dataclass(frozen=True)
class Repeat:
    """A doubtful write once more, under its own key."""

    subject: Due | Suspect
    command: Command
    doubt: Doubt


@dataclass(frozen=True)
class Look:
    """A reading back: of what is in doubt, or of a settled record that a late sender may have touched."""

    subject: Due | Suspect
    command: Command
    doubt: Doubt | None
    """None: of a suspect that nothing was sent for since."""


Errand = Send | Repeat | Look


@dataclass(frozen=True)
class Clash:
    """A conflict, with a look at the partner's copy."""

    conflict: Conflict
    copy: ReadBack | None
    """None: it could not be looked at."""


Heard = Reply | Clash | ReadBack | PartnerError
"""What came of an errand. A PartnerError: the reading back failed, or nothing was called because the limits say later
(Deferred)."""


def record_of(errand: Errand) -> Record:
    """The record it is for."""
    return errand.subject.key.record


def carry_out(line: Line, errands: Sequence[Errand], last_moment: float) -> list[tuple[Errand, Heard]]:
    """Make the call or calls of one errand, or of several as a batch. No call begins from monotonic `last_moment` on.

    Raises StoreError alone: a fault of ours, or of the connector's, in one record must not hold up its neighbours.
    """
    with line.gate.open_until(last_moment):
        heard = _made(line, errands)
    return list(zip(errands, heard, strict=True))


def _made(line: Line, errands: Sequence[Errand]) -> list[Heard]:
    if len(errands) > 1:
        return _send(line, [errand.command for errand in errands])
    (errand,) = errands
    match errand:
        case Send(base=Command() as base):
            return [_look_and_send(line, errand.command, base, errand.expected)]
        case Send() | Repeat():
            return _send(line, [errand.command])
        case Look():
            return [_read_back(line, errand.command)]
        case _:
            assert_never(errand)


def _send(line: Line, sent: Sequence[Command]) -> list[Heard]:
    """What is heard of each, in one call."""
    try:
        replies = [line.connector.send(sent[0])] if len(sent) == 1 else line.connector.send_batch(sent)
        return [_with_copy(line, each, _sound(reply)) for each, reply in zip(sent, replies, strict=True)]
    except Deferred as error:  # before its write, says the contract
        return [error] * len(sent)
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001
        return [Unknown("internal_error", {"detail": place_of(error)})] * len(sent)


def _look_and_send(line: Line, sent: Command, base: Command, expected: Mapping[str, str] | None) -> Heard:
    there = _read_back(line, base)
    match there:
        case Deferred():
            return there
        case RetryableError():
            return Retry(there.reason, there.params, there.not_before)
        case PartnerError():
            return Refused(there.reason, there.params)
        case Found() if sent.verb is Verb.CREATE:
            return Clash(Conflict("changed_at_partner"), there)
        case Absent() if sent.verb is Verb.UPDATE:
            return Clash(Conflict("record_gone_at_partner"), there)
        case Found(matches=False) if there.theirs != expected:
            return _with_copy(line, sent, Conflict("changed_at_partner"))
    return _send(line, [sent])[0]


def _with_copy(line: Line, sent: Command, reply: Reply) -> Reply | Clash:
    """The reply; of a conflict, with a look at the copy that it clashes with, if the ledger can be asked for it."""
    if not isinstance(reply, Conflict):
        return reply
    try:
        copy = _read_back(line, sent)
    except StoreError as error:
        _log.warning("The copy of a conflict could not be looked at: %s", error)
        return Clash(reply, None)
    return Clash(reply, None if isinstance(copy, PartnerError) else copy)


def _read_back(line: Line, asked: Command) -> ReadBack | PartnerError:
    try:
        return _legible(line.connector.find(asked))
    except PartnerError as error:
        error.params = _cleaned(error.params)
        return error
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001
        return RetryableError("internal_error", {"detail": place_of(error)})


# One character that the database does not take would undo a whole cycle, and with it the answers of other records.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _sound(reply: Reply) -> Reply:
    """The reply, if all of it can be stored. Raises UnknownReason for one that the catalogue does not have."""
    if isinstance(reply, Delivered):
        if reply.warning is not None:
            reason(reply.warning)
        is_legible = not _UNSTORABLE.search(reply.partner_id + reply.partner_version)
        return reply if is_legible else Unknown("answer_unreadable")
    reason(reply.reason)
    return replace(reply, params=_cleaned(reply.params)) if reply.params else reply


def _legible(found: ReadBack) -> ReadBack:
    """What was found, if all of it can be stored. Raises RetryableError."""
    if isinstance(found, Absent):
        return found
    if _UNSTORABLE.search(found.partner_id + found.partner_version):
        raise RetryableError("answer_unreadable")
    return replace(found, theirs=_cleaned(found.theirs)) if found.theirs else found


def _cleaned(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text) for name, text in texts.items()}
