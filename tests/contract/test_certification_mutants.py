"""Connectors and declarations of the registry's own partners, each broken in one way that once went unnoticed: the row
that holds of the sound one fails of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from test_certification import Bad, opening
from test_connectors import http_client

from partners.carecsv import reading as carecsv_reading
from partners.carecsv.client import CareCsvConnector
from partners.carecsv.outbox import DELETIONS, Outbox
from partners.certification import hostile
from partners.certification.bench import Bench, benches_of
from partners.certification.certificate import ROWS, Result, Verdict, certificate, run_row
from partners.certification.trial import Trial
from partners.contract import (
    Absent,
    AfterReadings,
    Command,
    DeleteEvents,
    Delivered,
    Entity,
    Gone,
    Master,
    NeverGone,
    Partner,
    PlanPage,
    ReadBack,
    Recovery,
    Reply,
    SourceRecord,
    Unmappable,
    VisitRecord,
)
from partners.errors import AuthenticationError, PartnerError, RejectedError
from partners.fhir.server import Ask, Server
from partners.orca.acceptances import Acceptances
from partners.smarthr import codes
from partners.wire import Answered, Exchange

_BY_NAME = {row.name: row for row in ROWS}


@pytest.fixture(scope="module")
def benches() -> Iterator[Callable[[str], Bench]]:
    """The bench of a partner, by name and kind of address."""
    with ExitStack() as stack:
        made = dict[str, Bench]()

        def of(name: str) -> Bench:
            if name not in made:
                partner, _, kind = name.partition(" ")
                made[name] = stack.enter_context(benches_of(partner)[kind]())
            return made[name]

        yield of


@pytest.fixture(autouse=True)
def _few_hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """One hostile answer is enough to see that a row notices."""
    each = next(each for each in hostile.hostile_answers("") if each.name == "a web page with 200")
    monkeypatch.setattr(hostile, "hostile_answers", lambda _: (each,))


Break = Callable[[Bench, pytest.MonkeyPatch], None]


def other(partner: Callable[[Partner], Partner]) -> Break:
    """The partner's declaration, changed."""

    def change(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bench, "partner", partner(bench.partner), raising=False)

    return change


def connecting(bad: type[Bad]) -> Break:
    """Another connector."""
    return other(lambda partner: opening(partner, bad))


def declaring(**said: Any) -> Break:
    """Another declaration."""
    return other(lambda partner: replace(partner, **said))


def capable(**said: Any) -> Break:
    """Another capability."""
    return other(lambda partner: replace(partner, capability=replace(partner.capability, **said)))


def mapping(change: Callable[[Master], Master]) -> Break:
    """Another mapping of whatever is read."""

    def changed(partner: Partner) -> Partner:
        def map_record(entity: Entity, content: dict[str, Any], settings: Mapping[str, str]) -> Master | Unmappable:
            master = partner.map(entity, content, settings)
            return master if isinstance(master, Unmappable) else change(master)

        return replace(partner, map=map_record)

    return other(changed)


def patched(owner: object, name: str, value: object) -> Break:
    """Another function in the connector's own code."""
    return lambda _, monkeypatch: monkeypatch.setattr(owner, name, value)


# --- Connectors -------------------------------------------------------------------------------------------------------


class Unrecorded(Bad):
    """Sends no record, and says that it did."""

    def send(self, command: Command) -> Reply:
        """Visits alone."""
        if command.entity is Entity.VISIT_RECORD:
            return Delivered("1", "1")
        return self.honest.send(command)  # type: ignore[no-any-return]


class Recordless(Bad):
    """Cannot send a record."""

    def send(self, command: Command) -> Reply:
        """Visits alone."""
        if command.entity is Entity.VISIT_RECORD:
            raise RuntimeError
        return self.honest.send(command)  # type: ignore[no-any-return]


class Blind(Bad):
    """Takes what cannot be looked for as absent."""

    def find(self, command: Command) -> ReadBack:
        """Never raises."""
        try:
            return self.honest.find(command)  # type: ignore[no-any-return]
        except PartnerError:
            return Absent()


def blind(self: CareCsvConnector, command: Command, _find: Any = CareCsvConnector.find) -> ReadBack:
    """The same of a connector that has plans besides."""
    try:
        return _find(self, command)  # type: ignore[no-any-return]
    except PartnerError:
        return Absent()


def burying(
    self: CareCsvConnector, entity: Entity, partner_id: str, _fetch: Any = CareCsvConnector.fetch
) -> SourceRecord | Gone:
    """Takes who cannot be looked for as gone."""
    try:
        return _fetch(self, entity, partner_id)  # type: ignore[no-any-return]
    except PartnerError:
        return Gone()


class Other(Bad):
    """Says something else, and finds that it is as it should be."""

    def said(self, command: Command) -> Command:
        """What is said instead."""
        raise NotImplementedError

    def send(self, command: Command) -> Reply:
        """Otherwise."""
        return self.honest.send(self.said(command))  # type: ignore[no-any-return]

    def find(self, command: Command) -> ReadBack:
        """As it was sent."""
        return self.honest.find(self.said(command))  # type: ignore[no-any-return]


