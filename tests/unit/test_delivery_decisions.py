"""What is decided about one record, without a partner and without a table."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from partners.contract import (
    Absent,
    Capability,
    Command,
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
from partners.errors import Deferred, RejectedError, RetryableError
from zest_pipelines.core.alarm import fingerprint_of
from zest_pipelines.core.backoff import delay
from zest_pipelines.core.classification import Classification
from zest_pipelines.core.outcome import Outcome, RepairOutcome
from zest_pipelines.flows.delivery import Rules, grouped, plan
from zest_pipelines.flows.errands import Clash, Errand, Look, Repeat, Send
from zest_pipelines.flows.verdicts import judge, suspect
from zest_pipelines.store.claims import Base, Doubt, Due, KnownCopy, Suspect
from zest_pipelines.store.keys import Key
from zest_pipelines.store.results import Repair, Result

NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)
RECORD = UUID(int=7)
IMAGE = {
    "starts_at": "2026-12-01T09:00:00+09:00",
    "ends_at": "2026-12-01T10:00:00+09:00",
    "service_code": "131111",
    "note": "",
}
HELD = Found("there", "9", ("note",), {"note": "theirs"})


def rules(recovery: Recovery = Recovery.SEARCH, *, version_check: bool = False, **more: Any) -> Rules:
    capability = Capability(recovery, version_check, False, more.pop("key_lasts", None))
    return Rules(capability, more.pop("overwrites", False), NOW, timedelta(seconds=30), lambda: 0.5)


def key(version: int = 2) -> Key:
    return Key(date(2026, 11, 1), Entity.VISIT, RECORD, version)


def known(version: int = 1) -> KnownCopy:
    return KnownCopy("there", "1", is_cancelled=False, links={"client": "c1"}, version=version)


def doubt(verb: Verb = Verb.UPDATE, version: int = 2, **more: Any) -> Doubt:
    values: dict[str, Any] = {"partner_id": "there", "partner_version": "1", "made_at": NOW, "is_repair": False} | more
    return Doubt(uuid4(), key(version), verb, f"visit:{RECORD}:{version}", IMAGE, {}, **values)


def due(version: int = 2, **more: Any) -> Due:
    values: dict[str, Any] = {"op": "upsert", "attempts": 0, "known": known(), "doubt": None} | more
    base = values.pop("base", Base(key(1), IMAGE, Verb.UPDATE, {"client": "c1"}))
    settled = values.pop("settled_version", 1)
    return Due(
        key(version), image=IMAGE, client="c1", staff=None, visit=None, base=base,
        settled_version=settled, **values,
    )  # fmt: skip


def suspected(**more: Any) -> Suspect:
    values: dict[str, Any] = {"image": IMAGE, "verb": Verb.UPDATE, "doubt": None} | more
    return Suspect(key(3), links={}, partner_id="there", partner_version="1", attempts=0, claimed_at=NOW, **values)


def send(subject: Due | Suspect | None = None, its: Rules | None = None) -> Errand:
    errand = plan(its or rules(), subject or due())
    assert not isinstance(errand, tuple)
    return errand


def end(errand: Errand, heard: Any, its: Rules | None = None) -> Result | Repair:
    (only,) = judge(its or rules(), errand, heard).ends
    return only


# --- Before the call --------------------------------------------------------------------------------------------------


def test_content_is_compared_where_only_that_tells_of_changes_made_there() -> None:
    bases = {
        (recovery, check): getattr(send(its=rules(recovery, version_check=check)), "base", None) is not None
        for recovery in (Recovery.KEY, Recovery.CLIENT_ID, Recovery.SEARCH)
        for check in (False, True)
    }
    assert [case for case, compares in bases.items() if compares] == [
        (Recovery.CLIENT_ID, False),
        (Recovery.SEARCH, False),
    ]


@pytest.mark.parametrize(
    "record",
    [due(known=None, base=None, settled_version=0), due(base=None), due(known=known(version=2))],
    ids=["never delivered", "archived", "heard of since"],
)
def test_content_is_not_compared_where_there_is_nothing_to_compare_with_or_somebody_has_decided(record: Due) -> None:
    errand = send(record)
    assert isinstance(errand, Send)
    assert errand.base is None


def test_a_new_record_of_which_an_earlier_version_ended_is_looked_for_first() -> None:
    errand = send(due(known=None, base=None, settled_version=1))
    assert isinstance(errand, Send)
    assert errand.base == errand.command


@pytest.mark.parametrize(
    ("recovery", "kind"),
    [(Recovery.KEY, Repeat), (Recovery.CLIENT_ID, Look), (Recovery.SEARCH, Look)],
)
def test_doubt_is_met_by_what_the_partner_offers(recovery: Recovery, kind: type[Errand]) -> None:
    in_doubt = doubt()
    errand = send(due(3, doubt=in_doubt), rules(recovery))
    assert isinstance(errand, kind)
    assert (errand.command.version, errand.command.key) == (2, in_doubt.idempotency_key)


@pytest.mark.parametrize("its", [rules(Recovery.NONE), rules(Recovery.KEY, key_lasts=timedelta(hours=1))])
def test_doubt_that_nothing_can_end_is_for_a_person(its: Rules) -> None:
    record = due(doubt=doubt(made_at=NOW - timedelta(hours=1)))
    (only,) = plan(its, record)  # type: ignore[misc]
    assert (only.outcome, only.reason, only.intent_id) == (Outcome.PARKED, "delivery_unsure", record.doubt.intent_id)


def test_a_newer_version_waits_with_a_creation_that_is_for_a_person_and_not_with_a_change() -> None:
    def ends(verb: Verb) -> list[int]:
        return [each.key.version for each in plan(rules(Recovery.NONE), due(3, doubt=doubt(verb)))]  # type: ignore[union-attr]

    assert (ends(Verb.CREATE), ends(Verb.UPDATE)) == ([2, 3], [2])


@pytest.mark.parametrize("record", [suspected(image=None), suspected()])
def test_a_suspect_that_cannot_be_compared_is_for_a_person(record: Suspect) -> None:
    its = rules() if record.image is None else rules(Recovery.NONE)
    assert plan(its, record) == (Repair(record.key, RepairOutcome.PARKED, "late_answer_unsure"),)


# --- Batches ----------------------------------------------------------------------------------------------------------


def waiting(*attempts: int, entity: Entity = Entity.VISIT) -> deque[Errand]:
    def one(tries: int) -> Errand:
        errand = send(due(known=None, base=None, settled_version=0, attempts=tries))
        return replace(errand, subject=replace(errand.subject, key=replace(key(), entity=entity)))  # type: ignore[arg-type]

    return deque(one(tries) for tries in attempts)


def sizes(errands: deque[Errand], batch_size: int, most: int = 9) -> list[int]:
    return [len(group) for group in grouped(errands, batch_size, most)]


def test_batches_take_as_many_as_there_may_be_and_half_with_each_attempt() -> None:
    assert sizes(waiting(*[0] * 20), 8) == [8, 8, 4]
    assert sizes(waiting(*[1] * 10), 8) == [4, 4, 2]
    assert sizes(waiting(*[3] * 3), 8) == sizes(waiting(*[40] * 3), 8) == [1, 1, 1]
    assert sizes(waiting(0, 0, 0), 1) == [1, 1, 1]


def test_those_of_one_kind_and_attempt_go_together_in_the_order_of_their_waiting() -> None:
    mixed = waiting(0, 1, 0, 1) + waiting(0, 0, entity=Entity.VISIT_RECORD)
    first, second = mixed[0], mixed[1]
    groups = grouped(mixed, 8, 2)
    assert (groups[0][0], groups[1][0]) == (first, second)
    assert [len(group) for group in groups] == [2, 2]
    assert {each.subject.key.entity for each in mixed} == {Entity.VISIT_RECORD}


def test_readings_and_what_is_compared_first_go_alone() -> None:
    errands: deque[Errand] = deque([send(), send(due(doubt=doubt())), send(suspected()), send()])
    assert sizes(errands, 8) == [1, 1, 1, 1]


# --- After the call ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heard", "outcome", "reason", "not_before"),
    [
        (Delivered("there", "2"), Outcome.DELIVERED, None, None),
        (Delivered("there", "2", "filled_in_by_partner"), Outcome.DELIVERED_WITH_WARNING, "filled_in_by_partner", None),
        (Retry("partner_locked"), Outcome.RETRY, "partner_locked", NOW + timedelta(seconds=2.5)),
        (Retry("partner_busy", not_before=NOW), Outcome.RETRY, "partner_busy", NOW),
        (Refused("record_refused"), Outcome.PARKED, "record_refused", None),
        (Refused("batch_refused"), Outcome.RETRY, "batch_refused", None),
        (Deferred(NOW), Outcome.RETRY, "budget_deferred", NOW),
        (Unknown("timeout_unsure"), Outcome.UNKNOWN, "timeout_unsure", NOW + timedelta(seconds=30)),
        (Unknown("found_different"), Outcome.UNKNOWN, "found_different", None),
        (Clash(Conflict("changed_at_partner"), HELD), Outcome.CONFLICT, "changed_at_partner", None),
        (Clash(Conflict("changed_at_partner"), Found("there", "2")), Outcome.DELIVERED, None, None),
        (Clash(Conflict("record_gone_at_partner"), Absent()), Outcome.CONFLICT, "record_gone_at_partner", None),
        (Clash(Conflict("changed_at_partner"), None), Outcome.CONFLICT, "changed_at_partner", None),
    ],
)
def test_a_reply_to_a_write(heard: Any, outcome: Outcome, reason: str | None, not_before: datetime | None) -> None:
    found = end(send(), heard)
    assert isinstance(found, Result)
    assert (found.outcome, found.reason, found.not_before) == (outcome, reason, not_before)


def test_a_policy_overwrites_what_it_has_seen_and_nothing_else() -> None:
    its = rules(overwrites=True)
    over = end(send(), Clash(Conflict("changed_at_partner"), HELD), its)
    assert (over.outcome, over.reason, over.partner_version) == (Outcome.RETRY, "overwriting_partner_change", "9")
    blind = end(send(), Clash(Conflict("changed_at_partner"), None), its)
    assert (blind.outcome, blind.reason, blind.partner_version) == (Outcome.RETRY, "changed_at_partner", None)
    assert end(send(), Clash(Conflict("record_gone_at_partner"), Absent()), its).outcome is Outcome.CONFLICT
    written = end(send(due(overwriting={"note": "theirs"})), Delivered("there", "10"), its)
    assert (written.outcome, written.reason) == (Outcome.DELIVERED_WITH_WARNING, "partner_change_overwritten")


@pytest.mark.parametrize(
    ("heard", "outcome"),
    [
        (Delivered("there", "2"), Outcome.DELIVERED),
        (Refused("record_refused"), Outcome.PARKED),
        (Refused("credential_refused"), Outcome.UNKNOWN),
        (Refused("permission_missing"), Outcome.UNKNOWN),
        (Retry("partner_busy"), Outcome.UNKNOWN),
        (Unknown("connection_cut_unsure"), Outcome.UNKNOWN),
    ],
)
def test_a_repeat_ends_the_doubt_only_where_it_came_to_the_key(heard: Any, outcome: Outcome) -> None:
    its = rules(Recovery.KEY)
    assert end(send(due(doubt=doubt()), its), heard, its).outcome == outcome


@pytest.mark.parametrize("code", ["content_refused", "credential_refused", "partner_busy"])
def test_no_word_on_an_unknown_answer_ends_the_doubt_of_a_repeat(code: str) -> None:
    told = {"detail": "visits 418"}
    said = Classification("carecsv", {fingerprint_of("carecsv", "unknown", "visits 418"): code})
    its = replace(rules(Recovery.KEY), classified=said)
    ended = end(send(due(doubt=doubt()), its), Retry("unknown", told), its)
    assert (ended.outcome, ended.reason, ended.params) == (Outcome.UNKNOWN, "unknown", told)


def test_a_copy_that_is_not_as_sent_teaches_nothing_where_one_was_known() -> None:
    """Else the next write would name the version of a change that nobody has looked at."""
    learnt = {
        verb: end(send(due(doubt=doubt(verb))), HELD).partner_version
        for verb in (Verb.CREATE, Verb.UPDATE, Verb.CANCEL)
    }
    assert learnt == {Verb.CREATE: "9", Verb.UPDATE: None, Verb.CANCEL: None}


@pytest.mark.parametrize(
    ("heard", "outcome"),
    [
        (Found("there", "2"), Outcome.DELIVERED),
        (Absent(), Outcome.RETRY),
        (RetryableError("partner_failed"), Outcome.UNKNOWN),
        (RejectedError("credential_refused"), Outcome.UNKNOWN),
        (RejectedError("several_at_partner"), Outcome.UNKNOWN),
    ],
)
def test_a_reading_back(heard: Any, outcome: Outcome) -> None:
    assert end(send(due(doubt=doubt())), heard).outcome == outcome


@pytest.mark.parametrize(("heard", "reason"), [(Absent(), "not_arrived"), (HELD, "found_different")])
def test_what_had_no_effect_goes_again_at_once_and_with_growing_patience_if_that_goes_on(
    heard: Any, reason: str
) -> None:
    def next_try(lost: int) -> Any:
        ended = end(send(due(doubt=doubt(), attempts=9, lost=lost)), heard)
        assert isinstance(ended, Result)
        assert (ended.outcome, ended.reason) == (Outcome.RETRY, reason)
        return ended.not_before

    assert (next_try(0), next_try(1)) == (None, None)
    assert [next_try(lost) - NOW for lost in (2, 3, 99)] == [delay(n + 1, lambda: 0.5) for n in (2, 3, 99)]


def test_the_limits_put_a_reading_back_off_and_end_nothing() -> None:
    verdict = judge(rules(), send(due(doubt=doubt())), Deferred(NOW))
    assert (verdict.ends, verdict.stop, verdict.is_failure) == ((), "budget_deferred", False)


@pytest.mark.parametrize(
    ("heard", "stop", "is_failure"),
    [
        (Retry("partner_unreachable"), "partner_unreachable", True),
        (Retry("partner_busy", not_before=NOW), "partner_busy", False),
        (Refused("credential_refused"), "credential_refused", True),
        (Refused("record_refused"), None, False),
        (Deferred(NOW), "budget_deferred", False),
    ],
)
def test_what_stops_a_connection_and_what_the_breaker_counts(heard: Any, stop: str | None, is_failure: bool) -> None:
    verdict = judge(rules(), send(), heard)
    assert (verdict.stop, verdict.is_failure) == (stop, is_failure)


def test_only_words_about_the_record_itself_are_an_answer() -> None:
    answers = [Delivered("a", "1"), Refused("record_refused"), Refused("permission_missing"), Retry("partner_locked")]
    others = [Unknown("timeout_unsure"), Retry("partner_unreachable"), Refused("credential_refused"), Deferred(NOW)]
    assert [judge(rules(), send(), heard).is_answer for heard in answers] == [True] * 4
    assert [judge(rules(), send(), heard).is_answer for heard in others] == [False] * 4
    assert [judge(rules(), send(), heard).is_silence for heard in (*answers, *others)] == [False] * 4 + [True] + [
        False
    ] * 3


# --- Suspicion --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recovery", list(Recovery))
@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_late_end_is_suspicious_if_it_may_have_written_and_no_key_made_it_a_repeat(
    outcome: Outcome, recovery: Recovery
) -> None:
    is_suspicious = suspect(rules(recovery), Result(key(), outcome, "late", intent_id=uuid4())) is not None
    may_have_written = outcome in (Outcome.DELIVERED, Outcome.DELIVERED_WITH_WARNING, Outcome.UNKNOWN)
    assert is_suspicious == (may_have_written and recovery is not Recovery.KEY)


def test_a_suspect_that_is_not_as_it_should_be_is_sent_again_under_a_new_key_over_what_is_there() -> None:
    verdict = judge(rules(), send(suspected()), HELD)
    assert verdict.ends == ()
    assert isinstance(verdict.then, Send)
    sent: Command = verdict.then.command
    assert (sent.verb, sent.version, sent.partner_version) == (Verb.UPDATE, 3, "9")
    assert sent.key == f"visit:{RECORD}:3:repair:{verdict.then.intent.intent_id.hex[:8]}"
    assert end(verdict.then, Delivered("there", "10")).outcome is RepairOutcome.REPAIRED


@pytest.mark.parametrize(
    ("subject", "heard", "outcome"),
    [
        (suspected(), Found("there", "9"), RepairOutcome.EQUAL),
        (suspected(verb=Verb.CANCEL), Absent(), RepairOutcome.EQUAL),
        (suspected(), Absent(), RepairOutcome.PARKED),
        (suspected(), RetryableError("partner_failed"), RepairOutcome.RETRY),
        (suspected(doubt=doubt(version=3, is_repair=True)), Found("there", "9"), RepairOutcome.REPAIRED),
        (suspected(doubt=doubt(version=3, is_repair=True)), HELD, RepairOutcome.RETRY),
        (suspected(doubt=doubt(version=3, is_repair=True)), RetryableError("partner_failed"), RepairOutcome.UNKNOWN),
    ],
)
def test_how_a_look_at_a_suspect_ends(subject: Suspect, heard: Any, outcome: RepairOutcome) -> None:
    found = end(send(subject), heard)
    assert found.outcome is outcome
    assert found.intent_id == (subject.doubt and subject.doubt.intent_id)


def test_a_repair_in_doubt_under_a_newer_version_ends_as_a_repair_and_ends_no_version() -> None:
    in_doubt = doubt(version=1, is_repair=True)
    for heard in (Found("there", "9"), HELD, Absent()):
        found = end(send(due(2, doubt=in_doubt)), heard)
        assert isinstance(found, Repair)
        assert found.intent_id == in_doubt.intent_id
