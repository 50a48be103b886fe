"""A SmartHR over real sockets, with its limits, its log and its faults. `run` serves until a signal; tests serve in a
thread.

The hand of a test or a demo (`partners.serving`) has health, log, state, faults, and edits as the corporation's people
make them.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Any

from partners.serving import SandboxHandler, SandboxServer, keep, serve
from partners.smarthr.sandbox.crews import made_up, spelled

Json = dict[str, Any]
_CREWS = "/api/v1/crews"
_LOOPBACK = ("127.0.0.1", "::1")
_MOST_AT_ONCE = 100
ERRORS: Mapping[int, tuple[int, str]] = {
    1: (400, "bad_request"),
    2: (401, "unauthorized_token"),
    3: (403, "forbidden"),
    4: (404, "not_found"),
    5: (500, "internal_server_error"),
    6: (429, "too_many_requests"),
    7: (403, "plan_limit_exceeded"),
    8: (400, "non_deletable_resource"),
    9: (503, "service_maintenance"),
    15: (403, "ip_not_permitted"),
}
"""Status and type by the error's code."""


class FaultKind(StrEnum):
    """What goes wrong."""

    ERROR = "error"
    """The error `code`, with its own status or `status`."""
    STATUS = "status"
    """A `status` with a web page: a proxy's."""
    LOST = "lost"
    """The connection ends without an answer."""
    DELAY = "delay"
    """Answered `seconds` late."""
    MOVED = "moved"
    """Before it is answered, people delete the crew `crew`, or save it where `said` is given."""
    UNSORTED = "unsorted"
    """The wish for an order is passed over: by number."""
    UNSTEADY = "unsteady"
    """Crews of equal times come in another order with each call."""
    UNLINKED = "unlinked"
    """No Link header."""


@dataclass
class Fault:
    """A fault and whom it befalls; what is not given holds for all."""

    kind: FaultKind
    page: int | None = None
    """Of the list; 0: where one crew is asked for."""
    times: int | None = None
    """How often; None: always."""
    code: int = 5
    status: int | None = None
    seconds: float = 0.0
    crew: str = ""
    said: Json | None = None

    def __post_init__(self) -> None:
        self.kind = FaultKind(self.kind)

    def befalls(self, page: int) -> bool:
        """Whether it meets a call; a fault that may happen so often and no more is used up by it."""
        if self.times == 0 or self.page not in (None, page):
            return False
        self.times = None if self.times is None else self.times - 1
        return True


@dataclass(frozen=True)
class SmartHrConfig:
    """How the sandbox is started."""

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 1
    staff: int = 0
    token: str = field(default="", repr=False)
    """Empty: none is asked for."""
    per_second: int = 10
    per_hour: int = 5000
    per_minute: int = 50_000
    """Of the subdomain, all tokens together."""
    state_file: Path | None = None
    """Keeps the crews: a restart goes on."""


class _Window:
    """A limit that counts anew after so many seconds."""

    def __init__(self, limit: int, seconds: int) -> None:
        self.limit, self._seconds, self._begun, self._used = limit, seconds, -math.inf, 0

    def take(self) -> bool:
        """Count a call; whether it is within the limit."""
        if monotonic() >= self._begun + self._seconds:
            self._begun, self._used = monotonic(), 0
        self._used += 1
        return self._used <= self.limit

    def headers(self, family: str, suffix: str = "") -> dict[str, str]:
        """How it stands."""
        left = max(self._begun + self._seconds - monotonic(), 0.0)
        figures = {"limit": self.limit, "remaining": max(self.limit - self._used, 0), "reset": int(left) + 1}
        return {f"{family}-{name}{suffix}": str(figure) for name, figure in figures.items()}


class SmartHrServer(SandboxServer):
    """The crews, the log and the faults behind one port."""

    def __init__(self, config: SmartHrConfig) -> None:
        super().__init__(config.host, config.port, _Handler)
        self.config, self.faults, self.journal = config, list[Fault](), list[Json]()
        self.second, self.hour = _Window(config.per_second, 1), _Window(config.per_hour, 3600)
        self.minute = _Window(config.per_minute, 60)
        kept = config.state_file
        if kept is not None and kept.exists():
            self.crews: dict[str, Json] = json.loads(kept.read_text())
        else:
            self.crews = made_up(config.seed, config.staff)

    @property
    def url(self) -> str:
        """Its address, without a slash at its end."""
        host, port = self.socket.getsockname()[:2]
        return f"http://{host}:{port}"

    def put_crew(self, crew: str, said: Json) -> None:
        """Save a crew as people do, now unless another time is said."""
        before = self.crews.get(crew, {"id": crew, "emp_status": "employed"})
        self.crews[crew] = {**before, "updated_at": spelled(datetime.now(UTC)), **said}
        self.save()

    def delete_crew(self, crew: str) -> None:
        """Delete a crew as people do."""
        del self.crews[crew]
        self.save()

    def save(self) -> None:
        """Put the crews into the state file, if there is one."""
        if self.config.state_file is not None:
            keep(self.config.state_file, self.crews)