class Abroad(Other):
    """Takes Japan's time for another."""

    def said(self, command: Command) -> Command:
        """Nine hours late."""
        of = {name: at + timedelta(hours=9) for name, at in vars(command.fields).items() if name.endswith("_at") and at}
        return replace(command, fields=replace(command.fields, **of))


class Unstaffed(Other):
    """Never says who goes."""

    def said(self, command: Command) -> Command:
        """Without staff."""
        return replace(command, links={key: link for key, link in command.links.items() if key is not Entity.STAFF})


class Serviceless(Other):
    """Never says what is done."""

    def said(self, command: Command) -> Command:
        """Without a service."""
        if isinstance(command.fields, VisitRecord):
            return command
        return replace(command, fields=replace(command.fields, service_code=""))


class Halved(Serviceless):
    """Does so in batches alone."""

    def send(self, command: Command) -> Reply:
        """As it is said."""
        return self.honest.send(command)  # type: ignore[no-any-return]

    def send_batch(self, commands: Sequence[Command]) -> Sequence[Reply]:
        """Otherwise."""
        return self.honest.send_batch([self.said(each) for each in commands])  # type: ignore[no-any-return]


class Mistaken(Bad):
    """Fetches somebody else's record."""

    def fetch(self, entity: Entity, partner_id: str) -> SourceRecord | Gone:
        """Under that id."""
        other = self.honest.fetch(entity, partner_id[:-1] + str((int(partner_id[-1]) % 3) + 1))
        return replace(other, partner_id=partner_id)


def unconditional(self: Server, kind: str, ask: Ask, _send: Any = Server.send) -> Exchange:
    """Looks at the version before, and leaves it to chance after that."""
    condition = {name: value for name, value in ask.condition.items() if name != "if-match"}
    return _send(self, kind, replace(ask, condition=condition))  # type: ignore[no-any-return]


def accusing(answer: Exchange, _failure: Any = codes.failure) -> PartnerError:
    """Whatever happens is for a user to correct."""
    error: PartnerError = _failure(answer)
    return error if isinstance(error, AuthenticationError) else RejectedError("request_malformed")


def raising(*_: object) -> Any:
    """No record can be made."""
    raise RuntimeError


def unputting(*_: object) -> str:
    """No file is put anywhere."""
    return "UPJSK"


def clinging(self: Outbox, kind: str, *what: Any, _put: Any = Outbox.put) -> str:
    """Nobody is told that nothing is left of a month."""
    return "" if kind == DELETIONS else _put(self, kind, *what)


def swallowing(honest: Callable[..., Any]) -> Callable[..., Any]:
    """A file that cannot be read has nothing in it."""

    def rows(*arguments: Any) -> Any:
        try:
            return honest(*arguments)
        except RejectedError:
            return []

    return rows


def _swap(master: Master) -> Master:
    return replace(master, family_name=master.given_name, given_name=master.family_name)


_TOO_MANY_IS_OURS = {**codes._BY_CODE, codes.TOO_MANY: codes._BY_CODE[1]}


def _deaf(answered: Answered) -> bool:
    return False


def _tell_nobody(*_: object) -> None:
    return None


