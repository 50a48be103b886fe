"""What the contract promises of every connector, tried with each against a real server: those of the registry and those
for the proofs, one for each class of capability. What a declaration says of its partner is tested, not believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import carecsv_bench
import fhir_bench
import orca_bench
import pytest
import smarthr_bench
from fhir_bench import CONFIG, NotingGate
from partner import PROOFS
from partner_process import RunningPartner, running_partner

from partners.carecsv.partner import CARECSV
from partners.carecsv.sandbox import CareOffice
from partners.contract import (
    Absent,
    Capability,
    Command,
    Conflict,
    Connection,
    Connector,
    Delivered,
    Entity,
    Found,
    Gone,
    Partner,
    Recovery,
    Refused,
    Reply,
    Retry,
    Unknown,
    Verb,
)
from partners.errors import Deferred, PartnerError
from partners.fhir.partner import FHIR
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from partners.orca.partner import ORCA
from partners.orca.sandbox.testing import RunningOrca, running_orca
from partners.registry import ONLY_READ, PARTNERS
from partners.smarthr.sandbox.testing import running_smarthr
from partners.throttling import Told
from resources.http import Http


@dataclass
class Bench:
    """One connector and the server that it speaks to."""

    partner: Partner
    connect: Callable[..., Any]
    """A context of an open connector; keywords: url, gate, and settings."""
    visit: Callable[[], Command]
    """The creation of a visit that the server has not seen."""
    copies: Callable[[Command], Sequence[Any]]
    """What the server has of a command's record, as it shows it."""
    calls: Callable[[], int]
    """How many calls it has got."""
    fail: Callable[[str], None]
    """`cut_after` or `refuse` each write from now on."""
    reject_batch: Callable[[Command], None]
    """Refuse each batch with the command's record."""
    heal: Callable[[], None]
    refused_visit: Callable[[], Command]
    """The creation of a visit that the server refuses."""
    has_batches: bool = True

    @property
    def capability(self) -> Capability:
        return self.partner.capability

    def send(self, command: Command, gate: Any = None) -> Reply:
        with self.connect(gate=gate) as connector:
            reply: Reply = connector.send(command)
        return reply

    def delivered(self, command: Command | None = None) -> Command:
        """The update of a visit that was delivered, which changes its note."""
        command = command or self.visit()
        reply = self.send(command)
        assert isinstance(reply, Delivered)
        known = {"partner_id": reply.partner_id, "partner_version": reply.partner_version}
        fields = replace(command.fields, note="another")
        return replace(command, verb=Verb.UPDATE, version=2, key=str(uuid4()), fields=fields, **known)


def fhir(sandbox: RunningSandbox) -> Bench:
    faults = {"cut_after": {"kind": "cut_after"}, "refuse": {"kind": "status", "status": 429, "code": "throttled"}}

    @contextmanager
    def connect(url: str | None = None, gate: Any = None, **settings: str) -> Iterator[Connector]:
        with fhir_bench.connected(url or sandbox.url, gate=gate, **settings) as connector:
            yield connector

    def reject_batch(command: Command) -> None:
        sandbox.set_faults({"kind": "batch_status", "identifier": str(command.record_id), "status": 422})

    return Bench(
        FHIR,
        connect,
        lambda: fhir_bench.visit(sandbox, key=str(uuid4())),
        lambda command: fhir_bench.stored(sandbox, command),
        lambda: sum(row["within"] is None for row in sandbox.journal()),
        lambda kind: sandbox.set_faults(*({"method": method, **faults[kind]} for method in ("POST", "PUT"))),
        reject_batch,
        sandbox.clear_faults,
        lambda: fhir_bench.visit(sandbox, links={Entity.CLIENT: "nobody"}),
    )


def orca(sandbox: RunningOrca) -> Bench:
    @contextmanager
    def connect(url: str | None = None, gate: Any = None, **settings: str) -> Iterator[Connector]:
        with orca_bench.connected(url or sandbox.url, gate=gate, **settings) as connector:
            yield connector

    def fail(kind: str) -> None:
        how = {"cut_after": {"kind": "lost"}, "refuse": {"kind": "code", "code": "90"}}[kind]
        sandbox.set_faults({"api": "appointmodv2", **how})

    def reject_batch(_: Command) -> None:
        raise AssertionError("it has no batches")

    return Bench(
        ORCA,
        connect,
        lambda: orca_bench.visit(sandbox, key=str(uuid4())),
        lambda command: orca_bench.stored(sandbox, command),
        lambda: len(sandbox.journal()),
        fail,
        reject_batch,
        sandbox.set_faults,
        lambda: orca_bench.visit(sandbox, links={Entity.CLIENT: "99999", Entity.STAFF: "10001"}),
        has_batches=False,
    )


