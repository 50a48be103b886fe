"""Scenes that bring a push into danger, each judged by what the partner's log says afterwards.

A scene is played on a stage and returns what is broken, in words: nothing, unless a mutant plays. They are what the
crash tests are made of, and what catches each mutant of `mutants`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from signal import SIGKILL, SIGSTOP, SIGTERM
from typing import Any
from uuid import UUID, uuid4

import psycopg
from mutants import broken
from partner import PROOFS, Office, connect, truth
from partner_process import RunningPartner, running_partner
from push_process import CUT_OFF, Point, Told
from pushers import Pusher, Pushers, running_pushers

from resources.logins import Login, Logins
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.store.database import Database

LEASE_SECONDS = 20.0
"""Of a process that is to be stopped. What time does to the lease is done to it in the database; what it does to the
process itself is waited for: a call may begin until so much is left of the lease as a call may last."""
MAY_BEGIN_FOR = 1.0
ACTS = ("create", "update", "cancel")
SIGNALS = (SIGKILL, SIGTERM, SIGSTOP)
_MOST_PUSHES = 8
_UNREAD = """
    SELECT count(*) FROM sync.update_event e LEFT JOIN sync.event_cursor c ON c.partner = :partner
    WHERE (e.xid, e.event_id) > (coalesce(c.xid, xid8 '0'), coalesce(c.event_id, 0))
"""
_GOES = """
    SELECT (SELECT count(*) FROM sync.pending WHERE state IN ('due', 'retry', 'unknown') AND waits_for IS NULL)
         + (SELECT count(*) FROM sync.standing WHERE suspect_state IN ('due', 'retry', 'unknown'))
"""
_ENDS = """
    SELECT c.entity || ' ' || c.record_id || ' version ' || c.version || ' has ended ' || count(r.result_no) || ' times'
    FROM sync.change c
    LEFT JOIN sync.result r ON r.partner = c.partner AND r.entity = c.entity AND r.record_id = c.record_id
        AND r.version = c.version
        AND r.outcome IN ('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned')
    WHERE NOT EXISTS (SELECT FROM sync.pending p WHERE p.partner = c.partner AND p.entity = c.entity
                      AND p.record_id = c.record_id)
    GROUP BY c.entity, c.record_id, c.version HAVING count(r.result_no) <> 1
"""


def wait_until(is_so: Callable[[], bool], seconds: float = 15.0) -> None:
    """Poll until `is_so`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.01)


@dataclass(frozen=True)
class Stage:
    """A tenant at a partner, and processes that push it."""

    office: Office
    partner: RunningPartner
    pushers: Pushers
    logins: Logins
    mutant: str | None = None
    """Plays in every process that pushes."""

    def pushing(self, **how: Any) -> AbstractContextManager[Pusher]:
        """A process that pushes; `how` as Told's fields."""
        passwords = {login.value: password for login, password in self.logins.passwords.items()}
        place = self.logins.host, self.logins.port, self.logins.database, passwords
        told = Told(*place, self.office.name, self.office.partner.name, mutant=self.mutant, **how)
        return self.pushers.pushing(told)

    def push(self, **how: Any) -> dict[str, Any]:
        """Push in a process of its own that ends well: its report."""
        with self.pushing(**how) as pusher:
            assert pusher.wait_for_end() == 0
            return pusher.report

    def accumulate(self) -> None:
        """Until every event is read: another transaction may hold the newest back for a moment."""

        def is_read() -> bool:
            accumulate(self.office.services, self.office.partner, self.office.name)
            return self._number(_UNREAD) == 0

        wait_until(is_read)

    def settle(self) -> None:
        """Accumulate and push from here until nothing is left that goes by itself."""
        office = self.office
        with broken(self.mutant):
            for _ in range(_MOST_PUSHES):
                accumulate(office.services, office.partner, office.name)
                push(office.services, office.partner, office.name, box_seconds=3.0)
                if self._number(_UNREAD) == self._number(_GOES) == 0:
                    return

    def broken(self) -> list[str]:
        """What the partner's log and copies say against us, and versions that have not ended just once."""
        ends = self.office.sql(_ENDS, Login.OPERATOR)
        return truth(self.office, self.partner).broken + [row[0] for row in ends]

    def effects(self, record_id: UUID) -> list[tuple[str, int]]:
        """(effect, version) of what the partner did to a record of ours, in order."""
        rows = [row for row in self.partner.log() if (row["recovery"], row["space"]) == self.office.space]
        return [
            (row["effect"], row["version"])
            for row in rows
            if row["record_id"] == str(record_id) and row["effect"] != "none"
        ]

    def copy(self, record_id: UUID) -> dict[str, Any]:
        """The partner's only copy of a record."""
        copies = [each for each in self.partner.state() if each["record_id"] == str(record_id)]
        assert len(copies) == 1
        return copies[0]

    def release(self) -> None:
        """Have the partner deal with the call that it holds, and wait until it has."""
        self.partner.release()
        wait_until(lambda: any(row["fault"] == "hold_before" for row in self.partner.log()))

    def expire_lease(self) -> None:
        """What time does to the lease of a push that died."""
        self.office.sql("UPDATE sync.lease SET until = clock_timestamp()", Login.PUSH)

    def _number(self, statement: str) -> int:
        named = {"partner": self.office.partner.name} if ":partner" in statement else {}
        return int(self.office.sql(statement, Login.OPERATOR, **named)[0][0])