class _Handler(SandboxHandler):
    server: SmartHrServer

    def answer(self, path: str, query: Mapping[str, str], body: bytes) -> None:
        server, page = self.server, _number(query, "page", 1) if path == _CREWS else 0
        with server.lock:
            faults = [each for each in server.faults if each.befalls(page)]
            for fault in faults:
                if fault.kind is FaultKind.MOVED and fault.crew in server.crews:
                    self._move(fault)
            kinds = {fault.kind: fault for fault in faults}
            within = [window.take() for window in (server.second, server.hour, server.minute)]
            status, told, headers = self._said(path, query, kinds, is_within=all(within))
            row = {"method": self.command, "path": path, "query": dict(query), "status": status}
            server.journal.append(row | {"at": datetime.now(UTC).isoformat(), "faults": sorted(kinds)})
            limits = {
                **server.hour.headers("x-rate-limit"),
                **server.second.headers("x-rate-limit", "-second"),
                **server.minute.headers("x-intensive-rate-limit"),
            }
        if FaultKind.LOST in kinds:
            self.hang_up()
            return
        if FaultKind.DELAY in kinds:
            server.closing.wait(kinds[FaultKind.DELAY].seconds)
        if FaultKind.STATUS in kinds:
            self.send(status, "text/html", b"<html><body>error</body></html>", {})
            return
        self.send(status, "application/json", json.dumps(told, ensure_ascii=False).encode(), headers | limits)

    def _move(self, fault: Fault) -> None:
        if fault.said is None:
            self.server.delete_crew(fault.crew)
        else:
            self.server.put_crew(fault.crew, fault.said)

    def _said(
        self, path: str, query: Mapping[str, str], kinds: Mapping[FaultKind, Fault], *, is_within: bool
    ) -> tuple[int, Any, dict[str, str]]:
        config = self.server.config
        if FaultKind.STATUS in kinds:
            return kinds[FaultKind.STATUS].status or 502, None, {}
        if FaultKind.ERROR in kinds:
            fault = kinds[FaultKind.ERROR]
            return _error(fault.code, fault.status)
        if config.token and self.headers.get("authorization") != f"Bearer {config.token}":
            return _error(2)
        if not is_within:
            return _error(6)
        if path == _CREWS:
            return self._listed(query, kinds)
        crew = self.server.crews.get(path.removeprefix(f"{_CREWS}/"))
        return _error(4) if crew is None else (200, _chosen(crew, query), {})

    def _listed(self, query: Mapping[str, str], kinds: Mapping[FaultKind, Fault]) -> tuple[int, Any, dict[str, str]]:
        page, at_once = _number(query, "page", 1), min(_number(query, "per_page", 10), _MOST_AT_ONCE)
        if page < 1 or at_once < 1:
            return _error(1)
        crews = list(self.server.crews.values())
        if FaultKind.UNSTEADY in kinds:
            random.shuffle(crews)
        if FaultKind.UNSORTED not in kinds:
            for key in reversed([part for part in query.get("sort", "").split(",") if part]):
                crews.sort(key=lambda crew, key=key: str(crew.get(key.lstrip("-"))), reverse=key.startswith("-"))  # type: ignore[misc]
        last = max(-(-len(crews) // at_once), 1)
        places = {"first": 1, "prev": page - 1, "next": page + 1, "last": last}
        links = [
            f'<{self.server.url}{_CREWS}?page={number}&per_page={at_once}>; rel="{name}"'
            for name, number in places.items()
            if 1 <= number <= last and last > 1
        ]
        headers = {"x-total-count": str(len(crews))}
        if links and FaultKind.UNLINKED not in kinds:
            headers["link"] = ", ".join(links)
        shown = crews[(page - 1) * at_once : page * at_once]
        return 200, [_chosen(crew, query) for crew in shown], headers

    # --- The hand of a test or a demo ---

    def controlled(self, path: str, query: Mapping[str, str], told: Any) -> Any:
        server = self.server
        match self.command, path.split("/"):
            case "GET", ["health"]:
                return {"status": "ok", "journal": len(server.journal)}
            case "GET", ["journal"]:
                return server.journal
            case "GET", ["state"]:
                return list(server.crews.values())
            case "PUT", ["faults"]:
                server.faults = [Fault(**each) for each in told]
            case "PUT", ["crews"]:
                server.crews = {crew["id"]: crew for crew in told}
                server.save()
            case "PUT", ["crews", crew]:
                server.put_crew(crew, told)
            case "DELETE", ["crews", crew]:
                server.delete_crew(crew)
            case _:
                raise ValueError(path)
        return None


def _error(code: int, status: int | None = None) -> tuple[int, Json, dict[str, str]]:
    own, kind = ERRORS.get(code, (400, "unheard_of"))
    return status or own, {"code": code, "type": kind, "message": "エラーです", "errors": None}, {}


def _chosen(crew: Json, query: Mapping[str, str]) -> Json:
    """The crew, or those of its fields that are asked for."""
    wanted = [name for name in query.get("fields", "").split(",") if name]
    return {name: crew.get(name) for name in wanted} if wanted else crew


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    """A number in a query; 0 where it is none."""
    text = query.get(name, str(default))
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def run(config: SmartHrConfig, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then return; `on_ready` is told the address. PortInUseError before anything is
    opened."""
    server = SmartHrServer(config)
    serve(server, server.closing, lambda: on_ready(server.url))
