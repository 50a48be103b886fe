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
Act = tuple[str, int | str]


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

    def possible(self) -> list[Act]:
        """What accumulate and push could do now."""
        pending = self.pending()
        acts: list[Act] = [("change", version) for version in range(1, _VERSIONS + 1) if version not in self.changes]
        if self.ended is not None:
            acts.append(("echo", "unknown"))
        if self.intent is not None:
            return acts + [("answer", outcome) for outcome in _ANSWERS]
        if pending is None:
            return acts
        acts += [("settle", outcome) for outcome in _SETTLED]
        return [*acts, *([("send", "")] * 4 if pending[1] in ("due", "retry") else [("release", "released")])]

    def act(self, kind: str, value: int | str) -> None:
        """Do it in the database and here."""
        match kind, value:
            case "change", int():
                self.history.change(value)
                self.changes.add(value)
            case "answer", str():
                assert self.intent is not None
                self._answer(self.intent, value)
            case "echo", str():  # of a push that lost its lease: it learns nothing where the other one has read back
                assert self.ended is not None
                self.history.result(self.ended[0], value, self.ended[1])
            case _, str():
                pending = self.pending()
                assert pending is not None
                if kind == "send":
                    self.intent = pending[0], self.history.intend(pending[0])
                else:
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


@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pending_is_always_the_newest_open_change(database: Database, data: st.DataObject) -> None:
    model = Model(RecordHistory(database, "sakura"))
    for _ in range(data.draw(st.integers(1, 20))):
        if possible := model.possible():
            model.act(*data.draw(st.sampled_from(possible)))
            assert model.history.pending() == model.pending()
            assert model.history.differences() == []
