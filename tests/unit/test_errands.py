"""What a lane hears on its errands, with a connector that says what it is told to."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from partners.contract import (
    Absent,
    Command,
    Conflict,
    Delivered,
    Entity,
    Found,
    Refused,
    Retry,
    Unknown,
    Verb,
    Visit,
)
from partners.errors import Deferred, RejectedError, RetryableError
from zest_pipelines.flows.errands import Clash, Send, carry_out
from zest_pipelines.flows.opening import Line
from zest_pipelines.store.claims import Due
from zest_pipelines.store.errors import DatabaseUnreachableError
from zest_pipelines.store.keys import Key
from zest_pipelines.store.results import Intent

NOW = datetime(2026, 11, 25, tzinfo=UTC)
KEY = Key(date(2026, 11, 1), Entity.VISIT, UUID(int=1), 2)
DUE = Due(
    KEY, op="upsert", image={}, attempts=0, client=None, staff=None, visit=None,
    known=None, base=None, settled_version=0, doubt=None,
)  # fmt: skip
OTHER = Found("there", "9", ("note",), {"note": "theirs\0"})


@dataclass
class Told:
    """A line whose connector answers from what it was told, and raises what is an exception."""

    replies: list[Any]
    found: list[Any] = field(default_factory=list)

    @property
    def gate(self) -> Any:
        return self

    @property
    def ledger(self) -> Any:
        return self

    @property
    def connector(self) -> Any:
        return self

    def open_until(self, _: float) -> Any:
        return nullcontext()

    def unheard(self) -> None:
        """Nobody counts what is under way."""

    def send(self, _: Command) -> Any:
        return _said(self.replies.pop(0))

    def send_batch(self, commands: list[Command]) -> Any:
        return [_said(self.replies.pop(0)) for _ in commands]

    def find(self, _: Command) -> Any:
        return _said(self.found.pop(0))


def _said(what: Any) -> Any:
    if isinstance(what, Exception):
        raise what
    return what


def errand(verb: Verb = Verb.UPDATE, *, compares: bool = False) -> Send:
    sent = Command(Entity.VISIT, verb, KEY.record_id, 2, "k", Visit(NOW, NOW, "", ""), partner_id="there")
    return Send(DUE, sent, Intent(uuid4(), KEY, verb, "k", {}, "there", "1"), sent if compares else None)


def heard(told: Told, *errands: Send) -> list[Any]:
    return [what for _, what in carry_out(cast(Line, told), errands, 0.0)]


@pytest.mark.parametrize(
    ("verb", "found", "wanted"),
    [
        (Verb.UPDATE, [Found("there", "1")], Delivered("there", "2")),
        (Verb.UPDATE, [Absent()], Clash(Conflict("record_gone_at_partner"), Absent())),
        (Verb.CANCEL, [Absent()], Delivered("there", "2")),
        (Verb.CREATE, [Absent()], Delivered("there", "2")),
        (Verb.UPDATE, [RetryableError("partner_failed", {}, NOW)], Retry("partner_failed", {}, NOW)),
        (Verb.UPDATE, [RejectedError("several_at_partner")], Refused("several_at_partner")),
    ],
)
def test_what_must_stand_there_is_looked_at_before_the_write(verb: Verb, found: list[Any], wanted: Any) -> None:
    told = Told([Delivered("there", "2")], found)
    assert heard(told, errand(verb, compares=True)) == [wanted]
    assert len(told.replies) == (0 if isinstance(wanted, Delivered) else 1)


def test_a_copy_that_is_not_as_it_must_be_is_compared_with_what_was_to_be_written() -> None:
    told = Told([Delivered("there", "2")], [OTHER, Found("there", "9", ("note", "ends_at"))])
    (clash,) = heard(told, errand(compares=True))
    assert (clash.conflict.reason, clash.copy.differing, len(told.replies)) == (
        "changed_at_partner",
        ("note", "ends_at"),
        1,
    )


def test_a_conflict_is_looked_at_and_what_the_database_does_not_take_is_taken_out() -> None:
    (clash,) = heard(Told([Conflict("changed_at_partner")], [OTHER]), errand())
    assert clash.copy.theirs == {"note": "theirs\N{REPLACEMENT CHARACTER}"}
    for failure in (RetryableError("partner_failed"), DatabaseUnreachableError("it is away")):
        (blind,) = heard(Told([Conflict("changed_at_partner")], [failure]), errand())
        assert blind == Clash(Conflict("changed_at_partner"), None)


def test_a_batch_has_a_reply_for_each_and_one_fault_for_all() -> None:
    replies = [Delivered("a", "1"), Refused("record_refused")]
    assert heard(Told(list(replies)), errand(), errand()) == replies
    assert heard(Told([Deferred(NOW)]), errand(), errand())[1].until == NOW
    faults = heard(Told([ZeroDivisionError()]), errand(), errand())
    assert [type(fault) for fault in faults] == [Unknown, Unknown]


def test_a_database_that_is_away_is_no_answer() -> None:
    with pytest.raises(DatabaseUnreachableError):
        heard(Told([DatabaseUnreachableError("it is away")]), errand())