@pytest.mark.parametrize(
    ("name", "bad", "row", "finding"),
    [
        # Records are written
        ("fhir", connecting(Unrecorded), "record: create, change, cancel", "0 records are there, not 1"),
        ("fhir", connecting(Unrecorded), "record: what is written", "and 0 stand at the partner's side"),
        ("fhir", connecting(Unrecorded), "record: read back", "what was delivered is not found"),
        ("fhir", connecting(Recordless), "record: repeats", "raised RuntimeError"),
        ("fhir", connecting(Recordless), "record: answer lost", "raised RuntimeError"),
        ("orca", patched(Acceptances, "wanted", raising), "record: create, change, cancel", "raised RuntimeError"),
        ("carecsv", connecting(Recordless), "record: create, change, cancel", "raised RuntimeError"),
        ("carecsv", patched(Outbox, "put", unputting), "record: what is written", "0 stand at the partner's side"),
        ("carecsv", patched(Outbox, "put", clinging), "record: what is written", "cancelled stands there as done"),
        # A read-back that swallows errors
        ("fhir", connecting(Blind), "hostile to read-backs", "a web page with 200: a visit by its id is Absent"),
        ("fhir", connecting(Blind), "looking: failures", "to find a visit by its id, 500: it goes to its end"),
        ("orca", connecting(Blind), "hostile to read-backs", "a web page with 200: a visit searched for is Absent"),
        ("orca", connecting(Blind), "looking: throttled in its dialect", "to find a visit by its id: it goes to its"),
        ("carecsv sftp", patched(CareCsvConnector, "find", blind), "torn file", "a visit that is there is Absent"),
        (
            "carecsv",
            patched(CareCsvConnector, "find", blind),
            "write put off",
            "is Absent though the gate put the look",
        ),
        # Readings that blame the user, or do not tell the gate
        ("smarthr", patched(codes, "failure", accusing), "looking: 429", "429: it ends with RejectedError"),
        ("smarthr", patched(codes, "failure", accusing), "looking: closed for the night", "503: it ends with Rejected"),
        ("smarthr", patched(codes, "failure", accusing), "looking: failures", "500: it ends with RejectedError"),
        (
            "smarthr",
            patched(codes, "_BY_CODE", _TOO_MANY_IS_OURS),
            "looking: throttled in its dialect",
            "it ends with RejectedError(request_malformed)",
        ),
        ("smarthr", patched(codes, "is_throttle", _deaf), "looking: throttled in its dialect", "the gate did not hear"),
        # What is said
        ("fhir", connecting(Abroad), "what is written", "otherwise at the partner's side: ends_at, starts_at"),
        (
            "fhir",
            connecting(Abroad),
            "record: what is written",
            "otherwise at the partner's side: ended_at, started_at",
        ),
        ("fhir", connecting(Unstaffed), "what is written", "otherwise at the partner's side: staff"),
        ("fhir", connecting(Serviceless), "what is written", "otherwise at the partner's side: service_code"),
        ("fhir", connecting(Halved), "batch: what is written", "otherwise at the partner's side: service_code"),
        ("orca", connecting(Abroad), "what is written", "otherwise at the partner's side: starts_at"),
        ("carecsv", connecting(Abroad), "record: what is written", "otherwise at the partner's side: ended_at, start"),
        ("fhir", mapping(_swap), "who is read", "otherwise than the partner has it: family_name, given_name"),
        ("carecsv", mapping(_swap), "who is read", "otherwise than the partner has it: family_name, given_name"),
        ("orca", mapping(lambda one: replace(one, family_name="X")), "who is read", "has it: family_name"),
        ("fhir", connecting(Mistaken), "who is read", "client: otherwise than the partner has it: "),
        ("smarthr", mapping(lambda one: replace(one, active=True)), "who is read", "has it: active"),
        # What is declared
        ("fhir", declaring(limits=("nonsense",)), "declaration", "nonsense"),
        ("fhir", declaring(schemes=("file",)), "declaration", "an address that begins with http is none"),
        ("fhir", declaring(endpoints=("patients",)), "declaration", "endpoints that are not declared: appointments"),
        ("orca", capable(recovery=Recovery.CLIENT_ID), "duplicates", "with another content: 2 records are there"),
        ("fhir", patched(Server, "send", unconditional), "edited meanwhile", "before call 2: it was written over"),
        ("fhir", capable(proves_absence=NeverGone()), "deletes", "by the declaration, and its people delete"),
        (
            "carecsv",
            capable(proves_absence=AfterReadings(2)),
            "read all",
            "does not say that it is full",
        ),
        (
            "carecsv",
            patched(carecsv_reading, "_rows", swallowing(carecsv_reading._rows)),
            "what cannot be read",
            "client: a reading ends well though something in it cannot be read",
        ),
        (
            "carecsv",
            patched(CareCsvConnector, "fetch", burying),
            "what cannot be read",
            "client: gone is who may be in",
        ),
        (
            "carecsv",
            declaring(read_plans=lambda *_: iter([PlanPage((), "20261101000000")])),
            "what cannot be read",
            "plan: a reading ends well though something in it cannot be read",
        ),
    ],
)
def test_what_is_broken_is_noticed(
    benches: Callable[[str], Bench], monkeypatch: pytest.MonkeyPatch, name: str, bad: Break, row: str, finding: str
) -> None:
    bench = benches(name)
    bad(bench, monkeypatch)
    result = run_row(_BY_NAME[row], Trial(bench, http_client))
    assert result.verdict is Verdict.FAILS
    assert finding in result.detail


def test_a_gate_that_is_told_nothing_is_noticed(
    benches: Callable[[str], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("partners.wire.tell_gate", _tell_nobody)
    for name, row in (("smarthr", "looking: 429"), ("orca", "looking: closed for the night"), ("fhir", "429")):
        assert "the gate did not hear of the seconds" in tried(benches(name), row).detail


def test_what_is_declared_of_addresses_spares_nobody_the_rows_about_http(
    benches: Callable[[str], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benches("fhir")
    declaring(schemes=("file",))(bench, monkeypatch)
    assert tried(bench, "429").verdict is Verdict.HOLDS


def test_delete_events_are_not_earned_where_nobody_is_deleted(
    benches: Callable[[str], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benches("carecsv")
    told = {each.name: each for each in certificate(bench, every(bench)).classes}["proof of absence"]
    assert (told.declared, told.is_earned) == ("none needed: nobody is deleted", True)
    capable(proves_absence=DeleteEvents())(bench, monkeypatch)
    told = {each.name: each for each in certificate(bench, every(bench)).classes}["proof of absence"]
    assert (told.declared, told.earned, told.is_earned) == ("delete events", "none", False)


def every(bench: Bench) -> tuple[Result, ...]:
    """The results of the rows about deletes; all others hold."""
    rows = ("read all", "deletes")
    return tuple(
        tried(bench, each.name) if each.name in rows else Result(each.name, "", Verdict.HOLDS) for each in ROWS
    )


def tried(bench: Bench, row: str) -> Result:
    """The row's result."""
    return run_row(_BY_NAME[row], Trial(bench, http_client))
