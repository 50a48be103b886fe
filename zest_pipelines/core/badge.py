"""What a care worker sees on a record.

    state      user's turn      partner's   ours        not classified
    due        waiting          waiting     waiting     waiting
    retry      action_needed    retrying    retrying    retrying
    unknown    check_needed     retrying    retrying    retrying
    conflict   check_needed     check_needed for all
    parked     action_needed    check_needed for all others

Action needed: change something, the reason says what. Check needed: nobody can tell from here, look at the
partner's screen or ask. What merely waits its turn (for a limit, a window, another record) stays due. An
unknown delivery is retrying while we read it back ourselves; where we cannot, the flow gives it the user's
reason `delivery_unsure`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import assert_never

from partners.reasons import Owner
from zest_pipelines.core.outcome import Outcome, PendingState


class Badge(StrEnum):
    """From best to worst, in this order."""

    OK = "ok"
    DELIVERED_WITH_WARNING = "delivered_with_warning"
    WAITING = "waiting"
    RETRYING = "retrying"
    ACTION_NEEDED = "action_needed"
    CHECK_NEEDED = "check_needed"


_ORDER = tuple(Badge)


def badge(state: PendingState, owner: Owner | None) -> Badge:
    """The badge of an open change, given whose turn its reason says it is; None: it has no reason."""
    is_users = owner is Owner.USER
    match state:
        case PendingState.DUE:
            return Badge.WAITING
        case PendingState.RETRY:
            return Badge.ACTION_NEEDED if is_users else Badge.RETRYING
        case PendingState.UNKNOWN:
            return Badge.CHECK_NEEDED if is_users else Badge.RETRYING
        case PendingState.CONFLICT:
            return Badge.CHECK_NEEDED
        case PendingState.PARKED:
            return Badge.ACTION_NEEDED if is_users else Badge.CHECK_NEEDED
        case _:
            assert_never(state)


def settled_badge(outcome: Outcome) -> Badge:
    """The badge of a record with nothing open, given its newest outcome. Raises ValueError for an open one.

    An abandoned one is ok: a person decided that the partner need not have it.
    """
    if not outcome.is_terminal:
        raise ValueError(f"{outcome} is not terminal")
    return Badge.DELIVERED_WITH_WARNING if outcome is Outcome.DELIVERED_WITH_WARNING else Badge.OK


def worst(badges: Iterable[Badge]) -> Badge:
    """The one to show for several; ok for none."""
    return max(badges, key=_ORDER.index, default=Badge.OK)