def carecsv(office: CareOffice, disk: carecsv_bench.Disk) -> Bench:
    @contextmanager
    def connect(url: str | None = None, gate: Any = None, **settings: str) -> Iterator[Connector]:
        if url is not None:
            disk.fail("away")
        with carecsv_bench.connected(office, gate, **settings) as connector:
            yield connector

    def reject_batch(_: Command) -> None:
        pytest.skip("none of its batches is refused as a whole")

    def refused_visit() -> Command:
        command = carecsv_bench.visit()
        return replace(command, fields=replace(command.fields, service_code="訪問"))  # type: ignore[type-var]

    return Bench(
        CARECSV,
        connect,
        carecsv_bench.visit,
        lambda command: carecsv_bench.stored(office, command),
        lambda: disk.calls,
        disk.fail,
        reject_batch,
        disk.heal,
        refused_visit,
    )


def proof(partner: Partner, server: RunningPartner) -> Bench:
    address = partner.name.removeprefix("proof_"), "hidamari"

    @contextmanager
    def connect(url: str | None = None, gate: Any = None, **settings: str) -> Iterator[Connector]:
        connection = Connection(address[1], partner.name, "/".join((url or server.url, *address)), settings)
        connector = partner.open(connection, {}, Http(total_seconds=10).client(), gate or NotingGate())
        try:
            yield connector
        finally:
            connector.close()

    def visit() -> Command:
        return replace(_PLANNED, record_id=uuid4(), key=str(uuid4()))

    def refused_visit() -> Command:
        command = visit()
        server.fail("reject", record_ids=[str(command.record_id)])
        return command

    return Bench(
        partner,
        connect,
        visit,
        lambda command: [row for row in server.state() if row["record_id"] == str(command.record_id)],
        lambda: len({row["call"] for row in server.log()}),
        server.fail,
        lambda command: server.fail("reject_batch", record_ids=[str(command.record_id)]),
        server.heal,
        refused_visit,
    )


_PLANNED = Command(
    Entity.VISIT,
    Verb.CREATE,
    uuid4(),
    1,
    "k",
    fhir_bench.Visit(fhir_bench.STARTS, fhir_bench.STARTS.replace(hour=2), "112345", "玄関は開いています"),
    {Entity.CLIENT: "c1", Entity.STAFF: "s1"},
)


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Callable[[], Bench]]]:
    """A bench of each partner, by its name."""
    with running_sandbox(CONFIG) as fhir_, running_orca(orca_bench.CONFIG) as orca_, running_partner() as partner:
        of_proofs = {name: partial(proof, declared, partner) for name, declared in PROOFS.items()}
        disk = carecsv_bench.Disk()
        office = CareOffice(tmp_path_factory.mktemp("care"))
        yield {
            "fhir": partial(fhir, fhir_),
            "orca": partial(orca, orca_),
            "carecsv": partial(carecsv, office, disk),
            **of_proofs,
        }
        disk.end()


@pytest.fixture(params=[*(name for name in PARTNERS if name not in ONLY_READ), *PROOFS])
def bench(request: pytest.FixtureRequest, benches: dict[str, Callable[[], Bench]]) -> Iterator[Bench]:
    made = benches[request.param]()
    yield made
    made.heal()


@pytest.fixture
def batching(bench: Bench) -> Bench:
    if not bench.has_batches:
        pytest.skip("it has no batches")
    return bench


def test_a_record_is_created_changed_and_cancelled_as_one(bench: Bench) -> None:
    update = bench.delivered()
    changed = bench.send(update)
    assert isinstance(changed, Delivered)
    assert changed.partner_id == update.partner_id or bench.capability.replaces
    assert len(bench.copies(update)) == 1
    known = {"partner_id": changed.partner_id, "partner_version": changed.partner_version}
    cancel = replace(update, verb=Verb.CANCEL, version=3, key="c", **known)
    assert isinstance(bench.send(cancel), Delivered)
    assert len(bench.copies(update)) == (0 if bench.capability.replaces else 1)


