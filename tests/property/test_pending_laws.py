"""Whatever comes in whatever order, the pending row is what one would rebuild from changes and results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from conftest import fresh_database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pending_history import TERMINAL, RecordHistory

from resources.logins import Logins
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store.database import Database

_VERSIONS = 5
_STATES = {"released": "due"}
_ANSWERS = ("unknown", "unknown", "retry", "delivered", "delivered_with_warning", "parked", "conflict")
_SETTLED = ("superseded", "not_needed", "abandoned")
acts = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(1, _VERSIONS)),
        st.tuples(st.just("send"), st.just("")),
        st.tuples(st.just("answer"), st.sampled_from(_ANSWERS)),
        st.tuples(st.just("settle"), st.sampled_from(_SETTLED)),
        st.tuples(st.just("release"), st.just("released")),
        st.tuples(st.just("echo"), st.just("unknown")),
    ),
    max_size=14,
)


@dataclass
class Model:
    """A record's changes and results as plain lists, and what is pending by them: the newest open change.

    It keeps the one rule that push keeps: nothing is sent or settled while an intent has no end.
    """

    history: RecordHistory
    changes: set[int] = field(default_factory=set)
    results: list[tuple[int, str]] = field(default_factory=list)
    intent: tuple[int, UUID] | None = None
    """The one that has no end yet, and its version."""
    is_doubted: bool = False
    ended: tuple[int, UUID] | None = None

    def pending(self) -> tuple[int, str] | None:
        settled = {version for version, outcome in self.results if outcome in TERMINAL}
        if not (still_open := self.changes - settled):
            return None
        newest = max(still_open)
        if self.is_doubted:
            return newest, "unknown"
        own = [outcome for version, outcome in self.results if version == newest]
        return newest, _STATES.get(own[-1], own[-1]) if own else "due"

    def act(self, kind: str, value: int | str) -> None:
        """Do it in the database and here, if push or accumulate could do it now."""
        pending = self.pending()
        match kind, value:
            case "change", int() if value not in self.changes:
                self.history.change(value)
                self.changes.add(value)
            case "answer", str() if self.intent is not None:
                self._answer(self.intent, value)
            case "echo", str() if self.ended is not None:
                self.history.result(self.ended[0], value, self.ended[1])
            case "send", _ if self.intent is None and pending is not None and pending[1] in ("due", "retry"):
                self.intent = pending[0], self.history.intend(pending[0])
            case "settle", str() if self.intent is None and pending is not None:
                self._result(pending[0], value, None)
            case "release", str() if pending is not None and pending[1] in ("parked", "conflict"):
                self._result(pending[0], value, None)

    def _answer(self, intent: tuple[int, UUID], outcome: str) -> None:
        self._result(intent[0], outcome, intent[1])
        self.is_doubted = outcome == "unknown"
        if not self.is_doubted:
            self.intent, self.ended = None, intent

    def _result(self, version: int, outcome: str, intent: UUID | None) -> None:
        self.history.result(version, outcome, intent)
        self.results.append((version, outcome))
        if outcome in TERMINAL:
            self.results += [(older, "superseded") for older in self.changes if older < version]


@pytest.fixture(scope="module")
def database(server: EmbeddedServer, template: Logins) -> Iterator[Database]:
    with fresh_database(server, template) as logins:
        made = Database(logins)
        yield made
        made.close()


@given(acts)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pending_is_always_the_newest_open_change(database: Database, drawn: list[tuple[str, int | str]]) -> None:
    model = Model(RecordHistory(database, "sakura"))
    for kind, value in drawn:
        model.act(kind, value)
        assert model.history.pending() == model.pending()
        assert model.history.differences() == []
