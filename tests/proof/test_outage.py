"""The partner is away for an hour, in three ways, while edits go on; then it is back, and nobody storms it.

The hour is compressed, and with it the breaker and the backoff. The partner's own log judges: no window in it holds
more calls than the limit allows, neither at the return nor before, and each record came to it once.

Of those that nobody has tried yet, the oldest go first, but for the newest one, by which it is seen that the
partner is back. What was tried meanwhile goes by the time at which it was due again, so the oldest edit of all may
be among the last: its age is told and not judged. That the oldest untried one grows younger is judged in the long
form: in the short one the way back takes half as long as the outage did.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate

import psycopg
import pytest
from partner import PROOFS, Office, connect
from partner_process import Row, RunningPartner, running_partner
from pushers import serving
from storm import IS_SOAK, broken, looking_at, wait_until

from resources.logins import Login, Logins
from zest_pipelines.core import breaker
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store.database import Database

OFFICES = 8 if IS_SOAK else 4
RECORDS = 10_000 if IS_SOAK else 120
"""Of all offices together, edited while the partner is away."""
AWAY_SECONDS = 240.0 if IS_SOAK else 6.5
SHARE = AWAY_SECONDS / 3600
"""Of real time: so long is an hour here."""
MOST, WINDOW = 160 if IS_SOAK else 120, 1.0
"""Calls that the partner allows in any window, all offices together."""
CALL_SECONDS = 0.5
BOX_SECONDS = 0.5
PUSHERS = 2
STEPS = 30
"""In which the edits come."""
MOST_OVERTAKEN = PROOFS["proof_search"].parallel * AWAY_SECONDS / STEPS
"""Seconds: as many edits as there are lanes may pass each other; in the short form an office has one edit a step."""
UNTIL_ALL_ARE_SERVED = breaker.CAP.total_seconds() * SHARE + 5.0
"""The longest that the breaker may stay open after the return, and a probe."""
_AGE = """
    SELECT coalesce(extract(epoch FROM clock_timestamp() - min(since) FILTER (WHERE attempts = 0)), 0)::float,
           coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::float, count(*)
    FROM sync.pending