# --- Crashes --------------------------------------------------------------------------------------------------------


def crash(stage: Stage, point: Point, signal: int, act: str) -> list[UUID]:
    """Two visits on their way, and a push that gets `signal` at `point`; others push meanwhile and afterwards."""
    visits = stage.office.add_visits(2)
    if act != "create":
        stage.settle()
        stage.office.edit(*visits, **({"note": "2"} if act == "update" else {"status": "cancelled"}))
    stage.accumulate()
    times = {"lease_seconds": LEASE_SECONDS, "call_seconds": LEASE_SECONDS - MAY_BEGIN_FOR} if signal == SIGSTOP else {}
    with stage.pushing(point=point, signal=signal, **times) as pusher:
        if signal == SIGSTOP:
            pusher.wait_for_stop()
            stage.expire_lease()
            if point in (Point.INTENT_COMMITTED, Point.RESULT_COMMITTED):  # a call may be about to begin
                time.sleep(MAY_BEGIN_FOR)
            stage.settle()
            pusher.go_on()
            assert pusher.wait_for_end() == 0
        else:
            assert pusher.wait_for_end() == {SIGKILL: -SIGKILL, SIGTERM: CUT_OFF}[signal]
    stage.expire_lease()
    stage.settle()
    return visits


def killed_with_the_answer_read(stage: Stage) -> list[str]:
    """A push is killed when it has the answer, and has not stored it."""
    crash(stage, Point.RESPONSE_READ, SIGKILL, "create")
    return stage.broken()


def stopped_before_sending(stage: Stage) -> list[str]:
    """A push is stopped before the first byte, until its lease has run out and another one has done its work."""
    crash(stage, Point.INTENT_COMMITTED, SIGSTOP, "create")
    return stage.broken()


def applied_late(stage: Stage) -> list[str]:
    """A call is dealt with by the partner after its push has lost the lease and a newer version was delivered."""
    (visit,) = stage.office.add_visits()
    stage.settle()
    stage.office.edit(visit, note="2")
    stage.accumulate()
    stage.partner.hold()
    with stage.pushing() as late:
        stage.partner.wait_held()
        stage.expire_lease()
        stage.office.edit(visit, note="3")
        stage.settle()
        stage.release()
        assert late.wait_for_end() == 0
    stage.settle()
    return stage.broken()


