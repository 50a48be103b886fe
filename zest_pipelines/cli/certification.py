"""`zest certify`: what a connector must do, tried with it, and what was earned of what its partner declares."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from zest_pipelines.cli import partner_code
from zest_pipelines.cli.connections import checked_secret, checked_settings, checked_url
from zest_pipelines.cli.options import InputError, JsonOption, PartnerArgument, counted, out, print_json, tell
from zest_pipelines.cli.secret_files import read_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import FrameType

    from partners.certification.certificate import Certificate, Result
    from partners.certification.real import Left, RealBench
    from partners.certification.trial import ClientMaker
    from partners.contract import Partner

_SOONEST, _DAYS = 28, 120
"""From how many days on, and within how many, visits are written: two trials at once do not meet."""
_CLEANING_SECONDS = 20.0


def certify(
    partner: PartnerArgument,
    base_url: Annotated[
        str | None, typer.Option(help="A real test system. Default: the partner's sandbox.", show_default=False)
    ] = None,
    secret_file: Annotated[
        str | None,
        typer.Option(help='JSON file with the credential, such as {"token": "..."}; - for standard input.'),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting; repeatable.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Let visits be written at the test system; they are cancelled in the end.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Try all that a connector must do, and say which class of capability the partner earned.

    Exits with 1 if something does not hold or could not be tried, a class that is declared was not earned, or a visit
    may be left at a real system. Ctrl-C, SIGTERM and SIGHUP cancel what was written there first, and say what is left.
    """
    from partners.registry import partner as partner_named

    declared = partner_named(partner)
    if base_url is None:
        if secret_file or set_ or write:
            raise InputError("--secret-file, --set and --write are for a real test system: give its --base-url")
        _tell_all(declared, _at_the_sandbox(declared, as_json=json_), {"base_url": None, "left": []}, as_json=json_)
    else:
        real = _real(declared, base_url, secret_file, set_ or [])
        _certify_real(declared, real, may_write=write, as_json=json_)


def _at_the_sandbox(declared: Partner, *, as_json: bool) -> list[Certificate]:
    """A certificate for each kind of address."""
    from partners.certification.certificate import certificate
    from partners.certification.certificate import certify as run_rows

    made = []
    for maker in partner_code.benches(declared.name).values():
        with partner_code.running(declared.name, maker) as bench:
            results: list[Result] = []
            _run(run_rows(bench, _maker({})), results, as_json=as_json)
            made.append(certificate(bench, tuple(results)))
    return made


def _certify_real(declared: Partner, real: RealBench, *, may_write: bool, as_json: bool) -> None:
    from partners.certification.certificate import ROWS, Certificate, certificate
    from partners.certification.certificate import certify as run_rows

    results: list[Result] = []
    with _stoppable() as stop:
        try:
            try:
                _run(run_rows(real, _maker(real.secret), may_write=may_write), results, as_json=as_json)
            finally:
                stop.is_heeded = False
        except _StoppedError:
            pass
        except Exception:  # such as a pipe that nobody reads any more
            real.clean(_CLEANING_SECONDS)
            _tell_left(real.left)
            raise
        real.clean(_CLEANING_SECONDS)
        left = real.left
        if stop.by is None:
            made = certificate(real, tuple(results))
        else:
            made = Certificate(declared.name, real.scheme, tuple(results), ())
        more = {
            "base_url": real.url,
            "stopped_by": stop.by and stop.by.name,
            "written": real.written,
            "left": [asdict(each) for each in left],
        }
        with _though_gone(stop):
            if stop.by:
                tell(f"Stopped by {stop.by.name} after {len(results)} of {len(ROWS)} rows")
            if may_write:
                tell(_written(declared, real))
            _tell_left(left)
        with _though_gone(stop):
            _tell_all(declared, [made], more, as_json=as_json, is_stopped=stop.by is not None, left=len(left))
    if stop.by:
        raise typer.Exit(128 + stop.by)


def _tell_all(
    declared: Partner,
    made: Sequence[Certificate],
    more: Mapping[str, Any],
    *,
    as_json: bool,
    is_stopped: bool = False,
    left: int = 0,
) -> None:
    """All of it; typer.Exit with 1 unless all is well. `left`: so many visits may be left at a real system."""
    is_passed = not is_stopped and not left and all(each.is_passed for each in made)
    if as_json:
        print_json({"is_passed": is_passed, **_as_json(made), **more})
    else:
        for each in made:
            _print(declared, each, is_stopped=is_stopped, left=left)
    if not is_stopped and not is_passed:
        raise typer.Exit(1)


class _StoppedError(BaseException):
    """A signal asks to stop: nothing but the end of the trial takes it for what it is."""


@dataclass
class _Stop:
    """What asks a trial to stop."""

    by: signal.Signals | None = None
    is_heeded: bool = True
    """False: nothing is stopped any more, for what was written is being cancelled."""

    def heed(self, number: int, _: FrameType | None) -> None:
        """The first signal ends the trial, later ones nothing: what cleans up takes a bounded time."""
        if self.by is None and self.is_heeded:
            self.by = signal.Signals(number)
        words = (
            f"{signal.Signals(number).name}: cancelling what was written, for some {_CLEANING_SECONDS:.0f} seconds\n"
        )
        with suppress(OSError):
            os.write(sys.stderr.fileno(), words.encode())
        if self.is_heeded:
            self.is_heeded = False
            raise _StoppedError


