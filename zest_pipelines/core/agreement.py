"""Whether what somebody else has planned for a client is what we have confirmed. Pure.

Lines and visits of one day are paired, each once, the likest first: of the same service and start; of the same service
where the line has no time; of the same start; of the same service. Whatever is left over has no other side.

A plan also has what is no visit, such as additions to a fee (加算), and nobody confirms that. It has no time of its
own, and a visit that is planned has one; so a line without any time that no visit stands for is no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID


@dataclass(frozen=True, order=True)
class Planned:
    """One time that a service is planned."""

    day: date
    starts: str
    """`HH:MM`; empty: the plan has no time."""
    ends: str
    service_code: str
    line: int
    """Its place in the plan, from 1. A service that is planned more than once a day stands as often with one place."""


@dataclass(frozen=True, order=True)
class Confirmed:
    """One visit that is confirmed."""

    day: date
    starts: str
    """`HH:MM`."""
    ends: str
    service_code: str
    visit: UUID


@dataclass(frozen=True)
class Pair:
    """A line and the visit that it stands for."""

    planned: Planned
    confirmed: Confirmed
    differing: tuple[str, ...]
    """Names of fields of a visit: service_code, starts_at, ends_at. Empty: they agree."""


@dataclass(frozen=True)
class Agreement:
    """What came of a comparison."""

    pairs: tuple[Pair, ...] = ()
    missing_here: tuple[Planned, ...] = ()
    """Planned with a time, and no visit is confirmed."""
    no_visits: tuple[Planned, ...] = ()
    """Planned without one, and no visit stands for it."""
    missing_there: tuple[Confirmed, ...] = ()
    """Confirmed, and not planned."""


def takes_its_place(said_at: str, standing: str, *, is_same: bool) -> bool:
    """Whether what was said at one time takes the place of what stands and was said at another: an earlier one never
    does, whichever is read first. `is_same`: both say the same."""
    return said_at > standing or (said_at == standing and not is_same)


def differing(planned: Planned, confirmed: Confirmed) -> tuple[str, ...]:
    """The names of what a visit has otherwise than a line says. What the line leaves open differs from nothing."""
    return (
        *(("service_code",) if planned.service_code != confirmed.service_code else ()),
        *(("starts_at",) if planned.starts not in ("", confirmed.starts) else ()),
        *(("ends_at",) if planned.ends not in ("", confirmed.ends) else ()),
    )


def compare(planned: Iterable[Planned], confirmed: Iterable[Confirmed]) -> Agreement:
    """Pair one client's lines with its visits."""
    lines, visits, pairs = sorted(planned), sorted(confirmed), list[Pair]()
    for is_wanted in _LIKEST_FIRST:
        lines = [line for line in lines if not _paired(line, visits, pairs, is_wanted)]
    missing = tuple(line for line in lines if line.starts or line.ends)
    return Agreement(tuple(pairs), missing, tuple(line for line in lines if line not in missing), tuple(visits))


def _is_equal(line: Planned, differs: Sequence[str]) -> bool:
    return line.starts != "" and not differs


def _has_another_end(line: Planned, differs: Sequence[str]) -> bool:
    return line.starts != "" and differs == ("ends_at",)


def _is_of_no_time(line: Planned, differs: Sequence[str]) -> bool:
    return line.starts == "" and "service_code" not in differs


def _has_another_service(line: Planned, differs: Sequence[str]) -> bool:
    return line.starts != "" and "starts_at" not in differs


def _has_another_time(line: Planned, differs: Sequence[str]) -> bool:
    return "service_code" not in differs


_LIKEST_FIRST: tuple[Callable[[Planned, Sequence[str]], bool], ...] = (
    _is_equal,
    _has_another_end,
    _is_of_no_time,
    _has_another_service,
    _has_another_time,
)


def _paired(
    line: Planned, visits: list[Confirmed], pairs: list[Pair], is_wanted: Callable[[Planned, Sequence[str]], bool]
) -> bool:
    """Whether a visit was found for the line; it is moved into the pairs."""
    for number, visit in enumerate(visits):
        if visit.day == line.day and is_wanted(line, differs := differing(line, visit)):
            pairs.append(Pair(line, visits.pop(number), differs))
            return True
    return False
