"""The rows, run on a bench, and what they come to: a certificate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from partners.certification import hostile, lines, planning, reading, records, trouble, writing
from partners.certification.bench import Bench, BenchIncompleteError, NotOffered
from partners.certification.trial import READ_BACK, Broken, ClientMaker, Trial, broken, require
from partners.contract import (
    AfterReadings,
    DeleteEvents,
    Entity,
    NeverGone,
    Partner,
    PointRead,
    ProofOfAbsence,
    Recovery,
)
from partners.errors import PartnerError, RetryableError
from partners.limits import LimitError, parse_limits
from partners.reasons import Language, UnknownReason, explain, reason, sentences
from partners.windows import parse_windows

_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)


class Verdict(StrEnum):
    """How a row ends."""

    HOLDS = "holds"
    FAILS = "does not hold"
    APPLIES_NOT = "does not apply"
    UNTRIED = "could not be tried"
    """The real system could not be reached, or let nobody in: nothing is known of the connector."""
    NOT_ALLOWED = "was not tried"
    """It writes, and nobody allowed that."""


class Way(StrEnum):
    """What a connector must do for a row to be about it."""

    ANY = "any"
    IN = "in"
    OUT = "out"


@dataclass(frozen=True)
class Row:
    """One thing that a connector must do."""

    name: str
    way: Way
    run: Callable[[Trial], None]
    """Raises Broken where it does not hold, NotOffered where it cannot be tried."""
    writes: str = ""
    """What it writes at the partner, beside what only a sandbox is put through; empty: nothing."""
    needs: str = ""
    """What it needs that a real system is spared; empty: nothing."""

    @property
    def claim(self) -> str:
        """What it says of the connector."""
        return (self.run.__doc__ or "").strip()

    def why_not(self, partner: Partner) -> str | None:
        """Why it does not apply by the declaration alone; None: it does."""
        if self.way is Way.IN and not partner.reads:
            return "nothing is read"
        if self.way is Way.OUT and not partner.writes:
            return "nothing is written"
        return None


@dataclass(frozen=True)
class Result:
    """What came of a row."""

    row: str
    claim: str
    verdict: Verdict
    detail: str = ""
    """What was found, or why it does not apply."""
    meaning: str = ""
    """What the reasons in `detail` mean and what to do next, in the catalogue's sentences."""


@dataclass(frozen=True)
class Class:
    """One class of capability: what is declared, and what was earned."""

    name: str
    declared: str
    earned: str
    is_earned: bool
    detail: str = ""
    is_tried: bool = True
    """False: only writing would show it, and nobody allowed that."""


@dataclass(frozen=True)
class Certificate:
    """All of it."""

    partner: str
    scheme: str
    """How the address begins at which it was tried."""
    results: tuple[Result, ...]
    classes: tuple[Class, ...]

    @property
    def is_passed(self) -> bool:
        """Whether no row fails, and each class that is declared was earned as far as it was allowed to be tried."""
        return not any(each.verdict in (Verdict.FAILS, Verdict.UNTRIED) for each in self.results) and all(
            each.is_earned or not each.is_tried for each in self.classes
        )

    @property
    def is_complete(self) -> bool:
        """Whether all was allowed to be tried."""
        return all(each.verdict is not Verdict.NOT_ALLOWED for each in self.results)


def declaration(trial: Trial) -> None:
    """What is declared can be kept: name, limits, endpoints, and kinds of address, with that of the bench."""
    partner, bench = trial.bench.partner, trial.bench
    require(_NAME.fullmatch(partner.name) is not None, "its name is not a-z, 0-9 and _")
    require(bench.scheme in partner.schemes, f"an address that begins with {bench.scheme} is none by its declaration")
    try:
        parse_limits(partner.limits, partner.endpoints)
    except LimitError as error:
        broken(str(error))
    unknown = set(partner.writes.values()) - set(partner.endpoints or partner.writes.values())
    require(not unknown, f"it writes by endpoints that are not declared: {', '.join(sorted(unknown))}")


def windows(trial: Trial) -> None:
    """The times at which it is closed are times, and it is not always closed."""
    parse_windows(trial.bench.partner.closed)


