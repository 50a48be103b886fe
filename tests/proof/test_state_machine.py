"""Edits, crashes, faults, pauses and people's decisions in any order: what always holds, and what quiet brings.

A push dies in this process: at one of the points that the crash tests know it raises, and from then on nothing of it
reaches the database or the partner any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, ClassVar
from unittest.mock import patch
from uuid import UUID

import psycopg
import pytest
from conftest import fresh_database
from flow_bench import accumulate_all, expire_lease
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from mutants import played
from partner import PROOFS, Office, connect, truth
from partner_process import RunningPartner, running_partner
from product_writers import Edit, Ledger, unsettled
from push_process import Fuse, Point, Watched, seams
from storm import IS_SOAK, looking_at, wait_until

from partners.contract import Command, Partner, Recovery, Reply
from resources.logins import Login, Logins
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.flows.reports import PushReport
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import projection
from zest_pipelines.store.database import Database

SOAK_SECONDS = 600.0
EXAMPLES = 15
STEPS = 20
VISITS = [UUID(int=number) for number in range(1, 4)]
CALL_SECONDS = 0.5
_DAYS = ("2026-12-01", "2026-12-01")
_ROUNDS = 12
"""Pushes that quiet may take once all is well again."""
READING_FAULTS = {"reading_fails": {"kind": "refuse", "status": 503}, "reading_refused": {"kind": "reject"}}
FAULTS = ("refuse", "cut_before", "fail_after", "cut_after", "garbage", "garbage_status", "dead", *READING_FAULTS)
EDITS = ("confirmed", "confirmed", "confirmed", "absent", "cancelled", "draft", "not done", "delete")
visits = st.sampled_from(VISITS)
plans = st.lists(st.tuples(visits, st.sampled_from(EDITS)), min_size=1, max_size=3)
entities = st.sampled_from(["visit", "visit_record"])


class Killed(BaseException):
    """The process is no more."""


@dataclass
class DeadlyFuse(Fuse):
    """Kills the push that reaches its point, in this process."""

    is_blown: bool = False

    def reach(self, point: Point) -> None:
        self.check()
        if point == self.point:
            self.is_blown = True
            raise Killed

    def check(self) -> None:
        """What a dead process does next: nothing."""
        if self.is_blown:
            raise Killed


@dataclass
class Mortal(Watched):
    """A connector whose push may be dead."""

    fuse: DeadlyFuse

    def send(self, command: Command) -> Reply:
        self.fuse.check()
        return super().send(command)


@contextmanager
def mortal(partner: Partner, point: Point) -> Iterator[Partner]:
    """The partner for a push that dies at `point`."""
    fuse = DeadlyFuse(point, 0)
    transaction = Database.transaction

    @contextmanager
    def of_the_living(self: Database, login: Login, tenant: str | None) -> Iterator[Any]:
        fuse.check()
        with transaction(self, login, tenant) as tx:
            yield tx
            fuse.check()  # what was not committed is undone

    with patch.object(Database, "transaction", of_the_living), seams(fuse):
        yield replace(partner, open=lambda *given: Mortal(partner.open(*given), fuse))


@dataclass
class Hand:
    """The product's hand: visits edited in a transaction that may stay open, noted once it is committed."""

    url: str
    office: Office
    ledger: Ledger
    edits: list[Edit] = field(default_factory=list)
    _markers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.tx = psycopg.connect(self.url)

    def put(self, visit: UUID, status: str) -> None:
        """A visit with this status, new or changed."""
        self._edit(
            "visit",
            visit,
            "INSERT INTO schedule.visit (tenant_id, visit_id, status, note, client_id, staff_id, starts_at, ends_at) "
            "VALUES (%(tenant)s, %(visit)s, %(status)s, %(note)s, %(client)s, %(staff)s, '2026-12-01 09:00+09', "
            "'2026-12-01 10:00+09') ON CONFLICT (tenant_id, visit_id) DO UPDATE SET (status, note) = "
            "(excluded.status, excluded.note) RETURNING version",
            status,
            status == "confirmed",
        )

    def record(self, visit: UUID, status: str) -> None:
        """A record of a visit, new or changed."""
        self._edit(
            "visit_record",
            visit,
            "INSERT INTO schedule.visit_record (tenant_id, visit_id, status, note) SELECT tenant_id, visit_id, "
            "%(status)s, %(note)s FROM schedule.visit WHERE visit_id = %(visit)s ON CONFLICT (tenant_id, visit_id) "
            "DO UPDATE SET (status, note) = (excluded.status, excluded.note) RETURNING version",
            status,
            status == "absent",
        )

    def delete(self, visit: UUID) -> None:
        """Delete a visit, and its record before it."""
        for entity in ("visit_record", "visit"):
            self._edit(entity, visit, f"DELETE FROM schedule.{entity} WHERE visit_id = %(visit)s RETURNING version", "")

    def end(self, is_kept: bool = True) -> None:
        """Commit, or roll back."""
        if is_kept:
            self.tx.commit()
            self.ledger.committed += self.edits
        else:
            self.tx.rollback()
            self.ledger.undone += [edit.marker for edit in self.edits if edit.marker]
        self.edits.clear()

    def _edit(self, entity: str, visit: UUID, statement: str, status: str, is_for_partners: bool = False) -> None:
        marker = f"{id(self):x}-{next(self._markers)}" if status else ""
        values = {"tenant": self.office.name, "visit": visit, "status": status, "note": marker}
        values |= {"client": self.office.client, "staff": self.office.staff}
        self.tx.execute("SELECT set_config('app.tenant', %s, true)", [self.office.name])
        for (version,) in self.tx.execute(statement.encode(), values).fetchall():
            self.edits.append(Edit(entity, visit, version + (not status), is_for_partners, marker))


