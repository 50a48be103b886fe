"""The partner for proofs is as good and as bad as it says, and the judge notices what must not be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import wait_for
from partner import PROOFS, Office, Truth, connect, truth
from partner_process import RunningPartner

from partners.contract import (
    Absent,
    Command,
    Conflict,
    Connection,
    Connector,
    Delivered,
    Entity,
    Found,
    Refused,
    Reply,
    Retry,
    Unknown,
    Verb,
    Visit,
)
from partners.errors import PartnerError
from partners.throttling import Told
from resources.http import Http
from resources.logins import Login
from zest_pipelines.store.database import Database

STARTS = datetime.fromisoformat("2026-12-01T09:00:00+09:00")
ENDS = datetime.fromisoformat("2026-12-01T10:00:00+09:00")


class OpenGate:
    def admit(self, endpoint: str) -> None:
        pass

    def leave(self) -> None:
        """In time."""

    def unheard(self) -> None:
        """Nobody counts what is under way."""

    def heard(self, endpoint: str, told: Told) -> None:
        pass


@contextmanager
def line(partner: RunningPartner, name: str, seconds: float = 5.0, **settings: str) -> Iterator[Connector]:
    """A connector of the tenant sakura."""
    address = f"{partner.url}/{name}/sakura"
    connection = Connection("sakura", f"proof_{name}", address, settings)
    connector = PROOFS[connection.partner].open(connection, {}, Http(total_seconds=seconds).client(), OpenGate())
    try:
        yield connector
    finally:
        connector.close()


def create(record_id: UUID | None = None, **changes: Any) -> Command:
    """The creation of a visit as an Office plans it."""
    fields = Visit(STARTS, ENDS, "131111", changes.pop("note", "1"))
    links = {Entity.CLIENT: "c1", Entity.STAFF: "s1"}
    made = Command(Entity.VISIT, Verb.CREATE, record_id or uuid4(), 1, f"k{uuid4()}", fields, links)
    return replace(made, **changes)


def update(first: Command, reply: Reply, version: int, note: str, **changes: Any) -> Command:
    """An update of what `first` made."""
    assert isinstance(reply, Delivered)
    known = {"partner_id": reply.partner_id, "partner_version": reply.partner_version}
    fields = replace(first.fields, note=note)
    command = replace(first, verb=Verb.UPDATE, version=version, key=f"k{uuid4()}", fields=fields, **known)
    return replace(command, **changes)


def effects(partner: RunningPartner) -> list[tuple[str, int | None]]:
    return [(row["effect"], row["version"]) for row in partner.log() if row["effect"] != "none"]


# --- What each class can do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["key", "client_id", "search", "version", "none"])
def test_a_class_does_for_a_repeat_what_it_says(partner: RunningPartner, name: str) -> None:
    with line(partner, name) as connector:
        command = create()
        replies = [connector.send(command), connector.send(command)]
    made = {reply.partner_id for reply in replies if isinstance(reply, Delivered)}
    is_safe = name in ("key", "client_id")
    assert len(made) == (1 if is_safe else 2)
    assert effects(partner) == [("created", 1)] * len(made)


def test_a_repeated_key_replays_its_answer_even_if_the_record_has_moved_on(partner: RunningPartner) -> None:
    with line(partner, "key") as connector:
        first = create()
        made = connector.send(first)
        second = update(first, made, 2, "2")
        assert connector.send(second) == Delivered(made.partner_id, "2")  # type: ignore[union-attr]
        assert connector.send(first) == made
        misused = replace(second, fields=replace(second.fields, note="3"))
        assert isinstance(connector.send(misused), Refused)
    assert effects(partner) == [("created", 1), ("updated", 2)]


def test_an_outdated_version_is_refused_where_versions_are_checked_and_taken_elsewhere(partner: RunningPartner) -> None:
    for name in ("version", "search"):
        with line(partner, name) as connector:
            first = create()
            made = connector.send(first)
            assert isinstance(connector.send(update(first, made, 3, "3")), Delivered)
            late = connector.send(update(first, made, 2, "2"))
        assert isinstance(late, Conflict if name == "version" else Delivered)


def test_what_can_be_found_tells_what_it_holds_instead(partner: RunningPartner) -> None:
    for name in ("client_id", "search", "version"):
        with line(partner, name) as connector:
            command = create()
            assert connector.find(command) == Absent()
            made = connector.send(command)
            assert isinstance(made, Delivered)
            assert connector.find(command) == Found(made.partner_id, "1")
            changed = update(command, made, 2, "2", links={Entity.CLIENT: "c1"})
            theirs = {"note": "1", "staff": "s1"}
            assert connector.find(changed) == Found(made.partner_id, "1", ("note", "staff"), theirs)
            assert connector.find(replace(changed, verb=Verb.CANCEL)).differing == ("status",)  # type: ignore[union-attr]
    for name in ("key", "none"):
        with line(partner, name) as connector, pytest.raises(PartnerError, match="cannot_be_read_back"):
            connector.find(create())


# --- Faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "how", "expected", "is_applied"),
    [
        ("refuse", {}, Retry, False),
        ("refuse", {"status": 401}, Refused, False),
        ("reject", {}, Refused, False),
        ("reject_batch", {}, Refused, False),
        ("cut_before", {}, Unknown, False),
        ("cut_after", {}, Unknown, True),
        ("fail_after", {}, Unknown, True),
        ("slow", {"seconds": 0.6}, Unknown, True),
        ("late", {"seconds": 0.6}, Unknown, False),
        ("garbage", {}, Unknown, True),
        ("garbage_status", {}, Unknown, True),
    ],
)
def test_a_fault_does_what_its_name_says(
    partner: RunningPartner, kind: str, how: dict[str, Any], expected: type[Reply], is_applied: bool
) -> None:
    partner.fail(kind, times=1, **how)
    with line(partner, "search", seconds=0.3) as connector:
        reply = connector.send(create())
        assert type(reply) is expected
        assert bool(effects(partner)) is is_applied
        assert isinstance(connector.send(create()), Delivered), "once was told"


def test_a_late_write_comes_though_nobody_waits(partner: RunningPartner) -> None:
    partner.fail("late", times=1, seconds=0.3)
    with line(partner, "search", seconds=0.1) as connector:
        connector.send(create())
    wait_for(lambda: effects(partner) == [("created", 1)])


def test_a_write_is_held_until_it_is_released(partner: RunningPartner) -> None:
    for is_applied in (False, True):
        partner.reset()
        partner.hold(is_applied=is_applied)
        with line(partner, "search") as connector, ThreadPoolExecutor(1) as pool:
            command = create()
            sent = pool.submit(connector.send, command)
            assert partner.wait_held() == [str(command.record_id)]
            assert bool(effects(partner)) is is_applied
            partner.release()
            assert isinstance(sent.result(5), Delivered)
        assert effects(partner) == [("created", 1)]


def test_a_dead_partner_is_not_reached_and_lives_on_with_what_it_had(partner: RunningPartner) -> None:
    with line(partner, "client_id") as connector:
        command = create()
        made = connector.send(command)
        partner.die()
        assert connector.send(create()) in (Retry("partner_unreachable"), Unknown("connection_cut_unsure"))
        assert connector.send(create()) == Retry("partner_unreachable")
        partner.revive()
        assert connector.find(command) == Found(made.partner_id, "1")  # type: ignore[union-attr]


def test_a_fault_befalls_the_space_and_the_records_it_names(partner: RunningPartner) -> None:
    poisoned = create()
    partner.fail("reject", record_ids=[str(poisoned.record_id)])
    partner.fail("refuse", space="another")
    with line(partner, "search") as connector:
        assert isinstance(connector.send(poisoned), Refused)
        assert isinstance(connector.send(create()), Delivered)


def test_latency_is_kept_and_calls_in_flight_are_counted(partner: RunningPartner) -> None:
    partner.configure(0.2)

    def send(_: int) -> Reply:
        with line(partner, "search") as connector:
            return connector.send(create())

    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        assert all(isinstance(reply, Delivered) for reply in pool.map(send, range(8)))
    assert time.monotonic() - started >= 0.2
    assert max(row["in_flight"] for row in partner.log()) > 1


# --- The judge --------------------------------------------------------------------------------------------------------


@pytest.fixture
def office(database: Database, partner: RunningPartner) -> Office:
    """At a partner that finds records, so that each fault is the caller's own."""
    return connect(database, "sakura", PROOFS["proof_search"], partner.url)