def reasons(trial: Trial) -> None:
    """Each reason that was given here is in the catalogue and told with all that it mentions, and shows no secret."""
    secrets = [re.compile(rf"(?<!\w){re.escape(value)}(?!\w)") for value in trial.bench.secret.values() if value]
    for code, params in sorted(trial.reasons.items()):
        try:
            missing = sorted(reason(code).parameters() - params.keys())
        except UnknownReason:
            raise Broken(f"{code} is not in the catalogue") from None
        require(not missing, f"{code} is told without {', '.join(missing)}")
        texts = [text for language in Language for text in explain(code, params, language)]
        require(all(texts), f"{code} has no next action")
        # The sentences themselves are the catalogue's: what is shown of here is in the parameters.
        shown = any(secret.search(said) for secret in secrets for said in params.values())
        require(not shown, f"{code} shows the secret")


_FAULTS = "faults injected"
_HAND = "records of its own people made or changed"
_IN, _OUT, _ANY = Way.IN, Way.OUT, Way.ANY
ROWS: tuple[Row, ...] = (
    Row("check", _ANY, reading.checked),
    Row("declaration", _ANY, declaration),
    Row("closed times", _ANY, windows),
    Row("read all", _IN, reading.read_all),
    Row("point reads", _IN, reading.point_reads),
    Row("since the cursor", _IN, reading.since_the_cursor),
    Row("none and one", _IN, reading.few, needs=_HAND),
    Row("one page", _IN, reading.one_page, needs=_HAND),
    Row("the cap", _IN, reading.at_the_cap, needs=_HAND),
    Row("changes", _IN, reading.incremental, needs=_HAND),
    Row("deletes", _IN, reading.deletes, needs=_HAND),
    Row("dirty data", _IN, reading.dirty, needs=_HAND),
    Row("who is read", _IN, reading.people, needs=_HAND),
    Row("what cannot be read", _IN, reading.unreadable, needs=_HAND),
    Row("gate before reading", _IN, reading.gate_asked, needs=_FAULTS),
    Row("reading put off", _IN, reading.put_off),
    Row("only read", _IN, reading.only_read),
    Row("reading broken off", _IN, reading.broken_off, needs=_FAULTS),
    Row("hostile to readings", _IN, hostile.to_readings),
    Row("looking: 429", _ANY, trouble.throttled, needs=_FAULTS),
    Row("looking: throttled in its dialect", _ANY, trouble.throttled_there, needs=_FAULTS),
    Row("looking: closed for the night", _ANY, trouble.closed, needs=_FAULTS),
    Row("looking: failures", _ANY, trouble.failing, needs=_FAULTS),
    Row("plans", _IN, planning.complete, needs=_HAND),
    Row("plans again", _IN, planning.same_again),
    Row("plan made anew", _IN, planning.replanned, needs=_HAND),
    Row("plan taken back", _IN, planning.taken_back, needs=_HAND),
    Row("line of a plan", _IN, planning.unreadable_line, needs=_HAND),
    Row("plans out of order", _IN, planning.out_of_order, needs=_HAND),
    Row("plans put off", _IN, planning.put_off),
    Row("create, change, cancel", _OUT, writing.one_record, "one visit"),
    Row("what is written", _OUT, writing.content, "one visit", needs=_HAND),
    Row("repeats", _OUT, writing.repeated, "one visit"),
    Row("duplicates", _OUT, writing.duplicate, "one visit, twice"),
    Row("read back", _OUT, writing.found, "one visit"),
    Row("outdated version", _OUT, writing.outdated, "one visit"),
    Row("edited at the partner", _OUT, writing.edited_there, "one visit", needs=_HAND),
    Row("edited meanwhile", _OUT, writing.edited_meanwhile, "visits", needs=_FAULTS),
    Row("refusal", _OUT, writing.refused, "one visit that it refuses", needs=_HAND),
    Row("nobody listens", _OUT, writing.not_reached),
    Row("write put off", _OUT, writing.put_off, "one visit"),
    Row("gate before writing", _OUT, writing.gate_asked, "two visits", needs=_FAULTS),
    Row("answer lost", _OUT, writing.answer_lost, "visits", needs=_FAULTS),
    Row("answer to a change lost", _OUT, writing.change_lost, "visits", needs=_FAULTS),
    Row("answer to a cancellation lost", _OUT, writing.cancel_lost, "visits", needs=_FAULTS),
    Row("record: create, change, cancel", _OUT, records.one_record, "a visit and its record"),
    Row("record: what is written", _OUT, records.content, "two visits and their records", needs=_HAND),
    Row("record: repeats", _OUT, records.repeated, "a visit and its record"),
    Row("record: read back", _OUT, records.found, "two visits and their records"),
    Row("record: answer lost", _OUT, records.answer_lost, "visits and their records", needs=_FAULTS),
    Row("429", _OUT, writing.throttled, needs=_FAULTS),
    Row("throttled in its dialect", _OUT, writing.throttled_there, "one visit", needs=_FAULTS),
    Row("closed for the night", _OUT, writing.closed, "one visit", needs=_FAULTS),
    Row("no batches unasked", _OUT, writing.no_batches),
    Row("batch in order", _OUT, writing.batch_in_order, "four visits", needs=_FAULTS),
    Row("batch: what is written", _OUT, writing.batch_content, "visits and their records", needs=_HAND),
    Row("batch refused", _OUT, writing.batch_refused, "three visits", needs=_FAULTS),
    Row("batch lost", _OUT, writing.batch_lost, "three visits", needs=_FAULTS),
    Row("hostile to writes", _OUT, hostile.to_writes),
    Row("hostile to read-backs", _OUT, hostile.to_read_backs, needs=_FAULTS),
    Row("another server", _ANY, lines.another_server, needs=_FAULTS),
    Row("line cut in the login", _ANY, lines.cut_at_login, needs=_FAULTS),
    Row("slow line", _ANY, lines.slow, needs=_FAULTS),
    Row("torn file", _IN, lines.torn, needs=_FAULTS),
    Row("torn file there", _OUT, lines.torn_there, needs=_FAULTS),
    Row("no room there", _OUT, lines.full, needs=_FAULTS),
    Row("no right there", _OUT, lines.forbidden, needs=_FAULTS),
    Row("rename lost", _OUT, lines.renamed, needs=_FAULTS),
    Row("memory", _ANY, hostile.in_little_memory),
    Row("reasons", _ANY, reasons),
)
"""In their order; the last one looks at what the others heard."""


