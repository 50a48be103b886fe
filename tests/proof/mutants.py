"""Rules of the delivery, each broken on purpose: what a proof must be seen to catch.

A mutant is patched into the process that pushes (`applied`) or into the database (`install`); the product's code knows
of none. `SCENES` in `crash_scenes` holds what catches them, `mutants_table.py` runs them all and prints who was caught.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import psycopg
from partner import ProofConnector
from swaps import Swap, swapped

from partners.contract import Refused, Reply, Retry, Unknown
from partners.errors import RejectedError
from zest_pipelines.core.outcome import Outcome
from zest_pipelines.flows import delivery, gate, verdicts
from zest_pipelines.store import claims, events, leases, results
from zest_pipelines.store.leases import Kept
from zest_pipelines.store.results import Result


@dataclass(frozen=True)
class Mutant:
    """One rule, broken."""

    breaks: str
    """What is not done any more."""
    invariant: int
    """Which one then falls: 1 nothing lost, 2 nothing doubled, 3 rising versions, 5 equal after quiet, 7 one bad
    record delays no other."""
    scene: str
    """The name of the scene that catches it."""
    notices: str
    """What the scene says then."""
    swaps: tuple[Swap, ...] = ()
    rewrites: tuple[tuple[str, str, str], ...] = ()
    """Of the database's functions: name, a part of its text, and what stands there instead."""

    def applied(self) -> AbstractContextManager[None]:
        """Within the block, the rule is broken in this process."""
        return swapped(self.swaps)

    def install(self, admin: psycopg.Connection) -> None:
        """Break the rule in the database of `admin`, a superuser's connection in autocommit."""
        for function, part, instead in self.rewrites:
            row = admin.execute("SELECT pg_get_functiondef(%s::regproc)", [function]).fetchone()
            assert row is not None
            assert row[0].count(part) == 1, f"{function} does not hold what is to be broken"
            admin.execute(row[0].replace(part, instead))


def played(name: str | None) -> AbstractContextManager[None]:
    """Within the block, the mutant plays in this process; None: none does."""
    return ExitStack() if name is None else MUTANTS[name].applied()


# --- How the rules are broken ---------------------------------------------------------------------------------------


def _nothing(_: Any) -> Callable[..., None]:
    return lambda *_, **__: None


def _unheard(real: Any) -> Callable[..., tuple[()]]:
    def stored(*given: Any) -> tuple[()]:
        real(*given)
        return ()

    return stored