@dataclass(frozen=True)
class World:
    """What all runs of the machine share."""

    logins: Logins
    databases: tuple[Database, Database]
    """Of two processes."""
    partner: RunningPartner
    admin: psycopg.Connection
    names: Iterator[int] = field(default_factory=count)


class Deliveries(RuleBasedStateMachine):
    """One office with up to three visits and their records, at a partner of any class."""

    world: ClassVar[World]
    calls: ClassVar[int] = 0
    steps: ClassVar[int] = 0

    office: Office

    @initialize(
        name=st.sampled_from(["version", "search", "client_id", "key", "none"]),
        timing=st.sampled_from(["minute", "minute", "minute", "week"]),
        policy=st.sampled_from(["hold", "overwrite"]),
    )
    def begin(self, name: str, timing: str, policy: str) -> None:
        world = self.world
        world.partner.heal()
        world.partner.reset()
        tenant = f"machine{next(world.names)}"
        self.office = connect(
            world.databases[0],
            tenant,
            PROOFS[f"proof_{name}"],
            world.partner.url,
            timing=timing,
            call_seconds=CALL_SECONDS,
        )
        self._operate("UPDATE sync.connection SET on_conflict = :policy", policy=policy)
        self.is_weekly, self.asked_of = timing == "week", dict[tuple[str, UUID], int]()
        self.ledger = Ledger()
        url = world.logins.libpq_url(Login.PRODUCT)
        self.hand, self.slow_hand = (Hand(url, self.office, self.ledger) for _ in range(2))

    # --- The product ---

    @rule(edits=plans)
    def edit(self, edits: Sequence[tuple[UUID, str]]) -> None:
        """Each in a transaction of its own."""
        for visit, what in edits:
            match what:
                case "delete":
                    self.hand.delete(visit)
                case "absent" | "not done":
                    self.hand.record(visit, "absent" if what == "absent" else "cancelled")
                case status:
                    self.hand.put(visit, status)
            self.hand.end()

    # --- The platform ---

    @rule(edits=plans, visit=visits, status=st.sampled_from(["confirmed", "cancelled"]), is_kept=st.booleans())
    def push_beside_an_open_edit(
        self, edits: Sequence[tuple[UUID, str]], visit: UUID, status: str, is_kept: bool
    ) -> None:
        """Others are committed after that one began, and before it ends."""
        self.slow_hand.put(visit, status)
        try:
            self.edit([each for each in edits if each[0] != visit])
            self._accumulate()
            self._push()
        finally:
            self.slow_hand.end(is_kept)

    @rule(edits=plans, is_read=st.booleans())
    def push(self, edits: Sequence[tuple[UUID, str]], is_read: bool) -> None:
        self.edit(edits)
        if is_read:
            accumulate_all(self.office)
        self._push()

    @rule(edits=plans, fault=st.sampled_from(FAULTS), times=st.integers(1, 3))
    def push_to_a_bad_partner(self, edits: Sequence[tuple[UUID, str]], fault: str, times: int) -> None:
        self.edit(edits)
        accumulate_all(self.office)
        with self._failing(fault, times):
            self._push()

    @rule(edits=plans, point=st.sampled_from(list(Point)))
    def push_and_die(self, edits: Sequence[tuple[UUID, str]], point: Point) -> None:
        self.edit(edits)
        accumulate_all(self.office)
        with mortal(self.office.partner, point) as partner:
            try:
                self._push(partner)
            except Killed:
                return

    @rule(edits=plans)
    def push_and_be_overtaken(self, edits: Sequence[tuple[UUID, str]]) -> None:
        """The first write's answer comes when the lease has run out and another push has looked after the record."""
        self.edit(edits)
        accumulate_all(self.office)
        world, other = self.world, replace(self.office.services, database=self.world.databases[1])
        before = self._log_length()
        world.partner.hold(is_applied=True, space=self.office.name)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(push, other, self.office.partner, self.office.name)
            wait_until(lambda: first.done() or self._log_length() > before, 5.0, every=0.005)
            world.partner.heal()
            if not first.done():
                expire_lease(self.office)
                self._push()
            world.partner.release()
            first.result()

    @rule()
    def wait(self) -> None:
        """Leases, backoffs and holds run out."""
        expire_lease(self.office)
        with self.office.services.database.transaction(Login.PUSH, self.office.name) as tx:
            tx.exec_driver_sql("UPDATE sync.hold SET until = clock_timestamp()")

    # --- The partner's people, and ours ---

    @rule(visit=visits, entity=entities, is_status=st.booleans(), edits=plans)
    def meddle(self, visit: UUID, entity: str, is_status: bool, edits: Sequence[tuple[UUID, str]]) -> None:
        """They change a copy that has just become as we want it, and we change the record after that.

        Of a cancelled copy only a version tells more than whether it still is cancelled.
        """
        self.push([(visit, "confirmed"), (visit, "absent")], True)
        kind = "visits" if entity == "visit" else "records"
        copies = [row for row in self.world.partner.state() if (row["kind"], row["record_id"]) == (kind, str(visit))]
        for copy in copies if len(copies) == 1 else ():
            is_status = is_status or (copy["is_cancelled"] and not self.office.partner.capability.has_version_check)
            content: dict[str, Any] = {"cancelled": not copy["is_cancelled"]} if is_status else {"note": "theirs"}
            if content.get("cancelled") is False:
                content["note"] = "theirs"  # else it may be as it was before they cancelled it
            self.world.partner.edit(*self.office.space, visit, kind=kind, **content)
        self.push([(visit, "confirmed" if entity == "visit" else "absent"), *edits], True)

    @rule()
    def push_while_paused(self) -> None:
        self._operate("UPDATE sync.connection SET paused_at = clock_timestamp(), pause_reason = 'storm'")
        accumulate_all(self.office)
        assert self._push().calls == 0
        self._operate("UPDATE sync.connection SET paused_at = NULL, pause_reason = NULL")

    @rule()
    def ask_for_the_day(self) -> None:
        self.office.sql(
            "SELECT sync.request_push(:tenant, :partner, CAST(:first AS date), CAST(:last AS date))",
            tenant=self.office.name, partner=self.office.partner.name, first=_DAYS[0], last=_DAYS[1],
        )  # fmt: skip
        for edit in self.ledger.committed:
            record = edit.entity, edit.record_id
            self.asked_of[record] = max(edit.version, self.asked_of.get(record, 0))

    @rule()
    def ask_again(self) -> None:
        """Of what stands still, but of nothing that a person can see to be there already."""
        for row in self._open("parked", "conflict", "retry"):
            if not self._is_there(row):
                self._operate(
                    "SELECT sync.request_retry(:tenant, :partner, :entity, :record_id)",
                    tenant=self.office.name,
                    partner=self.office.partner.name,
                    entity=row.entity,
                    record_id=row.record_id,
                )

    @rule(visit=visits, entity=entities)
    def abandon(self, visit: UUID, entity: str) -> None:
        self._decide("abandon", lambda row: row.record_id == visit and row.entity == entity, None)

    @rule()
    def say_what_became_of_it(self) -> None:
        """A person looks for what is unsure at the partner, and names the copy that is there."""
        for row in self._open("parked"):
            if self._is_there(row):
                (copy,) = self._copies(row)
                self._decide("adopt", lambda each: each == row, copy["partner_id"])  # noqa: B023

    # --- What always holds ---

    @invariant()
    def nothing_contradicts_the_log(self) -> None:
        if not hasattr(self, "office"):
            return
        type(self).steps += 1
        log = self._log()
        effects = [row for row in log if row["effect"] not in ("none", "edited")]
        newest, made = dict[tuple[str, str], int](), set[tuple[str, str]]()
        for row in effects:
            record = row["kind"], row["record_id"]
            assert row["version"] >= newest.get(record, 0), f"{record} went back to {row['version']}"
            newest[record] = row["version"]
            assert row["effect"] != "created" or record not in made, f"{record} was made twice"
            made |= {record} if row["effect"] == "created" else set()
        if self.is_weekly:
            for (kind, record_id), version in newest.items():
                entity = "visit" if kind == "visits" else "visit_record"
                assert version <= self.asked_of.get((entity, UUID(record_id)), 0), "sent without being asked for"
        self._delivered_is_there(log)
        if self.office.partner.capability.recovery in (Recovery.CLIENT_ID, Recovery.SEARCH):
            self._nothing_was_written_over_silently(log)

    @invariant()
    def the_derived_tables_are_as_history_says(self) -> None:
        if hasattr(self, "office"):
            with self.office.services.database.transaction(Login.OPERATOR, self.office.name) as tx:
                assert projection.differences(tx) == ()

    @invariant()
    def each_version_ends_once_at_most_and_no_other_does(self) -> None:
        if hasattr(self, "office"):
            wrong = unsettled(self.world.admin, self.office.name, self.office.partner.name, self.ledger)
            assert [each for each in wrong if not each.endswith("has not ended")] == []

    def teardown(self) -> None:
        if not hasattr(self, "hand"):
            return
        try:
            self._come_to_quiet()
        except BaseException:
            print(self._story())
            raise
        finally:
            for hand in (self.hand, self.slow_hand):
                hand.tx.close()

    # --- How ---

    def _come_to_quiet(self) -> None:
        for row in self.office.sql("SELECT DISTINCT visit_id FROM schedule.visit_record"):
            self.edit([(row.visit_id, "confirmed")])
        accumulate_all(self.office)
        for _ in range(_ROUNDS):
            self.wait()
            self.ask_for_the_day()
            self.say_what_became_of_it()
            self.ask_again()
            self._push()
            if not self._open() and not self._suspects():
                break
        wrong = unsettled(self.world.admin, self.office.name, self.office.partner.name, self.ledger)
        assert wrong == []
        given_up = self.office.sql("SELECT record_id FROM sync.standing WHERE outcome = 'abandoned'", Login.OPERATOR)
        left = {UUID(record_id) for _, record_id in self._left_as_edited()} | {row.record_id for row in given_up}
        assert truth(self.office, self.world.partner, but=left).broken == []
        self.the_derived_tables_are_as_history_says()
        self.nothing_contradicts_the_log()

    def _push(self, partner: Partner | None = None) -> PushReport:
        report = push(self.office.services, partner or self.office.partner, self.office.name)
        type(self).calls += report.calls
        return report

    @contextmanager
    def _failing(self, fault: str | None, times: int) -> Iterator[None]:
        partner = self.world.partner
        match fault:
            case None:
                pass
            case "dead":
                partner.die()
            case str() if fault in READING_FAULTS:
                partner.fail("cut_after", times=times)  # else there is little to read
                partner.fail(**READING_FAULTS[fault], times=times, methods=["GET"])
            case _:
                partner.fail(fault, times=times)
        try:
            yield
        finally:
            partner.heal()
            if fault == "dead":
                partner.revive()

    def _operate(self, statement: str, **parameters: Any) -> None:
        self.office.sql(statement, Login.OPERATOR, **parameters)

    def _decide(self, act: str, whom: Callable[[Any], bool], partner_id: str | None) -> None:
        for row in filter(whom, self._open()):
            self._operate(
                "SELECT sync.decide(:tenant, :partner, :entity, :record_id, :version, :act, :partner_id, 'storm')",
                tenant=self.office.name, partner=self.office.partner.name, entity=row.entity,
                record_id=row.record_id, version=row.version, act=act, partner_id=partner_id,
            )  # fmt: skip

    def _open(self, *states: str) -> list[Any]:
        rows = self.office.sql("SELECT entity, record_id, version, state, reason FROM sync.pending", Login.OPERATOR)
        return [row for row in rows if not states or row.state in states]

    def _suspects(self) -> int:
        query = "SELECT count(*) FROM sync.standing WHERE suspect_state IN ('due', 'retry', 'unknown')"
        return int(self.office.sql(query, Login.OPERATOR)[0][0])

    def _accumulate(self) -> None:
        accumulate(self.office.services, self.office.partner, self.office.name)

    def _log(self) -> list[dict[str, Any]]:
        return [row for row in self.world.partner.log() if (row["recovery"], row["space"]) == self.office.space]

    def _log_length(self) -> int:
        return len(self.world.partner.log())

    def _copies(self, row: Any) -> list[dict[str, Any]]:
        kind = "visits" if row.entity == "visit" else "records"
        wanted = kind, str(row.record_id)
        return [copy for copy in self.world.partner.state() if (copy["kind"], copy["record_id"]) == wanted]

    def _story(self) -> str:
        """What happened, on both sides, for whoever looks for the fault."""
        ours = self.office.sql(
            "SELECT at, entity, record_id, version, what, outcome, reason, params FROM sync.delivery", Login.OPERATOR
        )
        lines = [
            (
                row.at.timestamp(),
                f"{row.entity} {row.record_id.int} v{row.version} {row.what}: {row.outcome} {row.reason} {row.params}",
            )
            for row in ours
        ]
        for row in self._log():
            what = f"{row['method']} {row['status']} {row['effect']} {row['fault'] or ''}"
            entity = "visit" if row["kind"] == "visits" else "visit_record"
            number = UUID(row["record_id"]).int if len(row["record_id"]) == 36 else row["record_id"]
            lines.append((row["at"], f"    {entity} {number} v{row['version']} at the partner: {what}"))
        return "\n".join(line for _, line in sorted(lines))

    def _is_there(self, row: Any) -> bool:
        """Whether it is unsure to the platform, and to be seen at the partner: as it was sent, or if it never was, at
        all."""
        if row.reason != "delivery_unsure":
            return False
        sent = self.office.sql(
            "SELECT version FROM sync.intent WHERE entity = :entity AND record_id = :record_id",
            Login.OPERATOR,
            entity=row.entity,
            record_id=row.record_id,
        )
        was_sent = row.version in {each.version for each in sent}
        return any(copy["version"] == row.version or not was_sent for copy in self._copies(row))

    def _left_as_edited(self) -> set[tuple[str, str]]:
        """Records whose last effect is the partner's own people's."""
        last = {(row["kind"], row["record_id"]): row["effect"] for row in self._log() if row["effect"] != "none"}
        return {record for record, effect in last.items() if effect == "edited"}

    def _nothing_was_written_over_silently(self, log: list[dict[str, Any]]) -> None:
        """Where it can be seen: what the partner's people changed was noticed, or found to be what we wanted as well,
        before a newer version of ours went.

        A write that went over a conflict as a person decided, and came into doubt, was compared with nothing: what is
        found instead of it may be what they decided against, or another change.
        """
        written = {  # when it last had an effect
            (row["kind"], row["record_id"], row["version"]): row["at"]
            for row in log
            if row["effect"] not in ("none", "edited")
        }
        rows = self.office.sql(
            """
            SELECT entity, record_id, made_at, 0 AS version FROM sync.result
            WHERE outcome = 'conflict' OR reason IN ('overwriting_partner_change', 'partner_change_overwritten')
            UNION ALL SELECT entity, record_id, made_at, version FROM sync.result WHERE outcome LIKE 'delivered%'
            UNION ALL SELECT entity, record_id, made_at, 0 FROM sync.repair
            UNION ALL SELECT r.entity, r.record_id, r.made_at, 0 FROM sync.result r
            WHERE r.reason = 'found_different' AND NOT CAST(:is_seen AS boolean) AND EXISTS (
                SELECT FROM sync.result c WHERE c.entity = r.entity AND c.record_id = r.record_id
                  AND c.outcome = 'conflict' AND c.result_no < r.result_no AND NOT EXISTS (
                      SELECT FROM sync.result d WHERE d.entity = r.entity AND d.record_id = r.record_id
                        AND d.outcome LIKE 'delivered%' AND d.result_no BETWEEN c.result_no AND r.result_no))
            """,
            Login.OPERATOR,
            is_seen=self.office.partner.capability.has_version_check,
        )
        edited = dict[tuple[str, str], float]()
        for row in log:
            record = row["kind"], row["record_id"]
            if row["effect"] == "edited":
                edited[record] = row["at"]
            elif row["effect"] != "none" and record in edited:
                entity, since = "visit" if row["kind"] == "visits" else "visit_record", edited.pop(record)
                noticed = [
                    each
                    for each in rows
                    if (each.entity, str(each.record_id)) == (entity, record[1])
                    and each.made_at.timestamp() > since
                    and written.get((*record, each.version), 0.0) < since
                ]
                assert noticed, f"{record} was written over silently"

    def _delivered_is_there(self, log: list[dict[str, Any]]) -> None:
        """No version is called delivered that the partner was never sent, unless somebody has seen it there."""
        sent = {(row["kind"], row["record_id"], row["version"]) for row in log if row["method"] != "GET"}
        seen = {(row["kind"], row["record_id"]) for row in log if row["method"] == "GET"}
        rows = self.office.sql(
            "SELECT entity, record_id, version FROM sync.result WHERE outcome LIKE 'delivered%' "
            "AND reason IS DISTINCT FROM 'adopted_by_person'",
            Login.OPERATOR,
        )
        for row in rows:
            kind = "visits" if row.entity == "visit" else "records"
            record = kind, str(row.record_id)
            assert (*record, row.version) in sent or record in seen, "called delivered and was never sent"


