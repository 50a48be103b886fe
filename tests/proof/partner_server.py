"""A partner for proofs: an HTTP server that keeps visits and records, and a log by which alone the proofs judge.

It knows nothing of the platform and shares no code with it. The first part of an address says how good a partner it is,
the second whose records are meant, so that one process serves many tenants: `/search/sakura/visits/7`.

    key        remembers the key of a write and answers a repeat as it was answered the first time
    client_id  keeps a record under the caller's own id, by PUT
    search     finds records by the caller's own id
    version    the same, and refuses a write whose If-Match is not the record's version
    none       makes a record for each POST, changes one by its own id, and cannot be asked

Two ports: one for callers, one for the test (log, state, faults). It prints both and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]
RECOVERIES = ("key", "client_id", "search", "version", "none")
WRITES = ("POST", "PUT")
FAULTS = (
    "refuse",  # not applied: `status`, 429 unless given
    "reject",  # not applied: 422, in a batch for the entry alone
    "reject_batch",  # not applied: 422, for the whole batch that holds such a record
    "cut_before",  # not applied: the line is cut
    "cut_after",  # applied, then the line is cut
    "fail_after",  # applied: `status`, 500 unless given
    "slow",  # applied, answered `seconds` later
    "late",  # applied `seconds` later, whether anybody waits or not
    "garbage",  # applied: 200 with a body that says nothing
    "garbage_status",  # applied: a status line that is none
    "hold_before",  # waits to be released, then it is applied, whether anybody waits or not
    "hold_after",  # applied, and the answer waits to be released
)


@dataclass(frozen=True)
class Ask:
    """One write or reading, alone or as an entry of a batch."""

    method: str
    recovery: str
    space: str
    kind: str
    """`visits`, `records` or `batch`."""
    partner_id: str
    """Empty: none is in the path."""
    headers: Mapping[str, str]
    """By small name."""
    query: Mapping[str, str]
    body: Json
    of: int = 1
    """How many the batch has that it is an entry of; 1: it came alone."""

    @property
    def entries(self) -> list[Ask]:
        """Of a batch."""
        asked = self.body["entries"]
        return [
            Ask(each["method"], self.recovery, self.space, kind, place, each["headers"], {}, each["body"], len(asked))
            for each in asked
            for kind, _, place in [each["path"].partition("/")]
        ]

    @property
    def record_ids(self) -> list[str]:
        """Whom it is about, in the caller's words."""
        if self.kind == "batch":
            return [entry["body"]["record_id"] for entry in self.body["entries"]]
        return [self.body.get("record_id") or self.query.get("record_id") or self.partner_id]


@dataclass(frozen=True)
class Answer:
    """What is said to an ask."""

    status: int
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Copy:
    """A record as it is kept."""

    partner_id: str
    record_id: str
    version: int
    """The caller's version that was applied last; nobody is told of it but the test."""
    revision: int
    """Our own."""
    content: Json
    is_cancelled: bool = False

    def shown(self) -> Json:
        """As callers see it."""
        return {"id": self.partner_id, "version": str(self.revision), "cancelled": self.is_cancelled} | self.content


