"""Whatever comes in whatever order, both derived tables are what one would rebuild from history.

Three tell the same: the trigger functions, step by step; the audit's rebuild, in SQL; and the model here, which looks
at the whole list of steps each time. The acts are more than push would ever do: it sends nothing of a record in doubt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest
from conftest import fresh_database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pending_history import TERMINAL, RecordHistory, month

from resources.logins import Logins
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store.database import Database

_VERSIONS = 5
_OPEN = ("retry", "unknown", "unknown", "conflict", "parked")
_ENDS = ("delivered", "delivered", "delivered_with_warning", "superseded", "not_needed", "abandoned")
_REPAIR_ENDS = ("equal", "repaired")
_REPAIRS = ("suspected", "suspected", "retry", "unknown", "parked", *_REPAIR_ENDS)
_numbers = count(1)


@dataclass(frozen=True)
class Step:
    """One row of history."""

    kind: str
    """change, intent, result or repair."""
    version: int
    outcome: str = ""
    intent: UUID | None = None
    partner_id: str | None = None

    @property
    def ends_version(self) -> bool:
        return self.kind == "result" and self.outcome in TERMINAL

    @property
    def delivers(self) -> bool:
        return self.kind == "result" and self.outcome.startswith("delivered")

    @property
    def ends_suspicion(self) -> bool:
        return self.kind == "repair" and self.outcome in _REPAIR_ENDS

    @property
    def ends_intent(self) -> bool:
        return self.intent is not None and (self.kind, self.outcome) not in _SAYS_NOTHING


_SAYS_NOTHING = {("intent", ""), ("result", "unknown"), ("repair", "unknown"), ("repair", "suspected")}


@dataclass(frozen=True)
class Story:
    """The steps of a record, and what they say."""

    steps: tuple[Step, ...] = ()

    def of(self, kind: str) -> list[Step]:
        return [step for step in self.steps if step.kind == kind]

    def open_versions(self) -> set[int]:
        ended = {step.version for step in self.steps if step.ends_version}
        return {step.version for step in self.of("change")} - ended

    def open_intents(self) -> list[Step]:
        ended = {step.intent for step in self.steps if step.ends_intent}
        return [step for step in self.of("intent") if step.intent not in ended]

    def doubt(self) -> Step | None:
        """The newest intent without an end: of the highest version, the last."""
        return max(self.open_intents(), key=lambda step: (step.version, self.steps.index(step)), default=None)

    def is_answered(self) -> bool:
        doubt = self.doubt()
        return doubt is not None and any(
            step.intent == doubt.intent and step.outcome == "unknown" for step in self.steps
        )

    def state(self) -> str:
        """Of the newest open version: its own last word, unless a doubt has come between."""
        if self.is_answered():
            return "unknown"
        newest = max(self.open_versions())
        turn = max(
            number
            for number, step in enumerate(self.steps)
            if (step.kind, step.version) == ("change", newest) or (step.ends_version and step.version > newest)
        )
        words = [
            number
            for number, step in enumerate(self.steps)
            if number > turn and step.kind == "result" and step.version == newest
        ]
        if not words or any(Story(self.steps[: end + 1]).is_answered() for end in range(words[-1], len(self.steps))):
            return "due"
        return {"released": "due", "unknown": "due"}.get(word := self.steps[words[-1]].outcome, word)

    def pending(self) -> tuple[int, str, int] | None:
        """(version, state, open versions)."""
        still_open = self.open_versions()
        return (max(still_open), self.state(), len(still_open)) if still_open else None

    def settled(self) -> tuple[int, str | None]:
        ends = [(step.version, step.outcome) for step in self.steps if step.ends_version]
        return max(ends, default=(0, None))

    def delivered(self) -> int:
        return max((step.version for step in self.steps if step.delivers), default=0)

    def known(self) -> tuple[int, str | None]:
        words = [(step.version, number) for number, step in enumerate(self.steps) if step.partner_id is not None]
        if not words:
            return 0, None
        version, number = max(words)
        return version, self.steps[number].partner_id

    def suspicion(self) -> tuple[str | None, int]:
        """(state, attempts): of what neither a look to the end nor a write has answered that began after it."""
        state, attempts = None, 0
        suspicions: list[int] = []
        for number, step in enumerate(self.steps):
            if step.ends_suspicion or (step.delivers and step.version > Story(self.steps[:number]).delivered()):
                suspicions = [each for each in suspicions if each > self.began(number)]
                state, attempts = (state, attempts) if suspicions else (None, 0)
            elif step.kind == "repair" and step.outcome == "suspected":
                suspicions.append(number)
                state, attempts = "due", 0
            elif step.kind == "repair" and state is not None:
                state, attempts = step.outcome, attempts + 1
        return state, attempts

    def began(self, end: int) -> int:
        """The step of the intent that this one ends; itself, if it ends none."""
        intents = [(step.kind, step.intent) for step in self.steps]
        sent = ("intent", self.steps[end].intent)
        return intents.index(sent) if sent[1] is not None and sent in intents else end

    def waits_for(self, timing: str, has_client: bool, is_asked_for: bool) -> str | None:
        if self.doubt() is not None or self.settled()[0] >= max(self.open_versions()):
            return None
        if not has_client:
            return "client"
        return "request" if timing == "week" and not is_asked_for else None


@dataclass
class Model:
    """A record in the database, and its story beside it."""

    history: RecordHistory
    admin: psycopg.Connection
    timing: str
    story: Story = field(default_factory=Story)
    has_client: bool = False
    is_asked_for: bool = False

    def possible(self) -> list[tuple[Any, ...]]:
        """What could come now."""
        versions = sorted({step.version for step in self.story.of("change")})
        missing = [version for version in range(1, _VERSIONS + 1) if version not in versions]
        acts: list[tuple[Any, ...]] = [("change", (version,)) for version in missing]
        acts += [("change", tuple(missing[:2]))] if len(missing) > 1 else []
        acts += [("link",), ("recheck",)] + ([("ask",)] if self.timing == "week" else [])
        acts += [("intent", version) for version in versions for _ in range(2)]
        for intent in {step.intent: step for step in self.story.of("intent")}.values():
            acts += [("result", intent.version, outcome, intent.intent) for outcome in (*_OPEN, *_ENDS[:2])]
            acts += [("repair", intent.version, outcome, intent.intent) for outcome in ("unknown", "repaired") * 3]
        acts += [("result", version, outcome, None) for version in versions for outcome in (*_ENDS, "released")]
        return acts + [("repair", self.story.delivered(), outcome, None) for outcome in _REPAIRS]

    def act(self, kind: str, *values: Any) -> None:
        """Do it in the database and here."""
        match kind:
            case "change":
                self.history.change(*values[0])
                self._add(*(Step("change", version) for version in values[0]))
            case "link":
                self._link()
            case "ask":
                self._ask()
            case "recheck":
                self.history.recheck()
            case "intent":
                self._add(Step("intent", values[0], intent=self.history.intend(values[0])))
            case "result":
                self._result(*values)
            case "repair":
                self._repair(*values)
        if kind in ("link", "ask"):
            self.history.recheck()

    def agrees(self) -> None:
        """Compare both rows with the story."""
        pending, standing, story = self.history.pending_row(), self.history.standing(), self.story
        assert story.pending() == (pending and (pending.version, pending.state, pending.open))
        if pending is not None:
            waits_for = story.waits_for(self.timing, self.has_client, self.is_asked_for)
            assert (pending.waits_for, pending.month) == (waits_for, month(pending.version))
        if standing is None:
            assert {step.kind for step in story.steps} <= {"change"}
        else:
            assert (standing.version, standing.outcome) == story.settled()
            assert standing.delivered_version == story.delivered()
            assert (standing.known_version, standing.partner_id) == story.known()
            assert (standing.suspect_state, standing.suspect_attempts) == story.suspicion()
            doubt = story.doubt()
            assert (standing.doubt_intent, standing.open_intents) == (doubt and doubt.intent, len(story.open_intents()))
            assert standing.doubt_is_answered == story.is_answered()

    def _result(self, version: int, outcome: str, intent: UUID | None) -> None:
        partner_id = f"p{len(self.story.steps)}" if outcome in ("delivered", "retry", "conflict") else None
        step = Step("result", version, outcome, intent, partner_id or ("there" if "warning" in outcome else None))
        is_late = (step.ends_version and version not in self.story.open_versions()) or self._is_over(intent)
        in_time = self.history.result(version, outcome, intent, partner_id=partner_id)
        assert in_time is not is_late
        if in_time:
            self._add(step)
            older = {each for each in self.story.open_versions() if each < version} if step.ends_version else set()
            if self.story.settled()[1] == "abandoned" and (doubt := self.story.doubt()) is not None:
                older.discard(doubt.version)
            self._add(*(Step("result", each, "superseded") for each in sorted(older)))

    def _repair(self, version: int, outcome: str, intent: UUID | None) -> None:
        partner_id = f"p{len(self.story.steps)}" if outcome in ("suspected", "equal", "repaired") else None
        is_late = intent is not None and any(
            step.ends_intent and step.intent == intent for step in self.story.of("repair")
        )
        self.history.repair(version, outcome, intent, partner_id)
        if outcome == "suspected" and self.story.known()[1] is not None:
            partner_id = None  # a late word counts where there was none
        self._add(Step("repair", version, "suspected" if is_late else outcome, intent, partner_id))

    def _is_over(self, intent: UUID | None) -> bool:
        return intent is not None and all(step.intent != intent for step in self.story.open_intents())

    def _link(self) -> None:
        self.has_client = True
        self.admin.execute(
            "INSERT INTO sync.identity VALUES (%s, 'fhir', 'client', %s, %s, '') ON CONFLICT DO NOTHING",
            [self.history.tenant, f"c-{self.history.record}", self.history.record],
        )

    def _ask(self) -> None:
        self.is_asked_for = True
        self.admin.execute(
            """
            INSERT INTO sync.push_request (tenant_id, partner, from_date, to_date, requested_by, requested_at)
            VALUES (%s, 'fhir', '2026-01-01', '2027-12-31', 'somebody', '2028-01-01')
            """,
            [self.history.tenant],
        )

    def _add(self, *steps: Step) -> None:
        self.story = Story(self.story.steps + steps)


@pytest.fixture(scope="module")
def logins(server: EmbeddedServer, template: Logins) -> Iterator[Logins]:
    with fresh_database(server, template) as made:
        yield made


@pytest.fixture(scope="module")
def admin(server: EmbeddedServer, logins: Logins) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.admin_url, dbname=logins.database, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def database(logins: Logins) -> Iterator[Database]:
    made = Database(logins)
    yield made
    made.close()


@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_derived_tables_are_always_what_history_says(
    database: Database, admin: psycopg.Connection, data: st.DataObject
) -> None:
    tenant, timing = f"t{next(_numbers)}", data.draw(st.sampled_from(["minute", "week"]))
    admin.execute("INSERT INTO schedule.tenant (tenant_id, name) VALUES (%s, 'T')", [tenant])
    admin.execute("INSERT INTO sync.connection VALUES (%s, 'fhir', 'http://x', %s)", [tenant, timing])
    model = Model(RecordHistory(database, tenant), admin, timing)
    for _ in range(data.draw(st.integers(1, 20))):
        model.act(*data.draw(st.sampled_from(model.possible())))
        model.agrees()
    assert model.history.differences() == []
