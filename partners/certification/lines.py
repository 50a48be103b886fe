"""Rows about partners that exchange files over a line: what befalls the line, and what may be said of it.

Each ends within the deadline and in the class that says whose turn it is; no half file is taken for a whole one, by us
or by the partner; and when the line is sound again, what was to be written is there once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from partners.certification.bench import LineFault
from partners.certification.trial import READ_BACK, SLACK, Bounds, Kinds, Trial, broken, require, told
from partners.contract import Command, Delivered, Entity, Refused, Retry, Unknown
from partners.errors import AuthenticationError, PartnerError, RejectedError, RetryableError

_BOUNDS = Bounds(total_seconds=3.0, connect_seconds=2.0)
_LONG = 100
"""Masters whose file is more than one answer."""


def another_server(trial: Trial) -> None:
    """To a server that is not the one named nothing is said, least of all a credential: a person has to look."""
    _cannot_read(trial, LineFault.ANOTHER_SERVER, RejectedError)
    _written(trial, LineFault.ANOTHER_SERVER, (Refused,))


def cut_at_login(trial: Trial) -> None:
    """A login that gets no word is no refused credential: it is tried again."""
    for fault in (LineFault.CUT_AT_LOGIN, LineFault.SILENT_AT_LOGIN):
        _cannot_read(trial, fault, RetryableError)
        _written(trial, fault, (Retry,))


def slow(trial: Trial) -> None:
    """Who answers a byte a second or without end, in the login or later, is let go at the deadline and tried again."""
    _cannot_read(trial, LineFault.SLOW, RetryableError)
    _cannot_read(trial, LineFault.ENDLESS, RetryableError)
    _written(trial, LineFault.SLOW, (Retry,))
    command = trial.bench.visit()
    try:
        with trial.connected(bounds=_BOUNDS) as connector:
            connector.check()
            trial.bench.befall(LineFault.SLOW)
            with _in_time(LineFault.SLOW):
                reply = connector.send(command)
            trial.note(reply)
            require(isinstance(reply, Retry | Unknown), f"once it is logged in: {told(reply)}")
    finally:
        trial.bench.heal()
    _goes_again(trial, LineFault.SLOW, command)


def torn(trial: Trial) -> None:
    """Half a file is never read as a whole one, nor taken for the word that a record is not there."""
    for fault in (LineFault.CUT_IN_READING, LineFault.ENDS_EARLY):
        _cannot_read(trial, fault, RetryableError)
        if trial.capability.recovery not in READ_BACK:
            continue
        for entity in trial.bench.writes:
            known = trial.delivered(entity)
            with _befallen(trial, fault), trial.connected(bounds=_BOUNDS) as connector, suppress(PartnerError):
                broken(f"{fault}: a {entity} that is there is {type(connector.find(known)).__name__}")


def torn_there(trial: Trial) -> None:
    """Half a file is never left where its receiver takes it for a whole one."""
    _all_written(trial, LineFault.CUT_IN_WRITING, (Retry,))


def full(trial: Trial) -> None:
    """Where there is no room nothing is delivered, and it is tried again."""
    _all_written(trial, LineFault.FULL, (Retry,))


def forbidden(trial: Trial) -> None:
    """Where nothing may be written it is Refused: a person has to change that."""
    _all_written(trial, LineFault.FORBIDDEN, (Refused,))


def renamed(trial: Trial) -> None:
    """What is said of a rename that failed, or whose answer is lost, is no more than is sure."""
    _all_written(trial, LineFault.RENAME_FAILS, (Retry, Unknown))
    _all_written(trial, LineFault.CUT_AT_RENAME, (Unknown,))


def _cannot_read(trial: Trial, fault: LineFault, kind: type[PartnerError]) -> None:
    if trial.bench.partner.read_plans is not None:
        with _befallen(trial, fault):
            trial.bench.hold_plans(_LONG)
            finding = _finding(lambda: trial.read_plans(bounds=_BOUNDS), kind)
        require(finding is None, f"{fault}: a reading of plans {finding}")
        require(trial.read_plans()[-1].cursor is not None, f"{fault}: plans cannot be read after it")
    for entity in trial.bench.partner.reads:
        with _befallen(trial, fault):
            trial.bench.hold(entity, max(_LONG, trial.bench.sizes[entity].least))
            finding = _finding(lambda entity=entity: trial.read(entity, bounds=_BOUNDS), kind)  # type: ignore[misc]
        require(finding is None, f"{fault}: a reading of {entity} {finding}")
        require(trial.read(entity)[-1].is_last, f"{fault}: {entity} cannot be read after it")


def _finding(act: Callable[[], object], kind: type[PartnerError]) -> str | None:
    """None: it ended as it should."""
    try:
        act()
    except PartnerError as error:
        is_credential = isinstance(error, AuthenticationError)
        return None if isinstance(error, kind) and not is_credential else f"ends with {told(error)}"
    return "goes to its end"


def _all_written(trial: Trial, fault: LineFault, kinds: Kinds) -> None:
    for entity in trial.bench.writes:
        _written(trial, fault, kinds, entity)


def _written(trial: Trial, fault: LineFault, kinds: Kinds, entity: Entity = Entity.VISIT) -> None:
    if not trial.bench.partner.writes:
        return
    command = trial.new(entity)
    with _befallen(trial, fault):
        reply = trial.send(command, bounds=_BOUNDS)
    require(isinstance(reply, kinds), f"{fault}: a write is {told(reply)}")
    if not isinstance(reply, Unknown):
        require(not trial.bench.copies(command), f"{fault}: it is {told(reply)}, and is there")
    _goes_again(trial, fault, command)


def _goes_again(trial: Trial, fault: LineFault, command: Command) -> None:
    reply = trial.send(command)
    require(isinstance(reply, Delivered), f"{fault}: after it a write is {told(reply)}")
    count = len(trial.bench.copies(command))
    require(count == 1, f"{fault}: {count} records are there")
    if command.entity is Entity.VISIT_RECORD:  # a visit itself may be told to nobody
        count = len(trial.bench.said(command))
        require(count == 1, f"{fault}: {count} records stand at the partner's side")


@contextmanager
def _befallen(trial: Trial, fault: LineFault) -> Iterator[None]:
    trial.bench.befall(fault)
    before = trial.bench.shown()
    try:
        with _in_time(fault):
            yield
        is_spared = fault is not LineFault.ANOTHER_SERVER or trial.bench.shown() == before
        require(is_spared, f"{fault}: it was shown the credential")
    finally:
        trial.bench.heal()


@contextmanager
def _in_time(fault: LineFault) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    if took > _BOUNDS.total_seconds + SLACK:
        broken(f"{fault}: it took {took:.1f} s")