@dataclass
class Fault:
    """What befalls the calls that match; a matcher left out matches all."""

    kind: str
    times: int | None = None
    """How often at most."""
    probability: float = 1.0
    seed: int = 0
    space: str | None = None
    methods: tuple[str, ...] = WRITES
    record_ids: tuple[str, ...] = ()
    """Any of them; empty: all."""
    seconds: float = 1.0
    status: int | None = None
    retry_after: int | None = None

    def __post_init__(self) -> None:
        assert self.kind in FAULTS, self.kind
        self._draw = random.Random(self.seed)
        self._ids = frozenset(self.record_ids)

    def befalls(self, ask: Ask) -> bool:
        """Whether it fires for `ask`, and counts it if so."""
        if self.times == 0 or self.space not in (None, ask.space) or ask.method not in self.methods:
            return False
        if (self._ids and self._ids.isdisjoint(ask.record_ids)) or (self.kind == "reject" and ask.kind == "batch"):
            return False
        if self.probability < 1 and self._draw.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Books:
    """The records, the keys that were seen, and the log."""

    def __init__(self) -> None:
        self.log: list[Json] = []
        self._copies: dict[tuple[str, str, str, str], Copy] = {}
        self._made: dict[tuple[str, str, str, str], list[Copy]] = {}
        self._answered: dict[tuple[str, str], tuple[Json, Answer]] = {}
        self._ids = count(1)

    def apply(self, ask: Ask, note: Json) -> Answer:
        """Do what is asked for, and log it with `note`."""
        answer, effect, copy = self._done(ask)
        self.note(ask, answer.status, note, effect, copy)
        return answer

    def note(self, ask: Ask, status: int, note: Json, effect: str = "none", copy: Copy | None = None) -> None:
        """Log one ask, a batch entry by entry."""
        if ask.kind == "batch":
            for entry in ask.entries:
                self.note(entry, status, note)
            return
        row = {"seq": len(self.log) + 1, "at": time.time(), "method": ask.method, "recovery": ask.recovery}
        row |= {"space": ask.space, "kind": ask.kind, "partner_id": copy.partner_id if copy else ask.partner_id}
        row |= {"record_id": copy.record_id if copy else ask.record_ids[0], "version": ask.body.get("version")}
        row |= {"key": ask.headers.get("idempotency-key"), "status": status, "effect": effect, "batch": ask.of}
        self.log.append(row | note)

    def state(self) -> list[Json]:
        """Every copy, in the order of making, with whose it is."""
        return [
            asdict(copy) | {"recovery": recovery, "space": space, "kind": kind}
            for (recovery, space, kind, _), copy in self._copies.items()
        ]

    def edit(self, place: tuple[str, str, str], record_id: str, content: Json) -> None:
        """Change a copy as the partner's own people do. `cancelled` in the content cancels it, or revives it."""
        (copy,) = self._made[(*place, record_id)]
        is_cancelled = content.pop("cancelled", copy.is_cancelled)
        effect = "edited" if self._put(copy, copy.content | content, is_cancelled, copy.version) else "none"
        note = {"call": 0, "in_flight": 0, "fault": None}
        self.note(Ask("EDIT", *place, copy.partner_id, {}, {}, {}), 0, note, effect, copy)

    def _done(self, ask: Ask) -> tuple[Answer, str, Copy | None]:
        if ask.method == "GET":
            return self._found(ask), "none", None
        key = ask.headers.get("idempotency-key")
        if ask.recovery != "key" or key is None:
            return self._written(ask)
        said, answer = self._answered.get((ask.space, key), (ask.body, None))
        if said != ask.body:
            return Answer(422, {"error": "the key was used for something else"}), "none", None
        if answer is not None:
            return answer, "none", None
        done = self._written(ask)
        self._answered[ask.space, key] = ask.body, done[0]
        return done

    def _found(self, ask: Ask) -> Answer:
        if ask.recovery in ("key", "none"):
            return Answer(405, {"error": "there is no asking here"})
        if not ask.partner_id:
            made = self._made.get((ask.recovery, ask.space, ask.kind, ask.query["record_id"]), [])
            return Answer(200, {"found": [copy.shown() for copy in made]})
        copy = self._copies.get((ask.recovery, ask.space, ask.kind, ask.partner_id))
        return _gone() if copy is None else Answer(200, copy.shown())

    def _written(self, ask: Ask) -> tuple[Answer, str, Copy | None]:
        place = ask.recovery, ask.space, ask.kind
        if ask.method == "POST":
            return self._create(ask, place, f"p{next(self._ids)}")
        copy = self._copies.get((*place, ask.partner_id))
        if copy is None:
            if ask.recovery == "client_id":
                return self._create(ask, place, ask.partner_id)
            return _gone(), "none", None
        known = ask.headers.get("if-match")
        if ask.recovery == "version" and known is not None and known != f'"{copy.revision}"':
            return Answer(412, {"error": "it was changed meanwhile"}), "none", None
        is_cancelled = bool(ask.body["cancelled"])
        content = copy.content if is_cancelled else ask.body["content"]
        has_effect = self._put(copy, content, is_cancelled, ask.body["version"])
        return _told(copy, 200), _effect(is_cancelled) if has_effect else "none", copy

    def _create(self, ask: Ask, place: tuple[str, str, str], partner_id: str) -> tuple[Answer, str, Copy]:
        body = ask.body
        copy = Copy(partner_id, body["record_id"], body["version"], 1, body["content"], bool(body["cancelled"]))
        self._copies[(*place, partner_id)] = copy
        self._made.setdefault((*place, copy.record_id), []).append(copy)
        return _told(copy, 201), "created", copy

    def _put(self, copy: Copy, content: Json, is_cancelled: bool, version: int) -> bool:
        """Whether it made a difference."""
        is_other = (copy.content, copy.is_cancelled) != (content, is_cancelled)
        copy.content, copy.is_cancelled, copy.version = content, is_cancelled, version
        copy.revision += is_other
        return is_other