@pytest.mark.parametrize("is_batch", [False, True])
def test_the_gate_is_asked_before_each_call(bench: Bench, is_batch: bool) -> None:
    if is_batch and not bench.has_batches:
        pytest.skip("it has no batches")
    commands, gate = [bench.delivered(), bench.visit()], NotingGate()
    before = bench.calls()
    with bench.connect(gate=gate, **({"batch_size": "9"} if is_batch else {})) as connector:
        if is_batch:
            connector.send_batch(commands)
        else:
            for command in commands:
                connector.send(command)
    assert len(gate.admitted) == bench.calls() - before
    assert set(gate.admitted) == {bench.partner.writes[Entity.VISIT]}


class ClosedGate:
    """Lets nothing through."""

    def admit(self, endpoint: str) -> None:
        raise Deferred(datetime(2026, 11, 24, 12, 0, tzinfo=UTC))

    def leave(self) -> None:
        """In time."""

    def unheard(self) -> None:
        """Nobody counts what is under way."""

    def heard(self, endpoint: str, told: Told) -> None:
        raise AssertionError("nothing was sent")


@pytest.mark.parametrize("verb", list(Verb))
def test_what_the_gate_puts_off_is_not_written(bench: Bench, verb: Verb) -> None:
    command = bench.visit() if verb is Verb.CREATE else replace(bench.delivered(), verb=verb)
    before = bench.copies(command)
    with pytest.raises(Deferred):
        bench.send(command, gate=ClosedGate())
    assert bench.copies(command) == before


def test_a_refusal_says_that_nothing_was_written_and_nothing_was(bench: Bench) -> None:
    refused = bench.refused_visit()
    assert isinstance(bench.send(refused), Refused)
    assert bench.copies(refused) == []
    bench.fail("refuse")
    assert isinstance(bench.send(command := bench.visit()), Retry)
    assert bench.copies(command) == []
    with bench.connect(url="http://127.0.0.1:1") as connector:
        assert connector.send(command) == Retry("partner_unreachable")


def test_a_lost_answer_is_unknown_and_the_recovery_that_is_declared_ends_with_one_record(bench: Bench) -> None:
    command = bench.visit()
    bench.fail("cut_after")
    assert isinstance(bench.send(command), Unknown)
    bench.heal()
    assert len(bench.copies(command)) == 1
    with bench.connect() as connector:
        match bench.capability.recovery:
            case Recovery.KEY:
                assert isinstance(connector.send(command), Delivered)
            case Recovery.CLIENT_ID | Recovery.SEARCH:
                found = connector.find(command)
                assert isinstance(found, Found)
                assert found.matches
            case Recovery.NONE:
                pass  # a person looks there
        if bench.capability.recovery is Recovery.CLIENT_ID:
            assert isinstance(connector.send(command), Delivered)
    assert len(bench.copies(command)) == 1


def test_where_records_can_be_found_absence_and_difference_are_told(bench: Bench) -> None:
    with bench.connect() as connector:
        if bench.capability.recovery in (Recovery.KEY, Recovery.NONE):
            with pytest.raises(PartnerError, match="cannot_be_read_back"):
                connector.find(bench.visit())
            return
        assert connector.find(bench.visit()) == Absent()
        update = bench.delivered()
        differing = connector.find(update)
        assert isinstance(differing, Found)
        assert (differing.partner_id, differing.differing) == (update.partner_id, ("note",))
        assert differing.theirs == {"note": "玄関は開いています"}
        assert "玄関" not in repr(differing)
        cancel = replace(update, verb=Verb.CANCEL)
        assert connector.find(cancel).differing == ("status",)  # type: ignore[union-attr]
        connector.send(cancel)
        assert connector.find(cancel).matches  # type: ignore[union-attr]
        assert "status" in connector.find(update).differing  # type: ignore[union-attr]


def test_an_outdated_version_is_refused_where_it_is_declared_so(bench: Bench) -> None:
    update = bench.delivered()
    assert isinstance(bench.send(update), Delivered)
    late = replace(update, version=3, key="late", fields=replace(update.fields, note="late"))
    reply = bench.send(late)
    assert isinstance(reply, Conflict if bench.capability.has_version_check else Delivered)


