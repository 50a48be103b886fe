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
from conftest import wait_for
from flow_bench import accumulate_all, expire_lease, forget_backoff, unread
from mutants import played
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
_UNDER_WAY = 60.0
"""Seconds for which a call may take effect in scenes where one does so late: longer than a scene."""
ACTS = ("create", "update", "cancel")
SIGNALS = (SIGKILL, SIGTERM, SIGSTOP)
_MOST_PUSHES = 8
_GOES = """
    SELECT (SELECT count(*) FROM sync.pending WHERE state IN ('due', 'retry', 'unknown') AND waits_for IS NULL)
         + (SELECT count(*) FROM sync.standing s WHERE s.suspect_state IN ('due', 'retry', 'unknown') AND NOT EXISTS (
               SELECT FROM sync.pending p
               WHERE p.partner = s.partner AND p.entity = s.entity AND p.record_id = s.record_id))
"""
"""A suspicion waits for as long as a newer version of the record stands open."""
_ENDS = """
    SELECT c.entity || ' ' || c.record_id || ' version ' || c.version || ' has ended ' || count(r.result_no) || ' times'
    FROM sync.change c
    LEFT JOIN sync.pending p ON p.partner = c.partner AND p.entity = c.entity AND p.record_id = c.record_id
    LEFT JOIN sync.result r ON r.partner = c.partner AND r.entity = c.entity AND r.record_id = c.record_id
        AND r.version = c.version
        AND r.outcome IN ('delivered', 'delivered_with_warning', 'superseded', 'not_needed', 'abandoned')
    GROUP BY c.entity, c.record_id, c.version
    HAVING count(r.result_no) > 1
        OR count(r.result_no) = 0 AND NOT coalesce(bool_or(p.version >= c.version), false)
"""
"""Each ends once, unless the record is still open at this version or at a newer one."""


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
        connection = self.office.name, self.office.partner.name
        return self.pushers.pushing(Told.of(self.logins, connection, mutant=self.mutant, **how))

    def push(self, **how: Any) -> dict[str, Any]:
        """Push in a process of its own that ends well: its report."""
        with self.pushing(**how) as pusher:
            assert pusher.wait_for_end() == 0
            return pusher.report

    def accumulate(self) -> None:
        """Until every event is read."""
        accumulate_all(self.office)

    def settle(self) -> None:
        """Accumulate and push from here until nothing is left that goes by itself. Fails if it never comes to that."""
        office = self.office
        with played(self.mutant):
            for _ in range(_MOST_PUSHES):
                accumulate(office.services, office.partner, office.name)
                push(office.services, office.partner, office.name, box_seconds=3.0)
                ((goes,),) = office.sql(_GOES, Login.OPERATOR)
                if goes == unread(office) == 0:
                    return
        raise AssertionError("it does not come to quiet")

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
        seen = len(self.partner.log())
        self.partner.release()
        wait_for(lambda: any(row["fault"] == "hold_before" for row in self.partner.log(seen)))

    def ask_again(self) -> None:
        """Have all that stands still sent again, as a person does."""
        named = {"tenant": self.office.name, "partner": self.office.partner.name}
        self.office.sql("SELECT sync.request_retry(:tenant, :partner)", **named)

    def expire_lease(self) -> None:
        """What time does to the lease of a push that died."""
        expire_lease(self.office)


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
    applied_over_a_newer_one(stage)
    stage.settle()
    return stage.broken()


def applied_over_a_newer_one(stage: Stage) -> UUID:
    """The same, until the late sender has told of it."""
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
    return visit


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


def killed_under_way(stage: Stage) -> list[str]:
    """A push is killed while its call is under way: it is with the partner, and not dealt with yet."""
    stage.office.add_visits()
    _kill_under_way(stage)
    return _dealt_with_later(stage)


def killed_while_a_repair_is_under_way(stage: Stage) -> list[str]:
    """The same with the call that puts a newer version back; then the record is edited."""
    visit = applied_over_a_newer_one(stage)
    _kill_under_way(stage)
    stage.push(under_way=_UNDER_WAY)
    stage.office.edit(visit, note="4")
    return _dealt_with_later(stage)


def timed_out_under_way(stage: Stage) -> list[str]:
    """The same, but the push itself has given up waiting for the answer."""
    stage.office.add_visits()
    stage.accumulate()
    stage.partner.hold()
    with stage.pushing(call_seconds=0.5, under_way=_UNDER_WAY) as pusher:
        assert pusher.wait_for_end() == 0
    return _dealt_with_later(stage)


def _kill_under_way(stage: Stage) -> None:
    stage.accumulate()
    stage.partner.hold()
    with stage.pushing() as pusher:
        stage.partner.wait_held()
        pusher.kill()
    stage.expire_lease()


def _dealt_with_later(stage: Stage) -> list[str]:
    """Another push comes before the partner has dealt with the call that it holds, and one after it has."""
    stage.accumulate()
    stage.push(under_way=_UNDER_WAY)
    stage.release()
    forget_backoff(stage.office)
    stage.settle()
    return stage.broken()


def reading_refused(stage: Stage) -> list[str]:
    """The partner has made records and nobody heard; asked for them, it refuses. Meanwhile one is edited, and a person
    has all that stands still sent again."""
    edited, _ = stage.office.add_visits(2)
    stage.partner.fail("cut_after", times=2)
    stage.partner.fail("reject", methods=["GET"])
    stage.push(rounds=1)
    stage.office.edit(edited, note="2")
    stage.ask_again()
    stage.push(rounds=1)
    stage.partner.heal()
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
    "killed under way": Scene(killed_under_way),
    "timed out under way": Scene(timed_out_under_way),
    "killed while a repair is under way": Scene(killed_while_a_repair_is_under_way),
    "reading refused": Scene(reading_refused),
    "reading refused under our id": Scene(reading_refused, "proof_client_id"),
    "reading refused where versions are checked": Scene(reading_refused, "proof_version"),
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
