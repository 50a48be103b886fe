"""What a partner's folder offers the certification: an address, and the hand of the partner's own people.

`partners/<name>/sandbox/bench.py` has a `running_bench()` that yields one for the sandbox. Sizes, masters, visits
and copies it must have; what else it leaves out makes the rows that need it not apply, and the class that they prove is
then not earned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from importlib import import_module
from typing import NoReturn
from urllib.parse import urlsplit
from uuid import uuid4

from partners.contract import Command, Entity, Master, Partner, Plan, Verb, Visit, VisitRecord


class NotOffered(Exception):  # noqa: N818  # no fault: the row does not apply
    """The row cannot be tried here; the message says why."""


class BenchIncompleteError(Exception):
    """The bench lacks what no partner can be tried without; the message says what."""


class BenchMissingError(LookupError):
    """The partner's folder has no bench; the message says what to write."""


@dataclass(frozen=True)
class Sizes:
    """How many records make a reading interesting."""

    page: int
    """Exactly as many as one page, or one call, holds."""
    cap: int
    """As many as the partner lists at most, if it has such a bound; else several pages. More than `page`."""
    least: int = 0
    """The fewest that a reading takes for whole."""


class LineFault(StrEnum):
    """What can befall a partner that exchanges files over a line. For HTTP there are hostile answers and the relay."""

    ANOTHER_SERVER = "a server that is not the one named"
    CUT_AT_LOGIN = "a line that ends in the login"
    SILENT_AT_LOGIN = "no answer to the login"
    SLOW = "a byte a second"
    ENDLESS = "a list without end"
    CUT_IN_READING = "a line that ends in a file that is read"
    ENDS_EARLY = "a file that ends before its size"
    CUT_IN_WRITING = "a line that ends in a file that is written"
    FULL = "no room for a file"
    FORBIDDEN = "no right to write a file"
    RENAME_FAILS = "a rename that fails"
    CUT_AT_RENAME = "a line that ends after a rename"