@pytest.fixture(scope="module")
def world(server: EmbeddedServer, template: Logins) -> Iterator[World]:
    with (
        fresh_database(server, template) as logins,
        running_partner() as partner,
        looking_at(server.admin_url, logins) as admin,
    ):
        databases = Database(logins), Database(logins)
        yield World(logins, databases, partner, admin)
        for database in databases:
            database.close()


SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    derandomize=not IS_SOAK,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # to shrink takes minutes, and what failed may not fail again
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


def test_whatever_comes_in_whatever_order_nothing_is_lost_or_doubled_or_goes_back(world: World) -> None:
    started, runs = time.monotonic(), 0
    Deliveries.world = world
    while runs == 0 or (IS_SOAK and time.monotonic() < started + SOAK_SECONDS):
        run_state_machine_as_test(seed(runs)(Deliveries) if IS_SOAK else Deliveries, settings=SETTINGS)
        runs += 1
    print(f"state machine: {Deliveries.steps} steps, {Deliveries.calls} calls, {time.monotonic() - started:.0f} s")


@pytest.mark.parametrize(
    ("mutant", "seen"),
    [("no read-back", "made twice|is doubled|went back|is stale"), ("no content check", "written over silently")],
)
def test_the_machine_notices_a_broken_rule(world: World, mutant: str, seen: str) -> None:
    Deliveries.world = world
    with played(mutant), pytest.raises(AssertionError, match=seen):
        run_state_machine_as_test(Deliveries, settings=SETTINGS)