def stopped_and_applied_late(stage: Stage) -> list[str]:
    """The same, with a process that is stopped meanwhile and has waited too long when it goes on."""
    (visit,) = stage.office.add_visits()
    stage.settle()
    stage.office.edit(visit, note="2")
    stage.accumulate()
    stage.partner.hold()
    with stage.pushing(point=Point.BYTES_SENT, signal=SIGSTOP, call_seconds=1.0) as late:
        late.wait_for_stop()
        stage.partner.wait_held()
        stage.expire_lease()
        time.sleep(1.0)
        stage.office.edit(visit, note="3")
        stage.settle()
        stage.release()
        late.go_on()
        assert late.wait_for_end() == 0
    stage.settle()
    return stage.broken()


def answer_lost(stage: Stage) -> list[str]:
    """The partner does what it is asked to, and the line is cut before it says so."""
    stage.office.add_visits(2)
    stage.partner.fail("cut_after", times=1)
    stage.settle()
    return stage.broken()


# --- Two at once, and edits meanwhile ---------------------------------------------------------------------------------


def two_at_once(stage: Stage) -> list[str]:
    """A push starts while another one's call is under way."""
    stage.office.add_visits(1)
    stage.accumulate()
    stage.partner.hold()
    with stage.pushing() as first:
        stage.partner.wait_held()
        stage.push()
        stage.partner.release()
        assert first.wait_for_end() == 0
    stage.settle()
    return stage.broken()


def edited_under_way(stage: Stage) -> list[str]:
    """A record is edited while its older version is on the way."""
    (visit,) = stage.office.add_visits(1)
    stage.accumulate()
    stage.partner.hold(is_applied=True)
    with stage.pushing() as pusher:
        stage.partner.wait_held()
        stage.office.edit(visit, note="2")
        stage.accumulate()
        stage.partner.release()
        assert pusher.wait_for_end() == 0
    stage.settle()
    return stage.broken()


def edited_often(stage: Stage) -> list[str]:
    """A record is edited again and again before it goes."""
    (visit,) = stage.office.add_visits()
    for note in ("2", "3"):
        stage.accumulate()
        stage.office.edit(visit, note=note)
    stage.settle()
    calls = [] if stage.effects(visit) == [("created", 3)] else ["more was sent than the newest version"]
    return stage.broken() + calls


def committed_late(stage: Stage) -> list[str]:
    """Of two transactions, the one that began first commits last, and a reading lies between."""
    with _edit(stage) as early, _edit(stage) as late:
        _insert(stage, early)
        _insert(stage, late)
        late.commit()
        stage.push(rounds=1)
    stage.settle()
    return stage.broken()


def read_late(stage: Stage) -> list[str]:
    """A record's older version is read when the newer one is delivered: its transaction began later."""
    with _edit(stage) as newer, _edit(stage) as between:
        _insert(stage, newer)
        _insert(stage, between)
        (visit,) = stage.office.add_visits()
        newer.execute("UPDATE schedule.visit SET note = '2' WHERE visit_id = %s", [visit])
        newer.commit()
        stage.push(rounds=1)
        assert stage.effects(visit) == [("created", 2)]
    stage.settle()
    return stage.broken()


@contextmanager
def _edit(stage: Stage) -> Iterator[psycopg.Connection]:
    """The product's transaction, committed at the end of the block."""
    with psycopg.connect(stage.logins.libpq_url(Login.PRODUCT)) as tx:
        tx.execute("SELECT set_config('app.tenant', %s, true)", [stage.office.name])
        yield tx


def _insert(stage: Stage, tx: psycopg.Connection) -> None:
    tx.execute(
        "INSERT INTO schedule.visit (tenant_id, visit_id, client_id, staff_id, starts_at, ends_at, service_code, note, "
        "status) VALUES (%s, %s, %s, %s, '2026-12-02T09:00+09', '2026-12-02T10:00+09', '131111', '', 'confirmed')",
        [stage.office.name, uuid4(), stage.office.client, stage.office.staff],
    )


# --- Conflicts --------------------------------------------------------------------------------------------------------


