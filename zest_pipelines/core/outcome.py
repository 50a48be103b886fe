"""How an attempt ended, and where that leaves the record.

    newest outcome              terminal   state in `pending`   who moves it on
    (none yet)                             due                  push, at its time
    delivered                   yes        -
    delivered_with_warning      yes        -
    superseded                  yes        -                    (a newer version took over)
    not_needed                  yes        -                    (created and cancelled before any push)
    abandoned                   yes        -                    (a person gave it up)
    retry                                  retry                push, after its backoff
    unknown                                unknown              push: reads back first, never just resends
    conflict                               conflict             a release
    parked                                 parked               a release
    released                               due                  push, at its time

A release is a new version of the record, a changed credential or mapping, or a person's request.
"""

from __future__ import annotations

from enum import StrEnum


class PendingState(StrEnum):
    """Where an open change stands."""

    DUE = "due"
    RETRY = "retry"
    UNKNOWN = "unknown"
    CONFLICT = "conflict"
    PARKED = "parked"


class Outcome(StrEnum):
    """How an intent or a change ended."""

    DELIVERED = "delivered"
    DELIVERED_WITH_WARNING = "delivered_with_warning"
    SUPERSEDED = "superseded"
    NOT_NEEDED = "not_needed"
    ABANDONED = "abandoned"
    RETRY = "retry"
    UNKNOWN = "unknown"
    CONFLICT = "conflict"
    PARKED = "parked"
    RELEASED = "released"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more happens to this version."""
        return self.pending_state is None

    @property
    def pending_state(self) -> PendingState | None:
        """Where it leaves the change; None: it is settled and leaves `pending`."""
        return _OPEN.get(self)


class RepairOutcome(StrEnum):
    """How it stands with a settled record that a late sender may have touched."""

    SUSPECTED = "suspected"
    """Somebody's answer came after its version or intent had ended: it is to be read again."""
    EQUAL = "equal"
    """It is as it should be."""
    REPAIRED = "repaired"
    """It was not, and was sent again under a new key."""
    RETRY = "retry"
    UNKNOWN = "unknown"
    PARKED = "parked"
    """A person decides."""

    @property
    def is_terminal(self) -> bool:
        """Whether it ends the suspicion."""
        return self in (RepairOutcome.EQUAL, RepairOutcome.REPAIRED)


_OPEN = {
    Outcome.RETRY: PendingState.RETRY,
    Outcome.UNKNOWN: PendingState.UNKNOWN,
    Outcome.CONFLICT: PendingState.CONFLICT,
    Outcome.PARKED: PendingState.PARKED,
    Outcome.RELEASED: PendingState.DUE,
}
