"""Care CSV: actuals go out as whole months of a client, whatever dies, and whoever takes them has what is done."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from carecsv_bench import client_id, connected, stored, visit, visit_record
from evidence import is_told
from fhir_bench import NotingGate

from partners.carecsv import places
from partners.carecsv.actuals import Client, Kept
from partners.carecsv.layouts import INSURED
from partners.carecsv.outbox import Outbox
from partners.carecsv.sandbox.office import OFFICE, CareOffice, made_up
from partners.contract import (
    Absent,
    Command,
    Conflict,
    Delivered,
    Entity,
    Found,
    Refused,
    Reply,
    Retry,
    Unknown,
    Verb,
    Visit,
    VisitRecord,
)
from partners.windows import JAPAN


@pytest.fixture
def office(tmp_path: Path) -> CareOffice:
    made = CareOffice(tmp_path)
    made.send([made_up(1, number) for number in range(1, 6)])
    return made


def send(office: CareOffice, *commands: Command, **settings: str) -> list[Reply]:
    with connected(office, **settings) as connector:
        return list(connector.send_batch(commands) if len(commands) > 1 else [connector.send(commands[0])])


def deliver(office: CareOffice, *commands: Command) -> list[Command]:
    """Send; the same as their updates."""
    updates = []
    for command, reply in zip(commands, send(office, *commands), strict=True):
        assert isinstance(reply, Delivered)
        updates.append(replace(command, verb=Verb.UPDATE, version=2, partner_id=reply.partner_id))
    return updates


def told(office: CareOffice) -> dict[tuple[str, str], list[tuple[str, str, str, str]]]:
    """By insured and month: day, begin, end and service of each row that the office has now."""
    return {key: [(row[9], row[11], row[12], row[14]) for row in rows] for key, rows in office.actuals.items() if rows}


def insured(number: int) -> str:
    return made_up(1, number)[INSURED]


def test_nothing_goes_before_something_was_done_and_then_the_whole_month_in_one_file(office: CareOffice) -> None:
    visits = [visit(1), visit(1, minutes=24 * 60), visit(2)]
    deliver(office, *visits)
    assert office.take() == []
    deliver(office, *(visit_record(each) for each in visits))
    (name,) = office.take()
    assert name.startswith(f"UPJSK_202612_1370000002_13_{OFFICE}_43_")
    assert told(office) == {
        (insured(1), "202612"): [("20261201", "0933", "1030", "131111"), ("20261202", "0933", "1030", "131111")],
        (insured(2), "202612"): [("20261201", "0933", "1030", "131111")],
    }
    row = office.actuals[insured(2), "202612"][0]
    assert (len(row), row[0], row[1], row[4], row[13], row[19]) == (25, "202410", "139999", "202612", "1", "1370000002")
    deliver(office, late := visit(1, minutes=3 * 24 * 60))
    assert office.take() == []
    deliver(office, visit_record(late))
    office.take()
    assert len(told(office)[insured(1), "202612"]) == 3  # all of them again
    assert len(told(office)[insured(2), "202612"]) == 1


def test_a_change_of_the_visit_or_its_record_sends_the_month_anew_and_the_same_content_is_sent_once(
    office: CareOffice,
) -> None:
    (plan,) = deliver(office, first := visit())
    (done,) = deliver(office, visit_record(first))
    assert len(office.take()) == 1
    assert isinstance(plan.fields, Visit)
    assert isinstance(done.fields, VisitRecord)
    for _ in range(2):
        deliver(office, plan, done)
        assert office.take() == []
    deliver(office, replace(plan, fields=replace(plan.fields, note="another", service_code="131211")))
    assert len(office.take()) == 1
    assert [row[3] for row in told(office)[insured(1), "202612"]] == ["131211"]
    deliver(office, replace(done, fields=replace(done.fields, note="another")))
    assert office.take() == []  # no column has it
    deliver(office, replace(done, fields=replace(done.fields, started_at=None)))
    office.take()
    assert told(office)[insured(1), "202612"] == [("20261201", "0930", "1030", "131211")]  # as it was planned


@pytest.mark.parametrize("how", ["absent", "record cancelled", "visit cancelled", "another client", "another month"])
def test_what_was_not_done_after_all_is_taken_back(office: CareOffice, how: str) -> None:
    first, second = visit(1), visit(1, minutes=60)
    plan, _ = deliver(office, first, second)
    done, _ = deliver(office, visit_record(first), visit_record(second))
    office.take()
    assert isinstance(plan.fields, Visit)
    assert isinstance(done.fields, VisitRecord)
    assert done.fields.started_at is not None
    later = done.fields.started_at + timedelta(days=31)
    change = {
        "absent": replace(done, fields=VisitRecord(None, None, "absent", "")),
        "record cancelled": replace(done, verb=Verb.CANCEL),
        "visit cancelled": replace(plan, verb=Verb.CANCEL),
        "another client": replace(plan, links={Entity.CLIENT: client_id(2)}),
        "another month": replace(done, fields=replace(done.fields, started_at=later, ended_at=None)),
    }[how]
    (changed,) = deliver(office, change)
    assert len(office.take()) == (2 if how == "another month" else 1)
    rest = {(insured(1), "202612"): [("20261201", "1033", "1130", "131111")]}
    moved = ("20261201", "0933", "1030", "131111")
    assert told(office) == rest | ({(insured(2), "202612"): [moved]} if how == "another client" else {}) | (
        {(insured(1), "202701"): [("20270101", "0933", "1030", "131111")]} if how == "another month" else {}
    )
    if how == "another client":  # its record is known there
        with connected(office) as connector:
            record = replace(done, links={Entity.VISIT: str(changed.partner_id)}, partner_id=done.partner_id)
            assert connector.find(record).matches  # type: ignore[union-attr]


def test_where_nothing_is_left_of_a_month_another_file_says_so(office: CareOffice) -> None:
    first = visit()
    deliver(office, first)
    (done,) = deliver(office, visit_record(first))
    office.take()
    deliver(office, replace(done, verb=Verb.CANCEL))
    (name,) = office.take()
    assert name.startswith("DLTJSK_202612_")
    assert told(office) == {}
    deliver(office, done)
    (name,) = office.take()
    assert name.startswith("UPJSK_202612_")


def test_what_was_taken_back_and_is_so_again_goes_though_the_first_file_still_lies_there(office: CareOffice) -> None:
    deliver(office, first := visit())
    (done,) = deliver(office, visit_record(first))
    deliver(office, replace(done, verb=Verb.CANCEL))
    deliver(office, done)
    assert [name.split("_")[0] for name in office.take()] == ["UPJSK", "DLTJSK", "UPJSK"]
    assert len(told(office)[insured(1), "202612"]) == 1


def test_clients_of_two_offices_go_to_each_ones_own_and_who_has_none_waits(office: CareOffice) -> None:
    other = CareOffice(office.base)
    with patch("partners.carecsv.sandbox.office.OFFICE", "1370000009"):
        other.send([made_up(1, 9)])
    visits = [visit(1), visit(9), visit(77)]
    deliver(office, *visits)
    records = [visit_record(each) for each in visits]
    replies = send(office, *records)
    assert replies[2] == Refused("care_manager_unknown")
    is_told("care_manager_unknown", replies[2].params)
    assert [type(each) for each in replies] == [Delivered, Delivered, Refused]
    assert sorted(name.split("_")[4] for name in office.take()) == [OFFICE, "1370000009"]
    assert stored(office, records[2]) == []
    assert isinstance(send(office, records[2], care_manager="1370000008")[0], Delivered)
    assert [name.split("_")[4] for name in office.take()] == ["1370000008"]


def test_what_we_keep_of_a_client_and_cannot_read_is_ours_to_mend_and_stops_no_other(office: CareOffice) -> None:
    first, second = deliver(office, visit(1), visit(2))
    (file,) = [each for each in (office.base / "zest-state").iterdir() if insured(1) in each.name]
    file.write_text("{")
    replies = send(office, visit_record(first), visit_record(second))
    assert replies[0] == Refused("internal_error")
    assert isinstance(replies[1], Delivered)


@pytest.mark.parametrize("why", ["service code", "receiver"])
def test_a_visit_that_its_new_client_cannot_have_stays_whose_it_was(office: CareOffice, why: str) -> None:
    (plan,) = deliver(office, first := visit(1))
    deliver(office, visit_record(first))
    office.take()
    before = told(office)
    assert isinstance(plan.fields, Visit)
    moved = replace(plan, links={Entity.CLIENT: client_id(77 if why == "receiver" else 2)})
    if why == "service code":
        moved = replace(moved, fields=replace(plan.fields, service_code="訪問"))
    assert isinstance(send(office, moved)[0], Refused)
    assert (office.take(), told(office), len(stored(office, plan))) == ([], before, 1)
    deliver(office, replace(plan, links={Entity.CLIENT: client_id(2)}))
    office.take()
    assert [key[0] for key in told(office)] == [insured(2)]


def test_a_visit_stays_whose_it_was_where_nobody_could_be_told_that_it_went(office: CareOffice) -> None:
    (plan,) = deliver(office, first := visit(1))
    deliver(office, visit_record(first))
    office.take()
    before = told(office)
    for file in office.folder.iterdir():
        file.unlink()
    office.send([made_up(1, 2)])  # nobody tells any more whose the first one is
    moved = replace(plan, links={Entity.CLIENT: client_id(2)})
    assert send(office, moved) == [Refused("care_manager_unknown")]
    assert (office.take(), told(office)) == ([], before)
    assert isinstance(send(office, moved, care_manager="1370000008")[0], Delivered)
    office.take()
    assert [key[0] for key in told(office)] == [insured(2)]


def test_a_service_code_that_is_none_is_refused_and_stops_no_other(office: CareOffice) -> None:
    good, bad = visit(), visit(minutes=60)
    assert isinstance(bad.fields, Visit)
    bad = replace(bad, fields=replace(bad.fields, service_code="訪問"))
    assert [type(each) for each in send(office, bad, good)] == [Refused, Delivered]
    assert (len(stored(office, good)), stored(office, bad)) == (1, [])


def test_what_is_not_kept_any_more_is_not_sent_as_if_it_were_all(office: CareOffice) -> None:
    (plan,) = deliver(office, first := visit())
    deliver(office, visit_record(first))
    office.take()
    for file in (office.base / "zest-state").iterdir():
        file.unlink()
    assert send(office, plan) == [Conflict("record_gone_at_partner")]
    assert send(office, visit_record(first)) == [Refused("visit_not_yet_delivered")]
    assert office.take() == []


def test_a_record_that_was_never_told_has_nothing_to_cancel(office: CareOffice) -> None:
    cancel = replace(visit(), verb=Verb.CANCEL)
    assert send(office, cancel) == [Delivered(f"{client_id(1)}/{cancel.record_id}", "", "nothing_to_cancel")]
    assert send(office, replace(visit(), links={}))[0] == Refused("client_not_yet_at_partner")


# --- Whatever dies ----------------------------------------------------------------------------------------------------

STEPS = {
    "before its time": (places.os, "fsync", 1),
    "before the file": (places.os, "fsync", 3),
    "before its name": (Path, "replace", 2),
    "before the state": (places.os, "fsync", 5),
    "before the state's name": (Path, "replace", 3),
}


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("is_taken", [False, True])
def test_who_dies_at_any_step_leaves_whole_files_and_the_repeat_ends_with_what_was_done(
    office: CareOffice, step: str, is_taken: bool
) -> None:
    first, second = visit(), visit(minutes=60)
    deliver(office, first, second)
    deliver(office, visit_record(first))
    office.take()
    before = told(office)
    owner, name, at = STEPS[step]
    real, left = getattr(owner, name), [at]

    def deadly(*given: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return real(*given)

    record = visit_record(second)
    with patch.object(owner, name, deadly), pytest.raises(Killed):
        send(office, record)
    names = office.take() if is_taken else []
    assert told(office) in (
        before,
        {(insured(1), "202612"): [*before[insured(1), "202612"], ("20261201", "1033", "1130", "131111")]},
    )
    with connected(office) as connector:
        assert connector.find(record) == Absent()
    deliver(office, record)
    names += office.take()
    assert len(told(office)[insured(1), "202612"]) == 2
    was_out = step.startswith("before the state")
    assert len(names) == (2 if was_out and is_taken else 1)  # once, but where somebody took it in that very moment


CHAINS = {
    "a chain": [(1, 2), (2, 3), (3, 4)],
    "a chain, the last one first": [(3, 4), (2, 3), (1, 2)],
    "a swap": [(1, 2), (2, 1)],
    "a ring": [(1, 2), (2, 3), (3, 1)],
    "two into one, and one out of it": [(1, 2), (3, 2), (2, 4)],
}


def moves_of(office: CareOffice, chain: str) -> list[Command]:
    """One visit that was done for each client that gives one away, told and taken; the moves of all."""
    visits = [visit(giver, minutes=60 * giver) for giver, _ in CHAINS[chain]]
    plans = deliver(office, *visits)
    deliver(office, *(visit_record(each) for each in visits))
    office.take()
    pairs = zip(plans, CHAINS[chain], strict=True)
    return [replace(plan, links={Entity.CLIENT: client_id(taker)}) for plan, (_, taker) in pairs]


def after_moves(chain: str) -> dict[tuple[str, str], list[tuple[str, str, str, str]]]:
    """What the office then has of each client."""
    found: dict[tuple[str, str], list[tuple[str, str, str, str]]] = {}
    for giver, taker in sorted(CHAINS[chain]):
        began, ended = f"{9 + giver:02}33", f"{10 + giver:02}30"
        found.setdefault((insured(taker), "202612"), []).append(("20261201", began, ended, "131111"))
    return found


@pytest.mark.parametrize("chain", CHAINS)
def test_visits_that_move_on_in_one_call_rewrite_each_month_concerned_once(office: CareOffice, chain: str) -> None:
    moves = moves_of(office, chain)
    deliver(office, *moves)
    letters = [file.read_text("cp932") for file in (office.base / "out").iterdir()]
    assert len(letters) == len(office.take()) <= 2, "one of actuals, and one of months of which nothing is left"
    assert told(office) == after_moves(chain)
    concerned = {client for pair in CHAINS[chain] for client in pair}
    for client in concerned:
        assert sum(insured(client) in letter for letter in letters) == 1
    for each in moves:
        assert len(stored(office, each)) == 1
    deliver(office, *moves)
    assert office.take() == []


@pytest.mark.parametrize("chain", CHAINS)
def test_who_dies_in_moves_of_one_call_loses_none_of_them(office: CareOffice, chain: str) -> None:
    real = Outbox.keep
    for at in range(20):
        for folder in ("out", "zest-state", "taken"):
            for file in (office.base / folder).glob("*"):
                file.unlink()
        office.actuals.clear()
        moves, kept = moves_of(office, chain), list[Client]()

        def deadly(outbox: Outbox, client: Client, state: Kept, at: int = at, kept: list[Client] = kept) -> None:
            if len(kept) == at:
                raise Killed
            kept.append(client)
            real(outbox, client, state)

        with patch.object(Outbox, "keep", deadly):
            try:
                send(office, *moves)
            except Killed:
                is_over = False
            else:
                is_over = True
        assert all(stored(office, each) for each in moves), f"lost at step {at}"
        for each in reversed(moves):  # one by one, and in another order; nothing is sent that has arrived
            with connected(office) as connector:
                there = connector.find(each)
            assert isinstance(there, Found)
            if not there.matches:
                deliver(office, each)
        office.take()
        assert told(office) == after_moves(chain)
        for each in moves:
            assert len(stored(office, each)) == 1
        if is_over:
            return
    raise AssertionError("it never came to its end")


def test_who_dies_between_two_states_loses_no_visit_that_went_from_one_to_the_other(office: CareOffice) -> None:
    plan, _ = deliver(office, first := visit(1), visit(1, minutes=60))
    deliver(office, visit_record(first))
    moved, real, kept = replace(plan, links={Entity.CLIENT: client_id(2)}), Outbox.keep, list[Client]()

    def deadly(outbox: Outbox, client: Client, state: Kept) -> None:
        if kept:
            raise Killed
        kept.append(client)
        real(outbox, client, state)

    with patch.object(Outbox, "keep", deadly), pytest.raises(Killed):
        send(office, visit(1, minutes=120), moved)
    deliver(office, moved)
    office.take()
    assert told(office) == {(insured(2), "202612"): [("20261201", "0933", "1030", "131111")]}


def test_the_gate_is_asked_once_for_each_folder_that_is_opened_to_be_written_or_looked_into(office: CareOffice) -> None:
    first, gate = visit(), NotingGate()
    counted = patch.object(Outbox, "open", autospec=True, side_effect=Outbox.open)
    with connected(office, gate) as connector, counted as opened:
        for number, commands in enumerate(([first], [visit(minutes=90), visit(minutes=180)]), start=1):
            gate.admitted.clear()
            connector.send_batch(commands)
            assert opened.call_count == number
            assert len(gate.admitted) == 1
        gate.admitted.clear()
        connector.find(first)
        assert gate.admitted == ["files"]


def test_a_disk_that_fails_before_anything_is_written_means_later_and_after_it_doubt(office: CareOffice) -> None:
    deliver(office, first := visit())
    full = OSError(errno.ENOSPC, "no space")
    with patch.object(Outbox, "put", side_effect=full):
        assert send(office, visit_record(first)) == [Retry("partner_unreachable")]
    with patch.object(places.os, "fsync", side_effect=full):
        assert send(office, visit_record(first)) == [Retry("partner_unreachable")]
    assert not list(office.base.glob("*/.*.part")), "half a file would make the disk fuller"
    broken = OSError(errno.EIO, "the disk under test")
    with patch.object(places, "_sync", side_effect=broken):
        assert send(office, visit(minutes=90)) == [Unknown("connection_cut_unsure")]
    with patch.object(Outbox, "keep", side_effect=full):
        assert send(office, record := visit_record(first)) == [Unknown("connection_cut_unsure")]
    assert len(office.take()) == 1
    with connected(office) as connector:
        assert connector.find(record) == Absent()
    (office.base / "out").rmdir()
    assert send(office, record) == [Refused("folder_missing")]


def test_files_have_rising_times_though_several_go_in_a_second(office: CareOffice) -> None:
    names = []
    for number in range(4):
        deliver(office, each := visit(minutes=number * 60))
        deliver(office, visit_record(each))
        names += [file.name for file in (office.base / "out").iterdir()]
    times = [name.rsplit("_", 1)[1] for name in sorted(set(names))]
    assert len(set(times)) == 4
    office.take()
    assert len(told(office)[insured(1), "202612"]) == 4


def test_what_was_told_is_found_and_differences_are_named(office: CareOffice) -> None:
    (plan,) = deliver(office, visit())
    assert isinstance(plan.fields, Visit)
    with connected(office) as connector:
        moved = replace(plan, fields=replace(plan.fields, starts_at=plan.fields.starts_at + timedelta(minutes=5)))
        found = connector.find(moved)
    assert found == Found(str(plan.partner_id), "", ("starts_at",), {"starts_at": "2026-12-01T09:30+09:00"})


# --- Any order of edits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_office_ends_with_what_is_done_in_whatever_order_and_batches_edits_come(
    office: CareOffice, seed: int
) -> None:
    """An office that takes files at any time, senders that die at any step, repeats: judged by its rows alone."""
    draw = random.Random(seed)
    plans: dict[UUID, Command] = {}
    records: dict[UUID, Command] = {}

    def settle(*commands: Command) -> list[Delivered]:
        while True:
            owner, name, at = draw.choice(list(STEPS.values()))
            replies = (
                _until_killed(office, owner, name, at, commands) if draw.random() < 0.3 else send(office, *commands)
            )
            if draw.random() < 0.4:
                office.take()
            if replies is not None:
                assert all(isinstance(each, Delivered) for each in replies), replies
                return [each for each in replies if isinstance(each, Delivered)]

    for _ in range(40):
        what = draw.choice(["plan", "plan", "record", "record", "move", "client", "cancel"])
        chosen = draw.choice(list(plans.values())) if plans else None
        if what == "plan" or chosen is None:
            made = [visit(draw.randint(1, 3), minutes=draw.randrange(60 * 24 * 60)) for _ in range(draw.randint(1, 3))]
            for command, reply in zip(made, settle(*made), strict=True):
                plans[command.record_id] = replace(command, verb=Verb.UPDATE, partner_id=reply.partner_id)
            continue
        known = records.get(chosen.record_id)
        if what == "record":
            link = {Entity.VISIT: str(chosen.partner_id)}
            command = replace(visit_record(chosen, status=draw.choice(["done", "done", "absent"])), links=link)
            if known is not None:
                command = replace(command, verb=Verb.UPDATE, partner_id=known.partner_id)
            (reply,) = settle(command)
            records[chosen.record_id] = replace(command, verb=Verb.UPDATE, partner_id=reply.partner_id)
        elif what == "cancel" and known is not None:
            settle(replace(known, links={Entity.VISIT: str(chosen.partner_id)}, verb=Verb.CANCEL))
            records[chosen.record_id] = replace(known, fields=VisitRecord(None, None, "absent", ""))
        else:
            assert isinstance(chosen.fields, Visit)
            far = timedelta(minutes=draw.randrange(40 * 24 * 60))
            fields = replace(
                chosen.fields, starts_at=chosen.fields.starts_at + far, ends_at=chosen.fields.ends_at + far
            )
            changed = replace(chosen, fields=fields)
            if what == "client":
                changed = replace(chosen, links={Entity.CLIENT: client_id(draw.randint(1, 3))})
            (reply,) = settle(changed)
            plans[chosen.record_id] = replace(changed, partner_id=reply.partner_id)

    office.take()
    expected: dict[tuple[str, str], list[tuple[str, str, str, str]]] = {}
    for record_id, record in records.items():
        plan, fields = plans[record_id], record.fields
        assert isinstance(plan.fields, Visit)
        assert isinstance(fields, VisitRecord)
        if fields.status == "done":
            assert fields.started_at is not None
            assert fields.ended_at is not None
            began, ended = (each.astimezone(JAPAN) for each in (fields.started_at, fields.ended_at))
            key = plan.links[Entity.CLIENT].split("-")[1], f"{began:%Y%m}"
            expected.setdefault(key, []).append((f"{began:%Y%m%d}", f"{began:%H%M}", f"{ended:%H%M}", "131111"))
    assert {key: sorted(rows) for key, rows in told(office).items()} == {
        key: sorted(rows) for key, rows in expected.items()
    }


def _until_killed(
    office: CareOffice, owner: Any, name: str, at: int, commands: tuple[Command, ...]
) -> list[Reply] | None:
    real: Callable[..., Any] = getattr(owner, name)
    left = [at]

    def deadly(*given: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return real(*given)

    try:
        with patch.object(owner, name, deadly):
            return send(office, *commands)
    except Killed:
        return None