def run_row(row: Row, trial: Trial, *, may_write: bool = True) -> Result:
    """One row's result; nothing that the connector raises comes out."""
    spared = _spared(row, trial, may_write=may_write)
    if spared is not None:
        return spared
    try:
        row.run(trial)
    except NotOffered as reason_:
        return Result(row.name, row.claim, Verdict.APPLIES_NOT, str(reason_))
    except (Broken, BenchIncompleteError) as finding:
        return Result(row.name, row.claim, Verdict.FAILS, str(finding))
    except PartnerError as error:
        return Result(row.name, row.claim, Verdict.FAILS, f"ended with {type(error).__name__}({error.reason})")
    except NotImplementedError as error:
        return Result(row.name, row.claim, Verdict.FAILS, f"not written yet: {error}")
    except Exception as error:  # noqa: BLE001  # its text may hold a person's data: its name alone is told
        return Result(row.name, row.claim, Verdict.FAILS, f"raised {type(error).__name__}")
    finally:
        with suppress(PartnerError):
            trial.bench.heal()
    return Result(row.name, row.claim, Verdict.HOLDS)


def _spared(row: Row, trial: Trial, *, may_write: bool) -> Result | None:
    why_not = row.why_not(trial.bench.partner)
    if why_not is None and row.needs and trial.bench.is_real:
        why_not = f"it needs {row.needs}, which a real system is spared"
    if why_not is not None:
        return Result(row.name, row.claim, Verdict.APPLIES_NOT, why_not)
    if row.writes and not may_write:
        return Result(row.name, row.claim, Verdict.NOT_ALLOWED, f"it writes {row.writes}: allow it with --write")
    return None


_ALONE = ("closed times", "reasons")
"""Tried without the partner."""


