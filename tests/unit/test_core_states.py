"""Outcomes, states, badges, and what becomes of a record's versions."""

from __future__ import annotations

import pytest

from partners.contract import Verb
from zest_pipelines.core.badge import Badge, worst
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