"""


@dataclass(frozen=True)
class Age:
    """What waits at one moment."""

    at: float
    """Unix seconds."""
    untried: float
    """Seconds since the oldest edit of those that nobody has tried; 0: there is none."""
    edited: float
    """Seconds since the oldest edit of all."""
    left: int


@dataclass
class Watch:
    """Looks at what waits, again and again."""

    admin: psycopg.Connection
    ages: list[Age] = field(default_factory=list)

    def look(self) -> int:
        """Note it; how many wait."""
        row = self.admin.execute(_AGE).fetchone()
        assert row is not None
        self.ages.append(Age(time.time(), *row))
        return self.ages[-1].left


def refuse_lines(partner: RunningPartner) -> Callable[[], None]:
    """Nobody listens. Ends with what is returned."""
    partner.die()
    return partner.revive


def be_unavailable(partner: RunningPartner) -> Callable[[], None]:
    """503 to all that comes, before any effect."""
    partner.fail("refuse", status=503, methods=("GET", "POST", "PUT"))
    return partner.heal


def hang(partner: RunningPartner) -> Callable[[], None]:
    """Take calls and answer none; what was taken is applied at the end, when nobody waits for it any more."""
    partner.fail("hold_before", methods=("GET", "POST", "PUT"))

    def end() -> None:
        partner.heal()
        partner.release()

    return end


@contextmanager
def editing(offices: Sequence[Office]) -> Iterator[None]:
    """Within the block, edits come all the while that the partner is away; at its end all have come."""

    def edit() -> None:
        for step in range(STEPS):
            began = time.monotonic()
            for office in offices:
                office.add_visits(RECORDS * (step + 1) // STEPS // OFFICES - RECORDS * step // STEPS // OFFICES)
            time.sleep(max(0.0, AWAY_SECONDS / STEPS - (time.monotonic() - began)))

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        yield
    finally:
        editor.join()


def be_away(partner: RunningPartner) -> float:
    """All three ways, one after the other; when it was back (Unix seconds)."""
    for way in (be_unavailable, refuse_lines, hang):
        end = way(partner)
        time.sleep(AWAY_SECONDS / 3)
        end()
    return time.time()


def fullest(rows: Sequence[Row]) -> int:
    """The most calls in any window. What it held is logged when it was let go, and so is left out."""
    times = sorted({row["call"]: row["at"] for row in rows if row["fault"] != "hold_before"}.values())
    most, first = 0, 0
    for number, at in enumerate(times):
        while times[first] <= at - WINDOW:
            first += 1
        most = max(most, number - first + 1)
    return most


def highest_by_thirds(ages: Sequence[Age]) -> list[float]:
    """How old the oldest untried one was, at most, in each third of the time until there was none."""
    ages = [age for age in ages if age.untried]
    assert len(ages) >= 5, "it was over before anything could be seen"
    first, third = ages[0].at, (ages[-1].at - ages[0].at) / 3
    found = [0.0, 0.0, 0.0]
    for age in ages:
        number = min(2, int((age.at - first) / third))
        found[number] = max(found[number], age.untried)
    return found


def overtaken(office: Office, rows: Sequence[Row], since: float) -> float:
    """By how many seconds at most an edit went before an older one of the office since then, neither of them tried
    before, and not the one by which the office saw that the partner was back."""
    edits = office.sql("SELECT record_id, at FROM sync.update_event", Login.OPERATOR)
    edited = {str(row.record_id): row.at.timestamp() for row in edits}
    # The partner does not know of calls that did not get through to it, so who was tried is told by the intents.
    tries = Counter(str(row.record_id) for row in office.sql("SELECT record_id FROM sync.intent", Login.OPERATOR))
    made = [row["record_id"] for row in rows if row["space"] == office.name and is_answered(row, since)]
    sent = [edited[record] for record in made[1:] if tries[record] == 1]
    assert len(sent) >= RECORDS / OFFICES / 3, "too few were left untried to show in which order they go"
    return max(newest - edit for edit, newest in zip(sent, accumulate(sent, max), strict=True))


def is_answered(row: Row, since: float) -> bool:
    """Whether a record came in since then, and its call did not wait for that."""
    return bool(row["at"] >= since and row["effect"] == "created" and row["fault"] is None)


def when_all_are_served(partner: RunningPartner, since: float) -> float:
    """When the last office had its first effect since then."""
    first: dict[str, float] = {}
    for row in partner.log():
        if is_answered(row, since):
            first.setdefault(row["space"], row["at"])
    assert len(first) == OFFICES, "some have nothing left to show how they went on"
    return max(first.values())


@pytest.fixture
def partner() -> Iterator[RunningPartner]:
    with running_partner(latency=0.01) as running:
        yield running


def test_after_an_outage_nobody_storms_the_partner_and_the_oldest_goes_first(
    server: EmbeddedServer, logins: Logins, database: Database, partner: RunningPartner
) -> None:
    limits = [f"vendor:{MOST}/{WINDOW:.0f}s"]
    offices = [
        connect(database, f"office-{number}", PROOFS["proof_search"], partner.url, limits=limits)
        for number in range(OFFICES)
    ]
    scaled = {"breaker": SHARE, "backoff": SHARE, "under_way": 2 * CALL_SECONDS, "box_seconds": BOX_SECONDS}
    scaled |= {"in_turn": True}
    with (
        looking_at(server.admin_url, logins) as admin,
        serving(PUSHERS, logins, *offices, call_seconds=CALL_SECONDS, **scaled),
    ):
        with editing(offices):
            back = be_away(partner)
        watch = Watch(admin)
        waited = watch.look()
        assert wait_until(lambda: watch.look() == 0, 900.0 if IS_SOAK else 30.0), watch.ages[-1]
    rows, served = partner.log(), when_all_are_served(partner, back)
    assert fullest(rows) <= MOST
    made = Counter(row["record_id"] for row in rows if row["effect"] == "created")
    falling = [age for age in watch.ages if age.at >= served]
    highest, after = highest_by_thirds(falling), fullest([row for row in rows if row["at"] >= back])
    print(
        f"outage: {waited} of {RECORDS} waited; all were served {served - back:.1f} s after the return, all was quiet "
        f"after {falling[-1].at - back:.1f} s; in {WINDOW:.0f} s at most {after} calls since, {fullest(rows)} ever, "
        f"of {MOST}; the oldest untried one by thirds: {', '.join(f'{age:.1f}' for age in highest)} s old; "
        f"the oldest of all: {falling[0].edited:.1f} s then, {max(age.edited for age in falling):.1f} s at most"
    )
    assert waited > RECORDS / 2, "it was not away for them"
    assert served - back <= UNTIL_ALL_ARE_SERVED
    assert max(overtaken(office, rows, back) for office in offices) <= MOST_OVERTAKEN
    if IS_SOAK:
        assert highest == sorted(highest, reverse=True), "the oldest does not grow younger"
    assert (len(made), set(made.values())) == (RECORDS, {1})
    assert [each for office in offices for each in broken(office, partner)] == []