def _told(copy: Copy, status: int) -> Answer:
    return Answer(status, {"id": copy.partner_id, "version": str(copy.revision)})


def _gone() -> Answer:
    return Answer(404, {"error": "it is not here"})


def _effect(is_cancelled: bool) -> str:
    return "cancelled" if is_cancelled else "updated"


class PartnerServer:
    """Both ports, and the faults in force."""

    def __init__(self) -> None:
        self.books = Books()
        self.latency = 0.0
        self._faults: list[Fault] = []
        self._held: dict[asyncio.Event, Ask] = {}
        self._in_flight = 0
        self._calls = 0
        self._lines: set[asyncio.StreamWriter] = set()
        self._callers: asyncio.Server | None = None
        self._port = 0

    async def open(self) -> int:
        """Listen to callers, at the same port as before if there was one."""
        if self._callers is None:
            self._callers = await asyncio.start_server(self._call, "127.0.0.1", self._port, backlog=500)
            self._port = self._callers.sockets[0].getsockname()[1]
        return self._port

    def die(self) -> None:
        """Cut every caller's line and refuse new ones."""
        if self._callers is not None:
            self._callers.close()
            self._callers = None
        for line in self._lines:
            line.transport.abort()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines.add(writer)
        try:
            while (request := await _read(reader)) is not None:
                with self._counted():
                    answer = await self._answer(_ask(*request))
                if answer is None:
                    break
                writer.write(answer)
        finally:
            self._lines.discard(writer)
            writer.close()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _answer(self, ask: Ask) -> bytes | None:
        """The bytes of the answer; None: the line is to be cut."""
        books = self.books  # what comes late after a reset goes into what was forgotten
        fault = next((each for each in self._faults if each.befalls(ask)), None)
        self._calls += 1
        note: Json = {"call": self._calls, "in_flight": self._in_flight, "fault": fault and fault.kind}
        if fault is None:
            answer = self._apply(books, ask, note)
            if self.latency:
                await asyncio.sleep(self.latency)
            return _written_out(answer)
        match fault.kind:
            case "refuse" | "reject" | "reject_batch":
                status = (fault.status or 429) if fault.kind == "refuse" else 422
                books.note(ask, status, note)
                later = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
                return _written_out(Answer(status, {"error": "refused"}, later))
            case "cut_before":
                books.note(ask, 0, note)
                return None
            case "late":
                await asyncio.sleep(fault.seconds)
            case "hold_before":
                await self._hold(ask)
        answer = self._apply(books, ask, note)
        match fault.kind:
            case "cut_after":
                return None
            case "fail_after":
                return _written_out(Answer(fault.status or 500, {"error": "it failed"}))
            case "garbage":
                return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\n}]{["
            case "garbage_status":
                return b"HTTP/1.1 what ever\r\n\r\n"
            case "slow":
                await asyncio.sleep(fault.seconds)
            case "hold_after":
                await self._hold(ask)
        return _written_out(answer)

    def _apply(self, books: Books, ask: Ask, note: Json) -> Answer:
        if ask.kind != "batch":
            return books.apply(ask, note)
        answers = [self._entry_answer(books, entry, note) for entry in ask.entries]
        return Answer(200, {"entries": [{"status": each.status, "body": each.body} for each in answers]})

    def _entry_answer(self, books: Books, entry: Ask, note: Json) -> Answer:
        for fault in self._faults:
            if fault.kind == "reject" and fault.befalls(entry):
                books.note(entry, 422, note | {"fault": fault.kind})
                return Answer(422, {"error": "refused"})
        return books.apply(entry, note)

    async def _hold(self, ask: Ask) -> None:
        released = asyncio.Event()
        self._held[released] = ask
        await released.wait()

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The test's own port: the name of a method of `Hand`, and its arguments as JSON."""
        while (request := await _read(reader)) is not None:
            _, path, _, body = request
            answer = await getattr(Hand(self), path.strip("/"))(**json.loads(body or b"{}"))
            writer.write(_written_out(Answer(200, {"answer": answer})))
        writer.close()


@dataclass(frozen=True)
class Hand:
    """What the test may do."""

    server: PartnerServer

    async def log(self, after: int) -> list[Json]:
        """Rows with a higher `seq`."""
        return self.server.books.log[after:]

    async def state(self) -> list[Json]:
        """All copies."""
        return self.server.books.state()

    async def edit(self, place: tuple[str, str, str], record_id: str, content: Json) -> None:
        """As Books.edit."""
        self.server.books.edit(place, record_id, content)

    async def configure(self, latency: float) -> None:
        """Answer every call so many seconds after it was applied."""
        self.server.latency = latency

    async def fail(self, **fault: Any) -> None:
        """Put a fault behind those in force."""
        self.server._faults.append(Fault(**fault))

    async def heal(self) -> None:
        """Drop all faults; what is held goes on being held."""
        self.server._faults.clear()

    async def held(self) -> list[str]:
        """Whose calls are being held."""
        return [ask.record_ids[0] for ask in self.server._held.values()]

    async def release(self) -> None:
        """Let go of all that is held, in the order of its coming."""
        for event in self.server._held:
            event.set()
        self.server._held.clear()

    async def die(self) -> None:
        """As PartnerServer.die."""
        self.server.die()

    async def revive(self) -> None:
        """Listen again."""
        await self.server.open()

    async def reset(self) -> None:
        """Forget records, keys and log."""
        self.server.books = Books()


# --- HTTP/1.1 ---


async def _read(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes] | None:
    """(method, target, headers by small name, body); None: the caller has gone."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    method, target, _ = lines[0].split(" ")
    return method, target, headers, body


def _ask(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Ask:
    address = urlsplit(target)
    recovery, space, kind, *rest = address.path.strip("/").split("/")
    assert recovery in RECOVERIES, recovery
    query = {name: values[0] for name, values in parse_qs(address.query).items()}
    return Ask(method, recovery, space, kind, rest[0] if rest else "", headers, query, json.loads(body or b"{}"))


def _written_out(answer: Answer) -> bytes:
    body = json.dumps(answer.body).encode()
    head = [f"HTTP/1.1 {answer.status} X", "content-type: application/json", f"content-length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join([*head, "", ""]).encode() + body


# --- The process ---


async def _serve() -> None:
    server = PartnerServer()
    control = await asyncio.start_server(server.control, "127.0.0.1", 0, limit=2**24)
    ports = {"calls": await server.open(), "control": control.sockets[0].getsockname()[1]}
    print(json.dumps(ports), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
    os._exit(0)  # callers' lines need no farewell


if __name__ == "__main__":
    _run(_serve)
