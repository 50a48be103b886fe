"""Outcomes, states, badges, and what becomes of a record's versions."""

from __future__ import annotations

import pytest

from partners.contract import Verb
from partners.reasons import Owner
from zest_pipelines.core.badge import Badge, badge, settled_badge, worst
from zest_pipelines.core.coalesce import Decision, Op, Version, coalesce
from zest_pipelines.core.outcome import Outcome, PendingState

TERMINAL = {
    Outcome.DELIVERED,
    Outcome.DELIVERED_WITH_WARNING,
    Outcome.SUPERSEDED,
    Outcome.NOT_NEEDED,
    Outcome.ABANDONED,
}


def made(number: int) -> Version:
    return Version(number, Op.UPSERT)


def cancelled(number: int) -> Version:
    return Version(number, Op.CANCEL)


def test_terminal_outcomes_leave_pending_and_open_ones_stay_in_it() -> None:
    assert {outcome for outcome in Outcome if outcome.is_terminal} == TERMINAL
    assert {outcome: outcome.pending_state for outcome in Outcome if outcome not in TERMINAL} == {
        Outcome.RETRY: PendingState.RETRY,
        Outcome.UNKNOWN: PendingState.UNKNOWN,
        Outcome.CONFLICT: PendingState.CONFLICT,
        Outcome.PARKED: PendingState.PARKED,
        Outcome.RELEASED: PendingState.DUE,
    }


@pytest.mark.parametrize(
    ("state", "owner", "shown"),
    [
        (PendingState.DUE, None, Badge.WAITING),
        (PendingState.DUE, Owner.USER, Badge.WAITING),
        (PendingState.RETRY, Owner.PARTNER, Badge.RETRYING),
        (PendingState.RETRY, Owner.USER, Badge.ACTION_NEEDED),
        (PendingState.UNKNOWN, Owner.PARTNER, Badge.RETRYING),
        (PendingState.UNKNOWN, Owner.USER, Badge.CHECK_NEEDED),
        (PendingState.CONFLICT, Owner.USER, Badge.CHECK_NEEDED),
        (PendingState.CONFLICT, Owner.PARTNER, Badge.CHECK_NEEDED),
        (PendingState.PARKED, Owner.USER, Badge.ACTION_NEEDED),
        (PendingState.PARKED, Owner.US, Badge.CHECK_NEEDED),
        (PendingState.PARKED, None, Badge.CHECK_NEEDED),
    ],
)
def test_the_badge_says_whose_turn_it_is(state: PendingState, owner: Owner | None, shown: Badge) -> None:
    assert badge(state, owner) is shown


def test_a_record_that_only_a_release_moves_on_never_looks_as_if_it_moved_by_itself() -> None:
    stuck = {badge(state, owner) for state in (PendingState.PARKED, PendingState.CONFLICT) for owner in Owner}
    assert stuck == {Badge.ACTION_NEEDED, Badge.CHECK_NEEDED}


def test_a_settled_record_is_ok_but_for_a_warning() -> None:
    assert {outcome: settled_badge(outcome) for outcome in TERMINAL} == {
        **dict.fromkeys(TERMINAL, Badge.OK),
        Outcome.DELIVERED_WITH_WARNING: Badge.DELIVERED_WITH_WARNING,
    }
    with pytest.raises(ValueError, match="not terminal"):
        settled_badge(Outcome.RETRY)


def test_the_worst_of_several_badges_is_shown() -> None:
    assert worst([]) is Badge.OK
    assert worst([Badge.WAITING, Badge.CHECK_NEEDED, Badge.ACTION_NEEDED]) is Badge.CHECK_NEEDED
    assert worst([Badge.OK, Badge.RETRYING, Badge.WAITING]) is Badge.RETRYING


@pytest.mark.parametrize(
    ("versions", "delivered", "decision"),
    [
        ([], None, Decision()),
        ([made(1)], None, Decision(made(1), Verb.CREATE)),
        ([made(2), made(1)], None, Decision(made(2), Verb.CREATE, superseded=(made(1),))),
        ([made(2)], made(1), Decision(made(2), Verb.UPDATE)),
        ([cancelled(2)], made(1), Decision(cancelled(2), Verb.CANCEL)),
        ([made(1), cancelled(2)], None, Decision(superseded=(made(1),), not_needed=(cancelled(2),))),
        ([cancelled(3)], cancelled(2), Decision(not_needed=(cancelled(3),))),
        ([made(3)], cancelled(2), Decision(made(3), Verb.UPDATE)),
        ([made(1), made(2)], made(2), Decision(superseded=(made(1), made(2)))),
    ],
)
def test_only_the_newest_version_is_sent_and_only_if_it_is_needed(
    versions: list[Version], delivered: Version | None, decision: Decision
) -> None:
    assert coalesce(versions, delivered, is_in_doubt=False) == decision


def test_a_cancel_is_not_dropped_while_the_create_before_it_is_in_doubt() -> None:
    found = coalesce([made(1), cancelled(2)], None, is_in_doubt=True)
    assert found == Decision(must_read_back=True)