def said(office: Office, partner: RunningPartner) -> Truth:
    return truth(office, partner)


def test_a_plan_that_has_arrived_is_whole_and_one_that_has_not_is_lost(office: Office, partner: RunningPartner) -> None:
    visits = office.add_visits(2)
    names = tuple(sorted(f"visit {visit}" for visit in visits))
    assert said(office, partner) == Truth(lost=names)
    assert truth(office, partner, but=visits) == Truth()
    with line(partner, "search") as connector:
        for visit in visits:
            connector.send(create(visit))
    assert said(office, partner) == Truth()
    assert said(office, partner).broken == []


def test_a_record_made_twice_is_doubled_even_if_one_of_them_was_cancelled(
    office: Office, partner: RunningPartner
) -> None:
    (visit,) = office.add_visits()
    with line(partner, "search") as connector:
        first = create(visit)
        connector.send(first)
        second = connector.send(first)
        assert said(office, partner) == Truth(doubled=(f"visit {visit}",), stale=(f"visit {visit}",))
        connector.send(update(first, second, 1, "1", verb=Verb.CANCEL))
    assert said(office, partner) == Truth(doubled=(f"visit {visit}",))
    assert said(office, partner).broken == [f"visit {visit} is doubled"]


def test_an_older_version_over_a_newer_one_is_out_of_order_until_the_newest_is_put_back(
    office: Office, partner: RunningPartner
) -> None:
    (visit,) = office.add_visits()
    office.edit(visit, note="2")
    office.edit(visit, note="3")
    name = (f"visit {visit}",)
    with line(partner, "search") as connector:
        first = create(visit)
        made = connector.send(first)
        connector.send(update(first, made, 3, "3"))
        assert said(office, partner) == Truth()
        connector.send(update(first, made, 2, "2"))
        assert said(office, partner) == Truth(out_of_order=name, stale=name)
        connector.send(update(first, made, 3, "3"))
    assert said(office, partner) == Truth(repaired=name)
    checked = replace(office, partner=replace(office.partner, capability=PROOFS["proof_version"].capability))
    assert said(checked, partner) == Truth(out_of_order=name), "a partner that checks versions would have refused it"


