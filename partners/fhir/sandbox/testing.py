"""A sandbox inside a test: a real server on a real port, in a thread of the test's process."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.faults import FaultRule
from partners.fhir.sandbox.server import SandboxServer, bound_socket

Json = dict[str, Any]
_START_SECONDS = 30


@dataclass(frozen=True)
class RunningSandbox:
    """The handle on a running sandbox. Everything goes through the control endpoints, as from another process."""

    url: str
    """Its address, without a slash at its end; also the FHIR base."""
    _control: httpx.Client

    def journal(self, after: int = 0) -> list[Json]:
        """Journal rows with a seq above `after`, oldest first (fields: journal.Row)."""
        rows: list[Json] = self._ask("GET", f"journal?after={after}").json()
        return rows

    def state(self, resource_type: str) -> list[Json]:
        """All live records of a type, the least recently changed first."""
        resources: list[Json] = self._ask("GET", f"state/{resource_type}").json()
        return resources

    def health(self) -> Json:
        """Counts: resources by type, journal rows, faults, calls admitted and refused by `limit` and by each limit."""
        health: Json = self._ask("GET", "health").json()
        return health

    def limits(self) -> Json:
        """`limits`: each limit's counts, with the calls admitted by caller (limit_book.caller_name).

        `admitted`: [monotonic seconds, caller] of each of the last 100,000 calls admitted.
        """
        detail: Json = self._ask("GET", "limits").json()
        return detail

    def set_faults(self, *rules: FaultRule | Mapping[str, Any]) -> None:
        """Replace the rules in force by `rules`."""
        self.clear_faults()
        data = [asdict(rule) if isinstance(rule, FaultRule) else dict(rule) for rule in rules]
        self._ask("POST", "faults", data)

    def clear_faults(self) -> None:
        """Drop all rules."""
        self._ask("DELETE", "faults")

    def faults(self) -> list[Json]:
        """The rules in force, each with `seen` and `fired`."""
        rules: list[Json] = self._ask("GET", "faults").json()
        return rules

    def put(self, resource: Mapping[str, Any]) -> Json:
        """Store a resource as the partner's own people would: unchecked, unlogged, under its own id."""
        stored: Json = self._ask("PUT", "resource", dict(resource)).json()
        return stored

    def delete(self, resource_type: str, id: str) -> None:
        """Delete a record as the partner's own people would."""
        self._ask("DELETE", f"resource/{resource_type}/{id}")

    def tokens(self) -> Json:
        """`asked`: how often a token was asked for; `given`: how often it was given."""
        counts: Json = self._ask("GET", "tokens").json()
        return counts

    def revoke_tokens(self) -> None:
        """Let no token count that was given so far."""
        self._ask("DELETE", "tokens")

    def configure(self, **options: Any) -> None:
        """Change options while running (names: config.CHANGEABLE)."""
        self._ask("POST", "config", options)

    def _ask(self, method: str, path: str, data: Json | Sequence[Json] | None = None) -> httpx.Response:
        answer = self._control.request(method, f"/_sandbox/{path}", json=data)
        if answer.is_error:
            raise ValueError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer


@contextmanager
def running_sandbox(
    config: SandboxConfig | None = None, verify: ssl.SSLContext | bool = True
) -> Iterator[RunningSandbox]:
    """Serve `config` (default: open, empty, in memory) until the block ends. `verify`: how it is reached by https."""
    config = config or SandboxConfig()
    ready = threading.Event()
    with bound_socket(config) as listener:
        server = SandboxServer(config, listener, lambda _: ready.set())
        thread = threading.Thread(target=server.run, args=([listener],), name="fhir-sandbox", daemon=True)
        thread.start()
        try:
            if not ready.wait(_START_SECONDS):
                raise TimeoutError("the sandbox did not start")
            with httpx.Client(base_url=server.url, timeout=30, trust_env=False, verify=verify) as control:
                yield RunningSandbox(server.url, control)
        finally:
            server.should_exit = True
            thread.join()