@contextmanager
def _stoppable() -> Iterator[_Stop]:
    stop, before = _Stop(), dict[int, Any]()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(each) is not signal.SIG_IGN:  # as nohup has it
            before[each] = signal.signal(each, stop.heed)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _though_gone(stop: _Stop) -> AbstractContextManager[None]:
    """Whoever looked may have closed the terminal: that is no fault of what is told."""
    return suppress(OSError) if stop.by else nullcontext()


def _written(declared: Partner, real: RealBench) -> str:
    count = counted(real.written, "visit")
    if not real.written:
        return "No visit was written"
    told = f"{count} {'was' if real.written == 1 else 'were'} written at {declared.title}"
    if not real.left:
        told += " and cancelled"
    stays = declared.leaves or ("nothing" if declared.capability.replaces else "the visit, as cancelled")
    return f"{told}. What stays there of a cancelled one: {stays}"


def _tell_left(left: Sequence[Left]) -> None:
    for each in left:
        tell(_still_there(each))


def _still_there(each: Left) -> str:
    known = f"{each.partner_id} (ours: {each.record_id})" if each.partner_id else each.record_id
    why = f", not cancelled since: {each.reason}" if each.reason else ""
    state = "is left" if each.is_there else "may be left"
    return (
        f"A test visit {state} there: {known}, {each.starts_at} to {each.ends_at}{why}. Look for it there and cancel it"
    )


def _real(declared: Partner, base_url: str, secret_file: str | None, pairs: list[str]) -> RealBench:
    from partners.certification.real import RealBench

    url = checked_url(base_url, declared.schemes)
    secret = checked_secret(declared, {} if secret_file is None else read_secret(secret_file))
    settings = checked_settings(declared, pairs)
    return RealBench(declared, (url, secret, settings), _maker(secret), _first_visit())


def _first_visit() -> datetime:
    """Of one of many days, at nine in Japan and some minutes."""
    from partners.windows import JAPAN

    day = datetime.now(JAPAN) + timedelta(days=_SOONEST + secrets.randbelow(_DAYS))
    return day.replace(hour=9, minute=secrets.randbelow(30), second=0, microsecond=0)


def _maker(secret: Mapping[str, str]) -> ClientMaker:
    """Clients as the platform makes them, with the certificates of the secret."""
    from resources.http import Http
    from zest_pipelines.flows.opening import tls_of

    tls = tls_of(secret)
    return lambda bounds: Http(**asdict(bounds)).client(tls)


def _run(rows: Iterable[Result], results: list[Result], *, as_json: bool) -> None:
    """Add all of them as they come; who waits at a terminal sees which one is at work."""
    if as_json or not out().is_terminal:
        for each in rows:
            results.append(each)  # what has come stays if a signal ends it
        return
    with out().status("") as status:
        for each in rows:
            results.append(each)
            status.update(f"{len(results)} rows, the last one: {each.row}")


def _as_json(made: Sequence[Certificate]) -> dict[str, object]:
    return {
        "is_complete": all(each.is_complete for each in made),
        "partner": made[0].partner,
        "results": [{"scheme": each.scheme, **asdict(row)} for each in made for row in each.results],
        "classes": [{"scheme": each.scheme, **asdict(row)} for each in made for row in each.classes],
    }


def _print(declared: Partner, made: Certificate, *, is_stopped: bool, left: int) -> None:
    title = f"{declared.title} ({made.scheme})"
    rows = Table("row", "verdict", "what was found, or why it does not apply", title=title, title_justify="left")
    for each in made.results:
        rows.add_row(each.row, each.verdict, each.detail)
    out().print(rows)
    for meaning in dict.fromkeys(each.meaning for each in made.results if each.meaning):
        about = next(each.detail for each in made.results if each.meaning == meaning)
        out().print(f"{about}: {meaning}", soft_wrap=True)
    if is_stopped:
        out().print(f"{title} is not certified: the trial was stopped.")
        return
    classes = Table("class", "declared", "earned", "why not", title="Capability", title_justify="left")
    for one in made.classes:
        classes.add_row(one.name, one.declared, one.earned, one.detail)
    out().print(classes)
    out().print(f"{title} {_verdict(declared, made, left)}.")


def _verdict(declared: Partner, made: Certificate, left: int) -> str:
    from partners.certification.certificate import Verdict

    if made.is_passed and not left:
        if made.is_complete:
            return "is certified"
        return f"is certified{' for reading' if declared.reads else ''}; writing was not tried: allow it with --write"
    whys = []
    if untried := sum(each.verdict is Verdict.UNTRIED for each in made.results):
        whys.append(f"{counted(untried, 'row')} could not be tried")
    if left:
        whys.append(f"{counted(left, 'test visit')} may be left there")
    return f"is not certified{': ' if whys else ''}{', '.join(whys)}"