def test_the_same_version_again_is_no_effect(office: Office, partner: RunningPartner) -> None:
    (visit,) = office.add_visits()
    with line(partner, "search") as connector:
        first = create(visit)
        again = update(first, connector.send(first), 1, "1")
        connector.send(again)
    assert effects(partner) == [("created", 1)]
    assert said(office, partner) == Truth()


def test_what_the_partner_holds_otherwise_is_stale(office: Office, partner: RunningPartner) -> None:
    visits = edited, cancelled, deleted, meddled = office.add_visits(4)
    with line(partner, "search") as connector:
        for visit in visits:
            connector.send(create(visit))
    office.edit(edited, staff_id=office.other_staff)
    office.cancel(cancelled)
    office.delete(deleted)
    partner.edit(*office.space, meddled, note="theirs")
    assert said(office, partner) == Truth(stale=tuple(sorted(f"visit {visit}" for visit in visits)))


def test_a_draft_and_a_visit_of_an_unknown_person_are_not_missed(office: Office, partner: RunningPartner) -> None:
    office.add_visits(status="draft")
    office.add_visits(client_id=uuid4())
    office.add_visits(staff_id=uuid4())
    (unassigned,) = office.add_visits(staff_id=None)
    assert said(office, partner) == Truth(lost=(f"visit {unassigned}",))


def test_a_record_is_judged_with_its_visit_and_waits_for_it(office: Office, partner: RunningPartner) -> None:
    visit, withdrawn = office.add_visits(2)
    office.add_records([visit, withdrawn], status="absent", started_at=None, ended_at=None)
    office.cancel(withdrawn)
    assert said(office, partner).lost == (f"visit {visit}", f"visit_record {visit}")


def test_where_nothing_can_be_asked_a_person_is_and_a_double_is_one_all_the_same(
    database: Database, partner: RunningPartner
) -> None:
    office = connect(database, "sakura", PROOFS["proof_none"], partner.url)
    visit, twice = office.add_visits(2)
    unsure(office, visit)
    unsure(office, twice)
    with line(partner, "none") as connector:
        command = create(twice)
        connector.send(command)
        assert said(office, partner).asked == (tuple(sorted((f"visit {visit}", f"visit {twice}"))))
        connector.send(command)
    assert said(office, partner).broken == [f"visit {twice} is doubled"]


def unsure(office: Office, visit: UUID) -> None:
    """Park the visit as one whose delivery is not known, in the words of the product's own history."""
    key = "month, :tenant, :partner, 'visit', :visit, 1"
    columns = "month, tenant_id, partner, entity, record_id, version"
    office.sql(
        f"INSERT INTO sync.change ({columns}, op, image, client_id, staff_id, on_date, edited_at) "
        f"SELECT {key}, 'upsert', image, :client, NULL, '2026-12-01', at FROM sync.update_event "
        "WHERE record_id = :visit",
        Login.ACCUMULATE,
        tenant=office.name,
        partner=office.partner.name,
        visit=visit,
        client=office.client,
    )
    office.sql(
        f"INSERT INTO sync.result ({columns}, outcome, reason) SELECT {key}, 'parked', 'delivery_unsure' "
        "FROM sync.change WHERE record_id = :visit",
        Login.PUSH,
        tenant=office.name,
        partner=office.partner.name,
        visit=visit,
    )