def certify(bench: Bench, make_client: ClientMaker, *, may_write: bool = True) -> Iterator[Result]:
    """The results of all rows, as they come; `certificate` makes the whole of them.

    A row that fails while a real system lets nobody in, or cannot be reached, says nothing of the connector.
    """
    trial = Trial(bench, make_client)
    barred: PartnerError | None = None
    for row in ROWS:
        is_near = bench.is_real and row.name not in _ALONE and _spared(row, trial, may_write=may_write) is None
        if is_near and isinstance(barred, RetryableError):
            barred = _barred(trial)
        if not (is_near and barred):
            result = run_row(row, trial, may_write=may_write)
            if is_near and result.verdict is Verdict.FAILS:
                barred = _barred(trial)
        if is_near and barred:
            detail = f"the check ends with {type(barred).__name__}({barred.reason})"
            result = Result(row.name, row.claim, Verdict.UNTRIED, detail)
        yield _explained(result, trial)


def _barred(trial: Trial) -> PartnerError | None:
    """Why nothing can be tried there now."""
    try:
        with trial.connected() as connector:
            connector.check()
    except PartnerError as error:
        return error
    except Exception:  # noqa: BLE001  # the connector's own fault, which its row tells
        return None
    return None


def _explained(result: Result, trial: Trial) -> Result:
    """With the sentences of what its detail names."""
    if result.verdict not in (Verdict.FAILS, Verdict.UNTRIED):
        return result
    about = f"certification of {trial.bench.partner.name}, {result.row}"
    named = [(code, params) for code, params in trial.reasons.items() if f"({code})" in result.detail]
    meaning = " ".join(text for code, params in named for text in sentences(code, params, about))
    return replace(result, meaning=meaning)


def certificate(bench: Bench, results: tuple[Result, ...]) -> Certificate:
    """What the results of all rows come to. A class is earned by what can be tried on the bench, if it is of its kind:
    there are no answers of files that could be lost, and no faults at a real system."""
    return Certificate(bench.partner.name, bench.scheme, results, _classes(bench, {each.row: each for each in results}))


def _classes(bench: Bench, results: Mapping[str, Result]) -> tuple[Class, ...]:
    partner, declared, is_real = bench.partner, bench.partner.capability, bench.is_real
    has_records = Entity.VISIT_RECORD in bench.writes
    recovery = ["read back"]
    if has_records:
        recovery.append("record: read back")
    if bench.is_http and not is_real:
        recovery += ["answer lost", "answer to a change lost"]
        if has_records:
            recovery.append("record: answer lost")
    if declared.recovery in (Recovery.KEY, Recovery.CLIENT_ID):
        recovery.append("duplicates")
    if declared.recovery in READ_BACK and bench.is_http and not is_real:
        recovery += ["hostile to read-backs", "looking: failures"]
    if not partner.writes or declared.recovery is Recovery.NONE:
        recovery = []
    has_version_check = bool(partner.writes) and declared.has_version_check
    versions = ["outdated version"] if is_real else ["outdated version", "edited meanwhile"]
    is_incremental = bool(partner.reads) and declared.is_incremental
    changes = ["since the cursor"] if is_real else ["since the cursor", "changes"]
    proof = "point reads" if isinstance(declared.proves_absence, PointRead) else "read all"
    absence = [proof] if is_real else [proof, "deletes"]
    return (
        _class("recovery", declared.recovery, Recovery.NONE, results, recovery),
        _class("version check", _yes(has_version_check), "no", results, versions * has_version_check),
        _class("incremental", _yes(is_incremental), "no", results, changes * is_incremental),
        _class("proof of absence", _absence(declared.proves_absence), "none", results, absence * bool(partner.reads)),
    )


def _class(name: str, declared: str, without: str, results: Mapping[str, Result], rows: Sequence[str]) -> Class:
    """Earned where each of the rows holds; with none to hold there is nothing to earn."""
    open_ = [results[row] for row in rows if results[row].verdict is not Verdict.HOLDS]
    detail = "; ".join(f"{each.row} {each.verdict}" for each in open_)
    verdicts = {each.verdict for each in open_}
    if verdicts and verdicts <= {Verdict.NOT_ALLOWED, Verdict.UNTRIED}:
        return Class(name, declared, "not tried", False, detail, is_tried=Verdict.UNTRIED in verdicts)
    return Class(name, declared, without if open_ else declared, not open_, detail)


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _absence(proof: ProofOfAbsence) -> str:
    match proof:
        case PointRead():
            return "point read"
        case DeleteEvents():
            return "delete events"
        case AfterReadings(count):
            return f"after {count} readings"
        case NeverGone():
            return "none needed: nobody is deleted"
