"""What a push takes up: whose turn it is, in which order, and all that a command is built of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import fresh_database
from way_out import MONTH, NOON, WayOut, ended, way_out

from partners.contract import Connection, Entity, Verb
from resources.logins import Login, Logins
from zest_pipelines.core.alarm import fingerprint_of
from zest_pipelines.core.outcome import Outcome, RepairOutcome
from zest_pipelines.core.weeks import Days
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import claims, due, leases, releases, reports, tenants
from zest_pipelines.store.claims import Base, KnownCopy
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.keys import Key
from zest_pipelines.store.releases import Act
from zest_pipelines.store.results import Repair, Result


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, template: Logins) -> Iterator[Database]:
    """The database of all tests here."""
    with fresh_database(server, template) as logins:
        database = Database(logins)
        yield database
        database.close()


@pytest.fixture
def out(shared: Database) -> WayOut:
    return way_out(shared)


def asked(out: WayOut, first: str, last: str) -> None:
    out.sql(
        "SELECT sync.request_push(:tenant, :partner, CAST(:first AS date), CAST(:last AS date))", first=first, last=last
    )


def test_a_due_record_has_all_that_its_command_is_built_of(out: WayOut) -> None:
    key = out.change(image='{"note": "x"}')
    (due,) = out.due()
    assert due == claims.Due(
        key=key,
        op="upsert",
        image={"note": "x"},
        attempts=0,
        client="C",
        staff="S",
        visit=None,
        known=None,
        base=None,
        settled_version=0,
        doubt=None,
    )


def test_an_edit_of_a_delivered_record_knows_what_the_partner_has(out: WayOut) -> None:
    first = Key(date(2026, 10, 1), Entity.VISIT, uuid4(), 1)  # of another month's partition
    out.change(first, image='{"note": "old"}')
    out.deliver(first, partner_id="p", version="7")
    second = out.change(replace(first, month=MONTH, version=2))
    out.store(
        ended(out.intend(second, Verb.UPDATE), Outcome.RETRY, "found_different", partner_id="p", partner_version="8")
    )

    (due,) = out.due()
    assert (due.key, due.settled_version, due.attempts) == (second, 1, 1)
    assert due.known == KnownCopy("p", "8", is_cancelled=False, links={"client": "C"}, version=2)
    assert due.base == Base(first, {"note": "old"}, Verb.UPDATE, {"client": "C"})


def test_a_cancelled_record_is_known_as_such(out: WayOut) -> None:
    first = out.change()
    out.deliver(first)
    second = out.change(replace(first, version=2), op="cancel")
    out.deliver(second, Verb.CANCEL, version="2")
    out.change(replace(first, version=3))
    (due,) = out.due()
    assert due.known is not None
    assert due.base is not None
    assert (due.known.is_cancelled, due.base.verb, due.base.key) == (True, Verb.CANCEL, second)


def test_what_was_delivered_without_a_call_is_nothing_to_compare_with(out: WayOut) -> None:
    first = out.change()
    out.store(Result(first, Outcome.DELIVERED, partner_id="adopted"))
    out.change(replace(first, version=2))
    (due,) = out.due()
    assert due.base is None
    assert due.known == KnownCopy("adopted", "", is_cancelled=False, links={}, version=1)


def test_a_record_goes_when_its_client_and_its_staff_are_known_and_holds_up_no_other(out: WayOut) -> None:
    client, staff = uuid4(), uuid4()
    waits = [out.change(client=client), out.change(staff=staff), out.change(client=client, staff=staff)]
    goes = [out.change(), out.change(staff=None), out.change(client=client, op="cancel")]
    assert set(out.due_keys()) == set(goes)

    out.identify(Entity.CLIENT, client, "C2")
    assert out.recheck() == 2
    assert out.recheck() == 0
    assert set(out.due_keys()) == {*goes, waits[0]}
    out.identify(Entity.STAFF, staff, "S2")
    assert out.recheck() == 2
    assert set(out.due_keys()) == {*goes, *waits}


def test_a_stale_hint_sends_nothing_without_its_client(out: WayOut) -> None:
    """The row says that it waits for nothing: the rule itself is asked again before it is taken."""
    key = out.change()
    out.sql(
        "UPDATE sync.identity SET valid_to = clock_timestamp() WHERE partner = :partner AND entity = 'client'",
        Login.APPLY,
    )
    assert out.due() == ()
    out.recheck()
    assert out.outbound() == ()
    out.identify(Entity.CLIENT, out.client, "C9")
    out.recheck()
    (due,) = out.due()
    assert (due.key, due.client) == (key, "C9")


def test_a_visit_record_goes_after_its_visit(out: WayOut) -> None:
    visit = out.change()
    record = out.change(Key(MONTH, Entity.VISIT_RECORD, visit.record_id, 1))
    assert out.due_keys() == [visit]
    out.deliver(visit, partner_id="v")
    out.recheck()
    (due,) = out.due()
    assert (due.key, due.visit) == (record, "v")

    cancelled = out.change(replace(visit, version=2), op="cancel")
    out.deliver(cancelled, Verb.CANCEL, partner_id="v")
    assert out.due() == ()
    gone = out.change(replace(record, version=2), op="cancel")
    assert [(each.key, each.visit) for each in out.due()] == [(gone, None)]


def test_records_come_by_when_they_were_edited_or_due_again_without_those_in_hand(out: WayOut) -> None:
    young, old = out.change(edited_at=NOON), out.change(edited_at=NOON - timedelta(hours=1))
    tried = out.change(edited_at=NOON - timedelta(hours=2))
    out.store(ended(out.intend(tried), Outcome.RETRY, not_before=NOON - timedelta(minutes=30)))
    assert out.due_keys() == [old, tried, young]
    assert out.due_keys(most=2) == [old, tried]
    assert out.due_keys(busy=[old.record, (Entity.VISIT_RECORD, young.record_id)]) == [tried, young]
    with out.transaction() as tx:
        assert claims.due(tx, out.target, [Entity.VISIT_RECORD], 10) == ()


def test_tenants_come_by_how_long_they_have_waited_and_a_large_backlog_has_one_turn_at_a_time(out: WayOut) -> None:
    late, early = (way_out(out.database, tenant=name, partner=out.partner) for name in ("aoi", "momiji"))
    for minute in range(5):
        out.change(edited_at=NOON - timedelta(hours=9, minutes=minute))
    late.change(edited_at=NOON)
    early.store(ended(early.intend(early.change()), Outcome.RETRY, not_before=NOON - timedelta(hours=1)))
    assert out.outbound() == ("sakura", "momiji", "aoi")

    with out.transaction() as tx:
        epoch = leases.take(tx, out.target, "a-machine:4711", 60.0)
        assert epoch is not None
        leases.give_back(tx, out.target, epoch)
    assert out.outbound() == ("momiji", "aoi", "sakura")


@pytest.mark.parametrize("outcome", [Outcome.PARKED, Outcome.CONFLICT])
def test_a_stopped_record_is_nobodys_turn(out: WayOut, outcome: Outcome) -> None:
    key = out.change()
    out.store(ended(out.intend(key), outcome))
    assert out.due() == ()
    assert out.outbound() == ()


def test_a_record_that_waits_for_its_time_is_not_due_before_it(out: WayOut) -> None:
    key = out.change()
    out.store(ended(out.intend(key), Outcome.RETRY, not_before=NOON + timedelta(days=36500)))
    assert (out.due(), out.outbound()) == ((), ())
    out.store(ended(out.intend(key), Outcome.RETRY, not_before=NOON - timedelta(days=36500)))
    assert (out.due_keys(), out.outbound()) == ([key], (out.tenant,))


def test_a_paused_connection_has_nothing_due(out: WayOut) -> None:
    key = out.change()
    with out.transaction(Login.OPERATOR) as tx:
        tenants.pause(tx, out.tenant, out.partner, "a reason")
    assert (out.due(), out.outbound()) == ((), ())
    with out.transaction(Login.OPERATOR) as tx:
        tenants.resume(tx, out.tenant, out.partner)
    assert (out.due_keys(), out.outbound()) == ([key], (out.tenant,))


# --- What a person asked for ------------------------------------------------------------------------------------------


def test_what_was_asked_for_comes_first_and_alone(out: WayOut) -> None:
    other, wanted = out.change(on_date=date(2026, 12, 1)), out.change(on_date=date(2026, 12, 8))
    assert out.due_keys() == [other, wanted] or out.due_keys() == [wanted, other]
    asked(out, "2026-12-07", "2026-12-13")
    assert out.due_keys() == [wanted]
    assert out.due_keys(busy=[wanted.record]) == [other]
    assert out.due_keys(days=Days(date(2026, 12, 1), date(2026, 12, 2))) == [other]


def test_a_week_connection_sends_what_was_asked_for_since_its_edit(shared: Database) -> None:
    out = way_out(shared, "week")
    soon, later = out.change(on_date=date(2026, 12, 1)), out.change(on_date=date(2026, 12, 8))
    assert (out.due(), out.outbound()) == ((), ())
    asked(out, "2026-12-01", "2026-12-07")
    out.recheck()
    assert (out.due_keys(), out.outbound()) == ([soon], (out.tenant,))

    out.change(replace(soon, version=2), on_date=date(2026, 12, 1), edited_at=NOON + timedelta(days=36500))
    assert (out.due(), out.outbound()) == ((), ())
    out.connect("minute")
    out.recheck()
    assert {key.record for key in out.due_keys()} == {soon.record, later.record}


def test_the_tick_sees_what_has_come_since_of_every_tenant(out: WayOut) -> None:
    outs = [way_out(out.database, tenant="momiji", partner=out.partner), out]
    clients = [uuid4(), uuid4()]
    for each, client in zip(outs, clients, strict=True):
        each.change(client=client)
    assert out.outbound() == ()
    for each, client in zip(outs, clients, strict=True):
        each.identify(Entity.CLIENT, client, "C2")
    with out.database.transaction(Login.SCHEDULE, None) as tx:
        assert due.recheck_waiting(tx, "another") == 0
        assert due.recheck_waiting(tx, out.partner) == 2
        assert due.recheck_waiting(tx, out.partner) == 0
        assert due.outbound(tx, out.partner, "1") == ("momiji", "sakura")


# --- Doubt and what comes late ----------------------------------------------------------------------------------------


def test_an_intent_without_an_answer_is_doubt_once_its_call_can_no_longer_go_on(out: WayOut) -> None:
    key = out.change(image='{"note": "sent"}')
    intent = out.intend(key, links={"client": "C"})
    newer = out.change(replace(key, version=2))
    assert out.due(under_way=timedelta(minutes=1)) == ()

    (found,) = out.due()
    assert found.key == newer
    assert found.doubt is not None
    assert (found.doubt.intent_id, found.doubt.key, found.doubt.verb) == (intent.intent_id, key, Verb.CREATE)
    assert (found.doubt.image, found.doubt.idempotency_key) == ({"note": "sent"}, intent.idempotency_key)
    assert (found.doubt.links, found.doubt.partner_id, found.doubt.is_repair) == ({"client": "C"}, None, False)
    assert out.outbound() == (out.tenant,)

    out.store(ended(intent, Outcome.UNKNOWN, "no_answer"))
    (found,) = out.due(under_way=timedelta(minutes=1))  # the call has come to its end
    assert found.doubt is not None
    out.store(ended(intent, Outcome.RETRY, "not_arrived"))
    (found,) = out.due(under_way=timedelta(minutes=1))
    assert (found.doubt, found.key) == (None, newer)


def test_a_doubt_that_comes_to_stand_on_a_newer_version_keeps_its_cause(out: WayOut) -> None:
    key, why = out.change(), {"detail": "create HTTP 418"}
    out.deliver(key)
    out.repair(Repair(key, RepairOutcome.SUSPECTED, "late_answer"))
    intent = out.intend(key, Verb.UPDATE, ":repair:12345678", partner_id="there", partner_version="1")
    out.repair(Repair(key, RepairOutcome.UNKNOWN, "unknown", why, intent.intent_id))
    out.change(replace(key, version=2))
    (found,) = out.sql("SELECT version, reason, params, cause FROM sync.pending WHERE partner = :partner")
    cause = fingerprint_of(out.partner, "unknown", "create HTTP 418")
    assert tuple(found) == (2, "unknown", why, cause)


def test_unknown_errors_that_are_stored_together_are_counted_each(out: WayOut) -> None:
    sent = [out.intend(out.change()) for _ in range(3)]
    why = ({"detail": "create HTTP 418"}, {"detail": "create HTTP 451"}, {"detail": "create HTTP 418"})
    out.store(*(replace(ended(a, Outcome.UNKNOWN, "unknown"), params=b) for a, b in zip(sent, why, strict=True)))
    found = out.sql("SELECT params, occurrences FROM sync.unexplained WHERE partner = :partner ORDER BY occurrences")
    assert [tuple(row) for row in found] == [(why[1], 1), (why[0], 2)]


def stranger(out: WayOut, key: Key) -> None:
    out.change(replace(key, version=3), client=uuid4())


def nobody_asked(out: WayOut, key: Key) -> None:
    out.connect("week")
    out.recheck()


@pytest.mark.parametrize("act", [stranger, nobody_asked])
def test_a_record_in_doubt_needs_nothing_to_be_read_back(out: WayOut, act: Callable[[WayOut, Key], None]) -> None:
    key = out.change()
    intent = out.intend(key)
    act(out, key)
    (found,) = out.due()
    assert found.doubt is not None
    assert found.doubt.intent_id == intent.intent_id
    assert out.outbound() == (out.tenant,)


@pytest.mark.parametrize("act", [stranger, nobody_asked])
def test_a_version_that_comes_after_a_newer_one_ended_needs_nothing_to_be_settled(
    out: WayOut, act: Callable[[WayOut, Key], None]
) -> None:
    key = out.change(Key(MONTH, Entity.VISIT, uuid4(), 5))
    out.deliver(key)
    out.connect("minute")
    act(out, replace(key, version=1))
    if act is nobody_asked:
        out.change(replace(key, version=3))
    (found,) = out.due()
    assert (found.key.version, found.settled_version, found.doubt) == (3, 5, None)
    assert out.outbound() == (out.tenant,)


# --- Releases and decisions -------------------------------------------------------------------------------------------


def keys(out: WayOut, ask: Callable[..., tuple[Key, ...]], *reasons: list[str]) -> list[UUID]:
    with out.transaction() as tx:
        return [key.record_id for key in ask(tx, out.target, *reasons)]


def parked(out: WayOut, reason: str = "record_refused", entity: Entity = Entity.VISIT) -> Key:
    key = out.change(Key(MONTH, entity, uuid4(), 1))
    out.store(ended(out.intend(key), Outcome.PARKED, reason))
    return key


def test_what_a_person_wants_tried_again_is_found_until_it_was_tried(out: WayOut) -> None:
    one, other = parked(out), parked(out)
    assert keys(out, releases.asked_again) == []
    out.sql("SELECT sync.request_retry(:tenant, :partner, 'visit', :record)", record=one.record_id)
    assert keys(out, releases.asked_again) == [one.record_id]
    assert out.outbound() == (out.tenant,)
    out.store(Result(one, Outcome.RELEASED, "asked_again"))
    assert keys(out, releases.asked_again) == []
    assert out.due_keys() == [one]
    out.sql("SELECT sync.request_retry(:tenant, :partner)")
    assert keys(out, releases.asked_again) == [other.record_id]


def test_a_doubt_keeps_its_time_when_the_version_above_it_is_given_up(out: WayOut) -> None:
    """Read back before that, "not there" would be believed of a call that may still take effect."""
    first = out.change()
    intent, later = out.intend(first), datetime.now(UTC) + timedelta(hours=1)
    out.store(ended(intent, Outcome.UNKNOWN, reason="timeout_unsure", not_before=later))
    second = out.change(replace(first, version=2))
    out.store(Result(second, Outcome.ABANDONED, "abandoned_by_person"))
    (row,) = out.sql(
        "SELECT version, state, reason, not_before FROM sync.pending WHERE record_id = :record", record=first.record_id
    )
    assert (row.version, row.state, row.reason, row.not_before) == (1, "unknown", "timeout_unsure", later)
    assert out.due() == ()
    out.store(ended(intent, Outcome.RETRY))
    assert out.due_keys() == [first]


def curable(out: WayOut, mapping: str = "1") -> set[UUID]:
    return set(keys(out, releases.curable, mapping, ["kind_bad"]))


def test_what_a_change_or_a_success_may_have_cured_is_found(out: WayOut) -> None:
    kind, own = parked(out, "kind_bad"), parked(out, "record_refused")
    assert curable(out) == set()
    out.deliver(out.change())
    assert curable(out) == {kind.record_id}
    other_kind = parked(out, "kind_bad", Entity.VISIT_RECORD)
    out.deliver(out.change())
    assert other_kind.record_id not in curable(out)
    assert out.outbound() == ()
    out.connect()
    assert curable(out) == {each.record_id for each in (kind, own, other_kind)}
    assert out.outbound() == (out.tenant,)


def test_another_mapping_frees_what_was_parked_under_the_one_before(out: WayOut) -> None:
    own, unsure = parked(out, "record_refused"), parked(out, "delivery_unsure")
    with out.database.transaction(Login.PUSH, out.tenant) as tx:
        epoch = leases.take(tx, out.target, "a test", 60.0)
        assert epoch is not None
    assert curable(out, "1") == set()  # nobody knows by which mapping it was written
    for mapping, freed in (("1", set()), ("2", {own.record_id})):
        assert (curable(out, mapping), out.outbound(mapping)) == (freed, (out.tenant,) if freed else ())
        with out.database.transaction(Login.PUSH, out.tenant) as tx:
            leases.note_mapping(tx, out.target, epoch, mapping)
        assert curable(out, mapping) == set()
    assert unsure.record_id not in curable(out, "3")


def decide(out: WayOut, key: Key, act: str, partner_id: str | None = None) -> None:
    out.sql(
        "SELECT sync.decide(:tenant, :partner, 'visit', :record, :version, :act, CAST(:id AS text), 'we looked')",
        record=key.record_id,
        version=key.version,
        act=act,
        id=partner_id,
    )


def test_the_newest_word_on_an_open_version_counts_and_is_spent_with_it(out: WayOut) -> None:
    key = parked(out, "delivery_unsure")
    doubted = out.change(op="cancel")
    intent = out.intend(doubted, Verb.CANCEL)
    decide(out, key, "abandon")
    decide(out, key, "adopt", "p/1")
    decide(out, doubted, "abandon")
    with out.transaction() as tx:
        found = {each.key: each for each in releases.decided(tx, out.target)}
    assert (found[key].act, found[key].partner_id, found[key].op, found[key].doubt) == (
        Act.ADOPT,
        "p/1",
        "upsert",
        None,
    )
    assert (found[doubted].act, found[doubted].op, found[doubted].doubt) == (Act.ABANDON, "cancel", intent.intent_id)
    assert out.outbound() == (out.tenant,)

    out.store(Result(key, Outcome.DELIVERED, partner_id="p/1"))
    out.change(replace(doubted, version=2))  # a newer edit is not what was decided about
    with out.transaction() as tx:
        assert releases.decided(tx, out.target) == ()


# --- Backlog and lease ------------------------------------------------------------------------------------------------


def test_the_backlog_counts_what_is_open_and_tells_the_oldest_that_could_go(out: WayOut) -> None:
    with out.transaction() as tx:
        assert claims.backlog(tx, out.target) == claims.Backlog(0, 0, None)
    out.change(client=uuid4(), edited_at=NOON - timedelta(days=2))
    out.change(edited_at=NOON)
    parked(out)
    with out.transaction() as tx:
        assert claims.backlog(tx, out.target) == claims.Backlog(3, 1, NOON)


def test_one_push_holds_the_lease_and_a_lost_one_is_noticed(out: WayOut) -> None:
    def take(seconds: float) -> int | None:
        with out.transaction() as tx:
            return leases.take(tx, out.target, "a push", seconds)

    def keep(epoch: int) -> leases.Kept | None:
        with out.transaction() as tx:
            return leases.keep(tx, out.target, epoch, 60.0)

    assert keep(1) is None
    assert (take(0.0), take(60.0), take(60.0)) == (1, 2, None)
    assert keep(1) is None
    assert keep(2) == leases.Kept(is_paused=False, on_conflict="hold")
    with out.transaction(Login.OPERATOR) as tx:
        tenants.pause(tx, out.tenant, out.partner, "a reason")
    assert keep(2) == leases.Kept(is_paused=True, on_conflict="hold")
    with out.transaction() as tx:
        leases.give_back(tx, out.target, 1)
    assert take(60.0) is None
    with out.transaction() as tx:
        leases.give_back(tx, out.target, 2)
    assert keep(2) is None
    assert take(60.0) == 3


def test_a_connection_says_what_becomes_of_conflicts_when_it_is_closed_and_what_is_its_share(out: WayOut) -> None:
    with out.transaction(Login.OPERATOR) as tx:
        before = tenants.connection(tx, out.tenant, out.partner)
        tenants.connect(
            tx,
            before.connection,
            timing=before.timing,
            limits=None,
            land_every=before.land_every,
            ciphertext=None,
            on_conflict="overwrite",
            closed=["02:00-05:00", "sun"],
            weight=3,
            deliver_within=timedelta(minutes=30),
        )
    with out.transaction() as tx:
        after = tenants.openable_connection(tx, out.tenant, out.partner)
    assert (before.on_conflict, before.closed) == ("hold", None)
    assert (after.on_conflict, after.closed) == ("overwrite", ("02:00-05:00", "sun"))
    assert (before.weight, before.deliver_within) == (1, None)
    assert (after.weight, after.deliver_within) == (3, timedelta(minutes=30))
    with out.transaction(Login.OPERATOR) as tx:
        shown = next(each for each in reports.connections(tx, out.tenant) if each.partner == out.partner)
    assert (shown.weight, shown.deliver_within_seconds) == (3, 1800.0)


@pytest.mark.parametrize("wrong", [{"weight": 0}, {"weight": 101}, {"deliver_within": timedelta(0)}])
def test_a_share_or_a_deadline_that_makes_no_sense_is_not_stored(out: WayOut, wrong: dict[str, Any]) -> None:
    connection = Connection(out.tenant, out.partner, "http://x", {})
    with pytest.raises(StoreError), out.transaction(Login.OPERATOR) as tx:
        tenants.connect(
            tx, connection, timing="minute", limits=None, land_every=timedelta(hours=1), ciphertext=None, **wrong
        )


def test_after_a_restore_into_another_cluster_everybody_has_events_to_read(out: WayOut) -> None:
    accumulate_none = "INSERT INTO sync.event_cursor SELECT :tenant, :partner, '0', 0, {} FROM pg_control_system()"
    other = way_out(out.database, tenant="momiji", partner=out.partner)
    out.sql(accumulate_none.format("system_identifier"), Login.ACCUMULATE)
    other.sql(accumulate_none.format("system_identifier - 1"), Login.ACCUMULATE)
    assert out.outbound() == ("momiji",)