class Bench:
    """A partner under test. Whoever makes one sets the attributes and writes the methods that it can."""

    partner: Partner
    url: str
    secret: Mapping[str, str]
    settings: Mapping[str, str]
    is_real = False
    """Whether it is a system in which no faults can be injected."""
    pace: float = 0.0
    """Seconds from a call to the next one that it is spared."""
    wrong_secret: Mapping[str, str] | None = None
    """A secret that it refuses; None: it asks for none."""
    batch_settings: Mapping[str, str] | None = None
    """Settings with which 9 commands go in one call; empty: they do unasked. None: it has no batches."""

    tells_gate = True
    """Whether its own dialect has a word for too many calls and for nothing else, so that the gate must hear of it."""

    @property
    def is_http(self) -> bool:
        """False: it exchanges files, and what is about HTTP does not apply. Not for the declaration to say."""
        return self.scheme in ("http", "https")

    @property
    def scheme(self) -> str:
        """How its address begins."""
        return urlsplit(self.url).scheme

    @property
    def writes(self) -> tuple[Entity, ...]:
        """What is tried of that which is written: visits alone at a real system, where all is taken back again."""
        return tuple(each for each in self.partner.writes if each is Entity.VISIT or not self.is_real)

    @property
    def nobody(self) -> str:
        """An address of its kind at which nobody listens."""
        if not self.is_http:
            _lacks("address at which nobody listens")
        return "http://127.0.0.1:1"

    @property
    def sizes(self) -> Mapping[Entity, Sizes]:
        """For each entity that is read."""
        return _needs("sizes of readings")

    def visit(self) -> Command:
        """The creation of a visit that it has not seen, with a note."""
        return _needs("visit that can be written")

    def visit_record(self, visit: Command) -> Command:
        """The creation of the record of a visit that was delivered: it began late and took longer."""
        assert isinstance(visit.fields, Visit)
        began, ended = visit.fields.starts_at + timedelta(minutes=3), visit.fields.ends_at + timedelta(minutes=5)
        fields = VisitRecord(began, ended, "done", "変わりなし")
        links = {**visit.links, Entity.VISIT: visit.partner_id or ""}
        return Command(Entity.VISIT_RECORD, Verb.CREATE, visit.record_id, 1, str(uuid4()), fields, links)

    def refused_visit(self) -> Command:
        """The creation of a visit that it refuses for what it says."""
        return _lacks("visit that is refused")

    def copies(self, command: Command) -> Sequence[object]:
        """What it has of a command's record, compared by equality alone."""
        return _needs("look at its copies")

    def said(self, command: Command) -> Sequence[Mapping[str, object]]:
        """What stands at the partner's side of a command's record, as its own people read it, each in our terms.

        Looked at without the connector, and written down again here by hand, so that an error of the connector is not
        made twice. By the names of Visit or VisitRecord, `client`, `staff` and `visit`: all that it has a place for,
        with an empty text where it says nothing. `status` is booked, done or cancelled.
        """
        return _needs("word of what stands there")

    def edit_copy(self, command: Command) -> None:
        """Change its copy as its own people do."""
        _lacks("edits by its own people")

    def hold(self, entity: Entity, count: int) -> Collection[str]:
        """Have exactly so many masters, all sound, and say their ids."""
        return _needs("masters that can be set")

    def people(self, entity: Entity) -> Mapping[str, Master]:
        """Have a few masters and no others, as different from each other as can be, one of them not active if that can
        be told; by id, what is to be made of each by these settings: written down by hand, not mapped."""
        return _needs("people of whom it says who they are")

    def change(self, entity: Entity, ids: Collection[str]) -> None:
        """Change these masters, all at the same time by its clock."""
        _lacks("changes of masters by its own people")

    def remove(self, entity: Entity, partner_id: str) -> None:
        """Delete one, as its own people do."""
        _lacks("deletes by its own people")

    def spoil(self, entity: Entity, partner_id: str) -> None:
        """Fill one with what no clean record has."""
        _lacks("dirty data")

    def spoil_list(self, entity: Entity) -> None:
        """Have something among what it is read from that cannot be read at all, until other masters or plans are
        held."""
        if not self.is_http:
            _needs("file that cannot be read")
        _lacks("lists that cannot be read: what is called over HTTP is tried by hostile answers")

    def hold_plans(self, count: int) -> Sequence[Plan]:
        """Have exactly so many plans, all sound, in more than one month if there are several, and say what they are.

        Of these and of what follows, `said_at` and `bad` are not looked at.
        """
        return _needs("plans that can be set")

    def replan(self, plan: Plan) -> Plan:
        """Have other services planned in that client's month, at a later time; returns the plan that stands then."""
        return _needs("plans that can be changed")

    def plan_before(self, plan: Plan) -> None:
        """Have other services of that client's month come only now, which were said before all else."""
        _lacks("plans that come late")

    def take_back(self, plan: Plan) -> None:
        """Have that client's month taken back, at a later time."""
        _lacks("plans that are taken back")

    def spoil_plan(self, plan: Plan) -> tuple[Plan, Mapping[str, str]]:
        """As `replan`, with one line that cannot be read: the plan without it, and what tells where that line is."""
        return _lacks("plans with a line that cannot be read")

    def throttle(self) -> None:
        """Refuse each call as too many, in its own dialect, until it is healed."""
        _lacks("dialect in which it refuses for too many calls")

    def reject_batch(self, command: Command) -> None:
        """Refuse each batch with the command's record as a whole, until it is healed."""
        _lacks("batches that are refused as a whole")

    def befall(self, fault: LineFault) -> None:
        """Have this befall every line to it, those that stand too, until it is healed."""
        _lacks("faults of a line: what is called over HTTP is tried by hostile answers")

    def shown(self) -> int:
        """How many credentials it was shown; counted where a line to it can fail."""
        return 0

    def heal(self) -> None:
        """Drop all faults."""


def _needs(what: str) -> NoReturn:
    raise BenchIncompleteError(f"the bench offers no {what}")


def _lacks(what: str) -> NoReturn:
    raise NotOffered(f"the bench offers no {what}")


BenchMaker = Callable[[], AbstractContextManager[Bench]]


def benches_of(name: str) -> Mapping[str, BenchMaker]:
    """The makers of a partner's benches at its sandbox: `running_bench`, by the empty name, and by theirs those in
    `OTHERS`, for partners whose address can be of several kinds. BenchMissingError if its folder has none."""
    module = f"partners.{name}.sandbox.bench"
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise BenchMissingError(
            f"{module.replace('.', '/')}.py is missing: write running_bench() there (CONTRIBUTING.md, Adding a partner)"
        ) from None
    return {"": found.running_bench, **getattr(found, "OTHERS", {})}