def _each(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function that gives many, of which each is changed."""
    return lambda real: lambda *given, **named: tuple(change(each) for each in real(*given, **named))


def _doubtless(due: Any) -> Any:
    return replace(due, doubt=None)


def _taken_as_retry(kind: type[Unknown] | type[Refused]) -> Callable[[Any], Any]:
    def answered(reply: Reply) -> Reply:
        return Retry(reply.reason, reply.params) if isinstance(reply, kind) else reply

    return lambda real: lambda self, command: answered(real(self, command))


def _parked_if_refused(real: Any) -> Any:
    def ended(*given: Any) -> Result:
        result = real(*given)
        return replace(result, outcome=Outcome.PARKED) if isinstance(given[-1], RejectedError) else result

    return ended


def _named_anew(real: Any) -> Any:
    return lambda *given, key, **named: real(*given, key=f"{key}:{uuid4()}", **named)


def _of_any_version(real: Any) -> Any:
    return lambda *given, **named: real(*given, **named | {"partner_version": None})


def _always_kept(real: Any) -> Any:
    return lambda *given, **named: real(*given, **named) or Kept(is_paused=False, on_conflict="hold")


def _never_closed(_: Any) -> Any:
    return lambda *_, **__: ExitStack()


def _nothing_settled(real: Any) -> Any:
    return lambda newest, settled, there: real(newest, 0, there)


def _sql(*parts: tuple[str, str]) -> Callable[[Any], Any]:
    """A query with other text in the place of some."""

    def rewritten(query: Any) -> Any:
        text = query.sql
        for part, instead in parts:
            assert part in text, f"{query.name} does not hold what is to be broken"
            text = text.replace(part, instead)
        return replace(query, sql=text)

    return rewritten


MUTANTS: dict[str, Mutant] = {
    "no lease": Mutant(
        "another push may hold the connection",
        2,
        "two at once",
        "is doubled",
        (
            (leases, "_TAKE", _sql(("WHERE l.until <= clock_timestamp()", ""))),
            (leases, "keep", _always_kept),
        ),
    ),
    "no intent": Mutant(
        "what is about to be sent is not noted",
        2,
        "killed with the answer read",
        "is doubled",
        ((results, "add_intents", _nothing),),
    ),
    "no read-back": Mutant(
        "a call in doubt is sent again unseen",
        2,
        "killed with the answer read",
        "is doubled",
        ((claims, "due", _each(_doubtless)),),
    ),
    "nobody asked": Mutant(
        "a call in doubt is sent again where nothing can be asked",
        2,
        "the same, where nothing can be asked",
        "is doubled",
        ((claims, "due", _each(_doubtless)),),
    ),
    "key per attempt": Mutant(
        "each attempt has a key of its own",
        2,
        "the same, where a key is known",
        "is doubled",
        ((delivery, "command", _named_anew),),
    ),
    "looked at too early": Mutant(
        "a call that may be under way is looked for",
        2,
        "killed under way",
        "is doubled",
        ((claims, "_DUE", _sql((f"AND {claims._CALL_IS_OVER}", ""))),),
    ),
    "repair looked at too early": Mutant(
        "a repair that may be under way is looked for",
        3,
        "killed while a repair is under way",
        "is out of order",
        ((claims, "_SUSPECTS", _sql((f"AND {claims._CALL_IS_OVER}", ""))),),
    ),
    "timed out for good": Mutant(
        "a call that was not answered in time counts as over",
        2,
        "timed out under way",
        "is doubled",
        ((verdicts, "_look_at", _nothing),),
    ),
    "refused reading believed": Mutant(
        "doubt ends where the partner does not want to say",
        2,
        "reading refused",
        "is doubled",
        ((verdicts, "still_in_doubt", _parked_if_refused),),
    ),
    "doubt as failure": Mutant(
        "a lost answer counts as not applied",
        2,
        "answer lost",
        "is doubled",
        ((ProofConnector, "send", _taken_as_retry(Unknown)),),
    ),
    "gate left open": Mutant(
        "a call may begin after its lease",
        2,
        "stopped before sending",
        "is doubled",
        ((gate.LedgerGate, "open_until", _never_closed),),
    ),
    "id > cursor": Mutant(
        "events are read by their numbers alone",
        1,
        "committed late",
        "is lost",
        (
            (
                events,
                "_READ_ON",
                _sql(
                    ("(e.xid, e.event_id) > (c.xid, c.event_id)", "e.event_id > c.event_id"),
                    ("AND e.xid < pg_snapshot_xmin(pg_current_snapshot())", ""),
                    ("ORDER BY e.xid, e.event_id", "ORDER BY e.event_id"),
                    ("ORDER BY b.xid DESC, b.event_id DESC", "ORDER BY b.event_id DESC"),
                ),
            ),
        ),
    ),
    "settled without comparing": Mutant(
        "a result takes away the pending record, whatever its version",
        1,
        "edited under way",
        "version 2 has ended 0 times",
        rewrites=(
            ("sync.project_result", "IF is_end AND NEW.version = p.version THEN", "IF is_end THEN"),
            (
                "sync.project_result",
                "q.record_id = NEW.record_id AND q.version = NEW.version",
                "q.record_id = NEW.record_id",
            ),
        ),
    ),
    "older ones left": Mutant(
        "older versions do not end with the newer one",
        1,
        "edited often",
        "version 1 has ended 0 times",
        ((results, "supersede_older", _nothing),),
        (("sync.project_result", "IF p.open > 1 THEN", "IF false THEN"),),
    ),
    "late one sent": Mutant(
        "an older version that is read late is sent",
        3,
        "read late",
        "is out of order",
        ((delivery, "decide", _nothing_settled),),
    ),
    "late answer dropped": Mutant(
        "nobody looks what a late call did",
        5,
        "applied late",
        "is stale",
        ((results, "add_results", _unheard),),
    ),
    "no version check": Mutant(
        "the partner is not told which version we know",
        3,
        "applied late, where versions are checked",
        "is out of order",
        ((delivery, "command", _of_any_version),),
    ),
    "no content check": Mutant(
        "the partner's copy is not compared before it is written over",
        5,
        "changed at the partner",
        "what they wrote is lost, and nobody was asked",
        ((claims, "due", _each(lambda due: replace(due, base=None))),),
    ),
    "refusal retried": Mutant(
        "a refused record is sent again and again",
        7,
        "refused records",
        "cost 3 calls",
        ((ProofConnector, "send", _taken_as_retry(Refused)),),
    ),
    "batch not halved": Mutant(
        "a refused batch is sent again as it was",
        7,
        "refused batches",
        "has not arrived",
        ((claims, "due", _each(lambda due: replace(due, attempts=0))),),
    ),
}
"""By name."""