def changed_at_the_partner(stage: Stage) -> list[str]:
    """The partner's own people change a copy, and then we change the record."""
    (visit,) = stage.office.add_visits()
    stage.settle()
    stage.partner.edit(*stage.office.space, visit, note="theirs")
    stage.office.edit(visit, note="ours")
    stage.settle()
    return [] if stage.copy(visit)["content"]["note"] == "theirs" else ["what they wrote is lost, and nobody was asked"]


# --- Bad records ------------------------------------------------------------------------------------------------------


def refused_records(stage: Stage) -> list[str]:
    """The partner refuses two records of many."""
    visits = stage.office.add_visits(12)
    bad = [str(visit) for visit in visits[:2]]
    stage.partner.fail("reject", record_ids=bad)
    for _ in range(3):
        stage.push(rounds=1, box_seconds=2.0)
    calls = Counter(row["record_id"] for row in stage.partner.log() if row["space"] == stage.office.name)
    costly = [f"{record} cost {calls[record]} calls" for record in bad if calls[record] != 1]
    return costly + [f"{visit} has not arrived" for visit in visits[2:] if not stage.effects(visit)]


def refused_batches(stage: Stage) -> list[str]:
    """The partner refuses any batch that holds a certain record."""
    visits = stage.office.add_visits(16)
    bad = str(visits[5])
    stage.partner.fail("reject_batch", record_ids=[bad])
    stage.push(rounds=1, box_seconds=2.0)
    return [f"{visit} has not arrived" for visit in visits if str(visit) != bad and not stage.effects(visit)]


# --- All of them ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """What is played, and at which partner."""

    play: Callable[[Stage], list[str]]
    partner: str = "proof_search"
    settings: Mapping[str, str] | None = None


SCENES: Mapping[str, Scene] = {
    "killed with the answer read": Scene(killed_with_the_answer_read),
    "the same, where a key is known": Scene(killed_with_the_answer_read, "proof_key"),
    "the same, where nothing can be asked": Scene(killed_with_the_answer_read, "proof_none"),
    "stopped before sending": Scene(stopped_before_sending),
    "applied late": Scene(applied_late),
    "applied late, where versions are checked": Scene(applied_late, "proof_version"),
    "applied late, where a key is known": Scene(applied_late, "proof_key"),
    "stopped and applied late": Scene(stopped_and_applied_late),
    "answer lost": Scene(answer_lost),
    "two at once": Scene(two_at_once),
    "edited under way": Scene(edited_under_way),
    "edited often": Scene(edited_often),
    "committed late": Scene(committed_late),
    "read late": Scene(read_late),
    "changed at the partner": Scene(changed_at_the_partner),
    "changed at one that checks versions": Scene(changed_at_the_partner, "proof_version"),
    "refused records": Scene(refused_records),
    "refused batches": Scene(refused_batches, settings={"batch_size": "16"}),
}


@dataclass(frozen=True)
class Theatre:
    """One partner and one program that pushes, for many stages."""

    partner: RunningPartner
    pushers: Pushers
    logins: Logins
    database: Database

    def stage(
        self,
        partner: str,
        *,
        settings: Mapping[str, str] | None = None,
        mutant: str | None = None,
        timing: str = "minute",
    ) -> Stage:
        """A stage with a new tenant at the partner of this name."""
        name = f"t{uuid4().hex[:8]}"
        office = connect(self.database, name, PROOFS[partner], self.partner.url, settings=settings)
        return Stage(office, self.partner, self.pushers, self.logins, mutant)

    def play(self, scene: Scene, mutant: str | None = None) -> list[str]:
        """What is broken after the scene."""
        return scene.play(self.stage(scene.partner, settings=scene.settings, mutant=mutant))

    def clear(self) -> None:
        """Let go of what is held, and have the partner forget everything."""
        self.partner.release()
        self.partner.heal()
        self.partner.reset()


@contextmanager
def theatre(logins: Logins) -> Iterator[Theatre]:
    """A theatre on a migrated database, until the block ends."""
    database = Database(logins)
    try:
        with running_partner() as partner, running_pushers() as pushers:
            yield Theatre(partner, pushers, logins, database)
    finally:
        database.close()
