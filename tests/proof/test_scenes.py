"""Pushes that meet each other, outlive their lease, or find that the partner's copy is not as they knew it.

Judged by the partner's log. The same scenes catch the mutants (`test_mutants`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from signal import SIGKILL
from typing import Any
from uuid import UUID

import pytest
from conftest import fresh_database
from crash_scenes import (
    SCENES,
    Stage,
    Theatre,
    applied_late,
    applied_over_a_newer_one,
    changed_at_the_partner,
    stopped_and_applied_late,
    theatre,
)
from partner import PROOFS, truth
from push_process import Point

from resources.logins import Login, Logins
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import due

ASKED = "SELECT record_id, badge, reason FROM sync.badge WHERE badge IN ('check_needed', 'action_needed')"
OPEN = "SELECT record_id, version, state, reason FROM sync.pending"


@pytest.fixture(scope="module")
def own_house(server: EmbeddedServer, template: Logins) -> Iterator[Theatre]:
    with fresh_database(server, template) as logins, theatre(logins) as made:
        yield made


@pytest.fixture
def house(own_house: Theatre) -> Iterator[Theatre]:
    yield own_house
    own_house.clear()


@pytest.mark.parametrize("name", SCENES)
def test_nothing_is_broken_in_any_scene(house: Theatre, name: str) -> None:
    assert house.play(SCENES[name]) == []


# --- Changed there before we had looked -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_edited", [False, True])
@pytest.mark.parametrize("partner", ["proof_search", "proof_client_id", "proof_version"])
@pytest.mark.parametrize("policy", ["hold", "overwrite"])
def test_a_creation_whose_answer_was_lost_goes_over_no_change_of_theirs_unseen(
    house: Theatre, policy: str, partner: str, is_edited: bool
) -> None:
    stage = house.stage(partner)
    stage.office.sql("UPDATE sync.connection SET on_conflict = :policy", Login.OPERATOR, policy=policy)
    (visit,) = stage.office.add_visits()
    stage.accumulate()
    with stage.pushing(point=Point.RESPONSE_READ) as pusher:
        assert pusher.wait_for_end() == -SIGKILL
    stage.expire_lease()
    stage.partner.edit(*stage.office.space, visit, note="theirs")
    if is_edited:
        stage.office.edit(visit, note="2")
    stage.settle()
    held, ours = policy == "hold", "2" if is_edited else "1"
    assert stage.copy(visit)["content"]["note"] == ("theirs" if held else ours)
    view = "SELECT field, theirs FROM sync." + ("conflict" if held else "overwritten")
    assert ("note", "theirs") in [tuple(row) for row in stage.office.sql(view, Login.OPERATOR)]
    (badge,) = stage.office.sql("SELECT badge FROM sync.badge WHERE record_id = :visit", visit=visit)
    assert badge.badge == ("check_needed" if held else "delivered_with_warning")


# --- Late senders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partner", ["proof_search", "proof_client_id"])
@pytest.mark.parametrize("play", [applied_late, stopped_and_applied_late])
def test_a_newer_version_that_a_late_call_wrote_over_is_put_back_under_a_new_key(
    house: Theatre, partner: str, play: Any
) -> None:
    stage = house.stage(partner)
    assert play(stage) == []
    (visit,) = truth(stage.office, stage.partner).repaired
    rows = stage.office.sql("SELECT outcome FROM sync.repair ORDER BY repair_no", Login.OPERATOR)
    assert [row.outcome for row in rows] == ["suspected", "repaired"]
    keys = stage.office.sql("SELECT key FROM sync.intent WHERE version = 3 ORDER BY made_at", Login.OPERATOR)
    assert [":repair:" in row.key for row in keys] == [False, True]
    assert [effect for effect, _ in stage.effects(UUID(visit.split()[1]))][-2:] == ["updated", "updated"]
    assert stage.office.sql(ASKED) == []


@pytest.mark.parametrize("play", [applied_late, stopped_and_applied_late])
def test_a_late_call_is_refused_by_a_partner_that_checks_versions(house: Theatre, play: Any) -> None:
    stage = house.stage("proof_version")
    assert play(stage) == []
    refused = [row["version"] for row in stage.partner.log() if row["status"] == 412]
    assert refused == [2]
    assert truth(stage.office, stage.partner).repaired == ()


@pytest.mark.parametrize("play", [applied_late, stopped_and_applied_late])
def test_a_person_is_asked_about_a_late_call_where_nothing_can_be_read(house: Theatre, play: Any) -> None:
    stage = house.stage("proof_none")
    assert play(stage) == []
    (row,) = stage.office.sql(ASKED)
    assert (row.badge, row.reason) == ("check_needed", "late_answer_unsure")


def test_a_late_creation_that_makes_a_second_copy_is_noticed_and_a_person_is_asked(house: Theatre) -> None:
    stage = house.stage("proof_search")
    (visit,) = stage.office.add_visits()
    stage.accumulate()
    stage.partner.hold()
    with stage.pushing() as late:
        stage.partner.wait_held()
        stage.expire_lease()
        stage.settle()  # it is not there, and nothing says that it is still to come
        stage.release()
        assert late.wait_for_end() == 0
    stage.settle()
    assert stage.effects(visit) == [("created", 1), ("created", 1)]
    assert [(row.badge, row.reason) for row in stage.office.sql(ASKED)] == [("check_needed", "several_at_partner")]


@pytest.mark.parametrize("point", [Point.INTENT_COMMITTED, Point.BYTES_SENT, Point.RESPONSE_READ])
def test_a_repair_that_is_killed_is_repaired(house: Theatre, point: Point) -> None:
    stage = house.stage("proof_search")
    visit = applied_over_a_newer_one(stage)
    with stage.pushing(point=point) as repairing:
        assert repairing.wait_for_end() == -SIGKILL
    stage.expire_lease()
    stage.settle()
    assert stage.broken() == []
    assert stage.effects(visit) == [("created", 1), ("updated", 3), ("updated", 2), ("updated", 3)]


# --- Batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [Point.BYTES_SENT, Point.RESPONSE_READ])
@pytest.mark.parametrize("partner", PROOFS)
def test_of_a_batch_that_is_killed_nothing_is_lost_or_doubled(house: Theatre, partner: str, point: Point) -> None:
    stage = house.stage(partner, settings={"batch_size": "8"})
    visits = stage.office.add_visits(9)
    stage.accumulate()
    with stage.pushing(point=point) as pusher:
        assert pusher.wait_for_end() == -SIGKILL
    stage.expire_lease()
    stage.settle()
    assert stage.broken() == []
    if partner == "proof_none":
        assert {row.reason for row in stage.office.sql(ASKED)} == {"delivery_unsure"}
    else:
        assert [stage.effects(visit) for visit in visits] == [[("created", 1)]] * 9


# --- Two at once ------------------------------------------------------------------------------------------------------


def test_two_daemons_send_what_one_would_have_sent(house: Theatre) -> None:
    stage = house.stage("proof_search")
    visits = stage.office.add_visits(60)
    stage.partner.configure(latency=0.005)
    with stage.pushing(rounds=4) as one, stage.pushing(rounds=4) as other:
        stage.office.edit(*visits[:20], note="2")
        assert one.wait_for_end() == other.wait_for_end() == 0
    stage.partner.configure(latency=0.0)
    stage.settle()
    assert stage.broken() == []
    sent = Counter((row["method"], row["record_id"], row["version"]) for row in stage.partner.log())
    assert set(sent.values()) == {1}


def test_of_two_equal_runs_one_sends_and_the_other_says_why_it_does_not(house: Theatre) -> None:
    stage = house.stage("proof_search")
    visits = stage.office.add_visits(30)
    stage.accumulate()
    stage.partner.hold()
    with stage.pushing() as one:
        stage.partner.wait_held()
        report = stage.push()
        assert (report["stopped"], report["calls"]) == ("push_under_way", 0)
        stage.partner.release()
        assert one.wait_for_end() == 0
        assert one.report["delivered"] == 30
    assert [stage.effects(visit) for visit in visits] == [[("created", 1)]] * 30


# --- Conflicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partner", ["proof_version", "proof_search", "proof_client_id"])
def test_a_copy_that_was_changed_at_the_partner_is_held_and_shown(house: Theatre, partner: str) -> None:
    stage = house.stage(partner)
    assert changed_at_the_partner(stage) == []
    (row,) = stage.office.sql("SELECT field, ours, theirs FROM sync.conflict")
    assert (row.field, row.ours, row.theirs) == ("note", "ours", "theirs")
    (asked,) = stage.office.sql(ASKED)
    assert asked.badge == "check_needed"
    calls = len(stage.partner.log())
    stage.push()
    assert len(stage.partner.log()) == calls  # it costs nothing while a person thinks
    stage.ask_again()
    stage.settle()
    assert stage.broken() == stage.office.sql(ASKED) == []
    assert stage.copy(asked.record_id)["content"]["note"] == "ours"


@pytest.mark.parametrize("partner", ["proof_version", "proof_search"])
def test_a_copy_that_was_changed_at_the_partner_is_written_over_where_that_is_the_policy(
    house: Theatre, partner: str
) -> None:
    stage = house.stage(partner)
    stage.office.sql("UPDATE sync.connection SET on_conflict = 'overwrite'", Login.OPERATOR)
    assert changed_at_the_partner(stage) != []  # as is wanted here
    assert stage.broken() == stage.office.sql(ASKED) == stage.office.sql(OPEN, Login.OPERATOR) == []
    (row,) = stage.office.sql("SELECT reason FROM sync.result WHERE outcome = 'delivered_with_warning'", Login.OPERATOR)
    assert row.reason == "partner_change_overwritten"


@pytest.mark.parametrize("partner", ["proof_version", "proof_search"])
def test_a_cancellation_does_not_pass_over_a_copy_that_was_changed(house: Theatre, partner: str) -> None:
    stage = house.stage(partner)
    (visit,) = stage.office.add_visits()
    stage.settle()
    stage.partner.edit(*stage.office.space, visit, note="theirs")
    stage.office.cancel(visit)
    stage.settle()
    assert not stage.copy(visit)["is_cancelled"]
    assert [row.badge for row in stage.office.sql(ASKED)] == ["check_needed"]


# --- What a person decides --------------------------------------------------------------------------------------------


@pytest.fixture
def unsure(house: Theatre) -> Stage:
    """At a partner that can be asked nothing, one visit has arrived, and nobody here knows."""
    stage = house.stage("proof_none")
    stage.office.add_visits()
    stage.partner.fail("cut_after", times=1)
    stage.settle()
    (row,) = stage.office.sql(OPEN, Login.OPERATOR)
    assert (row.state, row.reason) == ("parked", "delivery_unsure")
    return stage


def test_released_it_is_sent_again(unsure: Stage) -> None:
    (row,) = unsure.office.sql(OPEN, Login.OPERATOR)
    unsure.ask_again()
    unsure.settle()
    assert unsure.effects(row.record_id) == [
        ("created", 1),
        ("created", 1),
    ]  # as the person says it is not there
    assert unsure.office.sql(OPEN, Login.OPERATOR) == []


def test_adopted_it_counts_as_delivered_and_the_next_version_goes_to_the_copy(unsure: Stage) -> None:
    (row,) = unsure.office.sql(OPEN, Login.OPERATOR)
    _decide(unsure, row, "adopt", unsure.copy(row.record_id)["partner_id"])
    unsure.settle()
    assert unsure.broken() == unsure.office.sql(OPEN, Login.OPERATOR) == []
    unsure.office.edit(row.record_id, note="2")
    unsure.settle()
    assert unsure.effects(row.record_id) == [("created", 1), ("updated", 2)]
    assert unsure.broken() == []


def test_a_newer_edit_of_it_is_not_sent_as_another_one_and_goes_over_what_is_adopted(unsure: Stage) -> None:
    (row,) = unsure.office.sql(OPEN, Login.OPERATOR)
    unsure.office.edit(row.record_id, note="2")
    unsure.settle()
    assert unsure.effects(row.record_id) == [("created", 1)]
    (row,) = unsure.office.sql(OPEN, Login.OPERATOR)
    _decide(unsure, row, "adopt", unsure.copy(row.record_id)["partner_id"])
    unsure.settle()
    unsure.settle()
    assert unsure.effects(row.record_id) == [("created", 1), ("updated", 2)]
    assert unsure.broken() == unsure.office.sql(OPEN, Login.OPERATOR) == []
    with unsure.office.services.database.transaction(Login.SCHEDULE, None) as tx:
        assert unsure.office.name not in due.outbound(tx, unsure.office.partner.name, "1")


def test_abandoned_it_ends_without_another_call(unsure: Stage) -> None:
    (row,) = unsure.office.sql(OPEN, Login.OPERATOR)
    calls = len(unsure.partner.log())
    _decide(unsure, row, "abandon", None)
    unsure.settle()
    assert unsure.office.sql(OPEN, Login.OPERATOR) == unsure.office.sql(ASKED) == []
    ends = unsure.office.sql("SELECT outcome FROM sync.result ORDER BY result_no DESC LIMIT 1", Login.OPERATOR)
    assert ends == [("abandoned",)]
    assert len(unsure.partner.log()) == calls


def test_what_is_given_up_in_doubt_is_not_made_twice_when_it_is_edited_later(house: Theatre) -> None:
    stage = house.stage("proof_search")
    (visit,) = stage.office.add_visits()
    stage.accumulate()
    with stage.pushing(point=Point.RESPONSE_READ) as pusher:
        assert pusher.wait_for_end() == -SIGKILL
    (row,) = stage.office.sql(OPEN, Login.OPERATOR)
    _decide(stage, row, "abandon", None)
    stage.expire_lease()
    stage.settle()
    stage.office.edit(visit, note="2")
    stage.settle()
    assert stage.broken() == []
    assert stage.effects(visit) == [("created", 1), ("updated", 2)]


def test_a_newer_version_of_what_is_in_doubt_waits_for_the_person_too(house: Theatre) -> None:
    stage = house.stage("proof_none")
    (visit,) = stage.office.add_visits()
    stage.accumulate()
    with stage.pushing(point=Point.RESPONSE_READ) as pusher:
        assert pusher.wait_for_end() == -SIGKILL
    stage.office.edit(visit, note="2")
    stage.expire_lease()
    stage.settle()
    assert stage.effects(visit) == [("created", 1)]
    assert [row.reason for row in stage.office.sql(ASKED)] == ["delivery_unsure"]


def _lost_on_the_way(stage: Stage, *, has_arrived: bool) -> None:
    """What is due is sent by a push that dies before it knows what became of it."""
    stage.accumulate()
    with stage.pushing(point=Point.RESPONSE_READ if has_arrived else Point.INTENT_COMMITTED) as pusher:
        assert pusher.wait_for_end() == -SIGKILL
    stage.expire_lease()


def _given_up(house: Theatre, partner: str, *, has_arrived: bool) -> tuple[Stage, UUID]:
    """A new visit that a person gave up while nobody knew whether it had arrived."""
    stage = house.stage(partner)
    (visit,) = stage.office.add_visits()
    _lost_on_the_way(stage, has_arrived=has_arrived)
    _decide(stage, _only(stage), "abandon", None)
    stage.settle()
    assert stage.office.sql(OPEN, Login.OPERATOR) == []
    return stage, visit


def _only(stage: Stage) -> Any:
    (row,) = stage.office.sql(OPEN, Login.OPERATOR)
    return row


@pytest.mark.parametrize("partner", ["proof_none", "proof_key"])
def test_an_edit_of_what_was_given_up_in_doubt_waits_for_a_person_where_the_partner_cannot_be_asked(
    house: Theatre, partner: str
) -> None:
    stage, visit = _given_up(house, partner, has_arrived=True)
    for note in ("2", "3"):
        stage.office.edit(visit, note=note)
        stage.settle()
        assert (_only(stage).state, _only(stage).reason) == ("parked", "delivery_unsure")
    _decide(stage, _only(stage), "abandon", None)  # to give up once more does not tell either
    stage.settle()
    assert stage.office.sql(OPEN, Login.OPERATOR) == stage.office.sql(ASKED) == []
    stage.office.edit(visit, note="4")
    stage.settle()
    assert stage.effects(visit) == [("created", 1)]
    _decide(stage, _only(stage), "adopt", stage.copy(visit)["partner_id"])
    stage.settle()
    assert stage.effects(visit) == [("created", 1), ("updated", 4)]
    assert stage.broken() == stage.office.sql(OPEN, Login.OPERATOR) == []


@pytest.mark.parametrize("partner", ["proof_none", "proof_key"])
def test_an_edit_of_what_was_given_up_in_doubt_is_sent_when_a_person_says_that_it_is_not_there(
    house: Theatre, partner: str
) -> None:
    stage, visit = _given_up(house, partner, has_arrived=False)
    stage.office.edit(visit, note="2")
    stage.settle()
    assert stage.effects(visit) == []
    stage.ask_again()
    stage.settle()
    stage.office.edit(visit, note="3")
    stage.settle()
    assert stage.effects(visit) == [("created", 2), ("updated", 3)]
    assert stage.broken() == stage.office.sql(OPEN, Login.OPERATOR) == []


@pytest.mark.parametrize("partner", ["proof_none", "proof_key"])
def test_an_edit_of_what_was_given_up_without_any_doubt_goes_as_usual(house: Theatre, partner: str) -> None:
    stage = house.stage(partner)
    (visit,) = stage.office.add_visits()
    stage.partner.fail("reject", times=1)
    stage.settle()
    _decide(stage, _only(stage), "abandon", None)
    stage.settle()
    stage.office.edit(visit, note="2")
    stage.settle()
    assert stage.effects(visit) == [("created", 2)]
    assert stage.broken() == stage.office.sql(OPEN, Login.OPERATOR) == []


@pytest.mark.parametrize("has_arrived", [True, False])
@pytest.mark.parametrize("partner", ["proof_none", "proof_key"])
def test_a_cancellation_of_what_was_given_up_in_doubt_goes_to_what_a_person_finds(
    house: Theatre, partner: str, has_arrived: bool
) -> None:
    stage, visit = _given_up(house, partner, has_arrived=has_arrived)
    stage.office.cancel(visit)
    stage.settle()
    assert _only(stage).reason == "delivery_unsure"
    if has_arrived:
        _decide(stage, _only(stage), "adopt", stage.copy(visit)["partner_id"])
    else:
        stage.ask_again()
    stage.settle()
    assert stage.effects(visit) == ([("created", 1), ("cancelled", 2)] if has_arrived else [])
    assert stage.broken() == stage.office.sql(OPEN, Login.OPERATOR) == []


@pytest.mark.parametrize("has_arrived", [True, False])
@pytest.mark.parametrize("partner", ["proof_search", "proof_client_id", "proof_version"])
def test_a_cancellation_of_what_was_given_up_in_doubt_goes_to_what_the_partner_has(
    house: Theatre, partner: str, has_arrived: bool
) -> None:
    stage, visit = _given_up(house, partner, has_arrived=has_arrived)
    stage.office.cancel(visit)
    stage.accumulate()
    stage.partner.fail("refuse", times=1, methods=["GET"], status=503)
    stage.settle()
    stage.settle()
    assert stage.effects(visit) == ([("created", 1), ("cancelled", 2)] if has_arrived else [])
    assert stage.broken() == stage.office.sql(OPEN, Login.OPERATOR) == stage.office.sql(ASKED) == []


@pytest.mark.parametrize("partner", ["proof_none", "proof_key"])
def test_a_cancelled_visit_that_was_perhaps_brought_back_is_cancelled_again(house: Theatre, partner: str) -> None:
    stage = house.stage(partner)
    (visit,) = stage.office.add_visits()
    stage.settle()
    stage.office.cancel(visit)
    stage.settle()
    stage.office.edit(visit, status="confirmed")
    _lost_on_the_way(stage, has_arrived=True)
    if partner == "proof_key":  # else a person is asked in any case
        _decide(stage, _only(stage), "abandon", None)
    stage.settle()
    stage.office.cancel(visit)
    stage.settle()
    assert [effect for effect, _ in stage.effects(visit)] == ["created", "cancelled", "updated", "cancelled"]
    assert stage.broken() == stage.office.sql(OPEN, Login.OPERATOR) == []


def _answered_late(house: Theatre) -> tuple[Stage, UUID, Any]:
    """At a partner that can be asked nothing, a creation is under way, and a person is asked about it."""
    stage = house.stage("proof_none")
    (visit,) = stage.office.add_visits()
    stage.accumulate()
    stage.partner.hold()
    return stage, visit, stage.pushing()


def test_what_a_late_answer_says_is_kept_where_it_is_all_that_will_be_known(house: Theatre) -> None:
    stage, visit, pushing = _answered_late(house)
    with pushing as late:
        stage.partner.wait_held()
        stage.expire_lease()
        stage.settle()
        assert _only(stage).reason == "delivery_unsure"
        stage.release()
        assert late.wait_for_end() == 0
    stage.office.edit(visit, note="2")
    stage.settle()
    assert stage.effects(visit) == [("created", 1), ("updated", 2)]
    assert stage.broken() == stage.office.sql(OPEN, Login.OPERATOR) == []


def test_a_late_answer_does_not_turn_a_record_away_from_the_copy_that_is_known(house: Theatre) -> None:
    stage, visit, pushing = _answered_late(house)
    with pushing as late:
        stage.partner.wait_held()
        stage.expire_lease()
        stage.settle()
        stage.partner.heal()
        stage.ask_again()  # it is not there yet
        stage.settle()
        (known,) = [copy["partner_id"] for copy in stage.partner.state() if copy["record_id"] == str(visit)]
        stage.release()
        assert late.wait_for_end() == 0
    stage.office.edit(visit, note="2")
    stage.settle()
    notes = {copy["partner_id"]: copy["content"]["note"] for copy in stage.partner.state()}
    assert notes.pop(known) == "2"
    assert list(notes.values()) == ["1"]


def _decide(stage: Stage, row: Any, act: str, partner_id: str | None) -> None:
    stage.office.sql(
        "SELECT sync.decide(:tenant, :partner, 'visit', :record_id, :version, :act, CAST(:there AS text), 'looked')",
        tenant=stage.office.name,
        partner=stage.office.partner.name,
        record_id=row.record_id,
        version=row.version,
        act=act,
        there=partner_id,
    )
