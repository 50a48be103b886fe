"""Outcomes, states, badges, and what becomes of a record's newest version."""

from __future__ import annotations

import pytest

from partners.contract import Verb
from zest_pipelines.core.badge import Badge, worst
from zest_pipelines.core.coalesce import Op, Version, decide
from zest_pipelines.core.outcome import Outcome, PendingState

TERMINAL = {
    Outcome.DELIVERED,
    Outcome.DELIVERED_WITH_WARNING,
    Outcome.SUPERSEDED,
    Outcome.NOT_NEEDED,
    Outcome.ABANDONED,
}


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
    ("op", "there", "decision"),
    [
        (Op.UPSERT, None, Verb.CREATE),
        (Op.UPSERT, Op.UPSERT, Verb.UPDATE),
        (Op.UPSERT, Op.CANCEL, Verb.UPDATE),
        (Op.CANCEL, Op.UPSERT, Verb.CANCEL),
        (Op.CANCEL, None, Outcome.NOT_NEEDED),
        (Op.CANCEL, Op.CANCEL, Outcome.NOT_NEEDED),
    ],
)
def test_a_version_is_sent_as_what_turns_the_partner_to_it_and_only_if_needed(
    op: Op, there: Op | None, decision: Verb | Outcome
) -> None:
    assert decide(Version(3, op), 2, there) is decision


@pytest.mark.parametrize("settled", [2, 3])
def test_a_version_not_above_the_settled_one_is_superseded(settled: int) -> None:
    assert decide(Version(2, Op.UPSERT), settled, Op.UPSERT) is Outcome.SUPERSEDED
