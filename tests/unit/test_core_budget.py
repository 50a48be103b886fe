"""What the ledger's rule answers in single cases; its laws are in tests/property."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from partners.limits import Rate, parse_limit
from zest_pipelines.core import turns
from zest_pipelines.core.belief import FULL, Belief
from zest_pipelines.core.budget import Ask, Granted, Wait, admit, applies, refused
from zest_pipelines.core.meters import Bucket, State, begun, interval
from zest_pipelines.core.turns import EMPTY, Priority, Who
from zest_pipelines.core.usage import hour

NOW = 1_800_000_000.0
DAY = 86_400.0


def rate(text: str) -> Rate:
    limit = parse_limit(text)
    assert isinstance(limit, Rate)
    return limit


def bucket(text: str, ahead: float = 0.0, closed: float = 0.0) -> Bucket:
    return Bucket(rate(text), State(free_at=NOW + ahead if ahead else 0.0), NOW + closed if closed else 0.0)


def ask(
    calls: int, tenant: str = "sakura", priority: Priority = Priority.BACKGROUND, weight: int = 1, waits: float = 60.0
) -> Ask:
    return Ask(Who(tenant, priority, weight), calls, NOW + waits)


def slots(buckets: list[Bucket], calls: int, now: float = NOW, **who: object) -> list[float]:
    answer = admit(buckets, ask(calls, **who), now)  # type: ignore[arg-type]
    return [round(at - NOW, 3) for at in answer.send_at] if isinstance(answer, Granted) else []


def test_calls_are_spread_over_a_little_more_than_the_window() -> None:
    assert round(interval(bucket("tenant:60/60s")), 6) == 1.017294
    assert interval(bucket("tenant:1/10s")) == 11
    assert interval(bucket("tenant:5/1s")) == 0.4
    assert interval(bucket("tenant:10/10s-50%")) == 2.2


def test_slots_lie_a_pace_apart_and_no_further_ahead_than_close() -> None:
    assert slots([bucket("tenant:20/1s")], 10) == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert slots([bucket("tenant:1/10s")], 2) == [0.0]


def at_once(limit: str, others: list[State]) -> int:
    """How many calls a limit lets go at this moment, of the three that are wanted, if it begins now."""
    return len(slots([Bucket(rate(limit), begun(rate(limit), others, NOW))], 3, priority=Priority.PEOPLE))


@pytest.mark.parametrize("new", ["tenant:50/3h", "tenant:50/1d@00:00", "tenant:2/1s+40", "tenant:600/60s"])
def test_what_was_used_too_long_ago_to_count_keeps_no_new_limit_from_beginning_empty(new: str) -> None:
    used = admit([bucket("tenant:5000/1d")], ask(700), NOW)
    assert isinstance(used, Granted)
    just_now, long_ago = used.buckets[0].state, used.buckets[0].state._replace(seen=NOW - 2 * DAY)
    assert at_once(new, [just_now]) == 0
    assert at_once(new, [long_ago]) == at_once(new, []) > 0


def test_a_day_with_a_reset_that_becomes_a_sliding_one_counts_what_was_used_before_the_reset_too() -> None:
    daily = State(counts={1: 90, 2: 1}, reset=rate("tenant:100/1d@09:00").reset, seen=NOW - 60)
    assert at_once("tenant:91/1d", [daily]) == 0
    assert at_once("tenant:92/1d", [daily]) == 1


def test_a_spent_bucket_says_when_to_ask_again() -> None:
    answer = admit([bucket("tenant:1/10s", ahead=4)], ask(1), NOW)
    assert isinstance(answer, Wait)
    assert round(answer.until - NOW, 3) == 3.6


def test_an_idle_hour_saves_up_nothing() -> None:
    assert slots([bucket("tenant:60/60s", ahead=-3600, closed=-60)], 60) == [0.0]


def test_one_limit_that_says_no_spends_nothing_of_the_others() -> None:
    answer = admit([bucket("tenant:600/60s"), bucket("endpoint=a:1/30s", ahead=9)], ask(1), NOW)
    assert isinstance(answer, Wait)
    assert [each.state.free_at for each in answer.buckets] == [0.0]


def test_a_tenant_held_up_by_its_own_limit_does_not_make_the_vendors_idle() -> None:
    answer = admit([bucket("vendor:600/60s"), bucket("tenant:1/10s", ahead=0.3)], ask(1), NOW)
    assert isinstance(answer, Wait)
    assert round(answer.until - NOW, 3) == 0.3


def test_a_scope_that_the_partner_closed_stays_closed_until_then() -> None:
    answer = admit([bucket("tenant:600/60s", closed=120)], ask(1), NOW)
    assert isinstance(answer, Wait)
    assert answer.until >= NOW + 119


def test_without_limits_every_call_may_leave_now() -> None:
    assert slots([], 3) == [0.0, 0.0, 0.0]


def test_asking_for_no_call_is_a_fault() -> None:
    with pytest.raises(ValueError, match="at least one"):
        admit([], ask(0), NOW)


def test_an_endpoints_limit_applies_to_that_endpoint_alone() -> None:
    assert applies(parse_limit("endpoint=appointments:5/1s"), "appointments")
    assert not applies(parse_limit("endpoint=appointments:5/1s"), "patients")
    assert applies(parse_limit("vendor:concurrent=5"), "patients")


def test_a_days_limit_is_spent_in_a_burst_but_for_what_is_kept_for_people() -> None:
    day = bucket("tenant:100/1d")
    spent = admit([day], ask(200), NOW)
    assert isinstance(spent, Granted)
    assert len(spent.send_at) == 81  # the fifth is lent out one by one as time passes
    later = admit(spent.buckets, ask(200), NOW + DAY / 2)
    assert isinstance(later, Granted)
    people = admit(spent.buckets, ask(200, priority=Priority.PEOPLE), NOW + 1)
    assert isinstance(people, Granted)
    assert len(people.send_at) == 19
    nothing = admit(people.buckets, ask(1, priority=Priority.PEOPLE), NOW + 1)
    assert isinstance(nothing, Wait)
    assert DAY < nothing.until - NOW < DAY * 1.02


def test_a_daily_count_starts_anew_at_its_reset_and_not_before() -> None:
    reset = NOW - NOW % DAY + DAY  # 09:00 in Japan is midnight in UTC
    fixed = Bucket(rate("tenant:10/1d@09:00"))
    spent = admit([fixed], ask(20, priority=Priority.PEOPLE), reset - 60)
    assert isinstance(spent, Granted)
    assert len(spent.send_at) == 10
    wait = admit(spent.buckets, ask(1, priority=Priority.PEOPLE), reset - 30)
    assert isinstance(wait, Wait)
    assert 0 <= wait.until - reset <= 10
    assert isinstance(admit(spent.buckets, ask(10, priority=Priority.PEOPLE), reset + 10), Granted)


@pytest.mark.parametrize(
    ("moved", "spent_at", "changed_at", "left"),
    [
        ("10:00", [-2, 0.2], 0.5, 1),  # the new day began yesterday: of both old ones
        ("10:00", [-2, 0.2], 1.5, 7),  # it began after the old one: of that alone
        ("08:00", [-2, 0.2], 3.0, 1),  # it began before the old one
        ("08:00", [-2, 0.2], 24.5, 7),  # the day that is counted anew began in the old one
        ("09:00", [-2, 0.2], 3.0, 7),
    ],
)
def test_a_reset_that_is_moved_carries_over_what_was_used(
    moved: str, spent_at: list[float], changed_at: float, left: int
) -> None:
    nine = NOW - NOW % DAY  # 09:00 in Japan is midnight in UTC
    daily = Bucket(rate("tenant:10/1d@09:00"))
    for hours, calls in zip(spent_at, (6, 3), strict=True):
        answer = admit([daily], ask(calls, priority=Priority.PEOPLE), nine + 3600 * hours)
        assert isinstance(answer, Granted)
        (daily,) = answer.buckets
    changed = daily._replace(limit=rate(f"tenant:10/1d@{moved}"))
    answer = admit([changed], ask(20, priority=Priority.PEOPLE), nine + 3600 * changed_at)
    assert isinstance(answer, Granted)
    assert len(answer.send_at) == left
    tomorrow = admit(answer.buckets, ask(20, priority=Priority.PEOPLE), nine + 3600 * changed_at + DAY)
    assert isinstance(tomorrow, Granted)
    assert len(tomorrow.send_at) == 10


def test_what_leaves_near_the_reset_counts_on_both_days() -> None:
    reset = NOW - NOW % DAY + DAY
    people = Priority.PEOPLE
    spent = admit([Bucket(rate("tenant:10/1d@09:00"))], ask(20, priority=people), reset - 1)
    assert isinstance(spent, Granted)
    assert isinstance(admit(spent.buckets, ask(1, priority=people), reset + 10), Wait)


def test_background_work_may_have_more_of_the_day_as_it_passes() -> None:
    start = NOW - NOW % DAY + 10
    fixed = Bucket(rate("tenant:100/1d@09:00"))
    early, late = admit([fixed], ask(200), start), admit([fixed], ask(200), start + DAY * 0.9)
    assert isinstance(early, Granted)
    assert isinstance(late, Granted)
    assert (len(early.send_at), len(late.send_at)) == (80, 98)


def test_a_leaky_bucket_gives_its_burst_less_what_may_arrive_late_and_then_its_rate() -> None:
    leaky = bucket("vendor:2/1s+40")
    first = admit([leaky], ask(100), NOW)
    assert isinstance(first, Granted)
    assert len([at for at in first.send_at if at == NOW]) == 38
    assert slots(list(first.buckets), 100, NOW + 10) != []


# --- Turns ------------------------------------------------------------------------------------------------------------


def served(who: dict[str, Ask], seconds: float, text: str = "vendor:10/1s") -> Counter[str]:
    """How many calls each gets who comes again whenever told to."""
    found, now, counts = Bucket(rate(text)), NOW, Counter[str]()
    due = dict.fromkeys(who, NOW)
    while now < NOW + seconds:
        name = min(due, key=lambda each: due[each])
        now = max(now, due[name])
        wanted = replace(who[name], waits_until=now + 60)
        answer = admit([found], wanted, now)
        for changed in answer.buckets:
            found = changed
        if isinstance(answer, Granted):
            counts[name] += len(answer.send_at)
            due[name] = max(now + 0.001, answer.send_at[-1] - 0.3)
        else:
            due[name] = max(answer.until, now + 0.001)
    return counts


def test_each_gets_the_share_of_its_weight() -> None:
    counts = served({"large": ask(3, "large", weight=3), "small": ask(3, "small")}, 60)
    assert 2.7 < counts["large"] / counts["small"] < 3.3
    assert counts.total() > 0.95 * 60 * 10 / 2


def test_many_tenants_share_evenly_and_leave_nothing_idle() -> None:
    counts = served({f"t{number}": ask(1, f"t{number}") for number in range(20)}, 60)
    assert max(counts.values()) - min(counts.values()) <= 2
    assert counts.total() > 0.95 * 60 * 10 / 2


def test_people_get_a_fifth_however_many_others_wait() -> None:
    crowd = {f"t{number}": ask(3, f"t{number}") for number in range(19)}
    counts = served(crowd | {"person": ask(3, "person", Priority.PEOPLE)}, 60)
    assert 0.18 < counts["person"] / counts.total() < 0.25


def test_who_does_not_come_back_holds_up_nobody_for_long() -> None:
    found = bucket("vendor:10/1s")
    for name in ("gone", "here"):
        answer = admit([found], ask(5, name), NOW)
        found = answer.buckets[0] if answer.buckets else found
    later = admit([found], ask(1, "here"), NOW + 5)
    assert isinstance(later, Granted)


def test_who_would_not_wait_so_long_has_no_place() -> None:
    answer = admit([bucket("vendor:10/1s", ahead=5)], ask(1, waits=1.0), NOW)
    assert isinstance(answer, Wait)
    assert not [place for place in answer.buckets[0].state.queue.places.values() if place.back_at is not None]


# --- Clock, belief, usage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["tenant:60/60s", "tenant:100/1d", "vendor:2/1s+4"])
def test_a_clock_that_goes_back_grants_nothing_twice(text: str) -> None:
    found = [bucket(text)]
    while isinstance(answer := admit(found, ask(500, priority=Priority.PEOPLE), NOW), Granted):
        found = list(answer.buckets)
    again = admit(found, ask(500, priority=Priority.PEOPLE), NOW - 3600)
    assert isinstance(again, Wait)


@pytest.mark.parametrize("texts", [["vendor:600/60s", "tenant:60/60s"], ["tenant:20/1h"], ["vendor:2/1s+4"]])
def test_after_a_clock_went_back_it_goes_on_as_if_no_time_had_passed(texts: list[str]) -> None:
    found = {rate(text): bucket(text) for text in texts}
    while isinstance(answer := admit(list(found.values()), ask(500, priority=Priority.PEOPLE), NOW), Granted):
        found |= {each.limit: each for each in answer.buckets}
    due, now, asked = answer.until - NOW, NOW - 3600, 0
    while isinstance(answer := admit(list(found.values()), ask(1, priority=Priority.PEOPLE), now), Wait):
        found |= {each.limit: each for each in answer.buckets}
        now, asked = answer.until, asked + 1
    assert now - (NOW - 3600) < due + 1
    assert asked < 20


@pytest.mark.parametrize(
    ("rest", "doubted"),
    [
        (None, ["tenant:60/60s"]),
        (1.0, ["tenant:60/60s"]),
        (60.0, ["tenant:60/60s"]),
        (3600.0, ["tenant:5000/1d"]),
        (40 * 3600.0, []),
    ],
)
def test_a_refusal_doubts_that_limit_alone_which_can_be_full_for_so_long(
    rest: float | None, doubted: list[str]
) -> None:
    minute = bucket("tenant:60/60s")._replace(state=State(load=50, seen=NOW))
    day = bucket("tenant:5000/1d")._replace(state=State(load=4900, seen=NOW))
    assert [str(each.limit) for each in refused([minute, day], NOW, rest)] == doubted


def test_a_refusal_halves_what_is_used_most_and_spares_what_is_idle() -> None:
    busy = bucket("tenant:60/60s")._replace(state=State(load=50, seen=NOW))
    idle = bucket("vendor:600/60s")._replace(state=State(load=50, seen=NOW))
    changed = refused([idle, busy], NOW, None)
    assert [(each.limit, each.state.belief.share) for each in changed] == [(busy.limit, 0.5)]
    assert refused([bucket("tenant:60/60s")], NOW, None) == ()


def test_limits_that_are_used_alike_are_doubted_alike_in_any_order() -> None:
    one = bucket("tenant:60/60s")._replace(state=State(load=50, seen=NOW))
    other = bucket("endpoint=a:60/60s")._replace(state=State(load=50, seen=NOW))
    assert len(refused([one, other], NOW, None)) == len(refused([other, one], NOW, None)) == 2


def test_a_lower_limit_is_found_within_five_windows_and_forgotten_when_it_is_gone() -> None:
    found, now, allowed, told_no = Bucket(rate("tenant:60/60s")), NOW, 30, 0
    sent: list[float] = []
    for phase, until in ((30, NOW + 1800), (60, NOW + 5400)):
        allowed = phase
        while now < until:
            answer = admit([found], ask(1), now)
            if isinstance(answer, Wait):
                now = max(answer.until, now + 0.01)
                found = answer.buckets[0]
                continue
            (found,) = answer.buckets
            if sum(at > now - 60 for at in sent) >= allowed:
                told_no += 1
                changed = refused([found], now, None)
                found = (changed[0] if changed else found)._replace(closed_until=now + 3)
            else:
                sent.append(now)
    settled = sum(NOW + 300 < at <= NOW + 1800 for at in sent)
    assert settled > 0.85 * 30 * 25
    assert told_no < 0.03 * len(sent)
    assert sum(at > NOW + 5400 - 600 for at in sent) > 0.9 * 600


def test_a_full_belief_needs_no_relaxing() -> None:
    assert Bucket(rate("tenant:60/60s")).state.belief is FULL
    assert Bucket(rate("tenant:60/60s"), State(belief=Belief(share=0.5))).allowed == 30


def test_the_last_hour_is_told_by_the_minute() -> None:
    answer = admit([bucket("tenant:20/1s")], ask(3), NOW)
    assert isinstance(answer, Granted)
    used = hour(answer.buckets[0].state.used, NOW)
    assert (len(used), used[-1], sum(used)) == (60, 3, 3)


@pytest.mark.parametrize("weight", [1, 3])
def test_slots_that_are_given_at_once_leave_the_queue_as_one_after_the_other_does(weight: int) -> None:
    one, other = Who("momiji"), Who("sakura", Priority.PEOPLE, weight)
    by_turns = queue = turns.served(turns.placed(EMPTY, one, NOW), other, [])
    for _ in range(7):
        by_turns = turns.served(by_turns, other, [])
    at_once = turns.served(queue, other, [], 7)
    assert at_once.places.keys() == by_turns.places.keys()
    assert at_once.places[other.key] == pytest.approx(by_turns.places[other.key])
    assert (at_once.times, at_once.shares) == (pytest.approx(by_turns.times), pytest.approx(by_turns.shares))
    assert at_once.share_time == pytest.approx(by_turns.share_time)