def test_a_batch_is_answered_in_order_and_one_that_is_refused_stops_no_other(batching: Bench) -> None:
    commands = [batching.visit(), batching.refused_visit(), batching.delivered(), batching.visit()]
    with batching.connect(batch_size="9") as connector:
        assert connector.batch_size == 9
        replies = connector.send_batch(commands)
    assert [type(reply) for reply in replies] == [Delivered, Refused, Delivered, Delivered]
    assert replies[2].partner_id == commands[2].partner_id
    assert [len(batching.copies(command)) for command in commands] == [1, 0, 1, 1]
    made = [reply.partner_id for reply in replies if isinstance(reply, Delivered)]
    assert len(set(made)) == 3


def test_a_batch_that_is_refused_as_a_whole_says_so_of_each_and_has_written_none(batching: Bench) -> None:
    commands = [batching.visit() for _ in range(3)]
    batching.reject_batch(commands[1])
    with batching.connect(batch_size="9") as connector:
        assert list(connector.send_batch(commands)) == [Refused("batch_refused")] * 3
        assert [batching.copies(command) for command in commands] == [[], [], []]
        halves = connector.send_batch([commands[0], commands[2]])
    assert all(isinstance(reply, Delivered) for reply in halves)


def test_a_batch_whose_answer_is_lost_is_unknown_in_all(batching: Bench) -> None:
    commands = [batching.visit() for _ in range(3)]
    batching.fail("cut_after")
    with batching.connect(batch_size="9") as connector:
        assert list(connector.send_batch(commands)) == [Unknown("connection_cut_unsure")] * 3
    assert [len(batching.copies(command)) for command in commands] == [1, 1, 1]


def test_there_are_no_batches_unless_the_connection_says_so(bench: Bench) -> None:
    if bench.partner is CARECSV:
        pytest.skip("a file is a batch, and no server has to know of it")
    with bench.connect() as connector:
        assert connector.batch_size == 1


# --- Of a partner that is only read -----------------------------------------------------------------------------------


@dataclass
class ReadBench:
    """A connector that only reads, and the server that it speaks to."""

    partner: Partner
    connect: Callable[..., Any]
    calls: Callable[[], int]
    nobody: str
    """An id that the server does not know."""


@pytest.fixture(params=ONLY_READ)
def read_bench(request: pytest.FixtureRequest) -> Iterator[ReadBench]:
    assert request.param == "smarthr"
    with running_smarthr(smarthr_bench.CONFIG) as smarthr:

        @contextmanager
        def connect(gate: Any = None) -> Iterator[Connector]:
            with smarthr_bench.connected(smarthr.url, gate=gate) as connector:
                yield connector

        yield ReadBench(PARTNERS["smarthr"], connect, lambda: len(smarthr.journal()), smarthr_bench.crew_id(99))


def test_what_is_only_read_is_never_written_to(read_bench: ReadBench) -> None:
    assert read_bench.partner.capability.recovery is Recovery.NONE
    with read_bench.connect() as connector:
        assert connector.batch_size == 1
        for write in (connector.send, connector.find, lambda command: connector.send_batch([command, command])):
            with pytest.raises(ValueError, match="only read"):
                write(_PLANNED)
    assert read_bench.calls() == 0


def test_the_gate_is_asked_before_each_call_that_reads(read_bench: ReadBench) -> None:
    gate = NotingGate()
    with read_bench.connect(gate) as connector:
        connector.check()
        for entity in read_bench.partner.reads:
            assert sum(len(page.records) for page in connector.read(entity, None)) > 0
            assert connector.fetch(entity, read_bench.nobody) == Gone()
    assert len(gate.admitted) == read_bench.calls() > 0
    assert set(gate.admitted) <= set(read_bench.partner.endpoints)


def test_what_the_gate_puts_off_is_not_read(read_bench: ReadBench) -> None:
    with read_bench.connect(ClosedGate()) as connector:
        for entity in read_bench.partner.reads:
            with pytest.raises(Deferred):
                list(connector.read(entity, None))
            with pytest.raises(Deferred):
                connector.fetch(entity, read_bench.nobody)
        with pytest.raises(Deferred):
            connector.check()
    assert read_bench.calls() == 0
