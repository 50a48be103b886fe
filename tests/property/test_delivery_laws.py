"""Laws of what a push decides, for whatever is waiting."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from partners.contract import Capability, Entity, Recovery
from partners.reasons import all_reasons
from zest_pipelines.core.breaker import CAP, PERSON, stays_away
from zest_pipelines.flows.delivery import Rules, grouped, plan
from zest_pipelines.flows.errands import Errand, Send
from zest_pipelines.store.claims import Due
from zest_pipelines.store.keys import Key

NOW = datetime(2026, 11, 25, tzinfo=UTC)
RULES = Rules(Capability(Recovery.KEY, False, False), False, NOW, timedelta(0), lambda: 0.0)
IMAGE = {
    "starts_at": "2026-12-01T09:00:00+09:00",
    "ends_at": "2026-12-01T10:00:00+09:00",
    "service_code": "",
    "note": "",
    "started_at": None,
    "ended_at": None,
    "status": "absent",
}


def send(number: int, entity: Entity, attempts: int) -> Send:
    due = Due(
        Key(date(2026, 11, 1), entity, UUID(int=number), 1), op="upsert", image=IMAGE, attempts=attempts,
        client="c", staff=None, visit="v", known=None, base=None, settled_version=0, doubt=None,
    )  # fmt: skip
    errand = plan(RULES, due)
    assert isinstance(errand, Send)
    return errand


lines = st.lists(st.tuples(st.sampled_from([Entity.VISIT, Entity.VISIT_RECORD]), st.integers(0, 5)), max_size=30).map(
    lambda rows: [send(number, *row) for number, row in enumerate(rows)]
)


@given(lines, st.integers(1, 20), st.integers(0, 10))
def test_grouping_loses_nothing_doubles_nothing_and_lets_the_first_go_first(
    line: list[Send], batch_size: int, most: int
) -> None:
    waiting: deque[Errand] = deque(line)
    groups = grouped(waiting, batch_size, most)
    taken = [errand for group in groups for errand in group]
    assert len(groups) <= most
    assert sorted(map(line.index, [*taken, *waiting])) == list(range(len(line)))
    assert list(waiting) == sorted(waiting, key=line.index)
    assert [group[0] for group in groups] == sorted((group[0] for group in groups), key=line.index)
    for group in groups:
        assert len({(each.subject.key.entity, each.subject.attempts) for each in group}) == 1
        assert len(group) <= max(1, batch_size >> group[0].subject.attempts)


@given(st.integers(1, 64), st.integers(1, 64), st.data())
def test_halving_finds_each_record_that_spoils_its_batch_and_delivers_all_others(
    records: int, batch_size: int, data: st.DataObject
) -> None:
    bad = data.draw(st.sets(st.integers(0, records - 1), max_size=4))
    waiting: deque[Errand] = deque(send(number, Entity.VISIT, 0) for number in range(records))
    delivered, parked, calls = set[int](), set[int](), 0
    while waiting:
        for group in grouped(waiting, batch_size, 1):
            calls += 1
            numbers = [each.subject.key.record_id.int for each in group]
            if not bad.intersection(numbers):
                delivered.update(numbers)
            elif len(group) == 1:
                parked.update(numbers)
            else:
                again = [replace(each.subject, attempts=each.subject.attempts + 1) for each in group]
                waiting.extend(each for due in again if isinstance(each := plan(RULES, due), Send))
    assert parked == bad
    assert delivered == set(range(records)) - bad
    halvings = batch_size.bit_length()
    assert calls <= -(-records // batch_size) + 3 * len(bad) * halvings  # an odd number halves into three


@given(st.sampled_from(all_reasons()), st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_the_breaker_stays_open_for_longer_with_each_failure_and_never_beyond_its_cap(
    why: object, failures: int, chance: float
) -> None:
    now, later = (stays_away(why, each, lambda: chance) for each in (failures, failures + 1))  # type: ignore[arg-type]
    assert timedelta(0) <= now <= later <= max(CAP, PERSON)
