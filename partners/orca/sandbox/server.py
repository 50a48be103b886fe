"""An ORCA over real sockets, with its log and its faults. `run` serves until a signal; tests serve in a thread.

The hand of a test or a demo (`partners.serving`) has health, log, state, faults, and edits as the clinic's people make
them.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from partners.orca.sandbox.answers import HANDLERS, Rules, Said, refused
from partners.orca.sandbox.clinic import Appointment, Clinic, made_up
from partners.orca.sandbox.spelling import SpeechlessError, read_request, written
from partners.serving import SandboxHandler, SandboxServer, keep, private, serve

Json = dict[str, Any]
_EVENTS = "api01rv2/pusheventgetv2"
_MARK = re.compile(r"ZEST[A-Z2-7]{10}")
_LOOPBACK = ("127.0.0.1", "::1")
_TOO_MANY = {"api01rv2/patientlst1v2": "10", "api01rv2/system01lstv2": "10", "api01rv2/appointlst2v2": "20"}
_LISTS = ("Patient_Information", "Physician_Information", "Appointlst_Information", "Acceptlst_Information")


class FaultKind(StrEnum):
    """What goes wrong."""

    LOST = "lost"
    """It is done, and the connection ends without an answer."""
    SPEECHLESS = "speechless"
    """The connection ends without a word, and nothing is done."""
    EMPTY = "empty"
    """A 200 without a body, and nothing is done."""
    CODE = "code"
    """Refused with the result `code`; nothing is done."""
    STATUS = "status"
    """An HTTP status, and a web page with it; nothing is done."""
    TRUNCATED = "truncated"
    """The first half of a list, and the result that says so."""
    DELAY = "delay"
    """Done, and answered `seconds` late."""


@dataclass
class Fault:
    """A fault and whom it befalls; what is not given holds for all."""

    kind: FaultKind
    api: str | None = None
    """The last part of the path: appointmodv2."""
    act: str | None = None
    """The class or request number: 01, 02."""
    patient: str | None = None
    times: int | None = None
    """How often; None: always."""
    code: str = "90"
    status: int = 500
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.kind = FaultKind(self.kind)

    def befalls(self, api: str, act: str, patient: str) -> bool:
        """Whether it meets a call; a fault that may happen so often and no more is used up by it."""
        wanted = ((self.api, api), (self.act, act), (self.patient, patient))
        if self.times == 0 or any(want is not None and want != is_ for want, is_ in wanted):
            return False
        self.times = None if self.times is None else self.times - 1
        return True


@dataclass(frozen=True)
class OrcaConfig:
    """How the sandbox is started."""

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 1
    clients: int = 0
    staff: int = 0
    user: str = ""
    """Empty: none is asked for."""
    password: str = field(default="", repr=False)
    prefix: str = ""
    """Before each path: `/api` as WebORCA has it."""
    rules: Rules = field(default_factory=Rules)
    has_log: bool = True
    """Whether it keeps the log of events, as WebORCA does."""
    closed: tuple[str, ...] = ()
    """Routes that answer 405."""
    state_file: Path | None = None
    """Keeps every effect: a restart goes on."""
    journal_file: Path | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)


class OrcaServer(SandboxServer):
    """The clinic, its log and its faults behind one port. Calls are answered one after another, as ORCA does."""

    def __init__(self, config: OrcaConfig) -> None:
        super().__init__(config.host, config.port, _Handler)
        if config.tls is not None:
            self.socket = config.tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.config, self.clinic, self.faults = config, Clinic(), list[Fault]()
        self.journal: list[Json] = _kept_rows(config.journal_file)
        self.under_way = self.most_under_way = 0
        if config.state_file is not None and config.state_file.exists():
            self.clinic.restore(json.loads(config.state_file.read_text()))
        else:
            made_up(self.clinic, config.seed, config.clients, config.staff)

    @property
    def url(self) -> str:
        """Its address, without a slash or the prefix at its end."""
        host, port = self.socket.getsockname()[:2]
        return f"{'http' if self.config.tls is None else 'https'}://{host}:{port}"

    def note(self, row: Json) -> None:
        """Add a row to the log, and keep what was done; before the answer leaves."""
        row = {"seq": len(self.journal) + 1, "at": datetime.now(UTC).isoformat(), **row}
        self.journal.append(row)
        if self.config.journal_file is not None:
            with open(self.config.journal_file, "a", opener=private) as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if row["effect"] != "none":
            self.save()

    def save(self) -> None:
        """Put the clinic into the state file, if there is one."""
        if self.config.state_file is not None:
            keep(self.config.state_file, self.clinic.kept())


class _Handler(SandboxHandler):
    server: OrcaServer

    def answer(self, path: str, query: Mapping[str, str], body: bytes) -> None:
        server = self.server
        with server.lock:
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            self._answer(path, query, body)
        finally:
            with server.lock:
                server.under_way -= 1

    def _answer(self, path: str, query: Mapping[str, str], body: bytes) -> None:
        config = self.server.config
        name = path.removeprefix(f"{config.prefix}/")
        api = name.rpartition("/")[2]
        if not self._is_known():
            self._page(401, api)
        elif not path.startswith(f"{config.prefix}/") or (name not in HANDLERS and name != _EVENTS):
            self._page(404, api)
        elif api in config.closed or (name == _EVENTS and not config.has_log):
            self._page(405, api, {"allow": "OPTIONS, GET"})
        else:
            self._call(name, api, query, body)

    def _is_known(self) -> bool:
        config = self.server.config
        pair = base64.b64encode(f"{config.user}:{config.password}".encode()).decode()
        return not config.user or self.headers.get("authorization") == f"Basic {pair}"

    def _call(self, name: str, api: str, query: Mapping[str, str], body: bytes) -> None:
        server = self.server
        is_json = query.get("format") == "json" or name == _EVENTS
        try:
            fields = read_request(body, is_json=is_json) if body else {}
        except SpeechlessError:
            server.note(_row(api, "", "", None, "speechless"))
            self.hang_up()
            return
        act = str(query.get("class") or fields.get("Request_Number") or "")
        patient = str(fields.get("Patient_ID") or query.get("id") or "")
        with server.lock:
            fault = next((each for each in server.faults if each.befalls(api, act, patient)), None)
            kind = None if fault is None else fault.kind
            if fault is not None and kind in (FaultKind.SPEECHLESS, FaultKind.EMPTY, FaultKind.STATUS):
                server.note(_row(api, act, patient, None, kind))
                self._break(fault, api)
                return
            if name == _EVENTS:
                server.note(_row(api, act, "", None, kind))
                self.send(200, "application/json", json.dumps(_events(server.clinic, fields)).encode())
                return
            said = self._said(name, (fields, query), fault)
            server.note(_row(api, act, patient, said, kind))
        if kind is FaultKind.LOST:
            self.hang_up()
            return
        if fault is not None and kind is FaultKind.DELAY:
            server.closing.wait(fault.seconds)
        now = datetime.now(UTC).astimezone()
        head = {
            "Information_Date": server.clinic.today().isoformat(),
            "Information_Time": f"{now:%H:%M:%S}",
            "Api_Result": said.code,
            "Api_Result_Message": "処理終了。" if said.fields else "エラー",
        }
        padding = server.config.rules.most_listed if api == "patientlst1v2" else 100
        answer = written(said.name, head | said.fields, is_json=is_json, padding=padding)
        self.send(200, f"application/{'json' if is_json else 'xml'}; charset=utf-8", answer)

    def _said(self, name: str, ask: tuple[Json, Mapping[str, str]], fault: Fault | None) -> Said:
        clinic, rules = self.server.clinic, self.server.config.rules
        if fault is not None and fault.kind is FaultKind.CODE:
            untouched = Clinic()
            untouched.restore(clinic.kept())
            return refused(HANDLERS[name](untouched, rules, ask), fault.code)
        said = HANDLERS[name](clinic, rules, ask)
        if fault is not None and fault.kind is FaultKind.TRUNCATED and name in _TOO_MANY:
            halved = {key: rows[: len(rows) // 2] for key, rows in said.fields.items() if key in _LISTS and rows}
            return Said(said.name, _TOO_MANY[name], said.fields | halved)
        return said

    def _break(self, fault: Fault, api: str) -> None:
        if fault.kind is FaultKind.SPEECHLESS:
            self.hang_up()
        elif fault.kind is FaultKind.EMPTY:
            self.send(200, "application/xml", b"")
        else:
            self._page(fault.status, api, is_noted=False)

    def _page(self, status: int, api: str, headers: Mapping[str, str] | None = None, *, is_noted: bool = True) -> None:
        if is_noted:
            self.server.note(_row(api, "", "", None, None) | {"status": status})
        self.send(status, "text/html", b"<html><body>error</body></html>", headers)

    # --- The hand of a test or a demo ---

    def controlled(self, path: str, query: Mapping[str, str], told: Any) -> Any:
        server = self.server
        match self.command, path.split("/"):
            case "GET", ["health"]:
                return {"status": "ok", "journal": len(server.journal), "most_under_way": server.most_under_way}
            case "GET", ["journal"]:
                return server.journal[int(query.get("after", "0")) :]
            case "GET", ["state"]:
                return server.clinic.kept()
            case "PUT", ["faults"]:
                server.faults = [Fault(**each) for each in told]
            case "PUT", ["patient", number]:
                server.clinic.put_patient(int(number), **told)
                server.save()
            case "DELETE", ["patient", number]:
                server.clinic.delete_patient(int(number))
                server.save()
            case "PUT", ["appointments"]:
                server.clinic.appointments = [Appointment(**row) for row in told]
                server.save()
            case "PUT", ["staff", code]:
                server.clinic.staff[code] = told
                server.save()
            case _:
                raise ValueError(path)
        return None


def _row(api: str, act: str, patient: str, said: Said | None, fault: str | None) -> Json:
    """What the log says of a call: numbers and our marks, no name and no note."""
    entry = None if said is None else said.entry
    note = unicodedata.normalize("NFKC", getattr(entry, "note", "") or "")
    mark = _MARK.search(note)
    told = {} if entry is None else {key: asdict(entry)[key] for key in ("patient", "day", "time", "number", "doctor")}
    return {
        "api": api,
        "act": act,
        "patient": patient,
        "result": None if said is None else said.code,
        "effect": "none" if said is None else said.effect,
        "mark": mark[0] if mark else None,
        "entry": told,
        "fault": None if fault is None else str(fault),
    }


def _events(clinic: Clinic, fields: Json) -> Any:
    first, wanted = str(fields.get("start_time") or ""), fields.get("event")
    hits = [each for each in clinic.events if wanted in (None, "", each["event"]) and each["time"][:10] >= first[:10]]
    if not hits:
        return {"error": {"code": "0007", "message": "対象となるＰＵＳＨ通知が存在しませんでした。"}}
    return [{"data": {"user": "ormaster", **each}} for each in hits]


def run(config: OrcaConfig, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then return; `on_ready` is told the address. PortInUseError before anything is
    opened."""
    server = OrcaServer(config)
    serve(server, server.closing, lambda: on_ready(server.url))


def _kept_rows(path: Path | None) -> list[Json]:
    """The rows of an earlier run; a last line that a kill cut short is dropped."""
    if path is None:
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    rows = [json.loads(line) for line in whole.splitlines()]
    with open(path, "w", opener=private) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return rows
